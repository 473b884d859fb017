"""An Ising model by brute force: every state, in float64 or in mpmath."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mpmath as mp
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class ExactIsing:
    log_z: float
    spins: Array
    spin_spin: Array
    energy: float
    energy_variance: float


def all_spins(n: int) -> npt.NDArray[np.float64]:
    """Every state of n spins, (2^n, n)."""
    return np.array([[1.0 if k >> i & 1 else -1.0 for i in range(n)] for k in range(2**n)])


def spin_energies(couplings: Array, fields: Array) -> npt.NDArray[np.float64]:
    """E of every state, pair by pair."""
    s = all_spins(len(fields))
    energy = -sum(h * s[:, i] for i, h in enumerate(np.asarray(fields, np.float64)))
    for i in range(len(fields)):
        for j in range(i):
            energy = energy - float(couplings[i][j]) * s[:, i] * s[:, j]
    return energy


def enumerate_ising(couplings: Array, fields: Array, beta: float = 1.0) -> ExactIsing:
    energy, s = spin_energies(couplings, fields), all_spins(len(fields))
    exponent = -beta * energy
    p = np.exp(exponent - exponent.max())
    log_z = exponent.max() + np.log(p.sum())
    p /= p.sum()
    mean = (p * energy).sum()
    return ExactIsing(log_z, p @ s, s.T @ (p[:, None] * s), mean, (p * (energy - mean) ** 2).sum())


def ising_mpmath(couplings: Array, fields: Array, beta: float = 1.0) -> ExactIsing:
    """The same in 50 digits."""
    n = len(fields)
    with mp.workdps(50):
        z, first, second = mp.mpf(0), mp.mpf(0), mp.mpf(0)
        spins, pairs = [mp.mpf(0)] * n, [[mp.mpf(0)] * n for _ in range(n)]
        for k in range(2**n):
            s = [1 if k >> i & 1 else -1 for i in range(n)]
            energy = -sum(mp.mpf(float(h)) * x for h, x in zip(fields, s, strict=True))
            for i in range(n):
                for j in range(i):
                    energy -= mp.mpf(float(couplings[i][j])) * s[i] * s[j]
            w = mp.exp(-mp.mpf(beta) * energy)
            z, first, second = z + w, first + w * energy, second + w * energy**2
            for i in range(n):
                spins[i] += w * s[i]
                for j in range(n):
                    pairs[i][j] += w * s[i] * s[j]
        return ExactIsing(
            float(mp.log(z)),
            np.array([float(x / z) for x in spins]),
            np.array([[float(x / z) for x in row] for row in pairs]),
            float(first / z),
            float(second / z - (first / z) ** 2),
        )


def torus(side: int, coupling: float) -> Array:
    """Couplings of a square lattice with periodic boundaries; two bonds between the same spins add up."""
    couplings = np.zeros((side * side, side * side))
    for x in range(side):
        for y in range(side):
            for other in ((x + 1) % side * side + y, x * side + (y + 1) % side):
                couplings[x * side + y, other] += coupling
                couplings[other, x * side + y] += coupling
    return couplings


def torus_log_z(rows: int, columns: int, coupling: float) -> float:
    """ln Z of the ferromagnet on a torus, by B. Kaufman, Phys. Rev. 76 (1949) 1232, in 50 digits."""
    with mp.workdps(50):
        k = mp.mpf(coupling)
        c = mp.cosh(2 * k) * mp.coth(2 * k)

        def gamma(r: int) -> Any:
            return 2 * k + mp.log(mp.tanh(k)) if r == 0 else mp.acosh(c - mp.cos(mp.pi * r / columns))

        def product(f: Any, odd: int) -> Any:
            return mp.fprod(2 * f(rows * gamma(2 * r + odd) / 2) for r in range(columns))

        total = sum(product(f, odd) for f in (mp.cosh, mp.sinh) for odd in (0, 1))
        return float(mp.log(total / 2) + rows * columns * mp.log(2 * mp.sinh(2 * k)) / 2)
