"""Numba: plain loops, compiled, over the neighbors of a spin; a walker a turn of the parallel loop."""

import math

import numba
import numpy as np


def flat_histogram(couplings, log_g, *, offset, n_walkers, n_sweeps, threads):
    numba.set_num_threads(threads)
    rng = np.random.default_rng(0)
    spins = (2 * rng.integers(0, 2, (n_walkers, len(couplings))) - 1).astype(np.int8)
    fields = spins @ couplings
    energy = -0.5 * (fields * spins).sum(axis=1)
    n_others = np.count_nonzero(couplings, axis=1).max()
    others = np.argsort(couplings == 0, axis=1, kind="stable")[:, :n_others].astype(np.uint32)
    values = np.take_along_axis(couplings, others.astype(np.int64), axis=1)

    def call():
        visits = np.zeros((n_walkers, len(log_g)), dtype=np.int64)
        seeds = rng.integers(1, 1 << 63, n_walkers, dtype=np.uint64)
        _walk(values, others, log_g, offset, n_sweeps, seeds, spins, fields, energy, visits)
        return visits

    return call


@numba.njit(parallel=True, fastmath=True)
def _walk(values, others, log_g, offset, n_sweeps, seeds, spins, fields, energy, visits):
    n = spins.shape[1]
    for w in numba.prange(len(spins)):
        state, e = seeds[w], energy[w]  # xorshift64*: S. Vigna, ACM TOMS 42 (2016) 30
        level = math.floor(e + offset)
        for _ in range(n_sweeps * n):
            state ^= state >> np.uint64(12)
            state ^= state << np.uint64(25)
            state ^= state >> np.uint64(27)
            word = state * np.uint64(2685821657736338717)
            site = int(((word >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32))
            after = e + 2.0 * spins[w, site] * fields[w, site]
            there = math.floor(after + offset)
            gain = log_g[level] - log_g[there]
            uniform = ((word & np.uint64(0xFFFFFFFF)) + 0.5) * 2.0**-32
            if math.log(uniform) < gain:  # an exponential would wait for the gain: a quarter slower
                e, level = after, there
                turn = -2.0 * spins[w, site]
                spins[w, site] = -spins[w, site]
                for m in range(others.shape[1]):
                    k = others[site, m]
                    fields[w, k] += turn * values[site, m]
            visits[w, level] += 1
        energy[w] = e
