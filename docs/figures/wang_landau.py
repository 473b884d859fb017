"""The density of states of a torus of 144 spins, by walkers, and its thermodynamics beside Kaufman's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from style import panels, save

import vfe_fast as vf
from vfe_fast.free_energy import wang_landau


def torus(size: int) -> vf.Ising:
    """The ferromagnet with couplings of 1."""
    spins = np.arange(size**2).reshape(size, size)
    couplings = np.zeros((size**2, size**2))
    for axis in (0, 1):
        np.add.at(couplings, (spins, np.roll(spins, 1, axis)), 1.0)
    return vf.Ising(couplings + couplings.T, np.zeros(size**2))


def log_z(size: int, K: float) -> float:
    """B. Kaufman, Phys. Rev. 76 (1949) 1232, in logarithms."""
    r = np.arange(size)
    products = []
    for odd in (0, 1):
        g = np.arccosh(
            np.maximum(np.cosh(2 * K) / np.tanh(2 * K) - np.cos(np.pi * (2 * r + odd) / size), 1.0)
        )
        if odd == 0:
            g[0] = 2 * K + math.log(math.tanh(K))
        x = size * np.abs(g) / 2
        products.append((1.0, (x + np.log1p(np.exp(-2 * x))).sum()))
        sign = -1.0 if g[0] < 0 else 1.0
        products.append((sign, (x + np.log1p(-np.exp(-2 * x))).sum()))
    top = max(value for _, value in products)
    total = math.log(sum(sign * math.exp(value - top) for sign, value in products)) + top
    return total - math.log(2) + size**2 / 2 * math.log(2 * math.sinh(2 * K))


def compute(small: bool = False) -> dict[str, Any]:
    """ln ρ(E), and ln Z less the exact one with its error, over β."""
    size = 6 if small else 12
    found = wang_landau(torus(size), n_sweeps=1000 if small else 100_000, rng=1).details["density"]
    betas = np.linspace(0.05, 0.8, 5 if small else 40)
    F = [found.free_energy(beta) for beta in betas]
    return {
        "n": size**2, "energies": found.energies, "log_counts": found.log_counts, "betas": betas,
        "off": [f.log_z - log_z(size, b) for f, b in zip(F, betas, strict=True)],
        "stderr": [f.stderr for f in F],
    }  # fmt: skip


def draw(numbers: dict[str, Any]) -> Any:
    """Left the density of states, right what its ln Z is off by."""
    figure, (left, right) = panels(2)
    n = numbers["n"]
    left.plot(numbers["energies"] / n, numbers["log_counts"], ".", ms=2)
    left.set(xlabel="E / n", ylabel="ln ρ(E)", title=f"a torus of {n} spins, 2^{n} states")
    right.errorbar(numbers["betas"], numbers["off"], numbers["stderr"], fmt=".", capsize=2)
    right.axhline(0, color="gray", lw=0.8)
    right.axvline(math.log(1 + math.sqrt(2)) / 2, color="gray", lw=0.8, ls=":")
    right.set(xlabel="β (dots: critical)", ylabel="ln Z - exact", title="one run, all temperatures")
    return figure


if __name__ == "__main__":
    save(draw(compute()), __file__)
