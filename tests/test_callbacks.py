"""What goes into a run's history, against sums over all states."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import vfe_fast as vf
from conftest import random_rbm
from vfe_fast.training import (
    AisLogLikelihood,
    ChainAutocorrelation,
    Epoch,
    ExactLogLikelihood,
    FreeEnergyGap,
    PersistentCD,
    PseudoLogLikelihood,
)
from vfe_fast.training.gradients import SamplerSettings


def states(n_samples: int, n_visible: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.random((n_samples, n_visible)) < np.linspace(0.2, 0.8, n_visible)).astype(np.uint8)


def log_weight(rbm: vf.BernoulliRBM, v: np.ndarray) -> np.ndarray:
    weights, visible_bias, hidden_bias = rbm.parameters
    result: np.ndarray = v @ visible_bias + np.logaddexp(0.0, v @ weights + hidden_bias).sum(axis=1)
    return result


def epoch(rbm: vf.BernoulliRBM, number: int = 1, n_chains: int = 50) -> Epoch:
    return Epoch(number, 10, rbm, PersistentCD(rbm, SamplerSettings(1, n_chains, 3)), None)


def test_free_energy_gap() -> None:
    rbm = random_rbm(6, 4)
    train, validation = states(30, 6, 0), states(20, 6, 1)
    found: Any = FreeEnergyGap(train, validation)(epoch(rbm))
    first, second = -log_weight(rbm, validation), -log_weight(rbm, train)
    assert found["free_energy_gap"] == pytest.approx(first.mean() - second.mean(), rel=1e-12)
    stderr = np.sqrt(first.var(ddof=1) / 20 + second.var(ddof=1) / 30)
    assert found["free_energy_gap_stderr"] == pytest.approx(stderr, rel=1e-12)


def test_ais_log_likelihood() -> None:
    """Within the error that it reports, of the exact one; other chains in each epoch."""
    rbm, v = random_rbm(7, 5, scale=0.6), states(30, 7, 4)
    callback = AisLogLikelihood(n_temperatures=200, n_chains=400, rng=1, test=v)
    exact = vf.free_energy.exact(rbm)
    expected = float(np.mean(log_weight(rbm, v))) - exact.log_z
    found: list[Any] = [callback(epoch(rbm, number)) for number in (1, 2, 1)]
    for one in found:
        assert abs(one["log_likelihood_test"] - expected) < 4.5 * one["log_z_stderr"]  # 1e-5 each
    assert found[0] == found[2] != found[1]
    many: list[Any] = [callback(epoch(rbm, number)) for number in range(1, 31)]
    spread = np.std([one["log_likelihood_test"] for one in many], ddof=1)
    assert 0.55 < spread / np.mean([one["log_z_stderr"] for one in many]) < 1.6  # 0.13 is one deviation
    gaussian = vf.GaussianRBM(np.zeros((7, 2)), np.zeros(7), np.zeros(2))
    with pytest.raises(TypeError, match=r"^callbacks: AisLogLikelihood"):
        callback(replace(epoch(rbm), rbm=gaussian))


def test_pseudo_log_likelihood() -> None:
    """The mean over epochs, whose picks differ, within its error; and that error is honest."""
    rbm = random_rbm(6, 4)
    v = states(40, 6, 2)
    expected = np.zeros(40)
    for i in range(6):
        other = v.copy()
        other[:, i] ^= 1
        expected += log_weight(rbm, v) - np.logaddexp(log_weight(rbm, v), log_weight(rbm, other))
    callback = PseudoLogLikelihood(data=v)
    found: list[Any] = [callback(epoch(rbm, number)) for number in range(1, 401)]
    values = np.array([f["pseudo_log_likelihood_data"] for f in found])
    # 5 standard errors: a false alarm in two million seeds; the seed is fixed.
    assert abs(values.mean() - expected.mean()) < 5 * values.std() / np.sqrt(len(values))
    # The samples are the same in each epoch, so they vary less than fresh ones would.
    stderr = np.array([f["pseudo_log_likelihood_data_stderr"] for f in found])
    assert values.std() < stderr.mean()
    fresh = []
    for number in range(1, 401):
        one: Any = PseudoLogLikelihood(
            rng=number, data=v[np.random.default_rng(number).integers(0, 40, 200)]
        )(epoch(rbm))
        z = one["pseudo_log_likelihood_data"] - expected.mean()
        fresh.append(z / one["pseudo_log_likelihood_data_stderr"])
    assert 0.8 < np.std(fresh) < 1.25  # 0.035 is one deviation


@pytest.mark.parametrize(("scale", "low", "high"), [(0.0, -0.065, 0.065), (60.0, 0.99, 1.0)])
def test_chain_autocorrelation(scale: float, low: float, high: float) -> None:
    """Without weights no memory (0.013 is one deviation for 12 units, 500 chains); frozen, nothing else."""
    n = 12
    rbm = vf.BernoulliRBM(scale * np.eye(n), np.full(n, -scale / 2), np.full(n, -scale / 2))
    at = epoch(rbm, n_chains=500)
    before = at.gradient.state["visible"].copy()
    found: Any = ChainAutocorrelation(3)(at)
    assert low <= found["chain_autocorrelation"] <= high
    np.testing.assert_array_equal(at.gradient.state["visible"], before)


def test_chain_autocorrelation_in_between() -> None:
    """One visible and one hidden unit: the correlation of a step is the product of two regressions."""
    w, a, b = 2.0, -0.7, -0.4
    rbm = vf.BernoulliRBM([[w]], [a], [b])
    p = np.array([[1.0, np.exp(b)], [np.exp(a), np.exp(a + b + w)]])
    p /= p.sum()
    step = (p / p.sum(axis=1, keepdims=True)) @ (p / p.sum(axis=0)).T  # of v, through h
    expected = step[1, 1] - step[0, 1]
    gradient = PersistentCD(rbm, SamplerSettings(1, 20_000, 3))
    for update in range(30):
        gradient.contrast(np.zeros((1, 1), np.uint64), update)
    found: Any = ChainAutocorrelation(1)(Epoch(1, 10, rbm, gradient, None))
    # The error of a correlation over 20,000 chains is below 0.0071; five of them.
    assert abs(found["chain_autocorrelation"] - expected) < 0.0355


def test_no_chains_no_autocorrelation() -> None:
    data = states(30, 6, 0)
    history = vf.train(
        random_rbm(6, 4), data, method="cd", n_epochs=2, rng=0, callbacks=[ChainAutocorrelation(every=2)]
    )
    assert "chain_autocorrelation" not in history.records[1]


@pytest.mark.parametrize("kind", ["tensor", "list", "read-only"])
def test_data_sets_of_any_kind(kind: str) -> None:
    """All callbacks take what models take, and say what they do not before a run begins."""
    v = states(30, 6, 4)
    data: Any = v.tolist() if kind == "list" else v.copy()
    if kind == "tensor":
        data = pytest.importorskip("torch").from_numpy(v.copy())
    elif kind == "read-only":
        data.setflags(write=False)
    at = epoch(random_rbm(6, 4))
    for maker in (ExactLogLikelihood, AisLogLikelihood, PseudoLogLikelihood):
        assert maker(test=data)(at) == maker(test=v)(at)
        for bad in (v[:0], v[0]):
            with pytest.raises(ValueError, match=r"^test: expected \(n_samples, n_visible\)"):
                maker(test=bad)
    assert FreeEnergyGap(data, data[:9])(at) == FreeEnergyGap(v, v[:9])(at)


def test_names_of_metrics() -> None:
    """Two callbacks of the same name, or one that takes a name of the history's own, would hide a figure."""
    data = states(30, 6, 0)
    exact, annealed = ExactLogLikelihood(test=data), AisLogLikelihood(n_temperatures=20, test=data)
    with pytest.raises(
        ValueError, match=r"^callbacks: expected a metric only once, got 'log_likelihood_test'"
    ):
        vf.train(random_rbm(6, 4), data, n_epochs=1, rng=0, callbacks=[exact, annealed])
    with pytest.raises(ValueError, match=r"^callbacks: expected a metric only once, got 'seconds'"):
        vf.train(random_rbm(6, 4), data, n_epochs=1, rng=0, callbacks=[lambda epoch: {"seconds": 1.0}])
    numbered: Any = lambda epoch: {3: 1.0}  # noqa: E731
    with pytest.raises(TypeError, match=r"^callbacks: expected metrics named by str"):
        vf.train(random_rbm(6, 4), data, n_epochs=1, rng=0, callbacks=[numbered])


def test_in_a_run() -> None:
    data = states(60, 6, 0)
    history = vf.train(
        random_rbm(6, 4), data, n_epochs=5, batch_size=20, rng=0,
        callbacks=[
            FreeEnergyGap(data[:30], data[30:], every=2),
            PseudoLogLikelihood(every=2, train=data),
            ChainAutocorrelation(every=2),
        ],
    )  # fmt: skip
    names = ("free_energy_gap", "pseudo_log_likelihood_train", "chain_autocorrelation")
    for name in names:
        epochs, values = history.metric(name)
        assert epochs.tolist() == [2, 4, 5]
        assert np.isfinite(values).all()


@pytest.mark.parametrize("kind", [ExactLogLikelihood, AisLogLikelihood, PseudoLogLikelihood])
def test_nothing_to_evaluate(kind: Any) -> None:
    """A callback without data would record nothing, and nobody would know why."""
    with pytest.raises(ValueError, match=r"^data: expected at least one data set by name"):
        kind(every=2)
