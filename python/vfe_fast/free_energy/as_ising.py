"""RBMs as Ising models of their binary units, for what looks at energies of spins."""

from __future__ import annotations

import numpy as np

from ..models import BernoulliRBM, GaussianRBM, Ising, SpinRBM

__all__ = ["as_ising", "log_integral"]


def as_ising(model: BernoulliRBM | SpinRBM | GaussianRBM, beta: float) -> tuple[Ising, float]:
    """The Ising model of all units of an RBM, of a GaussianRBM that of its hidden ones.

    Returns
    -------
    ising : Ising
        Of dtype float64, for any beta.
    constant : float
        ln Z of `model` minus that of `ising`, at this beta.
    """
    if isinstance(model, GaussianRBM):
        ising, energy = model.hidden_ising()
        return ising, log_integral(model, beta) - beta * energy
    constant = 0.0
    if isinstance(model, BernoulliRBM):  # v = (1 + s) / 2
        of_weights, *of_biases = (float(p.sum(dtype=np.float64)) for p in model.parameters)
        constant = beta * (of_weights / 4 + sum(of_biases) / 2)
        model = SpinRBM.from_bernoulli(model)
    weights, a, b = (p.astype(np.float64) for p in model.parameters)
    couplings = np.block([
        [np.zeros((len(a), len(a))), weights], [weights.T, np.zeros((len(b), len(b)))],
    ])  # fmt: skip
    return Ising(couplings, np.concatenate([a, b])), constant


def log_integral(model: GaussianRBM, beta: float) -> float:
    """ln of the integral over the visible units given the hidden ones, less what depends on those."""
    return float(0.5 * np.log(2 * np.pi * model.sigma.astype(np.float64) ** 2 / beta).sum())
