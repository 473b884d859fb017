"""An RBM by brute force: every joint state, in float64 or in mpmath."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mpmath as mp
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Exact:
    log_z: Any
    visible: Array
    hidden: Array
    visible_hidden: Array
    energy: Any


def all_states(n: int) -> npt.NDArray[np.float64]:
    """Every state of n units, (2^n, n); unit i is bit i of the row's number."""
    return ((np.arange(2**n)[:, None] >> np.arange(n)) & 1).astype(np.float64)


def energies(weights: Array, visible_bias: Array, hidden_bias: Array) -> npt.NDArray[np.float64]:
    """E of every joint state, (2^n_visible, 2^n_hidden)."""
    v, h = all_states(len(visible_bias)), all_states(len(hidden_bias))
    w, a, b = (np.asarray(x, dtype=np.float64) for x in (weights, visible_bias, hidden_bias))
    return -(v @ a)[:, None] - (h @ b)[None, :] - v @ w @ h.T


def joint(
    weights: Array, visible_bias: Array, hidden_bias: Array, beta: float = 1.0
) -> npt.NDArray[np.float64]:
    """p(v, h) of every joint state."""
    exponent = -beta * energies(weights, visible_bias, hidden_bias)
    p = np.exp(exponent - exponent.max())
    return p / p.sum()


def enumerate_float64(weights: Array, visible_bias: Array, hidden_bias: Array, beta: float = 1.0) -> Exact:
    """ln Z and first moments from the 2^(n_visible + n_hidden) joint states."""
    energy = energies(weights, visible_bias, hidden_bias)
    exponent = -beta * energy
    p = joint(weights, visible_bias, hidden_bias, beta)
    v, h = all_states(len(visible_bias)), all_states(len(hidden_bias))
    log_z = exponent.max() + np.log(np.exp(exponent - exponent.max()).sum())
    return Exact(log_z, p.sum(1) @ v, p.sum(0) @ h, v.T @ p @ h, (p * energy).sum())


def marginal_mpmath(weights: Array, visible_bias: Array, hidden_bias: Array, beta: float = 1.0) -> Exact:
    """In 50 digits, the larger layer summed in closed form: for one small layer and large weights."""
    weights = np.asarray(weights)
    swapped = weights.shape[0] > weights.shape[1]
    if swapped:
        weights, visible_bias, hidden_bias = weights.T, hidden_bias, visible_bias
    n, m = weights.shape
    with mp.workdps(50):
        rows = [[mp.mpf(float(x)) for x in row] for row in weights]
        own, other = [mp.mpf(float(x)) for x in visible_bias], [mp.mpf(float(x)) for x in hidden_bias]
        z, units, others = mp.mpf(0), [mp.mpf(0)] * n, [mp.mpf(0)] * m
        pairs = [[mp.mpf(0)] * m for _ in range(n)]
        for state in range(2**n):
            on = [i for i in range(n) if state >> i & 1]
            weight = mp.exp(beta * sum((own[i] for i in on), mp.mpf(0)))
            odds = [
                mp.exp(beta * (x + sum((rows[i][j] for i in on), mp.mpf(0)))) for j, x in enumerate(other)
            ]
            for y in odds:
                weight *= 1 + y
            z += weight
            for j, y in enumerate(odds):
                share = weight * y / (1 + y)
                others[j] += share
                for i in on:
                    pairs[i][j] += share
            for i in on:
                units[i] += weight
        energy = -sum(x * y for x, y in zip(own + other, units + others, strict=True))
        energy -= sum(rows[i][j] * pairs[i][j] for i in range(n) for j in range(m))
        first, second = (np.array([float(x / z) for x in values]) for values in (units, others))
        both = np.array([[float(x / z) for x in row] for row in pairs])
        log_z, energy = float(mp.log(z)), float(energy / z)
    if swapped:
        return Exact(log_z, second, first, both.T, energy)
    return Exact(log_z, first, second, both, energy)


def enumerate_mpmath(weights: Array, visible_bias: Array, hidden_bias: Array, beta: float = 1.0) -> Exact:
    """The same in 50 digits, straight from the definition: for small models with large weights."""
    n, m = len(visible_bias), len(hidden_bias)
    with mp.workdps(50):
        w = [[mp.mpf(float(x)) for x in row] for row in weights]
        a, b = [mp.mpf(float(x)) for x in visible_bias], [mp.mpf(float(x)) for x in hidden_bias]
        z, mean_energy = mp.mpf(0), mp.mpf(0)
        visible, hidden = [mp.mpf(0)] * n, [mp.mpf(0)] * m
        pairs = [[mp.mpf(0)] * m for _ in range(n)]
        for v in range(2**n):
            on_v = [i for i in range(n) if v >> i & 1]
            field = [b[j] + sum((w[i][j] for i in on_v), mp.mpf(0)) for j in range(m)]
            base = sum((a[i] for i in on_v), mp.mpf(0))
            for h in range(2**m):
                on_h = [j for j in range(m) if h >> j & 1]
                energy = -base - sum((field[j] for j in on_h), mp.mpf(0))
                weight = mp.exp(-mp.mpf(beta) * energy)
                z += weight
                mean_energy += weight * energy
                for i in on_v:
                    visible[i] += weight
                    for j in on_h:
                        pairs[i][j] += weight
                for j in on_h:
                    hidden[j] += weight

        def to_float(values: Any) -> Array:
            return np.array([[float(x / z) for x in row] for row in values])

        return Exact(
            float(mp.log(z)),
            to_float([visible])[0],
            to_float([hidden])[0],
            to_float(pairs),
            float(mean_energy / z),
        )
