"""Models to run on, and small ones whose every state is summed."""

from __future__ import annotations

import functools

import numpy as np

from ..arrays import Array

__all__ = ["all_states", "joint", "model_of"]


def model_of(n_visible: int, n_hidden: int, dtype: type, scale: float) -> tuple[Array, Array, Array]:
    """Weights, visible bias and hidden bias, none of them symmetric: a sign error shows."""
    rng = np.random.default_rng(n_visible * 1000 + n_hidden)
    weights = scale * rng.standard_normal((n_visible, n_hidden))
    visible_bias = 0.3 * rng.standard_normal(n_visible) - 0.2
    hidden_bias = 0.3 * rng.standard_normal(n_hidden) + 0.1
    return weights.astype(dtype), visible_bias.astype(dtype), hidden_bias.astype(dtype)


@functools.cache
def joint(n_visible: int, n_hidden: int) -> tuple[tuple[Array, Array, Array], float, Array]:
    """Return a small float64 model, its ln Z and the second moments of all its units, summing every state."""
    model = model_of(n_visible, n_hidden, np.float64, 1.0)
    weights, visible_bias, hidden_bias = model
    visible, hidden = all_states(n_visible), all_states(n_hidden)
    log_weight = (visible @ weights) @ hidden.T + (visible @ visible_bias)[:, None] + hidden @ hidden_bias
    weight = np.exp(log_weight - log_weight.max())
    log_z = float(log_weight.max() + np.log(weight.sum()))
    weight /= weight.sum()
    pairs = np.block(
        [
            [visible.T @ (weight.sum(axis=1)[:, None] * visible), visible.T @ weight @ hidden],
            [hidden.T @ weight.T @ visible, hidden.T @ (weight.sum(axis=0)[:, None] * hidden)],
        ]
    )
    return model, log_z, pairs


def all_states(n: int) -> Array:
    """All states of n units, (2^n, n), float64; unit u is bit u of the row's number."""
    return (np.arange(1 << n)[:, None] >> np.arange(n) & 1).astype(np.float64)
