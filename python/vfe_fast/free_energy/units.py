"""Two-valued units in pairs, and all their states: what distributions of blocks and trees are made for."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .. import _core
from ..arrays import Array
from ..models import BernoulliRBM, Ising, SpinRBM

__all__ = ["AllStates", "Units"]


@dataclass(frozen=True, eq=False)
class Units:
    """Two-valued units in pairs, E(x) = -f.x - ½ x'Jx, in float64; their values are `low` and 1."""

    fields: Array
    couplings: Array
    low: float
    beta: float

    @classmethod
    def of(cls, model: BernoulliRBM | SpinRBM | Ising, beta: float) -> Units:
        """Those of a model; of an RBM visible ones first."""
        if isinstance(model, Ising):
            return cls(model.fields.astype(np.float64), model.couplings.astype(np.float64), -1.0, beta)
        weights, *biases = (p.astype(np.float64) for p in model.parameters)
        corner = np.zeros((model.n_visible + model.n_hidden,) * 2)
        corner[: model.n_visible, model.n_visible :] = weights
        low = 0.0 if isinstance(model, BernoulliRBM) else -1.0
        return cls(np.concatenate(biases), corner + corner.T, low, beta)

    def states(self, n: int) -> Array:
        """All states of n units, (2^n, n)."""
        bits = np.arange(1 << n)[:, None] >> np.arange(n) & 1
        found: Array = np.where(bits == 1, 1.0, self.low)
        return found

    def strengths(self, means: Array) -> Array:
        """|J| times the spreads that units of these means have, (n, n)."""
        spread = np.sqrt(np.maximum((1 - means) * (means - self.low), 1e-300))
        found: Array = np.abs(self.couplings) * spread[:, None] * spread
        return found


class AllStates:
    """p(x) of all states of a small model."""

    def __init__(self, units: Units) -> None:
        x = units.states(len(units.fields))
        exponents = units.beta * (x @ units.fields + 0.5 * np.einsum("si,ij,sj->s", x, units.couplings, x))
        below = exponents - exponents.max()
        self.log_share = below - math.log(_core.exp(below).sum())

    def of_block(self, part: Array) -> Array:
        """The number of the block's state in each state of the model."""
        whole = np.arange(len(self.log_share))
        found: Array = sum((whole >> int(unit) & 1) << k for k, unit in enumerate(part))  # type: ignore[assignment]
        return found

    def informations(self) -> Array:
        """Mutual information of all pairs of units, (n, n)."""
        n = len(self.log_share).bit_length() - 1
        alone = [self.log_marginal(np.array([i])) for i in range(n)]
        found = np.zeros((n, n))
        for i, j in zip(*np.triu_indices(n, 1), strict=True):
            pair = self.log_marginal(np.array([i, j])).reshape(2, 2)
            found[i, j] = found[j, i] = np.sum(_core.exp(pair) * (pair - alone[j][:, None] - alone[i]))
        return found

    def log_marginal(self, part: Array) -> Array:
        """ln p of a block's states."""
        states = self.of_block(part)
        top = np.full(1 << len(part), -np.inf)
        np.maximum.at(top, states, self.log_share)
        found: Array = top + np.log(np.bincount(states, _core.exp(self.log_share - top[states])))
        return found

    def divergences(self, log_q: Array) -> dict[str, float]:
        """KL(q || p) and KL(p || q), of ln q of all states."""
        excess = log_q - self.log_share
        return {
            "exclusive": float(_core.exp(log_q) @ excess),
            "inclusive": -float(_core.exp(self.log_share) @ excess),
        }
