"""BAR and MBAR against exact sums and published numbers; false alarms below 1e-4."""

from __future__ import annotations

import dataclasses
import logging
import math
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vfe_fast as vf
from conftest import random_parameters, random_rbm
from test_memory import run as in_a_process
from vfe_fast.free_energy import MbarWarning, bar, exact, mbar, mbar_from_potentials
from vfe_fast.free_energy.windows import Windows, _apart, inefficiency, pymbar_quietly, solve
from vfe_fast.sampling import parallel_tempering

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("pymbar")

OFTEN = 4.0  # standard errors
SHORT: dict[str, Any] = {"betas": 4, "n_ladders": 8, "n_sweeps": 200, "num_threads": 1}


@pytest.mark.parametrize("method", [mbar, bar])
@pytest.mark.parametrize("beta", [0.6, 1.3])
@pytest.mark.parametrize("kind", ["bits", "float32", "spins", "ising"])
def test_against_exact(kind: str, beta: float, method: Any) -> None:
    parameters = random_parameters(7, 5, scale=0.7, seed=3)
    model: Any = vf.BernoulliRBM(*parameters)
    if kind == "float32":
        model = vf.BernoulliRBM(*(p.astype(np.float32) for p in parameters))
    if kind == "spins":
        model = vf.SpinRBM(*(0.4 * p for p in parameters))
    if kind == "ising":
        upper = np.triu(0.4 * parameters[0][:, [0, 1, 2, 3, 4, 0, 1]], 1)
        model = vf.Ising(upper + upper.T, 0.3 * parameters[1])
    found = method(model, beta=beta, betas=6, n_sweeps=500, rng=3)
    assert abs(found.log_z - exact(model, beta=beta).log_z) < OFTEN * found.stderr
    assert found.stderr < 0.06
    assert (found.kind, found.converged, found.beta) == ("consistent", True, beta)
    assert found.value == -found.log_z / beta


@pytest.mark.filterwarnings("ignore::vfe_fast.free_energy.MbarWarning")
def test_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is kept; both methods begin with what is there."""
    model, path = vf.Ising(np.ones((3, 3)) - np.eye(3), [0.1, -0.2, 0.3]), tmp_path / "run.npz"
    expected = [method(model, rng=3, **SHORT).log_z for method in (mbar, bar)]
    assert mbar(model, rng=3, checkpoint=path, **SHORT).log_z == expected[0]
    monkeypatch.setattr("vfe_fast.sampling.tempering.swaps", None)  # what a sweep needs
    assert [m(model, rng=3, checkpoint=path, **SHORT).log_z for m in (mbar, bar)] == expected
    with pytest.raises(ValueError, match=r"^checkpoint: .* belongs to another"):
        bar(model, beta=0.9, rng=3, checkpoint=path, **SHORT)


def torus(side: int) -> vf.Ising:
    numbers = np.arange(side * side).reshape(side, side)
    couplings = np.zeros((side * side, side * side))
    for axis in (0, 1):
        near = np.roll(numbers, 1, axis).ravel()
        couplings[numbers.ravel(), near] += 1.0
        couplings[near, numbers.ravel()] += 1.0
    return vf.Ising(couplings)


def test_critical_torus(reference_data: Path) -> None:
    """10 x 10 spins at the critical point, ln Z by B. Kaufman, Phys. Rev. 76 (1949) 1232."""
    import json

    numbers = json.loads((reference_data / "oracles" / "oracles_dev.json").read_text())["ising2d_torus_logZ"]
    expected, beta = float(numbers["10x10,K=Kc=0.5*ln(1+sqrt2)"]), 0.5 * math.log(1 + math.sqrt(2))
    found = mbar(torus(10), beta=beta, rng=1)
    assert found.converged
    assert abs(found.log_z - expected) < OFTEN * found.stderr
    assert found.stderr < 0.04
    assert found.details["neighbor_overlap"].min() > 0.1
    assert found.details["round_trips"] > 300


def test_published_benzene_legs(reference_data: Path) -> None:
    """alchemtest: 3.041 ± 0.0209 published, 3.0411557 to more digits."""
    data = np.load(reference_data / "alchemtest" / "coulomb_u_nk.npz")
    found = mbar_from_potentials(data["u_nk"].T, data["N_k"])
    assert found.value == pytest.approx(3.0411557, abs=1e-6)
    assert found.stderr == pytest.approx(0.0209, abs=3e-4)
    assert found.converged


def harmonic(n: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Springs at different places: f = -ln sqrt(2 π / k) + a constant that differs."""
    rng = np.random.default_rng(seed)
    springs, places, shifts = np.array([1.0, 2.0, 4.0]), np.array([0.0, 0.7, 1.2]), np.array([0.0, -3.0, 2.0])
    x = np.concatenate([rng.normal(p, k**-0.5, m) for p, k, m in zip(places, springs, n, strict=True)])
    u = springs[:, None] / 2 * (x - places[:, None]) ** 2 + shifts[:, None]
    return u, shifts + 0.5 * np.log(springs)


def test_potentials_against_closed_form_and_pymbar() -> None:
    n = [3000, 0, 2000]
    u, f = harmonic(n)
    found = mbar_from_potentials(u, n, log_z=1.5, beta=0.5)
    assert np.abs(found.details["free_energies"] - (f - f[0]))[1:] == pytest.approx(0, abs=0.1)
    assert found.log_z == pytest.approx(1.5 - found.details["free_energies"][-1])
    assert found.value == -found.log_z / 0.5
    with pymbar_quietly() as pymbar:
        state = np.random.get_state()  # noqa: NPY002
        theirs = pymbar.MBAR(u, n)
        differences = theirs.compute_free_energy_differences()
        np.random.set_state(state)  # noqa: NPY002
        overlap = theirs.compute_overlap()
    np.testing.assert_allclose(found.details["free_energies"], differences["Delta_f"][0], atol=1e-8)
    np.testing.assert_allclose(found.details["free_energies_stderr"], differences["dDelta_f"][0], rtol=0.02)
    np.testing.assert_allclose(found.details["overlap"], overlap["matrix"], atol=1e-7)
    assert found.details["spectral_gap"] == pytest.approx(overlap["scalar"], abs=1e-7)
    wider = mbar_from_potentials(u, n, inefficiencies=[4.0, 1.0, 4.0])
    assert wider.stderr == pytest.approx(2 * found.stderr)
    assert wider.details["free_energies"].tolist() == found.details["free_energies"].tolist()


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    u, _ = harmonic([400, 300, 200])
    whole = mbar_from_potentials(u, [400, 300, 200])
    monkeypatch.setattr("vfe_fast.free_energy.windows._BLOCK", 100)
    parts = mbar_from_potentials(u.astype(np.float32), [400, 300, 200])
    assert parts.log_z == pytest.approx(whole.log_z, abs=1e-5)
    assert parts.stderr == pytest.approx(whole.stderr, rel=1e-4)


def test_pymbar_gets_some_of_many_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others by blocks, and the equations hold for all: the same as if pymbar had got everything."""
    n = np.array([4000, 0, 3000])
    u, _ = harmonic(list(n))
    lengths: list[int] = []
    rows: list[Any] = []
    everything = solve(Windows(n, lambda start, stop: u[:, start:stop]), np.zeros(3))
    monkeypatch.setattr("vfe_fast.free_energy.windows._BLOCK", 4000)
    monkeypatch.setattr("vfe_fast.free_energy.windows._MOST_SOLVED", 1000)

    def potentials(start: int, stop: int) -> np.ndarray:
        lengths.append(stop - start)
        return u[:, start:stop]

    with pymbar_quietly() as pymbar:
        theirs = pymbar.mbar_solvers.solve_mbar

        def watched(u_kn: np.ndarray, n_k: np.ndarray, *args: Any, **options: Any) -> Any:
            rows.append((u_kn.shape, list(n_k)))
            return theirs(u_kn, n_k, *args, **options)

        monkeypatch.setattr(pymbar.mbar_solvers, "solve_mbar", watched)
    solved = solve(Windows(n, potentials), np.zeros(3))
    assert rows == [((2, 501), [286, 215])]  # every 14th: 1,000 potentials by two windows with samples
    assert max(lengths) == 1333
    np.testing.assert_allclose(solved.f, everything.f, rtol=0, atol=1e-9)
    np.testing.assert_allclose(solved.overlap, everything.overlap, rtol=0, atol=1e-9)
    assert solved.problem == ""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("what", ["potentials", "energies"])
def test_potentials_are_held_once(what: str) -> None:
    """MB beyond what is given, 8 to 20; all potentials of 320,000 samples are 39."""
    of = {
        "potentials": """
    places, u = np.linspace(0, 2, 16), np.empty((16, n))
    x = rng.normal(size=n) + np.repeat(places, n // 16)
    for row, place in zip(u, places):  # at no time more than that
        row[:] = np.square(x - place) / 2
    return lambda: vf.free_energy.mbar_from_potentials(u, np.full(16, n // 16))
""",
        "energies": """
    rbm = vf.BernoulliRBM(0.1 * rng.normal(size=(6, 4)), np.zeros(6), np.zeros(4))
    run = vf.sampling.parallel_tempering(rbm, 16, n_ladders=n // 16 // 100, n_sweeps=100, rng=1)
    return lambda: vf.free_energy.mbar(rbm, run)
""",
    }
    taken = in_a_process(f"""
from vfe_fast.free_energy import windows
windows._BLOCK = windows._MOST_SOLVED = 1 << 16  # potentials, in blocks and for pymbar

def call(n):{of[what]}

call(16_000)()
estimate = call(320_000)
before = peak()
assert estimate().converged
print(peak() - before)
""")
    assert taken < 30, taken


def test_overlap_asked_of_many_windows() -> None:
    """0.3 / K of more than ten windows, which share the samples among more: 0.02 of fifteen, 0.03 of two."""
    for shared, enough in ((0.022, True), (0.018, False)):
        assert _apart(np.array([[1 - shared, shared], [shared, 1 - shared]])) is not None  # 0.03 of two
        overlap = np.eye(15) * (1 - shared)
        for k in range(14):
            overlap[k, k + 1] = overlap[k + 1, k] = shared
        assert (_apart(overlap) is None) == enough


def test_windows_apart_are_reported() -> None:
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.normal(0, 1, 500), rng.normal(9, 1, 500)])
    u = np.array([x**2, (x - 9) ** 2]) / 2
    with pytest.warns(MbarWarning, match="overlap too little"):
        found = mbar_from_potentials(u, [500, 500])
    assert not found.converged
    assert "windows 1 overlap too little" in found.details["problem"]
    assert found.details["spectral_gap"] < 1e-3


@pytest.mark.parametrize("n", [[500, 500, 0], [1000, 0, 0]])
def test_windows_that_no_sample_supports_are_reported(n: list[int]) -> None:
    """Exponential averages from windows far away."""
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.normal(place, 1, m) for place, m in zip((0, 1, 2), n, strict=True)])
    u = np.array([x**2, (x - 1) ** 2, (x - 7) ** 2]) / 2
    with pytest.warns(MbarWarning, match="window 2 has no samples, and .* Pareto k"):
        found = mbar_from_potentials(u, n)
    assert not found.converged
    near = mbar_from_potentials(np.array([x**2, (x - 1) ** 2, (x - 0.5) ** 2]) / 2, n)
    assert near.converged
    assert abs(near.value) < OFTEN * near.stderr


def test_single_samples_are_reported() -> None:
    with pytest.warns(MbarWarning, match="window 1 has a single sample"):
        assert not mbar_from_potentials([[0.0, 0.5, 1.0], [1.0, 0.5, 0.5]], [2, 1]).converged


def test_ladder_with_gaps_is_reported() -> None:
    model = random_rbm(40, 20, scale=1.0, seed=1)
    for method in (mbar, bar):
        with pytest.warns(MbarWarning, match="not reliable") as caught:
            found = method(model, betas=2, n_sweeps=100, rng=1)
        assert caught[0].filename == __file__
        assert not found.converged
        assert "overlap" in found.details["problem"]
        assert "round trips" in found.details["problem"]


def test_short_runs_and_stuck_chains_are_reported() -> None:
    model = vf.SpinRBM(np.full((20, 20), 0.12), np.full(20, 0.01), np.full(20, 0.02))
    with pytest.warns(MbarWarning, match="statistical inefficiencies long|round trips|ladders differ"):
        found = mbar(model, betas=8, n_ladders=4, n_sweeps=12, n_warmup=0, rng=1)
    assert not found.converged


@pytest.mark.parametrize("method", [mbar, bar])
def test_ladders_that_differ_are_reported(method: Any) -> None:
    """Two of eight have other energies: long correlations, whose error is that of the spread."""
    model = random_rbm(5, 4, scale=0.5)
    run = parallel_tempering(model, 4, n_ladders=8, n_sweeps=300, rng=1)
    alike = method(model, run)
    energies = run.energies.copy()
    energies[1:, :2] += 1.0
    with pytest.warns(MbarWarning, match=r"ladders differ|statistical inefficiencies long"):
        found = method(model, dataclasses.replace(run, energies=energies))
    assert alike.converged
    assert not found.converged
    assert found.log_z < alike.log_z - 4 * alike.stderr
    assert found.stderr > 0.3 * (alike.log_z - found.log_z)


def test_failures_of_the_solver_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    u, _ = harmonic([400, 300, 200])
    with pymbar_quietly() as pymbar:
        monkeypatch.setattr(
            pymbar.mbar_solvers, "solve_mbar", lambda *args, **options: (np.zeros(3), [{"success": True}])
        )
    with pytest.warns(MbarWarning, match="equations hold to"):
        assert not mbar_from_potentials(u, [400, 300, 200]).converged

    def fails(*args: Any, **options: Any) -> None:
        raise ValueError("no luck")

    with pymbar_quietly() as pymbar:
        monkeypatch.setattr(pymbar.mbar_solvers, "solve_mbar", fails)
    with pytest.warns(MbarWarning, match="no luck"):
        assert not mbar_from_potentials(u, [400, 300, 200]).converged


def test_inefficiency() -> None:
    """Of x_t = r x_(t-1) + noise it is (1 + r) / (1 - r)."""
    rng = np.random.default_rng(0)
    series = np.zeros((20, 3000))
    for t in range(1, 3000):
        series[:, t] = 0.8 * series[:, t - 1] + rng.normal(size=20)
    assert inefficiency(series) == pytest.approx(9.0, rel=0.15)
    assert inefficiency(rng.normal(size=(5, 3000))) == pytest.approx(1.0, abs=0.1)
    assert inefficiency(np.ones((5, 30))) == 1.0


def test_nothing_of_the_process_changes(capfd: pytest.CaptureFixture[str]) -> None:
    """JAX's bits, NumPy's global generator and the log level stay; nothing is printed."""
    jax = sys.modules.get("jax")
    before = jax.config.x64_enabled if jax else None
    level, state = logging.getLogger("pymbar").level, np.random.get_state()[1].copy()  # noqa: NPY002
    mbar(random_rbm(4, 3, scale=0.5), rng=0, **SHORT)
    assert (jax.config.x64_enabled if jax else None) == before
    assert logging.getLogger("pymbar").level == level
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    assert capfd.readouterr() == ("", "")


def test_same_bits() -> None:
    model = random_rbm(6, 4, scale=0.5)
    one = mbar(model, rng=4, **SHORT)
    assert one.log_z == mbar(model, rng=4, **{**SHORT, "num_threads": 2}).log_z
    assert one.log_z == mbar(model, one.details["run"]).log_z
    assert one.log_z != mbar(model, rng=5, **SHORT).log_z
    with pytest.raises(ValueError, match=r"^checkpoint: expected None beside a run"):
        mbar(model, one.details["run"], checkpoint="run.npz")


@pytest.mark.parametrize(
    ("call", "error", "name"),
    [
        (lambda: mbar(vf.GaussianRBM(np.zeros((4, 2)), np.zeros(4), np.zeros(2))), TypeError, "model"),
        (lambda: mbar(random_rbm(4, 3), beta=0.0), ValueError, "beta"),
        (lambda: mbar(random_rbm(4, 3), "run"), TypeError, "run"),  # type: ignore[arg-type]
        (lambda: mbar(random_rbm(4, 3), betas=[0.1, 1.0], n_sweeps=1), ValueError, "betas"),
        (lambda: bar(random_rbm(4, 3), n_sweeps=0), ValueError, "n_sweeps"),
        (lambda: mbar_from_potentials(np.zeros(3), [3]), ValueError, "u_kn"),
        (lambda: mbar_from_potentials(np.full((1, 3), np.nan), [3]), ValueError, "u_kn"),
        (lambda: mbar_from_potentials([["a"]], [1]), TypeError, "u_kn"),
        (lambda: mbar_from_potentials(np.zeros((2, 3)), [1, 1]), ValueError, "n_samples"),
        (lambda: mbar_from_potentials(np.zeros((2, 3)), [1.0, 2.0]), TypeError, "n_samples"),
        (lambda: mbar_from_potentials(np.zeros((1, 3)), [3], inefficiencies=[0.5]), ValueError, "ineff"),
        (lambda: mbar_from_potentials(np.zeros((1, 3)), [3], inefficiencies=["a"]), TypeError, "ineff"),
        (lambda: mbar_from_potentials(np.zeros((1, 3)), [3], log_z=math.nan), ValueError, "log_z"),
        (lambda: mbar_from_potentials(np.zeros((1, 3)), [3], log_z=math.inf), ValueError, "log_z"),
    ],
)
def test_bad_input(call: Any, error: type[Exception], name: str) -> None:
    with pytest.raises(error, match=f"^{name}"):
        call()


def test_run_of_another_model() -> None:
    run = parallel_tempering(random_rbm(4, 3), 3, n_sweeps=50, rng=0)
    with pytest.raises(ValueError, match=r"^run: expected one of this model"):
        mbar(random_rbm(4, 3, seed=1), run)
    with pytest.raises(ValueError, match=r"^run: expected temperatures"):
        mbar(random_rbm(4, 3), run, beta=0.5)
