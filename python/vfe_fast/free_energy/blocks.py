"""Distributions of blocks: correlations within, none between."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import _core
from ..arguments import count
from ..arrays import Array
from .units import AllStates, Units

__all__ = ["Blocks", "checked_blocks"]

_MOST_IN_A_BLOCK = 14


class Blocks:
    """A distribution q = Π q_B: a table of probabilities a block, and what follows from them."""

    def __init__(self, units: Units, parts: Sequence[Array]) -> None:
        self.units = units
        self.parts = parts
        self.tables = [np.empty(0)] * len(parts)
        self.logs = [np.empty(0)] * len(parts)  # ln of the tables, which underflow
        self.states = {len(part): units.states(len(part)) for part in parts}
        self.inner = [  # ½ x'Jx of each state of a block
            0.5
            * np.einsum("si,ij,sj->s", x := self.states[len(part)], units.couplings[np.ix_(part, part)], x)
            for part in parts
        ]
        self.means = np.zeros(len(units.fields))
        self.change, self.n_sweeps = 0.0, 0

    def descend(self, means: Array, tolerance: float, max_sweeps: int) -> Blocks:
        """Move all blocks in turn until no mean changes by more than `tolerance`."""
        units, self.means = self.units, means.copy()
        self.change = math.inf
        while self.n_sweeps < max_sweeps and self.change > tolerance:
            before = self.means.copy()
            for k, part in enumerate(self.parts):
                rows = units.couplings[part]
                outside = units.fields[part] + rows @ self.means - rows[:, part] @ self.means[part]
                self._put(k, units.beta * (self.states[len(part)] @ outside + self.inner[k]))
            self.change = float(np.abs(self.means - before).max())
            self.n_sweeps += 1
        return self

    def of_model(self, all_states: AllStates) -> Blocks:
        """The model's own distribution in each block."""
        for k, part in enumerate(self.parts):
            self._put(k, all_states.log_marginal(part))
        return self

    def _put(self, block: int, exponents: Array) -> None:
        below = exponents - exponents.max()
        weights = _core.exp(below)
        total = weights.sum()
        self.tables[block], self.logs[block] = weights / total, below - math.log(total)
        part, table = self.parts[block], self.tables[block]
        self.means[part] = table @ self.states[len(part)]

    @property
    def structure(self) -> dict[str, Any]:
        """What the correlations are in."""
        return {"blocks": tuple(self.parts)}

    @property
    def energy(self) -> float:
        """⟨E⟩_q: pairs within a block by its table, others by their means."""
        units, m = self.units, self.means
        pairs = 0.5 * float(m @ units.couplings @ m)
        for part, table, inner in zip(self.parts, self.tables, self.inner, strict=True):
            pairs += float(table @ inner) - 0.5 * float(
                m[part] @ units.couplings[np.ix_(part, part)] @ m[part]
            )
        return -float(units.fields @ m) - pairs

    @property
    def entropy(self) -> float:
        """S_q = Σ_B S_B."""
        return -sum(float(table @ logs) for table, logs in zip(self.tables, self.logs, strict=True))

    @property
    def log_z(self) -> float:
        """-β F_q."""
        return self.entropy - self.units.beta * self.energy

    def log_share(self, all_states: AllStates) -> Array:
        """ln q of all states."""
        found: Array = sum(  # type: ignore[assignment]
            logs[all_states.of_block(part)] for part, logs in zip(self.parts, self.logs, strict=True)
        )
        return found


def checked_blocks(blocks: Any, strength: Array) -> list[Array]:
    """Those given, or of so many units."""
    n = len(strength)
    if isinstance(blocks, (int, np.integer)):
        return _by_strength(strength, count(blocks, "blocks", 1, _MOST_IN_A_BLOCK + 1))
    try:
        given = [np.asarray(part) for part in blocks]
        if any(part.size > 0 and part.dtype.kind not in "iu" for part in given):
            raise TypeError
        parts = [part.astype(np.intp) for part in given]
    except (TypeError, ValueError):
        raise TypeError("blocks: expected a number of units, or a sequence of arrays of units") from None
    if any(part.ndim != 1 or not 1 <= len(part) <= _MOST_IN_A_BLOCK for part in parts):
        raise ValueError(f"blocks: expected each (n_units,) with 1 <= n_units <= {_MOST_IN_A_BLOCK}")
    if not np.array_equal(np.sort(np.concatenate([*parts, np.empty(0, np.intp)])), np.arange(n)):
        raise ValueError(f"blocks: expected each unit of 0, ..., {n - 1} once")
    return parts


def _by_strength(strength: Array, size: int) -> list[Array]:
    """Blocks grown from the strongest coupling that is left."""
    left = np.ones(len(strength), bool)
    parts = []
    while left.any():
        pull = np.where(left, (strength * left).max(axis=1), -1.0)
        part = [int(np.argmax(pull))]
        left[part[0]] = False
        while len(part) < size and left.any():
            nearest = int(np.argmax(np.where(left, strength[part].sum(axis=0), -1.0)))
            part.append(nearest)
            left[nearest] = False
        parts.append(np.array(sorted(part), dtype=np.intp))
    return parts
