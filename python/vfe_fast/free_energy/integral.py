r"""The free energy as an integral over few real numbers.

.. math:: -\beta F = \ln \int dx \, p(x) \, e^{-\beta E(x)}

(C. Martin, "Free Energies and Variational Inference", 2017, "Different expressions for the Free Energy"), by
adaptive Gauss-Kronrod rules in one to four dimensions, everything in logarithms.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..arguments import count, inverse_temperature, real
from ..arrays import Array
from .quadrature import GAUSS_WEIGHTS, POINTS, WEIGHTS
from .result import FreeEnergy, FreeEnergyWarning

__all__ = ["QuadratureWarning", "integral"]

_CELLS = {1: 64, 2: 12, 3: 4, 4: 2}  # a dimension, before anything is known of the integrand
_AT_ONCE = 1 << 20  # numbers of a call of the energy


class QuadratureWarning(FreeEnergyWarning):
    """An integral that is not as accurate as was asked for."""


def integral(
    energy: Callable[[Any], Any],
    bounds: Sequence[Any],
    *,
    beta: float = 1.0,
    log_density: Callable[[Any], Any] | None = None,
    points: Any = None,
    tolerance: float = 1e-9,
    max_evaluations: int = 20_000_000,
) -> FreeEnergy:
    r"""ln ∫ p(x) e^(-β E(x)) dx over a box in one to four dimensions.

    Parameters
    ----------
    energy : callable
        E(x) of x (n, n_dimensions) -> (n,); infinity where there is no state.
    bounds : sequence of pairs, (n_dimensions, 2)
        Ends of each dimension, which may be infinite: there x = t / (1 - t²), or t / (1 - t) from a finite
        end.
    beta : float
        Inverse temperature, > 0.
    log_density : callable, optional
        ln p(x), of x like `energy`; p is 1 if not given, and need not be normalized.
    points : array_like, (n_points, n_dimensions), optional
        Where peaks are: cells are cut there. A peak narrower than the distance of the first points, about a
        thousandth of the range of t in one dimension and a twentieth in four, may be missed without them.
    tolerance : float
        On ln Z.
    max_evaluations : int
        Of the energy.

    Returns
    -------
    FreeEnergy
        Of kind ``"consistent"``, with a standard error of 0. `details`: ``error_estimate`` (of ln Z, the
        difference of Kronrod's and Gauss's rule, summed over cells: commonly far too large, but no bound),
        ``n_evaluations``, ``n_cells``, ``peak`` (the point of the largest integrand seen), ``problem``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or the energy is NaN or minus infinity somewhere.

    Warns
    -----
    QuadratureWarning
        If `tolerance` is not reached.

    Notes
    -----
    Kronrod's extension of Gauss's rule: R. Piessens et al., QUADPACK (1983). The cell with the largest
    difference of the rules is cut in half across the dimension in which they differ most.

    Examples
    --------
    >>> F = integral(lambda x: x[:, 0] ** 2 / 2, [(-np.inf, np.inf)], beta=4.0)
    >>> bool(abs(F.log_z - 0.5 * np.log(2 * np.pi / 4)) < 1e-12)
    True
    """
    if not callable(energy):
        raise TypeError(f"energy: expected a function, got {type(energy).__name__}")
    if log_density is not None and not callable(log_density):
        raise TypeError(f"log_density: expected a function, got {type(log_density).__name__}")
    beta = inverse_temperature(beta)
    if beta == 0:
        raise ValueError("beta: expected beta > 0, got 0")
    box = _Box(bounds)
    tolerance = real(tolerance, "tolerance", np.finfo(np.float64).tiny)
    max_evaluations = count(max_evaluations, "max_evaluations")
    rule = _Rule(energy, log_density, beta, box)
    cells = rule.of(box.cells(points))
    while True:
        total = float(np.logaddexp.reduce(cells.log_value))
        if total == -np.inf:
            raise ValueError(
                "energy: expected it finite at some of the first points: give points=, or bounds"
            )
        errors = np.exp(cells.log_error - total)
        error = float(errors.sum())
        if error <= tolerance or rule.n_evaluations >= max_evaluations:
            break
        # All cells that together are responsible for most of it, and what lies beside the peak.
        order = np.argsort(-errors)
        n_cut = int(np.searchsorted(np.cumsum(errors[order]), 0.5 * error)) + 1
        cut = cells.larger_beside(rule.peak_t)
        cut[order[:n_cut]] = True
        cells = _joined(cells.at(~cut), rule.of(cells.at(cut).halves()))
    problem = ""
    if error > tolerance:
        problem = f"rules differ by {error:.2g} > {tolerance:g} after {rule.n_evaluations} evaluations"
        warnings.warn(
            f"integral: {problem}; raise max_evaluations, or give points", QuadratureWarning, stacklevel=2
        )
    details = {
        "error_estimate": error,
        "n_evaluations": rule.n_evaluations,
        "n_cells": len(cells.log_value),
        "peak": rule.peak,
        "problem": problem,
    }
    return FreeEnergy(
        value=-total / beta, log_z=total, stderr=0.0, kind="consistent", ess=math.inf, converged=not problem,
        beta=beta, details=details,
    )  # fmt: skip


class _Box:
    """Ranges of x, and of the variables t in which they are finite."""

    def __init__(self, bounds: Any) -> None:
        try:
            ends = np.array(bounds, dtype=np.float64)
        except (TypeError, ValueError):
            raise TypeError("bounds: expected pairs of numbers") from None
        if ends.ndim != 2 or ends.shape[1] != 2 or not 1 <= len(ends) <= 4:
            raise ValueError(
                f"bounds: expected (n_dimensions, 2) with 1 <= n_dimensions <= 4, got {ends.shape}"
            )
        if not (ends[:, 0] < ends[:, 1]).all():
            raise ValueError("bounds: expected low < high in each dimension")
        self.low, self.high = ends.T
        down, up = np.isinf(self.low), np.isinf(self.high)
        self.kind = np.select([down & up, down, up], [3, 2, 1], 0)
        self.t_low = np.select([self.kind == 3, self.kind == 0], [-1.0, self.low], 0.0)
        self.t_high = np.where(self.kind == 0, self.high, 1.0)

    def x(self, t: Array) -> tuple[Array, Array]:
        """x of t, and ln of the Jacobian."""
        x, log_jacobian = t.copy(), np.zeros(len(t))
        for i, kind in enumerate(self.kind):
            s = t[:, i]
            if kind == 3:
                x[:, i] = s / (1 - s * s)
                log_jacobian += np.log1p(s * s) - 2 * np.log1p(-s * s)
            elif kind:
                away = s / (1 - s)
                x[:, i] = self.low[i] + away if kind == 1 else self.high[i] - away
                log_jacobian -= 2 * np.log1p(-s)
        return x, log_jacobian

    def t(self, x: Array) -> Array:
        """t of x."""
        t = x.copy()
        for i, kind in enumerate(self.kind):
            if kind == 3:
                t[:, i] = 2 * x[:, i] / (1 + np.sqrt(1 + 4 * x[:, i] ** 2))
            elif kind:
                away = x[:, i] - self.low[i] if kind == 1 else self.high[i] - x[:, i]
                t[:, i] = away / (1 + away)
        return t

    def cells(self, points: Any) -> tuple[Array, Array]:
        """Centers and half widths of the first cells, (n_cells, n_dimensions) each."""
        d = len(self.low)
        cuts = [
            np.linspace(low, high, _CELLS[d] + 1) for low, high in zip(self.t_low, self.t_high, strict=True)
        ]
        if points is not None:
            at = np.asarray(points, dtype=np.float64)
            if at.ndim != 2 or at.shape[1] != d:
                raise ValueError(f"points: expected (n_points, {d}), got {at.shape}")
            if not ((at > self.low) & (at < self.high)).all():
                raise ValueError("points: expected them inside the bounds")
            cuts = [np.union1d(cut, extra) for cut, extra in zip(cuts, self.t(at).T, strict=True)]
        centers = itertools.product(*[(cut[1:] + cut[:-1]) / 2 for cut in cuts])
        halves = itertools.product(*[np.diff(cut) / 2 for cut in cuts])
        return np.array(list(centers)), np.array(list(halves))


class _Cells:
    """Some cells, ln of the integral over each, ln of its error, and the dimension to cut."""

    def __init__(self, center: Array, half: Array, log_value: Array, log_error: Array, across: Array) -> None:
        self.center, self.half = center, half
        self.log_value, self.log_error, self.across = log_value, log_error, across

    def at(self, which: Array) -> _Cells:
        """Some of them."""
        return _Cells(*(part[which] for part in vars(self).values()))

    def larger_beside(self, peak: Array) -> Array:
        """Which are beside the peak's cell and much larger: they may hold its other side.

        What is cut in them next is their largest dimension, in units of that cell.
        """
        away = np.abs(self.center - peak)
        small = self.half[np.argmin((away / self.half).max(axis=1))]
        found: Array = ((away <= self.half + 2 * small).all(axis=1)) & (self.half > 2.5 * small).any(axis=1)
        self.across = np.where(found, np.argmax(self.half / small, axis=1), self.across)
        return found

    def halves(self) -> tuple[Array, Array]:
        """Centers and half widths of both halves of each."""
        half, shift = self.half.copy(), np.zeros_like(self.half)
        rows = np.arange(len(half))
        half[rows, self.across] /= 2
        shift[rows, self.across] = half[rows, self.across]
        return np.concatenate([self.center - shift, self.center + shift]), np.concatenate([half, half])


def _joined(one: _Cells, other: _Cells) -> _Cells:
    return _Cells(
        *(np.concatenate(two) for two in zip(vars(one).values(), vars(other).values(), strict=True))
    )


class _Rule:
    """Products of 15 points a dimension."""

    def __init__(self, energy: Any, log_density: Any, beta: float, box: _Box) -> None:
        self.energy, self.log_density, self.beta, self.box = energy, log_density, beta, box
        d = len(box.low)
        self.points = np.array(list(itertools.product(POINTS, repeat=d)))

        def products(*rules: Array) -> Array:
            return np.array([math.prod(each) for each in itertools.product(*rules)])

        self.weights = products(*[WEIGHTS] * d)
        self.gauss = products(*[GAUSS_WEIGHTS] * d)
        self.gauss_in = [
            products(*(GAUSS_WEIGHTS if k == i else WEIGHTS for k in range(d))) for i in range(d)
        ]
        self.n_evaluations = 0
        self.peak, self.peak_t, self.highest = np.full(d, np.nan), np.full(d, np.nan), -np.inf

    def of(self, cells: tuple[Array, Array]) -> _Cells:
        """Integrals over cells of given centers and half widths."""
        step = max(1, _AT_ONCE // self.points.size)
        centers, halves = cells
        parts = [
            self._some(centers[k : k + step], halves[k : k + step]) for k in range(0, len(centers), step)
        ]
        whole = parts[0]
        for part in parts[1:]:
            whole = _joined(whole, part)
        return whole

    def _some(self, center: Array, half: Array) -> _Cells:
        n, d = center.shape
        t = (center[:, None, :] + half[:, None, :] * self.points).reshape(-1, d)
        x, log_jacobian = self.box.x(t)
        exponent = (-self.beta * self._values(self.energy, x, "energy") + log_jacobian).reshape(n, -1)
        if self.log_density is not None:
            exponent += self._values(self.log_density, x, "log_density").reshape(n, -1)
        if np.isnan(exponent).any() or (exponent == np.inf).any():
            raise ValueError(
                "energy: expected numbers, or infinity, where it is asked for; got NaN or -infinity"
            )
        self.n_evaluations += exponent.size
        best = int(np.argmax(exponent))
        if exponent.flat[best] > self.highest:
            self.highest, self.peak, self.peak_t = float(exponent.flat[best]), x[best], t[best]
        top = np.maximum(exponent.max(axis=1, keepdims=True), -1e300)
        inside = np.exp(exponent - top)
        size = np.log(half).sum(axis=1) + top[:, 0]
        value = inside @ self.weights
        error = np.abs(value - inside @ self.gauss)
        by_dimension = np.stack([np.abs(value - inside @ rule) for rule in self.gauss_in], axis=1)
        with np.errstate(divide="ignore"):
            return _Cells(
                center, half, np.log(value) + size, np.log(np.maximum(error, 1e-17 * value)) + size,
                np.argmax(by_dimension * (half > 1e-12), axis=1),
            )  # fmt: skip

    def _values(self, function: Any, x: Array, name: str) -> Array:
        found = np.asarray(function(x), dtype=np.float64)
        if found.shape != x.shape[:1]:
            raise ValueError(f"{name}: expected ({len(x)},) of {x.shape} numbers, got {found.shape}")
        return found
