"""The generator against its authors' answers, the functions against mpmath, the decision against its law."""

from __future__ import annotations

import itertools
from pathlib import Path

import mpmath as mp
import numpy as np
import pytest
from scipy import stats

import vfe_fast as vf
from oracles.philox import NORMAL, normals
from vfe_fast import _core

DOCS = Path(__file__).parents[1] / "docs" / "numerics.md"

# philox4x32-10 of Random123's kat_vectors: counter, key, answer.
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def exact_without_cancellation(f, x):
    """f(x) with as many digits more as f loses near 0: it is of second order at most."""
    with mp.workdps(40 + max(0, -3 * int(mp.floor(mp.log10(abs(x)))) if x else 0)):
        return +f(x) if x else mp.mpf(0)


EXACT = {
    "exp": mp.exp,
    "expm1": mp.expm1,
    "exp_excess": lambda x: exact_without_cancellation(lambda y: mp.expm1(y) - y, x),
    "log": mp.log,
    "log1p_unit": mp.log1p,
    "sigmoid": lambda x: 1 / (1 + mp.exp(-x)),
    "softplus": lambda x: mp.log1p(mp.exp(x)),
    "coth_excess": lambda x: exact_without_cancellation(lambda y: y * mp.coth(y / 2) - 2, x),
    "coth_excess_slope": lambda x: exact_without_cancellation(
        lambda y: mp.coth(y / 2) - y / 2 / mp.sinh(y / 2) ** 2, x
    ),
}
STANDARD_NOISE = {
    "exponential": lambda t, upper, _: -mp.log1p(-t) if upper else -mp.log(t),
    "laplace": lambda t, upper, negative: (mp.log1p(-t) if upper else mp.log(t)) * (1 if negative else -1),
    "logistic": lambda t, negative, _: (mp.log1p(-t) - mp.log(t)) * (-1 if negative else 1),
}


def accuracy_table() -> list[tuple[str, str, float, float, float]]:
    rows = [line.strip("|\n ").split("|") for line in DOCS.read_text().splitlines() if "| float" in line]
    return [(f.strip(), d.strip(), *map(float, rest)) for f, d, *rest in rows if len(rest) == 3]


def noise_table() -> dict[tuple[str, str], tuple[float, float]]:
    """What docs/numerics.md says of numbers made from words: error in ulp, end of the tail."""
    rows = [line.strip("|\n ").split("|") for line in DOCS.read_text().splitlines() if "| float" in line]
    return {(f.strip(), d.strip()): tuple(map(float, rest)) for f, d, *rest in rows if len(rest) == 2}


def arguments_for(dtype: str, low: float, high: float) -> np.ndarray:
    """Random points of a row of the table."""
    rng = np.random.default_rng(1)
    if low > 0 and high / low > 1e3:
        x = np.exp(rng.uniform(np.log(low), np.log(high), 3000))
    else:
        near_zero = np.clip(rng.uniform(-4, 4, 500), low, high)
        x = np.concatenate([rng.uniform(low, high, 2500), near_zero, [low, high]])
    x = x.astype(dtype)
    return x[(x >= low) & (x <= high)]


def ulps(got: np.ndarray, x: np.ndarray, exact: object) -> float:
    """Largest distance of got to exact(x), in spacings of the dtype at the exact value."""
    worst = 0.0
    with mp.workdps(40):
        for argument, value in zip(x, got, strict=True):
            truth = exact(mp.mpf(float(argument)))  # type: ignore[operator]
            spacing = mp.mpf(float(np.spacing(x.dtype.type(float(abs(truth))))))
            worst = max(worst, float(abs(mp.mpf(float(value)) - truth) / spacing))
    return worst


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_philox_known_answers(counter, key, answer):
    assert tuple(_core.philox4x32(list(counter), key[0] | key[1] << 32)) == answer


def test_philox_published_vectors(reference_data):
    lines = (reference_data / "random123" / "kat_vectors").read_text().splitlines()
    rows = [line.split() for line in lines if line.startswith("philox4x32 10")]
    assert len(rows) >= 3
    for row in rows:
        numbers = [int(word, 16) for word in row[2:]]
        assert _core.philox4x32(numbers[:4], numbers[4] | numbers[5] << 32) == numbers[6:]


def test_vectorized_words_are_philox_blocks(target):
    words = _core.random_words((203,), seed=0x0123456789ABCDEF)
    blocks = [_core.philox4x32([k, 0, 0, 0], 0x0123456789ABCDEF) for k in range(51)]
    assert words.tolist() == [word for block in blocks for word in block][:203]


def test_uniform_is_made_of_the_words(target):
    words = _core.random_words((4000,), seed=9).astype(np.uint64)
    single = _core.uniform_float32((4000,), seed=9)
    double = _core.uniform_float64((2000,), seed=9)
    assert np.array_equal(single, ((words >> np.uint64(9)) + 0.5) * 2.0**-23)
    joined = ((words[1::2] << np.uint64(32)) | words[::2]) >> np.uint64(12)
    assert np.array_equal(double, (joined + 0.5) * 2.0**-52)


def test_uniform_law():
    for dtype in (np.float32, np.float64):
        u = vf.random.uniform((1000, 1000), rng=3, dtype=dtype).ravel()
        assert u.min() > 0
        assert u.max() < 1
        assert stats.kstest(u, "uniform").pvalue > 1e-6  # false alarm: 1e-6


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_normal_is_made_of_the_words(target, dtype):
    """Element by element, of a length that fills no block; in float64 the oracle has errors of its own."""
    z = vf.random.normal(5003, rng=2**63 + 5, dtype=dtype)
    assert z.dtype == dtype
    exact = normals(np.arange(5003), 0, 0, NORMAL, 2**63 + 5, dtype)
    assert (
        np.abs(z - exact) <= (4 if dtype == np.float32 else 6) * np.spacing(np.abs(exact).astype(dtype))
    ).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_normal_law(dtype):
    """Moments to order 8, Kolmogorov-Smirnov, pairs of neighbors; false alarm 1e-6 each."""
    z = vf.random.normal((2000, 2000), rng=3, dtype=dtype).ravel().astype(np.float64)
    assert stats.kstest(z, "norm").pvalue > 1e-6
    for order, moment, variance in [
        (1, 0, 1),
        (2, 1, 2),
        (3, 0, 15),
        (4, 3, 96),
        (6, 15, 10170),
        (8, 105, 2016000),
    ]:
        off = (z**order).mean() - moment
        assert abs(off) < 4.9 * np.sqrt(variance / z.size), order
    for lag in (1, 15, 16, 17, 32, 48, 64):
        assert abs((z[lag:] * z[:-lag]).mean()) < 4.9 / np.sqrt(z.size), lag
        assert abs((z[lag:] ** 2 * z[:-lag] ** 2).mean() - 1) < 4.9 * np.sqrt(8 / z.size), lag


def exact_normal_pair(words, dtype):
    """Box-Muller in 40 digits, of u and f as the dtype holds them."""
    first, *_, last = words
    if dtype == np.float32:
        u = (np.float32(first >> 1) + np.float32(0.5)) * np.float32(2.0**-31)
        f = (np.float32(np.int32(np.uint32(last).view(np.int32)) >> 2) + np.float32(0.5)) * np.float32(
            2.0**-30
        )
    else:
        _, second, third, _ = words
        u = ((first >> 1) + ((second >> 1) + 0.5) * 2.0**-31) * 2.0**-31
        f = (int(np.uint32(third).view(np.int32)) + ((last >> 2) + 0.5) * 2.0**-30) * 2.0**-32
    with mp.workdps(40):
        radius = mp.sqrt(-2 * mp.log(mp.mpf(float(u)))) * (-1 if last & 2 else 1)
        angle = mp.pi / 2 * mp.mpf(float(f))
        pair = radius * mp.cos(angle), radius * mp.sin(angle)
        return pair[::-1] if last & 1 else pair


@pytest.mark.parametrize(("dtype", "n_words"), [(np.float32, 2), (np.float64, 4)])
def test_normal_pairs(dtype, n_words):
    """Against mpmath, extreme words among them: the tail ends where the contract says, all is finite."""
    bound, tail = noise_table()["normal", dtype.__name__]
    rng = np.random.default_rng(5)
    extreme = [0, 1, 2, 3, 4, 2**31 - 1, 2**31, 2**32 - 4, 2**32 - 1]
    cases = [tuple(map(int, rng.integers(0, 2**32, n_words))) for _ in range(3000)]
    cases += [(e, *rest) for e in extreme for rest in itertools.product(extreme, repeat=n_words - 1)]
    worst = 0.0
    for words in cases:
        found = _core.normal_pair_float32(*words) if dtype == np.float32 else _core.normal_pair(words)
        for z, exact in zip(found, exact_normal_pair(words, dtype), strict=True):
            assert np.isfinite(z)
            step = np.spacing(dtype(max(abs(float(exact)), np.finfo(dtype).tiny)))
            worst = max(worst, float(abs(mp.mpf(z) - exact) / float(step)))
    assert worst <= bound
    zeros = (0,) * n_words
    largest = (_core.normal_pair_float32(*zeros) if dtype == np.float32 else _core.normal_pair(zeros))[0]
    assert largest == pytest.approx(tail, abs=0.01)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_noise_of_words(dtype):
    """Against mpmath, extreme words among them; tails end where noise.hpp says."""
    rng = np.random.default_rng(7)
    single = dtype == np.float32
    extreme = [0, 1, 2, 3, 4, 7, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 4, 2**32 - 3, 2**32 - 2, 2**32 - 1]
    cases = [tuple(map(int, rng.integers(0, 2**32, 1 if single else 2))) for _ in range(3000)]
    # small t, and t near 1/3 and 1/2, where the formulas change
    cases += [
        (int(word) & 0xFFFFFFFF, 77)[: 1 if single else 2]
        for centre in (0, 2**32 // 3 * 2, 2**32, 2**31, 2**32 * 0.2929 * 2)
        for word in (centre + rng.integers(-(2**12), 2**12, 200))
    ]
    cases += list(itertools.product(extreme, repeat=1 if single else 2))
    worst, largest = dict.fromkeys(STANDARD_NOISE, 0.0), dict.fromkeys(STANDARD_NOISE, 0.0)
    for words in cases:
        found = _core.noise_float32(*words) if single else _core.noise(*words)
        for value, (name, exact) in zip(found, STANDARD_NOISE.items(), strict=True):
            bits = 2 if name == "laplace" else 1
            if single:
                t = float(np.float32(words[0] >> bits) + np.float32(0.5)) * 2.0 ** -(33 - bits)
            else:
                t = ((words[0] >> bits) + ((words[1] >> 1) + 0.5) * 2.0**-31) * 2.0 ** -(33 - bits)
            with mp.workdps(40):
                truth = exact(mp.mpf(t), words[0] & 1, words[0] & 2)
                assert np.isfinite(value)
                step = float(np.spacing(dtype(max(abs(float(truth)), np.finfo(dtype).tiny))))
                worst[name] = max(worst[name], float(abs(mp.mpf(value) - truth)) / step)
                largest[name] = max(largest[name], abs(value))
    for name in STANDARD_NOISE:
        bound, tail = noise_table()[name, dtype.__name__]
        assert worst[name] <= bound
        assert largest[name] == pytest.approx(tail, abs=0.01)


@pytest.mark.parametrize("row", accuracy_table(), ids=lambda row: f"{row[0]}-{row[1]}-{row[2]:g}-{row[3]:g}")
def test_accuracy_table(target, row):
    name, dtype, low, high, bound = row
    x = arguments_for(dtype, low, high)
    assert ulps(getattr(_core, name)(x), x, EXACT[name]) <= bound


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_limits(target, dtype):
    inf = dtype(np.inf)
    x = np.array([-inf, -1e5, 0.0, 1e5, inf, np.nan], dtype=dtype)
    assert np.array_equal(_core.exp(x), np.array([0, 0, 1, inf, inf, np.nan], dtype), equal_nan=True)
    assert np.array_equal(_core.sigmoid(x), np.array([0, 0, 0.5, 1, 1, np.nan], dtype), equal_nan=True)
    expected = np.array([0, 0, np.log(2), 1e5, inf, np.nan], dtype)
    assert np.array_equal(_core.softplus(x), expected, equal_nan=True)


@pytest.mark.usefixtures("keep_target")
def test_functions_are_the_same_bits_on_every_target():
    x = np.random.default_rng(0).normal(size=5001) * 20
    usable = vf.show_config("dict")["usable_targets"]
    for dtype in (np.float32, np.float64):
        results = []
        for name in usable:
            _core.use_target(name)
            results.append(
                [getattr(_core, f)(np.abs(x.astype(dtype)) if f == "log" else x.astype(dtype)) for f in EXACT]
            )
        for other in results[1:]:
            for a, b in zip(results[0], other, strict=True):
                assert a.tobytes() == b.tobytes()


def test_softplus_does_not_jump_at_ten():
    for dtype in (np.float32, np.float64):
        x = np.linspace(9.99, 10.01, 2001, dtype=dtype)
        steps = np.diff(_core.softplus(x).astype(np.float64))
        assert np.abs(steps - 1e-5).max() < (1e-9 if dtype == np.float64 else 4e-6)


class TestBernoulli:
    """bernoulli(x, leading, further): P(True) = sigmoid(x) when 16 and 64 bits are uniform."""

    @staticmethod
    def minority_share(x: float) -> float:
        """The share of the numbers (leading, further) that draw the less likely outcome, by bisection.

        They are the smallest for x < 0, the largest for x >= 0.
        """
        low, high = 0, 2**80
        turn = 2**80 - 1 if x >= 0 else 0
        while low < high:
            middle = (low + high) // 2
            if _core.bernoulli(x, (middle ^ turn) >> 64, (middle ^ turn) & (2**64 - 1)) == (x < 0):
                low = middle + 1
            else:
                high = middle
        return low / 2**80

    @pytest.mark.parametrize(
        "x", [-17.3, -3.7, -0.4, -1e-6, 0.0, 2e-3, 0.9, 5.1, 20.5, 20.7, -35.25, 40.0, -47.5]
    )
    def test_probability(self, x):
        """Relative errors also where 16 bits see nothing; the last of 69 bits is cut."""
        x = float(np.float32(x))
        r = float(1 / (1 + mp.exp(abs(x))))
        assert self.minority_share(x) == pytest.approx(r, abs=2**-69, rel=3e-7)

    def test_leading_bits_beyond_a_tie_are_majority(self):
        assert _core.bernoulli(-30.0, 1, 0) is False
        assert _core.bernoulli(30.0, 0xFFFE, 2**64 - 1) is True
        assert _core.bernoulli(-30.0, 0, 0) is True
        assert _core.bernoulli(30.0, 0xFFFF, 2**64 - 1) is False

    def test_is_monotone(self):
        """A larger x does not turn a 1 into a 0, unless r is rounded the other way (not in these draws)."""
        rng = np.random.default_rng(3)
        x = np.sort(np.concatenate((rng.normal(size=200), 1e-4 * rng.normal(size=200), [-0.0, 0.0])))
        for _ in range(200):
            leading, further = int(rng.integers(2**16)), int(rng.integers(2**64, dtype=np.uint64))
            drawn = [_core.bernoulli(float(np.float32(at)), leading, further) for at in x]
            assert drawn == sorted(drawn)


class TestSeed:
    def test_kinds(self):
        assert vf.random.seed(7) == 7
        assert vf.random.seed(np.int64(7)) == 7
        sequence = np.random.SeedSequence(3)
        assert vf.random.seed(sequence) == vf.random.seed(np.random.SeedSequence(3))
        generator = np.random.default_rng(1)
        assert vf.random.seed(generator) != vf.random.seed(generator)
        assert vf.random.seed(None) != vf.random.seed(None)  # false alarm: 2^-64

    def test_all_bits_are_used(self):
        """Each of the 64 is set in one of 80 seeds and not in another; false alarm: 64 / 2^79."""
        generator = np.random.default_rng(1)
        for draw in (
            lambda _: vf.random.seed(generator),
            lambda k: vf.random.seed(np.random.SeedSequence(k)),
            lambda _: vf.random.seed(None),
        ):
            seeds = np.array([draw(k) for k in range(80)], np.uint64)
            assert np.bitwise_or.reduce(seeds) == 2**64 - 1
            assert np.bitwise_and.reduce(seeds) == 0

    @pytest.mark.parametrize("bad", [-1, 2**64])
    def test_out_of_range(self, bad):
        with pytest.raises(ValueError, match="rng"):
            vf.random.seed(bad)

    @pytest.mark.parametrize("bad", [1.0, "1", True, np.random.RandomState(0)])
    def test_wrong_kind(self, bad):
        with pytest.raises(TypeError, match="rng"):
            vf.random.seed(bad)
