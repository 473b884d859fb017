"""Stationary points of ln Z in the means of factorized distributions, many at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..arrays import Array
from .pairs import Pairs

__all__ = ["Settled", "settle"]

_MEMORY = 6  # sweeps that Anderson's acceleration looks back on
_RIDGE = 1e-14  # of its least squares


@dataclass(frozen=True, eq=False)
class Settled:
    """Where the rows came to rest.

    Attributes
    ----------
    theta : ndarray, (n_rows, n_units)
        q ∝ e^(θ.x).
    change : ndarray, (n_rows,)
        Largest change of a mean in the last sweep, undamped.
    gradient : ndarray, (n_rows,)
        Largest |∂ ln Z / ∂θ| of a unit.
    converged : ndarray of bool, (n_rows,)
        Whether both are below the tolerance.
    n_sweeps : ndarray of int, (n_rows,)
        Sweeps done.
    """

    theta: Array
    change: Array
    gradient: Array
    converged: npt.NDArray[np.bool_]
    n_sweeps: npt.NDArray[np.int64]


def settle(
    pairs: Pairs,
    start: Array,
    order: int,
    *,
    damping: float,
    tolerance: float,
    max_sweeps: int,
    clamped: npt.NDArray[np.bool_] | None = None,
) -> Settled:
    """Sweep over the blocks, each in the field of the others, until nothing moves.

    At order 1 without damping a block's step is the exact minimum of F_q in its means, so that F_q never
    increases. Anderson's acceleration (J. ACM 12 (1965) 547) proposes the next start of a sweep: at order 1
    it is taken if F_q is lower there, at higher orders, where nothing is minimized, if the last sweep moved
    less than the one before. Units that are `clamped`, (n_rows, n_units), stay where they start.
    """
    theta, rows = start.copy(), np.arange(len(start))
    change, gradient = np.full(len(start), np.inf), np.full(len(start), np.inf)
    n_sweeps = np.zeros(len(start), np.int64)
    starts: list[Array] = []
    moves: list[Array] = []
    before = np.full(len(start), np.inf)
    current = theta.copy()
    for _ in range(max_sweeps):
        swept = _sweep(pairs, current, order, damping, None if clamped is None else clamped[rows])
        move = swept - current
        n_sweeps[rows] += 1
        theta[rows] = swept
        mean = pairs.cumulants(swept).mean
        change[rows] = np.abs(mean - pairs.cumulants(current).mean).max(axis=1) / (1 - damping)
        gradient[rows] = _gradient(pairs, swept, order)
        left = np.flatnonzero(np.maximum(change[rows], gradient[rows]) > tolerance)
        size: Array = np.abs(move).max(axis=1)
        if len(left) == 0:
            break
        starts, moves = ([x[left] for x in kept[-_MEMORY:]] for kept in ([*starts, current], [*moves, move]))
        rows, swept, size, last = rows[left], swept[left], size[left], before[left]
        current = swept
        if len(moves) > 1:
            proposed = _mixed(starts, moves)
            good = np.asarray(np.isfinite(proposed).all(axis=1))
            proposed = np.where(good[:, None], proposed, swept)
            if order == 1:
                good &= pairs.log_z(proposed, 1) > pairs.log_z(swept, 1)
            else:
                good &= size < last
            current = np.where(good[:, None], proposed, swept)
        before = size
    return Settled(theta, change, gradient, np.maximum(change, gradient) <= tolerance, n_sweeps)


def _sweep(
    pairs: Pairs, theta: Array, order: int, damping: float, clamped: npt.NDArray[np.bool_] | None
) -> Array:
    """Each block in turn, towards the field of the others."""
    theta = theta.copy()
    at = pairs.cumulants(theta)
    for block, units in enumerate(pairs.blocks):
        field = pairs.field(at, block, order)
        moved = theta[:, units] * damping + field * (1 - damping)
        if clamped is not None:
            moved = np.where(clamped[:, units], theta[:, units], moved)
        theta[:, units] = moved
        new = pairs.cumulants(moved)
        for name, values in vars(new).items():
            getattr(at, name)[:, units] = values
    return theta


def _gradient(pairs: Pairs, theta: Array, order: int) -> Array:
    """Largest |∂ ln Z / ∂θ_i| = V_i |θ_i - field_i|."""
    slope = pairs.cumulants(theta).variance * (theta - pairs.all_fields(theta, order))
    found: Array = np.abs(slope).max(axis=1)
    return found


def _mixed(starts: list[Array], moves: list[Array]) -> Array:
    """The combination of past sweeps whose moves cancel best, moved on."""
    with np.errstate(over="ignore", invalid="ignore"):
        moved = np.diff(np.stack(moves, axis=1), axis=1)
        steps = np.diff(np.stack(starts, axis=1), axis=1) + moved
        gram = moved @ moved.transpose(0, 2, 1)
        size = np.trace(gram, axis1=1, axis2=2)[:, None, None]
        gram += (_RIDGE * size + np.finfo(np.float64).tiny) * np.eye(gram.shape[1])
        weights = np.linalg.solve(gram, moved @ moves[-1][:, :, None])
        found: Array = starts[-1] + moves[-1] - (weights * steps).sum(axis=1)
    return found
