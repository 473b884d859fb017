"""Annealing from both ends, by the number of temperatures, and what importance sampling makes of it."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from style import panels, save

import vfe_fast as vf
from vfe_fast.free_energy import WeightsWarning, ais, exact, importance, reverse_ais


def machine(strength: float) -> vf.BernoulliRBM:
    """100 x 18 units."""
    draw = np.random.default_rng(4)
    weights = strength * draw.normal(0.05, 0.3, size=(100, 18))
    return vf.BernoulliRBM(weights, draw.normal(-0.5, 1.0, 100), draw.normal(size=18))


def compute(small: bool = False) -> dict[str, Any]:
    """ln Z less the exact one: by temperatures, 100 chains; by strength of the couplings."""
    temperatures = [3, 10] if small else [3, 10, 30, 100, 300, 1000, 3000]
    strengths = [0.5] if small else [0.25, 0.5, 0.75, 1.0, 1.25, 1.5]
    found: dict[str, Any] = {"temperatures": temperatures, "strengths": strengths}
    model = machine(1.0)
    truth = exact(model).log_z

    def off(F: vf.FreeEnergy, log_z: float) -> tuple[float, float, float]:
        return F.log_z - log_z, F.stderr, float(F.converged)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", WeightsWarning)
        found["ais"] = [off(ais(model, n, 100, rng=1), truth) for n in temperatures]
        found["reverse_ais"] = [off(reverse_ais(model, None, n, 100, rng=1), truth) for n in temperatures]
        found["simple"] = []
        for strength in strengths:
            weaker = machine(strength)
            found["simple"].append(off(importance(weaker, n_samples=10_000, rng=1), exact(weaker).log_z))
    return found


def draw(numbers: dict[str, Any]) -> Any:
    """Left annealing, right importance sampling."""
    figure, (left, right) = panels(2)

    def show(axes: Any, x: list[float], name: str, label: str) -> None:
        values, errors, converged = np.array(numbers[name]).T
        (line, *_) = axes.errorbar(x, values, errors, fmt=".-", capsize=2, label=label)
        doubtful = converged == 0
        axes.plot(np.array(x)[doubtful], values[doubtful], "o", color=line.get_color(), mfc="white", zorder=3)

    show(left, numbers["temperatures"], "ais", "from independent units")
    show(left, numbers["temperatures"], "reverse_ais", "from the model")
    left.set(xscale="log", xlabel="temperatures", ylabel="ln Z - exact", title="100 chains each way")
    show(right, numbers["strengths"], "simple", "10,000 samples of q")
    right.set(xlabel="strength of the couplings", title="importance sampling")
    for axes in (left, right):
        axes.axhline(0, color="gray", lw=0.8)
        axes.legend(frameon=False)
    return figure


if __name__ == "__main__":
    save(draw(compute()), __file__)
