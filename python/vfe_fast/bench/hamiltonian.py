"""The case of Hamiltonian dynamics, and NumPy's way."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import _core
from ..arrays import Array
from ..models import GaussianRBM
from .harness import Call, Case, Maker, WrongAnswerError, made, verified
from .models import all_states, model_of

__all__ = ["HAMILTONIAN_NOTE", "hamiltonian_case", "numpy_hamiltonian"]

HAMILTONIAN_NOTE = (
    "hamiltonian: seconds a gradient of all chains; float64. Peak: dgemm, two products a gradient."
)


def hamiltonian_case(
    n_visible: int,
    n_hidden: int,
    n_chains: int,
    *,
    n_moves: int,
    n_steps: int,
    threads: int,
    rivals: Mapping[str, Maker | str],
) -> Case:
    """Moves of Hamiltonian dynamics in the clamped free energy of a `GaussianRBM` with variances of 1.

    Parameters
    ----------
    n_visible, n_hidden, n_chains : int
        Size of the model, and chains moved together.
    n_moves, n_steps : int
        Moves in a call, and steps of the leapfrog in each.
    threads : int
        Threads to use.
    rivals : mapping of str to callable or str
        ``maker(weights, visible_bias, hidden_bias, start, n_moves=, n_steps=, step=, threads=)`` returns a
        callable that moves the chains on, with a test of each move, and returns where they are.

    Returns
    -------
    Case
    """
    model = model_of(n_visible, n_hidden, np.float64, 1.0 / math.sqrt(max(n_visible, n_hidden)))
    start = np.random.default_rng(1).standard_normal((n_chains, n_visible))
    work: dict[str, Any] = {"n_moves": n_moves, "n_steps": n_steps, "step": 0.1, "threads": threads}
    _check(_ours)
    return Case(
        bench="hamiltonian",
        name=f"{n_visible}x{n_hidden}, {n_chains} chains, {n_steps} step" + "s" * (n_steps > 1),
        ours=_ours(*model, start, **work),
        rivals=made(verified(rivals, _check), *model, start, **work),
        work=4.0 * n_visible * n_hidden * n_chains * n_moves * n_steps,
        peak="dgemm",
        repeats=n_moves * n_steps,
    )


def _ours(
    weights: Array,
    visible_bias: Array,
    hidden_bias: Array,
    start: Array,
    *,
    n_moves: int,
    n_steps: int,
    step: float,
    threads: int,
) -> Call:
    parameters, prepared = GaussianRBM(weights, visible_bias, hidden_bias).prepared
    mass, lengths = np.ones(len(visible_bias)), np.full(n_moves, n_steps)
    x, n_calls = start, 0

    def call() -> Array:
        nonlocal x, n_calls
        samples, *_ = _core.hamiltonian(
            *parameters, x, beta=1.0, mass=mass, step=step, tested=True, n_steps=lengths, every=n_moves,
            seed=1, move_offset=n_calls * n_moves, num_threads=threads, prepared=prepared,
        )  # fmt: skip
        x, n_calls = samples[:, 0].copy(), n_calls + 1
        return x

    return call


def _check(maker: Maker) -> None:
    """Compare the moments of a small model with the exact ones, at five standard errors."""
    weights, visible_bias, hidden_bias = (0.4 * p for p in model_of(5, 4, np.float64, 1.0))
    n_chains = 5000
    start = np.random.default_rng(2).standard_normal((n_chains, 5))
    call = maker(weights, visible_bias, hidden_bias, start, n_moves=20, n_steps=3, step=0.5, threads=1)
    v = np.asarray(call(), dtype=np.float64)
    h = all_states(4)
    centers = visible_bias + h @ weights.T
    exponent = h @ hidden_bias + 0.5 * (centers**2).sum(axis=1)
    p = np.exp(exponent - exponent.max())
    p /= p.sum()
    for values, expected in ((v, p @ centers), (v**2, p @ centers**2 + 1)):
        error = np.abs(values.mean(axis=0) - expected) / (values.std(axis=0) / math.sqrt(n_chains))
        if not error.max() < 5.0:
            raise WrongAnswerError(f"moments of a 5x4 model are up to {error.max():.1f} standard errors off")


def numpy_hamiltonian(
    weights: Array,
    visible_bias: Array,
    hidden_bias: Array,
    start: Array,
    *,
    n_moves: int,
    n_steps: int,
    step: float,
    threads: int,
) -> Call:
    """NumPy's Hamiltonian dynamics, in place where it can.

    Parameters
    ----------
    weights, visible_bias, hidden_bias : ndarray
        The model.
    start : ndarray, (n_chains, n_visible)
        Where chains begin.
    n_moves, n_steps : int
        Moves in a call, and steps of the leapfrog in each.
    step : float
        Step of the leapfrog.
    threads : int
        Threads to use; only BLAS does.

    Returns
    -------
    callable
        Moves the chains on and returns where they are.
    """
    rng = np.random.Generator(np.random.SFC64(0))
    transposed = np.ascontiguousarray(weights.T)
    field, decay = (np.empty((len(start), len(hidden_bias))) for _ in range(2))

    def gradient(x: Array, out: Array) -> None:
        """The slope of U; `field` and `decay` are left for U itself."""
        np.matmul(x, weights, out=field)
        np.add(field, hidden_bias, out=field)
        np.negative(np.abs(field, out=decay), out=decay)
        np.exp(decay, out=decay)
        mean = np.where(field < 0, decay, 1.0)
        mean /= 1.0 + decay
        np.matmul(mean, transposed, out=out)
        np.subtract(x - visible_bias, out, out=out)

    def potential(x: Array) -> Array:
        u: Array = 0.5 * ((x - visible_bias) ** 2).sum(axis=1)
        u -= (np.maximum(field, 0.0) + np.log1p(decay)).sum(axis=1)
        return u

    x, slope = start.copy(), np.empty_like(start)
    gradient(x, slope)
    u = potential(x)

    def call() -> Array:
        nonlocal x, u, slope
        for _ in range(n_moves):
            p = rng.standard_normal(x.shape)
            before = u + 0.5 * (p * p).sum(axis=1)
            y, end = x.copy(), slope.copy()
            p -= 0.5 * step * end
            for k in range(n_steps):
                y += step * p
                gradient(y, end)
                p -= (step if k + 1 < n_steps else 0.5 * step) * end
            there = potential(y)
            taken = rng.random(len(x)) < np.exp(np.minimum(before - there - 0.5 * (p * p).sum(axis=1), 0.0))
            x = np.where(taken[:, None], y, x)
            slope = np.where(taken[:, None], end, slope)
            u = np.where(taken, there, u)
        return x

    return call
