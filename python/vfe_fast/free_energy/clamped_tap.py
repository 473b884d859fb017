"""Mean field and TAP with some units clamped to data: one free energy a row, all rows at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arguments import count, inverse_temperature, real, threads
from ..arrays import Array, borrow
from ..models import BernoulliRBM, Ising, SpinRBM
from ..models.bernoulli_rbm import as_states
from ..models.ising import as_spins
from ..warned import warn
from .fixed_point import settle
from .mean_field import MeanFieldWarning
from .pairs import pairs_of
from .result import FreeEnergies
from .tap import ORDERS, check_powers, is_below

__all__ = ["clamped_tap"]

_FAR = 1000.0  # θ of a clamped unit: its mean is its value, its variance 0, to the last bit


def clamped_tap(
    model: BernoulliRBM | SpinRBM | Ising,
    states: Any,
    clamped: Any = True,
    *,
    order: int = 2,
    beta: float = 1.0,
    damping: float = 0.5,
    tolerance: float = 1e-9,
    max_sweeps: int = 500,
    num_threads: int | None = None,
) -> FreeEnergies:
    """Mean field (order 1) or TAP with visible units clamped to data, for all samples at once.

    The equations of `tap`, in which a clamped unit has its value for a mean and no variance; what the data
    leave open starts at equal probabilities. With all visible units of an RBM clamped the hidden ones are
    independent, and any order gives the clamped free energy F_c(v) itself.

    Parameters
    ----------
    model : BernoulliRBM, SpinRBM or Ising
        The model; float32 parameters are taken as float64.
    states : array_like, (n_samples, n_visible) or (n_samples, n_spins)
        Values of the clamped units: 0s and 1s, or spins -1 and +1. Those of others may be either.
    clamped : bool or array_like, (n_visible,) or (n_samples, n_visible)
        Where units are clamped: everywhere, or as `vfe_fast.gibbs` takes it.
    order : {1, 2, 3}
        Of the expansion.
    beta : float
        Inverse temperature, > 0.
    damping, tolerance, max_sweeps : float, float, int
        As of `tap`.
    num_threads : int, optional
        Threads to use.

    Returns
    -------
    FreeEnergies
        A row a sample: Z is the sum of e^(-β E) over the units that are not clamped. Of kind
        ``"upper_bound"`` at order 1, else ``"asymptotic"``. `converged` says of each whether the equations
        are solved, and from order 2 on Plefka's condition holds and ln Z is not below the bound of order 1.
        `rows`: the means ``visible`` (n_samples, n_visible) and ``hidden`` of an RBM's units or ``spins`` of
        an Ising model, the clamped ones at their values, and ``plefka`` as of `tap`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or weights are so large that their powers overflow.

    Warns
    -----
    MeanFieldWarning
        If a row has not converged.

    Notes
    -----
    M. Gabrié, E. Tramel, F. Krzakala, "Training restricted Boltzmann machines via the
    Thouless-Anderson-Palmer free energy", NIPS 2015.

    Examples
    --------
    >>> rbm = BernoulliRBM([[0.2, -0.1], [0.3, 0.1]], [0.1, -0.2], [0.3, 0.2])
    >>> data = np.array([[1, 0], [1, 1]], np.uint8)
    >>> found = clamped_tap(rbm, data)
    >>> np.allclose(found.value, rbm.free_energy(data))
    True
    """
    if not isinstance(model, (BernoulliRBM, SpinRBM, Ising)):
        raise TypeError(f"model: expected a BernoulliRBM, SpinRBM or Ising, got {type(model).__name__}")
    order = count(order, "order", 1, ORDERS[-1] + 1)
    beta = inverse_temperature(beta)
    if beta == 0:
        raise ValueError("beta: expected beta > 0, got 0")
    damping = 0.0 if order == 1 else real(damping, "damping", 0.0, 1.0)
    pairs = pairs_of(model, beta, threads(num_threads))
    check_powers(pairs, order)
    n_given = model.n_spins if isinstance(model, Ising) else model.n_visible
    given = _signs(model, states, n_given)
    theta = np.zeros((len(given), len(pairs.fields)))
    fixed = np.zeros(theta.shape, bool)
    fixed[:, :n_given] = _mask(clamped, given.shape)
    theta[:, :n_given] = np.where(fixed[:, :n_given], _FAR * given, 0.0)
    until: dict[str, Any] = {
        "tolerance": real(tolerance, "tolerance", 0.0), "max_sweeps": count(max_sweeps, "max_sweeps"),
        "clamped": fixed,
    }  # fmt: skip
    found = settle(pairs, theta, order, damping=damping, **until)
    log_z, plefka = pairs.log_z(found.theta, order), pairs.plefka(found.theta)
    holds = found.converged & ((plefka <= 1) | (order == 1))
    below = np.zeros_like(holds)
    if order > 1:
        below = holds & is_below(log_z, pairs.log_z(settle(pairs, theta, 1, damping=0.0, **until).theta, 1))
    problem = ""
    if not (holds & ~below).all():
        problem = (
            f"{np.count_nonzero(~found.converged)} of {len(given)} rows not converged, "
            f"{np.count_nonzero(found.converged & ~holds)} beyond Plefka's condition, "
            f"{np.count_nonzero(below)} below the bound of order 1"
        )
        warn(f"clamped_tap: {problem}", MeanFieldWarning)
    means = pairs.cumulants(found.theta).mean
    if isinstance(model, Ising):
        rows = {"spins": means, "plefka": plefka}
    else:
        rows = {"visible": means[:, :n_given], "hidden": means[:, n_given:], "plefka": plefka}
    return FreeEnergies(
        value=-log_z / beta,
        log_z=log_z,
        stderr=np.zeros(len(log_z)),
        kind="upper_bound" if order == 1 else "asymptotic",
        ess=np.full(len(log_z), np.inf),
        converged=holds & ~below,
        beta=beta,
        rows=rows,
        details={"problem": problem},
    )


def _signs(model: BernoulliRBM | SpinRBM | Ising, states: Any, n_units: int) -> Array:
    """+1 for the upper value of a unit, -1 for the lower one."""
    if isinstance(model, BernoulliRBM):
        found = 2.0 * as_states(states, "states") - 1.0
    else:
        found = as_spins(borrow(states, "states")[0], n_units, "states")
    if found.shape[1] != n_units:
        raise ValueError(f"states: expected (n_samples, {n_units}), got {found.shape}")
    return found


def _mask(clamped: Any, shape: tuple[int, ...]) -> Array:
    mask = np.asarray(clamped)
    if not (mask.dtype == bool or (mask.dtype.kind in "iu" and np.isin(mask, (0, 1)).all())):
        raise TypeError(f"clamped: expected True or 1 where a unit is clamped, got {mask.dtype}")
    if mask.shape not in ((), shape[1:], shape):
        raise ValueError(f"clamped: expected ({shape[1]},) or {shape}, got {mask.shape}")
    return np.broadcast_to(mask.astype(bool), shape)
