"""Cumulants against their definition in mpmath and fractions, published numbers, exact laws, and coverage."""

from __future__ import annotations

import itertools
import math
import pickle
import tracemalloc
from fractions import Fraction
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from scipy import stats

import vfe_fast as vf
from oracles import cumulants as oracle
from vfe_fast.statistics import CumulantAccumulator, cumulants

# 30 numbers and their k-statistics as R's package kStatistics prints them.
R_SAMPLE = [
    16.34, 10.76, 11.84, 13.55, 15.85, 18.20, 7.51, 10.22, 12.52, 14.68, 16.08, 19.43, 8.12, 11.20, 12.95,
    14.77, 16.83, 19.80, 8.55, 11.58, 12.10, 15.02, 16.83, 16.98, 19.92, 9.47, 11.68, 13.41, 15.35, 19.11,
]  # fmt: skip
R_VALUES = [14.02166666666667, 12.65006954022974, -1.447059503280798, -141.6682291883626]


def skewed(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(1.5, size=shape) - 0.3


def largest_terms(x: np.ndarray, order: int = 8) -> np.ndarray:
    """The largest product of central moments in each order's formula, with its count of partitions."""
    d = x - x.mean()
    moment = [np.mean(np.abs(d) ** q) for q in range(order + 1)]
    found = [abs(x.mean()) + moment[1]]
    for r in range(2, order + 1):
        terms = {
            sizes: count * math.factorial(len(sizes) - 1) * math.prod(moment[q] for q in sizes)
            for sizes, count in oracle.integer_partitions(r).items()
        }
        found.append(max(term for sizes, term in terms.items() if 1 not in sizes))
    return np.array(found)


def distinct(w: np.ndarray, order: int = 8) -> np.ndarray:
    """The chance that 1, 2, ... draws by weight are distinct: r! Σ_{i < j < ...} w_i w_j ... / (Σ w)^r."""
    found = np.eye(1, order + 1)[0]
    for share in w / w.sum():
        found[1:] += np.arange(1, order + 1) * share * found[:-1]
    return found[1:]


def exact(
    x: np.ndarray, order: int = 8, weights: np.ndarray | None = None, unbiased: bool = True
) -> np.ndarray:
    with mp.workdps(60):
        of = oracle.unbiased if unbiased else oracle.biased
        w = None if weights is None else [mp.mpf(float(a)) for a in weights]
        return np.array([float(k) for k in of([mp.mpf(float(a)) for a in x], order, w)])


def test_oracle_is_the_mean_over_tuples() -> None:
    x = [Fraction(k) for k in (3, -1, 4, 1, -5, 9)]
    for order in range(1, 6):
        assert oracle.unbiased(x, order)[-1] == oracle.by_tuples(x, order)


@pytest.mark.twin(small=True)
def test_published_numbers(target: str) -> None:
    """R's own rounding is larger than ours, in the third by 2e-12 of a number where much cancels."""
    found = cumulants(R_SAMPLE, order=4)
    assert (np.abs(found.values / R_VALUES - 1) < [1e-15, 2e-14, 3e-12, 2e-14]).all()
    of_mpmath = exact(np.array(R_SAMPLE), 4)
    assert (np.abs(found.values / of_mpmath - 1) < [1e-15, 1e-15, 3e-14, 3e-15]).all()


@pytest.mark.twin(small=True)
@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [8, 9, 17, 100, 512, 513, 3001])
def test_against_mpmath(target: str, n: int, dtype: Any, unbiased: bool) -> None:
    """Rows side by side, one row, and many: on both sides of where the method changes."""
    x = skewed(11, n, seed=n).astype(dtype)
    found = cumulants(x, unbiased=unbiased)
    expected = exact(x[3], unbiased=unbiased)
    allowed = 1e-12 * largest_terms(x[3].astype(np.float64))
    assert (np.abs(found.values[3] - expected) <= allowed).all()
    assert (np.abs(cumulants(x[3], unbiased=unbiased).values - expected) <= allowed).all()
    columns = cumulants(np.ascontiguousarray(x.T), axis=0, unbiased=unbiased)
    assert (np.abs(columns.values[3] - expected) <= allowed).all()
    assert found.values.dtype == np.float64


@pytest.mark.twin(small=True)
@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("n", [12, 100, 1500])
@pytest.mark.parametrize("spread", [0.5, 2.0])
def test_weights_against_mpmath(target: str, n: int, spread: float, unbiased: bool) -> None:
    """The terms of an unbiased one of order r are over the chance that r draws by weight are distinct."""
    x = skewed(n, seed=n)
    w = np.random.default_rng(n).lognormal(0.0, spread, n)
    found = cumulants(x, weights=w, unbiased=unbiased).values
    expected = exact(x, weights=w, unbiased=unbiased)
    allowed = 1e-12 * largest_terms(x) / (distinct(w) if unbiased else 1.0)
    assert (np.abs(found - expected) <= allowed).all()
    scaled = cumulants(x, weights=64 * w, unbiased=unbiased).values
    np.testing.assert_allclose(scaled, found, rtol=1e-10)
    repeated = np.repeat(x, 3), np.repeat(w, 3)
    if not unbiased:
        of_repeated = cumulants(repeated[0], weights=repeated[1], unbiased=False).values
        np.testing.assert_allclose(of_repeated, found, rtol=1e-11)


def test_equal_weights_are_none() -> None:
    x = skewed(5, 300)
    for unbiased in (True, False):
        plain = cumulants(x, unbiased=unbiased)
        for weights in (np.full(300, 0.7), np.full((5, 300), 2.0, np.float32)):
            weighted = cumulants(x, weights=weights, unbiased=unbiased)
            np.testing.assert_allclose(weighted.values, plain.values, rtol=1e-9)
            np.testing.assert_allclose(weighted.stderr, plain.stderr, rtol=1e-7)


def test_weights_of_which_few_are_positive() -> None:
    """Wherever they are in a row: as many as there are orders are needed for unbiased ones."""
    x, w = skewed(2, 5000), np.ones((2, 5000))
    w[1, :-4] = 0
    found = cumulants(x, 4, weights=w).values
    np.testing.assert_allclose(found[1], cumulants(x[1, -4:], 4).values, rtol=1e-11)
    with pytest.raises(ValueError, match="weights: expected 5 > 0 in every row, got 4"):
        cumulants(x, 5, weights=w)


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_weights_along_an_axis(axis: int, unbiased: bool) -> None:
    """One weight a sample, and shapes that broadcast: where all axes have one length, only `axis` tells."""
    x = skewed(12, 12, 12)
    w = np.random.default_rng(3).uniform(0.2, 3.0, 12)
    found = cumulants(x, order=4, axis=axis, weights=w, unbiased=unbiased).values
    one = np.moveaxis(x, axis, -1)[3, 5]
    expected = exact(one, 4, weights=w, unbiased=unbiased)
    assert (np.abs(found[3, 5] - expected) <= 1e-9 * largest_terms(one, 4)).all()
    whole = np.moveaxis(np.broadcast_to(w, x.shape), -1, axis)
    again = cumulants(x, order=4, axis=axis, weights=whole, unbiased=unbiased).values
    np.testing.assert_allclose(again, found, rtol=1e-9, atol=1e-12)


def test_expectations_by_enumeration() -> None:
    """All samples of n = 8 coins of p = 1/4: the mean k-statistic is the cumulant, weighted or not."""
    coins = np.array(list(itertools.product([0.0, 1.0], repeat=8)))
    probability = np.prod(np.where(coins == 1, 0.25, 0.75), axis=1)
    with mp.workdps(40):
        t_series = mp.taylor(lambda t: mp.log(mp.mpf(3) / 4 + mp.exp(t) / 4), 0, 8)
        expected = [float(c * mp.factorial(r)) for r, c in enumerate(t_series)][1:]
    for weights in (None, np.array([1.0, 2.0, 0.5, 1.5, 1.0, 3.0, 0.7, 1.1])):
        found = probability @ cumulants(coins, weights=weights).values
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.twin(small=True)
@pytest.mark.parametrize("shift", [1e8, -1e8])
def test_mean_far_from_zero(target: str, shift: float) -> None:
    x = np.random.default_rng(1).normal(size=3000) + shift
    assert (np.abs(cumulants(x).values - exact(x)) <= 1e-12 * largest_terms(x)).all()
    x = np.random.default_rng(1).normal(size=40_000) ** 2 + shift
    near = cumulants(x - shift, order=4).values  # the same numbers: this difference is exact
    far = cumulants(x, order=4).values
    far[0] -= shift
    np.testing.assert_allclose(far[1:], near[1:], rtol=1e-9)
    assert far[0] == pytest.approx(near[0], abs=2e-8)
    short = x.reshape(400, 100)
    both = (cumulants(a, order=4).values[:, 1:] for a in (short, short - shift))
    np.testing.assert_allclose(*both, rtol=1e-8)


def test_sorted_and_uneven_data() -> None:
    """Blocks that differ from each other, one of them far away."""
    for x in (np.sort(skewed(5000)), np.concatenate([np.zeros(200), skewed(4800) + 50])):
        assert (np.abs(cumulants(x).values - exact(x)) <= 1e-12 * largest_terms(x)).all()


@pytest.mark.parametrize("where", ["first", "everywhere"])
def test_a_center_that_will_not_do(where: str) -> None:
    """The mean of a row's first numbers is tried as its center: here it is far off, at once or later on.

    Columns, whose panels have centers of their own, must bear the same.
    """
    n = 2_000_000
    x = skewed(n, seed=3)
    x += 100 * (np.arange(n) < 130) if where == "first" else np.linspace(0, 1000, n)
    d = x.astype(np.longdouble)
    d -= d.mean()
    moment, power = [np.longdouble(1)], np.ones_like(d)
    for _ in range(8):
        power *= d
        moment.append(power.mean())
    expected = [np.longdouble(0), np.longdouble(0)]
    for r in range(2, 9):
        lower = (math.comb(r - 1, q - 1) * expected[q] * moment[r - q] for q in range(1, r))
        expected.append(moment[r] - sum(lower))
    expected[1] = x.astype(np.longdouble).mean()
    allowed = 1e-12 * largest_terms(x)
    columns = np.repeat(x[:, None], 8, axis=1)
    for values in (
        cumulants(x, unbiased=False).values,
        cumulants(columns, axis=0, unbiased=False).values[-1],
    ):
        assert (np.abs(values - expected[1:]) <= allowed).all()


@pytest.mark.parametrize("shape", [(7, 5000), (3, 40), (20, 600), (2, 3, 50), (1, 300_001)])
def test_same_bits(shape: tuple[int, ...]) -> None:
    """For any number of threads, every instruction set, and the caller's layout."""
    from vfe_fast import _core

    x = skewed(*shape)
    before = vf.show_config("dict")["target"]
    results = set()
    try:
        for name in vf.show_config("dict")["usable_targets"]:
            _core.use_target(name)
            for threads in (1, 2, 3):
                found = cumulants(x, num_threads=threads)
                results.add(found.values.tobytes() + found.stderr.tobytes())
    finally:
        _core.use_target(before)
    assert len(results) == 1


def test_layouts() -> None:
    x = skewed(6, 7, 50, 4)
    expected = np.moveaxis(cumulants(np.ascontiguousarray(np.moveaxis(x, 2, -1))).values, -1, -1)
    for layout in (
        x,
        np.asfortranarray(x),
        x[::-1][::-1],
        np.repeat(x, 2, axis=0)[::2],
        x.astype(x.dtype, order="F"),
    ):
        found = cumulants(layout, axis=2)
        np.testing.assert_allclose(found.values, expected, rtol=1e-9)
    backwards = cumulants(x[:, :, ::-1], axis=2)
    np.testing.assert_allclose(backwards.values, expected, rtol=1e-9)
    assert cumulants(x[..., :0, :].swapaxes(0, 1), axis=0, order=2).values.shape == (6, 0, 4, 2)
    record = np.zeros(200, dtype=[("flag", np.uint8), ("x", np.float64)])
    record["x"] = skewed(200)
    np.testing.assert_allclose(cumulants(record["x"]).values, cumulants(skewed(200)).values, rtol=1e-12)


def test_no_hidden_copy() -> None:
    """Of views that are not contiguous: what is allocated beside the result is small."""
    x = np.ones((400, 20_000), np.float32)  # 32 MB
    for view in (x[:, ::2], x.T[::3], x[::-1, ::-1], np.broadcast_to(x[:1], (300, 20_000))):
        cumulants(view)
        tracemalloc.start()
        cumulants(view)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 40 * 8 * view.shape[0] + 200_000


def test_exact_laws() -> None:
    """Gamma, Poisson and two-level systems within 4.9 jackknife errors; false alarm below 1e-4 in all."""
    rng, n = np.random.default_rng(5), 400_000
    laws = {
        "gamma": (rng.gamma(2.0, size=n), 2.0 * np.array([1, 1, 2, 6, 24])),
        "poisson": (rng.poisson(3.0, n).astype(float), np.full(5, 3.0)),
        "normal": (rng.normal(2.0, 0.5, n), np.array([2.0, 0.25, 0, 0, 0])),
        "two levels": (
            (rng.random(n) < 0.3).astype(float),
            np.array([0.3, 0.21, 0.084, -0.0231, -0.04326 - 0.0077]),
        ),
    }
    p = 0.3
    laws["two levels"] = (
        laws["two levels"][0],
        np.array([p, p * (1 - p), p * (1 - p) * (1 - 2 * p), p * (1 - p) * (1 - 6 * p * (1 - p)),
                  p * (1 - p) * (1 - 2 * p) * (1 - 12 * p * (1 - p))]),
    )  # fmt: skip
    for name, (x, expected) in laws.items():
        found = cumulants(x, order=5)
        assert (np.abs(found.values - expected) < 4.9 * found.stderr).all(), name


def test_exact_laws_by_weights() -> None:
    """All eight orders: laws on a few points, and Gauss's points with the first 16 moments of two others."""
    orders, p = np.arange(1, 9), 0.3
    gamma, hermite = np.polynomial.laguerre.laggauss(12), np.polynomial.hermite_e.hermegauss(12)
    counts = np.arange(40)
    two_levels = [np.polynomial.Polynomial([0, 1])]  # in p
    for _ in orders[1:]:
        two_levels.append(np.polynomial.Polynomial([0, 1, -1]) * two_levels[-1].deriv())
    laws = {
        "gamma": (gamma[0], gamma[0] * gamma[1], 2.0 * np.array([math.factorial(r - 1) for r in orders])),
        "normal": (hermite[0] + 2.0, hermite[1], np.array([2.0, 1, 0, 0, 0, 0, 0, 0])),
        "poisson": (counts, np.array([3.0**k / math.factorial(k) for k in counts]), np.full(8, 3.0)),
        "two levels": (np.array([0, 1]), np.array([1 - p, p]), np.array([kappa(p) for kappa in two_levels])),
    }
    for name, (x, weights, expected) in laws.items():
        found = cumulants(x.astype(float), weights=weights, unbiased=False).values
        spread = np.abs(x - expected[0])[:, None] ** orders
        terms = np.abs(expected) + np.average(
            spread, axis=0, weights=weights
        )  # rounding is small beside these
        assert (np.abs(found - expected) < 1e-13 * terms).all(), name


def test_energies_of_an_ising_model() -> None:
    """Cumulants of E under p ~ exp(-beta E) are (-1)^r times derivatives of ln Z."""
    rng = np.random.default_rng(2)
    couplings = np.triu(rng.normal(size=(8, 8)), 1)
    model = vf.Ising(couplings + couplings.T, rng.normal(size=8))
    spins = np.array(list(itertools.product([-1.0, 1.0], repeat=8)))
    energy = model.energy(spins)
    with mp.workdps(50):
        levels = [mp.mpf(float(e)) for e in energy]
        series = mp.taylor(lambda b: mp.log(mp.fsum(mp.exp(-b * e) for e in levels)), mp.mpf("0.4"), 8)
        expected = np.array([float((-1) ** r * c * mp.factorial(r)) for r, c in enumerate(series)][1:])
    weights = np.exp(-0.4 * (energy - energy.min()))
    found = cumulants(energy, order=8, weights=weights, unbiased=False).values
    np.testing.assert_allclose(found, expected, rtol=1e-8)
    assert vf.free_energy.exact(model, beta=0.4, moments=True).moments.energy == pytest.approx(
        found[0], rel=1e-12
    )


@pytest.mark.parametrize("shape", [None, 8.0, 2.0])
def test_standard_errors_cover(shape: float | None) -> None:
    """68 % within one error for orders 1 to 4, n = 10^4, of normal numbers and of Gamma(shape).

    3 % allowed, of 4000 data sets (one error 0.7 %). For longer tails the fourth needs more numbers: see
    docs/cumulants.md.
    """
    rng = np.random.default_rng(11)
    size = (4000, 10_000)
    x = rng.normal(size=size) if shape is None else rng.gamma(shape, size=size)
    found = cumulants(x, order=4)
    expected = np.array([0, 1, 0, 0] if shape is None else [shape, shape, 2 * shape, 6 * shape])
    covered = (np.abs(found.values - expected) < found.stderr).mean(axis=0)
    assert (np.abs(covered - 0.6827) < 0.03).all(), covered
    one = (np.abs(found.values[:, :2] - expected[:2]) < found.stderr_independent).mean(axis=0)
    assert (np.abs(one - 0.6827) < 0.03).all(), one


@pytest.mark.parametrize("unbiased", [True, False])
def test_weighted_standard_errors_cover(unbiased: bool) -> None:
    """68 % within one error: 4 % allowed, of 2000 data sets (one error 1 %), orders 1 and 2."""
    rng = np.random.default_rng(12)
    x, w = rng.gamma(8.0, size=(2000, 2000)), rng.uniform(0.1, 3.0, 2000)
    found = cumulants(x, order=2, weights=w, unbiased=unbiased)
    covered = (np.abs(found.values - [8, 8]) < found.stderr).mean(axis=0)
    assert (np.abs(covered - 0.6827) < 0.04).all(), covered


def test_errors_see_correlation() -> None:
    """An autoregressive chain: the jackknife finds (1 + a) / (1 - a) = 9 times the variance of the mean."""
    rng = np.random.default_rng(3)
    noise = rng.normal(size=(50, 60_000))
    x = np.empty_like(noise)
    x[:, 0] = noise[:, 0]
    for k in range(1, noise.shape[1]):
        x[:, k] = 0.8 * x[:, k - 1] + noise[:, k]
    found = cumulants(x, order=2)
    inefficiency = (found.stderr[:, 0] / found.stderr_independent[:, 0]) ** 2
    assert inefficiency.mean() == pytest.approx(9.0, rel=0.15)  # one error: 9 sqrt(2 / 31 / 50) = 0.32


def test_jackknife_by_hand() -> None:
    """Blocks of unequal size: estimates without each of them, by the formula of Busing et al., widened."""
    x = skewed(21)
    found = cumulants(x, order=3)
    pieces = [x[k : k + 2] for k in range(0, 21, 2)]
    assert found.n_blocks == len(pieces)
    without = np.array([
        cumulants(np.concatenate([p for j, p in enumerate(pieces) if j != k]), order=3).values
        for k in range(len(pieces))
    ])  # fmt: skip
    h = np.array([21 / len(p) for p in pieces])[:, None]
    center = len(pieces) * found.values - ((1 - 1 / h) * without).sum(axis=0)
    pseudo = h * found.values - (h - 1) * without
    squares = (pseudo - center) ** 2 / (h - 1)
    expected = np.sqrt(squares.mean(axis=0)) * (1 + (squares**2).sum(axis=0) / 6 / squares.sum(axis=0) ** 2)
    np.testing.assert_allclose(found.stderr, expected, rtol=1e-10)


@pytest.mark.parametrize("unit", [2.0**-190, 2.0**190])
def test_errors_in_any_unit(unit: float) -> None:
    """Those of order 5 are 1e-286 or 1e286, and their squares out of range."""
    x = skewed(3, 700)
    found, scaled = cumulants(x, order=5), cumulants(unit * x, order=5)
    np.testing.assert_allclose(scaled.stderr / unit ** np.arange(1.0, 6.0), found.stderr, rtol=1e-12)


@pytest.mark.parametrize("n", [9, 100, 1000, 100_000])
def test_no_rows(n: int) -> None:
    for shape, axis in (((0, n), 1), ((n, 0), 0), ((2, 0, n), -1)):
        for weights in (None, np.ones(n)):
            assert cumulants(np.zeros(shape), axis=axis, weights=weights).values.size == 0
    acc = CumulantAccumulator(0)
    acc.update(np.zeros((0, n)))
    assert acc.result().values.shape == (0, 8)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("unbiased", [False, True])
def test_accumulator(weighted: bool, unbiased: bool) -> None:
    """However a stream is cut, and merged in whatever order: the values of the whole."""
    x, rng = skewed(3, 5000), np.random.default_rng(0)
    w = rng.uniform(0.5, 2.0, x.shape) if weighted else None
    whole = cumulants(x, weights=w, unbiased=unbiased)
    options: dict[str, Any] = {"weighted": weighted, "unbiased": unbiased}

    def of(first: int, last: int, cuts: list[int]) -> CumulantAccumulator:
        acc = CumulantAccumulator(3, **options)
        for chunk in np.split(np.arange(first, last), cuts):
            acc.update(x[:, chunk], None if w is None else w[:, chunk])
        return acc

    tolerance = 1e-11
    streams = [of(0, 5000, cuts) for cuts in ([], [1], [7, 8, 9, 4000], list(range(50, 5000, 50)))]
    for acc in streams:
        found = acc.result()
        np.testing.assert_allclose(found.values, whole.values, rtol=tolerance)
        np.testing.assert_allclose(found.stderr, streams[0].result().stderr, rtol=1e-6)
        assert found.n == 5000
        assert found.n_blocks <= 64
    a, b, c = (of(*ends, []) for ends in ((0, 1200), (1200, 1300), (1300, 5000)))
    left, right = pickle.loads(pickle.dumps(a)), pickle.loads(pickle.dumps(b))
    left.merge(b)
    left.merge(c)
    right.merge(c)
    other = pickle.loads(pickle.dumps(a))
    other.merge(right)
    share = 1e-13
    for k in range(3):
        off = np.abs(left.result().values[k] - other.result().values[k])
        assert (off <= share * largest_terms(x[k])).all()
    np.testing.assert_allclose(left.result().values, whole.values, rtol=tolerance)
    np.testing.assert_allclose(left.result().stderr, whole.stderr, rtol=0.8)
    empty = CumulantAccumulator(3, **options)
    empty.merge(a)
    np.testing.assert_allclose(empty.result().values, a.result().values, rtol=1e-12)


def test_errors_after_many_merges() -> None:
    """64 parts of 500, and 300 of 2 before a long chunk: no block outgrows the others by much."""
    rng = np.random.default_rng(8)
    for parts, last in ((64 * [500], 0), (300 * [2], 20_000)):
        acc = CumulantAccumulator(order=2)
        for n in parts:
            part = CumulantAccumulator(order=2)
            part.update(rng.normal(size=n))
            acc.merge(part)
        if last:
            acc.update(rng.normal(size=last))
        found = acc.result()
        assert found.n_blocks <= 64
        assert found.n_blocks > 20
        assert found.stderr[0] == pytest.approx(found.n**-0.5, rel=0.35)  # one error: 1 / sqrt(2 * 30) = 0.13


def test_weights_in_one_block() -> None:
    w = np.zeros(2000)
    w[:40] = 1
    found = cumulants(skewed(2000), order=2, weights=w, unbiased=False)
    assert np.isfinite(found.values).all()
    assert np.isnan(found.stderr).all()
    assert np.isnan(found.stderr_independent).all()
    acc = CumulantAccumulator(order=2, weighted=True, unbiased=False)
    acc.update([7.0, 8.0, 9.0], [0.0, 0.0, 0.0])
    assert np.isnan(acc.result().values).all()


def test_accumulator_of_numbers_one_by_one() -> None:
    x, acc = skewed(300), CumulantAccumulator(order=3)
    for number in x:
        acc.update([number])
    np.testing.assert_allclose(acc.result().values, cumulants(x, order=3).values, rtol=1e-11)
    assert acc.result().values.shape == (3,)


def test_few_samples() -> None:
    found = cumulants([1.0, 2.0, 4.0], order=3)
    np.testing.assert_allclose(found.values, [7 / 3, 7 / 3, 10 / 3], rtol=1e-14)
    assert np.isfinite(found.stderr[:2]).all()
    assert np.isnan(found.stderr[2])  # two samples have no third k-statistic
    one = cumulants([5.0], order=1, unbiased=False)
    assert one.values.tolist() == [5.0]
    assert np.isnan(one.stderr).all()


def test_limits() -> None:
    x = skewed(4, 100)
    x[1, 3], x[2, 5] = np.nan, np.inf
    found = cumulants(x)
    assert np.isnan(found.values[1:3]).all()
    np.testing.assert_array_equal(found.values[[0, 3]], cumulants(skewed(4, 100)).values[[0, 3]])
    large = cumulants(skewed(100) * 1e60)
    np.testing.assert_allclose(
        large.values[:5], cumulants(skewed(100)).values[:5] * 1e60 ** np.arange(1, 6), rtol=1e-9
    )
    assert not np.isfinite(large.values[7])
    assert (cumulants(np.full(1000, 0.1)).values[1:] == 0).all()
    assert cumulants(np.empty((0, 10))).values.shape == (0, 8)


def test_other_arrays() -> None:
    torch = pytest.importorskip("torch")
    x = torch.randn(3, 100, dtype=torch.float64)
    found = cumulants(x, order=2)
    assert isinstance(found.values, torch.Tensor)
    np.testing.assert_array_equal(found.values.numpy(), cumulants(x.numpy(), order=2).values)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"x": 3.0}, ValueError, "x"),
        ({"x": [1.0, 2.0]}, ValueError, "x"),
        ({"x": np.zeros(9, int)}, TypeError, "x"),
        ({"x": np.zeros(9, complex)}, TypeError, "x"),
        ({"x": np.zeros(9, ">f8")}, TypeError, "x"),
        ({"order": 9}, ValueError, "order"),
        ({"order": 0}, ValueError, "order"),
        ({"order": 2.0}, TypeError, "order"),
        ({"axis": 2}, ValueError, "axis"),
        ({"axis": 1.5}, TypeError, "axis"),
        ({"weights": np.ones(8)}, ValueError, "weights"),
        ({"weights": -np.ones(9)}, ValueError, "weights"),
        ({"weights": np.full(9, np.nan)}, ValueError, "weights"),
        ({"weights": np.zeros(9), "unbiased": False}, ValueError, "weights"),
        ({"weights": np.array([1.0, 1, 1, 1, 1, 1, 1, 0, 0])}, ValueError, "weights"),
        ({"num_threads": 0}, ValueError, "num_threads"),
    ],
)
def test_bad_arguments(change: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=f"^{match}:"):
        cumulants(**({"x": skewed(9)} | change))


def test_bad_chunks() -> None:
    acc = CumulantAccumulator((2,), order=3)
    acc.update(skewed(2, 10))
    before = acc.result().values
    for bad, error in ((skewed(3, 10), ValueError), (np.zeros((2, 4), int), TypeError)):
        with pytest.raises(error, match=r"^x:"):
            acc.update(bad)
    with pytest.raises(ValueError, match=r"^weights:"):
        acc.update(skewed(2, 10), np.ones(10))
    with pytest.raises(TypeError, match=r"^other:"):
        acc.merge(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^other:"):
        acc.merge(CumulantAccumulator((2,), order=4))
    with pytest.raises(ValueError, match=r"^n:"):
        CumulantAccumulator().result()
    acc.update(np.empty((2, 0)))
    np.testing.assert_array_equal(acc.result().values, before)


def test_agrees_with_scipy() -> None:
    x = skewed(1000)
    found = cumulants(x, order=4)
    np.testing.assert_allclose(found.values, [stats.kstat(x, r) for r in (1, 2, 3, 4)], rtol=1e-12)
    for r in (1, 2):
        assert found.stderr_independent[r - 1] ** 2 == pytest.approx(stats.kstatvar(x, r), rel=1e-9)
