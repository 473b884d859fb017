"""Importance sampling against exact sums, and the tails of weights; false alarms below 1e-4 unless said."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
from scipy import stats

import vfe_fast as vf
from conftest import random_parameters, random_rbm
from vfe_fast.free_energy import WeightsWarning, exact, importance
from vfe_fast.free_energy.log_weights import LogMean, pareto_k

OFTEN = 4.0  # standard errors


@pytest.mark.parametrize("beta", [0.5, 1.0, 1.4])
@pytest.mark.parametrize("q", ["biases", "uniform", "means"])
@pytest.mark.parametrize("kind", ["bits", "float32", "spins"])
def test_against_exact(kind: str, q: str, beta: float) -> None:
    parameters = random_parameters(7, 10, scale=0.25, seed=3)
    model: Any = vf.BernoulliRBM(*parameters)
    means = np.linspace(0.2, 0.7, 7)
    if kind == "spins":
        model, means = vf.SpinRBM(*(0.3 * p for p in parameters)), 2 * means - 1
    if kind == "float32":
        model = vf.BernoulliRBM(*(p.astype(np.float32) for p in parameters))
    found = importance(model, means if q == "means" else q, 20_000, beta=beta, rng=3)
    assert abs(found.log_z - exact(model, beta=beta).log_z) < OFTEN * found.stderr
    assert found.stderr < 0.05
    assert (found.kind, found.converged, found.beta) == ("consistent", True, beta)
    assert found.value == -found.log_z / beta


def test_weights_by_definition() -> None:
    """w(v) = e^(-beta F_c(v)) / q(v), with q the law that the states follow."""
    parameters = random_parameters(6, 4, scale=0.5, seed=2)
    weights, a, b = parameters
    means, beta = np.array([0.2, 0.5, 0.6, 0.3, 0.8, 0.4]), 0.8
    found = importance(vf.BernoulliRBM(*parameters), means, 5000, beta=beta, rng=1).details["log_weights"]
    v = ((np.arange(64)[:, None] >> np.arange(6)) & 1).astype(float)
    log_q = v @ np.log(means) + (1 - v) @ np.log(1 - means)
    possible = beta * v @ a + np.logaddexp(0, beta * (b + v @ weights)).sum(1) - log_q
    nearest = np.abs(found[:, None] - possible).argmin(axis=1)
    assert found == pytest.approx(possible[nearest], abs=1e-12)
    counts = np.bincount(nearest, minlength=64)
    expected = np.exp(log_q) * 5000
    many = expected > 5
    statistic = np.sum((counts[many] - expected[many]) ** 2 / expected[many])
    assert statistic < stats.chi2.isf(1e-5, many.sum())


def test_coverage() -> None:
    """68 % ± 5 % of 400 models within one standard error."""
    off, reliable = [], 0
    for k in range(400):
        model = random_rbm(5 + k % 4, 3 + k % 5, scale=0.25, seed=k)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", WeightsWarning)
            found = importance(model, None, 1000, rng=1000 + k, num_threads=1)
        reliable += found.converged
        off.append((found.log_z - exact(model).log_z) / found.stderr)
    assert abs(np.mean(np.abs(off) < 1) - 0.68) < 0.05
    assert reliable > 0.97 * 400


def test_same_bits_and_fresh_seeds() -> None:
    model = random_rbm(70, 9, scale=0.1)
    expected = importance(model, n_samples=40_000, rng=1, num_threads=1).details["log_weights"]
    again = importance(model, n_samples=40_000, rng=1, num_threads=3).details["log_weights"]
    assert again.tobytes() == expected.tobytes()
    fewer = importance(model, n_samples=20_000, rng=1).details["log_weights"]
    assert fewer.tobytes() == expected[:20_000].tobytes()
    assert importance(model, rng=2).log_z != importance(model, rng=1).log_z


def test_independent_units_are_exact() -> None:
    model = vf.BernoulliRBM(np.zeros((5, 3)), np.arange(5.0) - 2, np.ones(3))
    found = importance(model, rng=0)
    expected = np.logaddexp(0, np.arange(5.0) - 2).sum() + 3 * math.log(1 + math.e)
    assert found.log_z == pytest.approx(expected, rel=1e-13)
    assert found.details["pareto_k"] == -math.inf
    assert found.converged
    assert importance(random_rbm(5, 3), beta=0.0, rng=0).log_z == pytest.approx(8 * math.log(2), rel=1e-13)


def test_heavy_tails_are_reported() -> None:
    model = random_rbm(30, 12, seed=1)
    with pytest.warns(WeightsWarning, match="Pareto k .* try ais"):
        found = importance(model, "uniform", rng=1)
    assert not found.converged
    assert found.details["pareto_k"] > 0.7
    assert "Pareto k" in found.details["problem"]


def test_the_biases_of_spins() -> None:
    """Not those of the same machine in units 0/1, which hold its couplings too."""
    model = vf.SpinRBM(*random_parameters(6, 5, scale=0.3, seed=3))
    means = np.tanh(0.7 * model.visible_bias)
    own, given = (importance(model, q, beta=0.7, rng=1) for q in ("biases", means))
    assert own.details["log_weights"] == pytest.approx(given.details["log_weights"], abs=1e-12)


def test_what_no_sample_saw_is_reported() -> None:
    """Weights of a mode that was never sampled leave no tail; Gibbs chains find it."""
    model = vf.SpinRBM(*random_parameters(11, 7, scale=0.4, seed=3))
    far = np.tanh(model.to_bernoulli()[0].visible_bias)  # what biases of units 0/1 make of spins at beta = 2
    with pytest.warns(WeightsWarning, match="of the states that Gibbs chains find"):
        found = importance(model, far, beta=2.0, rng=1)
    assert not found.details["pareto_k"] > 0.7
    assert found.details["unseen"] > 0.5
    assert not found.converged
    assert found.log_z < exact(model, beta=2.0).log_z - 1.0  # and rightly so


def test_a_valley_that_only_coins_lead_to_is_reported() -> None:
    """Neither the tail of the weights nor chains from the samples know of it."""
    rng = np.random.default_rng(2)
    model = vf.BernoulliRBM(rng.normal(1.2, 0.1, (30, 6)), rng.normal(-2.5, 0.2, 30), rng.normal(-14, 0.5, 6))
    with pytest.warns(WeightsWarning, match="states that Gibbs chains pass"):
        found = importance(model, rng=1)
    assert not found.details["pareto_k"] > 0.7
    assert found.details["unseen"] < 0.1
    assert found.log_z < found.details["log_z_seen"] - 10 < exact(model).log_z - 10


@pytest.mark.parametrize("k", [0.2, 0.5, 1.0, 1.5])
def test_pareto_k(k: float) -> None:
    """Of Pareto weights the exponent comes back, but for the ten samples' worth of 1/2 and the noise."""
    rng = np.random.default_rng(5)
    found = [pareto_k(3.0 - k * np.log(rng.random(5000))) for _ in range(50)]
    n = 213  # of the tail
    expected, spread = (n * k + 5) / (n + 10), (1 + k) / math.sqrt(n)
    assert np.mean(found) == pytest.approx(expected, abs=4 * spread / math.sqrt(50) + 0.02)
    assert np.std(found) == pytest.approx(spread, rel=0.45)


def test_pareto_k_of_exponential_and_uniform_tails() -> None:
    rng = np.random.default_rng(5)
    assert abs(np.mean([pareto_k(np.log(rng.exponential(size=5000))) for _ in range(50)])) < 0.1
    assert np.mean([pareto_k(np.log(rng.random(size=5000))) for _ in range(50)]) < -0.3
    shifted = rng.normal(size=1000)
    assert pareto_k(shifted + 700) == pytest.approx(pareto_k(shifted), abs=1e-9)


def test_pareto_k_of_few_and_of_equal_weights() -> None:
    assert math.isnan(pareto_k(np.arange(24.0)))
    assert pareto_k(np.zeros(100)) == -math.inf
    assert pareto_k(np.repeat([0.0, 5.0], [20, 80])) == -math.inf  # the largest are all the same
    assert pareto_k(np.append(np.arange(99.0), 2000.0)) == math.inf
    for three in (np.repeat([0.0, 5.0], [97, 3]), np.append(np.zeros(99), 2000.0)):  # a few carry all
        found = LogMean.of(three)
        assert math.isnan(found.pareto_k)
        assert "are worth" in found.problem(100)
    ties = LogMean.of(np.repeat([0.0, 1.0, 1.5], [600, 350, 50]))  # states that were seen often
    assert math.isnan(ties.pareto_k)
    assert not ties.problem(1000)


def test_log_mean() -> None:
    x = np.random.default_rng(2).normal(size=50)
    found = LogMean.of(x + 1000.0)
    w = np.exp(x)
    left_out = np.array([math.log(np.delete(w, i).mean()) for i in range(50)])
    jackknife = math.sqrt(49 / 50 * np.sum((left_out - left_out.mean()) ** 2))
    assert found.value == pytest.approx(1000 + math.log(w.mean()), rel=1e-14)
    off = w - w.mean()
    kurtosis = (off**4).mean() / (off**2).mean() ** 2
    assert found.stderr == pytest.approx(jackknife * (1 + kurtosis / 300), rel=1e-9)
    assert found.ess == pytest.approx(w.sum() ** 2 / (w**2).sum(), rel=1e-12)
    assert math.isnan(LogMean.of(np.zeros(1)).stderr)
    alone = LogMean.of(np.append(np.zeros(9), 100.0))  # the error of one weight that carries all is large
    assert alone.stderr > 10


@pytest.mark.parametrize("shape", [1, 4])
def test_errors_of_few_weights_cover(shape: int) -> None:
    """Of Gamma laws: 68.3 % ± 0.6 % (by chance one time in 100); the jackknife alone has 67 %."""
    draws = np.log(np.random.default_rng(1).gamma(shape, size=(40_000, 20)))
    found = [LogMean.of(log_weights) for log_weights in draws]
    inside = np.mean([abs(mean.value - math.log(shape)) < mean.stderr for mean in found])
    assert abs(inside - 0.683) < 0.006, inside


@pytest.mark.parametrize(
    ("options", "error", "name"),
    [
        ({"model": vf.GaussianRBM(np.zeros((4, 2)), np.zeros(4), np.zeros(2))}, TypeError, "model"),
        ({"q": "even"}, ValueError, "q"),
        ({"q": np.full(3, 0.5)}, ValueError, "q"),
        ({"q": [0.0, 0.5, 0.5, 0.5]}, ValueError, "q"),
        ({"q": [math.nan, 0.5, 0.5, 0.5]}, ValueError, "q"),
        ({"q": np.full(4, 0.5j)}, TypeError, "q"),
        ({"n_samples": 1}, ValueError, "n_samples"),
        ({"n_samples": 10.0}, TypeError, "n_samples"),
        ({"beta": -1.0}, ValueError, "beta"),
        ({"rng": -1}, ValueError, "rng"),
        ({"num_threads": 0}, ValueError, "num_threads"),
    ],
)
def test_bad_input(options: dict[str, Any], error: type[Exception], name: str) -> None:
    with pytest.raises(error, match=f"^{name}: "):
        importance(**{"model": random_rbm(4, 3), **options})


def test_no_warning_where_nothing_is_wrong() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert importance(random_rbm(6, 4, scale=0.3), rng=1).converged
