"""Bounds by blocks of more and more units, and by trees, of an RBM and of a spin glass."""

from __future__ import annotations

from typing import Any

import numpy as np
from style import panels, save

import vfe_fast as vf


def machine(strength: float) -> vf.BernoulliRBM:
    """14 x 10 units."""
    draw = np.random.default_rng(1)
    return vf.BernoulliRBM(strength * draw.normal(size=(14, 10)), draw.normal(size=14), draw.normal(size=10))


def glass(strength: float) -> vf.Ising:
    """24 spins, all coupled."""
    draw = np.random.default_rng(2)
    upper = np.triu(strength * draw.normal(size=(24, 24)) / np.sqrt(24), 1)
    return vf.Ising(upper + upper.T, 0.2 * draw.normal(size=24))


def compute(small: bool = False) -> dict[str, Any]:
    """F_q - F by size of the blocks and strength of the couplings; the last is that of a tree."""
    sizes = [1, 2, 4] if small else [1, 2, 3, 4, 6, 8, 12, 14]
    found: dict[str, Any] = {"sizes": sizes}
    for name, make in (("RBM, 14 x 10 units", machine), ("spin glass, 24 spins", glass)):
        found[name] = {}
        for strength in (0.5, 1.0, 2.0):
            model = make(strength)
            exact = vf.free_energy.exact(model).value
            bounds = [vf.free_energy.variational(model, size, rng=0).value for size in sizes]
            bounds.append(vf.free_energy.variational(model, tree=True, rng=0).value)
            found[name][strength] = np.array(bounds) - exact
    return found


def draw(numbers: dict[str, Any]) -> Any:
    """One panel a kind of model."""
    names = [name for name in numbers if name != "sizes"]
    figure, axes = panels(len(names))
    for each, name in zip(axes, names, strict=True):
        for strength, off in numbers[name].items():
            (line,) = each.plot(numbers["sizes"], off[:-1], ".-", label=f"couplings of {strength:g}")
            each.axhline(off[-1], color=line.get_color(), linestyle=":")
        each.set(xlabel="units a block (1: mean field); dotted: a tree", title=name, ylim=(0, None))
        each.legend(frameon=False)
    axes[0].set_ylabel("F_q - F, nats")
    return figure


if __name__ == "__main__":
    save(draw(compute()), __file__)
