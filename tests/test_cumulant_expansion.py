"""The cumulant expansion against brute force: bound, corrections, size-extensivity, errors."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest

import vfe_fast as vf
from conftest import random_parameters
from oracles.rbm import all_states, energies
from vfe_fast.free_energy import cumulant_expansion
from vfe_fast.statistics.series import SeriesWarning

BETA = 0.8


def models(scale: float) -> dict[str, Any]:
    rng = np.random.default_rng(2)
    upper = np.triu(rng.normal(size=(9, 9)) + 0.2, 1) * scale
    return {
        "bernoulli": vf.BernoulliRBM(*random_parameters(5, 4, scale=scale)),
        "spin": vf.SpinRBM(*random_parameters(5, 4, scale=scale)),
        "ising": vf.Ising(upper + upper.T, scale * (rng.normal(size=9) - 0.3)),
    }


def states_and_energies(model: Any) -> tuple[np.ndarray, np.ndarray]:
    """By definition, of all units of all layers: as whether they are up, and E."""
    if isinstance(model, vf.Ising):
        up = all_states(model.n_spins)
        s = 2 * up - 1
        return up, np.array([-0.5 * x @ model.couplings @ x - model.fields @ x for x in s])
    v, h = all_states(model.n_visible), all_states(model.n_hidden)
    up = np.array([np.concatenate([x, y]) for x in v for y in h])
    if isinstance(model, vf.BernoulliRBM):
        return up, energies(*model.parameters).ravel()
    w, a, b = model.parameters
    return up, np.array([-(a @ x) - b @ y - x @ w @ y for x in 2 * v - 1 for y in 2 * h - 1])


def cumulants_by_definition(x: np.ndarray, p: np.ndarray, order: int) -> list[float]:
    """From the moments: kappa_n = m_n - sum_k C(n-1, k-1) kappa_k m_(n-k)."""
    m = [float(p @ x**r) for r in range(order + 1)]
    found: list[float] = []
    for n in range(1, order + 1):
        found.append(m[n] - sum(math.comb(n - 1, k - 1) * found[k - 1] * m[n - k] for k in range(1, n)))
    return found


def probability(up: np.ndarray, on: np.ndarray) -> np.ndarray:
    return np.where(up > 0, on, 1 - on).prod(axis=1)


def means_of(model: Any, on: np.ndarray) -> Any:
    means = on if isinstance(model, vf.BernoulliRBM) else 2 * on - 1
    return means if isinstance(model, vf.Ising) else (means[:5], means[5:])


@pytest.mark.filterwarnings("ignore::vfe_fast.statistics.series.SeriesWarning")
@pytest.mark.parametrize("kind", ["bernoulli", "spin", "ising"])
def test_terms_are_those_of_the_definition(kind: str) -> None:
    model = models(0.3)[kind]
    on = np.random.default_rng(4).uniform(0.2, 0.9, 9)
    found = cumulant_expansion(model, 6, beta=BETA, means=means_of(model, on))
    up, e = states_and_energies(model)
    q = probability(up, on)
    v = e + np.log(q) / BETA
    kappa = cumulants_by_definition(v - v.mean(), q, 6)
    kappa[0] += v.mean()
    assert found.details["cumulants"] == pytest.approx(kappa, rel=1e-9, abs=1e-12)
    terms = [(-BETA) ** r * k / math.factorial(r) for r, k in enumerate(kappa, 1)]
    series = found.details["series"]
    assert series.terms == pytest.approx(terms, rel=1e-9, abs=1e-12)
    assert series.direct == pytest.approx(np.log(np.exp(-BETA * e).sum()), rel=1e-12)
    assert found.stderr == 0
    assert found.ess == np.inf
    assert found.details["energy"] == pytest.approx(q @ e)
    assert found.details["entropy"] == pytest.approx(-(q @ np.log(q)))


@pytest.mark.parametrize("kind", ["bernoulli", "spin", "ising"])
def test_first_order_is_the_bound(kind: str) -> None:
    """F <= <E> - S / beta of any q, as an equality with the first partial sum."""
    for seed in range(20):
        model = models(0.6)[kind]
        on = np.random.default_rng(seed).uniform(0.02, 0.98, 9)
        found = cumulant_expansion(model, 1, beta=BETA, means=means_of(model, on))
        up, e = states_and_energies(model)
        q = probability(up, on)
        assert found.kind == "upper_bound"
        assert found.value == pytest.approx(q @ e + (q @ np.log(q)) / BETA, rel=1e-12)
        assert found.value == found.details["bound"]
        assert found.value >= vf.free_energy.exact(model, beta=BETA).value - 1e-12


@pytest.mark.filterwarnings("ignore::vfe_fast.statistics.series.SeriesWarning")
@pytest.mark.parametrize("kind", ["bernoulli", "spin", "ising"])
def test_units_without_couplings_to_begin_with(kind: str) -> None:
    model = models(0.5)[kind]
    biases = [model.fields] if kind == "ising" else [model.visible_bias, model.hidden_bias]
    means = [1 / (1 + np.exp(-BETA * x)) if kind == "bernoulli" else np.tanh(BETA * x) for x in biases]
    given = cumulant_expansion(model, 3, beta=BETA, means=means[0] if kind == "ising" else means)
    assert cumulant_expansion(model, 3, beta=BETA).details["cumulants"] == pytest.approx(
        given.details["cumulants"], rel=1e-9
    )


@pytest.mark.parametrize("kind", ["bernoulli", "spin", "ising"])
def test_corrections_help_at_weak_coupling(kind: str) -> None:
    model = models(0.08)[kind]
    found = cumulant_expansion(model, 6, beta=BETA)
    exact = vf.free_energy.exact(model, beta=BETA).log_z
    off = np.abs(found.details["series"].partial_sums - exact)
    assert off[1] < off[0] / 4
    assert off[3] < off[1] / 2
    assert off[5] < off[3]
    assert found.kind == "asymptotic"
    assert found.converged
    assert abs(found.log_z - exact) < 1e-3


@pytest.mark.filterwarnings("ignore::vfe_fast.statistics.series.SeriesWarning")
@pytest.mark.parametrize("kind", ["bernoulli", "spin", "ising"])
@pytest.mark.parametrize("sum_hidden", [False, True])
def test_about_the_mean_field(kind: str, sum_hidden: bool) -> None:
    """Its first order is the mean-field bound, or a better one if hidden units are summed."""
    if kind == "ising" and sum_hidden:
        return
    model = models(0.4)[kind]
    bound = vf.free_energy.mean_field(model, beta=BETA, rng=0)
    exact = vf.free_energy.exact(model, beta=BETA)
    found = cumulant_expansion(model, 4, beta=BETA, sum_hidden=sum_hidden, means="mean_field", rng=0)
    if sum_hidden:
        assert exact.value < found.details["bound"] < bound.value
    else:
        assert found.details["bound"] == pytest.approx(bound.value, rel=1e-10)


def test_about_the_mean_field_of_biased_units() -> None:
    """Errors of ln Z fall by more than two with the better trial distribution."""
    draw = np.random.default_rng(2)
    model = vf.BernoulliRBM(draw.normal(0.1, 0.5, (9, 7)), draw.normal(size=9), draw.normal(size=7))
    exact = vf.free_energy.exact(model).log_z
    about = [
        abs(cumulant_expansion(model, 4, means=means, rng=0).log_z - exact) for means in (None, "mean_field")
    ]
    assert about[1] < 0.5 * about[0]


def test_about_a_mean_field_that_is_frozen() -> None:
    """Means of 0 and 1 in float64 are moved off: every state has some probability."""
    model = vf.BernoulliRBM(*(60 * p for p in random_parameters(5, 4)))
    found = cumulant_expansion(model, 2, means="mean_field", rng=0)
    assert found.details["bound"] == pytest.approx(vf.free_energy.mean_field(model, rng=0).value, rel=1e-10)


@pytest.mark.parametrize("kind", ["bernoulli", "spin"])
def test_hidden_units_summed(kind: str) -> None:
    """A better bound than that of all units with the same visible means; the same ln Z."""
    model = models(0.5)[kind]
    on = np.random.default_rng(5).uniform(0.2, 0.8, 9)
    visible, hidden = means_of(model, on)
    all_units = cumulant_expansion(model, 3, beta=BETA, means=(visible, hidden))
    summed = cumulant_expansion(model, 3, beta=BETA, means=visible, sum_hidden=True)
    exact = vf.free_energy.exact(model, beta=BETA)
    assert exact.value < summed.details["bound"] < all_units.details["bound"]
    assert summed.details["series"].direct == pytest.approx(exact.log_z, rel=1e-10)


@pytest.mark.parametrize("n_samples", [None, 200_000])
def test_a_sum_far_from_the_direct_estimate_has_not_converged(n_samples: int | None) -> None:
    """Terms that become smaller, to a sum that is off by more than the last of them."""
    draw = np.random.default_rng(1)
    seen = 0
    for _ in range(40):
        upper = np.triu(draw.normal(0.1, 1.0, (7, 7)), 1)
        model = vf.Ising(upper + upper.T, draw.normal(0.1, 1.0, 7))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SeriesWarning)
            found = cumulant_expansion(model, 4, beta=1.0, n_samples=n_samples, rng=0)
        last = np.abs(found.details["series"].terms[2:]).max()
        seen += "off the direct estimate" in found.problem
        if found.converged and found.details["series"].ess > 1000:
            noise = 4 * (found.stderr + found.details["series"].direct_stderr)
            assert abs(found.log_z - vf.free_energy.exact(model).log_z) < last + noise + 1e-9
    assert seen > 0


def test_two_copies_have_twice_the_free_energy() -> None:
    """Size-extensive, order by order, which a truncated exponential would not be."""
    w, a, b = random_parameters(4, 3, scale=0.5)
    one = cumulant_expansion(vf.BernoulliRBM(w, a, b), 6, beta=BETA)
    twice = vf.BernoulliRBM(np.kron(np.eye(2), w), np.tile(a, 2), np.tile(b, 2))
    two = cumulant_expansion(twice, 6, beta=BETA)
    sums = one.details["series"].partial_sums
    assert two.details["series"].partial_sums == pytest.approx(2 * sums, rel=1e-11)


def test_sampled_terms_are_within_their_errors() -> None:
    """Each of 4 terms over 60 seeds: |z| has the law of a normal number; false alarm 1e-5."""
    model = vf.BernoulliRBM(*random_parameters(12, 9, scale=0.15))
    exact = cumulant_expansion(model, 4, beta=BETA, n_samples=None, sum_hidden=True).details["series"]
    z = []
    for seed in range(60):
        found = cumulant_expansion(model, 4, beta=BETA, n_samples=4000, rng=seed, sum_hidden=True)
        series = found.details["series"]
        assert not found.details["exact"]
        z.append((series.terms - exact.terms) / series.terms_stderr)
    within = (np.abs(z) < 1).mean()
    assert 0.683 - 4.4 * np.sqrt(0.683 * 0.317 / 240) < within < 0.683 + 4.4 * np.sqrt(0.683 * 0.317 / 240)
    assert np.abs(np.mean(z, axis=0)).max() < 4.7 / np.sqrt(60)


@pytest.mark.parametrize("kind", ["bernoulli", "spin", "ising"])
def test_the_bound_needs_no_samples(kind: str) -> None:
    """E of the means is its mean under independent units; where hidden ones are summed it is not."""
    model = models(0.4)[kind]
    for options in ({}, {"means": "mean_field"}):
        exact = cumulant_expansion(model, 1, beta=BETA, rng=3, **options)
        found = cumulant_expansion(model, 1, beta=BETA, n_samples=500, rng=3, **options)
        assert found.kind == exact.kind == "upper_bound"
        assert found.value == pytest.approx(exact.value, rel=1e-12)
        assert found.details["energy"] == pytest.approx(exact.details["energy"], rel=1e-12)
        assert found.stderr == 0.0
        assert cumulant_expansion(model, 4, beta=BETA, n_samples=500, rng=3, **options).details[
            "bound"
        ] == pytest.approx(exact.value, rel=1e-12)
    if kind != "ising":
        summed = cumulant_expansion(model, 1, beta=BETA, sum_hidden=True)
        found = cumulant_expansion(model, 1, beta=BETA, sum_hidden=True, n_samples=500, rng=3)
        assert 0 < abs(found.log_z - summed.log_z) < 5 * found.stderr


def test_many_units_are_sampled() -> None:
    model = vf.BernoulliRBM(*random_parameters(60, 12, scale=0.05, dtype=np.float32))
    found = cumulant_expansion(model, 3, rng=1)
    exact = vf.free_energy.exact(model).log_z
    assert found.details["series"].n == 100_000
    assert abs(found.log_z - exact) < 5 * found.stderr + 0.01
    assert cumulant_expansion(model, 3, rng=1).log_z == found.log_z
    assert cumulant_expansion(model, 3, rng=2).log_z != found.log_z


def test_a_series_that_diverges_says_so() -> None:
    model = vf.Ising(np.kron([[0.0, 1.0], [1.0, 0.0]], 3.0 * np.ones((4, 4))), np.full(8, 0.2))
    with pytest.warns(SeriesWarning, match="diverges"):
        found = cumulant_expansion(model, 8)
    assert not found.converged


def test_trace_of_the_coupling() -> None:
    """Order by order a polynomial in lambda; at lambda = 1 the series itself."""
    model = models(0.3)["bernoulli"]
    found = cumulant_expansion(model, 4, beta=BETA, lambda_=[0.0, 0.5, 1.0])
    trace, terms = found.details["trace"], found.details["series"].terms
    assert trace.terms[0] == pytest.approx(np.zeros(4))
    assert trace.terms[1] == pytest.approx(terms * 0.5 ** np.arange(1, 5))
    assert trace.terms[2] == pytest.approx(terms)


BAD = {
    "model": (lambda m: cumulant_expansion("no", 2), TypeError, "model"),
    "gaussian": (lambda m: cumulant_expansion(vf.GaussianRBM(*random_parameters(3, 2))), TypeError, "model"),
    "order": (lambda m: cumulant_expansion(m, 9), ValueError, "order"),
    "beta": (lambda m: cumulant_expansion(m, beta=0.0), ValueError, "beta"),
    "one array": (lambda m: cumulant_expansion(m, means=np.full(5, 0.5)), TypeError, "means"),
    "shape": (lambda m: cumulant_expansion(m, means=(np.full(4, 0.5), np.full(4, 0.5))), ValueError, "means"),
    "edge": (lambda m: cumulant_expansion(m, means=(np.full(5, 1.0), np.full(4, 0.5))), ValueError, "means"),
    "name": (lambda m: cumulant_expansion(m, means="tap"), ValueError, "means"),
    "nan": (lambda m: cumulant_expansion(m, means=(np.full(5, np.nan), np.zeros(4))), ValueError, "means"),
    "text": (lambda m: cumulant_expansion(m, means=(np.full(5, "x"), np.full(4, 0.5))), TypeError, "means"),
    "sum_hidden": (lambda m: cumulant_expansion(m, sum_hidden=1), TypeError, "sum_hidden"),
    "ising": (lambda m: cumulant_expansion(models(1)["ising"], sum_hidden=True), ValueError, "sum_hidden"),
    "samples": (lambda m: cumulant_expansion(m, 4, n_samples=4), ValueError, "n_samples"),
    "lambda": (lambda m: cumulant_expansion(m, lambda_=[np.nan]), ValueError, "lambda_"),
    "rng": (lambda m: cumulant_expansion(m, n_samples=10, rng=-1), ValueError, "rng"),
}  # fmt: skip


@pytest.mark.parametrize("label", BAD)
def test_bad_arguments(label: str) -> None:
    call, error, name = BAD[label]
    with pytest.raises(error, match=rf"^{name}: "):
        call(models(0.3)["bernoulli"])


@pytest.mark.parametrize("n_samples", [None, 1000])
def test_a_warning_is_about_the_line_that_asked(n_samples: int | None) -> None:
    rbm = vf.BernoulliRBM(3.0 * np.random.default_rng(0).normal(size=(6, 4)), np.zeros(6), np.zeros(4))
    with pytest.warns(SeriesWarning, match="diverges") as found:
        cumulant_expansion(rbm, order=5, n_samples=n_samples, rng=0)
    assert [w.filename for w in found] == [__file__]
