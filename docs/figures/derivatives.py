"""ln Z as a generating function: mean energies, pairs, effective temperatures; what CD-k leaves out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from style import panels, save

import vfe_fast as vf
from vfe_fast.training import gradient_bias

STEP = 1e-4  # of the differences
BETA = 1.3  # of the derivatives by weights: other than 1, so that its factor counts


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


def with_biases() -> vf.BernoulliRBM:
    """Of norm 4, with biases of all sizes, so that no two weights have the same derivative."""
    draw = np.random.default_rng(5)
    return vf.BernoulliRBM(machine(4.0).weights, draw.normal(size=13) - 0.3, draw.normal(size=9) + 0.2)


def by_weights(rbm: vf.BernoulliRBM, function: Callable[[vf.BernoulliRBM], float]) -> np.ndarray:
    """Derivatives of a function of the machine by each of its weights, by central differences."""
    found = np.empty(rbm.weights.shape)
    for ij in np.ndindex(found.shape):
        low, high = rbm.weights.copy(), rbm.weights.copy()
        low[ij] -= STEP
        high[ij] += STEP
        ends = [function(vf.BernoulliRBM(w, rbm.visible_bias, rbm.hidden_bias)) for w in (low, high)]
        found[ij] = (ends[1] - ends[0]) / (2 * STEP)
    return found


def sampled_pairs(rbm: vf.BernoulliRBM, beta: float) -> tuple[np.ndarray, np.ndarray]:
    """⟨v_i h_j⟩ of Gibbs chains and its standard error, of so few steps that one sees it."""
    chains = vf.GibbsChains(rbm, 400, rng=2)
    chains.step(100, beta=beta)
    sums = np.zeros((400, *rbm.weights.shape))
    for _ in range(5):
        chains.step(1, beta=beta)
        sums += chains.visible[:, :, None] & chains.hidden[:, None, :]
    return sums.mean(axis=0) / 5, sums.std(axis=0, ddof=1) / (5 * math.sqrt(400))


def pairs(data: np.ndarray) -> dict[str, Any]:
    """Derivatives of ln Z and of the mean of -β F(v) over data by weights, and the pairs that they are."""
    rbm = with_biases()
    moments = vf.free_energy.exact(rbm, beta=BETA, moments=True).moments
    mean, stderr = sampled_pairs(rbm, BETA)
    return {
        "free": BETA * moments.visible_hidden,
        "free differences": by_weights(rbm, lambda moved: vf.free_energy.exact(moved, beta=BETA).log_z),
        "clamped": BETA * data.T @ rbm.mean_hidden(data, beta=BETA) / len(data),
        "clamped differences": by_weights(
            rbm, lambda moved: -BETA * float(moved.free_energy(data, beta=BETA).mean())
        ),
        "chains": BETA * mean,
        "stderr": BETA * stderr,
    }


def compute(small: bool = False) -> dict[str, Any]:
    """Energies and pairs by differences, moments and sampling; a collapse of norms; biases of CD-k."""
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
        "pairs": pairs(data),
        "ln_z": ln_z,
        "ks": ks,
        "bias": bias,
    }


def draw(numbers: dict[str, Any]) -> Any:
    """⟨E⟩ and ⟨v h⟩ as derivatives; ln Z over β |W|, one curve for all norms, and the bias of CD-k."""
    figure, (energy, weights, norm, bias) = panels(4, rows=2, height=3.0)
    energy.plot(numbers["betas"], numbers["differences"], color="gray", lw=4, alpha=0.5, label="-∂ ln Z / ∂β")
    energy.plot(numbers["betas"], numbers["moments"], color="C0", label="exact ⟨E⟩")
    mean, stderr = numbers["sampled"].T
    energy.errorbar(numbers["betas"], mean, stderr, fmt=".", color="C1", label="⟨E⟩ of Gibbs chains")
    energy.set(xlabel="β", ylabel="energy", title="13 x 9 units, |W| = 8, no biases")
    energy.legend(frameon=False)
    draw_pairs(weights, numbers["pairs"])
    for size, ln_z in numbers["ln_z"].items():
        norm.plot(numbers["betas"] * size, ln_z, ".", label=f"|W| = {size:g}")
    norm.set(xlabel="β |W| = 1 / effective T", ylabel="ln Z", title="no biases: a norm is a temperature")
    norm.legend(frameon=False)
    for size, of in numbers["bias"].items():
        bias.loglog(numbers["ks"], of, ".-", label=f"|W| = {size:g}")
    bias.set(xlabel="k", ylabel="|bias| / |exact gradient|", title="CD-k: colder machines need more steps")
    bias.legend(frameon=False)
    return figure


def draw_pairs(axes: Any, of: dict[str, Any]) -> None:
    """One point a weight: the derivative over the pair that it should be; chains less exact below."""
    free, clamped, chains, stderr = (of[name].ravel() for name in ("free", "clamped", "chains", "stderr"))
    top = 1.02 * max(free.max(), clamped.max())
    axes.plot([0, top], [0, top], color="gray", lw=4, alpha=0.5)
    axes.plot(free, of["free differences"].ravel(), ".", color="C0", label="∂ ln Z / ∂W")
    axes.plot(clamped, of["clamped differences"].ravel(), ".", ms=4, color="C2", label="∂ ln Z(v) / ∂W")
    axes.set(xlabel="exact β ⟨v h⟩", title=f"all 117 weights, with biases, β = {BETA:g}")
    axes.legend(frameon=False)
    inset = axes.inset_axes((0.6, 0.12, 0.4, 0.4))
    inset.axhline(0, color="gray", lw=2, alpha=0.5)
    inset.errorbar(free, chains - free, stderr, fmt=".", ms=3, lw=0.6, color="C1")
    inset.set_title("Gibbs chains - exact", fontsize="small")
    inset.tick_params(labelsize="small")
    inset.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    save(draw(compute()), __file__)
