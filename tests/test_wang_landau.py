"""Densities of states by flat histograms: the kernel by its definition, ρ against all states, coverage."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

import vfe_fast as vf
from oracles.ising import spin_energies, torus_log_z
from oracles.philox import FLAT_HISTOGRAM, philox4x32
from vfe_fast import _core
from vfe_fast.free_energy import SampledDensityOfStates, WangLandauWarning, density_of_states, wang_landau
from vfe_fast.free_energy.spectrum import Levels
from vfe_fast.free_energy.wang_landau import MOST_LEVELS, _Walk


def torus(rows: int, columns: int) -> vf.Ising:
    """The ferromagnet, J = 1."""
    n = rows * columns
    couplings = np.zeros((n, n))
    for r in range(rows):
        for c in range(columns):
            for there in ((r + 1) % rows * columns + c, r * columns + (c + 1) % columns):
                couplings[r * columns + c, there] += 1
                couplings[there, r * columns + c] += 1
    return vf.Ising(couplings, np.zeros(n))


def whole(n: int, seed: int) -> vf.Ising:
    """Couplings and fields that are whole numbers, without a symmetry."""
    draw = np.random.default_rng([n, seed])
    upper = np.triu(draw.integers(-2, 4, (n, n)), 1)
    return vf.Ising((upper + upper.T).astype(float), draw.integers(-2, 4, n).astype(float))


# --- the kernel ---------------------------------------------------------------------------------


def state(n_walkers: int, n: int, n_levels: int) -> dict[str, Any]:
    spins = np.random.default_rng(1).choice(np.array([-1, 1], dtype=np.int8), (n_walkers, n))
    return {
        "spins": spins, "log_g": np.zeros((n_walkers, n_levels)),
        "histogram": np.zeros((n_walkers, n_levels), np.uint64),
        "visited": np.zeros((n_walkers, n_levels), np.uint8), "way": np.zeros(n_walkers, np.uint8),
        "trips": np.zeros(n_walkers, np.int64),
    }  # fmt: skip


def moved(model: vf.Ising, at: dict[str, Any], n_sweeps: int, **options: Any) -> dict[str, Any]:
    n_walkers = len(at["spins"])
    given: dict[str, Any] = {
        "offset": 60.5,
        "increment": np.full(n_walkers, 0.3),
        "decay": np.zeros(n_walkers),
    }
    given |= {"low": 45, "high": 60, "seed": 2**63 + 11, "sweep_offset": 5, "num_threads": 1} | options
    at = {name: array.copy() for name, array in at.items()}
    _core.flat_histogram(model.couplings, model.fields, n_sweeps=n_sweeps, **at, **given)
    return at


@pytest.mark.parametrize(
    ("n", "n_walkers", "n_levels", "scale", "sweep"),
    [
        (1, 3, 121, 1.0, 5),
        (5, 16, 15, 0.73, 5),  # energies beyond the levels; walkers side by side, eight and eight
        (13, 2, 40, 1.0, 2**32 - 3),
        (70, 16, 121, 0.73, 5),  # neighbors
        (70, 3, 60, 1.0, 2**32 - 3),
    ],
)
def test_trials_are_those_defined(
    target: str, n: int, n_walkers: int, n_levels: int, scale: float, sweep: int
) -> None:
    """By the energies of whole states, from the random words that the contract names."""
    draw = np.random.default_rng(n)
    upper = np.triu(draw.integers(-2, 4, (n, n)) * (draw.random((n, n)) < 4 / n), 1) * scale
    model = vf.Ising(upper + upper.T, draw.integers(-1, 3, n) * scale)
    start = state(n_walkers, n, n_levels)
    decay, increment = (draw.choice([0.0, x], n_walkers) for x in (50.0, 0.3))
    start["log_g"] = 0.3 * draw.normal(size=start["log_g"].shape)
    start["visited"][2:4] = 1
    start["way"][:] = draw.integers(0, 3, n_walkers)
    offset, low, high, n_sweeps = n_levels // 2 + 0.5, n_levels // 2 - 2, n_levels // 2 + 3, 6
    options = {"offset": offset, "low": low, "high": high, "sweep_offset": sweep}
    found = moved(model, start, n_sweeps, decay=decay, increment=increment, **options)

    def level(spins: np.ndarray) -> int:
        s = spins.astype(float)
        energy = -0.5 * s @ model.couplings @ s - model.fields @ s
        return int(np.clip(math.floor(energy + offset), 0, n_levels - 1))

    for w in range(n_walkers):
        spins, log_g, visited = (start[name][w].copy() for name in ("spins", "log_g", "visited"))
        histogram, way, trips = np.zeros(n_levels), start["way"][w], 0
        here = level(spins)
        visited[here] = 1
        for t in range(sweep, sweep + n_sweeps):
            f = decay[w] / ((t + 1) * n) if decay[w] > 0 else increment[w]
            for k in range(n):
                counter = [k // 2, w, t % 2**32, FLAT_HISTOGRAM | t >> 32 << 8]
                words = philox4x32(counter, 2**63 + 11)
                which, chance = (int(x) for x in words[2 * (k % 2) : 2 * (k % 2) + 2])
                i = which * n >> 32
                spins[i] *= -1
                there = level(spins)
                if not visited[there]:
                    visited[there], log_g[there] = 1, log_g[here]
                if (chance + 0.5) / 2**32 < math.exp(min(log_g[here] - log_g[there], 0.0)):
                    here = there
                else:
                    spins[i] *= -1
                log_g[here] += f
                histogram[here] += 1
                if here <= low and way != 1:
                    trips += way == 2
                    way = 1
                elif here >= high and way == 1:
                    way = 2
        assert np.array_equal(found["spins"][w], spins)
        assert np.allclose(found["log_g"][w], log_g, rtol=1e-12, atol=1e-12)
        assert np.array_equal(found["histogram"][w], histogram)
        assert np.array_equal(found["visited"][w], visited)
        assert found["trips"][w] == trips
        assert found["way"][w] == way
    if n_levels < 121:  # they are what is to be tested
        assert found["trips"].sum() > 0
    if n == 5:
        assert found["histogram"][:, 0].any()
        assert found["histogram"][:, -1].any()


@pytest.mark.usefixtures("keep_target")
def test_the_same_bits() -> None:
    model, start = whole(9, 3), state(24, 9, 121)
    once = moved(model, start, 40)
    half = moved(model, start, 15)
    cut = moved(model, half, 25, sweep_offset=20)
    few = moved(model, {name: array[:3] for name, array in start.items()}, 40)
    one, many = (moved(model, start, 2000, num_threads=threads) for threads in (1, 5))
    for name in once:
        assert np.array_equal(once[name], cut[name])
        assert np.array_equal(once[name][:3], few[name])
        assert np.array_equal(one[name], many[name])
    assert once["trips"].sum() > 0
    for name in vf.show_config("dict")["usable_targets"]:
        _core.use_target(name)
        assert np.array_equal(moved(model, start, 40)["log_g"], once["log_g"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"increment": np.full(2, -1.0)}, "increment"),
        ({"low": -1}, "low"),
        ({"high": 10}, "high"),
        ({"decay": np.full(2, np.nan)}, "decay"),
        ({"decay": np.zeros(3)}, "decay"),
        ({"offset": np.nan}, "offset"),
        ({"spins": np.zeros((2, 4), np.int8)}, "spins"),
        ({"spins": np.ones((2, 3), np.int8)}, "spins"),
        ({"log_g": np.full((2, 9), np.nan)}, "log_g"),
        ({"histogram": np.zeros((2, 8), np.uint64)}, "histogram"),
        ({"sweep_offset": -1}, "step_offset"),
    ],
)
def test_bad_input_to_the_kernel(options: dict[str, Any], message: str) -> None:
    start = state(2, 4, 9)
    rest: dict[str, Any] = {"low": 2, "high": 6}
    rest |= {name: value for name, value in options.items() if name not in start}
    start |= {name: value for name, value in options.items() if name in start}
    with pytest.raises(ValueError, match=message):
        moved(whole(4, 0), start, 3, **rest)


def test_a_spin_is_not_coupled_to_itself() -> None:
    start = state(2, 4, 9)
    at: dict[str, Any] = {"offset": 4.5, "increment": np.zeros(2), "decay": np.zeros(2), "low": 2, "high": 6}
    with pytest.raises(ValueError, match="diagonal"):
        _core.flat_histogram(
            np.eye(4), np.zeros(4), n_sweeps=1, seed=1, sweep_offset=0, num_threads=1, **at, **start
        )


# --- the method ---------------------------------------------------------------------------------


def walked(model: vf.Ising, **options: Any) -> SampledDensityOfStates:
    """The density of states that `wang_landau` finds."""
    found: SampledDensityOfStates = wang_landau(model, **options).details["density"]
    return found


def test_against_all_states() -> None:
    """Every level of an asymmetric model, and ln Z at three temperatures: within 4.5 errors."""
    model = whole(12, 1)
    exact = density_of_states(model).details["density"]
    at_half = wang_landau(model, beta=0.5, n_sweeps=20_000, rng=1)
    found = at_half.details["density"]
    assert not found.problem
    assert (at_half.beta, at_half.log_z) == (0.5, found.free_energy(0.5).log_z)
    assert np.array_equal(found.energies, exact.energies)
    assert found.bin_width == 0
    off = (found.log_counts - np.log(exact.counts.astype(float))) / found.stderr
    assert np.abs(off).max() < 5
    assert np.exp(found.log_counts).sum() == pytest.approx(2.0**12, rel=1e-12)
    for beta in (0.0, 0.1, 1.0):
        F = found.free_energy(beta)
        assert F.kind == "consistent"
        assert F.converged
        truth = exact.log_z(beta)
        assert abs(F.log_z - truth) < (4.5 * F.stderr if beta > 0 else 1e-12)
        assert found.log_z(beta) == F.log_z


def test_bins() -> None:
    """Real couplings: the error that bins make is inside its bound, and sampling adds its own."""
    draw = np.random.default_rng(4)
    upper = np.triu(draw.normal(size=(11, 11)), 1)
    model = vf.Ising(upper + upper.T, draw.normal(size=11))
    energies = spin_energies(model.couplings, model.fields)
    found = walked(model, n_bins=300, n_sweeps=20_000, rng=2)
    assert found.bin_width > 0
    for beta in (0.1, 0.5):
        F = found.free_energy(beta)
        truth = float(np.logaddexp.reduce(-beta * energies))
        assert F.details["error_bound"] == 0.5 * beta * found.bin_width
        assert abs(F.log_z - truth) < F.details["error_bound"] + 4.5 * F.stderr


def test_coverage() -> None:
    """68 % ± 5 % of 300 models within one standard error of ln Z, at a high and at a low temperature."""
    off = []
    for k in range(300):
        model = whole(6 + k % 3, k)
        exact = density_of_states(model).details["density"]
        found = walked(
            model, beta=0.5, n_walkers=8, n_sweeps=300, final_increment=1e-3, rng=k, num_threads=1
        )  # fmt: skip
        of_model = [found.free_energy(beta) for beta in (0.1, 0.5)]
        off.append([(F.log_z - exact.log_z(F.beta)) / F.stderr for F in of_model])
    inside = (np.abs(off) < 1).mean(axis=0)
    assert np.all(np.abs(inside - 0.68) < 0.05), inside
    assert np.all(np.abs(np.mean(off, axis=0)) < 0.3)


@pytest.mark.parametrize("repeats", [1, 5])
def test_effective_visits(repeats: int) -> None:
    """Visits of a known number, each counted so often: that number; false alarm 6e-5 a β (χ² of 799)."""
    model, n_walkers, n_visits = whole(9, 3), 800, 500
    exact = density_of_states(model).details["density"]
    levels = Levels.of(model, 200, 1 << 16)
    walk = _Walk(model, levels, n_walkers, 1, 1)
    at = np.rint((exact.energies + levels.bound) / levels.width).astype(int)
    log_counts = np.log(exact.counts.astype(float))
    walk.log_g[:, at] = 0.7 * log_counts + 0.02 * exact.energies
    law = np.exp(log_counts - walk.log_g[0, at])
    drawn = np.random.default_rng(5).multinomial(n_visits, law / law.sum(), n_walkers)
    walk.histogram[:, at] = repeats * drawn
    found = walk.density("")
    for beta in (0.05, 0.3, 2.0):
        F = found.free_energy(beta)
        assert abs(F.log_z - exact.log_z(beta)) < 4.5 * F.stderr
        if repeats == 1:
            assert 0.8 * n_walkers * n_visits < F.ess <= n_walkers * n_visits
        else:
            assert F.ess == pytest.approx(n_walkers * n_visits, rel=0.2)


def test_effective_visits_by_definition() -> None:
    """The influence of each visit on ln <y> - ln <z>, y = e^(-βE) / w and z = 1 / w."""
    found = walked(whole(8, 2), n_walkers=4, n_sweeps=300, final_increment=1e-2, rng=3)
    visits = found.histogram.sum(axis=0).astype(float)
    z = np.exp(found.log_counts) / visits
    for beta in (0.1, 1.0):
        F, y = found.free_energy(beta), z * np.exp(-beta * found.energies)
        added = np.repeat(y / (visits @ y) - z / (visits @ z), visits.astype(int)) * visits.sum()
        assert abs(added.mean()) < 1e-10
        assert F.ess == pytest.approx(np.mean(added**2) / F.stderr**2, rel=1e-9)
        assert F.ess < visits.sum()
    assert found.free_energy(0.0).ess == visits.sum()


def test_effective_visits_grow_with_sweeps() -> None:
    """Four times as many: 4, but for the spread e^(±0.25) of two errors of 64 walkers; false alarm 6e-5."""
    few, many = (
        walked(whole(8, 2), n_walkers=64, n_sweeps=k, final_increment=1e-3, rng=2) for k in (500, 2000)
    )
    for beta in (0.1, 1.0):
        ratio = many.free_energy(beta).ess / few.free_energy(beta).ess
        assert 4 * math.exp(-1.0) < ratio < 4 * math.exp(1.0)


@pytest.mark.filterwarnings("ignore::vfe_fast.free_energy.WangLandauWarning")
def test_effective_visits_where_few_have_been() -> None:
    """Levels of one walker, and energies and temperatures beyond e^x: finite, and no more than visits."""
    fields = np.random.default_rng(3).choice([-1.0, 1.0], 40)
    model = vf.Ising(np.zeros((40, 40)), 100 * fields)
    found = walked(model, n_walkers=4, n_sweeps=40, final_increment=0.1, max_sweeps=60, rng=5)
    assert ((found.histogram > 0).sum(axis=0) == 1).any()
    assert np.isinf(found.stderr).any()
    for beta in (0.0, 1e-12, 0.01, 1.0, 1e6):
        assert 0 < found.free_energy(beta).ess <= found.histogram.sum()


def test_tori_beyond_all_states(reference_data: Any) -> None:
    """8 x 8 and 10 x 10 at four couplings: within 4.5 errors of the published ln Z, which is Kaufman's."""
    published = json.loads((reference_data / "oracles/oracles_dev.json").read_text())["ising2d_torus_logZ"]
    couplings = {"0.2": 0.2, "0.3": 0.3, "Kc=0.5*ln(1+sqrt2)": 0.5 * math.log(1 + math.sqrt(2)), "0.6": 0.6}
    for size in (8, 10):
        found = walked(torus(size, size), n_sweeps=30_000, rng=3)
        assert not found.problem
        for name, K in couplings.items():
            text = published[f"{size}x{size},K={name}"]
            truth = float(text)
            assert torus_log_z(size, size, K) == pytest.approx(truth, rel=1e-14)
            F = found.free_energy(K)
            assert F.stderr < 0.1
            assert abs(F.log_z - truth) < 4.5 * F.stderr


def test_a_torus_of_144_spins() -> None:
    found = walked(torus(12, 12), n_walkers=8, n_sweeps=20_000, final_increment=1e-4, rng=4)
    for K in (0.2, 0.4406868):
        F = found.free_energy(K)
        assert abs(F.log_z - torus_log_z(12, 12, K)) < 4.5 * F.stderr < 1.5


def test_same_seed_same_density() -> None:
    first, again = (walked(whole(9, 2), n_sweeps=500, rng=7, num_threads=k) for k in (1, 2))
    assert np.array_equal(first.log_counts, again.log_counts)
    other = walked(whole(9, 2), n_sweeps=500, rng=8)
    assert not np.array_equal(first.log_counts, other.log_counts)


def test_it_says_what_is_wrong() -> None:
    with pytest.warns(WangLandauWarning, match="max_sweeps"):
        found = walked(whole(12, 1), n_sweeps=300, max_sweeps=20, rng=1)
    assert "learned" in found.problem
    with pytest.warns(WangLandauWarning, match="learned"):
        assert not found.free_energy(0.3).converged
    with pytest.warns(WangLandauWarning, match="round trips"):
        walked(torus(10, 10), n_sweeps=30, final_increment=1e-2, rng=1)


def test_sweeps_that_end_with_a_stage_of_learning() -> None:
    """What is left to learn has no sweeps left."""
    draw = np.random.default_rng(2)
    upper = np.triu(draw.normal(size=(6, 6)), 1)
    model = vf.Ising(upper + upper.T, draw.normal(size=6))
    levels = Levels.of(model, 20, MOST_LEVELS)
    walk = _Walk(model, levels, 4, vf.random.seed(1), 1)
    assert walk.learn(1.0, 2.0**-8, 100_000) == 0  # the first stage
    with pytest.warns(WangLandauWarning, match="4 of 4 walkers had not learned"):
        walked(model, n_bins=20, n_walkers=4, n_sweeps=300, max_sweeps=walk.n_done, rng=1)


@pytest.mark.filterwarnings("ignore::vfe_fast.free_energy.WangLandauWarning")
def test_ground_states_that_few_have_seen() -> None:
    """One state far below all others: cold temperatures say that walkers have not been there."""
    fields = np.random.default_rng(3).choice([-1.0, 1.0], 40)
    found = walked(
        vf.Ising(np.zeros((40, 40)), fields),
        n_walkers=4,
        n_sweeps=40,
        final_increment=0.1,
        max_sweeps=60,
        rng=5,
    )
    assert found.free_energy(0.0).log_z == pytest.approx(40 * math.log(2))
    cold = found.free_energy(8.0)
    assert not cold.converged
    assert cold.details["unseen"] > 0.05 or found.energies[0] > -40
    assert "round trips" in cold.details["problem"]


def test_a_warning_of_one_temperature() -> None:
    """One walker of eight has not found the ground states: at other temperatures that is nothing."""
    how = {"n_walkers": 8, "n_sweeps": 600, "final_increment": 1e-3, "rng": 2}
    with pytest.warns(WangLandauWarning, match="landau: walkers have on average not been where .* beta = 1$"):
        F = wang_landau(torus(8, 8), **how)
    assert not F.converged
    assert not F.details["density"].problem
    assert F.details["density"].free_energy(0.3).converged


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"model": 3}, TypeError, "model"),
        ({"beta": -0.5}, ValueError, "beta"),
        ({"beta": 1e308}, ValueError, "beta"),
        ({"n_bins": 0}, ValueError, "n_bins"),
        ({"n_walkers": 3}, ValueError, "n_walkers"),
        ({"n_sweeps": 0}, ValueError, "n_sweeps"),
        ({"max_sweeps": 0}, ValueError, "max_sweeps"),
        ({"final_increment": 0.0}, ValueError, "final_increment"),
        ({"num_threads": 0}, ValueError, "num_threads"),
    ],
)
def test_bad_input(options: dict[str, Any], error: type[Exception], message: str) -> None:
    given = {"model": whole(4, 0)} | options
    with pytest.raises(error, match=message):
        walked(given.pop("model"), **given)
