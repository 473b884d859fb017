"""The exact Ising case, and NumPy's enumeration."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import free_energy
from ..arrays import Array
from ..models import Ising
from .harness import Call, Case, Maker, WrongAnswerError, made, verified

__all__ = ["EXACT_ISING_NOTE", "exact_ising_case", "halves", "numpy_exact_ising"]

EXACT_ISING_NOTE = "exact_ising: seconds for ln Z; float64. Peak: dgemm, two flops a state."

_CHUNK = 1 << 16  # states at a time: they stay in the cache


def exact_ising_case(n_spins: int, *, moments: bool, threads: int, rivals: Mapping[str, Maker | str]) -> Case:
    """Exact ln Z of a dense Ising model, in float64.

    Parameters
    ----------
    n_spins : int
        Size of the model.
    moments : bool
        Also all ⟨s_i⟩ and ⟨s_i s_j⟩; `rivals` must be empty then.
    threads : int
        Threads to use.
    rivals : mapping of str to callable or str
        ``maker(couplings, fields, threads=)`` returns a callable that returns ln Z.

    Returns
    -------
    Case
        Its work is two flops a state, with or without moments.
    """
    couplings, fields = _model(n_spins)
    _check_exact_ising(_our_exact_ising)
    ours = _our_exact_ising(couplings, fields, threads=threads, moments=moments)
    expected = functools.cache(ours)
    return Case(
        bench="exact_ising",
        name=f"{n_spins} spins{', moments' if moments else ''}",
        ours=ours,
        rivals={}
        if moments
        else made(verified(rivals, _check_exact_ising), couplings, fields, threads=threads),
        work=2.0 * 2.0**n_spins,
        peak="dgemm",
        check=lambda answer: _compare(answer, expected()),
    )


def _model(n_spins: int) -> tuple[Array, Array]:
    """Couplings of a spin glass (Sherrington and Kirkpatrick) and fields."""
    rng = np.random.default_rng(n_spins)
    upper = np.triu(rng.normal(size=(n_spins, n_spins)) / math.sqrt(n_spins), 1)
    return upper + upper.T, 0.3 * rng.normal(size=n_spins)


def _our_exact_ising(couplings: Array, fields: Array, *, threads: int, moments: bool = False) -> Call:
    model = Ising(couplings, fields)
    return lambda: free_energy.exact(model, moments=moments, num_threads=threads).log_z


def _check_exact_ising(maker: Maker) -> None:
    """Compare with a sum over all states, one by one."""
    couplings, fields = _model(9)
    states = 2.0 * ((np.arange(2**9)[:, None] >> np.arange(9)) & 1) - 1.0
    energies = [-0.5 * s @ couplings @ s - fields @ s for s in states]
    _compare(maker(couplings, fields, threads=1)(), math.log(math.fsum(math.exp(-e) for e in energies)))


def _compare(answer: Any, expected: float) -> None:
    if not abs(answer - expected) <= 1e-9 * abs(expected):
        raise WrongAnswerError(f"ln Z = {answer} instead of {expected}")


def halves(couplings: Array, fields: Array) -> tuple[Array, Array, Array, Array]:
    """What an enumeration needs of the two halves of the spins.

    Parameters
    ----------
    couplings, fields : ndarray
        The model.

    Returns
    -------
    first, between, second, own : ndarray
        Spins of the first half times their couplings to the second, (2^n1, n2), -E of the first, (2^n1,),
        the states of the second, (n2, 2^n2), and its -E, (2^n2,).
    """
    n1 = len(fields) // 2
    spins = [2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1) - 1.0 for n in (n1, len(fields) - n1)]
    parts = [slice(0, n1), slice(n1, None)]
    own = [
        0.5 * np.einsum("si,si->s", s @ couplings[p, p], s) + s @ fields[p]
        for s, p in zip(spins, parts, strict=True)
    ]
    return spins[0] @ couplings[:n1, n1:], own[0], np.ascontiguousarray(spins[1].T), own[1]


def numpy_exact_ising(couplings: Array, fields: Array, *, threads: int) -> Call:
    """NumPy: every state's energy from two halves, a matrix product and an exponential in pieces.

    Parameters
    ----------
    couplings, fields : ndarray
        The model.
    threads : int
        Threads that BLAS uses.

    Returns
    -------
    callable
        Returns ln Z.
    """

    def call() -> float:
        between, first, states, second = halves(couplings, fields)
        rows = max(1, _CHUNK // len(second))
        exponent = np.empty((rows, len(second)))
        logs = []
        for k in range(0, len(first), rows):
            part = exponent[: len(first[k : k + rows])]
            np.matmul(between[k : k + rows], states, out=part)
            part += second
            part += first[k : k + rows, None]
            top = part.max()
            part -= top
            logs.append(top + math.log(np.exp(part, out=part).sum()))
        return float(np.logaddexp.reduce(logs))

    return call
