r"""Distributions on a tree: each unit depends on one other, q(x) = Π_i q(x_i | x_p(i)).

In two values, the mean of a unit given its parent is a line, ⟨x_i | x_p⟩ = a + r x_p. So a unit leaves ⟨E⟩_q
when a + r x_p takes its place, and what is left is a sum over pairs again; the entropy of q(x_i | x_p) is a
line in x_p as well.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import _core
from ..arrays import Array
from .units import AllStates, Units

__all__ = ["Tree", "checked_tree"]

_LEAST_SHARE = 1e-15  # of a unit's value, to start from


class Tree:
    """A distribution q = Π q(x_i | x_p), and what follows from it.

    Units are numbered from 1 in the order of `parents`. Number 0 is a constant, 1: it is the parent of units
    without one, and its couplings are the fields.

    Parameters
    ----------
    units : Units
        What it is a distribution of.
    parents : list of (int, int)
        Each unit and its parent, parents first; -1 for none.
    """

    def __init__(self, units: Units, parents: list[tuple[int, int]]) -> None:
        self.units = units
        self.order = np.array([unit for unit, _ in parents])
        numbers = {unit: i for i, (unit, _) in enumerate(parents, 1)}
        self.parents = [0, *(numbers.get(parent, 0) for _, parent in parents)]
        n = len(self.parents)
        self.pull = np.zeros((n, n))  # β J
        self.pull[1:, 1:] = units.beta * units.couplings[np.ix_(self.order, self.order)]
        self.pull[0, 1:] = self.pull[1:, 0] = units.beta * units.fields[self.order]
        # Last axis of these: the unit, or its parent, is `low` or 1.
        self.log_odds = np.zeros((n, 2))  # of x_i = 1 given its parent
        self.log_q = np.tile([-math.inf, 0.0], (n, 1))  # of each unit alone
        self.given = np.ones((n, n, 2))  # ⟨x_j | x_i⟩, [j, i]
        self.change, self.n_sweeps = 0.0, 0

    def descend(self, means: Array, tolerance: float, max_sweeps: int) -> Tree:
        """Move all q(x_i | x_p) in turn until no mean of a unit given its parent changes by more."""
        low = self.units.low
        share = np.clip((means[self.order] - low) / (1 - low), _LEAST_SHARE, 1 - _LEAST_SHARE)
        self.log_odds[1:] = (_core.log(share) - _core.log(1 - share))[:, None]
        self._spread()
        self.change = math.inf
        while self.n_sweeps < max_sweeps and self.change > tolerance:
            before = self._conditional_means()
            self._improve()
            self._spread()
            self.change = float(np.abs(self._conditional_means() - before).max())
            self.n_sweeps += 1
        return self

    def of_model(self, all_states: AllStates) -> Tree:
        """The model's own distribution of each unit and its parent."""
        for i, parent in enumerate(self.parents[1:], 1):
            pair = self.order[[i - 1, parent - 1]] if parent else self.order[[i - 1]]
            log_p = all_states.log_marginal(pair)
            self.log_odds[i] = log_p[1::2] - log_p[::2]
        self._spread()
        return self

    def _improve(self) -> None:
        """From the last unit to the first: the best q(x_i | x_p), then a + r x_p in its place."""
        low, left = self.units.low, self.pull.copy()
        for i in range(len(self.parents) - 1, 0, -1):
            p, row = self.parents[i], left[i, :i]
            row[0] += 0.5 * (1 + low) * left[i, i]  # x² = (1 + low) x - low
            self.log_odds[i] = (1 - low) * (row @ self.given[:i, p])
            a, r = self._line(self._mean(self.log_odds[i]))
            _, entropy = self._line(_entropy(self.log_odds[i]))
            for number, factor in ((0, a), (p, r)):
                left[number, :i] += factor * row
                left[:i, number] += factor * row
            left[p, 0] += entropy

    def _spread(self) -> None:
        """From the first unit to the last: its distribution, and all means given one unit."""
        for i, p in enumerate(self.parents[1:], 1):
            odds = self.log_odds[i]
            joint = self.log_q[p] - np.array([_core.softplus(odds), _core.softplus(-odds)])
            self.log_q[i] = np.logaddexp(*joint.T)
            back = _core.exp(joint - self.log_q[i][:, None])  # q(x_p | x_i)
            a, r = self._line(self._mean(odds))
            self.given[:i, i] = self.given[:i, p] @ back.T
            self.given[i, :i] = a + r * self.given[p, :i]
            self.given[i, i] = self.units.low, 1.0

    def _line(self, values: Array) -> tuple[float, float]:
        """a and r of a + r x from its values where x is `low` and 1."""
        slope = (values[1] - values[0]) / (1 - self.units.low)
        return values[1] - slope, slope

    def _mean(self, log_odds: Array) -> Array:
        found: Array = self.units.low + (1 - self.units.low) * _core.sigmoid(log_odds)
        return found

    def _conditional_means(self) -> Array:
        return self._mean(self.log_odds[1:])

    @property
    def means(self) -> Array:
        """⟨x⟩ of all units."""
        found = np.empty(len(self.order))
        found[self.order] = self.given[1:, 0, 1]
        return found

    @property
    def structure(self) -> dict[str, Any]:
        """Units and their parents, (n_edges, 2), and ⟨x_i x_j⟩ of these, (n_edges,)."""
        inner = [(i, p) for i, p in enumerate(self.parents) if p]
        first, second = np.array(inner, dtype=np.intp).reshape(-1, 2).T
        edges = np.column_stack((self.order[first - 1], self.order[second - 1]))
        return {"edges": edges, "products": self._products()[first, second]}

    def _products(self) -> Array:
        """⟨x_i x_j⟩ of all pairs of numbers."""
        found: Array = np.einsum("jib,ib->ji", self.given, _core.exp(self.log_q) * [self.units.low, 1.0])
        return found

    @property
    def energy(self) -> float:
        """⟨E⟩_q: correlations of a pair are the product of those on the way from one to the other."""
        return -0.5 * float(np.sum(self.pull * self._products())) / self.units.beta

    @property
    def entropy(self) -> float:
        """S_q, that of each unit given its parent."""
        share = _core.exp(self.log_q[self.parents[1:]])
        return float(np.sum(share * _entropy(self.log_odds[1:])))

    @property
    def log_z(self) -> float:
        """-β F_q."""
        return self.entropy - self.units.beta * self.energy

    def log_share(self, all_states: AllStates) -> Array:
        """ln q of all states."""
        ones = [np.ones_like(all_states.log_share, np.intp), *map(all_states.of_block, self.order[:, None])]
        signs = [2.0 * x - 1.0 for x in ones]
        found: Array = -sum(  # type: ignore[assignment]
            _core.softplus(-signs[i] * self.log_odds[i, ones[p]]) for i, p in enumerate(self.parents) if i
        )
        return found


def checked_tree(tree: Any, strength: Array) -> list[tuple[int, int]]:
    """Units and their parents: along the edges given, or those of the largest total strength."""
    if tree is True:
        return _spanning(strength)
    n = len(strength)
    edges = np.asarray(tree)
    if edges.dtype.kind not in "iu" and edges.size:
        raise TypeError("tree: expected True, or pairs of units")
    if edges.size and (edges.ndim != 2 or edges.shape[1] != 2 or not 0 <= edges.min() <= edges.max() < n):
        raise ValueError(f"tree: expected (n_edges, 2) units of 0, ..., {n - 1}, got {edges.shape}")
    adjacent = np.zeros((n, n))
    first, second = edges.reshape(-1, 2).T.astype(np.intp)
    adjacent[first, second] = adjacent[second, first] = 1.0
    parents = _spanning(adjacent)
    if sum(parent >= 0 for _, parent in parents) != len(first):
        raise ValueError("tree: expected edges without a loop, each once")
    return parents


def _spanning(strength: Array) -> list[tuple[int, int]]:
    """The forest of the largest sum of positive strengths, grown from the first unit (R. Prim 1957)."""
    n = len(strength)
    left, reach, parent = np.ones(n, bool), np.zeros(n), np.full(n, -1)
    found = []
    for _ in range(n):
        unit = int(np.argmax(np.where(left, reach, -1.0)))
        found.append((unit, int(parent[unit])))
        left[unit] = False
        nearer = left & (strength[unit] > reach)
        reach[nearer], parent[nearer] = strength[unit][nearer], unit
    return found


def _entropy(log_odds: Array) -> Array:
    found: Array = _core.softplus(log_odds) - log_odds * _core.sigmoid(log_odds)
    return found
