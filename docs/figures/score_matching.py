"""Training a GaussianRBM without ln Z: likelihood by epoch of score matching, the exact gradient and CD."""

from __future__ import annotations

from typing import Any

import numpy as np
from style import panels, save

import vfe_fast as vf

METHODS = ("exact", "cd", "score_matching", "sliced", "denoising")


def clusters(n: int) -> tuple[vf.GaussianRBM, np.ndarray]:
    """A machine whose hidden units pick one of four clusters, and samples of it."""
    weights = 1.3 * np.random.default_rng(9).normal(size=(6, 2))
    a = -weights.sum(axis=1) / 2
    rbm = vf.GaussianRBM(weights, a, -(a @ weights) - np.square(weights).sum(axis=0) / 2, np.ones(6))
    chains = vf.GibbsChains(rbm, n, rng=1)
    chains.step(300)
    return rbm, chains.visible


def compute(small: bool = False) -> dict[str, Any]:
    """Exact mean log-likelihood of the training data, by method and epoch."""
    n_epochs = 5 if small else 60
    true, data = clusters(500 if small else 3000)
    curves = {}
    for method in METHODS:
        rbm = vf.GaussianRBM.from_data(data, n_hidden=2, rng=2)
        watch = vf.training.ExactLogLikelihood(train=data)
        history = vf.train(
            rbm, data, method=method, learn_sigma=True, n_epochs=n_epochs, batch_size=100, learning_rate=0.02,
            rng=3, callbacks=[watch],
        )  # fmt: skip
        curves[method] = history.metric("log_likelihood_train")
    best = float(true.log_likelihood(data, vf.free_energy.exact(true).log_z).mean())
    return {"curves": curves, "true": best, "data": data}


def draw(numbers: dict[str, Any]) -> Any:
    """Left the data in two of six directions, right the curves."""
    figure, (left, right) = panels(2)
    left.plot(*numbers["data"][:1000, :2].T, ".", ms=2)
    left.set(xlabel="v₁", ylabel="v₂", title="data of a machine of 6 x 2 units")
    for method, curve in numbers["curves"].items():
        right.plot(*curve, label=method.replace("_", " "))
    right.axhline(numbers["true"], color="gray", ls=":", lw=1)
    right.set(xlabel="epoch", ylabel="nats a sample, exact", title="likelihood, same step size")
    right.legend(frameon=False)
    return figure


if __name__ == "__main__":
    save(draw(compute()), __file__)
