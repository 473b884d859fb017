"""Laplace's method: exact where energies are quadratic, Stirling's series, quartics, a GaussianRBM."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate

import vfe_fast as vf
from vfe_fast.free_energy import LaplaceWarning, laplace

PRECISION = np.array([[2.0, 0.5, -0.3], [0.5, 1.0, 0.2], [-0.3, 0.2, 5.0]])
MEAN = np.array([1.0, -2.0, 0.5])


@pytest.mark.parametrize("beta", [0.3, 1.0, 7.0])
def test_exact_for_quadratic_energies(beta):
    F = laplace(
        lambda x: 1.5 + 0.5 * ((x - MEAN) @ PRECISION * (x - MEAN)).sum(axis=1),
        np.zeros((2, 3)), gradient=lambda x: (x - MEAN) @ PRECISION, beta=beta,
    )  # fmt: skip
    expected = -1.5 * beta + 1.5 * math.log(2 * math.pi / beta) - 0.5 * np.linalg.slogdet(PRECISION)[1]
    assert F.log_z == pytest.approx(expected, abs=1e-6)
    assert F.value == pytest.approx(-F.log_z / beta)
    assert np.allclose(F.details["minima"], [MEAN], atol=1e-6)
    assert F.converged
    assert F.kind == "asymptotic"


@pytest.mark.parametrize("n", [5, 20, 100])
def test_stirling(n):
    """ln n! = ln ∫ e^(n ln x - x) dx; with x = e^t, E = e^t - m t, m = n + 1. Correction: 1 / 12 m."""
    m = n + 1
    F = laplace(lambda t: (np.exp(t) - m * t).sum(axis=1), [[1.0]], gradient=lambda t: np.exp(t) - m)
    zeroth, first = F.details["orders"]
    assert zeroth == pytest.approx(m * math.log(m) - m + 0.5 * math.log(2 * math.pi / m), abs=1e-7)
    assert F.details["corrections"][0] == pytest.approx(1 / (12 * m), rel=2e-3)
    assert abs(first - math.lgamma(m)) < abs(zeroth - math.lgamma(m)) / 20
    assert abs(first - math.lgamma(m)) < 1 / m**2.5


@pytest.mark.parametrize("beta", [4.0, 16.0])
def test_correction_has_all_its_parts(beta):
    """Two coupled dimensions with cubic and quartic terms, against an integral."""

    def e(x, y):
        cubic = 0.15 * x**3 - 0.1 * x * y**2 + 0.05 * x**2 * y
        return 0.5 * x**2 + y**2 + 0.3 * x * y + cubic + 0.1 * (x**4 + y**4)

    def gradient(z):
        x, y = z.T
        return np.column_stack([
            x + 0.3 * y + 0.45 * x**2 - 0.1 * y**2 + 0.4 * x**3 + 0.1 * x * y,
            2 * y + 0.3 * x - 0.2 * x * y + 0.4 * y**3 + 0.05 * x**2,
        ])  # fmt: skip

    F = laplace(lambda z: e(*z.T), [[0.3, -0.2]], gradient=gradient, beta=beta)
    exact = math.log(
        integrate.dblquad(lambda y, x: math.exp(-beta * e(x, y)), -6, 6, -6, 6, epsabs=1e-11, epsrel=1e-10)[0]
    )
    zeroth, first = F.details["orders"]
    assert abs(first - exact) < abs(zeroth - exact) * 1.2 / beta
    assert zeroth != pytest.approx(exact, abs=1e-4)


@pytest.mark.parametrize("beta", [0.5, 2.5, 10.0])  # at 1 the next two orders happen to cancel
def test_gaussian_rbm(beta):
    """One mode: F of the marginal is the machine's F."""
    draw = np.random.default_rng(2)
    rbm = vf.GaussianRBM(
        0.3 * draw.normal(size=(4, 3)), draw.normal(size=4), draw.normal(size=3), draw.uniform(0.7, 1.3, 4)
    )
    F = laplace(rbm, np.zeros((1, 4)), beta=beta)
    exact = vf.free_energy.exact(rbm, beta=beta).log_z
    zeroth, first = F.details["orders"]
    assert abs(first - exact) < abs(zeroth - exact) / 3
    assert abs(first - exact) < 5e-3


def test_separate_minima_are_summed():
    draw = np.random.default_rng(3)
    w = draw.normal(size=(3, 1))
    w *= 9 / np.linalg.norm(w)
    # The cluster of h = 1 has e^0.4 times the weight of the other.
    rbm = vf.GaussianRBM(w, np.zeros(3), np.array([0.4 - 0.5 * float((w**2).sum())]), np.ones(3))
    F = laplace(rbm, np.stack([np.zeros(3) + 0.1, w[:, 0]]))
    assert len(F.details["minima"]) == 2
    assert F.log_z == pytest.approx(vf.free_energy.exact(rbm).log_z, abs=1e-6)
    again = laplace(rbm, np.stack([np.zeros(3), np.zeros(3) + 0.1, w[:, 0], w[:, 0] + 0.1]))
    assert again.log_z == pytest.approx(F.log_z, abs=1e-9)  # a minimum counts once


def test_hessian_that_is_given():
    F = laplace(
        lambda x: np.cosh(x).sum(axis=1), [[0.5, -0.4]], gradient=np.sinh,
        hessian=lambda x: np.cosh(x)[:, :, None] * np.eye(2), beta=30.0,
    )  # fmt: skip
    one = math.log(integrate.quad(lambda x: math.exp(-30 * (math.cosh(x) - 1)), -3, 3)[0]) - 30
    assert F.log_z == pytest.approx(2 * one, abs=2e-4)


def test_a_minimum_counts_once_whatever_the_tolerance():
    """Descents from both sides stop up to `tolerance` before it."""
    F = laplace(
        lambda x: np.cosh(x).sum(axis=1), [[0.9], [-0.9]], gradient=np.sinh, beta=30.0, tolerance=0.1
    )  # fmt: skip
    assert len(F.details["minima"]) == 1
    assert F.converged


def two_wells(apart, narrow, weight):
    """-ln of a sum of two normal densities, the second `narrow` wide, and its gradient."""

    def logs(x):
        first = -0.5 * x[:, 0] ** 2
        second = -0.5 * ((x[:, 0] - apart) / narrow) ** 2 + math.log(weight / narrow)
        return first, second, np.logaddexp(first, second)

    def gradient(x):
        first, second, both = logs(x)
        of_second = np.exp(second - both) * (x[:, 0] - apart) / narrow**2
        return (np.exp(first - both) * x[:, 0] + of_second)[:, None]

    return (lambda x: -logs(x)[2]), gradient, 0.5 * math.log(2 * math.pi) + math.log1p(weight)


@pytest.mark.parametrize("apart", [3.0, 3.4, 3.9])
def test_minima_that_overlap_are_reported(apart):
    """Both are in the sum: without one of them ln 2 would be missing."""
    energy, gradient, exact = two_wells(apart, 1.0, 1.0)
    with pytest.warns(LaplaceWarning, match="widths apart: their weights overlap"):
        F = laplace(energy, [[0.0], [apart]], gradient=gradient)
    assert not F.converged
    assert len(F.details["minima"]) == 2
    assert F.log_z == pytest.approx(exact, abs=0.25)


@pytest.mark.parametrize("first", [0.0, 3.0])
def test_a_narrow_minimum_beside_a_broad_one(first):
    """Three widths of one are three hundred of the other: whichever comes first, both count."""
    energy, gradient, exact = two_wells(3.0, 0.01, 0.2)
    F = laplace(energy, [[first], [3.0 - first]], gradient=gradient)
    assert F.converged
    assert F.log_z == pytest.approx(exact, abs=1e-3)


@pytest.mark.parametrize("unit", [1e-4, 1.0, 1e6])
@pytest.mark.parametrize("shift", [0.0, 50.0])
def test_the_unit_of_length_does_not_matter(unit, shift):
    """Differences of gradients go by the widths of a minimum, not by how large x is."""
    one = math.log(integrate.quad(lambda x: math.exp(-30 * (math.cosh(x) - 1)), -3, 3)[0]) - 30
    F = laplace(
        lambda x: np.cosh(x / unit - shift).sum(axis=1), [[(shift + 0.1) * unit]],
        gradient=lambda x: np.sinh(x / unit - shift) / unit, beta=30.0,
    )  # fmt: skip
    assert F.converged
    assert F.log_z == pytest.approx(one + math.log(unit), abs=2e-4)


def test_a_correction_that_is_no_number_is_reported():
    with pytest.warns(LaplaceWarning, match="correction of the next order is nan"):
        F = laplace(
            lambda x: 0.5 * (x**2).sum(axis=1), [[0.0]], gradient=lambda x: x,
            hessian=lambda x: np.where(np.abs(x) < 1e-3, 1.0, np.nan)[:, :, None],
        )  # fmt: skip
    assert not F.converged


def test_flat_and_missing_minima_are_reported():
    with pytest.warns(LaplaceWarning, match="did not reach"):
        F = laplace(lambda x: x.sum(axis=1), [[0.0]], gradient=np.ones_like, max_steps=20)
    assert not F.converged
    assert math.isnan(F.log_z)
    with pytest.warns(LaplaceWarning, match="did not reach"):
        laplace(lambda x: x[:, 0] ** 2, [[1.0, 0.0]], gradient=lambda x: x * [2, 0])
    with pytest.warns(LaplaceWarning, match="β is too small"):
        laplace(lambda x: (0.5 * x**2 + x**4).sum(axis=1), [[0.1]], gradient=lambda x: x + 4 * x**3, beta=0.5)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ({"energy": 1}, TypeError, "energy"),
        ({"gradient": None}, TypeError, "gradient"),
        ({"start": [1.0]}, ValueError, "start: expected .n_starts"),
        ({"beta": 0.0}, ValueError, "beta"),
        ({"hessian": 3}, TypeError, "hessian"),
        ({"hessian": lambda x: x}, ValueError, "hessian"),
        ({"max_steps": 0}, ValueError, "max_steps"),
        ({"tolerance": 0.0}, ValueError, "tolerance"),
    ],
)
def test_bad_input(bad, error, message):
    how = {
        "energy": lambda x: (x**2).sum(axis=1), "start": [[1.0]], "gradient": lambda x: 2 * x, **bad
    }  # fmt: skip
    with pytest.raises(error, match=message):
        laplace(how.pop("energy"), how.pop("start"), **how)
