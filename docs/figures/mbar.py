"""ln Z of the critical torus against the number of temperatures, and F of its magnetization."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from style import panels, save

import vfe_fast as vf
from vfe_fast.free_energy import MbarWarning, bar, mbar, umbrella

CRITICAL = 0.5 * math.log(1 + math.sqrt(2))
KAUFMAN = 93.61030051022210630630881  # ln Z, Phys. Rev. 76 (1949) 1232


def torus(side: int) -> vf.Ising:
    """Spins on a square lattice with periodic boundaries, J = 1."""
    numbers = np.arange(side * side).reshape(side, side)
    couplings = np.zeros((side * side, side * side))
    for axis in (0, 1):
        near = np.roll(numbers, 1, axis).ravel()
        couplings[numbers.ravel(), near] += 1.0
        couplings[near, numbers.ravel()] += 1.0
    return vf.Ising(couplings)


def compute(small: bool = False) -> dict[str, Any]:
    """Errors of both methods for several ladders, and profiles at several temperatures."""
    ladders = [4, 8] if small else [2, 3, 4, 6, 8, 12, 16, 24]
    model, n_sweeps = torus(10), 50 if small else 400
    found: dict[str, list[Any]] = {"mbar": [], "bar": []}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MbarWarning)
        for n in ladders:
            one = mbar(model, beta=CRITICAL, betas=n, n_sweeps=n_sweeps, n_ladders=8, rng=n)
            for name, F in (("mbar", one), ("bar", bar(model, one.details["run"], beta=CRITICAL))):
                found[name].append((F.log_z - KAUFMAN, F.stderr, F.converged))
        profiles = {}
        for ratio in (0.8, 1.0, 1.2):
            rbm = torus(6 if not small else 4).to_spin_rbm(beta=ratio * CRITICAL).rbm
            centers = np.linspace(-1, 1, 9)
            run = umbrella(rbm, centers, 30.0, n_steps=100 if small else 1500, n_units=4, rng=1)
            profiles[ratio] = (run.rows["order"], run.value, run.stderr)
    return {"ladders": ladders, "log_z": found, "profiles": profiles}


def draw(numbers: dict[str, Any]) -> Any:
    """Left the errors, open where the method says it has not converged; right the profiles."""
    figure, (left, right) = panels(2)
    for name, shift, color in (("mbar", 0.97, "C0"), ("bar", 1.03, "C1")):
        off, stderr, good = map(np.array, zip(*numbers["log_z"][name], strict=True))
        at = shift * np.array(numbers["ladders"])
        left.errorbar(at, off, stderr, fmt="none", color=color)
        left.plot(at[good], off[good], "o", color=color, label=name)
        left.plot(at[~good], off[~good], "o", color=color, markerfacecolor="white")
    left.axhline(0, color="gray", linewidth=0.8)
    left.set(
        xscale="log", xlabel="temperatures", ylabel="ln Z - exact", title="10 x 10, critical", ylim=(-1, 1)
    )
    left.set_xticks(numbers["ladders"], [str(n) for n in numbers["ladders"]])
    left.minorticks_off()
    left.legend(frameon=False)
    for ratio, (m, f, stderr) in numbers["profiles"].items():
        right.errorbar(m, f - f.min(), stderr, fmt=".-", label=f"β / β_c = {ratio}")
    right.set(
        xlabel="magnetization of a sublattice", ylabel="β (F(m) - min F)", title="6 x 6, umbrella sampling"
    )
    right.legend(frameon=False)
    return figure


if __name__ == "__main__":
    save(draw(compute()), __file__)
