"""Machines with units ±1: free energies and training, against sums over all states."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vfe_fast as vf
from conftest import random_parameters
from test_training import central_differences, packed
from vfe_fast.training import METHODS
from vfe_fast.training.callbacks import ChainAutocorrelation, FreeEnergyGap, PseudoLogLikelihood
from vfe_fast.training.gradients import SamplerSettings
from vfe_fast.training.machines import InSpins, Spins
from vfe_fast.training.updates import Ascent, Memory

Parameters = tuple[np.ndarray, ...]


def all_spins(n: int) -> np.ndarray:
    return 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1) - 1.0


def log_weight(parameters: Parameters, v: np.ndarray) -> np.ndarray:
    weights, visible_bias, hidden_bias = parameters
    result: np.ndarray = v @ visible_bias + np.log(2 * np.cosh(v @ weights + hidden_bias)).sum(axis=1)
    return result


def mean_log_likelihood(parameters: Parameters, data: np.ndarray) -> float:
    everything = log_weight(parameters, all_spins(len(parameters[1])))
    return float(log_weight(parameters, data).mean() - np.logaddexp.reduce(everything))


def spins(n_samples: int, n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    data = np.where(rng.random((n_samples, n)) < np.linspace(0.2, 0.8, n), 1, -1).astype(np.int8)
    data[:, 1] = np.maximum(data[:, 0], data[:, 1])
    return data


def random_spin_rbm(n_visible: int, n_hidden: int, scale: float = 0.5, dtype: Any = np.float64) -> vf.SpinRBM:
    return vf.SpinRBM(*random_parameters(n_visible, n_hidden, scale=scale, dtype=dtype))


def test_free_energy_and_log_likelihood() -> None:
    rbm = random_spin_rbm(5, 3)
    v = all_spins(5)
    np.testing.assert_allclose(rbm.free_energy(v), -log_weight(rbm.parameters, v), rtol=1e-12)
    weights, visible_bias, hidden_bias = (0.7 * p for p in rbm.parameters)
    cold = -log_weight((weights, visible_bias, hidden_bias), v) / 0.7
    np.testing.assert_allclose(rbm.free_energy(v, beta=0.7), cold, rtol=1e-12)
    log_z = vf.free_energy.exact(rbm).log_z
    assert np.exp(rbm.log_likelihood(v, log_z)).sum() == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("centered", [False, True])
def test_gradient(centered: bool) -> None:
    """An update along the exact gradient, of the usual or of the centered parameters."""
    rbm, data = random_spin_rbm(4, 3), spins(7, 4)
    method = InSpins(rbm, METHODS["exact"], SamplerSettings())
    contrast = method.contrast(packed((data > 0).astype(np.uint8)), 0)
    rng = np.random.default_rng(1)
    mu, la = (rng.uniform(-0.8, 0.8, n) if centered else np.zeros(n) for n in (4, 3))
    found, _ = Ascent()(rbm.parameters, Memory(), contrast, (mu, la) if centered else (), 1.0, 0)

    def usual(c: Parameters) -> Any:
        return c[0], c[1] - c[0] @ la, c[2] - c[0].T @ mu

    weights, visible_bias, hidden_bias = rbm.parameters
    here = (weights, visible_bias + weights @ la, hidden_bias + weights.T @ mu)
    uphill: Any = central_differences(lambda c: mean_log_likelihood(usual(c), data), here)
    for mine, before, step in zip(found, rbm.parameters, usual(uphill), strict=True):
        np.testing.assert_allclose(mine - before, step, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("method", sorted(METHODS.keys() - {"score_matching", "denoising", "sliced"}))
def test_training_raises_the_likelihood(method: str) -> None:
    data = spins(60, 5)
    rbm = vf.SpinRBM.from_data(data, 4, rng=3, dtype=np.float64)
    before = mean_log_likelihood(rbm.parameters, data)
    vf.train(rbm, data, method=method, n_epochs=200, batch_size=20, learning_rate=0.05, n_chains=200, rng=4)
    _, counts = np.unique(data, axis=0, return_counts=True)
    best = float(np.sum(counts / 60 * np.log(counts / 60)))
    after = mean_log_likelihood(rbm.parameters, data)
    assert before + 0.05 < after < best


def test_sampled_averages_agree_with_the_exact_ones() -> None:
    rbm = random_spin_rbm(4, 3)
    batch = packed((spins(9, 4) > 0).astype(np.uint8))
    settings = SamplerSettings(50, 20_000, 2)
    found = InSpins(rbm, METHODS["pcd"], settings).contrast(batch, 0)
    expected = InSpins(rbm, METHODS["exact"], settings).contrast(batch, 0)
    # Standard deviations below 1 / sqrt(20,000) = 0.0071; 5.5 of them, 19 entries: once in 10^6 seeds.
    for name in ("model_visible", "model_hidden", "pairs"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=0, atol=0.039)
    np.testing.assert_allclose(found.data_hidden, expected.data_hidden, atol=1e-7)


def test_offsets_begin_at_the_means_of_spins() -> None:
    rbm, data = random_spin_rbm(5, 3), spins(40, 5)
    machine = Spins(rbm)
    visible, hidden = machine.means(machine.states(data), None)
    weights, _, hidden_bias = rbm.parameters
    np.testing.assert_allclose(visible, data.mean(axis=0), rtol=0, atol=1e-12)
    np.testing.assert_allclose(hidden, np.tanh(data @ weights + hidden_bias).mean(axis=0), rtol=0, atol=1e-8)


def test_resume_and_callbacks(tmp_path: Path) -> None:
    data = spins(40, 5)
    options: dict[str, Any] = {
        "batch_size": 10, "rng": 1, "momentum": 0.5,
        "callbacks": [
            vf.training.ExactLogLikelihood(data=data),
            FreeEnergyGap(data[:20], data[20:]),
            PseudoLogLikelihood(data=data),
            ChainAutocorrelation(),
        ],
    }  # fmt: skip
    straight = random_spin_rbm(5, 3, dtype=np.float32)
    history = vf.train(straight, data, n_epochs=4, **options)
    assert history.records[-1]["log_likelihood_data"] == pytest.approx(
        mean_log_likelihood(tuple(p.astype(np.float64) for p in straight.parameters), data), abs=1e-5
    )
    assert len(history.records[-1]) == 9
    parts = random_spin_rbm(5, 3, dtype=np.float32)
    more = partial(vf.train, parts, data, checkpoint=tmp_path / "run.npz", **options)
    more(n_epochs=2)
    again = random_spin_rbm(5, 3, dtype=np.float32)
    vf.train(again, data, checkpoint=tmp_path / "run.npz", resume=True, n_epochs=4, **options)
    for mine, theirs in zip(again.parameters, straight.parameters, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    bits = vf.BernoulliRBM(*again.parameters)
    with pytest.raises(ValueError, match="model"):
        vf.train(bits, data > 0, checkpoint=tmp_path / "run.npz", resume=True, n_epochs=4, **options)


def test_bad_arguments() -> None:
    rbm = random_spin_rbm(4, 3)
    with pytest.raises(ValueError, match=r"^data: expected spins"):
        vf.train(rbm, np.zeros((3, 4)), rng=0)
    with pytest.raises(ValueError, match=r"^v: expected"):
        rbm.free_energy(np.zeros((3, 4)))
    with pytest.raises(ValueError, match=r"^log_z: expected"):
        rbm.log_likelihood(np.ones((3, 4)), np.nan)
    with pytest.raises(ValueError, match=r"^weights: expected"):
        rbm.set_parameters(np.zeros((2, 2)), np.zeros(2), np.zeros(2))
    with pytest.raises(ValueError, match=r"^data: expected"):
        vf.SpinRBM.from_data(np.zeros((3, 4)), 2)
