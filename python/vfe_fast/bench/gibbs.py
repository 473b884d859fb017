"""The Gibbs case, and NumPy's sampler."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ..arrays import Array
from ..models import BernoulliRBM
from ..sampling import GibbsChains, gibbs
from .harness import Call, Case, Maker, WrongAnswerError, made, verified
from .models import joint, model_of

__all__ = ["GIBBS_NOTE", "gibbs_case", "numpy_gibbs"]

GIBBS_NOTE = (
    "gibbs: seconds a sweep of all chains; float32. Peak: sgemm-equivalent, two matrix products a sweep."
)

_BURN_IN = 500  # sweeps of a trained model before the clock runs
_PIECE = 1 << 16  # numbers that a NumPy thread works on at a time: they stay in its cache


def gibbs_case(
    n_visible: int,
    n_hidden: int,
    n_chains: int,
    *,
    n_steps: int,
    threads: int,
    rivals: Mapping[str, Maker | str],
    trained: tuple[Array, Array, Array] | None = None,
    function: bool = False,
) -> Case:
    """Full sweeps of block Gibbs sampling, h given v and v given h, in float32.

    Parameters
    ----------
    n_visible, n_hidden, n_chains : int
        Size of the model, and chains moved together.
    n_steps : int
        Sweeps in a call.
    threads : int
        Threads to use.
    trained : tuple of ndarray, optional
        Weights and biases of a model to run, from its own equilibrium; else random ones.
    function : bool
        Time calls of `vfe_fast.gibbs`, which takes and returns unpacked states; else persistent chains.
    rivals : mapping of str to callable or str
        ``maker(weights, visible_bias, hidden_bias, start, n_steps=, threads=)`` returns a callable that moves
        the chains on by `n_steps` and returns (v, h), or (v, None) where the rival keeps h to itself.

    Returns
    -------
    Case
        Its work is that of two matrix products a sweep, although ours makes none.
    """
    if trained is None:
        model = model_of(n_visible, n_hidden, np.float32, 1.0 / math.sqrt(max(n_visible, n_hidden)))
        start = np.random.default_rng(1).random((n_chains, n_visible)) < 0.5
    else:
        model = trained
        chains = GibbsChains(BernoulliRBM(*model), n_chains, rng=1, num_threads=threads)
        chains.step(_BURN_IN)
        start = chains.visible.astype(bool)
    ours = _our_call if function else _our_gibbs
    _check_gibbs(ours)
    work: dict[str, Any] = {"n_steps": n_steps, "threads": threads}
    about = [f"{n_chains} chain{'s' if n_chains > 1 else ''}"]
    about += ["trained"] * (trained is not None) + ["a call"] * function
    return Case(
        bench="gibbs",
        name=", ".join([f"{n_visible}x{n_hidden}", *about]),
        ours=ours(*model, start, **work),
        rivals=made(verified(rivals, _check_gibbs), *model, start, **work),
        work=4.0 * n_visible * n_hidden * n_chains * n_steps,
        peak="sgemm",
        repeats=n_steps,
    )


def _our_gibbs(
    weights: Array, visible_bias: Array, hidden_bias: Array, start: Array, *, n_steps: int, threads: int
) -> Call:
    rbm = BernoulliRBM(weights, visible_bias, hidden_bias)
    chains = GibbsChains(rbm, len(start), rng=0, start=start, num_threads=threads)

    def call() -> GibbsChains:
        chains.step(n_steps)
        return chains

    return call


def _our_call(
    weights: Array, visible_bias: Array, hidden_bias: Array, start: Array, *, n_steps: int, threads: int
) -> Call:
    rbm, v0 = BernoulliRBM(weights, visible_bias, hidden_bias), start.astype(np.uint8)
    return lambda: gibbs(rbm, v0, n_steps, rng=0, num_threads=threads)


def _check_gibbs(maker: Maker) -> None:
    """Compare first and second moments of a small model with the exact ones, at five standard errors."""
    model, _, exact = joint(7, 5)
    n_chains = 20000
    start = np.zeros((n_chains, 7), dtype=bool)
    call = maker(*(x.astype(np.float32) for x in model), start, n_steps=50, threads=1)
    answer = call()
    visible, hidden = (answer.visible, answer.hidden) if isinstance(answer, GibbsChains) else answer
    layers = [np.asarray(x, dtype=np.float64) for x in (visible, hidden) if x is not None]
    units = np.concatenate(layers, axis=1)
    exact = exact[: units.shape[1], : units.shape[1]]
    deviation = np.abs(units.T @ units / n_chains - exact) / np.sqrt(exact * (1 - exact) / n_chains)
    if not (np.isin(units, (0, 1)).all() and deviation.max() < 5.0):
        raise WrongAnswerError(f"moments of a 7x5 model are up to {deviation.max():.1f} standard errors off")


def numpy_gibbs(
    weights: Array, visible_bias: Array, hidden_bias: Array, start: Array, *, n_steps: int, threads: int
) -> Call:
    """NumPy's Gibbs sampler at its best: BLAS on all threads, the rest in pieces on a pool of as many.

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
    visible = start.astype(np.float32)
    hidden = np.empty((len(start), len(hidden_bias)), dtype=np.float32)
    # u < sigmoid(x) is u (1 + e^-x) < 1: a pass less, and the sign goes into the parameters.
    layers = [
        (visible, -weights, -hidden_bias, hidden),
        (hidden, np.ascontiguousarray(-weights.T), -visible_bias, visible),
    ]
    fields = [np.empty_like(hidden), np.empty_like(visible)]
    uniforms = [np.empty_like(hidden), np.empty_like(visible)]
    most = max(hidden.size, visible.size)
    n_pieces = max(1, min(len(start), most // _PIECE))
    cuts = [slice(k * len(start) // n_pieces, (k + 1) * len(start) // n_pieces) for k in range(n_pieces)]
    generators = [np.random.Generator(np.random.SFC64(k)) for k in range(n_pieces)]

    def draw(layer: int, piece: int) -> None:
        x, u = fields[layer][cuts[piece]], uniforms[layer][cuts[piece]]
        _, _, bias, out = layers[layer]
        x += bias
        np.exp(x, out=x)
        x += 1
        generators[piece].random(out=u, dtype=np.float32)
        x *= u
        np.less(x, 1, out=out[cuts[piece]], casting="unsafe")

    def call() -> tuple[Array, Array]:
        for _ in range(n_steps):
            for layer, (given, minus_weights, _, _) in enumerate(layers):
                np.matmul(given, minus_weights, out=fields[layer])
                if threads == 1 or n_pieces == 1:
                    for piece in range(n_pieces):
                        draw(layer, piece)
                else:
                    list(pool.map(functools.partial(draw, layer), range(n_pieces)))
        return visible, hidden

    return call
