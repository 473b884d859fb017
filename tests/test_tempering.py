"""Parallel tempering: the law of swaps, of the chains, the ladder, round trips; false alarms below 1e-5."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import vfe_fast as vf
from conftest import random_parameters, random_rbm
from vfe_fast.free_energy import exact
from vfe_fast.sampling import TemperingWarning, parallel_tempering
from vfe_fast.sampling import tempering as tempering_module
from vfe_fast.sampling.tempering import swaps


def joint_states(rbm: Any) -> tuple[np.ndarray, np.ndarray]:
    """Every (v, h), v major; in the model's units."""
    n = rbm.n_visible + rbm.n_hidden
    states = ((np.arange(2**n)[:, None] >> np.arange(n)[::-1]) & 1).astype(np.int8)
    if isinstance(rbm, vf.SpinRBM):
        states = 2 * states - 1
    return states[:, : rbm.n_visible], states[:, rbm.n_visible :]


def law(rbm: Any, beta: float) -> tuple[np.ndarray, np.ndarray]:
    """Energies by the definition, and probabilities of all joint states."""
    v, h = joint_states(rbm)
    weights, a, b = rbm.parameters
    energy = -(v @ a) - h @ b - np.einsum("si,ij,sj->s", v, weights, h)
    p = np.exp(-beta * energy)
    return energy, p / p.sum()


def moved_by_a_swap(energy_of: str) -> float:
    """Total variation by which a swap moves the cold law, summed over all pairs of states."""
    rbm, betas = random_rbm(2, 2, scale=2.0, seed=1), np.array([0.3, 1.0])
    (energy, hot), (_, cold) = law(rbm, 0.3), law(rbm, 1.0)
    if energy_of == "visible":  # what some packages swap on
        energy = rbm.free_energy(joint_states(rbm)[0].astype(np.uint8))
    of_hot, of_cold = np.divmod(np.arange(256), 16)
    found = swaps(np.array([energy[of_hot], energy[of_cold]]), betas, 0, np.random.default_rng(0))
    weight = hot[of_hot] * cold[of_cold]
    after = np.bincount(of_hot, weight * found.probability[0], 16)
    after += np.bincount(of_cold, weight * (1 - found.probability[0]), 16)
    return float(np.abs(after - cold).sum() / 2)


def test_a_swap_keeps_the_law() -> None:
    assert moved_by_a_swap("joint") < 1e-14
    assert moved_by_a_swap("visible") > 0.02


def test_swaps_are_drawn_with_their_probability() -> None:
    n, betas = 200_000, np.array([0.0, 0.4, 0.7, 1.0])
    energy = np.repeat(np.array([[1.0], [0.2], [1.5], [2.5]]), n, axis=1)
    found = swaps(energy, betas, 0, np.random.default_rng(2))
    places = found.order // n
    assert np.array_equal(found.lower, [0, 2])
    expected = [math.exp(0.4 * (0.2 - 1.0)), 1.0]
    assert found.probability[:, 0] == pytest.approx(expected)
    assert (places[0] == 1).mean() == pytest.approx(expected[0], abs=0.005)
    assert (places[2] == 3).all()
    assert np.array_equal(np.sort(found.order, axis=0) % n, np.tile(np.arange(n), (4, 1)))
    assert np.array_equal(swaps(energy, betas, 1, np.random.default_rng(2)).lower, [1])


@pytest.mark.parametrize("kind", ["bits", "spins"])
def test_law_at_each_temperature(kind: str) -> None:
    parameters = random_parameters(3, 2, scale=1.2, seed=4)
    rbm: Any = vf.BernoulliRBM(*parameters)
    if kind == "spins":
        rbm = vf.SpinRBM(*(0.4 * p for p in parameters))
    n = 20_000
    run = parallel_tempering(rbm, [0.0, 0.4, 1.3], n_ladders=n, n_sweeps=15, n_warmup=15, rng=7, adapt=False)
    for k, beta in enumerate(run.betas):
        energy, p = law(rbm, beta)
        v, h = run.states(k)
        numbers = (np.concatenate([v, h], axis=1) > 0) @ [16, 8, 4, 2, 1]
        counts = np.bincount(numbers, minlength=32)
        many = n * p > 4
        statistic = np.sum((counts - n * p)[many] ** 2 / (n * p)[many])
        assert statistic < stats.chi2.isf(1e-7, many.sum())
        spread = math.sqrt(p @ energy**2 - (p @ energy) ** 2)
        assert run.energies[k].mean() == pytest.approx(p @ energy, abs=5 * spread / math.sqrt(n))
        assert np.array_equal(np.sort(run.energies[k, :, -1]), np.sort(rbm.energy(v, h)))


def test_ladder_is_adapted_to_equal_acceptance() -> None:
    rbm = random_rbm(30, 20, scale=0.9, seed=3)
    even = parallel_tempering(rbm, 9, n_sweeps=500, rng=1, adapt=False)
    adapted = parallel_tempering(rbm, 9, n_sweeps=500, n_warmup=1000, rng=1)
    assert np.array_equal(even.betas, np.linspace(0, 1, 9))
    assert adapted.betas[[0, -1]].tolist() == [0.0, 1.0]
    assert (np.diff(adapted.betas) > 0).all()
    assert np.ptp(adapted.acceptance) < 0.3 * np.ptp(even.acceptance)
    assert adapted.acceptance.min() > even.acceptance.min()


@pytest.mark.filterwarnings("ignore::vfe_fast.sampling.TemperingWarning")
def test_ladder_stays_until_all_pairs_were_tried() -> None:
    """A single sweep tries every second pair, and knows nothing of the others."""
    rbm = random_rbm(30, 20, scale=0.9, seed=3)
    short = parallel_tempering(rbm, 9, n_sweeps=2, n_warmup=2, rng=1)
    assert np.array_equal(short.betas, np.linspace(0, 1, 9))
    longer = parallel_tempering(rbm, 9, n_sweeps=2, n_warmup=4, rng=1)
    assert not np.array_equal(longer.betas, np.linspace(0, 1, 9))


def test_round_trips_where_every_swap_is_accepted() -> None:
    """States of equal energy move by one place a sweep: a round trip takes two sweeps a temperature."""
    rbm = vf.BernoulliRBM(np.zeros((4, 3)), np.zeros(4), np.zeros(3))
    run = parallel_tempering(rbm, 5, n_ladders=3, n_sweeps=1000, rng=0)
    assert run.acceptance.tolist() == [1.0] * 4
    assert run.ideal_round_trip_time == 10.0
    assert run.round_trip_time == pytest.approx(10.0, rel=0.02)
    assert run.converged


def test_round_trips_take_as_long_as_theory_says() -> None:
    """Of energies that are fresh in each sweep: independent units."""
    rbm = vf.BernoulliRBM(np.zeros((12, 5)), np.linspace(-2, 1.5, 12), np.linspace(-1, 1.5, 5))
    run = parallel_tempering(rbm, 6, n_ladders=50, n_sweeps=2000, rng=0)
    assert run.acceptance.max() < 0.95
    assert run.round_trip_time == pytest.approx(run.ideal_round_trip_time, rel=0.06)


def test_too_few_round_trips_are_reported() -> None:
    rbm = vf.SpinRBM(0.5 * np.ones((40, 40)), np.full(40, 0.01), np.full(40, -0.02))
    with pytest.warns(TemperingWarning, match="0 round trips"):
        run = parallel_tempering(rbm, 2, n_ladders=4, n_sweeps=100, rng=0)
    assert not run.converged
    assert run.round_trip_time == math.inf


def test_steps_between_swaps() -> None:
    run = parallel_tempering(random_rbm(4, 3), 3, n_ladders=4, n_sweeps=60, n_warmup=20, n_steps=3, rng=0)
    assert run.chains.state.step == 3 * 80


def test_same_bits() -> None:
    rbm = random_rbm(9, 5, scale=0.4)
    options: dict[str, Any] = {"n_ladders": 3, "n_sweeps": 100}
    one = parallel_tempering(rbm, 4, rng=3, num_threads=1, **options)
    two = parallel_tempering(rbm, 4, rng=3, num_threads=2, **options)
    assert one.energies.tobytes() == two.energies.tobytes()
    assert one.energies.tobytes() != parallel_tempering(rbm, 4, rng=4, **options).energies.tobytes()


def run_bits(run: Any) -> list[bytes]:
    states = run.chains.state
    numbers = run.betas, run.energies, run.acceptance, run.round_trips, states.visible, states.hidden
    return [np.asarray(each).tobytes() for each in numbers]


OPTIONS: dict[str, Any] = {"n_ladders": 3, "n_sweeps": 40, "n_warmup": 21, "n_steps": 2, "rng": 3}


@pytest.mark.filterwarnings("ignore::vfe_fast.sampling.TemperingWarning")
@pytest.mark.parametrize("kind", ["bits", "spins"])
@pytest.mark.parametrize("sweep", [0, 1, 5, 6, 21, 22, 33, 60])
@pytest.mark.parametrize("after_the_swap", [False, True])
def test_checkpoint_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, sweep: int, after_the_swap: bool
) -> None:
    """Interrupted in whatever sweep of the warm-up (whose ladder moves at 2, 5, 10) or of the rest."""
    parameters = random_parameters(9, 5, scale=0.8)
    rbm: Any = vf.BernoulliRBM(*parameters) if kind == "bits" else vf.SpinRBM(*parameters)
    path = tmp_path / "run.npz"
    calls = []

    def interrupted(*args: Any) -> Any:
        found = swaps(*args) if after_the_swap else None
        calls.append(args)
        if len(calls) == sweep + 1:
            raise KeyboardInterrupt
        return found or swaps(*args)

    with monkeypatch.context() as patch:
        patch.setattr(tempering_module, "swaps", interrupted)
        with pytest.raises(KeyboardInterrupt):
            parallel_tempering(rbm, 4, checkpoint=path, **OPTIONS)
    assert int(np.load(path)["step"]) == 2 * sweep
    assert np.load(path)["energies"].shape == (4, 3, max(sweep - 21, 0))
    found = parallel_tempering(rbm, 4, checkpoint=path, **OPTIONS)
    expected = run_bits(parallel_tempering(rbm, 4, **OPTIONS))
    assert run_bits(found) == expected
    assert run_bits(parallel_tempering(rbm, 4, checkpoint=path, **OPTIONS)) == expected
    found.chains.step(3)  # chains that were read go on


@pytest.mark.filterwarnings("ignore::vfe_fast.sampling.TemperingWarning")
def test_checkpoint_belongs_to_one_run(tmp_path: Path) -> None:
    parameters, path = random_parameters(9, 5, scale=0.8), tmp_path / "run.npz"
    rbm = vf.BernoulliRBM(*parameters)
    parallel_tempering(rbm, 4, checkpoint=path, **OPTIONS)
    single = vf.BernoulliRBM(*(p.astype(np.float32) for p in parameters))
    same_numbers = vf.BernoulliRBM(*(p.astype(np.float64) for p in single.parameters))
    changes: list[dict[str, Any]] = [
        {"rng": 4}, {"betas": 5}, {"beta": 1.1}, {"n_ladders": 2}, {"n_sweeps": 41}, {"n_warmup": 20},
        {"n_steps": 1}, {"adapt": False}, {"model": vf.SpinRBM(*parameters)}, {"model": single},
    ]  # fmt: skip
    for change in changes:
        with pytest.raises(ValueError, match=r"^checkpoint: .* belongs to another"):
            parallel_tempering(**{"model": rbm, "betas": 4, "checkpoint": path, **OPTIONS, **change})
    path.unlink()
    parallel_tempering(single, 4, checkpoint=path, **OPTIONS)
    with pytest.raises(ValueError, match=r"^checkpoint: .* belongs to another model"):
        parallel_tempering(same_numbers, 4, checkpoint=path, **OPTIONS)


@pytest.mark.filterwarnings("ignore::vfe_fast.sampling.TemperingWarning")
def test_damaged_checkpoint(tmp_path: Path) -> None:
    rbm, path = random_rbm(9, 5), tmp_path / "run.npz"
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="expected a checkpoint of parallel tempering"):
        parallel_tempering(rbm, 4, checkpoint=path, **OPTIONS)
    path.unlink()
    parallel_tempering(rbm, 4, checkpoint=path, **OPTIONS)
    whole = dict(np.load(path))
    for name in set(whole) - {"format", "format_version", "identity", "seed"}:
        np.savez(path, **{key: array for key, array in whole.items() if key != name})
        with pytest.raises(ValueError, match=r"^checkpoint: .* is damaged"):
            parallel_tempering(rbm, 4, checkpoint=path, **OPTIONS)
        np.savez(path, **{**whole, name: np.full((2, 7), 7)})
        with pytest.raises(ValueError, match=r"^checkpoint: .* is damaged"):
            parallel_tempering(rbm, 4, checkpoint=path, **OPTIONS)


@pytest.mark.parametrize("how", ["Ctrl-C", "kill"])
def test_checkpoint_of_a_process_that_was_stopped(tmp_path: Path, how: str) -> None:
    """Stopped at a time of chance, the file has a part of the run, and the rest gives the same bits."""
    path = tmp_path / "run.npz"
    script = f"""
import numpy as np, vfe_fast as vf
from vfe_fast import files
from vfe_fast.sampling import parallel_tempering
files._WRITE_SECONDS = 0.05
rbm = vf.BernoulliRBM(np.full((9, 5), 0.3), np.linspace(-1, 0.5, 9), np.linspace(-2, 1, 5))
run = lambda n, **more: parallel_tempering(rbm, 4, n_ladders=2, n_sweeps=n, n_warmup=100, rng=3, **more)
if __name__ == "__main__":
    run(1_000_000, checkpoint={str(path)!r})
"""
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT if how == "Ctrl-C" else signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert ("KeyboardInterrupt" in said) == (how == "Ctrl-C"), said
    found = dict(np.load(path))
    recorded = found["energies"].shape[2]
    assert recorded > 0
    assert int(found["step"]) == 100 + recorded
    names: dict[str, Any] = {"__name__": "here"}
    exec(script, names)
    whole = names["run"](recorded)
    assert whole.energies.tobytes() == found["energies"].tobytes()
    assert whole.chains.state.visible.tobytes() == found["visible"].tobytes()
    assert whole.round_trips == found["trips"]


def test_mean_energies_agree_with_exact() -> None:
    rbm = random_rbm(8, 6, scale=0.8, seed=5)
    run = parallel_tempering(rbm, 5, beta=1.2, n_ladders=50, n_sweeps=400, rng=2)
    for beta, energies in zip(run.betas[1:], run.energies[1:], strict=True):
        stderr = energies.mean(axis=1).std(ddof=1) / math.sqrt(50)
        assert abs(energies.mean() - exact(rbm, beta=beta, moments=True).moments.energy) < 5 * stderr


@pytest.mark.parametrize(
    ("options", "error", "name"),
    [
        ({"model": vf.Ising(np.zeros((2, 2)))}, TypeError, "model"),
        ({"betas": 1}, ValueError, "betas"),
        ({"betas": [0.5]}, ValueError, "betas"),
        ({"betas": [0.5, 0.5]}, ValueError, "betas"),
        ({"betas": [-0.5, 0.5]}, ValueError, "betas"),
        ({"betas": [0.0, math.nan]}, ValueError, "betas"),
        ({"betas": [0.0, 1e-40]}, ValueError, "betas"),
        ({"betas": ["a", "b"]}, TypeError, "betas"),
        ({"betas": [0.0, 1j]}, TypeError, "betas"),
        ({"beta": 0.0}, ValueError, "beta"),
        ({"n_ladders": 0}, ValueError, "n_ladders"),
        ({"n_sweeps": 0}, ValueError, "n_sweeps"),
        ({"n_warmup": -1}, ValueError, "n_warmup"),
        ({"n_steps": 1.0}, TypeError, "n_steps"),
        ({"rng": "a"}, TypeError, "rng"),
        ({"num_threads": 0}, ValueError, "num_threads"),
        ({"checkpoint": 3}, TypeError, "checkpoint"),
        ({"checkpoint": "no/such/folder/run.npz"}, FileNotFoundError, "checkpoint"),
    ],
)
def test_bad_input(options: dict[str, Any], error: type[Exception], name: str) -> None:
    with pytest.raises(error, match=f"^{name}: "):
        parallel_tempering(**{"model": random_rbm(4, 3), **options})
