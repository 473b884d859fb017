r"""The density of states of Ising models too large to look at all states, by walks that are flat in energy.

.. math:: Z = \sum_E \rho(E)\, e^{-\beta E}

F. Wang, D. Landau, Phys. Rev. Lett. 86 (2001) 2050; increments that fall as 1/t: R. Belardinelli, V. Pereyra,
J. Chem. Phys. 127 (2007) 184105. What they find serves as the weights of a multicanonical run (B. Berg, T.
Neuhaus, Phys. Rev. Lett. 68 (1992) 9), whose law is known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import _core
from ..arguments import count, inverse_temperature, memory_for, real, threads
from ..arrays import Array
from ..brief import brief
from ..models import Ising
from ..random import generator, seed
from ..warned import warn
from .result import FreeEnergy, FreeEnergyWarning
from .spectrum import Density, Levels, log_sum

__all__ = ["MOST_LEVELS", "SampledDensityOfStates", "WangLandauWarning", "wang_landau"]

MOST_LEVELS = 1 << 16
_TRIPS = 10  # between the lowest level and the most frequent one, of all walkers
_UNSEEN = 0.05  # of the weight at a temperature, on average over the walkers
_BURN_IN = 0.1  # of the sweeps that are counted
_COARSE = 2.0**-8  # increment at which walkers first share what they have found
_AGAIN = 2.0**-5  # increment to go on with when some have found what was new to all
_ROUNDING = 1e-12  # of ln Z
_VISITS = 20  # trials a level, before it is asked whether all levels have been visited again


class WangLandauWarning(FreeEnergyWarning):
    """A density of states that not all walkers have seen, or that has not settled."""


@dataclass(frozen=True, eq=False)
class SampledDensityOfStates(Density):
    """How many states have each energy, as walkers found it.

    Attributes
    ----------
    energies : ndarray, (n_levels,)
        Energies that were visited, ascending; of binned ones the middle of the bin.
    log_counts, stderr : ndarray, (n_levels,)
        ln ρ(E), which add up to 2^n_spins, and their standard errors (jackknife over the walkers; infinite
        where only one of them was).
    bin_width : float
        0 if the energies are exact.
    histogram : ndarray of uint64, (n_walkers, n_levels)
        How often each walker was there with fixed weights.
    round_trips : ndarray of int, (n_walkers,)
        Of each walker, from the lowest energy to the most frequent one and back.
    problem : str
        What speaks against all of it; empty if nothing does.
    """

    energies: Array
    log_counts: Array
    stderr: Array
    bin_width: float
    histogram: Array
    round_trips: Array
    problem: str
    _left_out: Array = field(repr=False)  # ln ρ without each walker, (n_walkers, n_levels)

    __repr__ = brief

    def free_energy(self, beta: float) -> FreeEnergy:
        """Free energy at any temperature, with its standard error.

        Parameters
        ----------
        beta : float
            Inverse temperature, 0 or in [2^-100, 2^100).

        Returns
        -------
        FreeEnergy
            Of kind ``"consistent"``. `ess` is how many independent visits would have this standard error, at
            most as many as there were. `converged` is False if `problem` says something, or if at this
            temperature walkers have, on average, not been where more than 5 % of the weight is. `details`:
            ``error_bound``, β bin_width / 2, of the error that bins make in ln Z, which `stderr` does not
            know of; ``unseen``, that share; ``density``, this; ``problem``.

        Raises
        ------
        TypeError, ValueError
            If `beta` is not as described.

        Warns
        -----
        WangLandauWarning
            If `converged` is False.
        """
        beta = inverse_temperature(beta)
        exponent = self.log_counts - beta * self.energies
        log_z = log_sum(exponent)
        weight = np.exp(exponent - log_z)
        unseen = float(((self.histogram == 0) @ weight).mean())
        problems = [self.problem] if self.problem else []
        if unseen > _UNSEEN:
            problems.append(
                f"walkers have on average not been where {unseen:.0%} of the weight is at beta = {beta:g}"
            )
        problem = "; ".join(problems)
        if problem:
            warn(f"wang_landau: {problem}", WangLandauWarning)
        parts = np.array([log_sum(each - beta * self.energies) for each in self._left_out])
        stderr = float(_jackknife(parts))
        return FreeEnergy(
            value=-log_z / beta if beta > 0 else -math.inf,
            log_z=log_z,
            stderr=stderr,
            kind="consistent",
            ess=self._independent_visits(weight, log_z, stderr),
            converged=not problem,
            beta=beta,
            details={
                "density": self,
                "error_bound": 0.5 * beta * self.bin_width,
                "unseen": unseen,
                "problem": problem,
            },
        )

    def _independent_visits(self, weight: Array, log_z: float, stderr: float) -> float:
        """How many have this error, if one visit adds weight / share at β, less that at 0, to ln Z.

        The derivative of ln Σ H y / Σ H z with y = e^(-βE) / w and z = 1 / w by the share of H.
        """
        visits = self.histogram.sum(axis=0, dtype=np.float64)
        total, log_states = float(visits.sum()), log_sum(self.log_counts)
        if stderr <= _ROUNDING * max(abs(log_z), log_states):  # as at β = 0, where ln Z is known
            return total
        at_0 = np.exp(self.log_counts - log_states)
        variance = float((np.square(weight - at_0) / (visits / total)).sum())
        return min(total, variance / stderr**2)


def wang_landau(
    model: Ising,
    *,
    beta: float = 1.0,
    n_bins: int = 200,
    n_walkers: int = 16,
    n_sweeps: int = 100_000,
    final_increment: float = 1e-5,
    max_sweeps: int = 10_000_000,
    rng: Any = None,
    num_threads: int | None = None,
) -> FreeEnergy:
    r"""Free energy of an Ising model of any size from its density of states, which walkers find.

    Each walker learns weights 1/ρ(E) that make its visits flat in energy: ln ρ of the level where it is grows
    by an increment, which is halved whenever all levels have been visited again, and falls as 1/t after it
    would be less. They share what they have found, and learn again. Then weights are fixed, the same for
    all, and visits counted: :math:`\rho(E) \propto H(E) / w(E)`, whatever the weights. Walkers are
    independent then, and their spread is the standard error.

    Parameters
    ----------
    model : Ising
        The model. For an RBM of ±1 units, the Ising model of its units.
    beta : float
        Inverse temperature, 0 or in [2^-100, 2^100). The walks do not know it: ``details["density"]`` has all
        others, and of one that walkers have seen too little of the warning speaks alone.
    n_bins : int
        Bins of energy, where couplings and fields are no whole multiples of a number that makes at most
        65,536 levels.
    n_walkers : int
        Walkers, >= 4.
    n_sweeps : int
        Sweeps of each walker (n_spins trials) that are counted, after a tenth as many that are not.
    final_increment : float
        Of ln ρ, where learning ends; > 0.
    max_sweeps : int
        Of learning.
    rng : int, numpy.random.Generator, numpy.random.SeedSequence or None
        See `vfe_fast.random.seed`.
    num_threads : int, optional
        Threads to use; the result does not depend on it.

    Returns
    -------
    FreeEnergy
        As `SampledDensityOfStates.free_energy` says, which is ``details["density"]``. It has not converged at
        any temperature if a walker had not learned its weights within `max_sweeps`, or if all made fewer than
        ten round trips.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Warns
    -----
    WangLandauWarning
        If `converged` is False.

    Examples
    --------
    >>> ring = np.roll(np.eye(10), 1, axis=0)
    >>> F = wang_landau(Ising(ring + ring.T, np.zeros(10)), beta=0.5, n_sweeps=2000, rng=0)
    >>> bool(abs(F.log_z - 10 * np.log(2 * np.cosh(0.5))) < 0.05)
    True
    """
    if not isinstance(model, Ising):
        raise TypeError(f"model: expected an Ising, got {type(model).__name__}")
    beta = inverse_temperature(beta)
    n_bins = count(n_bins, "n_bins", below=MOST_LEVELS)
    n_walkers = count(n_walkers, "n_walkers", 4)
    n_sweeps, max_sweeps = count(n_sweeps, "n_sweeps"), count(max_sweeps, "max_sweeps")
    final = real(final_increment, "final_increment", np.finfo(np.float64).tiny)
    with memory_for("n_walkers", n_walkers):
        walk = _Walk(model, Levels.of(model, n_bins, MOST_LEVELS), n_walkers, seed(rng), threads(num_threads))
    late = walk.learn_together(final, max_sweeps)
    walk.fix_weights()
    walk.move(max(round(_BURN_IN * n_sweeps), 1))
    walk.histogram[:] = walk.trips[:] = 0
    walk.move(n_sweeps)
    problems = []
    if late:
        problems.append(f"{late} of {n_walkers} walkers had not learned their weights in max_sweeps")
    if walk.trips.sum() < _TRIPS:
        problems.append(f"{walk.trips.sum()} round trips of all walkers < {_TRIPS}")
    return walk.density("; ".join(problems)).free_energy(beta)


class _Walk:
    """Walkers, their weights, and what they count."""

    def __init__(self, model: Ising, levels: Levels, n_walkers: int, key: int, num_threads: int) -> None:
        n = model.n_spins
        self.levels, self.n_spins, self.key, self.num_threads = levels, n, key, num_threads
        couplings, fields = (p.astype(np.float64) / levels.width for p in (model.couplings, model.fields))
        offset = levels.bound / levels.width
        if levels.are_exact:  # whole numbers, so that energies are followed without rounding
            couplings, fields, offset = np.rint(couplings), np.rint(fields), round(offset) + 0.5
        self.couplings, self.fields, self.offset = couplings, fields, offset
        draw = generator(key, "flat histogram")
        self.spins = (2 * draw.integers(0, 2, (n_walkers, n)) - 1).astype(np.int8)
        self.log_g = np.zeros((n_walkers, levels.n))
        self.histogram = np.zeros((n_walkers, levels.n), dtype=np.uint64)
        self.visited = np.zeros((n_walkers, levels.n), dtype=np.uint8)
        self.way, self.trips = np.zeros(n_walkers, dtype=np.uint8), np.zeros(n_walkers, dtype=np.int64)
        self.increment, self.decay = np.ones(n_walkers), np.zeros(n_walkers)
        self.low, self.high = 0, levels.n
        self.n_done = 0

    def move(self, n_sweeps: int) -> None:
        _core.flat_histogram(
            self.couplings, self.fields, offset=self.offset, increment=self.increment, decay=self.decay,
            low=self.low, high=self.high, spins=self.spins, log_g=self.log_g, histogram=self.histogram,
            visited=self.visited, way=self.way, trips=self.trips, n_sweeps=n_sweeps, seed=self.key,
            sweep_offset=self.n_done, num_threads=self.num_threads,
        )  # fmt: skip
        self.n_done += n_sweeps

    def learn_together(self, final: float, max_sweeps: int) -> int:
        """Ever finer weights, shared at each stage, until none finds a level that was new to all."""
        increment, stage, n_known = 1.0, max(_COARSE, final), 0
        while True:
            late = self.learn(increment, stage, max_sweeps)
            self.share_weights()
            n_before, n_known = n_known, int(self.visited[0].sum())
            if late:
                return late
            if n_known > n_before:
                increment = _AGAIN
            elif stage == final:
                return late
            else:
                increment = stage
            stage = max(stage / 4, final)

    def learn(self, increment: float, final: float, max_sweeps: int) -> int:
        """Weights, with increments from one to the other; how many walkers did not get there."""
        self.histogram[:], self.increment[:], self.decay[:], begin = 0, increment, 0.0, self.n_done
        falling = np.full(len(self.spins), np.inf)  # as it stays if there are no sweeps left
        while self.n_done < max_sweeps:
            n_visited = self.visited.sum(axis=1)
            some = math.ceil(_VISITS * int(n_visited.max()) / self.n_spins)
            self.move(min(max(some, (self.n_done - begin) // 10, 1), max_sweeps - self.n_done))
            falling = self.visited.sum(axis=1) / (self.n_done * self.n_spins)
            again = ((self.histogram > 0) | (self.visited == 0)).all(axis=1) & (self.decay == 0)
            self.histogram[again] = 0
            self.increment[again] /= 2
            self.decay = np.where(
                (self.decay > 0) | (self.increment <= falling),
                self.visited.sum(axis=1).astype(np.float64),
                0.0,
            )
            if ((self.decay > 0) & (falling <= final)).all():
                return 0
        return int(np.count_nonzero((self.decay == 0) | (falling > final)))

    def share_weights(self) -> None:
        """The mean of what the walkers have learned, and the levels that any of them has found, for all."""
        seen = self.visited > 0
        log_g = np.where(seen, self.log_g, -np.inf)
        log_g -= np.logaddexp.reduce(log_g, axis=1)[:, None]
        known = seen.any(axis=0)
        total = np.where(seen, log_g, 0.0).sum(axis=0)
        mean = np.where(known, total / np.maximum(seen.sum(axis=0), 1), np.inf)
        self.log_g[:] = np.where(known, mean, mean.min())
        self.visited[:] = known
        self.low, self.high = int(np.flatnonzero(known)[0]), int(np.where(known, mean, -np.inf).argmax())

    def fix_weights(self) -> None:
        """What no walker has found is as rare as the rarest level."""
        self.visited[:] = 1
        self.increment[:] = self.decay[:] = 0.0

    def density(self, problem: str) -> SampledDensityOfStates:
        """ρ ∝ H / w of all walkers, and without each of them."""
        found = np.flatnonzero(self.histogram.any(axis=0))
        visits, log_w = self.histogram[:, found].astype(np.float64), self.log_g[0, found]

        def normalized(of: Array) -> Array:
            with np.errstate(divide="ignore"):
                log_g = log_w + np.log(of)
            scaled: Array = log_g - log_sum(log_g) + self.n_spins * math.log(2.0)
            return scaled

        left_out = np.array([normalized(visits.sum(axis=0) - each) for each in visits])
        with np.errstate(invalid="ignore"):
            stderr = np.where(np.isfinite(left_out).all(axis=0), _jackknife(left_out), np.inf)
        return SampledDensityOfStates(
            self.levels.energies(found), normalized(visits.sum(axis=0)), stderr, self.levels.bin_width,
            self.histogram[:, found], self.trips.copy(), problem, left_out,
        )  # fmt: skip


def _jackknife(left_out: Array) -> Array:
    """Standard errors of what n - 1 of n independent parts say, (n, ...), widened as few parts ask for.

    Student's law of ν = n - 1 has 68 % within 1 + 1/2ν of its scale, to the first order in 1/ν.
    """
    n = len(left_out)
    spread = ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0)
    found: Array = (1 + 0.5 / (n - 1)) * np.sqrt((n - 1) / n * spread)
    return found
