"""Exact free energies, by sums over all states."""

from __future__ import annotations

import functools
import math
import os
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any, Literal, overload

import numpy as np

from .. import _core
from ..arguments import inverse_temperature, on_cuda, real, threads
from ..arrays import Array
from ..models import BernoulliRBM, GaussianRBM, Ising, Model, SpinRBM
from .as_ising import log_integral
from .enumeration import Enumeration, log2_seconds
from .frozen import FrozenRBM, FrozenSpins
from .ranges import sum_ranges
from .result import FreeEnergy, Moments, SpinMoments
from .triangle import TriangleSum

__all__ = ["exact"]

_LN2 = math.log(2.0)
_PRODUCT_RATE = 2e10  # states a second of a matrix product, about
_EXPONENTIAL_RATE = 2e8  # the same with exponentials
_SMALL_VARIANCE = 1e-5  # of the largest energy, squared
_DEVICE_RATE = 1e13  # the same of a GPU with matrix instructions for float64, reckoned: none has run it yet
_MAX_SPINS = 45  # whose three matrices take 26 GB
_MAX_SPINS_ON_DEVICE = 51


@overload
def exact(
    model: Model,
    *,
    beta: float = ...,
    moments: bool = ...,
    precision: Literal["double", "single"] = ...,
    max_seconds: float = ...,
    device: Literal["cpu", "cuda"] = ...,
    num_threads: int | None = ...,
    executor: Executor | None = ...,
    progress: bool = ...,
    checkpoint: str | os.PathLike[str] | None = ...,
) -> FreeEnergy: ...


@overload
def exact(
    model: Model,
    *,
    beta: Sequence[float] | Array,
    moments: bool = ...,
    precision: Literal["double", "single"] = ...,
    max_seconds: float = ...,
    device: Literal["cpu", "cuda"] = ...,
    num_threads: int | None = ...,
    executor: Executor | None = ...,
    progress: bool = ...,
    checkpoint: None = ...,
) -> list[FreeEnergy]: ...


def exact(
    model: Model,
    *,
    beta: float | Sequence[float] | Array = 1.0,
    moments: bool = False,
    precision: Literal["double", "single"] = "double",
    max_seconds: float = 600.0,
    device: Literal["cpu", "cuda"] = "cpu",
    num_threads: int | None = None,
    executor: Executor | None = None,
    progress: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
) -> FreeEnergy | list[FreeEnergy]:
    r"""Exact free energy of an RBM or an Ising model.

    An RBM of units ±1 is read as one of units 0 and 1; one with real visible units as the Ising model of its
    hidden units.

    Of an RBM the 2^n states s of the smaller layer are enumerated, the other layer is summed in closed form,

    .. math:: Z = \sum_s e^{\beta c \cdot s} \prod_j \left(1 + e^{\beta (d_j + \sum_i s_i W_{ij})}\right).

    Of an Ising model the spins are cut in three groups with states a, b, c, and Z is a matrix product,

    .. math:: Z = \sum_{ac} (X Y)_{ac} V_{ac}.

    Parameters
    ----------
    model : BernoulliRBM, GaussianRBM, SpinRBM or Ising
        The model; float32 parameters are summed in float64.
    beta : float, sequence of float or ndarray
        Inverse temperature, 0 or >= 2^-100; for several a list of free energies is returned, and there is no
        checkpoint.
    moments : bool
        Also compute `Moments` or `SpinMoments`.
    precision : {"double", "single"}
        With "single" the products of an RBM's ln Z are formed in float32 where their range allows
        (`details` says whether): nearly twice as fast, ln Z to some 1e-7, to 3e-6 where few states matter.
        It leaves moments and Ising models as they are.
    max_seconds : float
        A run that would take longer is refused, unless it goes on from a checkpoint: at the rate measured
        here (of an Ising model: at a rate typical of matrix products) times the executor's workers. An RBM's
        that takes less than about a second is not estimated, and done.
    device : {"cpu", "cuda"}
        Where states are summed. The results agree within the accuracy stated, not in all bits, so a
        checkpoint is continued on the device it was begun on. No GPU has run it yet.
    num_threads : int, optional
        Threads to use; the result does not depend on it. The matrix products of an Ising model are the
        affair of NumPy's BLAS: it uses all cores unless the package threadpoolctl is installed.
    executor : concurrent.futures.Executor, optional
        Computes the ranges that the states are cut in: a process pool, ``dask.distributed``'s
        ``Client.get_executor()``, ``mpi4py.futures.MPIPoolExecutor``. The result does not depend on it.
        Should it break in the middle, the rest is computed in this process.
    progress : bool
        Show the states done, their rate and the time left.
    checkpoint : path_like, optional
        File that keeps what is done, in whole ranges, of which there are up to 1,024. Written two seconds
        after the last time if one has ended since, and when the run ends or is interrupted.
        A run with the same arguments continues from it and gives the same bits.

    Returns
    -------
    FreeEnergy
        Of kind ``"exact"``: stderr 0. `details` holds the number of states, the seconds taken, and whether
        the sums were found as products (else with exponentials); of an RBM also the enumerated layer.
        Accuracy: docs/exact.md.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, the run would take too long (the message says how long), or
        `checkpoint` belongs to something else.
    TargetUnavailableError
        If there is no such device, or no kernel for it; the message says which.

    Notes
    -----
    The two factors of Z follow from summing one layer of E(v, h) = -a.v - b.h - v'Wh: C. Martin, "Free
    Energies and Variational Inference" (2017), "Inference in RBMs".
    """
    if not isinstance(model, Model):
        raise TypeError(f"model: expected an RBM or an Ising, got {type(model).__name__}")
    several = isinstance(beta, (Sequence, np.ndarray)) and np.ndim(beta) > 0
    betas = [inverse_temperature(b) for b in beta] if several else [inverse_temperature(beta)]  # type: ignore[union-attr]
    if several and checkpoint is not None:
        raise ValueError("checkpoint: expected a single beta, got a sequence")
    if not isinstance(moments, (bool, np.bool_)):
        raise TypeError(f"moments: expected True or False, got {type(moments).__name__}")
    if precision not in ("double", "single"):
        raise ValueError(f"precision: expected 'double' or 'single', got {precision!r}")
    max_seconds = real(max_seconds, "max_seconds")
    if not max_seconds > 0:
        raise ValueError(f"max_seconds: expected max_seconds > 0, got {max_seconds}")
    if isinstance(model, GaussianRBM) and 0.0 in betas:
        raise ValueError("beta: expected beta > 0 for a GaussianRBM, whose Z is infinite at 0")
    cuda = on_cuda(device)
    _core.require_device(cuda)
    n_threads, n_workers = threads(num_threads), 1
    if executor is not None:  # whose workers use one thread each
        n_threads, n_workers = 1, getattr(executor, "_max_workers", None) or 1
    if checkpoint is None or not os.path.exists(checkpoint):  # to go on is to ask for it
        binary = isinstance(model, (BernoulliRBM, SpinRBM))
        instead = " free_energy.ais estimates ln Z, GibbsChains moments, with errors." if binary else ""
        _refuse_if_too_long(
            _as_summed(model), moments, betas, max_seconds, n_workers, n_threads, cuda, instead
        )
    how = {
        "num_threads": num_threads,
        "executor": executor,
        "progress": progress,
        "checkpoint": checkpoint,
    }
    what = "moments" if moments else "log_z" if precision == "double" else "single"
    found = {b: _exact(model, b, what, cuda, how) for b in dict.fromkeys(betas)}
    return [found[b] for b in betas] if several else found[betas[0]]


def _as_summed(model: Model) -> BernoulliRBM | Ising:
    """The model whose states are summed."""
    if isinstance(model, SpinRBM):
        return model.to_bernoulli()[0]
    return model.hidden_ising()[0] if isinstance(model, GaussianRBM) else model


def _exact(model: Model, beta: float, what: str, cuda: bool, how: dict[str, Any]) -> FreeEnergy:
    if isinstance(model, BernoulliRBM):
        rest = FrozenRBM.of(model, beta)
        return (
            rest.whole(_exact_rbm(rest.model, beta, what, cuda, how))
            if rest
            else _exact_rbm(model, beta, what, cuda, how)
        )
    if isinstance(model, Ising):
        left = FrozenSpins.of(model, beta)
        return (
            left.whole(_exact_ising(left.model, beta, what, cuda, how))
            if left
            else _exact_ising(model, beta, what, cuda, how)
        )
    if isinstance(model, SpinRBM):
        return _exact_spin_rbm(model, beta, what, cuda, how)
    return _exact_gaussian_rbm(model, beta, what, cuda, how)


def _exact_spin_rbm(model: SpinRBM, beta: float, what: str, cuda: bool, how: dict[str, Any]) -> FreeEnergy:
    """From the same machine in units 0/1: v = 2v' - 1, h = 2h' - 1."""
    rbm, constant = model.to_bernoulli()
    found = _exact(rbm, beta, what, cuda, how)
    moments = found.moments
    if moments is not None:
        v, h, vh = moments.visible, moments.hidden, moments.visible_hidden
        pairs = 4 * vh - 2 * v[:, None] - 2 * h + 1
        moments = Moments(moments.energy + constant, moments._variance, 2 * v - 1, 2 * h - 1, pairs)
    return replace(found.with_log_z(found.log_z - beta * constant), moments=moments)


def _exact_gaussian_rbm(
    model: GaussianRBM, beta: float, what: str, cuda: bool, how: dict[str, Any]
) -> FreeEnergy:
    """The integral over v, then the Ising model of s = 2h - 1."""
    ising, constant = model.hidden_ising()
    found = _exact(ising, beta, what, cuda, how)
    moments = found.moments
    if moments is not None:
        weights, visible_bias = model.weights.astype(np.float64), model.visible_bias.astype(np.float64)
        s, ss = moments.spins, moments.spin_spin
        hidden, hh = 0.5 * (1 + s), 0.25 * (1 + s[:, None] + s + ss)
        moments = Moments(
            moments.energy + constant + model.n_visible / (2 * beta),
            functools.partial(_gaussian_variance, moments._variance, model.n_visible / (2 * beta**2)),
            visible_bias + weights @ hidden,
            hidden,
            np.outer(visible_bias, hidden) + weights @ hh,
        )
    return replace(
        found.with_log_z(found.log_z - beta * constant + log_integral(model, beta)), moments=moments
    )


def _gaussian_variance(of_hidden: Any, of_visible: float) -> float:
    return float(of_hidden() + of_visible)


def _result(sums: Array, beta: float, moments: Any, details: dict[str, Any]) -> FreeEnergy:
    log_z = float(sums[0] * _LN2 + np.log(sums[1]))  # sums[0] is a whole number, unless it is beyond 2^40
    return FreeEnergy(
        value=-log_z / beta if beta > 0 else -math.inf,
        log_z=log_z,
        stderr=0.0,
        kind="exact",
        ess=math.inf,
        converged=True,
        beta=beta,
        moments=moments,
        details=details,
    )


def _exact_rbm(model: BernoulliRBM, beta: float, what: str, cuda: bool, how: dict[str, Any]) -> FreeEnergy:
    begin = time.perf_counter()
    single = what == "single"
    enumeration = Enumeration(
        model.parameters,
        beta,
        "log_z" if single else what,
        products="single" if single else "double",
        cuda=cuda,
    )
    sums = sum_ranges(enumeration, **how)
    details = {
        "n_states": enumeration.n_states,
        "enumerated_layer": "visible" if model.n_visible <= model.n_hidden else "hidden",
        "product_form": enumeration.product_form,
        "precision": "single" if enumeration.single_precision else "double",
        "seconds": time.perf_counter() - begin,
    }
    return _result(
        sums, beta, enumeration.moments_of(sums, how["num_threads"]) if what == "moments" else None, details
    )


def _exact_ising(model: Ising, beta: float, what: str, cuda: bool, how: dict[str, Any]) -> FreeEnergy:
    begin = time.perf_counter()
    what = "log_z" if what == "single" else what
    triangle = TriangleSum(model.couplings, model.fields, beta, what, device="cuda" if cuda else "cpu")
    sums = sum_ranges(triangle, **how)
    details = {
        "n_states": triangle.n_states,
        "product_form": triangle.as_products,
        "seconds": time.perf_counter() - begin,
    }
    if what != "moments":
        return _result(sums, beta, None, details)
    n = model.n_spins
    spins, pairs = np.split(sums[2:] / sums[1], [n])
    pairs = pairs.reshape(n, n)
    couplings, fields = model.couplings.astype(np.float64), model.fields.astype(np.float64)
    energy = -math.fsum(np.concatenate(((0.5 * couplings * pairs).ravel(), fields * spins)))
    of_energy = replace(triangle, what="variance", energy=energy, _kept={})
    variance = functools.partial(_spin_variance, of_energy, how["num_threads"])
    return _result(sums, beta, SpinMoments(energy, variance, spins, pairs), details)


def _spin_variance(triangle: TriangleSum, num_threads: int | None) -> float:
    sums = sum_ranges(triangle, num_threads=num_threads)
    variance = float(sums[2] / sums[1])
    if triangle.as_products and variance < _SMALL_VARIANCE * triangle.size**2:
        # There it is a difference. State by state it is a sum of squares.
        sums = sum_ranges(replace(triangle, products=False, _kept={}), num_threads=num_threads)
        variance = float(sums[2] / sums[1])
    return variance


def _refuse_if_too_long(
    model: BernoulliRBM | Ising,
    moments: bool,
    betas: Sequence[float],
    max_seconds: float,
    n_workers: int,
    n_threads: int,
    cuda: bool,
    instead: str,
) -> None:
    """Raise if the states would take more than `max_seconds` at the rate measured here."""
    if isinstance(model, BernoulliRBM):
        n = min(model.n_visible, model.n_hidden)
        what = "moments" if moments else "log_z"
        needed = max(
            (log2_seconds(Enumeration(model.parameters, beta, what, cuda=cuda), n_threads) for beta in betas),
            default=-math.inf,
        )
        states = f"2^{n} states, those of the smaller layer,"
    else:
        n, most_spins, memory = model.n_spins, _MAX_SPINS, "whose matrices take 26 GB"
        device: Literal["cpu", "cuda"] = "cuda" if cuda else "cpu"
        triangle = TriangleSum(model.couplings, model.fields, max(betas, default=0.0), device=device)
        rate = _PRODUCT_RATE if triangle.as_products else _EXPONENTIAL_RATE
        if triangle.on_device:
            rate, most_spins, memory = _DEVICE_RATE, _MAX_SPINS_ON_DEVICE, "whose tables take 8 GB"
        needed = n - math.log2(rate) + (2 if moments else 0)
        states = f"2^{n} states"
        if n > most_spins:
            raise ValueError(
                f"model: expected at most {most_spins} spins (hidden units of a GaussianRBM), {memory}, "
                f"got {n}; free_energy.wang_landau and tap estimate ln Z of Ising models"
            )
    needed += math.log2(max(1, len(betas)) / n_workers)
    if needed <= math.log2(max_seconds):
        return
    raise ValueError(
        f"model: enumerating {states} would take about {_duration(needed)} here "
        f"(max_seconds = {max_seconds:g}). Raise max_seconds to run it all the same.{instead}"
    )


def _duration(log2_seconds: float) -> str:
    for unit, size in (("years", 3.156e7), ("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        amount = log2_seconds - math.log2(size)
        if amount >= 1:
            return f"2^{amount:.0f} {unit}" if amount > 40 else f"{2.0**amount:.2g} {unit}"
    return f"{2.0**log2_seconds:.2g} seconds"
