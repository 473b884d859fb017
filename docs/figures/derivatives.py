"""ln Z as a generating function: mean energies, effective temperatures, and what CD-k leaves out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from style import panels, save

import vfe_fast as vf
from vfe_fast.training import gradient_bias

STEP = 1e-4  # of the differences


def machine(norm: float) -> vf.BernoulliRBM:
    """13 x 9 units whose weights have one direction and any norm."""
    draw = np.random.default_rng(3)
    weights = draw.normal(size=(13, 9))
    return vf.BernoulliRBM(norm * weights / np.linalg.norm(weights), np.zeros(13), np.zeros(9))


def sampled_energy(rbm: vf.BernoulliRBM, beta: float, n_steps: int) -> tuple[float, float]:
    """⟨E⟩ of Gibbs chains and its standard error: chains are independent."""
    chains = vf.GibbsChains(rbm, 400, rng=1)
    chains.step(100, beta=beta)
    sums = np.zeros(400)
    for _ in range(n_steps):
        chains.step(1, beta=beta)
        sums += rbm.energy(chains.visible, chains.hidden)
    energies = sums / n_steps
    return float(energies.mean()), float(energies.std(ddof=1)) / math.sqrt(400)


def compute(small: bool = False) -> dict[str, Any]:
    """Energies by differences, by moments and by sampling; a collapse of norms; biases of CD-k."""
    betas = np.linspace(0.1, 2.0, 4 if small else 20)
    norms = [4.0, 8.0, 16.0]
    ln_z = {
        norm: np.array([F.log_z for F in vf.free_energy.exact(machine(norm), beta=betas)]) for norm in norms
    }
    rbm = machine(norms[1])
    around = [vf.free_energy.exact(rbm, beta=[b - STEP, b + STEP]) for b in betas]
    data = (np.random.default_rng(4).random((200, 13)) < 0.4).astype(np.uint8)
    n_estimates = 20 if small else 400
    ks = [1, 3, 10] if small else [1, 2, 3, 5, 10, 20, 50, 100]
    bias = {
        norm: [
            gradient_bias(machine(norm), data, n_gibbs_steps=k, n_estimates=n_estimates, rng=k).relative
            for k in ks
        ]
        for norm in norms
    }
    return {
        "betas": betas,
        "differences": np.array([-(high.log_z - low.log_z) / (2 * STEP) for low, high in around]),
        "moments": np.array([vf.free_energy.exact(rbm, beta=b, moments=True).moments.energy for b in betas]),
        "sampled": np.array([sampled_energy(rbm, b, 20 if small else 200) for b in betas]),
        "ln_z": ln_z,
        "ks": ks,
        "bias": bias,
    }


def draw(numbers: dict[str, Any]) -> Any:
    """Left ⟨E⟩; in the middle ln Z over β |W|, one curve for all norms; right the bias of CD-k."""
    figure, (left, middle, right) = panels(3)
    left.plot(numbers["betas"], numbers["differences"], color="gray", lw=4, alpha=0.5, label="-∂ ln Z / ∂β")
    left.plot(numbers["betas"], numbers["moments"], color="C0", label="exact ⟨E⟩")
    mean, stderr = numbers["sampled"].T
    left.errorbar(numbers["betas"], mean, stderr, fmt=".", color="C1", label="⟨E⟩ of Gibbs chains")
    left.set(xlabel="β", ylabel="energy", title="13 x 9 units, |W| = 8")
    left.legend(frameon=False)
    for norm, ln_z in numbers["ln_z"].items():
        middle.plot(numbers["betas"] * norm, ln_z, ".", label=f"|W| = {norm:g}")
    middle.set(xlabel="β |W| = 1 / effective T", ylabel="ln Z", title="no biases: a norm is a temperature")
    middle.legend(frameon=False)
    for norm, bias in numbers["bias"].items():
        right.loglog(numbers["ks"], bias, ".-", label=f"|W| = {norm:g}")
    right.set(xlabel="k", ylabel="|bias| / |exact gradient|", title="CD-k: colder machines need more steps")
    right.legend(frameon=False)
    return figure


if __name__ == "__main__":
    save(draw(compute()), __file__)
