"""Mean field against sums over all states, written out here."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

import vfe_fast as vf
from conftest import random_parameters
from oracles.ising import all_spins, spin_energies
from oracles.rbm import all_states, energies
from test_exact_ising import random_ising
from vfe_fast.free_energy import MeanFieldWarning, mean_field

KINDS = ("bits", "spins", "ising")


def random_model(kind: str, seed: int, scale: float, dtype: Any = np.float64) -> Any:
    """A model small enough to enumerate, asymmetric, with biases."""
    n_visible, n_hidden = 3 + seed % 4, 2 + seed % 3
    if kind == "ising":
        rng = np.random.default_rng(seed)
        n = 3 + seed % 6
        upper = np.triu(scale * (rng.normal(size=(n, n)) + 0.2), 1)
        fields = scale * (rng.normal(size=n) - 0.3)
        return vf.Ising((upper + upper.T).astype(dtype), fields.astype(dtype))
    make = vf.BernoulliRBM if kind == "bits" else vf.SpinRBM
    return make(*random_parameters(n_visible, n_hidden, scale=scale, seed=seed, dtype=dtype))


def all_of(model: Any) -> tuple[np.ndarray, np.ndarray, int]:
    """Every state of all units, its energy, and the lower value of a unit."""
    if isinstance(model, vf.Ising):
        return all_spins(model.n_spins), spin_energies(*model.parameters), -1
    n, m = model.n_visible, model.n_hidden
    if isinstance(model, vf.BernoulliRBM):
        states = np.array([[*v, *h] for v in all_states(n) for h in all_states(m)])
        return states, energies(*model.parameters).ravel(), 0
    weights, a, b = model.parameters
    states = np.array([[*v, *h] for v in all_spins(n) for h in all_spins(m)])
    v, h = states[:, :n], states[:, n:]
    return states, -v @ a - h @ b - np.einsum("si,ij,sj->s", v, weights, h), -1


def means_of(found: vf.FreeEnergy) -> np.ndarray:
    details = found.details
    return details["spins"] if "spins" in details else np.concatenate((details["visible"], details["hidden"]))


def factorized(model: Any, means: np.ndarray) -> np.ndarray:
    """q of every state, unit by unit."""
    states, _, low = all_of(model)
    up = (means - low) / (1 - low)
    return np.prod(np.where(states == 1, up, 1 - up), axis=1)


def bound(model: Any, means: np.ndarray, beta: float) -> float:
    """<E> - S / beta under q, from its probabilities."""
    q, energy = factorized(model, means), all_of(model)[1]
    some = q > 0
    return float((q[some] * (energy[some] + np.log(q[some]) / beta)).sum())


def boltzmann(model: Any, beta: float) -> tuple[np.ndarray, float]:
    """p of every state, and F."""
    exponent = -beta * all_of(model)[1]
    log_z = float(np.logaddexp.reduce(exponent))
    return np.exp(exponent - log_z), -log_z / beta


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [0.1, 0.7, 2.0])
@pytest.mark.parametrize("beta", [1.0, 0.6, 1.7])
def test_upper_bound_with_its_split(kind: str, scale: float, beta: float) -> None:
    for seed in range(10):
        model = random_model(kind, seed, scale)
        found = mean_field(model, beta=beta, rng=seed)
        p, exact = boltzmann(model, beta)
        means = means_of(found)
        q, energy = factorized(model, means), all_of(model)[1]
        assert found.kind == "upper_bound"
        assert found.converged
        assert found.value >= exact - 1e-12 * abs(exact)
        assert exact == pytest.approx(vf.free_energy.exact(model, beta=beta).value, rel=1e-11)
        assert found.value == pytest.approx(bound(model, means, beta), rel=1e-11, abs=1e-11)
        assert found.details["energy"] == pytest.approx(float(q @ energy), rel=1e-11, abs=1e-11)
        assert found.value == pytest.approx(
            found.details["energy"] - found.details["entropy"] / beta, rel=1e-12
        )
        assert found.log_z == pytest.approx(-beta * found.value, rel=1e-14)
        assert found.details["starts"].min() == found.value
        # Both directions of the divergence, from the probabilities of all states and from free energies.
        some = q > 0
        q_from_p = float((q[some] * np.log(q[some] / p[some])).sum())
        assert beta * (found.value - exact) == pytest.approx(q_from_p, rel=1e-8, abs=1e-10)
        if (np.abs(means - all_of(model)[2]) < 1e-6).any() or (1 - means < 1e-6).any():
            continue  # the means themselves do not hold ln(1 - m)
        p_from_q = float((p * np.log(p / q)).sum())
        assert p_from_q == pytest.approx(reverse_divergence(model, means, beta), rel=1e-8, abs=1e-9)


def reverse_divergence(model: Any, means: np.ndarray, beta: float) -> float:
    """KL(p || q) = -S_p - sum_i <ln q_i>_p from exact moments: S_p = beta (<E> - F)."""
    exact = vf.free_energy.exact(model, beta=beta, moments=True)
    moments = exact.moments
    _, _, low = all_of(model)
    mean = means_of_moments(moments)
    p_up, q_up = ((x - low) / (1 - low) for x in (mean, means))
    cross = p_up @ np.log(q_up) + (1 - p_up) @ np.log(1 - q_up)
    return float(-beta * (moments.energy - exact.value) - cross)


def moved(model: Any, means: np.ndarray, unit: int, by: float) -> np.ndarray:
    """The means with one unit's odds multiplied by e^by."""
    low = all_of(model)[2]
    up = (means[unit] - low) / (1 - low)
    up = up * math.exp(by) / (1 - up + up * math.exp(by))
    return np.concatenate((means[:unit], [low + (1 - low) * up], means[unit + 1 :]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("beta", [1.0, 0.6, 1.7])
def test_no_gradient_where_it_comes_to_rest(kind: str, beta: float) -> None:
    """By finite differences of the sum over all states."""
    for seed in range(6):
        model = random_model(kind, seed, 0.6)
        means = means_of(mean_field(model, beta=beta, rng=seed))
        at_rest = bound(model, means, beta)
        for unit in range(len(means)):
            up, down = (bound(model, moved(model, means, unit, by), beta) for by in (1e-3, -1e-3))
            assert abs(up - down) / 2e-3 < 1e-6, (seed, unit)
            assert (
                min(bound(model, moved(model, means, unit, by), beta) for by in (0.1, -0.1)) > at_rest - 1e-12
            )


@pytest.mark.parametrize("kind", KINDS)
def test_never_up(kind: str) -> None:
    """F_q of every start, sweep by sweep."""
    for seed in range(4):
        model = random_model(kind, seed, 1.0)
        before = np.full(8, np.inf)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MeanFieldWarning)
            for n_sweeps in range(1, 25):
                starts = mean_field(model, rng=seed, max_sweeps=n_sweeps).details["starts"]
                assert (starts <= before + 1e-13 * np.abs(starts)).all()
                before = starts


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
def test_exact_without_weights(kind: str, beta: float) -> None:
    model = random_model(kind, 4, 1.0)
    first, *biases = model.parameters
    model = type(model)(np.zeros_like(first), *biases)
    found = mean_field(model, beta=beta, rng=0)
    exact = vf.free_energy.exact(model, beta=beta, moments=True)
    assert found.log_z == pytest.approx(exact.log_z, rel=1e-13)
    assert found.value == pytest.approx(exact.value, rel=1e-13)
    np.testing.assert_allclose(means_of(found), means_of_moments(exact.moments), atol=1e-13)


def means_of_moments(moments: Any) -> np.ndarray:
    return moments.spins if hasattr(moments, "spins") else np.concatenate((moments.visible, moments.hidden))


def test_at_beta_zero_all_states_count_the_same() -> None:
    found = mean_field(random_model("ising", 5, 1.0), beta=0.0, rng=0)
    assert found.log_z == pytest.approx(8 * math.log(2.0), rel=1e-14)
    assert found.value == -math.inf
    assert found.converged


def test_curie_weiss() -> None:
    """m = tanh(beta m (n - 1) / n), by bisection; F a spin follows."""
    n, beta = 151, 1.3
    model = vf.Ising((np.ones((n, n)) - np.eye(n)) / n)
    found = mean_field(model, beta=beta, rng=1)
    low, high = 0.1, 1.0
    for _ in range(80):
        m = (low + high) / 2
        low, high = (m, high) if math.tanh(beta * m * (n - 1) / n) > m else (low, m)
    assert found.converged
    np.testing.assert_allclose(np.abs(found.details["spins"]), m, rtol=1e-8)
    up = (1 + m) / 2
    entropy = -up * math.log(up) - (1 - up) * math.log(1 - up)
    assert found.value / n == pytest.approx(-(n - 1) / n * m**2 / 2 - entropy / beta, rel=1e-12)


def test_best_of_several_starts() -> None:
    """With equal probabilities alone, a symmetric model stays where it is, which is no minimum."""
    model = vf.Ising(np.array([[0.0, 3.0, 0.0], [3.0, 0.0, 1.0], [0.0, 1.0, 0.0]]))
    one, many = mean_field(model, n_starts=1, rng=0), mean_field(model, n_starts=8, rng=0)
    np.testing.assert_allclose(one.details["spins"], 0.0, atol=1e-12)
    assert many.value < one.value - 0.5
    assert many.details["spread"] == pytest.approx(np.ptp(many.details["starts"]))


@pytest.mark.parametrize("kind", KINDS)
def test_starts_from_data(kind: str) -> None:
    """Two states apart: from data near one of them, that one is reached."""
    n, low = 6, 0 if kind == "bits" else -1
    rng = np.random.default_rng(0)
    pattern = rng.choice([-1.0, 1.0], n)
    if kind == "ising":
        couplings = np.outer(pattern, pattern) * (1 - np.eye(n))
        model: Any = vf.Ising(couplings, 0.05 * pattern)
    else:
        model = vf.SpinRBM(2.0 * pattern[:, None], 0.05 * pattern, np.array([0.1]))
        if kind == "bits":
            model = model.to_bernoulli()[0]
    data = np.where(-pattern > 0, 1, low)[None]
    details = mean_field(model, n_starts=2, data=data, rng=0).details
    assert details["starts_converged"].all()
    reached = mean_field(model, n_starts=2, data=np.where(pattern > 0, 1, low)[None], rng=0)
    assert details["starts"][1] > reached.details["starts"][1] + 0.1
    assert np.array_equal(np.sign(means_of(reached)[:n] - (1 + low) / 2), pattern)


def test_says_when_it_has_not_converged() -> None:
    with pytest.warns(MeanFieldWarning, match="mean_field: not converged after 2 sweeps"):
        found = mean_field(random_model("bits", 3, 1.0), max_sweeps=2, rng=0)
    assert not found.converged
    assert "not converged" in str(found)
    assert found.details["change"] > 1e-9
    assert found.kind == "upper_bound"
    assert found.value >= boltzmann(random_model("bits", 3, 1.0), 1.0)[1]


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_bits(kind: str) -> None:
    model = random_model(kind, 5, 1.0)
    found = [mean_field(model, rng=3, num_threads=k) for k in (1, 2)]
    assert found[0].value == found[1].value
    assert np.array_equal(means_of(found[0]), means_of(found[1]))
    single = mean_field(random_model(kind, 5, 1.0, np.float32), rng=3)
    assert single.value == pytest.approx(found[0].value, rel=1e-5)


def test_large_models_and_large_weights() -> None:
    rng = np.random.default_rng(2)
    rbm = vf.BernoulliRBM(60 * rng.normal(size=(4, 4)), 30 * rng.normal(size=4), 30 * rng.normal(size=4))
    found = mean_field(rbm, rng=0, n_starts=32)
    assert found.converged
    assert 0 <= found.value - vf.free_energy.exact(rbm).value < 2
    large = mean_field(vf.BernoulliRBM(*random_parameters(784, 500, scale=0.05)), rng=0)
    assert large.converged
    lattice = mean_field(random_ising(60, 0.2), rng=0)
    assert lattice.converged


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": -1.0}, "beta"),
        ({"n_starts": 0}, "n_starts"),
        ({"max_sweeps": 0}, "max_sweeps"),
        ({"tolerance": -1.0}, "tolerance"),
        ({"data": np.ones((2, 99))}, "data"),
        ({"data": np.full((2, 6), 0.5)}, "data"),
        ({"rng": "x"}, "rng"),
        ({"num_threads": 0}, "num_threads"),
    ],
)
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    for kind in KINDS:
        with pytest.raises((TypeError, ValueError), match=f"^{message}"):
            mean_field(random_model(kind, 3, 1.0), **options)


def test_other_models() -> None:
    gaussian = vf.GaussianRBM(np.ones((2, 1)), np.zeros(2), np.zeros(1), np.ones(2))
    for model in (gaussian, "x"):
        with pytest.raises(TypeError, match=r"^model: expected a BernoulliRBM, SpinRBM or Ising"):
            mean_field(model)


def test_published_rbm(reference_data: Path) -> None:
    """784 x 500 units; ln Z is 451.28 by annealed importance sampling (Salakhutdinov, Murray 2008)."""
    found = scipy.io.loadmat(reference_data / "salakhutdinov_rbm" / "mnistvh_CD25.mat")
    parameters = (found[name].astype(np.float64) for name in ("vishid", "visbiases", "hidbiases"))
    rbm = vf.BernoulliRBM(*(p if len(p) > 1 else p.ravel() for p in parameters))
    bound = mean_field(rbm, rng=0)
    assert bound.converged
    assert 430 < bound.log_z < 451.28
    with pytest.warns(MeanFieldWarning, match="Plefka"):
        second = vf.free_energy.tap(rbm, rng=0, n_starts=2)
    assert not second.converged
    assert bound.log_z < second.log_z == pytest.approx(451.28, abs=6)
