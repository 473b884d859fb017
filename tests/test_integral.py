"""ln Z of one to four real coordinates against closed forms."""

from __future__ import annotations

import itertools
import json
import math
import re
from typing import Any

import mpmath as mp
import numpy as np
import pytest

import vfe_fast as vf
from vfe_fast.free_energy import FreeEnergyWarning, integral
from vfe_fast.free_energy.cubature import _rule

INF = math.inf
LINE, HALF = (-INF, INF), (0.0, INF)


def check(f: Any, exact: float) -> None:
    assert f.converged
    assert (f.kind, f.stderr, f.ess, f.problem) == ("consistent", 0.0, INF, "")
    assert abs(f.log_z - exact) <= f.details["error_bound"]
    assert f.value == -f.log_z / f.beta


@pytest.mark.parametrize("d", [1, 2, 3, 4])
def test_rules_are_exact_for_polynomials_of_their_degrees(d: int) -> None:
    rule = _rule(d)
    high, low = (22, 13) if d == 1 else (7, 5)
    for powers in itertools.product(range(high + 1), repeat=d):
        exact = math.prod(2.0 / (p + 1) if p % 2 == 0 else 0.0 for p in powers)
        values = np.prod(rule.points**powers, axis=1)
        for weights, degree in ((rule.weights, high), (rule.lower, low)):
            if sum(powers) <= degree:
                assert values @ weights == pytest.approx(exact, abs=2e-15 * 4**d)


@pytest.mark.parametrize("beta", [1e-6, 0.7, 1e9])
@pytest.mark.parametrize(("center", "width"), [(0.0, 1.0), (3.3, 1e-3), (1e6, 1.0), (-1e8, 1e4), (-2.0, 1e5)])
def test_gaussians_wherever_they_are(center: float, width: float, beta: float) -> None:
    if width / math.sqrt(beta) < 1e-9 * abs(center):
        return  # x has no digits left there
    f = integral(lambda x: (x - center) ** 2 / (2 * width**2), LINE, beta=beta, tolerance=1e-8)
    check(f, 0.5 * math.log(2 * math.pi * width**2 / beta))
    assert f.details["peaks"] == pytest.approx(center, abs=width / math.sqrt(beta))


@pytest.mark.parametrize("a", [0.5, 1.5, 30.0, 3e4])
@pytest.mark.parametrize("beta", [1.0, 2.5])
def test_gamma_functions(a: float, beta: float) -> None:
    """∫ x^(a - 1) e^(-βx) dx = Γ(a) β^-a, and the mirrored one."""
    exact = math.lgamma(a) - a * math.log(beta)
    check(integral(lambda x: x - (a - 1) / beta * np.log(x), HALF, beta=beta, tolerance=1e-9), exact)
    mirrored = integral(lambda x: -x - (a - 1) / beta * np.log(-x), (-INF, 0.0), beta=beta, tolerance=1e-9)
    check(mirrored, exact)


@pytest.mark.parametrize("beta", [0.3, 2.0, 500.0])
def test_the_quartic_well_by_bessel_functions(beta: float) -> None:
    """∫ e^(-ax⁴ - bx²) dx = ½ √(b/a) e^(b²/8a) K_¼(b²/8a)."""
    a, b = 0.3 * beta, 0.7 * beta
    z = mp.mpf(b) ** 2 / (8 * a)
    exact = float(mp.log(mp.sqrt(b / a) / 2 * mp.exp(z) * mp.besselk(0.25, z)))
    check(integral(lambda x: 0.3 * x**4 + 0.7 * x**2, LINE, beta=beta), exact)


@pytest.mark.parametrize("beta", [0.3, 2.0, 500.0])
def test_a_lopsided_double_well(beta: float) -> None:
    def energy(x: Any) -> Any:
        return (x**2 - 4) ** 2 / 8 + 0.01 * x

    with mp.workdps(30):
        z = mp.quad(lambda x: mp.exp(-beta * energy(x)), [-6, -2.5, -2, -1.5, 0, 1.5, 2, 2.5, 6])
    f = integral(energy, LINE, beta=beta)
    check(f, float(mp.log(z)))
    assert sorted(np.round(f.details["peaks"])) == [-2, 2]


def test_a_beta_function_in_a_finite_range() -> None:
    exact = math.lgamma(3.5) + math.lgamma(2.25) - math.lgamma(5.75)
    check(integral(lambda x: -2.5 * np.log(x) - 1.25 * np.log1p(-x), (0, 1)), exact)
    check(integral(lambda x: x, (-3.0, 2.0), beta=1e6), 3e6 - math.log(1e6))


def test_curie_weiss_as_an_integral(reference_data: Any) -> None:
    """Hubbard and Stratonovich: e^(βM²/2N) as a Gaussian integral over the field."""
    oracles = json.loads((reference_data / "oracles" / "oracles_dev.json").read_text())
    (found,) = (value for name, value in oracles.items() if name.startswith("curie_weiss"))
    for name, log_z in found.items():
        n, beta = map(float, re.fullmatch(r"N=(\d+),beta=([\d.]+)", name).groups())  # type: ignore[union-attr]
        f = integral(
            lambda m, n=n, beta=beta: n * (m**2 / 2 - np.logaddexp(beta * m, -beta * m) / beta),
            LINE,
            beta=beta,
        )
        assert f.log_z + 0.5 * math.log(n * beta / (2 * math.pi)) == pytest.approx(float(log_z), abs=1e-10)


def test_a_narrow_peak_far_from_the_middle() -> None:
    """Alone it is seen by its slopes; beside a broad one where the energy is flat, only with `points`."""
    check(integral(lambda x: (x - 0.987654) ** 2 / 2e-12, (0, 1)), 0.5 * math.log(2e-12 * math.pi))

    def two(x: Any) -> Any:
        return -np.logaddexp(-(x**2) / 2, 20 - (x - 3.123456) ** 2 / (2 * 1e-8**2))

    exact = math.log(math.sqrt(2 * math.pi) * (1 + 1e-8 * math.exp(20.0)))
    assert integral(two, (-40, 40), tolerance=1e-9).log_z < exact - 1
    f = integral(two, (-40, 40), points=[3.123456], tolerance=1e-9)
    assert f.log_z == pytest.approx(exact, abs=1e-7)
    assert "narrow dip" in f.details["assumed"]
    assert len(f.details["peaks"]) == 2


def test_two_peaks_far_apart() -> None:
    def energy(x: Any) -> Any:
        return -np.logaddexp(-((x + 50) ** 2) / 2e-8, -((x - 900) ** 2) / 2)

    check(integral(energy, LINE), 0.5 * math.log(2 * math.pi) + math.log1p(1e-4))


@pytest.mark.parametrize("d", [2, 3, 4])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_correlated_gaussians(d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(d, d))
    precision, mean = a @ a.T + 0.1 * np.eye(d), 5 * rng.normal(size=d)

    def energy(x: Any) -> Any:
        return np.einsum("ni,ij,nj->n", x - mean, precision, x - mean) / 2

    f = integral(energy, [LINE] * d, beta=1.7)
    check(f, 0.5 * d * math.log(2 * math.pi / 1.7) - 0.5 * np.linalg.slogdet(precision)[1])
    assert f.details["peaks"].shape[1] == d


@pytest.mark.parametrize(("bounds", "tolerance"), [([HALF, (-1.0, 2.0)], 1e-7), ([LINE, HALF, (0, 1)], 1e-5)])
def test_products_of_ranges_of_all_kinds(bounds: Any, tolerance: float) -> None:
    def parts(x: Any) -> Any:
        return [(x - 1.5) ** 2 + 0.2 * np.cos(3 * x), 0.5 * x + np.log1p(x**2), 2 * x**2 - x][-len(bounds) :]

    def energy(x: Any) -> Any:
        return sum(parts(x[:, i])[i] for i in range(len(bounds)))

    exact = sum(integral(lambda x, i=i: parts(x)[i], b, beta=1.3).log_z for i, b in enumerate(bounds))
    check(integral(energy, bounds, beta=1.3, tolerance=tolerance), exact)


def test_two_dimensions_coupled_by_a_quartic_term() -> None:
    """∫∫ e^(-x²/2 - y²(1 + x²)/2): the inner integral is √(2π / (1 + x²))."""
    f = integral(lambda x: 0.5 * x[:, 0] ** 2 + 0.5 * x[:, 1] ** 2 * (1 + x[:, 0] ** 2), [LINE, LINE])
    exact = integral(lambda x: x**2 / 2 + 0.5 * np.log1p(x**2), LINE).log_z + 0.5 * math.log(2 * math.pi)
    check(f, exact)


def test_walls_and_beta_zero() -> None:
    f = integral(lambda x: np.where(np.abs(x) < 1, 0.0, np.inf), (-5, 5), tolerance=1e-6)
    assert f.log_z == pytest.approx(math.log(2), abs=f.details["error_bound"] + 1e-12)
    f = integral(lambda x: x**2, (-1, 3), beta=0.0)
    assert f.log_z == pytest.approx(math.log(4), abs=1e-12)
    assert f.value == -INF


@pytest.mark.parametrize("k", [0.3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize(
    ("low", "high", "log_z"),
    [
        (0.0, 1.0, lambda k: -math.log(1 - k)),
        (1.0, 2.0, lambda k: -math.log(1 - k)),  # x - 1 has fewer digits
        (1e6, 1e6 + 1, lambda k: -math.log(1 - k)),
        (0.0, INF, lambda k: math.lgamma(1 - k)),
    ],
)
@pytest.mark.filterwarnings("ignore::vfe_fast.free_energy.FreeEnergyWarning")
def test_what_numbers_do_not_resolve_at_an_end_is_in_the_bound(
    k: float, low: float, high: float, log_z: Any
) -> None:
    """(x - low)^-k has a thousandth of its integral, or a tenth, where x is low to the last digit."""
    f = integral(lambda x: k * np.log(x - low) + (x if high == INF else 0.0), (low, high))
    assert abs(f.log_z - log_z(k)) < f.details["error_bound"]
    assert f.details["error_bound"] < 0.2
    mirrored = integral(lambda x: k * np.log(-x - low) + (-x if high == INF else 0.0), (-high, -low))
    assert abs(mirrored.log_z - log_z(k)) < mirrored.details["error_bound"]


@pytest.mark.parametrize("k", [0.3, 0.5, 0.8, 0.9])
@pytest.mark.filterwarnings("ignore::vfe_fast.free_energy.FreeEnergyWarning")
def test_what_numbers_do_not_resolve_at_a_wall_is_in_the_bound(k: float) -> None:
    normal = 0.5 * math.log(2 * math.pi)
    f = integral(lambda x: k * np.log(x[:, 0]) + x[:, 1] ** 2 / 2, [(0, 1), LINE], tolerance=1e-4)
    assert abs(f.log_z + math.log(1 - k) - normal) < f.details["error_bound"] < 0.05
    assert f.converged == (k < 0.6)
    f = integral(lambda x: k * np.log(x).sum(axis=1), [(0, 1), (0, 1)], tolerance=1e-4)
    assert abs(f.log_z + 2 * math.log(1 - k)) < f.details["error_bound"] < 0.1
    assert f.converged == (k < 0.6)


@pytest.mark.parametrize("k", [1.05, 1.2, 1.5, 2.0])
@pytest.mark.filterwarnings("ignore::vfe_fast.free_energy.FreeEnergyWarning")
def test_what_lies_beyond_the_last_number_is_in_the_bound(k: float) -> None:
    f = integral(lambda x: k * np.log(x), (1.0, INF))
    assert abs(f.log_z + math.log(k - 1)) < f.details["error_bound"] < 0.3


@pytest.mark.parametrize("k", [1.0, 1.2])
def test_no_bound_where_z_is_infinite(k: float) -> None:
    with pytest.warns(FreeEnergyWarning, match="not reliable"):
        assert integral(lambda x: k * np.log(x), (0, 1)).details["error_bound"] == INF
    with pytest.warns(FreeEnergyWarning, match="not reliable"):
        assert integral(lambda x: np.log(x) / k, (1, INF)).details["error_bound"] == INF
    with pytest.warns(FreeEnergyWarning, match="not reliable"):
        f = integral(lambda x: k * np.log(x[:, 0]) + x[:, 1] ** 2, [(0, 1), LINE])
    assert f.details["error_bound"] == INF


def test_what_diverges_or_is_too_rough_says_so() -> None:
    for energy, bounds in (
        (lambda x: 0 * x, LINE),
        (lambda x: 0.9 * np.log1p(x), HALF),
        (lambda x: np.sin(1e9 * x), (0, 1)),
    ):
        with pytest.warns(FreeEnergyWarning, match="not reliable"):
            f = integral(energy, bounds, max_evaluations=20_000)
        assert not f.converged
        assert "evaluations" in f.problem
        assert "±" not in str(f)  # of an integral that diverges nothing is
    with pytest.raises(ValueError, match=r"energy.*diverges"):
        integral(lambda x: -x, HALF)


@pytest.mark.parametrize(
    ("energy", "bounds", "arguments", "error", "name"),
    [
        (1.0, LINE, {}, TypeError, "energy"),
        (lambda x: x[:-1], (0, 1), {}, ValueError, "energy"),
        (lambda x: np.nan * x, (0, 1), {}, ValueError, "energy"),
        (lambda x: -np.inf + 0 * x, (0, 1), {}, ValueError, "energy"),
        (lambda x: np.inf + 0 * x, (0, 1), {}, ValueError, "energy"),
        (lambda x: 1j * x, (0, 1), {}, ValueError, "energy"),
        (lambda x: x, (1, 0), {}, ValueError, "bounds"),
        (lambda x: x, (0, 1, 2), {}, ValueError, "bounds"),
        (lambda x: x, "ab", {}, TypeError, "bounds"),
        (lambda x: x, (0, math.nan), {}, ValueError, "bounds"),
        (lambda x: x, [(0, 1)] * 5, {}, ValueError, "bounds"),
        (lambda x: x, HALF, {"beta": 0.0}, ValueError, "beta"),
        (lambda x: x, (0, 1), {"beta": -1.0}, ValueError, "beta"),
        (lambda x: x, (0, 1), {"points": [2.0]}, ValueError, "points"),
        (lambda x: x, (0, 1), {"points": [[0.5, 0.5]]}, ValueError, "points"),
        (lambda x: x, (0, 1), {"points": ["a"]}, TypeError, "points"),
        (lambda x: x, (0, 1), {"tolerance": 2.0}, ValueError, "tolerance"),
        (lambda x: x, (0, 1), {"max_evaluations": 1}, ValueError, "max_evaluations"),
    ],
)
def test_bad_arguments(energy: Any, bounds: Any, arguments: Any, error: Any, name: str) -> None:
    with pytest.raises(error, match=name):
        vf.free_energy.integral(energy, bounds, **arguments)
