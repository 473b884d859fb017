"""The Gibbs-Bogoliubov-Feynman bound and its split, over temperature, and what TAP adds."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from style import panels, save

import vfe_fast as vf
from vfe_fast.free_energy import FreeEnergyWarning, exact, mean_field, tap


def magnet() -> vf.Ising:
    """18 spins that mostly align, all coupled, in weak fields."""
    draw = np.random.default_rng(3)
    upper = np.triu(draw.normal(1.0, 0.8, size=(18, 18)) / 18, 1)
    return vf.Ising(upper + upper.T, draw.normal(0.05, 0.05, 18))


def compute(small: bool = False) -> dict[str, Any]:
    """F, ⟨E⟩ and T S over T, a spin each; how far each expansion is off."""
    model, n = magnet(), 18
    temperatures = np.array([0.5, 2.0]) if small else np.linspace(0.25, 2.5, 40)
    names = ("exact", "mean field", "TAP 2", "TAP 3")
    found: dict[str, Any] = {"T": temperatures, **{name: [] for name in names}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FreeEnergyWarning)
        for T in temperatures:
            truth = exact(model, beta=1 / T, moments=True)
            found["exact"].append([truth.value / n, truth.moments.energy / n])
            bound = mean_field(model, beta=1 / T, rng=0)
            found["mean field"].append([bound.value / n, bound.details["energy"] / n])
            for name, order in (("TAP 2", 2), ("TAP 3", 3)):
                found[name].append([tap(model, order=order, beta=1 / T, rng=0).value / n, np.nan])
    return found


def draw(numbers: dict[str, Any]) -> Any:
    """Left the split, right the errors."""
    figure, (left, right) = panels(2)
    T = numbers["T"]
    for name, style in (("exact", "k-"), ("mean field", "C1--")):
        F, E = np.array(numbers[name]).T
        for values, label in ((F, "F"), (E, "⟨E⟩"), (E - F, "T S")):
            left.plot(T, values, style, lw=1.2)
            left.annotate(label, (T[-1], values[-1]), (3, -3), textcoords="offset points")
        left.plot([], [], style, label=name)
    left.set(xlabel="T", title="F = ⟨E⟩ - T S, a spin")
    exact_F = np.array(numbers["exact"])[:, 0]
    for name, color in (("mean field", "C1"), ("TAP 2", "C2"), ("TAP 3", "C3")):
        right.plot(T, np.array(numbers[name])[:, 0] - exact_F, ".-", color=color, label=name)
    right.axhline(0, color="gray", lw=0.8)
    right.set(xlabel="T", title="less the exact F, a spin")
    for axes in (left, right):
        axes.legend(frameon=False)
    return figure


if __name__ == "__main__":
    save(draw(compute()), __file__)
