"""Real numbers sampled by dynamics: what a step without a test costs in bias, what one brings in samples."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from style import panels, save

import vfe_fast as vf
from vfe_fast.sampling import SamplingWarning, hmc, langevin


def machine() -> vf.GaussianRBM:
    """6 x 4 units, whose visible units are of a mixture of sixteen normal laws."""
    draw = np.random.default_rng(5)
    weights, a, b = 0.8 * draw.normal(size=(6, 4)), draw.normal(size=6), draw.normal(size=4)
    return vf.GaussianRBM(weights, a, b, np.ones(6))


def exact_variance(rbm: vf.GaussianRBM) -> float:
    """Σ_i Var v_i, by all states of h."""
    w, a, b, sigma = rbm.parameters
    h = (np.arange(16)[:, None] >> np.arange(4) & 1).astype(float)
    centers = a + h @ w.T
    share = np.exp(h @ b + ((centers**2 - a**2) / (2 * sigma**2)).sum(axis=1))
    share /= share.sum()
    return float((share @ centers**2 + sigma**2 - (share @ centers) ** 2).sum())


def compute(small: bool = False) -> dict[str, Any]:
    """Σ Var v and effective samples a gradient, by step of ULA and MALA, and of HMC with its own."""
    rbm, n_samples = machine(), 100 if small else 2000
    start = 3 * np.random.default_rng(0).normal(size=(16, 6))
    steps = [0.3, 1.0] if small else [0.2, 0.35, 0.5, 0.7, 0.9, 1.1, 1.3, 1.5]
    found: dict[str, Any] = {"steps": steps, "exact": exact_variance(rbm)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SamplingWarning)
        for name, adjusted in (("ULA", False), ("MALA", True)):
            runs = [
                langevin(rbm, start, n_samples, adjusted=adjusted, step_size=step, n_steps=5, rng=1)
                for step in steps
            ]
            variance = [run.samples.reshape(-1, 6).var(axis=0).sum() for run in runs]
            found[name] = variance, [run.ess.min() / (16 * 5 * n_samples) for run in runs]
        run = hmc(rbm, start, n_samples, rng=1)
        n_gradients = 16 * n_samples * 1.6 / run.step_size
        found["HMC"] = run.samples.reshape(-1, 6).var(axis=0).sum(), run.ess.min() / n_gradients
    return found


def draw(numbers: dict[str, Any]) -> Any:
    """Left the bias, right the yield."""
    figure, (left, right) = panels(2)
    for name in ("ULA", "MALA"):
        variance, worth = numbers[name]
        left.plot(numbers["steps"], np.array(variance) / numbers["exact"] - 1, ".-", label=name)
        right.plot(numbers["steps"], worth, ".-", label=name)
    variance, worth = numbers["HMC"]
    left.axhline(variance / numbers["exact"] - 1, color="C2", ls="--", label="HMC, its own step")
    right.axhline(worth, color="C2", ls="--", label="HMC, its own step")
    left.axhline(0, color="gray", lw=0.8)
    left.set(xlabel="step ε", ylabel="Σ Var v / exact - 1", title="no test, a law that is off")
    right.set(xlabel="step ε", ylabel="effective samples a gradient", title="the slowest of six dimensions")
    for axes in (left, right):
        axes.legend(frameon=False)
    return figure


if __name__ == "__main__":
    save(draw(compute()), __file__)
