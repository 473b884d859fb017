"""Partial sums of the cumulant series by order, from weak couplings to where it breaks down."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from style import panels, save

import vfe_fast as vf
from vfe_fast.free_energy import cumulant_expansion, exact
from vfe_fast.statistics import SeriesWarning


def machine(strength: float) -> vf.BernoulliRBM:
    """9 x 7 units."""
    draw = np.random.default_rng(2)
    return vf.BernoulliRBM(
        strength * draw.normal(0.1, 0.5, size=(9, 7)), draw.normal(size=9), draw.normal(size=7)
    )


def compute(small: bool = False) -> dict[str, Any]:
    """ln Z less the exact one, about the biases alone and about the mean field."""
    found: dict[str, Any] = {"strengths": [0.5, 1.5] if small else [0.25, 0.5, 1.0, 1.5, 2.0]}
    for about in ("biases alone", "mean field"):
        found[about] = []
        for strength in found["strengths"]:
            model = machine(strength)
            means = "mean_field" if about == "mean field" else None
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SeriesWarning)
                F = cumulant_expansion(model, 4 if small else 8, means=means, rng=0)
            sums = F.details["series"].partial_sums
            found[about].append((np.abs(sums - exact(model).log_z), F.converged))
    return found


def draw(numbers: dict[str, Any]) -> Any:
    """A panel for each trial distribution."""
    names = [name for name in numbers if name != "strengths"]
    figure, axes = panels(len(names))
    for each, name in zip(axes, names, strict=True):
        for strength, (off, converged) in zip(numbers["strengths"], numbers[name], strict=True):
            label = f"couplings of {strength:g}" + ("" if converged else ", not converged")
            each.plot(np.arange(1, len(off) + 1), off, ".-" if converged else ".:", label=label)
        each.set(xlabel="order", title=f"about the {name}", yscale="log")
        each.legend(frameon=False, fontsize=8)
    axes[0].set_ylabel("|ln Z - exact|")
    return figure


if __name__ == "__main__":
    save(draw(compute()), __file__)
