"""Stochastic Lanczos quadrature of a transverse-field ring: error and stated error against temperature."""

from __future__ import annotations

from typing import Any

import numpy as np
from style import panels, save

import vfe_fast as vf


def ring(n: int) -> vf.TransverseFieldIsing:
    """J = 1, at the critical field."""
    couplings = np.zeros((n, n))
    for i in range(n):
        couplings[i, (i + 1) % n] = couplings[(i + 1) % n, i] = 1.0
    return vf.TransverseFieldIsing(vf.Ising(couplings), 1.0)


def compute(small: bool = False) -> dict[str, Any]:
    """|ln Z - exact| and standard errors for two numbers of probes, of 9 spins."""
    H = ring(5 if small else 9)
    betas = np.geomspace(0.05, 20, 4 if small else 13)
    dense = H.matrix()
    exact = np.array([vf.free_energy.trace(dense, beta=beta).log_z for beta in betas])
    found: dict[str, Any] = {"betas": betas}
    for n_probes in (8, 64):
        runs = [vf.free_energy.trace(H, beta=beta, n_probes=n_probes, rng=3) for beta in betas]
        found[n_probes] = np.array([[abs(F.log_z - e), F.stderr] for F, e in zip(runs, exact, strict=True)])
    return found


def draw(numbers: dict[Any, Any]) -> Any:
    """Errors as dots, stated ones as lines."""
    figure, (axes,) = panels(1)
    for k, n_probes in enumerate((8, 64)):
        error, stderr = numbers[n_probes].T
        axes.loglog(numbers["betas"], stderr, color=f"C{k}", label=f"{n_probes} probes, standard error")
        axes.loglog(numbers["betas"], error, ".", color=f"C{k}")
    axes.set(xlabel="β", ylabel="|ln Z - exact| (dots)", title="critical transverse-field ring, 9 spins")
    axes.legend(frameon=False)
    return figure


if __name__ == "__main__":
    save(draw(compute()), __file__)
