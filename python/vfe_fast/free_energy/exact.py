"""Exact free energies, by enumeration."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np

from .. import _core
from ..arguments import real, threads
from ..arrays import Array
from ..models import BernoulliRBM
from .ranges import sum_ranges
from .result import FreeEnergy, Moments

__all__ = ["exact"]

_LN2 = math.log(2.0)
_SURELY_SHORT = 30  # log2 of the states times units below which no time is estimated
_PROBE = 26  # log2 of those enumerated to measure this machine's rate


@overload
def exact(
    model: BernoulliRBM,
    *,
    beta: float = ...,
    moments: bool = ...,
    max_seconds: float = ...,
    num_threads: int | None = ...,
    executor: Executor | None = ...,
    progress: bool = ...,
    checkpoint: str | os.PathLike[str] | None = ...,
) -> FreeEnergy: ...


@overload
def exact(
    model: BernoulliRBM,
    *,
    beta: Sequence[float],
    moments: bool = ...,
    max_seconds: float = ...,
    num_threads: int | None = ...,
    executor: Executor | None = ...,
    progress: bool = ...,
    checkpoint: None = ...,
) -> list[FreeEnergy]: ...


def exact(
    model: BernoulliRBM,
    *,
    beta: float | Sequence[float] = 1.0,
    moments: bool = False,
    max_seconds: float = 600.0,
    num_threads: int | None = None,
    executor: Executor | None = None,
    progress: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
) -> FreeEnergy | list[FreeEnergy]:
    r"""Exact free energy of an RBM.

    The 2^n states s of the smaller layer are enumerated and the other layer is summed in closed form,

    .. math:: Z = \sum_s e^{\beta c \cdot s} \prod_j \left(1 + e^{\beta (d_j + \sum_i s_i W_{ij})}\right).

    Parameters
    ----------
    model : BernoulliRBM
        The model; float32 parameters are enumerated in float64.
    beta : float or sequence of float
        Inverse temperature, >= 0; for several a list of free energies is returned.
    moments : bool
        Also compute ⟨v⟩, ⟨h⟩, ⟨vh⟩ and ⟨E⟩.
    max_seconds : float
        A run that would take longer, at the rate measured here times the executor's workers, is refused.
    num_threads : int, optional
        Threads to use; the result does not depend on it.
    executor : concurrent.futures.Executor, optional
        Computes the ranges that the states are cut in: a process pool, ``dask.distributed``'s
        ``Client.get_executor()``, ``mpi4py.futures.MPIPoolExecutor``. The result does not depend on it.
        Should it break in the middle, the rest is computed in this process.
    progress : bool
        Show the states done, their rate and the time left.
    checkpoint : path_like, optional
        File that keeps what is done, written every two seconds and when the run ends or is interrupted.
        A run with the same arguments continues from it and gives the same bits.

    Returns
    -------
    FreeEnergy
        Of kind ``"exact"``: stderr 0. `details` holds the number of states, the enumerated layer, whether
        the sums were found in product form (else with exponentials), and the seconds taken. Accuracy:
        docs/exact_rbm.md.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, the run would take too long (the message says how long), or
        `checkpoint` belongs to something else.

    Notes
    -----
    The two factors of Z follow from summing one layer of E(v, h) = -a.v - b.h - v'Wh: C. Martin, "Free
    Energies and Variational Inference" (2017), "Inference in RBMs".
    """
    if not isinstance(model, BernoulliRBM):
        raise TypeError(f"model: expected a BernoulliRBM, got {type(model).__name__}")
    several = isinstance(beta, (Sequence, np.ndarray)) and np.ndim(beta) > 0
    betas = [real(b, "beta") for b in beta] if several else [real(beta, "beta")]  # type: ignore[union-attr]
    if several and checkpoint is not None:
        raise ValueError("checkpoint: expected a single beta, got a sequence")
    max_seconds = real(max_seconds, "max_seconds")
    if not max_seconds > 0:
        raise ValueError(f"max_seconds: expected max_seconds > 0, got {max_seconds}")
    n_workers = 1 if executor is None else getattr(executor, "_max_workers", None) or 1
    _refuse_if_too_long(model, moments, max_seconds * n_workers / max(1, len(betas)), threads(num_threads))
    results = []
    for one in betas:
        begin = time.perf_counter()
        enumeration = Enumeration(model.parameters, one, moments)
        sums = sum_ranges(
            enumeration, num_threads=num_threads, executor=executor, progress=progress, checkpoint=checkpoint
        )
        log_z = float(sums[0] * _LN2 + np.log(sums[1]))
        results.append(
            FreeEnergy(
                value=-log_z / one if one > 0 else -math.inf,
                log_z=log_z,
                stderr=0.0,
                kind="exact",
                ess=math.inf,
                converged=True,
                beta=one,
                moments=enumeration.moments_of(sums) if moments else None,
                details={
                    "n_states": enumeration.n_states,
                    "enumerated_layer": "visible" if model.n_visible <= model.n_hidden else "hidden",
                    "product_form": enumeration.product_form,
                    "seconds": time.perf_counter() - begin,
                },
            )
        )
    return results if several else results[0]


@dataclass(frozen=True)
class Enumeration:
    """The sum over the states of an RBM's smaller layer."""

    parameters: tuple[Array, Array, Array]
    beta: float
    with_moments: bool
    found: dict[str, bool] = field(default_factory=dict, compare=False)

    @property
    def product_form(self) -> bool:
        """Whether the sums are found in product form."""
        if not self.found:  # they were computed elsewhere
            self.rows(0, 0, 1)
        return self.found["product_form"]

    @property
    def layers(self) -> tuple[int, int]:
        """Units of the smaller and of the larger layer."""
        n, m = sorted(self.parameters[0].shape)
        return n, m

    @property
    def n_ranges(self) -> int:
        """Ranges that the states are cut in."""
        return _core.exact_rbm_ranges(*self.layers)

    @property
    def n_states(self) -> int:
        """States of the smaller layer."""
        return int(2 ** self.layers[0])

    @property
    def row_size(self) -> int:
        """Numbers in a row: exponent, sum, and the sums of the moments."""
        n, m = self.layers
        return 2 + (n + m + n * m if self.with_moments else 0)

    def rows(self, first: int, count: int, num_threads: int) -> Array:
        """Sums of some ranges."""
        # What a network delivers may lie anywhere in memory.
        parameters = [p if p.flags.aligned else p.copy() for p in self.parameters]
        sums, self.found["product_form"] = _core.exact_rbm(
            *parameters,
            beta=self.beta,
            moments=self.with_moments,
            first_range=first,
            n_ranges=count,
            num_threads=num_threads,
        )
        return sums

    def identity(self) -> tuple[Any, ...]:
        """What the sums depend on."""
        return (*self.parameters, self.beta, self.with_moments)

    def moments_of(self, sums: Array) -> Moments:
        """Turn the sums of all ranges into averages, in the order of the model."""
        n, m = self.layers
        units, others, pairs = np.split(sums[2:] / sums[1], [n, n + m])
        pairs = pairs.reshape(n, m)
        weights, visible_bias, hidden_bias = (p.astype(np.float64) for p in self.parameters)
        if weights.shape[0] <= weights.shape[1]:
            visible, hidden = units, others
        else:
            visible, hidden, pairs = others, units, np.ascontiguousarray(pairs.T)
        terms = ((visible_bias * visible), (hidden_bias * hidden), (weights * pairs).ravel())
        return Moments(visible, hidden, pairs, -math.fsum(np.concatenate(terms)))


def _refuse_if_too_long(model: BernoulliRBM, moments: bool, max_seconds: float, n_threads: int) -> None:
    """Raise if the states would take more than `max_seconds` at the rate measured here."""
    n, m = sorted((model.n_visible, model.n_hidden))
    log2_cost = n + math.log2(m)
    if log2_cost <= _SURELY_SHORT:
        return
    n_probe = max(1, n - math.ceil(log2_cost - _PROBE))
    log2_seconds = math.log2(_seconds_of_probe(model, n_probe, moments, n_threads)) + n - n_probe
    if log2_seconds <= math.log2(max_seconds):
        return
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
    probe = Enumeration(part, 1.0, moments)
    begin = time.perf_counter()
    probe.rows(0, probe.n_ranges, n_threads)
    return time.perf_counter() - begin


def _duration(log2_seconds: float) -> str:
    for unit, size in (("years", 3.156e7), ("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        amount = log2_seconds - math.log2(size)
        if amount >= 1:
            return f"2^{amount:.0f} {unit}" if amount > 40 else f"{2.0**amount:.2g} {unit}"
    return f"{2.0**log2_seconds:.2g} seconds"
