"""Exact ln Z by enumeration of the smaller layer."""

from __future__ import annotations

import math
import time
from typing import Any

from .. import _core
from ..arguments import real, threads
from ..models import BernoulliRBM
from .result import FreeEnergy, Moments

__all__ = ["exact"]

_SURELY_SHORT = 30  # log2 of the states times units below which no time is estimated
_PROBE = 26  # log2 of those enumerated to measure this machine's rate


def exact(
    model: BernoulliRBM,
    *,
    beta: float = 1.0,
    moments: bool = False,
    max_seconds: float = 600.0,
    num_threads: int | None = None,
) -> FreeEnergy:
    r"""Exact free energy of an RBM.

    The 2^n states s of the smaller layer are enumerated and the other layer is summed in closed form,

    .. math:: Z = \sum_s e^{\beta c \cdot s} \prod_j \left(1 + e^{\beta (d_j + \sum_i s_i W_{ij})}\right).

    Parameters
    ----------
    model : BernoulliRBM
        The model; float32 parameters are enumerated in float64.
    beta : float
        Inverse temperature, >= 0.
    moments : bool
        Also compute ⟨v⟩, ⟨h⟩, ⟨vh⟩ and ⟨E⟩.
    max_seconds : float
        A run that would take longer, at the rate measured here, is refused.
    num_threads : int, optional
        Threads to use; the result does not depend on it.

    Returns
    -------
    FreeEnergy
        Of kind ``"exact"``: stderr 0. `details` holds the number of states, the enumerated layer, whether
        ln Z was found in product form (else with exponentials), and the seconds taken. Accuracy:
        docs/exact_rbm.md.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or the run would take too long; the message says how long.

    Notes
    -----
    The two factors of Z follow from summing one layer of E(v, h) = -a.v - b.h - v'Wh: C. Martin, "Free
    Energies and Variational Inference" (2017), "Inference in RBMs".
    """
    if not isinstance(model, BernoulliRBM):
        raise TypeError(f"model: expected a BernoulliRBM, got {type(model).__name__}")
    beta = real(beta, "beta")
    max_seconds = real(max_seconds, "max_seconds")
    if not max_seconds > 0:
        raise ValueError(f"max_seconds: expected max_seconds > 0, got {max_seconds}")
    n_threads = threads(num_threads)
    n_states = _refuse_if_too_long(model, moments, max_seconds, n_threads)
    begin = time.perf_counter()
    log_z, product_form, visible, hidden, visible_hidden, energy = _core.exact_rbm(
        *model.parameters, beta=beta, moments=moments, num_threads=n_threads
    )
    details = {
        "n_states": n_states,
        "enumerated_layer": "visible" if model.n_visible <= model.n_hidden else "hidden",
        "product_form": product_form,
        "seconds": time.perf_counter() - begin,
    }
    return FreeEnergy(
        value=-log_z / beta if beta > 0 else -math.inf,
        log_z=log_z,
        stderr=0.0,
        kind="exact",
        ess=math.inf,
        converged=True,
        beta=beta,
        moments=Moments(visible, hidden, visible_hidden, energy) if moments else None,
        details=details,
    )


def _refuse_if_too_long(model: BernoulliRBM, moments: bool, max_seconds: float, n_threads: int) -> int:
    """Count the states; raise if they would take more than `max_seconds` at the rate measured here."""
    n, m = sorted((model.n_visible, model.n_hidden))
    log2_cost = n + math.log2(m)
    if log2_cost <= _SURELY_SHORT:
        return int(2**n)
    n_probe = max(1, n - math.ceil(log2_cost - _PROBE))
    log2_seconds = math.log2(_seconds_of_probe(model, n_probe, moments, n_threads)) + n - n_probe
    if log2_seconds <= math.log2(max_seconds):
        return int(2**n)
    raise ValueError(
        f"model: enumerating 2^{n} states, those of the smaller layer, would take about "
        f"{_duration(log2_seconds)} here (max_seconds = {max_seconds:g}). Raise max_seconds to run it all "
        "the same; else sample: "
        "GibbsChains gives moments with errors. Annealed importance sampling, which estimates ln Z of "
        "models of this size, is not part of this version."
    )


def _seconds_of_probe(model: BernoulliRBM, n_probe: int, moments: bool, n_threads: int) -> float:
    """Time the enumeration of the first `n_probe` units of the smaller layer."""
    weights, visible_bias, hidden_bias = model.parameters
    if model.n_visible <= model.n_hidden:
        part: tuple[Any, ...] = (weights[:n_probe], visible_bias[:n_probe], hidden_bias)
    else:
        part = (weights[:, :n_probe], visible_bias, hidden_bias[:n_probe])
    begin = time.perf_counter()
    _core.exact_rbm(*part, beta=1.0, moments=moments, num_threads=n_threads)
    return time.perf_counter() - begin


def _duration(log2_seconds: float) -> str:
    for unit, size in (("years", 3.156e7), ("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        amount = log2_seconds - math.log2(size)
        if amount >= 1:
            return f"2^{amount:.0f} {unit}" if amount > 40 else f"{2.0**amount:.2g} {unit}"
    return f"{2.0**log2_seconds:.2g} seconds"
