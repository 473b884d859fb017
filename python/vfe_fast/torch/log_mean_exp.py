r"""ln of the mean of exponentials over the first axis, and its cumulant series, both differentiable."""

from __future__ import annotations

import math

import torch

__all__ = ["cumulant_terms", "log_mean_exp"]


def log_mean_exp(log_weights: torch.Tensor) -> torch.Tensor:
    """ln of the mean of exp(log_weights), (n_samples, batch), over samples."""
    return torch.logsumexp(log_weights, dim=0) - math.log(len(log_weights))


def cumulant_terms(log_weights: torch.Tensor, order: int) -> torch.Tensor:
    """k-statistics of each column over r!: (batch, order)."""
    n = len(log_weights)
    x = log_weights.double()
    mean = x.mean(0)
    d = x - mean
    m = [d.pow(r).mean(0) for r in range(order + 1)]
    found = [mean]
    if order >= 2:
        found.append(n / (n - 1) * m[2])
    if order >= 3:
        found.append(n**2 / ((n - 1) * (n - 2)) * m[3])
    if order >= 4:
        found.append(n**2 * ((n + 1) * m[4] - 3 * (n - 1) * m[2] ** 2) / ((n - 1) * (n - 2) * (n - 3)))
    terms = [k / math.factorial(r) for r, k in enumerate(found, start=1)]
    return torch.stack(terms, dim=1).to(log_weights.dtype)
