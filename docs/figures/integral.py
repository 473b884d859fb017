"""Adaptive rules at work: the error of an integral against evaluations, in one to three dimensions."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from style import panels, save

from vfe_fast.free_energy import QuadratureWarning, integral


def compute(small: bool = False) -> dict[str, Any]:
    """Error and its estimate for normal laws whose widths differ by 30, as the tolerance falls."""
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", QuadratureWarning)
        for d in (1, 2) if small else (1, 2, 3):
            stiffness = np.geomspace(1, 1000, d) if d > 1 else np.array([1000.0])
            exact = d / 2 * math.log(2 * math.pi) - 0.5 * float(np.log(stiffness).sum())
            rows = []
            for tolerance in 10.0 ** -np.arange(1, 5 if small or d == 3 else 11):
                F = integral(
                    lambda x, k=stiffness: 0.5 * ((x - 0.3) ** 2 @ k), [(-math.inf, math.inf)] * d,
                    tolerance=float(tolerance),
                )  # fmt: skip
                rows.append((F.details["n_evaluations"], abs(F.log_z - exact), F.details["error_estimate"]))
            found[d] = np.array(rows)
    return found


def draw(numbers: dict[Any, Any]) -> Any:
    """Estimates as lines, errors as dots."""
    figure, (axes,) = panels(1)
    for k, (d, rows) in enumerate(numbers.items()):
        n, error, estimate = rows.T
        axes.loglog(n, estimate, "-", color=f"C{k}", label=f"{d} dimension{'s' * (d > 1)}, estimate")
        axes.loglog(n, np.maximum(error, 1e-16), ".", color=f"C{k}")
    axes.set(
        xlabel="evaluations of the energy",
        ylabel="error of ln Z (dots)",
        title="normal laws on infinite ranges",
    )
    axes.legend(frameon=False)
    return figure


if __name__ == "__main__":
    save(draw(compute()), __file__)
