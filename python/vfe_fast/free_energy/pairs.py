r"""Two-valued units that interact in pairs, as mean-field theories see them.

Factorized distributions :math:`q(x) \propto e^{\theta \cdot x}` of the units of

.. math:: E(x) = -f \cdot x - \tfrac12 x^T J x

and Plefka's expansion of ln Z at fixed means m: with the cumulants m, V, κ of each unit,

.. math::
    \ln Z \approx S + \beta \left(f \cdot m + \tfrac12 m^T J m\right)
                  + \tfrac{\beta^2}{4} \sum_{ij} J_{ij}^2 V_i V_j
                  + \tfrac{\beta^3}{12} \sum_{ij} J_{ij}^3 κ_i κ_j
                  + \tfrac{\beta^3}{6} \sum_{ijk} J_{ij} J_{jk} J_{ki} V_i V_j V_k .

It is stationary in m where θ is `Pairs.field`, its derivative. V = m(1 - m), κ = V(1 - 2m) of units 0/1, and
V = 1 - m², κ = -2mV of units ±1: T. Plefka, J. Phys. A 15 (1982) 1971; A. Georges, J. Yedidia, J. Phys. A 24
(1991) 2173. An expansion in cumulants does not see which two values the units have.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from .. import _core
from ..arrays import Array
from ..models import BernoulliRBM, Ising, SpinRBM

__all__ = ["Cumulants", "Layers", "Network", "Pairs", "pairs_of"]

_POWER_STEPS = 30  # two products each


@dataclass(frozen=True, eq=False)
class Cumulants:
    """Means, variances and third cumulants of units, and the derivatives of the last two by the mean."""

    mean: Array
    variance: Array
    variance_slope: Array
    third: Array
    third_slope: Array

    @classmethod
    def of(cls, theta: Array, width: float) -> Cumulants:
        """Of units whose two values differ by `width`: 0 and 1, or -1 and 1."""
        up, down = _core.sigmoid(width * theta), _core.sigmoid(-width * theta)
        return cls._of_shares(up - (width - 1) * down, up, down, width)

    @classmethod
    def of_means(cls, mean: Array, width: float) -> Cumulants:
        """Of units with given means."""
        up = (mean + (width - 1)) / width
        return cls._of_shares(mean, up, 1 - up, width)

    @classmethod
    def _of_shares(cls, mean: Array, up: Array, down: Array, width: float) -> Cumulants:
        variance, slope = width**2 * up * down, width * (down - up)
        return cls(mean, variance, slope, variance * slope, slope**2 - 2 * variance)


class Pairs(ABC):
    """A model of units in pairs; the rows of `theta` are distributions q, (n_rows, n_units).

    Parameters
    ----------
    fields : ndarray, (n_units,)
        f.
    beta : float
        Inverse temperature.
    width : float
        Difference of a unit's two values.
    num_threads : int
        Threads of the kernels.
    """

    blocks: tuple[Any, ...]  # units that do not interact with one another, so that one step moves them all

    def __init__(self, fields: Array, beta: float, width: float, num_threads: int) -> None:
        self.fields = fields
        self.beta = beta
        self.width = width
        self.num_threads = num_threads

    @abstractmethod
    def pull(self, power: int, values: Array, block: int) -> Array:
        """Σ_j J_ij^power x_j for the units i of a block."""

    def triangles(self, variance: Array, block: int) -> Array:
        """½ Σ_jk J_ij V_j J_jk V_k J_ki for the units i of a block."""
        return np.zeros_like(variance[:, self.blocks[block]])

    def cumulants(self, theta: Array) -> Cumulants:
        """Of each unit under q."""
        return Cumulants.of(theta, self.width)

    def field(self, at: Cumulants, block: int, order: int) -> Array:
        """The θ of a block's units that makes ln Z stationary in their means."""
        units = self.blocks[block]
        theta: Array = self.beta * (self.fields[units] + self.pull(1, at.mean, block))
        if order >= 2:
            slope = at.variance_slope[:, units]
            theta += self.beta**2 / 2 * slope * self.pull(2, at.variance, block)
        if order >= 3:
            of_pairs = at.third_slope[:, units] * self.pull(3, at.third, block) / 6
            theta += self.beta**3 * (of_pairs + slope * self.triangles(at.variance, block))
        return theta

    def all_fields(self, theta: Array, order: int) -> Array:
        """`field` of all units."""
        at, found = self.cumulants(theta), np.empty_like(theta)
        for block, units in enumerate(self.blocks):
            found[:, units] = self.field(at, block, order)
        return found

    def entropy(self, theta: Array) -> Array:
        """S of each row, in nats."""
        size = np.abs(self.width * theta)
        found: Array = (_core.softplus(-size) + size * _core.sigmoid(-size)).sum(axis=1)
        return found

    def energy(self, theta: Array) -> Array:
        """⟨E⟩ of each row."""
        mean = self.cumulants(theta).mean
        own: Array = (self.fields * mean).sum(axis=1)
        return -own - self._half_sum(lambda block: self.pull(1, mean, block), mean)

    def corrections(self, theta: Array, order: int) -> list[Array]:
        """Terms of ln Z of orders 2 to `order`, of each row."""
        at = self.cumulants(theta)
        found = []
        if order >= 2:
            pairs = self._half_sum(lambda block: self.pull(2, at.variance, block), at.variance)
            found.append(self.beta**2 / 2 * pairs)
        if order >= 3:
            pairs = self._half_sum(lambda block: self.pull(3, at.third, block), at.third) / 6
            rings = self._half_sum(lambda block: self.triangles(at.variance, block), at.variance) * 2 / 3
            found.append(self.beta**3 * (pairs + rings))
        return found

    def log_z(self, theta: Array, order: int) -> Array:
        """ln Z to some order, of each row."""
        found: Array = self.entropy(theta) - self.beta * self.energy(theta)
        for term in self.corrections(theta, order):
            found = found + term
        return found

    def plefka(self, theta: Array) -> Array:
        """Largest eigenvalue of β² J_ij² √(V_i V_j) of each row, by the power method on its square.

        Infinite where couplings are so large that its steps overflow.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            found = self._plefka(theta)
        return np.where(np.isfinite(found), found, np.inf)

    def _plefka(self, theta: Array) -> Array:
        deviation = np.sqrt(self.cumulants(theta).variance)

        def applied(x: Array) -> Array:
            found = np.empty_like(x)
            for block, units in enumerate(self.blocks):
                found[:, units] = deviation[:, units] * self.pull(2, deviation * x, block)
            found *= self.beta**2
            return found

        vector, size = np.ones_like(theta), np.ones((len(theta), 1))
        for _ in range(_POWER_STEPS):
            vector = vector / np.linalg.norm(vector, axis=1, keepdims=True)
            vector = applied(applied(vector))
            size = np.linalg.norm(vector, axis=1, keepdims=True)
            if not size.all():
                vector = np.where(size > 0, vector, 1.0)
        found: Array = np.sqrt(size[:, 0])
        return found

    @abstractmethod
    def largest(self) -> float:
        """Largest β |J_ij|."""

    def _half_sum(self, of_block: Any, values: Array) -> Array:
        """½ Σ_i x_i y_i with y given block by block."""
        found = np.zeros(len(values))
        for block, units in enumerate(self.blocks):
            found += (values[:, units] * of_block(block)).sum(axis=1) / 2
        return found


class Layers(Pairs):
    """Two layers: all visible units, then all hidden ones; no three of them interact with one another."""

    def __init__(self, weights: Array, fields: Array, beta: float, width: float, num_threads: int) -> None:
        super().__init__(fields, beta, width, num_threads)
        n_visible = len(weights)
        self.blocks = slice(0, n_visible), slice(n_visible, None)
        self._weights = [weights]

    def pull(self, power: int, values: Array, block: int) -> Array:
        """Σ_j J_ij^power x_j for the units i of a block."""
        while len(self._weights) < power:
            self._weights.append(self._weights[-1] * self._weights[0])
        weights = self._weights[power - 1] if block == 1 else self._weights[power - 1].T
        found: Array = _core.product(values[:, self.blocks[1 - block]], weights, num_threads=self.num_threads)
        return found

    def largest(self) -> float:
        """Largest β |W_ij|."""
        return self.beta * float(np.abs(self._weights[0]).max())

    def visible_hidden(self, at: Cumulants, order: int) -> Array:
        """⟨v h⟩, the mean over the rows of ∂ ln Z / ∂(βW) at fixed means."""
        visible, hidden = self.blocks
        weights, n_rows = self.beta * self._weights[0], len(at.mean)

        def product(values: Array) -> Array:
            found: Array = _core.product(
                np.ascontiguousarray(values[:, visible].T), values[:, hidden], num_threads=self.num_threads
            )
            return found / n_rows

        found = product(at.mean)
        if order >= 2:
            found += weights * product(at.variance)
        if order >= 3:
            found += weights**2 / 2 * product(at.third)
        return found


class Network(Pairs):
    """Units with any couplings, in blocks of such as do not interact."""

    def __init__(self, couplings: Array, fields: Array, beta: float, width: float, num_threads: int) -> None:
        super().__init__(fields, beta, width, num_threads)
        self.couplings = couplings
        self.blocks = _independent(couplings)
        self._columns = [couplings[:, units] for units in self.blocks]

    def pull(self, power: int, values: Array, block: int) -> Array:
        """Σ_j J_ij^power x_j for the units i of a block."""
        columns = self._columns[block] if power == 1 else self._columns[block] ** power
        found: Array = _core.product(values, columns, num_threads=self.num_threads)
        return found

    def largest(self) -> float:
        """Largest β |J_ij|."""
        return self.beta * float(np.abs(self.couplings).max())

    def triangles(self, variance: Array, block: int) -> Array:
        """½ Σ_jk J_ij V_j J_jk V_k J_ki for the units i of a block."""
        found = np.empty((len(variance), len(self.blocks[block])))
        for row, v in enumerate(variance):
            beside = v[:, None] * self._columns[block]
            around = _core.product(self.couplings, beside, num_threads=self.num_threads)
            found[row] = (around * beside).sum(axis=0) / 2
        return found


def _independent(couplings: Array) -> tuple[Array, ...]:
    """Blocks of units without couplings between them, each unit in the first that takes it."""
    blocks: list[list[int]] = []
    for unit, row in enumerate(couplings != 0):
        for block in blocks:
            if not row[block].any():
                block.append(unit)
                break
        else:
            blocks.append([unit])
    return tuple(np.array(block) for block in blocks)


@overload
def pairs_of(model: BernoulliRBM | SpinRBM, beta: float, num_threads: int) -> Layers: ...


@overload
def pairs_of(model: BernoulliRBM | SpinRBM | Ising, beta: float, num_threads: int) -> Pairs: ...


def pairs_of(model: BernoulliRBM | SpinRBM | Ising, beta: float, num_threads: int) -> Pairs:
    """A model's units: the visible ones and then the hidden ones, or the spins."""
    parameters = [p.astype(np.float64) for p in model.parameters]
    if isinstance(model, Ising):
        couplings, fields = parameters
        return Network(couplings, fields, beta, 2.0, num_threads)
    weights, visible_bias, hidden_bias = parameters
    width = 2.0 if isinstance(model, SpinRBM) else 1.0
    return Layers(weights, np.concatenate((visible_bias, hidden_bias)), beta, width, num_threads)
