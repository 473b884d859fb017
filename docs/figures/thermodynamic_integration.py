"""The mean energy that is integrated, and how far the integral is off in units of its error."""

from __future__ import annotations

from typing import Any

import numpy as np
from style import panels, save

import vfe_fast as vf
from vfe_fast.free_energy import exact, thermodynamic_integration


def machine(seed: int) -> vf.BernoulliRBM:
    """8 x 6 units."""
    draw = np.random.default_rng([8, seed])
    return vf.BernoulliRBM(draw.normal(0.2, 0.8, size=(8, 6)), draw.normal(-0.5, 1, 8), draw.normal(size=6))


def compute(small: bool = False) -> dict[str, Any]:
    """⟨E⟩ over β of one model; ln Z less the exact one over its error, of many."""
    model = machine(0)
    F = thermodynamic_integration(model, n_chains=20, n_steps=20, rng=1)
    betas = np.linspace(0, 1, 5 if small else 60)
    curve = [-np.inf if b == 0 else exact(model, beta=b, moments=True).moments.energy for b in betas]
    off = []
    for k in range(5 if small else 400):
        each = machine(k)
        found = thermodynamic_integration(each, n_chains=40, n_steps=60, rng=k)
        off.append((found.log_z - exact(each).log_z) / found.stderr)
    return {
        "betas": F.details["betas"], "energies": F.details["energies"],
        "stderr": F.details["energies_stderr"], "curve": (betas[1:], curve[1:]), "off": np.array(off),
    }  # fmt: skip


def draw(numbers: dict[str, Any]) -> Any:
    """Left the integrand, right the errors."""
    figure, (left, right) = panels(2)
    left.plot(*numbers["curve"], "k-", lw=1, label="-∂ ln Z/∂β, exact")
    left.errorbar(
        numbers["betas"], numbers["energies"], numbers["stderr"], fmt="C1.", capsize=2, label="20 chains"
    )
    left.set(xlabel="β", ylabel="⟨E⟩", title="what is integrated")
    left.legend(frameon=False)
    x = np.linspace(-4, 4, 200)
    right.hist(numbers["off"], bins=np.linspace(-4, 4, 25), density=True, color="C1", alpha=0.6)
    right.plot(x, np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi), "k-", lw=1)
    inside = np.mean(np.abs(numbers["off"]) < 1)
    right.set(
        xlabel="(ln Z - exact) / stderr", title=f"{len(numbers['off'])} models, {inside:.0%} within one error"
    )
    return figure


if __name__ == "__main__":
    save(draw(compute()), __file__)
