"""The Gibbs case with real visible units, and NumPy's sampler."""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ..arrays import Array
from ..models import GaussianRBM
from ..sampling import GibbsChains
from .harness import Call, Case, Maker, WrongAnswerError, made, verified
from .models import all_states, model_of

__all__ = ["gaussian_gibbs_case", "numpy_gaussian_gibbs"]

_PIECES = 4  # of the chains, for each thread: what NumPy works on stays in its cache


def gaussian_gibbs_case(
    n_visible: int,
    n_hidden: int,
    n_chains: int,
    *,
    n_steps: int,
    threads: int,
    rivals: Mapping[str, Maker | str],
) -> Case:
    """Full sweeps of block Gibbs sampling with normal visible units of variance 1, in float32.

    Parameters
    ----------
    n_visible, n_hidden, n_chains : int
        Size of the model, and chains moved together.
    n_steps : int
        Sweeps in a call.
    threads : int
        Threads to use.
    rivals : mapping of str to callable or str
        As in `gibbs_case`.

    Returns
    -------
    Case
        Its work is that of two matrix products a sweep, of which ours makes one.
    """
    model = model_of(n_visible, n_hidden, np.float32, 1.0 / math.sqrt(max(n_visible, n_hidden)))
    start = np.random.default_rng(1).standard_normal((n_chains, n_visible)).astype(np.float32)
    work: dict[str, Any] = {"n_steps": n_steps, "threads": threads}
    _check(_ours)
    return Case(
        bench="gibbs",
        name=f"{n_visible}x{n_hidden}, {n_chains} chains, Gaussian",
        ours=_ours(*model, start, **work),
        rivals=made(verified(rivals, _check), *model, start, **work),
        work=4.0 * n_visible * n_hidden * n_chains * n_steps,
        peak="sgemm",
        repeats=n_steps,
    )


def _ours(
    weights: Array, visible_bias: Array, hidden_bias: Array, start: Array, *, n_steps: int, threads: int
) -> Call:
    rbm = GaussianRBM(weights, visible_bias, hidden_bias)
    chains = GibbsChains(rbm, len(start), rng=0, start=start, num_threads=threads)

    def call() -> GibbsChains:
        chains.step(n_steps)
        return chains

    return call


def _check(maker: Maker) -> None:
    """Compare the moments of a small model with the exact ones, at five standard errors."""
    weights, visible_bias, hidden_bias = (0.4 * p for p in model_of(5, 4, np.float64, 1.0))
    n_chains = 20000
    start = np.zeros((n_chains, 5), np.float32)
    model = (p.astype(np.float32) for p in (weights, visible_bias, hidden_bias))
    answer = maker(*model, start, n_steps=50, threads=1)()
    visible, hidden = (answer.visible, answer.hidden) if isinstance(answer, GibbsChains) else answer
    h = all_states(4)
    mean = visible_bias + h @ weights.T
    exponent = h @ hidden_bias + 0.5 * (mean**2).sum(axis=1)
    p = np.exp(exponent - exponent.max())
    p /= p.sum()
    for got, expected in ((np.asarray(visible), p @ mean), (np.asarray(hidden), p @ h)):
        values = got.astype(np.float64)
        error = np.abs(values.mean(axis=0) - expected) / (values.std(axis=0) / math.sqrt(n_chains))
        if not error.max() < 5.0:
            raise WrongAnswerError(f"means of a 5x4 model are up to {error.max():.1f} standard errors off")
    z = np.asarray(visible, np.float64) - visible_bias - np.asarray(hidden, np.float64) @ weights.T
    if not abs(z.var() - 1) < 5 * math.sqrt(2 / z.size):
        raise WrongAnswerError(f"the noise has variance {z.var():.4f}")


def numpy_gaussian_gibbs(
    weights: Array, visible_bias: Array, hidden_bias: Array, start: Array, *, n_steps: int, threads: int
) -> Call:
    """NumPy at its best: BLAS on all threads, the rest in pieces on a pool of as many.

    Parameters
    ----------
    weights, visible_bias, hidden_bias : ndarray, float32
        The model.
    start : ndarray, (n_chains, n_visible)
        Visible states to begin with.
    n_steps : int
        Sweeps in a call.
    threads : int
        Threads to use.

    Returns
    -------
    callable
        Moves the chains on and returns (v, h); both are overwritten by the next call.
    """
    pool = ThreadPoolExecutor(threads)
    n_chains = len(start)
    visible, hidden = start.copy(), np.empty((n_chains, len(hidden_bias)), np.float32)
    fields, uniforms, noise = np.empty_like(hidden), np.empty_like(hidden), np.empty_like(visible)
    minus_weights, transposed = -weights, np.ascontiguousarray(weights.T)
    n_pieces = min(n_chains, _PIECES * threads)
    cuts = [slice(k * n_chains // n_pieces, (k + 1) * n_chains // n_pieces) for k in range(n_pieces)]
    generators = [np.random.Generator(np.random.SFC64(k)) for k in range(n_pieces)]

    def draw_hidden(piece: int) -> None:
        x, u = fields[cuts[piece]], uniforms[cuts[piece]]
        x -= hidden_bias
        np.exp(x, out=x)
        x += 1
        generators[piece].random(out=u, dtype=np.float32)
        x *= u
        np.less(x, 1, out=hidden[cuts[piece]], casting="unsafe")

    def draw_visible(piece: int) -> None:
        v, z = visible[cuts[piece]], noise[cuts[piece]]
        generators[piece].standard_normal(out=z, dtype=np.float32)
        v += z
        v += visible_bias

    def each(draw: Any) -> None:
        if threads == 1:
            for piece in range(n_pieces):
                draw(piece)
        else:
            list(pool.map(draw, range(n_pieces)))

    def call() -> tuple[Array, Array]:
        for _ in range(n_steps):
            np.matmul(visible, minus_weights, out=fields)
            each(draw_hidden)
            np.matmul(hidden, transposed, out=visible)
            each(draw_visible)
        return visible, hidden

    return call
