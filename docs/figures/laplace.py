"""Laplace's method with and without its next order, against the exact free energy."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from style import panels, save

import vfe_fast as vf
from vfe_fast.free_energy import LaplaceWarning, laplace


def machine(strength: float) -> vf.GaussianRBM:
    """8 x 5 units."""
    draw = np.random.default_rng(4)
    weights, a, b = strength * draw.normal(size=(8, 5)), draw.normal(size=8), draw.normal(size=5)
    return vf.GaussianRBM(weights, a, b, np.ones(8))


def compute(small: bool = False) -> dict[str, Any]:
    """Errors in ln Z of both orders: ln m! by size of m, and a GaussianRBM by strength of its weights."""
    sizes = [2, 10] if small else [1, 2, 3, 5, 10, 20, 50, 100]
    strengths = [0.1, 0.4] if small else [0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6]
    factorials, machines = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LaplaceWarning)
        for m in sizes:
            energy, gradient = (
                (lambda t, m=m: (np.exp(t) - m * t).sum(axis=1)),
                (lambda t, m=m: np.exp(t) - m),
            )
            F = laplace(energy, [[0.5]], gradient=gradient)
            factorials.append(np.abs(F.details["orders"] - math.lgamma(m)))
        for strength in strengths:
            rbm = machine(strength)
            F = laplace(rbm, rbm.visible_bias[None])
            machines.append(np.abs(F.details["orders"] - vf.free_energy.exact(rbm).log_z))
    found = {"sizes": sizes, "factorials": np.array(factorials)}
    return found | {"strengths": strengths, "machines": np.array(machines)}


def draw(numbers: dict[str, Any]) -> Any:
    """One panel each."""
    figure, (left, right) = panels(2)
    for k, label in enumerate(("at the minimum", "with the next order")):
        left.loglog(numbers["sizes"], numbers["factorials"][:, k], ".-", label=label)
        right.semilogy(numbers["strengths"], numbers["machines"][:, k], ".-", label=label)
    left.set(xlabel="m", ylabel="|ln Z - exact|", title="ln Γ(m): Stirling")
    right.set(xlabel="size of the weights", title="GaussianRBM, 8 x 5 units")
    for axes in (left, right):
        axes.legend(frameon=False)
    return figure


if __name__ == "__main__":
    save(draw(compute()), __file__)
