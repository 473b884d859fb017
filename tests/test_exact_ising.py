"""Exact Ising sums against brute force, mpmath and the solution of the square lattice."""

from __future__ import annotations

import json
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vfe_fast as vf
from oracles.ising import all_spins, enumerate_ising, ising_mpmath, spin_energies, torus
from vfe_fast import _core
from vfe_fast.free_energy import ranges, triangle

BOUND = 1e-12


def random_ising(n: int, scale: float = 1.0, dtype: Any = np.float64) -> vf.Ising:
    rng = np.random.default_rng(n)
    upper = np.triu(scale * (rng.normal(size=(n, n)) + 0.2), 1).astype(dtype)
    return vf.Ising(upper + upper.T, (scale * (rng.normal(size=n) - 0.3)).astype(dtype))


def assert_agree(result: Any, expected: Any, size: float) -> None:
    """Moments are differences of probabilities, their errors relative to 1; those of <E> to its `size`."""
    assert result.log_z == pytest.approx(expected.log_z, rel=BOUND, abs=BOUND)
    moments = result.moments
    np.testing.assert_allclose(moments.spins, expected.spins, atol=BOUND)
    np.testing.assert_allclose(moments.spin_spin, expected.spin_spin, atol=BOUND)
    assert moments.energy == pytest.approx(expected.energy, abs=BOUND * size)
    assert moments.energy_variance == pytest.approx(expected.energy_variance, rel=1e-10, abs=BOUND * size**2)


def size_of(model: vf.Ising) -> float:
    return float(np.abs(model.couplings).sum() / 2 + np.abs(model.fields).sum())


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 7, 10, 12])
@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0, 2.5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_against_brute_force(n: int, beta: float, dtype: Any) -> None:
    model = random_ising(n, dtype=dtype)
    result = vf.free_energy.exact(model, beta=beta, moments=True)
    assert result.details["product_form"]
    assert_agree(result, enumerate_ising(model.couplings, model.fields, beta), size_of(model))


@pytest.mark.parametrize("size", [500.0, 1e6, 1e12, 1e17, 1e250])
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_field_of_any_size(size: float, sign: int) -> None:
    """A spin that is held by its field is a field on the others, whose moments keep all their digits."""
    model = random_ising(8)
    couplings, fields = model.couplings.copy(), model.fields.copy()
    fields[3] = sign * size
    kept = np.arange(8) != 3
    rest = enumerate_ising(couplings[np.ix_(kept, kept)], fields[kept] + sign * couplings[kept, 3], 1.0)
    for beta in (1.0, 0.0):
        result = vf.free_energy.exact(vf.Ising(couplings, fields), beta=beta, moments=True)
        if beta == 0:
            assert result.log_z == pytest.approx(8 * np.log(2))
            continue
        assert result.log_z == pytest.approx(rest.log_z + size, rel=BOUND)
        np.testing.assert_allclose(result.moments.spins[kept], rest.spins, atol=BOUND)
        np.testing.assert_allclose(result.moments.spin_spin[3], sign * result.moments.spins, atol=BOUND)
        np.testing.assert_allclose(result.moments.spin_spin[np.ix_(kept, kept)], rest.spin_spin, atol=BOUND)
        assert result.moments.energy_variance == pytest.approx(rest.energy_variance, rel=1e-9)
    alone = vf.free_energy.exact(vf.Ising(np.zeros((3, 3)), np.full(3, sign * size)), moments=True)
    assert alone.log_z == pytest.approx(3 * size, rel=BOUND)
    assert alone.moments.spin_spin.tolist() == np.ones((3, 3)).tolist()


@pytest.mark.parametrize("scale", [3.0, 10.0, 30.0])
def test_a_small_variance(scale: float) -> None:
    """Far below the energies' squares: the difference that matrix products give would have no digits."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        upper = np.triu(rng.normal(size=(9, 9)) * scale, 1)
        model = vf.Ising(upper + upper.T, rng.normal(size=9) * scale)
        beta = min(1.0, 295 / size_of(model))
        result = vf.free_energy.exact(model, beta=beta, moments=True)
        assert result.details["product_form"]
        expected = ising_mpmath(model.couplings, model.fields, beta).energy_variance
        assert result.moments.energy_variance == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("n", [3, 7])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 10.0, 60.0, 2000.0])
def test_against_mpmath(n: int, scale: float) -> None:
    """Far beyond the range of a float64 too, where exponentials take over."""
    model = random_ising(n, scale)
    result = vf.free_energy.exact(model, moments=True)
    assert result.details["product_form"] == (size_of(model) <= 300)
    assert_agree(result, ising_mpmath(model.couplings, model.fields), size_of(model))


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_both_ways_agree_over_several_ranges(scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_ising(15, scale)
    whole = vf.free_energy.exact(model, moments=True)
    monkeypatch.setattr(triangle, "_MOST_ROWS", 8)
    assert triangle.TriangleSum(model.couplings, model.fields, 1.0).n_ranges == 4
    cut = vf.free_energy.exact(model, moments=True)
    monkeypatch.setattr(triangle, "_SAFE", 0.0)
    slow = vf.free_energy.exact(model, moments=True)
    assert not slow.details["product_form"]
    for other in (cut, slow):
        assert other.log_z == pytest.approx(whole.log_z, rel=1e-14)
        np.testing.assert_allclose(other.moments.spin_spin, whole.moments.spin_spin, atol=1e-13)
        np.testing.assert_allclose(other.moments.spins, whole.moments.spins, atol=1e-13)
        assert other.moments.energy_variance == pytest.approx(whole.moments.energy_variance, rel=1e-11)


@pytest.mark.twin(small=True)
@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 11])
@pytest.mark.parametrize("what", ["log_z", "moments", "variance"])
def test_kernel_against_brute_force(target: str, n: int, what: str) -> None:
    """Each state's weight, one by one; ranges of a part of the states."""
    model, beta, energy, all_ranges = random_ising(n, 2.0 / n), 1.3, -0.7, 2 ** ((n + 2) // 3)
    energies, s = spin_energies(model.couplings, model.fields), all_spins(n)
    weights = np.exp(-beta * energies)
    for range_states in {1, all_ranges // 2, all_ranges}:
        found = _core.exact_ising(
            model.couplings,
            model.fields,
            beta=beta,
            what=_core.IsingSums[what],
            energy=energy,
            range_states=range_states,
            first_range=1 if range_states < all_ranges else 0,
            n_ranges=max(1, all_ranges // range_states - 1),
            num_threads=2,
        )
        of_ranges = np.arange(2**n) % all_ranges >= (range_states if range_states < all_ranges else 0)
        w = np.where(of_ranges, weights, 0.0)
        expected = [[0.0, w.sum()]]
        if what == "moments":
            expected += [w @ s, (s.T @ (w[:, None] * s)).ravel()]
        elif what == "variance":
            expected += [[w @ (energies - energy) ** 2]]
        sums = found.sum(axis=0)
        assert sums[0] == 0
        np.testing.assert_allclose(sums, np.concatenate(expected), rtol=BOUND, atol=BOUND * w.sum())


@pytest.mark.parametrize("what", ["log_z", "moments", "variance"])
def test_kernel_against_blas(target: str, what: str) -> None:
    """Over several ranges and many states of each group; the same bits for any number of threads."""
    model = random_ising(17, 0.3)
    by_blas = triangle.TriangleSum(model.couplings, model.fields, 0.8, what, -2.5)
    expected = by_blas.rows(0, 1, 1)[0]
    found = [
        _core.exact_ising(
            model.couplings,
            model.fields,
            beta=0.8,
            what=_core.IsingSums[what],
            energy=-2.5,
            range_states=16,
            first_range=0,
            n_ranges=4,
            num_threads=threads,
        )
        for threads in (1, 3)
    ]
    assert found[0].tobytes() == found[1].tobytes()
    np.testing.assert_allclose(found[0].sum(axis=0), expected, rtol=BOUND, atol=BOUND * expected[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta": -1.0}, "beta: expected"),
        ({"beta": 1e4}, r"couplings: expected beta \(sum \|J\| \+ sum \|h\|\) <= 300, got"),
        ({"range_states": 3}, "range_states: expected a divisor of 4"),
        ({"first_range": 1}, "ranges: expected a part of 0 to 2"),
        ({"couplings": np.zeros((5, 4))}, "couplings: expected"),
    ],
)
def test_bad_arguments_of_the_kernel(change: Any, message: str) -> None:
    model = random_ising(5)
    arguments: dict[str, Any] = {
        "couplings": model.couplings,
        "fields": model.fields,
        "beta": 1.0,
        "what": _core.IsingSums.log_z,
        "range_states": 2,
        "first_range": 0,
        "n_ranges": 2,
        "num_threads": 1,
    }
    with pytest.raises(ValueError, match=rf"^{message}"):
        _core.exact_ising(**(arguments | change))


def test_square_lattice(reference_data: Path) -> None:
    """B. Kaufman, Phys. Rev. 76 (1949) 1232, summed independently in many digits."""
    table = json.loads((reference_data / "oracles" / "oracles_dev.json").read_text())["ising2d_torus_logZ"]
    critical = 0.5 * np.log(1.0 + np.sqrt(2.0))
    done = 0
    for name, log_z in table.items():
        side, _, coupling = name.partition("x")[0], *name.split(",K=")
        if int(side) > 6 or (side == "6" and coupling in ("0.3", "0.6")):  # out of reach, or seconds each
            continue
        k = critical if coupling.startswith("Kc") else float(coupling)
        result = vf.free_energy.exact(vf.Ising(torus(int(side), 1.0)), beta=k)
        assert result.log_z == pytest.approx(float(log_z), rel=BOUND)
        done += 1
    assert done == 6


def test_without_couplings() -> None:
    fields = np.random.default_rng(0).normal(size=14)
    result = vf.free_energy.exact(vf.Ising(np.zeros((14, 14)), fields), beta=0.7, moments=True)
    assert result.log_z == pytest.approx(np.log(2 * np.cosh(0.7 * fields)).sum(), rel=1e-14)
    np.testing.assert_allclose(result.moments.spins, np.tanh(0.7 * fields), atol=1e-14)
    free = vf.free_energy.exact(vf.Ising(np.zeros((14, 14))), beta=[0.0, 1.0, 5.0])
    assert [F.log_z for F in free] == pytest.approx([14 * np.log(2)] * 3, rel=1e-15)


def test_moments_are_derivatives() -> None:
    """Of ln Z in a field, a coupling and beta, by central differences."""
    model, step = random_ising(8, 0.4), 1e-5
    moments = vf.free_energy.exact(model, moments=True).moments

    def slope(move: Any) -> float:
        up, down = (vf.free_energy.exact(move(s * step)).log_z for s in (1, -1))
        return float((up - down) / (2 * step))

    def with_coupling(x: float) -> vf.Ising:
        couplings = model.couplings.copy()
        couplings[2, 6] += x
        couplings[6, 2] += x
        return vf.Ising(couplings, model.fields)

    assert slope(lambda x: vf.Ising(model.couplings, model.fields + x * np.eye(8)[3])) == pytest.approx(
        moments.spins[3], abs=1e-9
    )
    assert slope(with_coupling) == pytest.approx(moments.spin_spin[2, 6], abs=1e-9)
    up, mid, down = vf.free_energy.exact(model, beta=[1 + 1e-4, 1.0, 1 - 1e-4])
    assert (up.log_z - down.log_z) / 2e-4 == pytest.approx(-moments.energy, rel=1e-7)
    assert (up.log_z - 2 * mid.log_z + down.log_z) / 1e-8 == pytest.approx(moments.energy_variance, rel=1e-4)


def test_same_bits_elsewhere_and_after_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one thread of the BLAS, as workers have it: some kernels of OpenBLAS round by their number."""
    pytest.importorskip("threadpoolctl")  # which limits them
    model, path = random_ising(30, 0.1), tmp_path / "sum.npz"
    assert triangle.TriangleSum(model.couplings, model.fields, 1.0).n_ranges == 2
    expected = vf.free_energy.exact(model, moments=True, num_threads=1)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:  # JAX warns of forks
        elsewhere = vf.free_energy.exact(model, moments=True, executor=executor)

    class Stop(Exception):
        pass

    rows = triangle.TriangleSum.rows

    def first_only(self: Any, first: int, count: int, num_threads: int) -> Any:
        if first > 0:
            raise Stop
        return rows(self, 0, 1, num_threads)

    monkeypatch.setattr(ranges, "_BATCH_BYTES", 0)  # one range a batch
    monkeypatch.setattr(triangle.TriangleSum, "rows", first_only)
    with pytest.raises(Stop):
        vf.free_energy.exact(model, moments=True, checkpoint=path, num_threads=1)
    assert int(np.load(path)["done"]) == 1
    monkeypatch.setattr(triangle.TriangleSum, "rows", rows)
    resumed = vf.free_energy.exact(model, moments=True, checkpoint=path, num_threads=1)
    for other in (elsewhere, resumed, pickle.loads(pickle.dumps(expected))):
        assert other.log_z == expected.log_z
        assert other.moments.spin_spin.tobytes() == expected.moments.spin_spin.tobytes()
    by_all = vf.free_energy.exact(model, moments=True)
    assert by_all.log_z == pytest.approx(expected.log_z, rel=1e-14, abs=0)
    np.testing.assert_allclose(by_all.moments.spin_spin, expected.moments.spin_spin, rtol=0, atol=1e-14)


def test_energy() -> None:
    model = random_ising(6)
    spins = all_spins(6)
    np.testing.assert_allclose(model.energy(spins), spin_energies(model.couplings, model.fields), atol=1e-13)
    assert model.energy(spins.astype(np.int8)).tolist() == model.energy(spins).tolist()
    assert random_ising(6, dtype=np.float32).energy(spins).dtype == np.float32


def test_saved_and_loaded(tmp_path: Path) -> None:
    model = random_ising(5, dtype=np.float32)
    model.save(tmp_path / "model.npz")
    found = vf.load(tmp_path / "model.npz")
    assert isinstance(found, vf.Ising)
    assert found.couplings.tobytes() == model.couplings.tobytes()
    assert found.fields.tobytes() == model.fields.tobytes()


GOOD = np.array([[0.0, 1.0], [1.0, 0.0]])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([[0.0, 1.0]],), ValueError, r"couplings: expected \(n_spins, n_spins\)"),
        ((np.zeros((0, 0)),), ValueError, "couplings: expected"),
        ((np.array([[0.0, 1.0], [2.0, 0.0]]),), ValueError, "couplings: expected a symmetric"),
        ((np.eye(2),), ValueError, "couplings: expected a zero diagonal"),
        ((GOOD * np.nan,), ValueError, "couplings: expected finite"),
        ((GOOD, [np.inf, 0.0]), ValueError, "fields: expected finite"),
        ((GOOD, [1.0]), ValueError, "fields: expected"),
        ((GOOD, np.zeros(2, np.float32)), TypeError, "fields: expected float64"),
        ((GOOD.astype(np.float16),), TypeError, "couplings: expected dtype"),
        (("nonsense",), TypeError, "couplings: expected"),
    ],
)
def test_bad_parameters(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=rf"^{message}"):
        vf.Ising(*arguments)


@pytest.mark.parametrize(
    ("spins", "error"),
    [([[0, 1]], ValueError), ([[1, 1, 1]], ValueError), ([[True, True]], TypeError), ([1, 1], ValueError)],
)
def test_bad_spins(spins: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^s: expected"):
        vf.Ising(GOOD).energy(spins)


@pytest.mark.parametrize("n", [44, 46, 100])
def test_too_many_spins(n: int) -> None:
    with pytest.raises(ValueError, match=r"^model: .*(2\^44|at most 45 spins.*wang_landau)"):
        vf.free_energy.exact(vf.Ising(np.zeros((n, n))), max_seconds=1.0)
