"""The energies of an Ising model: how many states have each, and which have the lowest."""

from __future__ import annotations

import abc
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arguments import count, inverse_temperature
from ..arrays import Array
from ..brief import brief
from ..models import Ising
from .result import FreeEnergy
from .triangle import Triangle, energy_bound

__all__ = ["DensityOfStates", "GroundState", "density_of_states", "ground_state"]

_MAX_SPINS = 36  # a few minutes
_MAX_LEVELS = 1 << 22
_LEVELS = 1000  # bins, where energies are no whole multiples of anything


class Density(abc.ABC):
    """What densities of states have in common."""

    def log_z(self, beta: float) -> float:
        """Find ln Z = ln Σ_E ρ(E) e^(-βE) at any temperature; `free_energy` says how sure it is.

        Parameters
        ----------
        beta : float
            Inverse temperature, 0 or in [2^-100, 2^100).

        Returns
        -------
        float
            In nats.

        Raises
        ------
        TypeError, ValueError
            If `beta` is not as described.
        """
        return self.free_energy(beta).log_z

    @abc.abstractmethod
    def free_energy(self, beta: float) -> FreeEnergy:
        """Free energy at any temperature, with what is known of its error."""


@dataclass(frozen=True, eq=False)
class DensityOfStates(Density):
    """How many states have each energy.

    Attributes
    ----------
    energies : ndarray, (n_levels,)
        Energies that occur, ascending; of binned ones the middle of the bin.
    counts : ndarray of uint64, (n_levels,)
        States that have them; the sum is 2^n_spins.
    bin_width : float
        0 if the energies are exact.
    """

    energies: Array
    counts: npt.NDArray[np.uint64]
    bin_width: float

    __repr__ = brief

    def free_energy(self, beta: float) -> FreeEnergy:
        """Free energy at any temperature, with what is known of its error.

        Parameters
        ----------
        beta : float
            Inverse temperature, 0 or in [2^-100, 2^100).

        Returns
        -------
        FreeEnergy
            Of kind ``"exact"`` if the energies are, else ``"consistent"``. `details`: ``error_bound``,
            β bin_width / 2, of ln Z; ``density``, this.

        Raises
        ------
        TypeError, ValueError
            If `beta` is not as described.
        """
        beta = inverse_temperature(beta)
        log_z = log_sum(np.log(self.counts.astype(np.float64)) - beta * self.energies)
        return FreeEnergy(
            value=-log_z / beta if beta > 0 else -math.inf,
            log_z=log_z,
            stderr=0.0,
            kind="exact" if self.bin_width == 0 else "consistent",
            ess=math.inf,
            converged=True,
            beta=beta,
            details={"density": self, "error_bound": 0.5 * beta * self.bin_width},
        )


def log_sum(exponent: Array) -> float:
    """ln Σ e^x, rounded once."""
    top = float(exponent.max())
    return top + math.log(math.fsum(np.exp(exponent - top)))


def density_of_states(model: Ising, *, beta: float = 1.0, n_bins: int = _LEVELS) -> FreeEnergy:
    r"""Free energy of an Ising model from the number of its states that have each energy.

    .. math:: Z = \sum_E \rho(E)\, e^{-\beta E}, \qquad \rho(E) = \sum_s \delta_{E(s), E}

    Parameters
    ----------
    model : Ising
        Up to 36 spins.
    beta : float
        Inverse temperature, 0 or in [2^-100, 2^100).
    n_bins : int
        Bins between the lowest and the highest energy possible, where couplings and fields are not whole
        multiples of a common power of two that would make at most four million levels.

    Returns
    -------
    FreeEnergy
        Of kind ``"exact"`` for couplings and fields that are such multiples (integers, halves, ...), else
        ``"consistent"``. `details`: ``density``, a `DensityOfStates`, which has the free energy at any other
        temperature; ``error_bound``, β times half the width of a bin, of ln Z.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or the model has more spins.

    Notes
    -----
    Every state is visited, those of two thirds of the spins at a time, as tables of sums: 2^n additions.

    Examples
    --------
    >>> F = density_of_states(Ising(np.ones((4, 4)) - np.eye(4)), beta=0.5)
    >>> density = F.details["density"]
    >>> density.energies.tolist(), density.counts.tolist()
    ([-6.0, 0.0, 2.0], [2, 8, 6])
    >>> F.log_z == density.log_z(0.5)
    True
    """
    _check(model)
    beta = inverse_temperature(beta)
    n_bins = count(n_bins, "n_bins", below=_MAX_LEVELS)
    levels = Levels.of(model, n_bins, _MAX_LEVELS)
    counts = np.zeros(levels.n, np.uint64)
    for _, energies in _energies(model):
        at = (energies + levels.bound) / levels.width
        at = np.rint(at) if levels.are_exact else np.clip(np.floor(at), 0, levels.n - 1)
        counts += np.bincount(at.astype(np.int64).ravel(), minlength=levels.n).astype(np.uint64)
    (found,) = np.nonzero(counts)
    return DensityOfStates(levels.energies(found), counts[found], levels.bin_width).free_energy(beta)


@dataclass(frozen=True)
class Levels:
    """Levels between the lowest and the highest energy that is possible."""

    bound: float  # of |E|
    width: float
    n: int
    are_exact: bool  # and no bins

    @classmethod
    def of(cls, model: Ising, n_bins: int, most: int) -> Levels:
        """Exact ones, if those are fewer than `most`."""
        couplings, fields = model.couplings.astype(np.float64), model.fields.astype(np.float64)
        bound = energy_bound(couplings, fields)
        quantum = _quantum(np.concatenate((couplings.ravel(), fields)), bound, most)
        if quantum > 0:
            return cls(bound, quantum, round(2 * bound / quantum) + 1, True)
        return cls(bound, max(2.0 * bound, 1e-300) / n_bins, n_bins, False)

    @property
    def bin_width(self) -> float:
        """0 if energies are exact."""
        return 0.0 if self.are_exact else self.width

    def energies(self, level: Array) -> Array:
        """Of levels, of bins their middle."""
        found: Array = (level + (0.0 if self.are_exact else 0.5)) * self.width - self.bound
        return found


def _quantum(values: Array, bound: float, most: int) -> float:
    """The largest number that all values are multiples of, if that makes fewer levels than `most`; else 0."""
    used = np.abs(values[values != 0])
    if used.size == 0:
        return 1.0
    # Whole multiples of the smallest: as far as float64 can tell, which is all that energies are known to.
    multiples = np.rint(used / used.min())
    if 2 * bound / used.min() < most and (np.abs(multiples * used.min() - used) <= 1e-15 * used).all():
        return float(used.min() * np.gcd.reduce(multiples.astype(np.int64)))
    mantissa, exponent = np.frexp(used)
    bits = (mantissa * 2.0**53).astype(np.int64)
    trailing = np.log2((bits & -bits).astype(np.float64)).astype(np.int64)
    quantum = float(np.ldexp(1.0, int((exponent - 53 + trailing).min())))
    return quantum if 2 * bound / quantum < most else 0.0


@dataclass(frozen=True, eq=False)
class GroundState:
    """The lowest energy of an Ising model.

    Attributes
    ----------
    energy : float
        Minimum of E(s).
    states : ndarray of int8, (n_found, n_spins)
        States that have it, at most as many as asked for.
    degeneracy : int
        How many there are.
    gap : float
        From the lowest energy to the next; infinite if all states have the same.
    """

    energy: float
    states: npt.NDArray[np.int8]
    degeneracy: int
    gap: float

    __repr__ = brief


def ground_state(model: Ising, *, max_states: int = 1000) -> GroundState:
    """Find the states of lowest energy, by looking at all.

    Parameters
    ----------
    model : Ising
        Up to 36 spins.
    max_states : int
        Most states to return; all are counted.

    Returns
    -------
    GroundState
        Energies that differ by less than 1e-12 of the size Σ|J_ij| + Σ|h_i| count as equal.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or the model has more spins.
    """
    _check(model)
    max_states = count(max_states, "max_states", 0)
    same = 1e-12 * energy_bound(model.couplings, model.fields)
    triangle = Triangle(model.couplings, model.fields)
    lowest = [math.inf, math.inf]  # the two lowest levels
    degeneracy, found = 0, np.zeros((0, model.n_spins), np.int8)
    for a, energies in _energies(model):
        if energies.min() > lowest[1] - same:
            continue
        least = float(energies.min())
        if least < lowest[0] - same:
            lowest, degeneracy, found = [least, lowest[0]], 0, found[:0]
        lowest[0] = min(lowest[0], least)
        at_lowest = energies <= lowest[0] + same
        b, c = np.nonzero(at_lowest)
        degeneracy += len(b)
        room = max_states - len(found)
        if room > 0 and len(b) > 0:
            some = triangle.states(np.full(min(room, len(b)), a), b[:room], c[:room])
            found = np.concatenate((found, some))
        above = energies[~at_lowest]
        if above.size:
            lowest[1] = min(lowest[1], float(above.min()))
    return GroundState(lowest[0], found, degeneracy, lowest[1] - lowest[0])


def _check(model: Any) -> None:
    if not isinstance(model, Ising):
        raise TypeError(f"model: expected an Ising, got {type(model).__name__}")
    if model.n_spins > _MAX_SPINS:
        raise ValueError(f"model: expected at most {_MAX_SPINS} spins, got 2^{model.n_spins} states")


def _energies(model: Ising) -> Iterator[tuple[int, Array]]:
    """For each state a of the first group the energies of all states (b, c) of the others; overwritten."""
    t = Triangle(model.couplings, model.fields)
    every = slice(None)
    bc = t.energy(1, 2, every) + t.own[2]
    ab, ac = t.energy(0, 1, every), -t.fields_on(0, 2, every) @ t.spins[2].T
    energies = np.empty_like(bc)
    for a in range(len(ab)):
        np.add(bc, ac[a], out=energies)
        energies += ab[a][:, None]
        yield a, energies
