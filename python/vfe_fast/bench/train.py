"""The training case, and NumPy's persistent contrastive divergence."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..arrays import Array
from ..models import BernoulliRBM
from ..training import train
from .harness import Call, Case, Maker, WrongAnswerError, made, verified
from .models import all_states

__all__ = ["TRAIN_NOTE", "numpy_train", "train_case"]

TRAIN_NOTE = "train: seconds an epoch of PCD; float32. Peak: sgemm-equivalent, the products of an update."

_RATE = 0.01
_CHECK_EPOCHS = 150


def train_case(
    data: Array,
    n_hidden: int,
    *,
    batch_size: int,
    n_steps: int,
    threads: int,
    rivals: Mapping[str, Maker | str],
) -> Case:
    """One epoch of persistent contrastive divergence, as many chains as samples in a minibatch.

    Parameters
    ----------
    data : ndarray of uint8, (n_samples, n_visible)
        States; whole minibatches of them.
    n_hidden, batch_size, n_steps : int
        Hidden units, samples in a minibatch, Gibbs steps an update.
    threads : int
        Threads to use.
    rivals : mapping of str to callable or str
        ``maker(data, weights, visible_bias, hidden_bias, batch_size=, n_steps=, learning_rate=, threads=)``
        returns a callable that goes through the data once, in a new order, and returns the parameters then.

    Returns
    -------
    Case
        Its work is that of matrix products: two a Gibbs step, two for the means, two for the gradient.
    """
    n_samples, n_visible = data.shape
    weights = (0.01 * np.random.default_rng(0).standard_normal((n_visible, n_hidden))).astype(np.float32)
    mean = np.clip(data.mean(axis=0), 0.01, 0.99)
    model = weights, np.log(mean / (1 - mean)).astype(np.float32), np.zeros(n_hidden, np.float32)
    work: dict[str, Any] = {
        "batch_size": batch_size, "n_steps": n_steps, "learning_rate": _RATE, "threads": threads,
    }  # fmt: skip
    _check_train(_our_train, n_steps)
    check = functools.partial(_check_train, n_steps=n_steps)
    return Case(
        bench="train",
        name=f"{n_visible}x{n_hidden}, batch {batch_size}, {n_steps} step{'s' if n_steps > 1 else ''}",
        ours=_our_train(data, *model, **work),
        rivals=made(verified(rivals, check), data, *model, **work),
        work=2.0 * n_visible * n_hidden * n_samples * (2 * n_steps + 4),
        peak="sgemm",
    )


def _our_train(
    data: Array,
    weights: Array,
    visible_bias: Array,
    hidden_bias: Array,
    *,
    batch_size: int,
    n_steps: int,
    learning_rate: float,
    threads: int,
) -> Call:
    rbm = BernoulliRBM(weights, visible_bias, hidden_bias)
    seeds = iter(range(1 << 30))

    def call() -> tuple[Array, ...]:
        train(
            rbm, data, method="pcd", n_epochs=1, batch_size=batch_size, learning_rate=learning_rate,
            n_gibbs_steps=n_steps, centered=False, rng=next(seeds), num_threads=threads,
        )  # fmt: skip
        return rbm.parameters

    return call


@functools.cache
def _small_problem() -> tuple[Array, tuple[Array, Array, Array]]:
    rng = np.random.default_rng(1)
    data = (rng.random((400, 8)) < np.linspace(0.2, 0.8, 8)).astype(np.uint8)
    noise = rng.random((400, 2)) < 0.1
    data[:, 1], data[:, 5] = data[:, 0] ^ noise[:, 0], 1 - data[:, 4] ^ noise[:, 1]
    weights = 0.1 * rng.standard_normal((8, 6))
    return data, (weights.astype(np.float32), np.zeros(8, np.float32), np.zeros(6, np.float32))


def _log_likelihood(parameters: tuple[Any, ...], data: Array) -> float:
    """Mean ln p(v), every visible state summed."""
    weights, visible_bias, hidden_bias = (np.asarray(p, np.float64) for p in parameters)

    def log_weight(v: Array) -> Array:
        result: Array = v @ visible_bias + np.logaddexp(0.0, v @ weights + hidden_bias).sum(axis=1)
        return result

    log_z = np.logaddexp.reduce(log_weight(all_states(len(visible_bias))))
    return float(log_weight(data.astype(np.float64)).mean() - log_z)


def _check_train(maker: Maker, n_steps: int) -> None:
    """Compare the likelihood of a small model with what the exact gradient reaches in as many updates."""
    data, model = _small_problem()
    call = maker(data, *model, batch_size=50, n_steps=n_steps, learning_rate=0.1, threads=1)
    for _ in range(_CHECK_EPOCHS):
        parameters = call()
    before, best = _log_likelihood(model, data), _exact_likelihood()
    after = _log_likelihood(parameters, data)
    if not 0.8 * (best - before) < after - before < 1.1 * (best - before):
        raise WrongAnswerError(f"ln p went from {before:.3f} to {after:.3f}, not to {best:.3f}")


@functools.cache
def _exact_likelihood() -> float:
    data, model = _small_problem()
    rbm = BernoulliRBM(*model)
    train(
        rbm,
        data,
        method="exact",
        n_epochs=_CHECK_EPOCHS,
        batch_size=50,
        learning_rate=0.1,
        centered=False,
        rng=0,
    )
    return _log_likelihood(rbm.parameters, data)


def numpy_train(
    data: Array,
    weights: Array,
    visible_bias: Array,
    hidden_bias: Array,
    *,
    batch_size: int,
    n_steps: int,
    learning_rate: float,
    threads: int,
) -> Call:
    """NumPy's PCD: products by BLAS on all threads, the chains held by their hidden states.

    Parameters
    ----------
    data : ndarray of uint8, (n_samples, n_visible)
        States.
    weights, visible_bias, hidden_bias : ndarray, float32
        The model to begin with.
    batch_size, n_steps : int
        Samples in a minibatch, Gibbs steps an update.
    learning_rate : float
        Step along the gradient.
    threads : int
        Not looked at: BLAS has been told.

    Returns
    -------
    callable
        Goes through the data once and returns the parameters, which the next call overwrites.
    """
    states = data.astype(np.float32)
    w, a, b = weights.copy(), visible_bias.copy(), hidden_bias.copy()
    rng = np.random.Generator(np.random.SFC64(0))
    hidden = (rng.random((batch_size, len(b)), np.float32) < 0.5).astype(np.float32)
    rate = np.float32(learning_rate / batch_size)

    def mean(given: Array, matrix: Array, bias: Array) -> Array:
        x: Array = given @ matrix
        x += bias
        np.negative(x, out=x)
        np.exp(x, out=x)
        x += 1
        np.reciprocal(x, out=x)
        return x

    def draw(p: Array) -> Array:
        return (rng.random(p.shape, np.float32) < p).astype(np.float32)

    def call() -> tuple[Array, Array, Array]:
        nonlocal hidden
        order = rng.permutation(len(states))
        for first in range(0, len(states), batch_size):
            batch = states[order[first : first + batch_size]]
            of_data = mean(batch, w, b)
            for _ in range(n_steps):
                visible = draw(mean(hidden, w.T, a))
                of_chains = mean(visible, w, b)
                hidden = draw(of_chains)
            gradient = batch.T @ of_data
            gradient -= visible.T @ of_chains
            gradient *= rate
            w.__iadd__(gradient)
            a.__iadd__(rate * (batch.sum(axis=0) - visible.sum(axis=0)))
            b.__iadd__(rate * (of_data.sum(axis=0) - of_chains.sum(axis=0)))
        return w, a, b

    return call
