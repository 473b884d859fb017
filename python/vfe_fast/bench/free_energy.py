"""The clamped free energy and the mean hidden states, and NumPy's way to them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..arrays import Array
from ..models import BernoulliRBM
from .harness import Call, Case, Maker, WrongAnswerError, made, verified
from .models import model_of

__all__ = ["FREE_ENERGY_NOTE", "free_energy_case", "numpy_free_energy"]

FREE_ENERGY_NOTE = (
    "free_energy: seconds a call, on uint8 states; float32. Peak: sgemm-equivalent, one matrix product."
)


def free_energy_case(
    n_visible: int,
    n_hidden: int,
    n_states: int,
    *,
    means: bool,
    threads: int,
    rivals: Mapping[str, Maker | str],
    images: Array | None = None,
) -> Case:
    """Clamped free energies of visible states, or mean hidden states given them, in float32.

    Parameters
    ----------
    n_visible, n_hidden, n_states : int
        Size of the model, and states in a call.
    means : bool
        The mean hidden states instead of the free energies.
    threads : int
        Threads to use.
    rivals : mapping of str to callable or str
        ``maker(weights, visible_bias, hidden_bias, states, means=, threads=)`` returns a callable that
        returns F_c, (n_states,), or the means, (n_states, n_hidden).

    images : ndarray of uint8, (n_states, n_visible), optional
        The states; else random ones.

    Returns
    -------
    Case
        Its work is that of one matrix product, although ours makes none.
    """
    model = model_of(n_visible, n_hidden, np.float32, 1.0 / math.sqrt(max(n_visible, n_hidden)))
    states = images
    if states is None:
        states = (np.random.default_rng(1).random((n_states, n_visible)) < 0.5).astype(np.uint8)
    work: dict[str, Any] = {"means": means, "threads": threads}

    def verify(maker: Maker) -> None:
        _check_free_energy(maker, means)

    verify(_our_free_energy)
    of_what = "image" if images is not None else "mean" if means else "state"
    return Case(
        bench="free_energy",
        name=f"{n_visible}x{n_hidden}, {n_states} {of_what}{'s' if n_states > 1 else ''}",
        ours=_our_free_energy(*model, states, **work),
        rivals=made(verified(rivals, verify), *model, states, **work),
        work=2.0 * n_visible * n_hidden * n_states,
        peak="sgemm",
    )


def _our_free_energy(
    weights: Array, visible_bias: Array, hidden_bias: Array, states: Array, *, means: bool, threads: int
) -> Call:
    rbm = BernoulliRBM(weights, visible_bias, hidden_bias)
    if means:
        return lambda: rbm.mean_hidden(states, num_threads=threads)
    return lambda: rbm.free_energy(states, num_threads=threads)


def _check_free_energy(maker: Maker, means: bool) -> None:
    """Compare with the definitions in float64."""
    weights, visible_bias, hidden_bias = model_of(30, 20, np.float32, 0.5)
    states = (np.random.default_rng(2).random((50, 30)) < 0.5).astype(np.uint8)
    answer = np.asarray(maker(weights, visible_bias, hidden_bias, states, means=means, threads=1)())
    fields = hidden_bias.astype(np.float64) + states @ weights.astype(np.float64)
    if means:
        expected = 1.0 / (1.0 + np.exp(-fields))
    else:
        expected = -(states @ visible_bias.astype(np.float64)) - np.logaddexp(0.0, fields).sum(axis=1)
    error = np.abs(answer - expected).max()
    if not error < 1e-4:
        raise WrongAnswerError(f"off by {error:.2g}")


def numpy_free_energy(
    weights: Array, visible_bias: Array, hidden_bias: Array, states: Array, *, means: bool, threads: int
) -> Call:
    """NumPy at its best: BLAS on all threads, the rest in buffers made beforehand.

    Parameters
    ----------
    weights, visible_bias, hidden_bias : ndarray, float32
        The model.
    states : ndarray, (n_states, n_visible)
        Visible states, uint8.
    means : bool
        The mean hidden states instead of the free energies.
    threads : int
        Threads that BLAS uses.

    Returns
    -------
    callable
        Returns F_c or the means; the means are overwritten by the next call.
    """
    given = np.empty(states.shape, np.float32)
    fields = np.empty((len(states), len(hidden_bias)), np.float32)
    decay = np.empty_like(fields)

    def call() -> Array:
        np.copyto(given, states)
        np.matmul(given, weights, out=fields)
        np.add(fields, hidden_bias, out=fields)
        if means:
            np.negative(fields, out=fields)
            np.exp(fields, out=fields)
            np.add(fields, 1.0, out=fields)
            return np.reciprocal(fields, out=fields)
        np.abs(fields, out=decay)
        np.negative(decay, out=decay)
        np.exp(decay, out=decay)
        np.log1p(decay, out=decay)
        np.maximum(fields, 0.0, out=fields)
        np.add(decay, fields, out=decay)
        energies: Array = -(given @ visible_bias) - decay.sum(axis=1)
        return energies

    return call
