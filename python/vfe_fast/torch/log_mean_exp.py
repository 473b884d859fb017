r"""ln of the mean of exponentials over the first axis, and its cumulant series, both differentiable."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from ..statistics.cumulants import cumulants
from ..statistics.gradients import cumulants_backward
from .operator import once

__all__ = ["cumulant_terms", "log_mean_exp"]


def log_mean_exp(log_weights: torch.Tensor) -> torch.Tensor:
    """ln of the mean of exp(log_weights), (n_samples, batch), over samples."""
    return _LogMeanExp.apply(log_weights)


def cumulant_terms(log_weights: torch.Tensor, order: int) -> torch.Tensor:
    """k-statistics of each column over r!, (batch, order)."""
    factorials = [math.factorial(r) for r in range(1, order + 1)]
    return _Cumulants.apply(log_weights, order) / log_weights.new_tensor(factorials)


class _LogMeanExp(torch.autograd.Function):
    """Shares are kept from the way there: the gradient is one product.

    In NumPy, since PyTorch's exponential of a few thousand numbers wakes all its threads, which then stay on
    the processors that a kernel needs.
    """

    @staticmethod
    def forward(ctx: Any, log_weights: torch.Tensor) -> torch.Tensor:
        x = log_weights.detach().numpy()
        top = x.max(axis=0)
        with np.errstate(all="ignore"):
            shares = np.exp(x - top)
            total = shares.sum(axis=0)
            ctx.save_for_backward(log_weights, torch.from_numpy(shares / total))
            return torch.from_numpy(top + np.log(total / len(x)))

    @staticmethod
    @once
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor]:
        return (ctx.saved_tensors[1] * gradient,)


class _Cumulants(torch.autograd.Function):
    """Cumulants by the kernel; their derivatives in NumPy."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, order: int) -> torch.Tensor:
        ctx.save_for_backward(x)
        values = cumulants(x.detach().numpy(), order=order, axis=0).values
        return torch.from_numpy(values).to(x.dtype)

    @staticmethod
    @once
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (x,) = ctx.saved_tensors
        found = cumulants_backward(x.detach().numpy(), gradient.detach().numpy())
        return torch.from_numpy(found).to(x.dtype), None
