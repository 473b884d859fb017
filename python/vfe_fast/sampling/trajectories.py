r"""Chains of real numbers that leapfrog steps of Hamiltonian dynamics move.

With :math:`H(x, p) = \beta E(x) + \tfrac12 \sum_i p_i^2 / m_i` and momenta drawn anew for each move: the
kernel `hamiltonian` for a `GaussianRBM`, NumPy for functions of the user's. A move of one step is one of
Langevin's.
"""

from __future__ import annotations

import abc
from typing import Any, TypeAlias

import numpy as np

from .. import _core
from ..arguments import memory_for
from ..arrays import Array
from ..models import GaussianRBM
from ..random import generator
from .energies import Energy, GradientOf, Potential, potential

__all__ = ["Moves", "Trajectories", "trajectories"]

_TOO_FAR = 1000.0  # growth of H beyond which a trajectory has diverged

Moves: TypeAlias = tuple[
    Array, Array, Array, int
]  # samples, β E of them, acceptance by chain, how many diverged


def trajectories(
    energy: Energy,
    gradient: GradientOf,
    beta: float,
    x: Array,
    *,
    key: int,
    purpose: str,
    num_threads: int,
    tested: bool = True,
) -> Trajectories:
    """Chains that begin at x (n_chains, n_dimensions); `tested`: by Metropolis at the end of each move."""
    of = potential(energy, gradient, beta, x.shape[1])
    if not all(np.isfinite(part).all() for part in of(x)):
        raise ValueError("start: expected a finite energy and gradient there")
    if isinstance(energy, GaussianRBM):
        return _OfRbm(energy, beta, x, key, num_threads, tested)
    return _OfFunction(of, x, generator(key, purpose), tested)


class Trajectories(abc.ABC):
    """What both kinds have: positions x and masses, to be read and, between moves, to be set."""

    def __init__(self, x: Array, tested: bool) -> None:
        self.x = x
        self.mass = np.ones(x.shape[1])
        self._tested = tested

    @abc.abstractmethod
    def move(self, step: float, n_steps: Array, every: int = 1) -> Moves:
        """As many moves as `n_steps` has lengths, with a sample after each `every` of them."""

    @abc.abstractmethod
    def trial(self, step: float) -> float:
        """Mean acceptance of a single leapfrog step, which no chain takes."""


class _OfFunction(Trajectories):
    def __init__(self, of: Potential, x: Array, draw: np.random.Generator, tested: bool) -> None:
        super().__init__(x, tested)
        self._of = of
        self._draw = draw
        self._u, self._slope = of(x)

    def move(self, step: float, n_steps: Array, every: int = 1) -> Moves:
        n_samples = len(n_steps) // every
        with memory_for("n_samples", n_samples):
            samples, energies = (
                np.empty((len(self.x), n_samples, self.x.shape[1])),
                np.empty((len(self.x), n_samples)),
            )
        accepted, divergent = np.zeros(len(self.x)), 0
        for k, length in enumerate(n_steps):
            x, u, slope, gain = self._follow(step, int(length))
            shares = np.exp(np.minimum(gain, 0.0))
            accepted += shares
            divergent += int(np.count_nonzero(gain < -_TOO_FAR))
            taken = (
                self._draw.random(len(shares)) < shares if self._tested else np.ones(len(shares), dtype=bool)
            )
            self.x = np.where(taken[:, None], x, self.x)
            self._slope = np.where(taken[:, None], slope, self._slope)
            self._u = np.where(taken, u, self._u)
            if not self._tested and not (np.isfinite(u).all() and np.isfinite(slope).all()):
                raise ValueError(f"step_size: expected steps that do not run away, got {step:g}")
            if (k + 1) % every == 0:
                samples[:, k // every], energies[:, k // every] = self.x, self._u
        return samples, energies, accepted, divergent

    def trial(self, step: float) -> float:
        return float(np.exp(np.minimum(self._follow(step, 1)[3], 0.0)).mean())

    def _follow(self, step: float, n_steps: int) -> tuple[Array, Array, Array, Array]:
        """Where trajectories end: x, β E, its gradient, and by how much H has fallen."""
        p = self._draw.standard_normal(self.x.shape) * np.sqrt(self.mass)
        before = self._u + 0.5 * (p * p / self.mass).sum(axis=1)
        x, slope = self.x, self._slope
        with np.errstate(over="ignore", invalid="ignore"):
            p = p - 0.5 * step * slope
            for k in range(n_steps):
                x = x + step * p / self.mass
                u, slope = self._of(x)
                p = p - (step if k + 1 < n_steps else 0.5 * step) * slope
            gain = before - u - 0.5 * (p * p / self.mass).sum(axis=1)
        gain = np.where(np.isfinite(gain) & np.isfinite(slope).all(axis=1), gain, -np.inf)
        return x, u, slope, gain


class _OfRbm(Trajectories):
    def __init__(
        self, rbm: GaussianRBM, beta: float, x: Array, key: int, num_threads: int, tested: bool
    ) -> None:
        super().__init__(x, tested)
        exact = GaussianRBM(*(p.astype(np.float64, copy=False) for p in rbm.parameters))
        self._parameters, self._prepared = exact.prepared
        self._beta, self._key, self._num_threads = beta, key, num_threads
        self._n_moves = 0

    def move(self, step: float, n_steps: Array, every: int = 1) -> Moves:
        samples, energies, accepted, divergent = self._moved(step, n_steps, every)
        if not self._tested and not np.isfinite(energies).all():
            raise ValueError(f"step_size: expected steps that do not run away, got {step:g}")
        self.x = np.ascontiguousarray(samples[:, -1])
        return samples, energies, accepted, int(divergent.sum())

    def trial(self, step: float) -> float:
        return float(self._moved(step, np.ones(1, dtype=np.int64), 1)[2].mean())

    def _moved(self, step: float, n_steps: Array, every: int) -> Any:
        with memory_for("n_samples", len(n_steps) // every):
            found = _core.hamiltonian(
                *self._parameters, self.x, beta=self._beta, mass=self.mass, step=step, tested=self._tested,
                n_steps=n_steps, every=every, seed=self._key, move_offset=self._n_moves,
                num_threads=self._num_threads, prepared=self._prepared,
            )  # fmt: skip
        self._n_moves += len(n_steps)
        return found
