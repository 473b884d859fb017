r"""Parallel tempering: chains at a ladder of temperatures that exchange their states.

Neighbors at β < β' with joint states of energies E and E' swap with probability

.. math:: \min(1, e^{(\beta' - \beta) (E' - E)}),

even and odd pairs in turns (C. Geyer 1991; K. Hukushima, K. Nemoto, J. Phys. Soc. Japan 65 (1996) 1604).
The energy is that of the joint state (v, h), whose law the chains have; the clamped free energy at β = 1 in
its place would change that law.
"""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from .. import _core
from ..arguments import count, inverse_temperature, memory_for
from ..arrays import Array
from ..brief import brief
from ..files import check_checkpoint, kept, read_checkpoint, write_arrays
from ..models import BernoulliRBM, SpinRBM
from ..random import generator, seed
from ..warned import warn
from .gibbs import ChainState, GibbsChains

__all__ = ["Swaps", "Tempered", "TemperedRun", "TemperingWarning", "parallel_tempering", "swaps"]

Tempered: TypeAlias = BernoulliRBM | SpinRBM

_ADAPTATIONS = 4  # rounds of the warm-up, each twice as long as the one before
_LEAST_REJECTION = 1e-3  # so that temperatures stay apart where all swaps are accepted
_FEW_TRIPS = 10
_FORMAT, _FORMAT_VERSION = "vfe_fast.tempering", "1"


class TemperingWarning(UserWarning):
    """Replicas that did not travel enough between the hottest and the coldest temperature."""


@dataclass(frozen=True)
class Swaps:
    """Exchanges of neighbors.

    Attributes
    ----------
    order : ndarray of int, (n_betas, n_ladders)
        Number (temperature major) of the state that goes to each place.
    lower : ndarray of int
        The lower temperature of each pair that was tried.
    probability : ndarray, (n_pairs, n_ladders)
        Of acceptance.
    """

    order: Array
    lower: Array
    probability: Array


def swaps(energy: Array, betas: Array, parity: int, rng: np.random.Generator) -> Swaps:
    """Draw the exchanges of pairs (parity, parity + 1), (parity + 2, parity + 3), ...

    Parameters
    ----------
    energy : ndarray, (n_betas, n_ladders)
        Of joint states.
    betas : ndarray, (n_betas,)
        Inverse temperatures.
    parity : {0, 1}
        Where pairs begin.
    rng : numpy.random.Generator
        Gives one number a pair and ladder.

    Returns
    -------
    Swaps
    """
    lower = np.arange(parity, len(betas) - 1, 2)
    draws = rng.random((len(lower), energy.shape[1]))
    gain = np.diff(betas)[lower, None] * (energy[lower + 1] - energy[lower])
    pair, ladder = np.nonzero(np.log(draws) < gain)
    order = np.arange(energy.size).reshape(energy.shape)
    low = lower[pair]
    order[low, ladder], order[low + 1, ladder] = order[low + 1, ladder], order[low, ladder]
    return Swaps(order, lower, np.exp(np.minimum(gain, 0.0)))


@dataclass(frozen=True, eq=False)
class TemperedRun:
    """What parallel tempering found.

    Attributes
    ----------
    betas : ndarray, (n_betas,)
        The ladder, ascending.
    energies : ndarray, (n_betas, n_ladders, n_sweeps), float64
        Joint energy of the state at each temperature after each sweep.
    acceptance : ndarray, (n_betas - 1,)
        Mean probability of the swaps of neighbors.
    round_trips : int
        How often a replica came back to the lowest beta from the highest, in all ladders.
    round_trip_time : float
        Sweeps of one replica for a round trip: all replicas' sweeps over `round_trips`; infinite if there
        were none.
    ideal_round_trip_time : float
        What it would be if energies at a temperature were independent from sweep to sweep.
    chains : GibbsChains
        The chains where they ended, temperature major; those of the last ``n_ladders`` have the last beta.
    converged : bool
        Whether there were at least ten round trips.
    """

    betas: Array
    energies: Array
    acceptance: Array
    round_trips: int
    round_trip_time: float
    ideal_round_trip_time: float
    chains: GibbsChains

    __repr__ = brief

    @property
    def converged(self) -> bool:
        """Whether there were at least ten round trips."""
        return self.round_trips >= _FEW_TRIPS

    def states(self, k: int = -1) -> tuple[Array, Array]:
        """Last joint states of all ladders at one temperature.

        Parameters
        ----------
        k : int
            Number of the temperature; that of the highest beta if not given.

        Returns
        -------
        v : ndarray, (n_ladders, n_visible)
            Visible states.
        h : ndarray, (n_ladders, n_hidden)
            Hidden states.
        """
        n_ladders = self.energies.shape[1]
        rows = np.arange(len(self.betas) * n_ladders).reshape(-1, n_ladders)[k]
        return self.chains.visible[rows], self.chains.hidden[rows]


@dataclass(frozen=True, eq=False)
class _Place:
    """Where ladders are, and what was counted since their temperatures moved last; never changed in place."""

    betas: Array
    chains: ChainState
    trips: int
    phase: Array  # int8 (n_betas, n_ladders); 1: was hot, 2: and then cold
    accepted: Array  # (n_betas - 1,): sum of probabilities
    tried: Array

    @classmethod
    def of(cls, betas: Array, chains: ChainState) -> _Place:
        """Nothing counted so far."""
        phase = np.zeros((len(betas), len(chains.visible) // len(betas)), np.int8)
        return cls(betas, chains, 0, phase, np.zeros(len(betas) - 1), np.zeros(len(betas) - 1))

    @property
    def acceptance(self) -> Array:
        """Mean probability of each pair's swaps, 1 where none was tried."""
        return np.where(self.tried > 0, self.accepted / np.maximum(self.tried, 1), 1.0)


@dataclass(frozen=True, eq=False)
class _Run:
    """How ladders move, and everything but the key that what they give depends on."""

    model: Tempered
    betas: Array
    n_ladders: int
    n_sweeps: int
    n_warmup: int
    n_steps: int
    adapt: bool

    @cached_property
    def wide(self) -> Tempered:
        """The model in float64, for its energies."""
        return type(self.model)(*(p.astype(np.float64) for p in self.model.parameters))

    @cached_property
    def identity(self) -> str:
        """A name for it."""
        digest = hashlib.sha256(f"{_core.version()} {type(self.model).__name__}".encode())
        sizes = self.n_ladders, self.n_sweeps, self.n_warmup, self.n_steps, self.adapt
        for array in (*self.model.parameters, self.betas, np.array(sizes)):
            digest.update(f"{array.shape} {array.dtype.str}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def sweeps(self, place: _Place) -> int:
        """How many were made."""
        return place.chains.step // self.n_steps

    def sweep(self, place: _Place, chains: GibbsChains, num_threads: int | None) -> tuple[_Place, Array]:
        """Gibbs steps, then swaps, then what the warm-up does; the energies after them."""
        sweeps = self.sweeps(place)
        chains.state = place.chains
        chains.step(self.n_steps, beta=np.repeat(place.betas, self.n_ladders))
        state = chains.state
        energy = self.wide.energy(chains.visible, chains.hidden, num_threads=num_threads)
        energy = energy.reshape(place.phase.shape)
        found = swaps(energy, place.betas, sweeps % 2, generator(state.seed, "tempering", sweeps))
        order = found.order.ravel()
        accepted, tried = place.accepted.copy(), place.tried.copy()
        accepted[found.lower] += found.probability.mean(axis=1)
        tried[found.lower] += 1
        phase = place.phase.ravel()[order].reshape(energy.shape)
        hottest, coldest = phase[0], phase[-1]
        trips = place.trips + int((hottest == 2).sum())
        hottest[:] = 1
        coldest[coldest == 1] = 2
        state = replace(state, visible=state.visible[order], hidden=state.hidden[order])
        moved = _Place(place.betas, state, trips, phase, accepted, tried)
        return self._warmed(moved), energy.ravel()[order].reshape(energy.shape)

    def _warmed(self, place: _Place) -> _Place:
        """Count anew at the end of each round of the warm-up; temperatures move after all but the last."""
        sweeps = self.sweeps(place)
        if sweeps == self.n_warmup:  # of rounds the last is half of all
            return _Place.of(place.betas, place.chains)
        rounds = [self.n_warmup >> k for k in range(1, _ADAPTATIONS)] if self.adapt else []
        if sweeps in rounds and place.tried.all():  # a single sweep tries every second pair
            return _Place.of(_equal_rejection(place.betas, 1.0 - place.acceptance), place.chains)
        return place


def parallel_tempering(
    model: Tempered,
    betas: Any = 16,
    *,
    beta: float = 1.0,
    n_ladders: int = 16,
    n_sweeps: int = 1000,
    n_warmup: int | None = None,
    n_steps: int = 1,
    adapt: bool = True,
    rng: Any = None,
    num_threads: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
) -> TemperedRun:
    r"""Sample a model at a ladder of temperatures between which states travel.

    Several independent ladders stand side by side in one set of Gibbs chains. In the warm-up, which is not
    part of the result, temperatures move to where all neighbors swap equally often: the rejection rates add
    up to a function of beta, which is cut in equal pieces (S. Syed, A. Bouchard-Côté, G. Deligiannidis,
    A. Doucet, J. R. Stat. Soc. B 84 (2022) 321). Then they are fixed.

    Parameters
    ----------
    model : BernoulliRBM or SpinRBM
        The model; of an `Ising` take ``model.to_spin_rbm().rbm``, see there.
    betas : int or array_like, (n_betas,)
        How many temperatures, from 0 to `beta`, evenly spaced to begin with; or the inverse temperatures,
        ascending, >= 0. At least two.
    beta : float
        Highest inverse temperature, > 0; not looked at where `betas` are given.
    n_ladders : int
        Independent ladders, >= 1.
    n_sweeps : int
        Sweeps that are recorded, >= 1, each of `n_steps` Gibbs steps and the swaps of every second pair.
    n_warmup : int, optional
        Sweeps before; half of `n_sweeps` if not given.
    n_steps : int
        Gibbs steps between swaps.
    adapt : bool
        Whether temperatures between the first and the last move in the warm-up.
    rng : int, numpy.random.Generator, numpy.random.SeedSequence or None
        See `vfe_fast.random.seed`.
    num_threads : int, optional
        Threads to use; the sample does not depend on it.
    checkpoint : path_like, optional
        File that keeps the run, written two seconds after the last time (later, if that takes more than a
        twentieth of the time) and when it ends or is interrupted. A run with the same arguments, an int for
        `rng` among them, continues from it and gives the same bits.

    Returns
    -------
    TemperedRun
        Energies, acceptance rates, round trips.

    Warns
    -----
    TemperingWarning
        If there were fewer than ten round trips.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or `checkpoint` belongs to something else.

    Examples
    --------
    >>> from vfe_fast import BernoulliRBM
    >>> rbm = BernoulliRBM([[2.0, -1.0], [3.0, 1.0]], [-1.0, -2.0], [-3.0, 0.2])
    >>> run = parallel_tempering(rbm, 4, n_sweeps=200, rng=0)
    >>> run.energies.shape, run.round_trips > 100
    ((4, 16, 200), True)
    """
    if not isinstance(model, Tempered):
        raise TypeError(f"model: expected a BernoulliRBM or SpinRBM, got {type(model).__name__}")
    ladder = _ladder(betas, beta)
    n_ladders = count(n_ladders, "n_ladders", below=1 << 31)
    n_sweeps = count(n_sweeps, "n_sweeps", below=1 << 56)
    n_warmup = n_sweeps // 2 if n_warmup is None else count(n_warmup, "n_warmup", 0, below=1 << 55)
    n_steps, key = count(n_steps, "n_steps"), seed(rng)
    check_checkpoint(checkpoint)
    with memory_for("n_sweeps", n_sweeps):
        energies = np.empty((len(ladder), n_ladders, n_sweeps))
    with memory_for("n_ladders", n_ladders):
        chains = GibbsChains(model, n_ladders * len(ladder), rng=key, num_threads=num_threads)
    run = _Run(model, ladder, n_ladders, n_sweeps, n_warmup, n_steps, bool(adapt))
    place = _Place.of(ladder, chains.state)
    if checkpoint is not None and os.path.exists(checkpoint):
        place = _read(checkpoint, run, place, energies)
    with kept(None if checkpoint is None else lambda: _write(checkpoint, run, place, energies)) as look:
        while (sweep := run.sweeps(place)) < n_warmup + n_sweeps:
            moved, energy = run.sweep(place, chains, num_threads)
            if sweep >= n_warmup:
                energies[:, :, sweep - n_warmup] = energy
            place = moved
            look()
    chains.state = place.chains
    trips = place.trips
    with np.errstate(divide="ignore", over="ignore"):
        ideal = len(ladder) * (2.0 + 2.0 * float(((1.0 - place.acceptance) / place.acceptance).sum()))
    found = TemperedRun(
        betas=place.betas,
        energies=energies,
        acceptance=place.acceptance,
        round_trips=trips,
        round_trip_time=len(ladder) * n_ladders * n_sweeps / trips if trips else math.inf,
        ideal_round_trip_time=ideal,
        chains=chains,
    )
    if not found.converged:
        warn(
            f"{trips} round trips between the hottest and the coldest temperature in {n_sweeps} sweeps; the "
            f"rarest swap has a probability of {found.acceptance.min():.2g}: more temperatures or n_sweeps "
            "are needed",
            TemperingWarning,
        )
    return found


def _ladder(betas: Any, beta: float) -> Array:
    if np.ndim(betas) == 0:
        beta = inverse_temperature(beta)
        if beta == 0:
            raise ValueError("beta: expected beta > 0, got 0")
        return np.linspace(0.0, beta, count(betas, "betas", 2, below=1 << 20))
    given = np.asarray(betas)
    if given.dtype.kind not in "fiu":
        raise TypeError(f"betas: expected real numbers, got {given.dtype}")
    ladder = given.astype(np.float64)
    if ladder.ndim != 1 or len(ladder) < 2:
        raise ValueError(f"betas: expected at least two, got an array of shape {ladder.shape}")
    if not (np.isfinite(ladder).all() and ladder[0] >= 0 and (np.diff(ladder) > 0).all()):
        raise ValueError("betas: expected ascending numbers >= 0")
    if not 2.0**-100 <= ladder[1] <= ladder[-1] < 2.0**100 or 0 < ladder[0] < 2.0**-100:
        raise ValueError("betas: expected 0 or 2^-100 <= beta < 2^100 of each")
    return ladder


def _write(path: str | os.PathLike[str], run: _Run, place: _Place, energies: Array) -> None:
    recorded = max(run.sweeps(place) - run.n_warmup, 0)
    write_arrays(path, {
        "format": _FORMAT, "format_version": _FORMAT_VERSION, "identity": run.identity,
        "seed": np.uint64(place.chains.seed), "step": np.int64(place.chains.step),
        "visible": place.chains.visible, "hidden": place.chains.hidden, "betas": place.betas,
        "trips": np.int64(place.trips), "phase": place.phase, "accepted": place.accepted,
        "tried": place.tried, "energies": energies[:, :, :recorded],
    })  # fmt: skip


def _read(path: str | os.PathLike[str], run: _Run, start: _Place, energies: Array) -> _Place:
    """Where a run was; its energies go into those."""
    name = os.fspath(path)
    found = read_checkpoint(
        path, "a checkpoint of parallel tempering", (_FORMAT, _FORMAT_VERSION), run.identity,
        "model, ladder, length",
    )  # fmt: skip
    if int(found.get("seed", -1)) != start.chains.seed:
        raise ValueError(f"checkpoint: {name} belongs to another seed than {start.chains.seed}")
    try:
        step = int(found["step"])
        chains = ChainState(found["visible"], found["hidden"], start.chains.seed, step)
        parts = {part: found[part] for part in ("betas", "phase", "accepted", "tried")}
        place = _Place(chains=chains, trips=int(found["trips"]), **parts)
        recorded = max(run.sweeps(place) - run.n_warmup, 0)
        columns = -(-run.model.n_hidden // 64) if step > 0 else 0
        expected: list[tuple[Array, tuple[int, ...]]] = [
            (chains.visible, start.chains.visible.shape),
            (chains.hidden, (len(start.chains.visible), columns)),
            (found["energies"], (*energies.shape[:2], recorded)),
            *((getattr(place, part), getattr(start, part).shape) for part in parts),
        ]
        if recorded > run.n_sweeps or any(array.shape != shape for array, shape in expected):
            raise ValueError("its chains are not those of this run")
        energies[:, :, :recorded] = found["energies"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"checkpoint: {name} is damaged: {error}") from error
    return place


def _equal_rejection(betas: Array, rejection: Array) -> Array:
    """Temperatures between which the rejection rates, linear in between, are equal."""
    barrier = np.concatenate([[0.0], np.cumsum(np.maximum(rejection, _LEAST_REJECTION))])
    moved = np.interp(np.linspace(0.0, barrier[-1], len(betas)), barrier, betas)
    moved[[0, -1]] = betas[[0, -1]]
    return moved
