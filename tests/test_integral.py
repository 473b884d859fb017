"""Integrals over few numbers: closed forms, sums over states turned into integrals, peaks, refusals."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import special

import vfe_fast as vf
from vfe_fast.free_energy import QuadratureWarning, integral

EVERYWHERE = (-math.inf, math.inf)
POSITIVE = (0.0, math.inf)


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("beta", [0.2, 1.0, 30.0])
def test_normal_laws(d, beta):
    draw = np.random.default_rng(d)
    root = draw.normal(size=(d, d)) + 2 * np.eye(d)
    precision, mean = root @ root.T, draw.normal(size=d)
    F = integral(
        lambda x: 0.5 * ((x - mean) @ precision * (x - mean)).sum(axis=1), [EVERYWHERE] * d, beta=beta,
        tolerance=1e-6,
    )  # fmt: skip
    expected = d / 2 * math.log(2 * math.pi / beta) - 0.5 * np.linalg.slogdet(precision)[1]
    assert F.converged
    assert F.log_z == pytest.approx(expected, abs=1e-6)
    assert abs(F.log_z - expected) <= F.details["error_estimate"] + 1e-12


@pytest.mark.parametrize("m", [0.5, 3.0, 200.0])
def test_gamma_function(m):
    F = integral(lambda x: x[:, 0] - (m - 1) * np.log(x[:, 0]), [POSITIVE])
    assert F.log_z == pytest.approx(math.lgamma(m), abs=1e-7 if m < 1 else 1e-9)


@pytest.mark.parametrize("beta", [0.1, 1.0, 50.0])
def test_quartic(beta):
    """∫ e^(-β (x²/2 + x⁴)) = e^(β/32) K_1/4(β/32) / √8."""
    F = integral(lambda x: x[:, 0] ** 2 / 2 + x[:, 0] ** 4, [EVERYWHERE], beta=beta)
    assert F.log_z == pytest.approx(math.log(special.kve(0.25, beta / 32) / math.sqrt(8)), abs=1e-9)


def test_from_the_other_side_and_between():
    F = integral(lambda x: -x[:, 0], [(-math.inf, 2.0)])
    assert F.log_z == pytest.approx(2.0, abs=1e-10)
    F = integral(lambda x: np.zeros(len(x)), [(-1.0, 2.0), (0.0, 5.0)])
    assert F.log_z == pytest.approx(math.log(15), abs=1e-12)
    F = integral(lambda x: np.where(x[:, 0] < 0.25, np.inf, 0.0), [(0.0, 1.0)], tolerance=1e-8)
    assert F.log_z == pytest.approx(math.log(0.75), abs=1e-8)


def test_density_of_the_variables():
    """⟨e^(-β x)⟩ of a normal law is e^(β²/2)."""
    F = integral(
        lambda x: x[:, 0], [EVERYWHERE], beta=3.0,
        log_density=lambda x: -(x[:, 0] ** 2) / 2 - 0.5 * math.log(2 * math.pi),
    )  # fmt: skip
    assert F.log_z == pytest.approx(4.5, abs=1e-9)
    assert F.value == pytest.approx(-1.5, abs=1e-9)


@pytest.mark.parametrize(("n", "beta"), [(5, 0.3), (16, 1.0), (16, 2.5)])
def test_curie_weiss(n, beta):
    """E = -M² / 2n - h M as an integral over a field: against the sum over all states."""
    h = 0.2
    model = vf.Ising(np.full((n, n), 1 / n) - np.eye(n) / n, np.full(n, h))
    F = integral(
        lambda m: m[:, 0] ** 2 / 2 - np.logaddexp(beta * (m[:, 0] + h), -beta * (m[:, 0] + h)) / beta,
        [EVERYWHERE], beta=n * beta,
    )  # fmt: skip
    log_z = F.log_z + 0.5 * math.log(n * beta / (2 * math.pi)) - beta / 2  # -β/2: E has no diagonal
    assert log_z == pytest.approx(vf.free_energy.exact(model, beta=beta).log_z, abs=1e-9)


def test_scale():
    """Energies of 10^6 and exponents of thousands: nothing overflows."""
    F = integral(lambda x: 1e6 + 5e3 * (x[:, 0] - 0.3) ** 2, [(-1.0, 1.0)], beta=7.0)
    assert F.log_z == pytest.approx(-7e6 + 0.5 * math.log(math.pi / 3.5e4), rel=1e-14)


def test_a_narrow_peak_needs_its_place():
    def spike(x):
        return 0.5 * ((x[:, 0] - 0.123456) / 1e-7) ** 2

    expected = math.log(1e-7 * math.sqrt(2 * math.pi))
    F = integral(spike, [(-1.0, 1.0)], points=[[0.123456]])
    assert F.log_z == pytest.approx(expected, abs=1e-8)
    assert F.details["peak"] == pytest.approx(0.123456, abs=1e-6)
    cells = F.details["n_cells"]
    assert cells > 64


def test_not_converged():
    with pytest.warns(QuadratureWarning, match="max_evaluations"):
        F = integral(
            lambda x: np.abs(np.sin(300 * x[:, 0])), [(0.0, 9.0)], tolerance=1e-13, max_evaluations=2000
        )
    assert not F.converged
    assert F.problem


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ({"energy": 1}, TypeError, "energy"),
        ({"energy": lambda x: x}, ValueError, "energy"),
        ({"energy": lambda x: x[:, 0] * np.nan}, ValueError, "energy"),
        ({"energy": lambda x: np.full(len(x), np.inf)}, ValueError, "energy"),
        ({"bounds": [(0, 1)] * 5}, ValueError, "bounds"),
        ({"bounds": [(1, 0)]}, ValueError, "bounds"),
        ({"bounds": "ab"}, TypeError, "bounds"),
        ({"bounds": [(0, math.nan)]}, ValueError, "bounds"),
        ({"points": [[2.0]]}, ValueError, "points"),
        ({"points": [0.5]}, ValueError, "points"),
        ({"log_density": 1}, TypeError, "log_density"),
        ({"beta": 0.0}, ValueError, "beta"),
        ({"tolerance": 0.0}, ValueError, "tolerance"),
    ],
)
def test_bad_input(bad, error, message):
    how = {"energy": lambda x: x[:, 0], "bounds": [(0.0, 1.0)], **bad}
    with pytest.raises(error, match=message):
        integral(how.pop("energy"), how.pop("bounds"), **how)


def test_curie_weiss_of_many_spins(reference_data):
    """E = -M² / 2N: values of the oracle file, sums over magnetizations."""
    oracles = json.loads((reference_data / "oracles" / "oracles_dev.json").read_text())
    for name, expected in oracles["curie_weiss_logZ (E=-M^2/2N)"].items():
        n, beta = (float(part.split("=")[1]) for part in name.split(","))
        F = integral(
            lambda m, beta=beta: m[:, 0] ** 2 / 2 - np.logaddexp(beta * m[:, 0], -beta * m[:, 0]) / beta,
            [EVERYWHERE], beta=n * beta,
        )  # fmt: skip
        assert F.log_z + 0.5 * math.log(n * beta / (2 * math.pi)) == pytest.approx(float(expected), abs=1e-9)
