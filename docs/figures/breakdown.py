"""Where expansions break down: a spin glass of 16 spins as its couplings grow."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np
from style import panels, save

import vfe_fast as vf
from vfe_fast.free_energy import FreeEnergyWarning
from vfe_fast.statistics import SeriesWarning

N = 16
ORDERS = (1, 2, 3, 4)


def glass(strength: float, seed: int) -> vf.Ising:
    """Sherrington and Kirkpatrick's model with weak fields; strength 1 is its transition for many spins."""
    draw = np.random.default_rng(seed)
    upper = np.triu(draw.normal(size=(N, N)) * strength / np.sqrt(N), 1)
    return vf.Ising(upper + upper.T, 0.1 * draw.normal(size=N))


def compute(small: bool = False) -> dict[str, Any]:
    """|ln Z - exact| a spin by each method and order: the median over models, and how many TAP says hold."""
    strengths = np.geomspace(0.1, 2.0, 5 if small else 14)
    n_models = 2 if small else 8
    off: dict[str, list[float]] = {}
    holds: list[float] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FreeEnergyWarning)
        warnings.simplefilter("ignore", SeriesWarning)
        for strength in strengths:
            errors: dict[str, list[float]] = {}
            converged = []
            for seed in range(n_models):
                model = glass(strength, seed)
                exact = vf.free_energy.exact(model).log_z
                tap = functools.partial(vf.free_energy.tap, model, n_starts=4, rng=0)
                found = {f"TAP {order}": tap(order=order) for order in ORDERS[:3]}
                converged.append(found["TAP 3"].converged)
                values = {name: F.log_z for name, F in found.items()}
                sums = vf.free_energy.cumulant_expansion(model, 4).details["series"].partial_sums
                values |= {f"cumulants {k}": sums[k - 1] for k in ORDERS}
                for name, value in values.items():
                    errors.setdefault(name, []).append(abs(value - exact) / N)
            for name, of_models in errors.items():
                off.setdefault(name, []).append(float(np.median(of_models)))
            holds.append(float(np.mean(converged)))
    return {"strengths": strengths, "off": {k: np.array(v) for k, v in off.items()}, "holds": np.array(holds)}


def draw(numbers: dict[str, Any]) -> Any:
    """Left cumulants about the fields alone, right Plefka's expansion (TAP) about its own means."""
    figure, (left, right) = panels(2)
    about = ((left, "cumulants", "about independent units"), (right, "TAP", "about mean fields"))
    for axes, start, title in about:
        for name, off in numbers["off"].items():
            if name.startswith(start):
                axes.loglog(numbers["strengths"], np.maximum(off, 1e-12), ".-", label=f"order {name[-1]}")
        axes.axvline(1.0, color="gray", ls=":", lw=1)
        axes.set(xlabel="coupling λ (glass transition at 1)", ylim=(1e-9, 10), title=f"{start} {title}")
        axes.legend(frameon=False)
    left.set_ylabel("|ln Z - exact| a spin, median of 8 models")
    twin = right.twinx()
    twin.plot(numbers["strengths"], numbers["holds"], color="gray", lw=1)
    twin.set(ylim=(0, 1.02), ylabel="models where TAP 3 says it holds")
    twin.spines["top"].set_visible(False)
    return figure


if __name__ == "__main__":
    save(draw(compute()), __file__)
