"""Size-extensivity: F of N units over N, of models that are many copies of one small machine."""

from __future__ import annotations

import contextlib
import warnings
from typing import Any

import numpy as np
from matplotlib import colormaps
from style import panels, save

import vfe_fast as vf
from vfe_fast.free_energy import FreeEnergyWarning
from vfe_fast.statistics import SeriesWarning

BLOCK = (3, 2)
REAL = (1, 3)  # of machines with real visible units
FEW = ("umbrella", "density_of_states", "wang_landau", "trace")  # by what `compare` can do with few units
OF_REAL = ("laplace", "integral")


def copies(n: int) -> vf.BernoulliRBM:
    """n machines of 3 x 2 units that do not see each other, as one."""
    draw = np.random.default_rng(2)
    weights, a, b = draw.normal(size=BLOCK), draw.normal(size=3), draw.normal(size=2)
    return vf.BernoulliRBM(np.kron(np.eye(n), weights), np.tile(a, n), np.tile(b, n))


def real_copies(n: int) -> vf.GaussianRBM:
    """The same with a real visible unit and three hidden ones each."""
    draw = np.random.default_rng(3)
    weights, a, b = 0.6 * draw.normal(size=REAL), draw.normal(size=1), draw.normal(size=3)
    return vf.GaussianRBM(np.kron(np.eye(n), weights), np.tile(a, n), np.tile(b, n), np.full(n, 0.9))


def additive(model: vf.BernoulliRBM) -> dict[str, tuple[float, float]]:
    """ln Z and its error by functions of the model alone, and by cumulants of samples."""
    of = {
        "mean field": vf.free_energy.mean_field(model, rng=0),
        "trees": vf.free_energy.variational(model, tree=True, rng=0),
        "TAP 2": vf.free_energy.tap(model, order=2, rng=0),
        "TAP 3": vf.free_energy.tap(model, order=3, rng=0),
    }
    values = {name: (F.log_z, F.stderr) for name, F in of.items()}
    n_samples = None if model.n_visible == BLOCK[0] else 100_000
    expansion = vf.free_energy.cumulant_expansion(model, 3, n_samples=n_samples, rng=0)
    series = expansion.details["series"]
    for order, *sums in zip((1, 2, 3), series.partial_sums, series.partial_sums_stderr, strict=False):
        values[f"cumulants {order}"] = tuple(sums)
    return values


def averages(model: vf.BernoulliRBM) -> dict[str, tuple[float, float]]:
    """By means of weights."""
    of = {
        "importance": vf.free_energy.importance(model, n_samples=10_000, rng=0),
        "AIS": vf.free_energy.ais(model, n_temperatures=100, n_chains=1000, rng=0),
        "reverse AIS": vf.free_energy.reverse_ais(model, None, 100, 1000, rng=0),
    }
    return {name: (F.log_z, F.stderr) for name, F in of.items()}


def over_temperatures(model: vf.BernoulliRBM, n_sweeps: int) -> dict[str, tuple[float, float]]:
    """By chains at temperatures from 0 to 1; with pymbar two more. Each N has random numbers of its own."""
    seed = model.n_visible
    F = vf.free_energy.thermodynamic_integration(model, n_steps=n_sweeps // 2, rng=seed)
    values = {"integration": (F.log_z, F.stderr)}
    with contextlib.suppress(ModuleNotFoundError):
        F = vf.free_energy.mbar(model, n_sweeps=n_sweeps, rng=seed)
        values["mbar"] = (F.log_z, F.stderr)
        F = vf.free_energy.bar(model, F.details["run"])
        values["bar"] = (F.log_z, F.stderr)
    return values


def of_few_units(n: int) -> dict[str, tuple[float, float]]:
    """As many copies as each method takes, its bound of other errors added to its standard error."""
    model = copies(n)
    values = {"blocks": (vf.free_energy.variational(model, blocks=8, rng=0).log_z, 0.0)}
    for machine, methods in ((model, FEW), (real_copies(n), OF_REAL)):
        found = vf.free_energy.compare(machine, methods, rng=n)  # without those that refuse so many units
        values |= {name: (F.log_z, F.stderr + F.error_bound) for name, F in found.results.items()}
    return values


def compute(small: bool = False) -> dict[str, Any]:
    """ln Z a copy of each method, less the exact one, and its standard error."""
    counts = [1, 8] if small else [1, 2, 4, 8, 16, 32, 64, 128]
    exact = vf.free_energy.exact(copies(1)).log_z
    of_real = vf.free_energy.exact(real_copies(1)).log_z
    found: dict[str, list[tuple[int, float, float]]] = {}
    for n in counts:
        model = copies(n)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FreeEnergyWarning)
            warnings.simplefilter("ignore", SeriesWarning)
            values = additive(model) | averages(model) | of_few_units(n)
        values |= over_temperatures(model, 300 if small else 2000)  # which have converged, or say so
        for name, (log_z, stderr) in values.items():
            truth = of_real if name in OF_REAL else exact
            found.setdefault(name, []).append((n, log_z / n - truth, stderr / n))
    return {name: np.array(rows) for name, rows in found.items()}


def draw(numbers: dict[str, Any]) -> Any:
    """What scales with N by construction; averages; closer, what is nearly right; what takes few units."""
    figure, axes = panels(4, rows=2)
    colors = {name: colormaps["tab20"](k) for k, name in enumerate(numbers)}
    weights, closer = ["importance", "AIS", "reverse AIS"], ["trees", "AIS", "reverse AIS"]
    closer += ["integration", "mbar", "bar"]
    few = ["blocks", *FEW, *OF_REAL]
    by_construction = [name for name in numbers if name not in weights + closer[1:] + few]
    shown = (
        (by_construction, "deterministic, and cumulants"),
        (weights, "averages of weights"),
        (closer, "closer, and over temperatures"),
        (few, "of few units, and of real ones"),
    )
    for panel, (names, title) in zip(axes, shown, strict=True):
        panel.axhline(0, color="gray", lw=0.8)
        for k, name in enumerate(name for name in names if name in numbers):
            n, off, stderr = numbers[name].T
            apart = 1 + 0.07 * k if names in (closer, few) else 1.0  # so that bars do not hide bars
            units = n * sum(REAL if name in OF_REAL else BLOCK)
            panel.errorbar(apart * units, off, stderr, fmt=".-", color=colors[name], label=name)
        panel.set(xscale="log", xlabel="units N", title=title)
        if names is few:
            panel.set_ylim(-0.09, 0.17)  # room for the names
        place = "upper right" if names in (closer, few) else "best"
        panel.legend(frameon=False, ncols=1 if names is weights else 2, loc=place)
    for left in axes[::2]:
        left.set_ylabel("(ln Z - exact) a copy")
    return figure


if __name__ == "__main__":
    save(draw(compute()), __file__)
