"""ln Z of a few real coordinates, as an integral over them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arguments import count, inverse_temperature, real
from ..arrays import Array
from ..warned import warn
from .cubature import integrate, points_per_cell
from .result import FreeEnergy
from .thermodynamic_integration import IntegrationWarning

__all__ = ["integral"]

_MOST_AXES = 4
_SCAN = {1: 4001, 2: 121, 3: 27, 4: 13}  # points on each axis
_MOST_PEAKS = 16
_LOWEST_PEAK = 60.0  # below the highest one, in ln p
_FAR = 1e100  # where a peak is none
_CLIMB = 400  # steps to the top
_SINGULAR = 1e-9  # of the first step: what has no top at that scale
_FLAT = 0.05  # in ln p: at the top
_TOLERANCE = {1: 1e-10, 2: 1e-7, 3: 1e-5, 4: 1e-3}
_EPS = float(np.finfo(np.float64).eps)

_MOST_RUNS = 3
_OTHER_CUT = -0.15
_LAST = 1.0 - _EPS / 2  # u before the end
_CLOSE = 2.0**-50  # to it
_OF_LINE = 1e-3  # tolerance, where it is compared with what lies that close


def integral(
    energy: Callable[[Any], Any],
    bounds: Any,
    *,
    beta: float = 1.0,
    points: Any = None,
    tolerance: float | None = None,
    max_evaluations: int = 2_000_000,
) -> FreeEnergy:
    r"""Free energy of one to four real coordinates, :math:`\ln Z = \ln \int e^{-\beta E(x)} \, dx`.

    The range is scanned first; from each maximum of p(x) seen, and from `points`, the way leads uphill to
    the top. Cells are cut small around these peaks, in widths of the peak, and then wherever two rules differ
    most.

    Parameters
    ----------
    energy : callable
        E. In one dimension, from an array (n,) of x to the energies (n,); else from (n, n_dims) to (n,).
        Energies may be +inf, which excludes a state.
    bounds : (low, high), or sequence of (low, high)
        The range of x, or of each coordinate; ends may be infinite.
    beta : float
        Inverse temperature, 0 (of finite ranges) or in [2^-100, 2^100).
    points : array_like, (n_points,) or (n_points, n_dims), optional
        Where p(x) may have narrow peaks that a scan would miss.
    tolerance : float, optional
        Error of ln Z aimed at; 1e-10, 1e-7, 1e-5 and 1e-3 in one to four dimensions if not given.
    max_evaluations : int
        Most energies to compute after the scan, about.

    Returns
    -------
    FreeEnergy
        Of kind ``"consistent"``. `details`: ``"error_bound"``: the difference of two rules summed over cells
        (in more dimensions twice that, and the difference to a run with other cells) and rounding; larger
        than the error if no peak was missed and p(x) is a power of the distance where it is infinite or falls
        slowly (seen in part with logarithms, as 1 / (x ln² x)), infinite where Z is; ``"peaks"``, where they
        are; ``"evaluations"``; ``"assumed"``, what was assumed, in words. `converged` is False if the bound,
        rounding apart, is above the tolerance.

    Warns
    -----
    IntegrationWarning
        If `converged` is False.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, energies are NaN or -inf, no state has a finite energy, or the
        energy falls towards infinity, where the integral diverges.

    Notes
    -----
    Rules: Gauss and Kronrod with 7 and 15 points (QUADPACK, 1983); in more dimensions those of degrees 5 and
    7 of A. Genz and A. Malik, J. Comput. Appl. Math. 6 (1980) 295. Infinite ranges are mapped by
    u / (1 - u^2) and (1 + u) / (1 - u), in units of the heaviest peak; where all are, coordinates are turned
    so that it is round. All sums are in log space.

    Examples
    --------
    >>> F = integral(lambda x: x**2 / 2, (-math.inf, math.inf), beta=4.0)
    >>> bool(abs(F.log_z - 0.5 * math.log(2 * math.pi / 4)) < 1e-12)
    True
    """
    if not callable(energy):
        raise TypeError(f"energy: expected a callable, got {type(energy).__name__}")
    ends, flat = _bounds(bounds)
    d = len(ends)
    beta = inverse_temperature(beta)
    if beta == 0 and not np.isfinite(ends).all():
        raise ValueError("beta: expected beta > 0 where a range is infinite, got 0")
    tolerance = _TOLERANCE[d] if tolerance is None else real(tolerance, "tolerance", 0.0, 1.0)
    max_evaluations = count(max_evaluations, "max_evaluations", 10 * points_per_cell(d), 1 << 40)
    density = _Density(energy, beta, ends, flat)
    starts = _points(points, ends, flat)
    best = (-math.inf, math.inf, 0, starts)
    for _ in range(_MOST_RUNS):
        peaks, widths = _peaks(density, starts)
        found = _integrated(density, peaks, widths, tolerance, max_evaluations)
        if found[0] > best[0]:  # what is missed can only lower Z
            best = *found, peaks
        if density.highest <= density(peaks).max() + 1.0:
            break
        starts = np.concatenate([starts, density.at_highest[None]])  # the scan had missed it
    log_z, error, n_evaluations, peaks = best
    return _free_energy(log_z, error, tolerance, n_evaluations, peaks[:, 0] if flat else peaks, beta, d)


def _integrated(
    density: _Density, peaks: Array, widths: Array, tolerance: float, max_evaluations: int
) -> tuple[float, float, int]:
    """ln Z, its relative error, and evaluations; in more dimensions with cells of two kinds."""
    d = len(density.ends)
    turned = _Turned.of(density, peaks[0], widths[0])
    if turned is not None:
        peaks = turned.back(peaks)
        widths = np.array([_width(turned, float(turned(at[None])[0]), at, np.full(d, 0.1)) for at in peaks])
    log_p = density if turned is None else turned
    axes = [_Axis.of(log_p.ends[i], float(peaks[0, i]), float(widths[0, i])) for i in range(d)]

    def mapped(u: Array) -> Array:
        u = np.clip(u, -_LAST, _LAST)
        x = np.column_stack([axis.x(u[:, i]) for i, axis in enumerate(axes)])
        logs: Array = log_p(x) + sum(axis.log_slope(u[:, i]) for i, axis in enumerate(axes))
        return logs

    at = np.column_stack([axis.u(peaks[:, i]) for i, axis in enumerate(axes)])
    slopes = np.column_stack(
        [np.exp(axis.log_slope(np.clip(at[:, i], -_LAST, _LAST))) for i, axis in enumerate(axes)]
    )
    inside = np.clip(widths / slopes, 4 * _EPS, 2.0)
    log_z, error, n = integrate(mapped, at, inside, tolerance, max_evaluations)
    if d > 1:
        other, other_error, n_other = integrate(mapped, at, inside, tolerance, max_evaluations, _OTHER_CUT)
        both = abs(math.expm1(min(700.0, other - log_z))) if math.isfinite(log_z) else math.inf
        log_z, error, n = max(log_z, other), max(error, other_error) + both, n + n_other
    for i, axis in enumerate(axes):

        def line(u: Array, i: int = i) -> Array:
            """Through the first peak, along an axis."""
            points = np.repeat(np.clip(at[:1], -_LAST, _LAST), len(u), axis=0)
            points[:, i] = u[:, 0]
            return mapped(points)

        of_line, n_line = log_z, 0
        if d > 1:
            of_line, _, n_line = integrate(line, at[:1, [i]], inside[:1, [i]], _OF_LINE, max_evaluations)
        error, n = error + sum(_beyond(line, end, axis, of_line) for end in (-1.0, 1.0)), n + n_line
    return log_z, error, n


def _beyond(log_f: Callable[[Array], Array], end: float, axis: _Axis, log_z: float) -> float:
    """What p, if a power of the distance, has more than even close to an end, where numbers end; over Z."""
    x = 0.0 if axis.kind == "infinite" or (axis.kind == "half" and end > 0) else float(axis.x(np.array(end)))
    near = max(_CLOSE, 8 * np.spacing(abs(x)) / abs(axis.scale))
    at, twice_as_far = map(float, log_f(end * (1.0 - near * np.array([[1.0], [2.0]]))))
    if at == -math.inf:
        return 0.0
    power = 1.0 + (twice_as_far - at) / math.log(2.0)  # of the distance, in the integral
    if power <= 0:
        return math.inf
    return abs(1.0 / power - 1.0) * math.exp(min(700.0, at + math.log(near) - log_z))


@dataclass(frozen=True)
class _Turned:
    """ln p in coordinates y, x = top + L y, in which the top is round; for ranges without ends."""

    density: _Density
    top: Array
    root: Array

    @classmethod
    def of(cls, density: _Density, top: Array, widths: Array) -> _Turned | None:
        """From the second derivatives of ln p at the top; None if there is nothing to turn."""
        d = len(top)
        if d == 1 or np.isfinite(density.ends).any():
            return None
        steps = 0.5 * np.diag(widths)
        signs = ((1, 1), (1, -1), (-1, 1), (-1, -1))
        x = np.array([top + a * s + b * t for s in steps for t in steps for a, b in signs])
        logs = density(x).reshape(d, d, 4)
        curved = -(logs[..., 0] - logs[..., 1] - logs[..., 2] + logs[..., 3]) / np.outer(widths, widths)
        try:
            root = np.linalg.inv(np.linalg.cholesky(0.5 * (curved + curved.T))).T
        except np.linalg.LinAlgError:
            return None
        return cls(density, top, root) if np.isfinite(root).all() else None

    @property
    def ends(self) -> Array:
        return self.density.ends

    def __call__(self, y: Array) -> Array:
        logs: Array = self.density(self.top + y @ self.root.T) + np.linalg.slogdet(self.root)[1]
        return logs

    def back(self, x: Array) -> Array:
        """The coordinates y of rows of x."""
        y: Array = np.linalg.solve(self.root, (x - self.top).T).T
        return y


def _free_energy(
    log_z: float, error: float, tolerance: float, n_evaluations: int, peaks: Array, beta: float, d: int
) -> FreeEnergy:
    rounding = 4 * _EPS * (10 + abs(log_z))
    bound = (math.inf if error >= 1 else -math.log1p(-error)) + rounding
    problem = ""
    if error > tolerance or not math.isfinite(log_z):
        problem = (
            f"Z is known to {error:.2g} of it after {n_evaluations} evaluations: p(x) may be too rough or "
            "narrow, or Z infinite"
        )
        warn(f"ln Z is not reliable: {problem}", IntegrationWarning)
    assumed = (
        f"no narrow dip of the energy lies between the {_SCAN[d]} points of the scan on each axis and away "
        f"from `points`; peaks found: {len(peaks)}"
    )
    return FreeEnergy(
        value=-log_z / beta if beta > 0 else -math.inf,
        log_z=log_z,
        stderr=0.0,
        kind="consistent",
        ess=math.inf,
        converged=not problem,
        beta=beta,
        details={
            "error_bound": bound,
            "peaks": peaks,
            "evaluations": n_evaluations,
            "assumed": assumed,
            "problem": problem,
        },
    )


class _Density:
    """ln p(x) + const = -βE(x) of rows of x, -inf outside the open range; keeps the highest seen."""

    def __init__(self, energy: Callable[[Any], Any], beta: float, ends: Array, flat: bool) -> None:
        self._energy, self._beta, self._flat, self.ends = energy, beta, flat, ends
        self.highest, self.at_highest = -math.inf, np.zeros(len(ends))

    def __call__(self, x: Array) -> Array:
        logs = np.full(len(x), -math.inf)
        inside = ((x > self.ends[:, 0]) & (x < self.ends[:, 1])).all(axis=1)
        if not inside.any():
            return logs
        given = x[inside]
        with np.errstate(over="ignore"):
            energies = np.asarray(self._energy(given[:, 0].copy() if self._flat else given.copy()))
        if energies.dtype.kind not in "biuf" or energies.shape != (len(given),):
            raise ValueError(
                f"energy: expected {len(given)} real numbers for as many x, got {energies.dtype} of shape "
                f"{energies.shape}"
            )
        bad = np.isnan(energies) | np.isneginf(energies)
        if bad.any():
            raise ValueError(
                f"energy: expected no NaN or -inf, got {energies[bad][0]} at x = {given[bad][0]}"
            )
        with np.errstate(over="ignore"):
            found = -self._beta * energies if self._beta > 0 else np.where(np.isinf(energies), -np.inf, 0.0)
        best = int(np.argmax(found))
        if found[best] > self.highest:
            self.highest, self.at_highest = float(found[best]), given[best].copy()
        logs[inside] = found
        return logs


@dataclass(frozen=True)
class _Axis:
    """x as a function of u in (-1, 1)."""

    kind: str
    origin: float
    scale: float

    @classmethod
    def of(cls, ends: Array, peak: float, width: float) -> _Axis:
        low, high = map(float, ends)
        if math.isfinite(low) and math.isfinite(high):
            return cls("finite", 0.5 * low + 0.5 * high, 0.5 * high - 0.5 * low)
        if math.isfinite(low):
            return cls("half", low, max(peak - low, width))
        if math.isfinite(high):
            return cls("half", high, -max(high - peak, width))
        return cls("infinite", peak, 2.0 * width)

    def x(self, u: Array) -> Array:
        if self.kind == "finite":
            return self.origin + self.scale * u
        if self.kind == "half":
            return self.origin + self.scale * (1.0 + u) / (1.0 - u)
        return self.origin + self.scale * u / ((1.0 - u) * (1.0 + u))

    def u(self, x: Array) -> Array:
        y = (x - self.origin) / self.scale
        if self.kind == "finite":
            return y
        if self.kind == "half":
            return (y - 1.0) / (y + 1.0)
        return 2.0 * y / (1.0 + np.sqrt(1.0 + 4.0 * y * y))

    def log_slope(self, u: Array) -> Array:
        """ln dx/du."""
        if self.kind == "finite":
            return np.full(len(u), math.log(abs(self.scale)))
        if self.kind == "half":
            return np.full(len(u), math.log(2.0 * abs(self.scale))) - 2.0 * np.log1p(-u)
        slope: Array = np.log1p(u * u) - 2.0 * (np.log1p(-u) + np.log1p(u))
        return slope + math.log(abs(self.scale))


def _grid(low: float, high: float, n: int) -> Array:
    """Points of the scan: even in a finite range, else ever wider apart."""
    t = (np.arange(n) + 0.5) / n
    if math.isfinite(low) and math.isfinite(high):
        return low + (high - low) * t
    if math.isfinite(low):
        return low + 10.0 ** (12.0 * t - 6.0)
    if math.isfinite(high):
        return (high - 10.0 ** (12.0 * t - 6.0))[::-1]
    return np.sinh(14.0 * (2.0 * t - 1.0))


def _peaks(density: _Density, points: Array) -> tuple[Array, Array]:
    """Tops of p(x) and their widths, (n_peaks, d), that of most weight first."""
    d = len(density.ends)
    axes = [_grid(low, high, _SCAN[d]) for low, high in density.ends]
    x = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    logs = density(x.reshape(-1, d)).reshape(x.shape[:-1])
    padded = np.pad(logs, 1, constant_values=-np.inf)
    inner = (slice(1, -1),) * d
    top = logs > -math.inf
    for i in range(d):
        top &= (logs >= np.roll(padded, 1, i)[inner]) & (logs > np.roll(padded, -1, i)[inner])
    where = np.argwhere(top)
    where = where[np.argsort(-logs[tuple(where.T)], kind="stable")][:_MOST_PEAKS]
    steps = [np.gradient(axis) for axis in axes]
    starts = [(x[tuple(at)], np.array([steps[i][k] for i, k in enumerate(at)])) for at in where]
    for point in points:
        near = [int(np.abs(axis - point[i]).argmin()) for i, axis in enumerate(axes)]
        starts.append((point, 1e-3 * np.array([steps[i][k] for i, k in enumerate(near)])))
    climbed = [_climb(density, at, step) for at, step in starts]
    climbed = [c for c in climbed if c[0] > -math.inf]
    if not climbed:
        raise ValueError("energy: expected a finite energy somewhere in the scan; see points=")
    found = [(log_p, at, _width(density, log_p, at, step)) for log_p, at, step in climbed]
    found.sort(key=lambda peak: -peak[0] - float(np.log(peak[2]).sum()))
    kept: list[tuple[Array, Array]] = []
    for log_p, at, width in found:
        if log_p >= found[0][0] - _LOWEST_PEAK and not any(
            (np.abs(at - other) < 0.5 * known).all() for other, known in kept
        ):
            kept.append((at, width))
    return np.array([at for at, _ in kept]), np.array([width for _, width in kept])


def _climb(density: _Density, at: Array, step: Array) -> tuple[float, Array, Array]:
    """Uphill along the axes until ln p is flat over the steps; back to the start if that is nowhere."""
    start, first = at, step
    d = len(at)
    both = np.concatenate([np.eye(d), -np.eye(d)])
    here = float(density(at[None])[0])
    for _ in range(_CLIMB):
        tries = at + both * step
        logs = density(tries)
        best = int(np.argmax(logs))
        if np.abs(at).max() > _FAR:
            raise ValueError(
                "energy: falls towards the end of an infinite range, where the integral diverges"
            )
        if logs[best] > here:
            at, here = tries[best], float(logs[best])
            step = step * (1.0 + both[best] ** 2)
            continue
        falls = (here - logs).reshape(2, d).max(axis=0) if here > -math.inf else np.full(d, math.inf)
        steep = (falls > _FLAT) & (step > 4 * _EPS * np.abs(at)) & (step > 1e-290)
        if not steep.any():
            break
        step = np.where(steep, 0.5 * step, step)
    if (step < _SINGULAR * first).any() and (here - density(at + both * step) > _FLAT).any():
        return float(density(start[None])[0]), start, first
    return here, at, step


def _width(density: _Density | _Turned, here: float, at: Array, step: Array) -> Array:
    """How far ln p has to go along each axis to fall by 1, within a factor of two."""
    widths = np.empty(len(at))
    for i, unit in enumerate(np.eye(len(at))):
        low, high = density.ends[i]
        span = high - low if math.isfinite(high - low) else 1e6 * max(1.0, abs(at[i]), float(step[i]))
        reach = float(step[i]) * 2.0 ** np.arange(-6, 1 + max(0, math.ceil(math.log2(span / step[i]))))
        falls = here - np.maximum(density(at + reach[:, None] * unit), -1e308)
        back = here - np.maximum(density(at - reach[:, None] * unit), -1e308)
        inside = (at[i] + reach < high) & (falls >= 1) | (at[i] - reach > low) & (back >= 1)
        widths[i] = reach[int(np.argmax(inside))] if inside.any() else span
    return widths


def _bounds(bounds: Any) -> tuple[Array, bool]:
    """Ends (d, 2), and whether they were given as a single pair."""
    try:
        ends = np.asarray(bounds, np.float64)
    except (TypeError, ValueError):
        raise TypeError("bounds: expected (low, high) or a sequence of such pairs") from None
    flat = ends.shape == (2,)
    if flat:
        ends = ends[None]
    if ends.ndim != 2 or ends.shape[1] != 2 or not 1 <= len(ends) <= _MOST_AXES:
        raise ValueError(f"bounds: expected one to {_MOST_AXES} pairs (low, high), got shape {ends.shape}")
    if not (ends[:, 0] < ends[:, 1]).all():
        raise ValueError("bounds: expected low < high")
    if (np.abs(ends[np.isfinite(ends)]) > _FAR).any():
        raise ValueError(f"bounds: expected infinite ends or such below {_FAR:g}")
    return ends, flat


def _points(points: Any, ends: Array, flat: bool) -> Array:
    if points is None:
        return np.empty((0, len(ends)))
    try:
        found = np.asarray(points, np.float64)
    except (TypeError, ValueError):
        raise TypeError("points: expected numbers") from None
    if flat and found.ndim < 2:
        found = found.reshape(-1, 1)
    if found.ndim != 2 or found.shape[1] != len(ends):
        raise ValueError(f"points: expected (n_points, {len(ends)}), got shape {found.shape}")
    if not ((found > ends[:, 0]) & (found < ends[:, 1])).all():
        raise ValueError("points: expected points within the bounds")
    return found
