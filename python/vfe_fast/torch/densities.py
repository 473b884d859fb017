r"""Log densities of the families of `reparameterize` at given points, by PyTorch's own operations.

For what the kernel does not give: the prior's density of a sample, and that of q with its parameters held
fixed. With s = exp(log_var / 2) and x = (z - mu) / s:

=============  =====================================================================
``gaussian``   -x^2 / 2 - ln s - ln(2 pi) / 2
``laplace``    -abs(x) - ln(2 s)
``logistic``   -x - 2 softplus(-x) - ln s
``log_normal`` that of the Gaussian at ln z, less ln z
``concrete``   logistic in logit z, of location mu / T and scale 1 / T, less ln z + ln(1 - z)
=============  =====================================================================
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn.functional import softplus

__all__ = ["HALF_LOG_2PI", "log_density", "standard_normal_log_density"]

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def log_density(
    family: str, z: torch.Tensor, mu: Any, log_var: Any, temperature: float | None
) -> torch.Tensor:
    """Sum over the last axis of ln q(z)."""
    if family == "concrete":
        # y = logit z is logistic, of location mu / T and scale 1 / T; dz/dy = z (1 - z).
        resolution = torch.finfo(z.dtype)
        inside = z.clamp(resolution.tiny, 1 - resolution.eps / 2)
        t = 1.0 if temperature is None else temperature
        log_z, log_rest = inside.log(), torch.log1p(-inside)
        x = t * (log_z - log_rest) - mu
        return (math.log(t) - x - 2 * softplus(-x) - log_z - log_rest).sum(-1)
    if family == "log_normal":
        log_z = z.clamp_min(torch.finfo(z.dtype).tiny).log()
        return log_density("gaussian", log_z, mu, log_var, None) - log_z.sum(-1)
    half = 0.5 * torch.as_tensor(log_var, dtype=z.dtype)
    x = (z - mu) * torch.exp(-half)
    if family == "gaussian":
        each = -0.5 * x * x - half - HALF_LOG_2PI
    elif family == "laplace":
        each = -x.abs() - half - math.log(2)
    elif family == "logistic":
        each = -x - 2 * softplus(-x) - half
    else:
        raise ValueError(f"family: expected one with a density in PyTorch, got {family!r}")
    return each.sum(-1)


def standard_normal_log_density(z: torch.Tensor) -> torch.Tensor:
    """Sum over the last axis of ln N(z; 0, 1), in one pass."""
    return -0.5 * torch.linalg.vector_norm(z, dim=-1).square() - z.shape[-1] * HALF_LOG_2PI
