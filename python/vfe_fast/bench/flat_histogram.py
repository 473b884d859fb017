"""The case of walkers in the space of energies, and NumPy's way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import _core
from ..arrays import Array
from .harness import Call, Case, Maker, WrongAnswerError, made, verified
from .models import all_states

__all__ = ["FLAT_HISTOGRAM_NOTE", "flat_histogram_case", "numpy_flat_histogram"]

FLAT_HISTOGRAM_NOTE = (
    "flat_histogram: seconds a trial of a walker (whether a spin turns), with fixed weights, 1/g(E) for the "
    "energies E of an Ising torus; float64. Peak: two random words a trial."
)


def flat_histogram_case(
    side: int, n_walkers: int, n_sweeps: int, *, threads: int, rivals: Mapping[str, Maker | str]
) -> Case:
    """Sweeps of walkers on a torus, as many trials as there are spins each.

    Parameters
    ----------
    side : int
        Of the torus, of side^2 spins.
    n_walkers, n_sweeps : int
        Walkers, and sweeps of each in a call.
    threads : int
        Threads to use.
    rivals : mapping of str to callable or str
        ``maker(couplings, log_g, *, offset, n_walkers, n_sweeps, threads)`` returns a callable that moves the
        walkers on and returns how often each was in which level, floor(E + offset), (n_walkers, n_levels).

    Returns
    -------
    Case
    """
    n = side * side
    log_g = _log_density(n, np.arange(4 * n + 1) - 2.0 * n)
    work: dict[str, Any] = {"offset": 2 * n + 0.5, "n_walkers": n_walkers, "n_sweeps": n_sweeps}
    work["threads"] = threads
    _check(_ours)
    n_trials = n * n_walkers * n_sweeps
    return Case(
        bench="flat_histogram",
        name=f"{side}x{side}, {n_walkers} walkers",
        ours=_ours(_torus(side), log_g, **work),
        rivals=made(verified(rivals, _check), _torus(side), log_g, **work),
        work=2.0 * n_trials,
        peak="philox",
        repeats=n_trials,
    )


def _log_density(n: int, energy: Array) -> Array:
    """ln g(E), roughly: the least ln Z(β) + βE over β, less ln(2π var E / 16) / 2, as levels are 4 apart.

    With ln Z of a large torus (L. Onsager, Phys. Rev. 65 (1944) 117), so that walkers come everywhere.
    """
    beta = np.linspace(-2.0, 2.0, 801)
    angle = (np.arange(256) + 0.5) * (np.pi / 512)
    kappa = 2.0 * np.sinh(2.0 * beta) / np.cosh(2.0 * beta) ** 2
    root = np.sqrt(np.maximum(1.0 - (kappa[:, None] * np.sin(angle)) ** 2, 0.0))
    log_z = n * (np.log(2.0 * np.cosh(2.0 * beta)) + 0.5 * np.log(0.5 * (1.0 + root)).mean(axis=1))
    variance = np.gradient(np.gradient(log_z, beta), beta)
    at = log_z + beta * energy[:, None]
    best = at.argmin(axis=1)
    narrower = 0.5 * np.log(np.maximum(2.0 * np.pi * variance[best] / 16.0, 1.0))
    return np.asarray(at.min(axis=1) - narrower)


def _torus(side: int) -> Array:
    place = np.arange(side * side).reshape(side, side)
    couplings = np.zeros((side * side, side * side))
    for axis in (0, 1):
        np.add.at(couplings, (place.ravel(), np.roll(place, -1, axis).ravel()), 1.0)
    return couplings + couplings.T


def _ours(
    couplings: Array, log_g: Array, *, offset: float, n_walkers: int, n_sweeps: int, threads: int
) -> Call:
    n = len(couplings)
    spins = (2 * np.random.default_rng(3).integers(0, 2, (n_walkers, n)) - 1).astype(np.int8)
    nothing, n_done = np.zeros(n_walkers), 0
    kept: dict[str, Any] = {
        "increment": nothing, "decay": nothing, "low": 0, "high": len(log_g), "spins": spins,
        "log_g": np.tile(log_g, (n_walkers, 1)), "visited": np.ones((n_walkers, len(log_g)), dtype=np.uint8),
        "way": np.zeros(n_walkers, dtype=np.uint8), "trips": np.zeros(n_walkers, dtype=np.int64),
    }  # fmt: skip

    def call() -> Array:
        nonlocal n_done
        histogram = np.zeros((n_walkers, len(log_g)), dtype=np.uint64)
        _core.flat_histogram(
            couplings, np.zeros(n), offset=offset, histogram=histogram, n_sweeps=n_sweeps, seed=1,
            sweep_offset=n_done, num_threads=threads, **kept,
        )  # fmt: skip
        n_done += n_sweeps
        return histogram

    return call


def _check(maker: Maker) -> None:
    """With weights from all states of seven spins, each level is visited alike, within five errors."""
    rng, n, n_walkers = np.random.default_rng(5), 7, 500
    couplings = np.triu(rng.integers(-2, 3, (n, n)).astype(np.float64), 1)
    couplings += couplings.T
    states = 2.0 * all_states(n) - 1.0
    energy = -0.5 * np.einsum("si,ij,sj->s", states, couplings, states)
    offset = float(np.abs(couplings).sum()) / 2 + 0.5
    levels = np.floor(energy + offset).astype(np.int64)
    counts = np.bincount(levels, minlength=int(2 * offset) + 1)
    log_g = np.log(np.maximum(counts, 1))
    call = maker(couplings, log_g, offset=offset, n_walkers=n_walkers, n_sweeps=40, threads=1)
    call()
    visits = np.asarray(call(), dtype=np.float64)[:, counts > 0]
    shares = visits / visits.sum(axis=1, keepdims=True)
    error = np.abs(shares.mean(axis=0) - 1 / shares.shape[1]) / (shares.std(axis=0) / np.sqrt(n_walkers))
    if visits.sum() != n_walkers * 40 * n or not error.max() < 5.0:
        raise WrongAnswerError(f"levels are visited unevenly, by {error.max():.1f} standard errors")


def numpy_flat_histogram(
    couplings: Array, log_g: Array, *, offset: float, n_walkers: int, n_sweeps: int, threads: int
) -> Call:
    """NumPy's walk, all walkers at once.

    Parameters
    ----------
    couplings : ndarray, (n, n)
        Symmetric, whole numbers.
    log_g : ndarray, (n_levels,)
        Minus the logarithms of the weights.
    offset : float
        The level of an energy is floor(E + offset).
    n_walkers, n_sweeps : int
        Walkers, and sweeps of n trials in a call.
    threads : int
        Threads to use; none of this does.

    Returns
    -------
    callable
        Moves the walkers on and returns their visits, (n_walkers, n_levels).
    """
    rng, n, walkers = np.random.Generator(np.random.SFC64(0)), len(couplings), np.arange(n_walkers)
    spins = 2.0 * rng.integers(0, 2, (n_walkers, n)) - 1.0
    fields = spins @ couplings
    energy = -0.5 * (fields * spins).sum(axis=1)

    def call() -> Array:
        nonlocal energy, fields
        visits = np.zeros((n_walkers, len(log_g)), dtype=np.int64)
        n_trials = n * n_sweeps
        sites = rng.integers(0, n, (n_trials, n_walkers))
        bars = np.log(rng.random((n_trials, n_walkers)))
        level = np.floor(energy + offset).astype(np.int64)
        for site, bar in zip(sites, bars, strict=True):
            spin = spins[walkers, site]
            after = energy + 2.0 * spin * fields[walkers, site]
            there = np.floor(after + offset).astype(np.int64)
            taken = bar < log_g[level] - log_g[there]
            energy = np.where(taken, after, energy)
            level = np.where(taken, there, level)
            turn = np.where(taken, -2.0 * spin, 0.0)
            spins[walkers, site] += turn
            fields += turn[:, None] * couplings[site]
            visits[walkers, level] += 1
        return visits

    return call
