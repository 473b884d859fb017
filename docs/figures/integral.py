"""Error and error bound of ln Z against evaluations, and ln Z of a Curie-Weiss magnet."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from style import panels, save

from vfe_fast.free_energy import integral
from vfe_fast.free_energy.thermodynamic_integration import IntegrationWarning

LINE = (-math.inf, math.inf)


def gaussian(d: int) -> tuple[Any, float]:
    """E of correlated coordinates far from the origin, and ln Z."""
    rng = np.random.default_rng(d)
    a = rng.normal(size=(d, d))
    precision, mean = a @ a.T + 0.3 * np.eye(d), 5 * rng.normal(size=d)

    def energy(x: Any) -> Any:
        y = x - mean
        return np.einsum("ni,ij,nj->n", y, precision, y) / 2

    return energy, float(0.5 * d * math.log(2 * math.pi) - 0.5 * np.linalg.slogdet(precision)[1])


def curie_weiss(n: int, beta: float) -> tuple[float, float]:
    """F / N by the integral over the field m, and by the sum over magnetizations."""
    F = integral(lambda m: n * (m**2 / 2 - np.logaddexp(beta * m, -beta * m) / beta), LINE, beta=beta)
    up = np.arange(n + 1)
    logs = np.array([-math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in up]) + math.lgamma(n + 1)
    logs = logs + beta * (2 * up - n) ** 2 / (2 * n)
    exact = logs.max() + math.log(np.exp(logs - logs.max()).sum())
    return F.log_z + 0.5 * math.log(n * beta / (2 * math.pi)), exact


def compute(small: bool = False) -> dict[str, Any]:
    """Tolerances from coarse to fine in one to four dimensions; the magnet at several sizes."""
    found: dict[int, list[Any]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IntegrationWarning)
        for d in (1, 2) if small else (1, 2, 3, 4):
            energy, exact = gaussian(d)
            finest = {1: 11, 2: 9, 3: 7, 4: 5}[d]
            for digits in range(2, 5 if small else finest + 1):
                F = integral(energy, [LINE] * d, tolerance=10.0**-digits, max_evaluations=3_000_000)
                off = abs(F.log_z - exact)
                found.setdefault(d, []).append((F.details["evaluations"], off, F.details["error_bound"]))
    betas = np.linspace(0.5, 1.5, 5 if small else 41)
    sizes = (20, 100) if small else (20, 1000)
    magnet = {n: [curie_weiss(n, b) for b in betas] for n in sizes}
    return {"found": found, "betas": betas, "magnet": magnet}


def draw(numbers: dict[str, Any]) -> Any:
    """Left errors (dots) under their bounds (lines); right F of the magnet, lines exact."""
    figure, (left, right) = panels(2, height=2.8)
    for d, rows in numbers["found"].items():
        n, off, bound = map(np.array, zip(*rows, strict=True))
        left.plot(n, bound, color=f"C{d - 1}", label=str(d))
        left.plot(n, np.maximum(off, 2e-16), "o", color=f"C{d - 1}", markersize=4)
    left.set(
        xscale="log", yscale="log", xlabel="energies computed", ylabel="error (dots), bound (lines)",
        title="Gaussians in d dimensions", ylim=(1e-16, 1),
    )  # fmt: skip
    left.legend(frameon=False, title="d", loc="lower left", bbox_to_anchor=(0.7, 0.0), ncols=2)
    for k, (n, rows) in enumerate(numbers["magnet"].items()):
        ours, exact = map(np.array, zip(*rows, strict=True))
        above = ours - n * math.log(2)
        right.plot(numbers["betas"], (exact - n * math.log(2)) / n, color=f"C{k}", label=f"N = {n}")
        right.plot(numbers["betas"][::4], above[::4] / n, "o", color=f"C{k}", markersize=4)
    right.set(xlabel="β", ylabel="ln Z / N - ln 2", title="Curie-Weiss: integral (dots), sum")
    right.legend(frameon=False)
    return figure


if __name__ == "__main__":
    save(draw(compute()), __file__)
