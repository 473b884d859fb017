"""Training: gradients against finite differences, updates against a loop by hand, runs that are resumed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

import vfe_fast as vf
from conftest import random_parameters, random_rbm
from vfe_fast import _core
from vfe_fast.training import (
    METHODS,
    Exact,
    ExponentialDecay,
    FastPersistentCD,
    LinearDecay,
    ParallelTempering,
    StopTraining,
)
from vfe_fast.training.averages import clamped, clamped_means
from vfe_fast.training.checkpoints import read_checkpoint
from vfe_fast.training.gradients import SamplerSettings
from vfe_fast.training.updates import Ascent, Memory

Parameters = tuple[np.ndarray, np.ndarray, np.ndarray]
OF_REAL_UNITS = {"score_matching", "denoising", "sliced"}
ALL_METHODS = sorted(METHODS.keys() - OF_REAL_UNITS)


# --- an independent RBM ---------------------------------------------------------------------------


def all_states(n: int) -> np.ndarray:
    return ((np.arange(2**n)[:, None] >> np.arange(n)) & 1).astype(np.float64)


def mean_log_likelihood(parameters: Parameters, data: np.ndarray) -> float:
    """Mean ln p(v) over data, every visible state enumerated."""
    weights, visible_bias, hidden_bias = parameters

    def log_weight(v: np.ndarray) -> np.ndarray:
        return v @ visible_bias + np.logaddexp(0.0, v @ weights + hidden_bias).sum(axis=1)

    everything = log_weight(all_states(len(visible_bias)))
    log_z = everything.max() + np.log(np.exp(everything - everything.max()).sum())
    return float(log_weight(data.astype(np.float64)).mean() - log_z)


def averages(parameters: Parameters, v: np.ndarray, p: np.ndarray) -> Parameters:
    """⟨vh⟩, ⟨v⟩ and ⟨h⟩ over visible states of probability p, in the order of the parameters."""
    weights, _, hidden_bias = parameters
    h = 1.0 / (1.0 + np.exp(-(v @ weights + hidden_bias)))
    return v.T @ (p[:, None] * h), p @ v, p @ h


def data_averages(parameters: Parameters, data: np.ndarray) -> Parameters:
    return averages(parameters, data.astype(np.float64), np.full(len(data), 1.0 / len(data)))


def model_averages(parameters: Parameters) -> Parameters:
    weights, visible_bias, hidden_bias = parameters
    v = all_states(len(visible_bias))
    p = np.exp(v @ visible_bias + np.logaddexp(0.0, v @ weights + hidden_bias).sum(axis=1))
    return averages(parameters, v, p / p.sum())


def central_differences(function: Callable[[Parameters], float], at: Parameters) -> Parameters:
    """Gradient to about 1e-10, with one step of Richardson's extrapolation."""

    def difference(k: int, index: tuple[int, ...], step: float) -> float:
        values = []
        for sign in (1.0, -1.0):
            moved = tuple(x.copy() for x in at)
            moved[k][index] += sign * step
            values.append(function(moved))
        return (values[0] - values[1]) / (2.0 * step)

    gradient = tuple(np.empty_like(x) for x in at)
    for k, x in enumerate(at):
        for index in np.ndindex(x.shape):
            gradient[k][index] = (4.0 * difference(k, index, 5e-4) - difference(k, index, 1e-3)) / 3.0
    return gradient


def skewed_data(n_samples: int, n_visible: int, seed: int = 0) -> np.ndarray:
    """Draw states whose units differ in their means and depend on one another."""
    rng = np.random.default_rng(seed)
    data = (rng.random((n_samples, n_visible)) < np.linspace(0.2, 0.8, n_visible)).astype(np.uint8)
    data[:, 1] |= data[:, 0]
    return data


def packed(states: np.ndarray) -> np.ndarray:
    return _core.pack_states(states, states.shape[1], "states")


# --- gradients ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_visible", "n_hidden"), [(4, 3), (3, 5)])  # either layer the smaller
def test_exact_gradient(n_visible: int, n_hidden: int) -> None:
    rbm = random_rbm(n_visible, n_hidden)
    data = skewed_data(7, n_visible)
    found = METHODS["exact"](rbm, SamplerSettings(1, 1, 0)).contrast(packed(data), 0).gradient
    expected = central_differences(partial(mean_log_likelihood, data=data), rbm.parameters)
    largest = max(np.abs(x).max() for x in expected)
    for mine, theirs in zip((found.visible_hidden, found.visible, found.hidden), expected, strict=True):
        assert np.abs(theirs).min() > 1e-4  # no entry is zero by symmetry, where a wrong one could hide
        np.testing.assert_allclose(mine, theirs, rtol=1e-7, atol=1e-9 * largest)


@pytest.mark.parametrize(("n_visible", "n_hidden"), [(4, 3), (3, 5)])
def test_centered_gradient(n_visible: int, n_hidden: int) -> None:
    """The parameters of E = -(v - mu)'A - (h - la)'B - (v - mu)'W(h - la) move uphill; ours move along."""
    rbm = random_rbm(n_visible, n_hidden)
    data = skewed_data(7, n_visible)
    rng = np.random.default_rng(1)
    mu, la = rng.uniform(0.1, 0.9, n_visible), rng.uniform(0.1, 0.9, n_hidden)

    def usual(centered: Parameters) -> Parameters:
        weights, visible_bias, hidden_bias = centered
        return weights, visible_bias - weights @ la, hidden_bias - weights.T @ mu

    weights, visible_bias, hidden_bias = rbm.parameters
    here = (weights, visible_bias + weights @ la, hidden_bias + weights.T @ mu)
    uphill = central_differences(lambda c: mean_log_likelihood(usual(c), data), here)
    expected = usual(uphill)  # the map is linear: it takes a step to a step

    contrast = METHODS["exact"](rbm, SamplerSettings(1, 1, 0)).contrast(packed(data), 0)
    found, memory = Ascent()(rbm.parameters, Memory(), contrast, (mu, la), 1.0, 0)
    for mine, before, step in zip(found, rbm.parameters, expected, strict=True):
        np.testing.assert_allclose(mine - before, step, rtol=1e-7, atol=1e-9)
    assert memory == Memory()


@pytest.mark.parametrize("method", ["cd", "pcd"])
def test_sampled_gradients_agree_with_the_exact_one(method: str) -> None:
    """On average: CD started from, and PCD left to find, the model's own distribution."""
    rbm = random_rbm(4, 3, scale=0.5)
    n = 20_000
    start = vf.GibbsChains(rbm, n, rng=1)
    start.step(50)
    batch = packed(start.visible)
    estimate = METHODS[method](rbm, SamplerSettings(50, n, 2)).contrast(batch, 0).gradient
    expected = METHODS["exact"](rbm, SamplerSettings(1, 1, 0)).contrast(batch, 0).gradient
    # Each entry has a standard deviation below 0.5 / sqrt(n) = 0.0035 and we ask for 5.5 of them: with
    # 19 entries a false alarm once in 1e6 seeds; the seed is fixed.
    for field in ("visible", "hidden", "visible_hidden"):
        np.testing.assert_allclose(getattr(estimate, field), getattr(expected, field), rtol=0, atol=0.0195)


def test_persistent_chains_are_those_of_the_sampler() -> None:
    """At fixed parameters: an update moves them as `GibbsChains` does."""
    rbm = random_rbm(70, 30, scale=0.2)
    chains = vf.GibbsChains(rbm, 40, rng=3)
    gradient = METHODS["pcd"](rbm, SamplerSettings(2, 40, 3))
    batch = packed(skewed_data(5, 70))
    for update in range(3):
        chains.step(2)
        gradient.contrast(batch, update)
        np.testing.assert_array_equal(gradient.state["visible"], chains.state.visible)


def test_swaps_keep_the_law() -> None:
    """After many updates each temperature has its own joint law, to the four units' last state."""
    rbm = random_rbm(2, 2, scale=2.0)
    n_chains, n_temperatures = 20_000, 4
    maker = partial(ParallelTempering, n_temperatures=n_temperatures)
    gradient = maker(rbm, SamplerSettings(1, n_chains, 5))
    for update in range(40):
        gradient.contrast(packed(all_states(2)), update)
    weights, visible_bias, hidden_bias = rbm.parameters
    v, h = np.repeat(all_states(2), 4, axis=0), np.tile(all_states(2), (4, 1))
    energy = -(v @ visible_bias) - h @ hidden_bias - np.einsum("si,ij,sj->s", v, weights, h)
    states = np.concatenate((gradient.replicas.visible, gradient.replicas.hidden), axis=1)
    numbers = (states @ [4, 8, 1, 2]).reshape(n_temperatures, n_chains)
    moved = 0.0
    for beta, found in zip(gradient.betas, numbers, strict=True):
        p = np.exp(-beta * energy)
        p /= p.sum()
        counts = np.bincount(found, minlength=16)
        chi_square = ((counts - n_chains * p) ** 2 / (n_chains * p)).sum()
        assert chi_square < 50.0  # 15 degrees of freedom: a false alarm in 10^5 seeds; the seed is fixed
        moved = max(moved, abs(p - 1 / 16).max())
    assert moved > 0.2  # the laws differ


def test_swaps_bring_chains_over_barriers() -> None:
    """Two deep valleys, all chains in one of them: only states from hot chains reach the other at beta = 1.

    All pairs of neighbors are tried, also if there is an even number of steps between swaps.
    """
    rbm = vf.BernoulliRBM(np.full((4, 4), 4.0), np.full(4, -7.9), np.full(4, -8.0))
    gradient = ParallelTempering(rbm, SamplerSettings(2, 500, 5))
    np.testing.assert_allclose(gradient.betas, np.linspace(0, 1, 10), rtol=1e-15)
    chains = vf.GibbsChains(rbm, 500, rng=5)
    chains.step(800)
    assert chains.visible.mean() < 0.01  # without swaps
    at_one = []
    for update in range(400):
        found = gradient.contrast(packed(all_states(4)), update)
        at_one.append(found.model_visible)
    expected = model_averages(rbm.parameters)[1]
    assert (expected > 0.55).all()
    # Off by 0.003 to 0.006 for three seeds.
    np.testing.assert_allclose(np.mean(at_one[200:], axis=0), expected, atol=0.05)


@pytest.mark.parametrize("kind", [vf.BernoulliRBM, vf.GaussianRBM])
def test_each_update_draws_numbers_of_its_own(kind: Any) -> None:
    """Update k of CD-n takes the n steps from k n on: noise that two updates share would not average out."""
    rbm = kind(*random_parameters(5, 4))
    v = skewed_data(30, 5).astype(np.uint8 if kind is vf.BernoulliRBM else np.float64)
    gradient = METHODS["cd"](rbm, SamplerSettings(3, 1, 9))
    for update in (0, 1, 7):
        found = gradient.contrast(packed(v) if kind is vf.BernoulliRBM else v, update)
        moved, _ = vf.gibbs(rbm, v, 3, rng=9, step_offset=3 * update)
        np.testing.assert_allclose(found.model_visible, moved.mean(axis=0), rtol=0, atol=1e-12)


def test_fast_weights_by_hand() -> None:
    """Two updates: chains of the pushed model, the gradient, and the fast parameters after it."""
    rbm = random_rbm(5, 4, scale=0.5)
    data = skewed_data(20, 5)
    gradient = FastPersistentCD(rbm, SamplerSettings(2, 30, 9), fast_rate=0.3)
    chains = vf.GibbsChains(rbm, 30, rng=9)
    fast = tuple(np.zeros_like(p) for p in rbm.parameters)
    for update in range(2):
        pushed = tuple(p + f for p, f in zip(rbm.parameters, fast, strict=True))
        chains.rbm = vf.BernoulliRBM(*pushed)
        chains.step(2)
        found = gradient.contrast(packed(data), update).gradient
        model = data_averages(pushed, chains.visible)
        expected = [x - y for x, y in zip(data_averages(rbm.parameters, data), model, strict=True)]
        for mine, theirs in zip((found.visible_hidden, found.visible, found.hidden), expected, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-12)
        fast = tuple(0.95 * f + 0.3 * g for f, g in zip(fast, expected, strict=True))
    for mine, theirs in zip(gradient.fast, fast, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-12)


def test_means_of_many_states_in_float32() -> None:
    """Neither of many samples at once nor of pieces of them does rounding add up."""
    rbm = vf.BernoulliRBM(np.zeros((3, 2), np.float32), np.zeros(3, np.float32), np.full(2, 0.31, np.float32))
    words = np.zeros((200_000, 1), np.uint64)
    words[::3] = 5
    expected = 1 / (1 + np.exp(-np.float64(np.float32(0.31))))
    np.testing.assert_allclose(clamped(rbm, words).hidden, expected, rtol=3e-7)
    visible, hidden = clamped_means(rbm, words)
    np.testing.assert_allclose(hidden, expected, rtol=3e-7)
    np.testing.assert_allclose(visible, [66_667 / 200_000, 0.0, 66_667 / 200_000], rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_averages_of_many_states(dtype: Any) -> None:
    """In pieces of 4,096, the last of another size, whose averages differ: each counts by its states."""
    rbm = random_rbm(5, 3, scale=0.7, dtype=dtype)
    v = (np.random.default_rng(1).random((9000, 5)) < np.linspace(0.1, 0.6, 9000)[:, None]).astype(np.uint8)
    found, expected = clamped(rbm, packed(v)), data_averages(rbm.parameters, v)
    for mine, theirs in zip((found.visible_hidden, found.visible, found.hidden), expected, strict=True):
        assert mine.dtype == dtype
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=2e-5 if dtype == np.float32 else 1e-13)


def test_what_diverges_is_named() -> None:
    data = skewed_data(20, 4)
    with pytest.raises(ValueError, match=r"^fast_rate: "):
        vf.train(
            random_rbm(4, 3, dtype=np.float32), data, method=partial(FastPersistentCD, fast_rate=1e31), rng=0
        )
    huge = vf.BernoulliRBM(*(np.full_like(p, 1e25) for p in random_rbm(4, 3, dtype=np.float32).parameters))
    with pytest.raises(ValueError, match=r"^learning_rate: training diverged"):
        vf.train(huge, data, optimizer="adam", weight_decay=0.1, n_epochs=1, rng=0)


def test_methods_with_options(tmp_path: Path) -> None:
    data, path = skewed_data(20, 5), tmp_path / "run.npz"
    options: dict[str, Any] = {"batch_size": 10, "rng": 0, "checkpoint": path}
    few, many = (partial(ParallelTempering, n_temperatures=n) for n in (3, 4))
    vf.train(random_rbm(5, 3), data, method=few, n_epochs=1, **options)
    with pytest.raises(ValueError, match="n_temperatures=3"):
        vf.train(random_rbm(5, 3), data, method=many, n_epochs=2, resume=True, **options)
    history = vf.train(random_rbm(5, 3), data, method=few, n_epochs=2, resume=True, **options)
    assert len(history.records) == 2
    with pytest.raises(ValueError, match=r"^n_temperatures: expected"):
        vf.train(random_rbm(5, 3), data, method=partial(ParallelTempering, n_temperatures=1), rng=0)


# --- learning -------------------------------------------------------------------------------------

COUNTS = {(0, 0, 1, 0): 12, (1, 1, 0, 0): 9, (1, 1, 0, 1): 6, (0, 1, 1, 1): 4, (1, 0, 0, 0): 1}


def known_distribution() -> tuple[np.ndarray, float]:
    """States with known frequencies, and their mean log-likelihood under the best of all models."""
    data = np.repeat(list(COUNTS), list(COUNTS.values()), axis=0)
    p = np.array(list(COUNTS.values())) / len(data)
    return data, float(np.sum(p * np.log(p)))


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("method", ALL_METHODS)
def test_training_raises_the_likelihood(method: str, centered: bool) -> None:
    data, best = known_distribution()
    rbm = vf.BernoulliRBM.from_data(data, 6, rng=3, dtype=np.float64)
    before = mean_log_likelihood(rbm.parameters, data)
    vf.train(
        rbm, data, method=method, n_epochs=400, batch_size=16, learning_rate=LinearDecay(0.6, 0.02, 400),
        n_gibbs_steps=3, n_chains=200, centered=centered, rng=4,
    )  # fmt: skip
    after = mean_log_likelihood(rbm.parameters, data)
    assert after < best  # nothing beats the entropy
    assert best - after < 0.2 * (best - before)  # the seed is fixed; others leave 0.09 to 0.14


def test_exact_training_reaches_the_entropy() -> None:
    data, best = known_distribution()
    rbm = vf.BernoulliRBM.from_data(data, 6, rng=3, dtype=np.float64)
    vf.train(
        rbm, data, method="exact", n_epochs=1500, batch_size=len(data), learning_rate=1.0, momentum=0.8, rng=4
    )
    assert 0.0 < best - mean_log_likelihood(rbm.parameters, data) < 0.01


# --- updates --------------------------------------------------------------------------------------

SCHEDULES: dict[str, tuple[Any, Callable[[float], float]]] = {
    "constant": (0.3, lambda epoch: 0.3),
    "callable": (lambda epoch: 0.2 / (1.0 + epoch), lambda epoch: 0.2 / (1.0 + epoch)),
    "linear": (LinearDecay(0.4, 0.1, 1.25), lambda epoch: max(0.4 - 0.3 * epoch / 1.25, 0.1)),
    "exponential": (ExponentialDecay(0.5, 0.75), lambda epoch: 0.5 * np.exp(-np.log(2.0) * epoch / 0.75)),
}


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_updates_against_a_loop_by_hand(
    monkeypatch: pytest.MonkeyPatch, schedule: str, centered: bool, optimizer: str
) -> None:
    given, rate = SCHEDULES[schedule]
    data = skewed_data(10, 4)
    batches: list[np.ndarray] = []
    exact = METHODS["exact"].contrast  # type: ignore[attr-defined]

    def watched(self: Any, batch: np.ndarray, update: int) -> Any:
        assert update == len(batches)
        batches.append(_core.unpack_states(batch, 4))
        return exact(self, batch, update)

    monkeypatch.setattr(METHODS["exact"], "contrast", watched)
    rbm = random_rbm(4, 3, scale=0.5)
    parameters = tuple(p.copy() for p in rbm.parameters)
    history = vf.train(
        rbm, data, method="exact", n_epochs=2, batch_size=5, learning_rate=given, momentum=0.7,
        weight_decay=0.05, centered=centered, rng=0,
        optimizer=optimizer, sparsity_target=0.2, sparsity_cost=0.3,
    )  # fmt: skip

    velocity = [np.zeros_like(p) for p in parameters]
    squares = [np.zeros_like(p) for p in parameters]
    _, mu, la = data_averages(parameters, data)
    for k, batch in enumerate(batches):
        from_data, from_model = data_averages(parameters, batch), model_averages(parameters)
        gradient = [x - y for x, y in zip(from_data, from_model, strict=True)]
        if centered:
            mu, la = 0.99 * mu + 0.01 * from_data[1], 0.99 * la + 0.01 * from_data[2]
            weights = gradient[0] - np.outer(mu, gradient[2]) - np.outer(gradient[1], la)
            gradient = [weights, gradient[1] - weights @ la, gradient[2] - weights.T @ mu]
        gradient[0] = gradient[0] - 0.05 * parameters[0]
        gradient[2] = gradient[2] + 0.3 * (0.2 - from_data[2])
        if optimizer == "adam":
            velocity = [0.7 * u + 0.3 * g for u, g in zip(velocity, gradient, strict=True)]
            squares = [0.999 * s + 0.001 * g**2 for s, g in zip(squares, gradient, strict=True)]
            mean = [u / (1 - 0.7 ** (k + 1)) for u in velocity]
            spread = [np.sqrt(s / (1 - 0.999 ** (k + 1))) for s in squares]
            steps = [rate(k / 2) * u / (s + 1e-8) for u, s in zip(mean, spread, strict=True)]
        else:
            velocity = [0.7 * u + rate(k / 2) * g for u, g in zip(velocity, gradient, strict=True)]
            steps = velocity
        parameters = tuple(p + u for p, u in zip(parameters, steps, strict=True))
    assert len(batches) == 4
    for mine, theirs in zip(rbm.parameters, parameters, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-12)
    assert [r["learning_rate"] for r in history.records] == pytest.approx([rate(1), rate(2)], rel=1e-14)


def test_minibatches_are_a_partition_in_a_new_order(monkeypatch: pytest.MonkeyPatch) -> None:
    data = all_states(4).astype(np.uint8)[:11]  # eleven states, all different
    batches: list[np.ndarray] = []
    contrast = METHODS["cd"].contrast  # type: ignore[attr-defined]

    def watched(self: Any, batch: np.ndarray, update: int) -> Any:
        batches.append(_core.unpack_states(batch, 4))
        return contrast(self, batch, update)

    monkeypatch.setattr(METHODS["cd"], "contrast", watched)
    vf.train(random_rbm(4, 3), data, method="cd", n_epochs=2, batch_size=4, rng=0)
    assert [len(b) for b in batches] == [4, 4, 3] * 2
    epochs = [np.concatenate(batches[:3]), np.concatenate(batches[3:])]
    for epoch in epochs:
        assert sorted(map(tuple, epoch)) == sorted(map(tuple, data))
    assert not np.array_equal(*epochs)


def test_schedules() -> None:
    assert [LinearDecay(1.0, 0.5, 10)(t) for t in (0, 5, 10, 20)] == pytest.approx([1.0, 0.75, 0.5, 0.5])
    assert [ExponentialDecay(1.0, 2.0)(t) for t in (0, 1, 2, 4)] == pytest.approx([1.0, 2**-0.5, 0.5, 0.25])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("method", ALL_METHODS)
def test_training_keeps_the_dtype(method: str, dtype: Any) -> None:
    rbm = random_rbm(4, 3, dtype=dtype)
    vf.train(
        rbm, skewed_data(10, 4), method=method, n_epochs=2, batch_size=4, centered=True, rng=0, momentum=0.5
    )
    assert {p.dtype for p in rbm.parameters} == {np.dtype(dtype)}


@pytest.mark.parametrize("method", ["cd", "pcd"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_threads_do_not_matter(method: str, dtype: Any) -> None:
    """With enough chains and units for several threads to be started."""
    data = skewed_data(400, 96)
    results = []
    for num_threads in (1, 2, 7):
        rbm = vf.BernoulliRBM.from_data(data, 64, rng=0, dtype=dtype)
        vf.train(
            rbm, data, method=method, n_epochs=1, batch_size=200, n_chains=700, n_gibbs_steps=25,
            learning_rate=0.1, rng=1, num_threads=num_threads,
        )  # fmt: skip
        results.append(b"".join(p.tobytes() for p in rbm.parameters))
    assert results[0] == results[1] == results[2]


def test_threads_do_not_matter_to_exact_training() -> None:
    results = []
    for num_threads in (1, 2, 7):
        rbm = random_rbm(24, 16, scale=0.1)
        vf.train(
            rbm,
            skewed_data(50, 24),
            method="exact",
            n_epochs=2,
            batch_size=50,
            rng=1,
            num_threads=num_threads,
        )
        results.append(b"".join(p.tobytes() for p in rbm.parameters))
    assert results[0] == results[1] == results[2]


def test_seeds() -> None:
    data = skewed_data(30, 4)

    def weights(rng: Any) -> bytes:
        rbm = random_rbm(4, 3)
        vf.train(rbm, data, n_epochs=2, batch_size=10, rng=rng)
        return rbm.weights.tobytes()

    assert weights(5) == weights(5)
    assert weights(5) != weights(6)
    assert weights(np.random.default_rng(5)) == weights(np.random.default_rng(5))
    generator = np.random.default_rng(5)
    assert weights(generator) != weights(generator)  # it has advanced
    assert weights(None) != weights(None)  # equal once in 2^64


# --- stopping and going on ------------------------------------------------------------------------

N_EPOCHS = 4
N_BATCHES = 3


class Run:
    """A small training run that can be repeated with one thing changed."""

    def __init__(self, method: str, centered: bool = False, dtype: Any = np.float64) -> None:
        self.rbm = random_rbm(5, 3, scale=0.3, dtype=dtype)
        self.data = skewed_data(20, 5)
        self.options: dict[str, Any] = {
            "method": method, "centered": centered, "batch_size": 8, "n_chains": 11, "n_gibbs_steps": 2,
            "learning_rate": LinearDecay(0.3, 0.1, N_EPOCHS), "momentum": 0.6, "weight_decay": 0.01, "rng": 7,
        }  # fmt: skip

    def train(self, n_epochs: int = N_EPOCHS, **changes: Any) -> tuple[vf.BernoulliRBM, Any]:
        rbm = vf.BernoulliRBM(*self.rbm.parameters)
        return rbm, self.train_on(rbm, n_epochs, **changes)

    def train_on(self, rbm: vf.BernoulliRBM, n_epochs: int = N_EPOCHS, **changes: Any) -> Any:
        callbacks = [vf.training.ExactLogLikelihood(data=self.data), *changes.pop("callbacks", ())]
        return vf.train(
            rbm, self.data, **self.options | {"n_epochs": n_epochs, "callbacks": callbacks} | changes
        )


def parameter_bits(rbm: vf.BernoulliRBM) -> bytes:
    return b"".join(p.tobytes() for p in rbm.parameters)


def stored_bits(checkpoint: Path) -> bytes:
    return b"".join(p.tobytes() for p in read_checkpoint(checkpoint, {})[0].parameters)


def without_seconds(history: Any) -> list[dict[str, float]]:
    return [{k: v for k, v in record.items() if k != "seconds"} for record in history.records]


def assert_same_run(found: tuple[vf.BernoulliRBM, Any], expected: tuple[vf.BernoulliRBM, Any]) -> None:
    assert parameter_bits(found[0]) == parameter_bits(expected[0])
    assert without_seconds(found[1]) == without_seconds(expected[1])
    assert not found[1].interrupted


CASES = pytest.mark.parametrize(
    ("method", "centered"), [(m, c) for m in ALL_METHODS for c in (False, True)], ids=str
)


@CASES
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_resume_at_the_end_of_an_epoch(tmp_path: Path, method: str, centered: bool, dtype: Any) -> None:
    run = Run(method, centered, dtype)
    straight = run.train()
    options = {"checkpoint": tmp_path / "run.npz", "resume": True}
    for n_epochs in (0, 1, 1, 3):
        _, history = run.train(n_epochs, **options)
        assert len(history.records) == n_epochs
    assert_same_run(run.train(**options), straight)
    assert_same_run(run.train(**options), straight)  # nothing left to do
    assert os.listdir(tmp_path) == ["run.npz"]


def test_resume_keeps_a_seed_that_was_not_given(tmp_path: Path) -> None:
    run = Run("pcd")
    options = {"checkpoint": tmp_path / "run.npz", "rng": None}
    run.train(2, **options)
    first, _ = run.train(3, **options, resume=True)
    second, _ = run.train(3, **options, resume=True)
    assert parameter_bits(first) == parameter_bits(second)


def test_checkpoints_every_few_epochs(tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    seen: list[bool] = []

    def callback(epoch: Any) -> None:
        seen.append(path.exists())

    Run("cd").train(5, checkpoint=path, checkpoint_every=2, callbacks=[callback])
    assert seen == [False, False, True, True, True]
    assert path.exists()


class Bomb:
    """Calls through, and interrupts at the n-th call, before or after it."""

    def __init__(self, function: Callable[..., Any], n: int, when: str, how: str) -> None:
        self.function, self.n, self.when, self.how = function, n, when, how
        self.calls = 0

    def go_off(self) -> None:
        if self.how == "signal":
            signal.raise_signal(signal.SIGINT)
        else:
            raise KeyboardInterrupt

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        if self.calls == self.n and self.when == "before":
            self.go_off()
        result = self.function(*args, **kwargs)
        if self.calls == self.n and self.when == "after":
            self.go_off()
        return result

    def __get__(self, instance: Any, owner: Any) -> Any:
        return self if instance is None else partial(self, instance)


def updates_of(run: Run, n_epochs: int = N_EPOCHS) -> list[bytes]:
    """Parameters at the start and after every update of the uninterrupted run."""
    seen = [parameter_bits(run.rbm)]
    original = vf.BernoulliRBM.set_parameters

    def watched(self: vf.BernoulliRBM, *parameters: Any) -> None:
        original(self, *parameters)
        if parameter_bits(self) != seen[-1]:
            seen.append(parameter_bits(self))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vf.BernoulliRBM, "set_parameters", watched)
        run.train(n_epochs)
    assert len(seen) == 1 + n_epochs * N_BATCHES
    return seen


BOMBS = [
    ("vfe_fast._core.free_energy", ["cd", "pcd", "exact"]),
    ("vfe_fast._core.contrast", ["cd", "pcd"]),
    ("vfe_fast._core.ascend", ["pcd"]),
    ("vfe_fast._core.exact_rbm", ["exact"]),
    ("vfe_fast.training.gradients.ContrastiveDivergence.contrast", ["cd"]),
    ("vfe_fast.training.gradients.PersistentCD.contrast", ["pcd"]),
    ("vfe_fast.training.gradients.Exact.contrast", ["exact"]),
    ("vfe_fast.training.callbacks.ExactLogLikelihood.__call__", ["cd", "pcd", "exact"]),
    ("vfe_fast.training.progress.ProgressBar.update", ["pcd"]),
    ("vfe_fast.training.loop.write_checkpoint", ["pcd"]),
    ("vfe_fast.BernoulliRBM.set_parameters", ["cd", "pcd", "exact"]),
]


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize(
    ("place", "method"),
    [pytest.param(p, m, id=f"{p.removeprefix('vfe_fast.')}-{m}") for p, methods in BOMBS for m in methods],
)
def test_interrupts_in_the_middle(tmp_path: Path, place: str, method: str, centered: bool) -> None:
    """The model is at a whole update, the history says so, and the run goes on as if nothing had been."""
    run = Run(method, centered)
    straight = run.train()
    updates = updates_of(run)
    owner, _, name = place.rpartition(".")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda number: None)  # for speed
        for how in ("exception", "signal"):
            for when in ("before", "after"):
                for n in (2, 3, 4, 7):
                    path = tmp_path / f"{how}-{when}-{n}.npz"
                    rbm = vf.BernoulliRBM(*run.rbm.parameters)
                    with pytest.MonkeyPatch.context() as inner:
                        target = resolve(owner)
                        bomb = Bomb(getattr(target, name), n, when, how)
                        inner.setattr(target, name, bomb)
                        history = run.train_on(rbm, checkpoint=path)
                    if bomb.calls < n:
                        assert not history.interrupted  # over before the bomb
                        continue
                    assert history.interrupted
                    assert parameter_bits(rbm) in updates
                    assert parameter_bits(rbm) == stored_bits(path)
                    assert len(history.records) < N_EPOCHS or place.endswith(("update", "write_checkpoint"))
                    assert without_seconds(history) == without_seconds(straight[1])[: len(history.records)]
                    np.testing.assert_array_equal(rbm.energy([[1, 0, 1, 0, 1]], [[1, 0, 1]]).shape, (1,))
                    assert_same_run(run.train(checkpoint=path, resume=True), straight)


def resolve(dotted: str) -> Any:
    """Find the object of that name."""
    found: Any = vf
    for part in dotted.split(".")[1:]:
        found = getattr(found, part)
    return found


LOOP_FILES = tuple(os.path.join(os.path.dirname(vf.__file__), *p) for p in (("training",), ("sampling",)))
INSIDE = {"epoch", "end_epoch", "_updated", "update", "_batches"}


class LineBomb:
    """Interrupts when the n-th line of the training code is about to run; counts lines if n is None."""

    def __init__(self, n: int | None) -> None:
        self.n, self.lines, self.inside = n, 0, False

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "call":
            return self if frame.f_code.co_filename.startswith(LOOP_FILES) else None
        if event == "line":
            self.lines += 1
            if self.lines == self.n:
                self.inside = any(f.f_code.co_name in INSIDE for f in callers(frame))
                raise KeyboardInterrupt
        return self

    def __enter__(self) -> LineBomb:
        self.before = sys.gettrace()
        sys.settrace(self)
        return self

    def __exit__(self, *error: Any) -> None:
        sys.settrace(self.before)


def callers(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None and frame.f_code.co_name != "train":
        yield frame
        frame = frame.f_back


@pytest.mark.parametrize(("method", "centered"), [("cd", False), ("pcd", True), ("exact", True)])
def test_interrupts_at_any_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, centered: bool
) -> None:
    """Whatever line of the loop an interrupt hits, what is on disk continues to the very same end."""
    monkeypatch.setattr(os, "fsync", lambda number: None)
    run = Run(method, centered)
    straight = run.train(2)
    updates = updates_of(run, 2)
    with LineBomb(None) as counter:
        run.train(2, checkpoint=tmp_path / "count.npz")
    n_caught = 0
    lines = range(1, counter.lines + 1, 5)
    for n in lines:
        path = tmp_path / f"{n}.npz"
        rbm = vf.BernoulliRBM(*run.rbm.parameters)
        bomb = LineBomb(n)
        try:
            with bomb:
                history = run.train_on(rbm, 2, checkpoint=path)
        except KeyboardInterrupt:
            assert not bomb.inside, n  # while the run was being set up, or stored away: not to be swallowed
        else:
            n_caught += 1
            assert history.interrupted
            assert parameter_bits(rbm) == stored_bits(path), n
        assert parameter_bits(rbm) in updates, n
        assert_same_run(run.train(2, checkpoint=path, resume=True), straight)
    assert n_caught > len(lines) // 2


def endless_run(path: str) -> None:
    """Train until stopped from outside; run by a process of its own."""

    def callback(epoch: Any) -> None:
        print(epoch.number, flush=True)
        time.sleep(0.002)

    rbm, history = Run("pcd", centered=True).train(10**6, checkpoint=path, callbacks=[callback])
    rbm.save(f"{path}.model")
    print("interrupted" if history.interrupted else "finished", flush=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda s: s.name)
def test_process_stopped_from_outside(tmp_path: Path, number: signal.Signals) -> None:
    path = tmp_path / "run.npz"
    folders = [str(Path(__file__).parent), str(Path(vf.__file__).parents[1])]
    child = subprocess.Popen(
        [sys.executable, "-c", f"import test_training; test_training.endless_run({str(path)!r})"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout is not None
        for line in child.stdout:
            if line == "3\n":
                break
        child.send_signal(number)
        output, errors = child.communicate(timeout=60)
    run = Run("pcd", centered=True)
    if number == signal.SIGINT:
        assert output.endswith("interrupted\n")
        assert errors == ""
        assert child.returncode == 0
    else:
        assert child.returncode == -number
    rbm, history = run.train(0, checkpoint=path, resume=True)
    if number == signal.SIGINT:
        assert parameter_bits(vf.load(f"{path}.model")) == parameter_bits(rbm)
    done = len(history.records)
    assert done >= 2  # the third was under way
    assert_same_run(run.train(done + 2, checkpoint=path, resume=True), run.train(done + 2))


# --- checkpoints that do not belong ---------------------------------------------------------------

OTHER_RUNS: dict[str, tuple[dict[str, Any], str]] = {
    "method": ({"method": "cd"}, "method"),
    "batch size": ({"batch_size": 9}, "batch_size"),
    "learning rate": ({"learning_rate": 0.1}, "learning_rate"),
    "schedule": ({"learning_rate": LinearDecay(0.3, 0.1, 99)}, "learning_rate"),
    "momentum": ({"momentum": 0.0}, "momentum"),
    "weight decay": ({"weight_decay": 0.0}, "weight_decay"),
    "centered": ({"centered": True}, "centered"),
    "Gibbs steps": ({"n_gibbs_steps": 3}, "n_gibbs_steps"),
    "chains": ({"n_chains": 12}, "n_chains"),
    "seed": ({"rng": 8}, "seed"),
}


@pytest.mark.parametrize("change", OTHER_RUNS)
def test_checkpoint_of_other_settings(tmp_path: Path, change: str) -> None:
    path = tmp_path / "run.npz"
    run = Run("pcd")
    run.train(1, checkpoint=path)
    before = path.read_bytes()
    options, name = OTHER_RUNS[change]
    rbm = vf.BernoulliRBM(*run.rbm.parameters)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}: .*{name}"):
        run.train_on(rbm, 2, checkpoint=path, resume=True, **options)
    assert parameter_bits(rbm) == parameter_bits(run.rbm)
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["data", "model", "dtype"])
def test_checkpoint_of_other_data_or_model(tmp_path: Path, name: str) -> None:
    path = tmp_path / "run.npz"
    run = Run("pcd")
    run.train(1, checkpoint=path)
    if name == "data":
        run.data = run.data.copy()
        run.data[3, 2] ^= 1
    else:
        run.rbm = random_rbm(5, 4) if name == "model" else random_rbm(5, 3, dtype=np.float32)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}: .*(data|model)"):
        run.train(2, checkpoint=path, resume=True)


def test_existing_checkpoint_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    run = Run("cd")
    run.train(1, checkpoint=path)
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match=r"^checkpoint: .*resume"):
        run.train(1, checkpoint=path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", ["empty", "truncated", "model", "text"])
def test_what_is_no_checkpoint_is_refused_and_kept(tmp_path: Path, content: str) -> None:
    path = tmp_path / "run.npz"
    run = Run("cd")
    if content == "truncated":
        run.train(1, checkpoint=path)
        path.write_bytes(path.read_bytes()[:-100])
    elif content == "model":
        run.rbm.save(path)
    else:
        path.write_text("" if content == "empty" else "epoch,loss\n1,2\n")
    before = path.read_bytes()
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}: .*checkpoint"):
        run.train(2, checkpoint=path, resume=True)
    assert path.read_bytes() == before


# --- callbacks, history, progress -----------------------------------------------------------------


def test_printed_history() -> None:
    """The epochs with metrics, or all; of many the first and the last five."""
    records = tuple(
        {"epoch": n, "seconds": n / 8, **({"score": -1 / 3} if n % 2 == 0 else {})} for n in range(1, 6)
    )
    assert str(vf.training.History(records, True, 0.625)).split("\n") == [
        "History(5 epochs, 0.625 s, interrupted)",
        "epoch  seconds      score",
        "    2     0.25  -0.333333",
        "    4      0.5  -0.333333",
    ]
    plain = tuple({"epoch": float(n)} for n in range(1, 13))
    first_ten, all_twelve = (str(vf.training.History(plain[:n], False, 0.0)).split("\n") for n in (10, 12))
    assert [line.strip() for line in first_ten[2:]] == [str(n) for n in range(1, 11)]
    assert [line.strip() for line in all_twelve[2:]] == [*"12345", "...", "8", "9", "10", "11", "12"]
    empty = vf.training.History((), False, 0.0)
    assert str(empty) == repr(empty) == "History(0 epochs, 0 s)"
    assert repr(vf.training.History(plain[:1], False, 1.0)) == "History(1 epoch, 1 s)"


def test_callbacks_and_history() -> None:
    run = Run("cd")
    seen: list[tuple[int, int, int | None]] = []

    def every_other(epoch: Any) -> dict[str, float] | None:
        seen.append((epoch.number, epoch.n_epochs, epoch.num_threads))
        assert isinstance(epoch.rbm, vf.BernoulliRBM)
        return {"square": float(epoch.number**2)} if epoch.number % 2 == 0 else None

    rbm, history = run.train(callbacks=[every_other], num_threads=2)
    assert seen == [(k, N_EPOCHS, 2) for k in (1, 2, 3, 4)]
    assert [record["epoch"] for record in history.records] == [1, 2, 3, 4]
    epochs, squares = history.metric("square")
    np.testing.assert_array_equal(epochs, [2, 4])
    np.testing.assert_array_equal(squares, [4, 16])
    assert (squares.dtype, epochs.dtype) == (np.float64, np.float64)
    assert [len(x) for x in history.metric("nothing")] == [0, 0]
    _, log_likelihood = history.metric("log_likelihood_data")
    assert log_likelihood[-1] == pytest.approx(mean_log_likelihood(rbm.parameters, run.data), abs=1e-12)
    seconds = history.metric("seconds")[1]
    assert np.all(np.diff(seconds) >= 0)
    assert history.seconds == seconds[-1] > 0
    assert not history.interrupted


def test_callbacks_do_not_disturb_the_run() -> None:
    plain, _ = Run("pcd").train()
    watched, _ = Run("pcd").train(
        callbacks=[lambda epoch: epoch.rbm.mean_hidden(np.ones((3, 5))).mean() and None], progress=False
    )
    assert parameter_bits(plain) == parameter_bits(watched)


def test_stop_training(tmp_path: Path) -> None:
    run = Run("pcd")
    straight = run.train()

    def stop(epoch: Any) -> None:
        if epoch.number == 2:
            raise StopTraining

    path = tmp_path / "run.npz"
    _, history = run.train(checkpoint=path, callbacks=[stop])
    assert [record["epoch"] for record in history.records] == [1, 2]
    assert not history.interrupted
    assert_same_run(run.train(checkpoint=path, resume=True), straight)


def test_error_in_a_callback(tmp_path: Path) -> None:
    """It comes through, and the run can go on once it is mended."""
    run = Run("pcd")
    straight = run.train()

    def fail(epoch: Any) -> None:
        if epoch.number == 3:
            raise ZeroDivisionError("my own mistake")

    path = tmp_path / "run.npz"
    rbm = vf.BernoulliRBM(*run.rbm.parameters)
    with pytest.raises(ZeroDivisionError, match="my own mistake"):
        run.train_on(rbm, checkpoint=path, callbacks=[fail])
    assert parameter_bits(rbm) in updates_of(run)
    assert_same_run(run.train(checkpoint=path, resume=True), straight)


@pytest.mark.parametrize(
    "value",
    [1, 1.5, np.float32(0.5), np.float64(2.5), np.int64(3), np.array(0.25)],
    ids=lambda x: type(x).__name__,
)
def test_metrics_of_any_kind_of_number(tmp_path: Path, value: Any) -> None:
    """A float32 model gives float32 averages: they must go into the history and the checkpoint."""
    run = Run("cd", dtype=np.float32)
    options = {
        "callbacks": [lambda epoch: {"metric": value}],
        "checkpoint": tmp_path / "run.npz",
        "resume": True,
    }
    run.train(1, **options)
    _, history = run.train(2, **options)
    np.testing.assert_array_equal(history.metric("metric")[1], [float(value)] * 2)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_metrics_that_are_not_finite(tmp_path: Path, value: float) -> None:
    run = Run("cd")
    options = {
        "callbacks": [lambda epoch: {"metric": value}],
        "checkpoint": tmp_path / "run.npz",
        "resume": True,
    }
    run.train(1, **options)
    _, history = run.train(2, **options)
    np.testing.assert_array_equal(history.metric("metric")[1], [value] * 2)


def test_no_epochs() -> None:
    run = Run("pcd")
    rbm, history = run.train(0)
    assert history.records == ()
    assert parameter_bits(rbm) == parameter_bits(run.rbm)


@pytest.mark.parametrize("method", ALL_METHODS)
def test_batches_larger_than_the_data(method: str) -> None:
    run = Run(method)
    rbm, history = run.train(2, batch_size=1000)
    assert len(history.records) == 2
    assert parameter_bits(rbm) != parameter_bits(run.rbm)


def test_progress_with_tqdm(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    Run("cd").train(3, progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "3/3" in captured.err
    assert "log_likelihood_data=-" in captured.err


def test_progress_without_tqdm(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)  # as if it were not installed
    Run("cd").train(3, progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert [line[:9] for line in lines] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert all("log_likelihood_data -" in line for line in lines)


def test_no_progress(capsys: pytest.CaptureFixture[str]) -> None:
    Run("cd").train(3)
    assert capsys.readouterr() == ("", "")


# --- divergence -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ALL_METHODS)
@pytest.mark.parametrize(("dtype", "rate"), [(np.float32, 3e38), (np.float64, 1.5e308), (np.float32, 1e60)])
def test_divergence(tmp_path: Path, method: str, dtype: Any, rate: float) -> None:
    """A clear error, no NumPy warning, and the model at its last good parameters."""
    run = Run(method, dtype=dtype)
    updates = []

    def after_two_epochs(epoch: float) -> float:
        return 0.1 if epoch < 2 else rate

    def watch(epoch: Any) -> None:
        updates.append(parameter_bits(epoch.rbm))

    rbm = vf.BernoulliRBM(*run.rbm.parameters)
    path = tmp_path / "run.npz"
    with pytest.raises((ValueError, ArithmeticError), match="learning_rate"):
        run.train_on(
            rbm, 50, learning_rate=after_two_epochs, momentum=0.99, callbacks=[watch], checkpoint=path
        )
    assert len(updates) >= 2
    assert all(np.isfinite(p).all() for p in rbm.parameters)
    assert vf.free_energy.exact(rbm).converged


def test_what_would_be_found_too_late(tmp_path: Path) -> None:
    """A checkpoint that cannot be written, one that is not given, metrics that are none."""
    data = np.eye(4, dtype=np.uint8)
    rbm = vf.BernoulliRBM.from_data(data, 2, rng=0)
    with pytest.raises(ValueError, match=r"^checkpoint: expected a file in a folder that can be written"):
        vf.train(rbm, data, checkpoint=tmp_path / "nowhere" / "x.npz", rng=0)
    with pytest.raises(ValueError, match=r"^resume: expected a checkpoint"):
        vf.train(rbm, data, resume=True, rng=0)
    with pytest.raises(TypeError, match=r"^callbacks: expected a mapping of metrics"):
        vf.train(rbm, data, callbacks=[lambda epoch: 5], rng=0)  # type: ignore[list-item, return-value]


def test_the_exact_gradient_says_when_it_takes_too_long() -> None:
    data = np.random.default_rng(0).integers(0, 2, (50, 60), dtype=np.uint8)
    rbm = vf.BernoulliRBM.from_data(data, 60, rng=0)
    with pytest.raises(ValueError, match=r"^method: 'exact' enumerates .* about .* here; 'pcd' samples$"):
        vf.train(rbm, data, method="exact", rng=0)
    callback = vf.training.ExactLogLikelihood(train=data)
    with pytest.raises(
        ValueError, match=r"^callbacks: ExactLog\w* .* about .* here; AisLogLikelihood samples"
    ):
        vf.train(rbm, data, n_epochs=1, rng=0, callbacks=[callback])


# --- bias of the gradients --------------------------------------------------------------------------


def expected_cd(
    w: np.ndarray, a: np.ndarray, b: np.ndarray, data: np.ndarray, n_steps: int
) -> tuple[np.ndarray, ...]:
    """<v>, <h>, <vh> after exactly n_steps Gibbs steps from the data, by the matrix of all transitions."""
    v, h = all_states(len(a)), all_states(len(b))
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    on_h, on_v = sigmoid(b + v @ w), sigmoid(a + h @ w.T)
    p_h = np.where(h[None] == 1, on_h[:, None], 1 - on_h[:, None]).prod(axis=2)
    p_v = np.where(v[None] == 1, on_v[:, None], 1 - on_v[:, None]).prod(axis=2)
    numbers = data @ (1 << np.arange(len(a)))
    p = np.bincount(numbers, minlength=2 ** len(a)) / len(data)
    p = p @ np.linalg.matrix_power(p_h @ p_v, n_steps)
    return p @ v, p @ on_h, v.T @ (p[:, None] * on_h)


@pytest.mark.parametrize("n_steps", [1, 3])
def test_bias_of_contrastive_divergence(n_steps: int) -> None:
    """Against all transitions of a 5 x 4 model: within 6 standard errors of 20 blocks; false alarm 3e-4."""
    w, a, b = random_parameters(5, 4, scale=0.9)
    data = np.random.default_rng(0).integers(0, 2, (400, 5), dtype=np.uint8)
    found = vf.training.gradient_bias(
        vf.BernoulliRBM(w, a, b), data, n_gibbs_steps=n_steps, n_estimates=400, rng=3
    )
    exact = vf.free_energy.exact(vf.BernoulliRBM(w, a, b), moments=True).moments
    cd = expected_cd(w, a, b, data, n_steps)
    for name, of_cd in zip(("visible", "hidden", "visible_hidden"), cd, strict=True):
        bias = getattr(exact, name) - of_cd  # of the gradient: it subtracts the model's averages
        z = (getattr(found.bias, name) - bias) / getattr(found.stderr, name)
        assert np.abs(z).max() < 6
        if n_steps == 1:  # there is something to find
            assert np.abs(bias / getattr(found.stderr, name)).max() > 8


def squared_deviations(
    rbm: vf.BernoulliRBM, data: np.ndarray, truth: Any, n_seeds: int, **options: Any
) -> float:
    """Mean square of deviations of a bias from the true one, over its standard errors."""
    squares = []
    for seed in range(n_seeds):
        found = vf.training.gradient_bias(rbm, data, n_chains=10, rng=seed, **options)
        for name, bias in zip(("visible", "hidden", "visible_hidden"), truth, strict=True):
            z = (getattr(found.bias, name) - bias) / getattr(found.stderr, name)
            squares.append((z**2).ravel())
    return float(np.concatenate(squares).mean())


def test_errors_of_the_bias_are_honest() -> None:
    """Of independent estimates: 20 blocks have 19 degrees of freedom, so 19 / 17 is expected, 0.13 off."""
    w, a, b = random_parameters(5, 4, scale=1.4)
    data = np.random.default_rng(0).integers(0, 2, (60, 5), dtype=np.uint8)
    exact: Any = vf.free_energy.exact(vf.BernoulliRBM(w, a, b), moments=True).moments
    averages = exact.visible, exact.hidden, exact.visible_hidden
    truth = [x - y for x, y in zip(averages, expected_cd(w, a, b, data, 1), strict=True)]
    found = squared_deviations(vf.BernoulliRBM(w, a, b), data, truth, 20, n_estimates=100)
    assert 0.65 < found < 1.65


def test_errors_of_the_bias_know_that_chains_remember() -> None:
    """A chain that flips seldom, at fixed parameters, where it has no bias: 19 / 17, 0.3 off.

    Errors as of independent estimates make it 4.3.
    """
    rbm = vf.BernoulliRBM([[4.0]], [-2.3], [-1.8])
    data = np.array([[0], [1], [1]], np.uint8)
    found = squared_deviations(rbm, data, (0.0, 0.0, 0.0), 40, method="pcd", n_estimates=1000)
    assert 0.4 < found < 2.6


def test_first_estimates_of_chains_are_left_out() -> None:
    rbm, data = random_rbm(6, 4, scale=0.5), skewed_data(50, 6)

    class StartsFarOff(Exact):
        def contrast(self, batch: np.ndarray, update: int) -> Any:
            found = super().contrast(batch, update)
            return replace(found, pairs=found.pairs + 1.0) if update < 3 else found

    assert vf.training.gradient_bias(rbm, data, method=StartsFarOff, n_estimates=30).relative < 1e-12


def test_bias_vanishes_where_it_should() -> None:
    rbm = random_rbm(6, 4, scale=0.5)
    data = np.random.default_rng(0).integers(0, 2, (50, 6), dtype=np.uint8)
    assert vf.training.gradient_bias(rbm, data, method="exact", n_estimates=20).relative < 1e-12
    found = vf.training.gradient_bias(rbm, data, method="pcd", n_chains=500, n_estimates=2000, rng=1)
    assert np.abs(found.bias.visible_hidden / found.stderr.visible_hidden).max() < 5
    # Nothing but noise: of 24 weights, not independent; as of 8, a false alarm in 5,000.
    assert 0.25 < found.relative / found.noise < 3
    assert repr(found) == f"GradientBias(relative={found.relative:.3g}, noise={found.noise:.3g})"
    short, long = (
        vf.training.gradient_bias(rbm, data, n_gibbs_steps=k, n_estimates=400, rng=2) for k in (1, 20)
    )
    assert long.relative < short.relative
    assert short.relative > 4 * short.noise  # there is a bias
    for name, bad in (("method", "other"), ("n_estimates", 19), ("data", data[:, :3]), ("n_gibbs_steps", 0)):
        with pytest.raises(ValueError, match=f"^{name}: expected"):
            vf.training.gradient_bias(**{"rbm": rbm, "data": data, name: bad})
