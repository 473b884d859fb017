"""The Nishimori line of the ±J model: tanh β = 1 - 2 p, where the one who infers knows the noise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from style import panels, save

import vfe_fast as vf


def bonds(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Both ends of the 2 side² bonds of a square lattice with periodic boundaries."""
    sites = np.arange(side * side).reshape(side, side)
    ends = [np.roll(sites, -1, axis).ravel() for axis in (0, 1)]
    return np.tile(sites.ravel(), 2), np.concatenate(ends)


def glass(side: int, p: float, draw: np.random.Generator) -> vf.Ising:
    """Couplings of size 1, -1 with probability p."""
    couplings = np.zeros((side * side, side * side))
    first, second = bonds(side)
    couplings[first, second] = np.where(draw.random(len(first)) < p, -1.0, 1.0)
    return vf.Ising(couplings + couplings.T)


def means(model: vf.Ising, beta: float, n_steps: int, seed: int) -> tuple[float, float, float]:
    """⟨E⟩, ⟨m²⟩, ⟨q²⟩ for given bonds: m is the overlap with what was sent (all +1), q that of two chains."""
    layers = model.to_spin_rbm(beta=beta)
    start = np.random.default_rng(seed).choice([-1, 1], (64, model.n_spins))
    start[::2] = 1  # of two chains one starts from what was sent, which is a fair sample on the line
    chains = vf.GibbsChains(layers.rbm, 64, rng=seed, start=layers.visible(start))
    chains.step(n_steps)
    sums = np.zeros(3)
    for _ in range(n_steps):
        chains.step(1)
        s = layers.spins(chains.visible, chains.hidden).astype(float)
        overlaps = (s[::2] * s[1::2]).mean(axis=1)
        sums += model.energy(s).mean(), np.square(s.mean(axis=1)).mean(), np.square(overlaps).mean()
    energy, m, q = sums / n_steps
    return float(energy), float(m), float(q)


def compute(small: bool = False) -> dict[str, Any]:
    """Averages over bonds and their standard errors, along the line and at one p across it."""
    side, n_glasses, n_steps = (4, 8, 50) if small else (8, 60, 200)
    along = [0.05, 0.15, 0.3] if small else [0.02, 0.05, 0.08, 0.11, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4]
    p_across = 0.15
    line = math.atanh(1 - 2 * p_across)
    across = np.array([0.7, 1.0, 1.4]) if small else np.linspace(0.5, 1.8, 9)

    def averages(p: float, beta: float) -> np.ndarray:
        draw = np.random.default_rng(round(1000 * p))
        of = np.array([means(glass(side, p, draw), beta, n_steps, k) for k in range(n_glasses)])
        difference = of[:, 1] - of[:, 2]
        columns = np.column_stack([of, difference])
        return np.stack([columns.mean(axis=0), columns.std(axis=0, ddof=1) / math.sqrt(n_glasses)])

    return {
        "n_bonds": 2 * side * side,
        "along": along,
        "on_line": np.array([averages(p, math.atanh(1 - 2 * p)) for p in along]),
        "across": across,
        "off_line": np.array([averages(p_across, ratio * line) for ratio in across]),
    }


def draw(numbers: dict[str, Any]) -> Any:
    """Left the energy along the line against its exact value, right both overlaps across it."""
    figure, (left, right) = panels(2)
    p = np.array(numbers["along"])
    energy, stderr = numbers["on_line"][:, 0, 0], numbers["on_line"][:, 1, 0]
    fine = np.linspace(0.01, 0.45, 100)
    left.plot(fine, -(1 - 2 * fine), color="gray", label="-tanh β = 2 p - 1")
    left.errorbar(p, energy / numbers["n_bonds"], stderr / numbers["n_bonds"], fmt=".", label="Gibbs chains")
    left.set(xlabel="p, share of wrong bonds", ylabel="energy a bond", title="on the Nishimori line")
    left.legend(frameon=False)
    for column, label in ((1, "magnetization: ⟨m²⟩"), (2, "overlap: ⟨q²⟩")):
        mean, stderr = numbers["off_line"][:, :, column].T
        right.errorbar(numbers["across"], mean, stderr, fmt=".-", label=label)
    right.axvline(1.0, color="gray", ls=":", lw=1)
    right.set(xlabel="β / β of the line", title="across it, p = 0.15: equal where β is right")
    right.legend(frameon=False)
    return figure


if __name__ == "__main__":
    save(draw(compute()), __file__)
