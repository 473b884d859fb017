"""The cumulant series of ln<exp(-beta V)> against exact laws, and what it says of itself."""

from __future__ import annotations

import math
import tracemalloc
import warnings
from typing import Any

import numpy as np
import pytest

from vfe_fast.statistics import SeriesWarning, cumulants, log_mean_exp_cumulants


def gamma(scale: float, n: int = 200_000, seed: int = 0) -> np.ndarray:
    """Gamma(2): ln<e^-V> = -2 ln(1 + scale), a series that converges for scale < 1."""
    return scale * np.random.default_rng(seed).gamma(2.0, size=n)


def test_terms_are_cumulants() -> None:
    V = gamma(0.3, 5000)
    found = log_mean_exp_cumulants(V, beta=1.5, order=7, lambda_=0.5)
    kappa = cumulants(V, 7)
    factors = np.array([(-0.75) ** r / math.factorial(r) for r in range(1, 8)])
    np.testing.assert_allclose(found.terms, kappa.values * factors, rtol=1e-12)
    np.testing.assert_allclose(found.terms_stderr, kappa.stderr * np.abs(factors), rtol=1e-9)
    np.testing.assert_allclose(found.partial_sums, found.terms.cumsum())
    np.testing.assert_allclose(found.ratios, found.terms[1:] / found.terms[:-1])
    assert found.order == 7
    assert found.n == 5000


def test_a_series_that_converges() -> None:
    """Values within 4.9 errors of the truth; partial sums approach the direct estimate."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = log_mean_exp_cumulants(gamma(0.3), order=8)
    exact = -2 * math.log(1.3)
    for value, stderr in (
        (found.value, found.stderr), (found.pade, found.pade_stderr), (found.direct, found.direct_stderr)
    ):  # fmt: skip
        assert abs(value - exact) < 4.9 * stderr
        assert 0 < stderr < 0.001
    off = np.abs(found.partial_sums - found.direct)
    assert (off[1:] < 0.5 * off[:-1]).all()
    assert abs(found.pade - found.direct) < off[-1]
    assert not found.diverges
    assert "best" in str(found)
    assert not log_mean_exp_cumulants(gamma(0.3), order=4).noisy


def test_direct_estimate() -> None:
    V = gamma(0.7, 3000)
    found = log_mean_exp_cumulants(V, beta=2.0)
    w = np.exp(-2.0 * V)
    assert found.direct == pytest.approx(math.log(w.mean()), rel=1e-13)
    assert found.ess == pytest.approx(w.sum() ** 2 / (w**2).sum(), rel=1e-12)
    assert found.direct_stderr == pytest.approx(w.std() / w.mean() / math.sqrt(3000), rel=0.3)
    huge = log_mean_exp_cumulants(V + 1e5, beta=2.0)
    assert huge.direct == pytest.approx(found.direct - 2e5, rel=1e-12)
    share = np.random.default_rng(1).uniform(0.2, 2.0, 3000)
    found = log_mean_exp_cumulants(V, beta=2.0, weights=share)
    assert found.direct == pytest.approx(math.log((share * w).sum() / share.sum()), rel=1e-13)
    assert found.ess == pytest.approx((share * w).sum() ** 2 / ((share * w) ** 2).sum(), rel=1e-12)


def test_negative_temperatures() -> None:
    """ln<exp(+V)>: as of -V, and far beyond what exp can hold."""
    V = gamma(0.3, 3000)
    found, mirrored = log_mean_exp_cumulants(V, beta=-1.5), log_mean_exp_cumulants(-V, beta=1.5)
    for name in ("terms", "terms_stderr", "value", "pade", "direct", "direct_stderr", "ess"):
        np.testing.assert_allclose(getattr(found, name), getattr(mirrored, name), rtol=1e-12)
    assert (found.terms[:4] > 0).all()
    far = log_mean_exp_cumulants(V + 1e4, beta=-1.5)
    assert far.direct == pytest.approx(math.log(np.exp(1.5 * V).mean()) + 1.5e4, rel=1e-12)


def test_a_series_that_diverges_says_so() -> None:
    with pytest.warns(SeriesWarning, match="diverges"):
        found = log_mean_exp_cumulants(gamma(1.5, 20_000), order=8)
    assert found.diverges
    assert found.best_order < 8
    assert "diverges" in str(found)
    exact = -2 * math.log(2.5)
    assert abs(found.pade - exact) < 4.9 * found.pade_stderr  # the resummed series is right all the same
    assert abs(found.pade - exact) < 0.1 * np.abs(found.partial_sums - exact).min()


def test_three_terms_that_grow_say_so() -> None:
    """-60, 904, -18109: the third is no correction. Of two terms nothing is said."""
    V = gamma(30.0, 20_000)
    with pytest.warns(SeriesWarning, match="diverges"):
        found = log_mean_exp_cumulants(V, order=3)
    assert found.diverges
    assert found.best_order == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not log_mean_exp_cumulants(V, order=2).diverges
        assert not log_mean_exp_cumulants(V / 100, order=3).diverges
        two = log_mean_exp_cumulants(V / 100, order=3, lambda_=[0.5, 1.0])
    assert str(two) == "2 cumulant series, (2,), 0 diverge"


def test_normal_numbers_need_two_terms() -> None:
    V = np.random.default_rng(1).normal(1.0, 0.8, 100_000)
    found = log_mean_exp_cumulants(V, order=6)
    exact = -1.0 + 0.32
    assert found.best_order >= 2
    assert abs(found.value - exact) < 4.9 * found.stderr
    assert not found.diverges
    assert found.noisy


def test_false_alarms() -> None:
    """Series of normal numbers end at order 2: at most 1 % of data sets are said to diverge."""
    rng = np.random.default_rng(2)
    for spread, order in ((0.3, 8), (0.8, 6), (5.0, 6), (10.0, 6), (10.0, 3), (100.0, 3)):
        V = rng.normal(1.0, spread, (400, 2000))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SeriesWarning)
            found = log_mean_exp_cumulants(V, order=order)
        assert found.diverges.mean() <= 0.01
        assert (found.best_order >= 2).mean() > 0.95
        off = np.abs(found.value - (-1.0 + spread**2 / 2)) / found.stderr
        assert (off < 3).mean() > 0.9


def test_samples_that_dominate() -> None:
    V = gamma(0.3, 2000)
    V[0] = -2000.0
    w = np.ones(2000)
    w[0] = 0
    found = log_mean_exp_cumulants(V, order=2, weights=w)
    assert found.direct == pytest.approx(math.log(np.exp(-V[1:]).mean()), rel=1e-12)
    V[0] = -50.0
    alone = log_mean_exp_cumulants(V, order=1)
    assert alone.ess == pytest.approx(1.0)
    assert alone.direct_stderr > 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        extreme = log_mean_exp_cumulants(1e100 * gamma(1.0, 99), order=2)  # errors of 1e199
    assert extreme.ess == 1
    assert np.isnan(extreme.direct_stderr)
    w[:] = 0
    w[7] = 1
    with pytest.raises(ValueError, match=r"^weights: expected some in two blocks"):
        log_mean_exp_cumulants(V, order=2, weights=w)


def test_errors_cover() -> None:
    """Of 1000 data sets, within one error: 68 % +- 5 % (1.5 % is one standard error of that)."""
    V = gamma(0.3, 1000 * 2000, seed=3).reshape(1000, 2000)
    found = log_mean_exp_cumulants(V, order=6)
    exact = -2 * math.log(1.3)
    for value, stderr in (
        (found.value, found.stderr), (found.pade, found.pade_stderr), (found.direct, found.direct_stderr)
    ):  # fmt: skip
        assert abs((np.abs(value - exact) < stderr).mean() - 0.683) < 0.05


def test_couplings() -> None:
    V = gamma(0.3, 6000).reshape(3, 2000)
    strengths = [0.1, 0.5, 1.0]
    found = log_mean_exp_cumulants(V, order=5, lambda_=strengths)
    assert found.terms.shape == (3, 3, 5)
    for k, strength in enumerate(strengths):
        one = log_mean_exp_cumulants(V[1], beta=strength, order=5)
        np.testing.assert_allclose(found.partial_sums[k, 1], one.partial_sums, rtol=1e-12)
        np.testing.assert_allclose(found.pade[k, 1], one.pade, rtol=1e-9)
        np.testing.assert_allclose(found.direct[k, 1], one.direct, rtol=1e-12)
    columns = log_mean_exp_cumulants(np.ascontiguousarray(V.T), order=5, axis=0)
    np.testing.assert_allclose(columns.value, found.value[2], rtol=1e-12)


def test_weights() -> None:
    """Samples of one law, weighted to another: both estimates are of the other."""
    rng = np.random.default_rng(4)
    V = rng.exponential(size=400_000) * 0.4
    found = log_mean_exp_cumulants(V, order=6, weights=V)  # weight x: Gamma(2)
    exact = -2 * math.log(1.4)
    assert abs(found.value - exact) < 4.9 * found.stderr + 0.003  # the seventh term
    assert abs(found.direct - exact) < 4.9 * found.direct_stderr
    assert abs(found.pade - exact) < 4.9 * found.pade_stderr + 1e-4


def test_pade_is_exact_for_a_rational_function() -> None:
    from vfe_fast.statistics.series import _has_pole, _pade

    terms = np.array([2.0 * (-0.8) ** r for r in range(6)])  # 2 x / (1 + 0.8 x), a Padé approximant itself
    found, q = _pade(terms, 2)
    assert found == pytest.approx(2 / 1.8, rel=1e-9)
    assert not _has_pole(q)
    assert _has_pole(_pade(np.array([2.0 * 1.25**r for r in range(6)]), 1)[1])  # at 0.8
    # x / ((1 - x / 0.4) (1 - x / 0.6)) is positive at 1, with two poles before it.
    two = np.array([2.5 ** (r + 1) - (1 / 0.6) ** (r + 1) for r in range(6)]) / (2.5 - 1 / 0.6)
    found, q = _pade(two, 2)
    assert found == pytest.approx(1 / ((1 - 2.5) * (1 - 1 / 0.6)), rel=1e-9)
    assert _has_pole(q)


def test_pade_of_the_highest_degree_without_a_pole() -> None:
    """Without each block alike; where every denominator vanishes on the way, the sum itself."""
    from vfe_fast.statistics.series import _has_pole, _pade, _resummed

    orders = np.arange(6)
    # Of degree 2: 3 x / (1 + x / 2) - x / (1 + a x).
    alternating, others = (3 * (-0.5) ** orders - (-a) ** orders for a in (0.8, 0.7))
    value, left_out, _ = _resummed(alternating, others[None])
    assert value == pytest.approx(2 - 1 / 1.8, rel=1e-9)
    assert left_out[0] == pytest.approx(2 - 1 / 1.7, rel=1e-9)
    for growing in (2.0 * 1.25 ** orders[:3], 2.5 ** (orders + 1) - (1 / 0.6) ** (orders + 1)):
        value, left_out, _ = _resummed(growing, 1.01 * growing[None])
        assert value == pytest.approx(growing.sum(), rel=1e-14)
        assert left_out[0] == pytest.approx(1.01 * growing.sum(), rel=1e-14)
    partly = np.array([1.0, -0.5, 0.2, -0.02, 0.3])  # a pole of degree 2, none of degree 1
    (first, of_first), (_, of_second) = _pade(partly, 1), _pade(partly, 2)
    assert not _has_pole(of_first)
    assert _has_pole(of_second)
    assert _resummed(partly, partly[None])[0] == first
    value, _, possible = _resummed(alternating, others[None], (alternating[0] - 9.0, 1.0))
    assert value == pytest.approx(alternating.sum(), rel=1e-14)  # no approximant is as small, the sum is not
    assert possible == (value <= 1.0)


@pytest.mark.parametrize("order", [5, 6, 7, 8])
def test_no_impossible_sum_of_a_bounded_variable(order: int) -> None:
    """ln⟨exp(-βV)⟩ of a coin lies between -β/2 and 0; far beyond its radius no approximant does."""
    V = np.random.default_rng(3).integers(0, 2, 20_000).astype(float)
    for beta in (0.5, 2.0, 8.0, 20.0):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SeriesWarning)
            found = log_mean_exp_cumulants(V, beta=beta, order=order)
        assert np.isnan(found.pade) or -0.6 * beta < found.pade < 0.2
        assert np.isnan(found.pade) == np.isnan(found.pade_stderr)
        if beta < 3.0:
            assert found.pade == pytest.approx(math.log((1 + math.exp(-beta)) / 2), abs=0.05)


def test_growing_terms_in_noise_are_no_convergence() -> None:
    """Of V = e^x, whose series diverges for every β, no seed goes without a word."""
    for seed in range(20):
        V = np.exp(np.random.default_rng(seed).normal(size=20_000))
        with pytest.warns(SeriesWarning):
            found = log_mean_exp_cumulants(V, order=8)
        assert found.diverges != found.hidden
        assert "may diverge" in str(found) or found.diverges
    V = np.random.default_rng(0).normal(size=20_000)
    assert not log_mean_exp_cumulants(V, order=8).hidden


def test_many_series_need_little_memory() -> None:
    """A tenth of a megabyte a row would be half a gigabyte."""
    V = 0.3 * np.random.default_rng(0).gamma(2.0, size=(5000, 100))
    tracemalloc.start()
    try:
        log_mean_exp_cumulants(V, order=8)
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()


def test_no_perturbation() -> None:
    found = log_mean_exp_cumulants(np.full(100, 0.5), order=4)
    assert found.value == pytest.approx(-0.5, abs=1e-15)
    assert found.direct == pytest.approx(-0.5, abs=1e-15)
    assert found.ess == pytest.approx(100)
    nothing = log_mean_exp_cumulants(gamma(0.3, 100), lambda_=0.0)
    assert nothing.value == 0
    assert nothing.direct == 0


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"V": [1.0, 2.0]}, ValueError, "V"),
        ({"V": np.zeros(9, int)}, TypeError, "V"),
        ({"V": np.full(100, np.nan)}, ValueError, "V"),
        ({"order": 9}, ValueError, "order"),
        ({"beta": np.inf}, ValueError, "beta"),
        ({"beta": "1"}, TypeError, "beta"),
        ({"lambda_": [[1.0]]}, ValueError, "lambda_"),
        ({"lambda_": np.nan}, ValueError, "lambda_"),
        ({"lambda_": []}, TypeError, "lambda_"),
        ({"lambda_": "a"}, TypeError, "lambda_"),
        ({"lambda_": 1 + 5j}, TypeError, "lambda_"),
        ({"beta": 1e60, "order": 8}, ValueError, "beta"),
        ({"weights": np.ones(3)}, ValueError, "weights"),
        ({"axis": 3}, ValueError, "axis"),
    ],
)
def test_bad_arguments(change: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=f"^{match}:"):
        log_mean_exp_cumulants(**({"V": gamma(0.3, 100)} | change))
