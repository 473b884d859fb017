"""Size-extensivity: F of N units over N, of models that are many copies of one small machine."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from style import panels, save

import vfe_fast as vf
from vfe_fast.free_energy import FreeEnergyWarning
from vfe_fast.statistics import SeriesWarning

BLOCK = (3, 2)


def copies(n: int) -> vf.BernoulliRBM:
    """n machines of 3 x 2 units that do not see each other, as one."""
    draw = np.random.default_rng(2)
    weights, a, b = draw.normal(size=BLOCK), draw.normal(size=3), draw.normal(size=2)
    return vf.BernoulliRBM(np.kron(np.eye(n), weights), np.tile(a, n), np.tile(b, n))


def compute(small: bool = False) -> dict[str, Any]:
    """ln Z a copy of each method, less the exact one, and its standard error."""
    counts = [1, 2, 4, 8] if small else [1, 2, 4, 8, 16, 32, 64, 128]
    exact = vf.free_energy.exact(copies(1)).log_z
    found: dict[str, list[tuple[int, float, float]]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FreeEnergyWarning)
        warnings.simplefilter("ignore", SeriesWarning)
        for n in counts:
            model = copies(n)
            of = {
                "mean field": vf.free_energy.mean_field(model, rng=0),
                "TAP 2": vf.free_energy.tap(model, rng=0),
                "importance": vf.free_energy.importance(model, n_samples=10_000, rng=0),
                "AIS": vf.free_energy.ais(model, n_temperatures=100, n_chains=1000, rng=0),
            }
            values = {name: (F.log_z, F.stderr) for name, F in of.items()}
            n_samples = None if n == 1 else 100_000
            expansion = vf.free_energy.cumulant_expansion(model, 3, n_samples=n_samples, rng=0)
            series = expansion.details["series"]
            for order, *sums in zip((1, 2, 3), series.partial_sums, series.partial_sums_stderr, strict=False):
                values[f"cumulants {order}"] = tuple(sums)
            for name, (log_z, stderr) in values.items():
                found.setdefault(name, []).append((n, log_z / n - exact, stderr / n))
    return {name: np.array(rows) for name, rows in found.items()}


def draw(numbers: dict[str, Any]) -> Any:
    """Left what scales with N by construction, right what has to sample the copies all at once."""
    figure, (left, right) = panels(2)
    for name, (n, off, stderr) in ((name, rows.T) for name, rows in numbers.items()):
        axes = right if name in ("importance", "AIS") else left
        axes.errorbar(n * sum(BLOCK), off, stderr, fmt=".-", label=name)
    for axes, title in ((left, "deterministic, and cumulants"), (right, "averages of weights")):
        axes.axhline(0, color="gray", lw=0.8)
        axes.set(xscale="log", xlabel="units N", title=title)
        axes.legend(frameon=False)
    left.set_ylabel("(ln Z - exact) a copy of 3 x 2 units")
    return figure


if __name__ == "__main__":
    save(draw(compute()), __file__)
