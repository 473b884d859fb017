"""What exact sums give: the density of states of a spin glass, and its thermodynamics."""

from __future__ import annotations

from typing import Any

import numpy as np
from style import panels, save

import vfe_fast as vf
from vfe_fast.free_energy import density_of_states, exact


def glass(n: int) -> vf.Ising:
    """±1 couplings of all pairs, scaled so that energies are of order n."""
    draw = np.random.default_rng(6)
    upper = np.triu(draw.choice([-1.0, 1.0], size=(n, n)), 1)
    return vf.Ising((upper + upper.T) / np.sqrt(n), np.zeros(n))


def compute(small: bool = False) -> dict[str, Any]:
    """ln g(E), and F, ⟨E⟩ and the heat capacity over T."""
    n = 12 if small else 24
    model = glass(n)
    temperatures = np.linspace(0.1, 2.5, 5 if small else 60)
    sums = exact(model, beta=1 / temperatures, moments=True)
    F, energy = np.array([f.value for f in sums]), np.array([f.moments.energy for f in sums])
    capacity = np.array([f.moments.energy_variance for f in sums]) / temperatures**2
    states = density_of_states(model).details["density"]
    return {
        "n": n, "T": temperatures, "F": F / n, "energy": energy / n, "capacity": capacity / n,
        "levels": states.energies / n, "log_counts": np.log(states.counts) / n,
    }  # fmt: skip


def draw(numbers: dict[str, Any]) -> Any:
    """Left the density of states, right what its Laplace transform gives."""
    figure, (left, right) = panels(2)
    left.plot(numbers["levels"], numbers["log_counts"], ".", ms=2)
    left.set(xlabel="E / n", ylabel="ln g(E) / n", title=f"a glass of {numbers['n']} spins, all states")
    for name, label in (("F", "F"), ("energy", "⟨E⟩"), ("capacity", "heat capacity")):
        right.plot(numbers["T"], numbers[name], label=label)
    right.set(xlabel="T", title="-βF = ln Σ g(E) e^(-βE), a spin")
    right.legend(frameon=False)
    return figure


if __name__ == "__main__":
    save(draw(compute()), __file__)
