"""The case of annealed importance sampling, and NumPy's way."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import _core
from ..arrays import Array
from ..free_energy.annealing import Path, Run, anneal
from ..models import BernoulliRBM
from .harness import Call, Case, Maker, WrongAnswerError, made, verified
from .models import joint, model_of

__all__ = ["AIS_NOTE", "Piece", "ais_case", "numpy_ais", "published_schedule"]

AIS_NOTE = (
    "ais: seconds a temperature of all chains; float32. Peak: sgemm-equivalent, two products a temperature."
)

Piece = tuple[Array, Array]  # values of s, and the visible states of the chains at the first

_PIECES, _TEMPERATURES = 4, 25  # of the schedule, in a call
_WARM_UP = 150  # temperatures on the way to where the clock runs


def published_schedule() -> Array:
    """The 14,500 values of s of Salakhutdinov and Murray (2008)."""
    return np.concatenate(
        [
            np.linspace(0.0, 0.5, 500, endpoint=False),
            np.linspace(0.5, 0.9, 4000, endpoint=False),
            np.linspace(0.9, 1.0, 10000),
        ]
    )


def ais_case(
    n_visible: int,
    n_hidden: int,
    n_chains: int,
    *,
    threads: int,
    rivals: Mapping[str, Maker | str],
    trained: tuple[Array, Array, Array] | None = None,
) -> Case:
    """Temperatures of annealed importance sampling, four times 25 from the published schedule, in float32.

    Parameters
    ----------
    n_visible, n_hidden, n_chains : int
        Size of the model, and chains.
    threads : int
        Threads to use.
    trained : tuple of ndarray, optional
        Weights and biases of a model to run; else random ones.
    rivals : mapping of str to callable or str
        ``maker(weights, visible_bias, hidden_bias, base, pieces, threads=)`` returns a callable that moves
        the chains along each piece of a schedule, a Gibbs step at each s between its ends, and returns the
        sums of increments of ln w over all pieces, (n_chains,).

    Returns
    -------
    Case
        Its work is that of two matrix products a temperature, although ours makes none.
    """
    weights, visible_bias, hidden_bias = trained or model_of(
        n_visible, n_hidden, np.float32, 1.0 / math.sqrt(max(n_visible, n_hidden))
    )
    model = (weights, visible_bias, hidden_bias)
    base = 0.5 * visible_bias
    path, schedule = Path(BernoulliRBM(*model), base.astype(np.float64)), published_schedule()
    pieces = []
    for first in (np.arange(1, 2 * _PIECES, 2) * len(schedule)) // (2 * _PIECES):
        there = np.append(np.linspace(0.0, schedule[first], _WARM_UP), 1.0)
        chains = anneal(Run(path, there, 1), n_chains, num_threads=threads)
        states = _core.unpack_states(chains.visible, n_visible).astype(bool)
        pieces.append((schedule[first : first + _TEMPERATURES + 1], states))
    _check_ais(_our_ais)
    return Case(
        bench="ais",
        name=f"{n_visible}x{n_hidden}, {n_chains} chains" + ", trained" * (trained is not None),
        ours=_our_ais(*model, base, pieces, threads=threads),
        rivals=made(verified(rivals, _check_ais), *model, base, pieces, threads=threads),
        work=4.0 * n_visible * n_hidden * n_chains * _PIECES * _TEMPERATURES,
        peak="sgemm",
        repeats=_PIECES * _TEMPERATURES,
    )


def _our_ais(
    weights: Array,
    visible_bias: Array,
    hidden_bias: Array,
    base: Array,
    pieces: Sequence[Piece],
    *,
    threads: int,
) -> Call:
    path = Path(BernoulliRBM(weights, visible_bias, hidden_bias), base.astype(np.float64))
    runs = [
        (Run(path, betas, 2), _core.pack_states(states, len(visible_bias), "states"))
        for betas, states in pieces
    ]

    def call() -> Array:
        total: Array = np.zeros(len(pieces[0][1]))
        for run, words in runs:
            total += anneal(run, len(words), start=words, num_threads=threads).log_weights
        return total

    return call


def _check_ais(maker: Maker) -> None:
    """Compare ln Z of a small model with the exact one, at five standard errors."""
    (weights, visible_bias, hidden_bias), log_z, _ = joint(7, 5)
    n_chains = 4000
    base = np.linspace(-0.5, 0.5, 7)
    start = np.random.default_rng(0).random((n_chains, 7)) < 1.0 / (1.0 + np.exp(-base))
    model = [x.astype(np.float32) for x in (weights, visible_bias, hidden_bias, base)]
    call = maker(*model, [(np.linspace(0.0, 1.0, 30), start)], threads=1)
    log_weights = np.asarray(call(), dtype=np.float64)
    weight = np.exp(log_weights - log_weights.max())
    found = np.log(weight.mean()) + log_weights.max() + np.logaddexp(0.0, base).sum() + 5 * math.log(2.0)
    error = weight.std() / weight.mean() / math.sqrt(n_chains)
    if not abs(found - log_z) < 5.0 * error + 1e-4:
        raise WrongAnswerError(f"ln Z of a 7x5 model is {(found - log_z) / error:.1f} standard errors off")


def numpy_ais(
    weights: Array,
    visible_bias: Array,
    hidden_bias: Array,
    base: Array,
    pieces: Sequence[Piece],
    *,
    threads: int,
) -> Call:
    """NumPy's annealed importance sampling: one set of fields for the weights and for the draws.

    Parameters
    ----------
    weights, visible_bias, hidden_bias, base : ndarray, float32
        The model, and the biases of the base.
    pieces : sequence
        Values of s, and states to begin with.
    threads : int
        Threads to use; only BLAS does.

    Returns
    -------
    callable
        Returns the sums of increments, (n_chains,).
    """
    rng = np.random.Generator(np.random.SFC64(0))
    n_chains = len(pieces[0][1])
    transposed = np.ascontiguousarray(weights.T)
    slope = (visible_bias - base).astype(np.float32)
    field, size, decay = (np.empty((n_chains, len(hidden_bias)), np.float32) for _ in range(3))
    of_hidden, of_visible = np.empty_like(field), np.empty((n_chains, len(base)), np.float32)
    hidden, visible = np.empty_like(field), np.empty_like(of_visible)

    def logs(s: float) -> Array:
        np.multiply(size, -s, out=decay)
        np.exp(decay, out=decay)
        np.add(decay, 1, out=decay)
        found: Array = np.log(decay, out=decay).sum(axis=1)
        return found

    def draw(x: Array, out: Array) -> None:  # u < sigmoid(x) is u (1 + e^-x) < 1
        np.negative(x, out=x)
        np.exp(x, out=x)
        np.add(x, 1, out=x)
        rng.random(out=out, dtype=np.float32)
        np.multiply(x, out, out=x)
        np.less(x, 1, out=out, casting="unsafe")

    def call() -> Any:
        total = np.zeros(n_chains)
        for betas, start in pieces:
            visible[...] = start
            for k in range(len(betas) - 1):
                before, after = float(betas[k]), float(betas[k + 1])
                np.matmul(visible, weights, out=field)
                np.add(field, hidden_bias, out=field)
                np.absolute(field, out=size)
                positive = 0.5 * (field.sum(axis=1) + size.sum(axis=1))
                total += (after - before) * (positive + visible @ slope) + (logs(after) - logs(before))
                if k + 2 == len(betas):
                    break
                np.multiply(field, after, out=of_hidden)
                draw(of_hidden, hidden)
                np.matmul(hidden, transposed, out=of_visible)
                np.multiply(of_visible, after, out=of_visible)
                np.add(of_visible, base + after * slope, out=of_visible)
                draw(of_visible, visible)
        return total

    return call
