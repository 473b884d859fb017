"""Adaptive integrals of e^f over the cube [-1, 1]^d, in log space."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..arrays import Array
from .kronrod import GAUSS_WEIGHTS, POINTS, WEIGHTS

__all__ = ["integrate", "points_per_cell"]

LogFunction = Callable[[Array], Array]  # (n, d) -> (n,)

_SMALLEST = 1e-15  # side of a cell
_WORST = 0.05  # of the largest error: cells that are cut beside the worst
_DOUBT = 2.0  # the difference of the rules in four dimensions is up to 1.3 times too small
_CHUNK = 1 << 18  # points at once


@dataclass(frozen=True)
class _Rule:
    """Points (n_points, d) on the cube with the weights of two rules, those of higher degree first."""

    points: Array
    weights: Array
    lower: Array


def _rule(d: int) -> _Rule:
    """Gauss and Kronrod, or degrees 7 and 5 of A. Genz and A. Malik, J. Comput. Appl. Math. 6 (1980) 295.

    In the latter the center comes first, then the inner pairs of points on each axis, then the outer ones.
    """
    if d == 1:
        return _Rule(POINTS[:, None], WEIGHTS, GAUSS_WEIGHTS)
    inner, outer, corner = math.sqrt(9 / 70), math.sqrt(9 / 10), math.sqrt(9 / 19)
    signs = np.array([1.0, -1.0])
    on_axes = [s * np.eye(d)[i] for i in range(d) for s in signs]
    planes = [
        s * np.eye(d)[i] + t * np.eye(d)[j]
        for i, j in itertools.combinations(range(d), 2) for s in signs for t in signs
    ]  # fmt: skip
    corners = np.array(list(itertools.product(signs, repeat=d)))
    points = np.concatenate([
        np.zeros((1, d)), inner * np.array(on_axes), outer * np.array(on_axes), outer * np.array(planes),
        corner * corners,
    ])  # fmt: skip
    sizes = [1, 2 * d, 2 * d, len(planes), len(corners)]
    seven = [
        (12824 - 9120 * d + 400 * d**2) / 19683, 980 / 6561, (1820 - 400 * d) / 19683, 200 / 19683,
        6859 / 19683 / 2**d,
    ]  # fmt: skip
    five = [(729 - 950 * d + 50 * d**2) / 729, 245 / 486, (265 - 100 * d) / 1458, 25 / 729, 0.0]
    return _Rule(points, 2.0**d * np.repeat(seven, sizes), 2.0**d * np.repeat(five, sizes))


def points_per_cell(d: int) -> int:
    """Evaluations that a cell costs."""
    return len(_rule(d).points)


@dataclass(frozen=True)
class _Cells:
    """Boxes with their integrals and errors, both over e^top, and the axis to cut next."""

    low: Array
    high: Array
    value: Array
    error: Array
    top: Array
    axis: npt.NDArray[np.int64]

    def __getitem__(self, which: Array) -> _Cells:
        return _Cells(*(getattr(self, name)[which] for name in self.__dataclass_fields__))

    def joined(self, other: _Cells) -> _Cells:
        pairs = ((getattr(self, name), getattr(other, name)) for name in self.__dataclass_fields__)
        return _Cells(*(np.concatenate(pair) for pair in pairs))


def integrate(
    log_f: LogFunction,
    peaks: Array,
    widths: Array,
    tolerance: float,
    max_evaluations: int,
    first_cut: float = 0.0,
) -> tuple[float, float, int]:
    """ln ∫ e^f, what bounds its error if the rules do (relative to the integral), and the evaluations.

    peaks, widths : (n_peaks, d), around which cells are small; away from them they grow with the distance.
    first_cut : where the cube is cut first on each axis, so that another one makes all cells others.
    """
    d = peaks.shape[1]
    rule = _rule(d)
    most = max(1, max_evaluations // len(rule.points))
    cells = _evaluated(log_f, rule, *_graded(peaks, widths, 1.0 if d < 3 else 1.5, most // 2, first_cut))
    n_cells = len(cells.value)
    while True:
        error, total = _sums(cells)
        bad = float(error.sum()) > tolerance * total if total > 0 else True
        can = (cells.high - cells.low).max(axis=1) > _SMALLEST
        worth = can & (error > 0)
        if not bad or not worth.any() or n_cells >= most:
            break
        order = np.argsort(error)
        in_small = np.cumsum(error[order]) <= 0.5 * tolerance * total
        cut = worth.copy()
        cut[order[in_small]] = False
        cut &= error >= _WORST * error[worth].max()
        (chosen,) = np.nonzero(cut)
        chosen = chosen[np.argsort(-error[chosen])][: max(1, (most - n_cells) // 2)]
        if len(chosen) == 0:
            break
        rest = np.ones(len(error), bool)
        rest[chosen] = False
        new = _evaluated(log_f, rule, *_halved(cells.low[chosen], cells.high[chosen], cells.axis[chosen]))
        n_cells += len(new.value)
        cells = cells[rest].joined(new)
    top = float(cells.top.max())
    if not total > 0:
        return -math.inf, math.inf, n_cells * len(rule.points)
    return top + math.log(total), float(error.sum()) / total, n_cells * len(rule.points)


def _sums(cells: _Cells) -> tuple[Array, float]:
    """Errors of all cells and the sum of their integrals, over e^(the largest top)."""
    top = cells.top.max()
    scale = np.exp(cells.top - top) if np.isfinite(top) else np.zeros_like(cells.top)
    return cells.error * scale, math.fsum(cells.value * scale)


def _halved(low: Array, high: Array, axis: Array) -> tuple[Array, Array]:
    rows = np.arange(len(low))
    middle = 0.5 * (low[rows, axis] + high[rows, axis])
    upper_low, lower_high = low.copy(), high.copy()
    upper_low[rows, axis] = lower_high[rows, axis] = middle
    return np.concatenate([low, upper_low]), np.concatenate([lower_high, high])


def _graded(peaks: Array, widths: Array, finest: float, most: int, first_cut: float) -> tuple[Array, Array]:
    """Boxes no larger than their distance from each peak, or `finest`, both in widths of the peak."""
    d = peaks.shape[1]
    sides = np.array([[-1.0, first_cut], [first_cut, 1.0]])
    boxes = np.array(list(itertools.product(sides, repeat=d)))
    low, high = boxes[..., 0], boxes[..., 1]
    while len(low) < most:
        large = np.zeros(len(low), bool)
        axis = np.zeros(len(low), np.int64)
        for peak, width in zip(peaks, widths, strict=True):
            away = (np.maximum(np.maximum(low - peak, peak - high), 0.0) / width).max(axis=1)
            size = (high - low) / width
            new = (size.max(axis=1) > np.maximum(finest, away)) & ~large
            axis[new] = size[new].argmax(axis=1)
            large |= new
        sides = high - low
        large &= sides[np.arange(len(low)), axis] > _SMALLEST
        if not large.any():
            break
        cut_low, cut_high = _halved(low[large], high[large], axis[large])
        low, high = np.concatenate([low[~large], cut_low]), np.concatenate([high[~large], cut_high])
    return low, high


def _evaluated(log_f: LogFunction, rule: _Rule, low: Array, high: Array) -> _Cells:
    d = low.shape[1]
    half, middle = 0.5 * (high - low), 0.5 * (high + low)
    chunk = max(1, _CHUNK // len(rule.points))
    found = [
        log_f((middle[i : i + chunk, None] + half[i : i + chunk, None] * rule.points).reshape(-1, d))
        for i in range(0, len(low), chunk)
    ]
    logs = np.concatenate(found).reshape(len(low), -1)
    top = logs.max(axis=1)
    f = np.exp(logs - np.where(np.isfinite(top), top, 0.0)[:, None])
    volume = half.prod(axis=1)
    value = f @ rule.weights * volume
    error = np.abs(value - f @ rule.lower * volume) * (1.0 if d == 1 else _DOUBT)
    return _Cells(low, high, value, error, top, _roughest(f, half, d))


def _roughest(f: Array, half: Array, d: int) -> npt.NDArray[np.int64]:
    """The axis of the largest fourth difference; the longest where there is none."""
    if d == 1:
        return np.zeros(len(f), np.int64)
    center = 2.0 * f[:, :1]
    inner = f[:, 1 : 2 * d + 1].reshape(len(f), d, 2).sum(axis=2) - center
    outer = f[:, 2 * d + 1 : 4 * d + 1].reshape(len(f), d, 2).sum(axis=2) - center
    fourth = np.abs(inner - outer / 7.0)
    flat = fourth.max(axis=1) <= 1e-14 * np.abs(f).max(axis=1)
    axes: npt.NDArray[np.int64] = np.where(flat, half.argmax(axis=1), fourth.argmax(axis=1))
    return axes
