"""Errors and standard errors of a stochastic trace against β, with low states apart and without."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from style import panels, save

import vfe_fast as vf
from vfe_fast.free_energy import TraceWarning, trace


def ring_log_z(n: int, field: float, beta: float) -> float:
    """Both parities of the free fermions, field > 1 (P. Pfeuty, 1970)."""
    logs = []
    for shift in (1, 0):
        k = np.pi * (2 * np.arange(n) + shift) / n
        x = beta * np.sqrt(1 + field**2 - 2 * field * np.cos(k))
        logs += [np.logaddexp(x, -x).sum(), (x + np.log(-np.expm1(-2 * x))).sum()]
    top = max(logs)
    return float(top + math.log(0.5 * np.dot([1, 1, 1, -1], np.exp(np.array(logs) - top))))


def compute(small: bool = False) -> dict[str, Any]:
    """A ring of 12 spins, Γ = 1.1."""
    n, field = (6, 1.1) if small else (12, 1.1)
    j = np.roll(np.eye(n), 1, 0)
    ring = vf.TransverseFieldIsing(vf.Ising(j + j.T), field)
    betas = np.geomspace(0.05, 20.0, 5 if small else 17)
    exact = np.array([ring_log_z(n, field, b) for b in betas])
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TraceWarning)
        for n_deflated in (0, 8):
            for n_probes in (4, 16, 64):
                runs = trace(ring, beta=betas, n_probes=n_probes, n_deflated=n_deflated, rng=1)
                off = np.array([F.log_z for F in runs]) - exact
                found[n_deflated, n_probes] = np.abs(off) / betas, np.array([F.stderr for F in runs]) / betas
    return {"betas": betas, "found": found}


def draw(numbers: dict[str, Any]) -> Any:
    """Dots: error of F; lines: the standard error that the method states."""
    figure, axes = panels(2)
    for (n_deflated, n_probes), (off, stderr) in numbers["found"].items():
        axis, color = axes[n_deflated > 0], f"C{[4, 16, 64].index(n_probes)}"
        axis.plot(numbers["betas"], np.maximum(stderr, 1e-16), color=color, label=f"{n_probes} probes")
        axis.plot(numbers["betas"], np.maximum(off, 1e-16), "o", color=color, markersize=4)
    for axis, title in zip(axes, ("all states by probes", "8 lowest states apart"), strict=True):
        axis.set(xscale="log", yscale="log", xlabel="β", ylim=(1e-10, 1), title=title)
    axes[0].set_ylabel("F - exact (dots), standard error (lines)")
    axes[0].legend(frameon=False)
    return figure


if __name__ == "__main__":
    save(draw(compute()), __file__)
