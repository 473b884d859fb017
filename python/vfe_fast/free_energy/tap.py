"""Plefka's expansion of the free energy at fixed means: naive mean field, TAP, and the order after it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..arguments import count, real
from ..arrays import Array
from ..models import BernoulliRBM, Ising, SpinRBM
from ..warned import warn
from .mean_field import MeanFieldWarning, Problem, several_valleys
from .pairs import Layers, Pairs
from .result import FreeEnergy

__all__ = ["ORDERS", "check_powers", "is_below", "tap"]

ORDERS = (1, 2, 3)

_LARGEST = 1e30  # β |J|, whose powers are summed, up to the eighth
_BELOW = 1e-9  # of ln Z: below a bound by more than rounding


def tap(
    model: BernoulliRBM | SpinRBM | Ising,
    *,
    order: int = 2,
    beta: float = 1.0,
    n_starts: int = 8,
    data: Any = None,
    damping: float = 0.5,
    tolerance: float = 1e-9,
    max_sweeps: int = 500,
    rng: Any = None,
    num_threads: int | None = None,
) -> FreeEnergy:
    r"""Free energy of Thouless, Anderson and Palmer: an expansion in β at fixed means, stationary in them.

    .. math::
        -\beta F \approx S_q - \beta \langle E \rangle_q + \tfrac{\beta^2}{4} \sum_{ij} J_{ij}^2 V_i V_j
            + \tfrac{\beta^3}{12} \sum_{ij} J_{ij}^3 κ_i κ_j
            + \tfrac{\beta^3}{6} \sum_{ijk} J_{ij} J_{jk} J_{ki} V_i V_j V_k

    q is factorized, V_i and κ_i are the variance and the third cumulant of its unit i. Order 1 stops after
    ⟨E⟩_q (naive mean field), 2 at β² (TAP), 3 at β³. The units' fields are the derivatives of just what is
    kept, so the result is a stationary point of its own free energy.

    Parameters
    ----------
    model : BernoulliRBM, SpinRBM or Ising
        The model; float32 parameters are taken as float64.
    order : {1, 2, 3}
        Of the expansion.
    beta : float
        Inverse temperature, 0 or >= 2^-100.
    n_starts, data : int, array_like
        As in `mean_field`. Of the solutions that fulfill Plefka's condition, else of all solutions, the
        lowest is kept.
    damping : float
        In [0, 1): how much of the old θ of q_i ∝ exp(θ_i x_i) is kept in a step; of order 1 nothing is.
        Anderson's acceleration is on top of it.
    tolerance : float
        A start has converged when an undamped sweep changes no mean by more, and no |∂(βF)/∂θ_i| is larger.
    max_sweeps : int
        Sweeps over all units, at most.
    rng : int, numpy.random.Generator, numpy.random.SeedSequence or None
        Seed of the starts.
    num_threads : int, optional
        Threads to use; the result does not depend on it.

    Returns
    -------
    FreeEnergy
        Of kind ``"asymptotic"``; of order 1 ``"upper_bound"``, the same as `mean_field`. `details` as there,
        and ``corrections``, the terms of ln Z of orders 2 and 3; ``plefka``, the largest eigenvalue of
        β² J_ij² √(V_i V_j); of an RBM also ``visible_hidden``, ⟨v h⟩ as the derivative of F by the weights.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or weights are so large that their powers overflow.

    Warns
    -----
    MeanFieldWarning
        If the equations were not solved from any start, or `plefka` is above 1, or ln Z is below the bound of
        `mean_field` from the same starts, as where units freeze in states that are not the lowest: then the
        expansion is not to be trusted (the spin-glass phase). Also if starts came to several solutions, each
        of which describes a part of the states, and the others would add more than 0.05 to ln Z. `converged`
        is False; `problem` says why.

    Notes
    -----
    T. Plefka, J. Phys. A 15 (1982) 1971; A. Georges, J. Yedidia, J. Phys. A 24 (1991) 2173; of RBMs with
    units 0/1: M. Gabrié, E. Tramel, F. Krzakala, NeurIPS 2015, arXiv:1506.02914 (EMF-RBM). Plefka's condition
    is β² ⟨(1 - m²)²⟩ < 1 for the couplings of Sherrington and Kirkpatrick; the eigenvalue is what takes its
    place for others.

    Examples
    --------
    >>> from vfe_fast.free_energy import exact
    >>> pair = Ising([[0.0, 0.5], [0.5, 0.0]], [0.1, -0.2])
    >>> F = [tap(pair, order=order, rng=0).value - exact(pair).value for order in (1, 2)]
    >>> abs(F[1]) < abs(F[0])
    True
    """
    order = count(order, "order", 1, ORDERS[-1] + 1)
    damping = real(damping, "damping", 0.0, 1.0)
    problem = Problem(model, beta, n_starts, data, tolerance, max_sweeps, rng, num_threads)
    pairs = problem.pairs
    check_powers(pairs, order)
    found = problem.solve(order, damping=0.0 if order == 1 else damping)
    log_z, eigenvalues = pairs.log_z(found.theta, order), pairs.plefka(found.theta)
    holds = found.converged & ((eigenvalues <= 1) | (order == 1))
    if order == 1:  # a bound everywhere
        best = int(np.argmax(log_z))
    elif found.converged.any():
        best = int(np.argmax(np.where(holds if holds.any() else found.converged, log_z, -np.inf)))
    else:
        best = int(np.argmin(found.gradient))
    reason = ""
    if not found.converged[best]:
        reason = problem.unsettled(found, best)
    elif not holds[best]:
        reason = f"beyond Plefka's condition ({eigenvalues[best]:.3g} > 1): the expansion does not hold here"
    elif order > 1:
        bound = float(pairs.log_z(problem.solve(1, damping=0.0).theta, 1).max())
        if is_below(log_z[best], bound):
            reason = f"ln Z is {bound - log_z[best]:.3g} below the bound of mean field: the expansion fails"
    result = problem.result(found, best, order, reason)
    if not reason and order > 1:
        reason = several_valleys(result)
        result = replace(result, converged=not reason, details={**result.details, "problem": reason})
    if reason:
        warn(f"tap: {reason}", MeanFieldWarning)
    more: dict[str, Any] = {"order": order, "plefka": float(eigenvalues[best])}
    if isinstance(pairs, Layers):
        more["visible_hidden"] = pairs.visible_hidden(pairs.cumulants(found.theta[best : best + 1]), order)
    return replace(result, details={**result.details, **more})


def check_powers(pairs: Pairs, order: int) -> None:
    """Refuse couplings whose powers are no float64."""
    if order > 1 and pairs.largest() > _LARGEST:
        raise ValueError(f"model: expected beta |J| <= {_LARGEST:g}, whose powers are summed")


def is_below(log_z: Array | float, bound: Array | float) -> Any:
    """Whether it is by more than rounding."""
    return log_z < bound - _BELOW * np.maximum(1.0, np.abs(bound))
