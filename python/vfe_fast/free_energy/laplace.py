r"""Laplace's method: the free energy of continuous energies from their minima.

.. math:: \ln \int e^{-\beta E(x)} dx \approx -\beta E_0 + \tfrac d2 \ln \tfrac{2\pi}{\beta}
          - \tfrac12 \ln \det H + \tfrac1\beta \Big( -\tfrac18 \kappa_4 + \tfrac18 \kappa_3^{(1)}
          + \tfrac1{12} \kappa_3^{(2)} \Big)

with the Hessian H at the minimum, its inverse C, and

.. math:: \kappa_4 = E_{ijkl} C_{ij} C_{kl}, \quad
          \kappa_3^{(1)} = E_{ijk} C_{ij} C_{kl} C_{mn} E_{lmn}, \quad
          \kappa_3^{(2)} = E_{ijk} C_{il} C_{jm} C_{kn} E_{lmn}

the next order in 1/β (L. Tierney, J. Kadane, J. Am. Stat. Assoc. 81 (1986) 82; in field theory, two loops).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import _core
from ..arguments import count, inverse_temperature, real
from ..arrays import Array
from ..models import GaussianRBM
from ..sampling.energies import Energy, GradientOf, potential
from ..sampling.samples import starts
from ..warned import warn
from .result import FreeEnergy, FreeEnergyWarning

__all__ = ["LaplaceWarning", "laplace"]

_STEP = 1e-3  # of differences of Hessians, in units of each direction's width
_FINE, _COARSE = 1e-5, 1e-2  # of differences of gradients, in widths: steps that do
_REFINEMENTS = 8  # of those steps, whose widths are known by their differences alone
_APART = 4.0  # widths between minima whose weights add up
_SAME = 0.01  # widths between ends of descents into the same minimum


class LaplaceWarning(FreeEnergyWarning):
    """A minimum that was not found, an energy not curved upwards there, or a large correction."""


def laplace(
    energy: Energy,
    start: Any,
    *,
    gradient: GradientOf = None,
    hessian: Callable[[Any], Any] | None = None,
    beta: float = 1.0,
    tolerance: float = 1e-8,
    max_steps: int = 200,
) -> FreeEnergy:
    r"""ln ∫ e^(-β E(x)) dx by Laplace's method, with its next-order correction.

    Each start goes down to a minimum by damped Newton steps, and all minima are summed: they must be more
    than four widths apart.

    Parameters
    ----------
    energy : GaussianRBM or callable
        The clamped free energy F_c(v) of a GaussianRBM, so that the result is its F; or E(x) of x
        (n, n_dimensions) -> (n,).
    start : array_like, (n_starts, n_dimensions)
        Where to begin.
    gradient : callable, "torch" or "jax", optional
        As `vfe_fast.sampling.hmc` takes it.
    hessian : callable, optional
        ∂²E/∂x∂x of x (n, n_dimensions) -> (n, n_dimensions, n_dimensions); by differences of the gradient
        if not given. That of a GaussianRBM is known.
    beta : float
        Inverse temperature, > 0.
    tolerance : float
        On the gradient in units of the widths, √(g'C g / β).
    max_steps : int
        Newton steps, >= 1.

    Returns
    -------
    FreeEnergy
        Of kind ``"asymptotic"``: exact as β → ∞ or where E is quadratic. `details`: ``minima`` (n_minima,
        n_dimensions), ``energies``, ``hessians``, ``orders`` (ln Z without and with the correction),
        ``corrections`` of each minimum, ``problem``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or the energy is not finite at the start.

    Warns
    -----
    LaplaceWarning
        If no start reached a minimum, the energy is flat there, the correction is above 1/2, or two minima
        are closer to one another than four widths of the narrower one.

    Examples
    --------
    >>> F = laplace(lambda x: (x**2).sum(axis=1) / 2, np.ones((1, 3)), gradient=lambda x: x)
    >>> bool(abs(F.log_z - 1.5 * np.log(2 * np.pi)) < 1e-9)
    True
    """
    x = starts(start, "n_starts")
    beta = inverse_temperature(beta)
    if beta == 0:
        raise ValueError("beta: expected beta > 0, got 0")
    tolerance = real(tolerance, "tolerance", np.finfo(np.float64).tiny)
    well = _Well(potential(energy, gradient, beta, x.shape[1]), _curvature(energy, hessian, beta, x.shape[1]))
    u, slope = well.of(x)
    if not (np.isfinite(u).all() and np.isfinite(slope).all()):
        raise ValueError("start: expected a finite energy and gradient there")
    max_steps = count(max_steps, "max_steps")
    found: list[_Minimum] = []
    problem = ""
    for each in x:
        minimum = well.descend(each, tolerance, max_steps)
        if minimum is None:
            problem = "a start did not reach a minimum that is curved upwards in all directions"
        elif all(minimum.distance(other) > _SAME + 4 * tolerance for other in found):
            found.append(minimum)
    if found:
        nearest = min((a.distance(b) for a, b in itertools.combinations(found, 2)), default=math.inf)
        problem = "" if nearest > _APART else f"minima are {nearest:.2g} widths apart: their weights overlap"
    orders = np.full(2, -np.inf)
    for minimum in found:
        minimum.correction = well.correction(minimum)
        with np.errstate(invalid="ignore"):
            orders = np.logaddexp(orders, [minimum.log_weight, minimum.log_weight + minimum.correction])
        if not abs(minimum.correction) <= 0.5:
            problem = f"the correction of the next order is {minimum.correction:.2g}: β is too small for it"
    if problem:
        warn(f"laplace: {problem}", LaplaceWarning)
    log_z = float(orders[1]) if found else math.nan
    details = {
        "minima": np.array([m.x for m in found]),
        "energies": np.array([m.u for m in found]) / beta,
        "hessians": np.array([m.hessian for m in found]) / beta,
        "orders": orders,
        "corrections": np.array([m.correction for m in found]),
        "problem": problem,
    }
    return FreeEnergy(
        value=-log_z / beta, log_z=log_z, stderr=0.0, kind="asymptotic", ess=math.inf, converged=not problem,
        beta=beta, details=details,
    )  # fmt: skip


class _Minimum:
    """Of U = β E: where it is, U, its Hessian, and e^-U's integral by the quadratic part alone."""

    def __init__(self, x: Array, u: float, hessian: Array, factor: Array) -> None:
        self.x, self.u, self.hessian = x, u, hessian
        self.inverse = np.linalg.inv(hessian)
        half_log_det = float(np.log(np.diagonal(factor)).sum())
        self.log_weight = -u + 0.5 * len(x) * math.log(2 * math.pi) - half_log_det
        self.correction = 0.0

    def distance(self, other: _Minimum) -> float:
        """In widths of the narrower one."""
        away = self.x - other.x
        return math.sqrt(max(float(away @ h @ away) for h in (self.hessian, other.hessian)))


class _Well:
    """U = β E with its derivatives."""

    def __init__(self, of: Any, curvature: Callable[[Array], Array] | None) -> None:
        self.of = of
        self.curvature = curvature if curvature is not None else self._by_differences

    def _by_differences(self, x: Array) -> Array:
        """Steps are small beside the widths that they give, where they can be."""
        size = 1e-4 * (1 + np.abs(x))
        for _ in range(_REFINEMENTS):
            found = self._differences(x, size)
            with np.errstate(divide="ignore"):
                width = 1 / np.sqrt(np.abs(np.diagonal(found, axis1=1, axis2=2)))
            good = (size >= _FINE * width) & (size <= _COARSE * width)
            good |= ~np.isfinite(width)
            if good.all():
                break
            size = np.where(good, size, np.maximum(math.sqrt(_FINE * _COARSE) * width, 1e-10 * np.abs(x)))
        return found

    def _differences(self, x: Array, size: Array) -> Array:
        n, d = x.shape
        found = np.empty((n, d, d))
        for i in range(d):
            shift = np.zeros_like(x)
            shift[:, i] = size[:, i]
            up, down = self.of(x + shift)[1], self.of(x - shift)[1]
            found[:, i] = (up - down) / (2 * size[:, i, None])
        return 0.5 * (found + found.transpose(0, 2, 1))

    def descend(self, x: Array, tolerance: float, max_steps: int) -> _Minimum | None:
        """Newton's steps, halved until U falls, with the curvature's negative part turned around."""
        at = x[None]
        u, slope = self.of(at)
        for _ in range(max_steps):
            hessian = self.curvature(at)[0]
            if not np.isfinite(hessian).all():
                return None
            values, vectors = np.linalg.eigh(hessian)
            if not values.any():
                return None
            bent = np.maximum(np.abs(values), 1e-8 * np.abs(values).max() + np.finfo(np.float64).tiny)
            along = vectors.T @ slope[0]
            size = math.sqrt(float((along**2 / bent).sum()))
            if size <= tolerance:
                if values.min() <= 1e-10 * values.max():
                    return None
                return _Minimum(at[0], float(u[0]), hessian, np.linalg.cholesky(hessian))
            step = -(vectors @ (along / bent))
            share = 1.0
            while share > 1e-12:
                moved = at + share * step
                with np.errstate(over="ignore", invalid="ignore"):
                    there, end = self.of(moved)
                if np.isfinite(there[0]) and there[0] <= u[0] - 1e-4 * share * size**2 + 1e-12 * abs(u[0]):
                    break
                share /= 2
            else:
                return None
            at, u, slope = moved, there, end
        return None

    def correction(self, minimum: _Minimum) -> float:
        """The two-loop term, by differences of Hessians along the eigenvectors of C."""
        values, vectors = np.linalg.eigh(minimum.hessian)
        basis = vectors / np.sqrt(values)  # columns of one width: there C is the unit matrix
        d = len(values)
        third = np.empty((d, d, d))
        fourth = 0.0
        center = basis.T @ minimum.hessian @ basis
        for i in range(d):
            both = minimum.x + _STEP ** (0.5) * np.array([[1.0], [-1.0]]) * basis[:, i]
            up, down = (basis.T @ h @ basis for h in self.curvature(both))
            third[i] = (up - down) / (2 * _STEP**0.5)
            fourth += float(np.trace(up + down - 2 * center)) / _STEP
        traces = np.einsum("iij->j", third)
        return -fourth / 8 + float(traces @ traces) / 8 + float(np.square(third).sum()) / 12


def _curvature(
    energy: Energy, hessian: Callable[[Any], Any] | None, beta: float, d: int
) -> Callable[[Array], Array] | None:
    """β ∂²E/∂x∂x where it is known."""
    if isinstance(energy, GaussianRBM):
        weights, _, b, sigma = (p.astype(np.float64) for p in energy.parameters)
        pull = weights / sigma[:, None] ** 2

        def of_rbm(x: Array) -> Array:
            mean = _core.sigmoid(beta * (b + x @ pull))
            slope = beta**2 * mean * (1 - mean)
            found: Array = np.diag(beta / sigma**2) - np.einsum("ij,nj,kj->nik", pull, slope, pull)
            return found

        return of_rbm
    if hessian is None:
        return None
    if not callable(hessian):
        raise TypeError(f"hessian: expected a function, got {type(hessian).__name__}")

    def given(x: Array) -> Array:
        found = np.asarray(hessian(x), dtype=np.float64)
        if found.shape != (len(x), d, d):
            raise ValueError(f"hessian: expected {(len(x), d, d)}, got {found.shape}")
        return beta * found

    return given
