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


def log_mean_exp(
    *log_factors: torch.Tensor, less: torch.Tensor | None = None, precision: torch.dtype | None = None
) -> torch.Tensor:
    """ln of the mean over samples of weights, of which there are the logarithms.

    Parameters
    ----------
    *log_factors : Tensor, (n_samples, batch)
        Their sum is the logarithm of the weights,
    less : Tensor, (n_samples, batch), optional
        less this.
    precision : torch.dtype, optional
        Of what gradients go on to, if it is not theirs.

    Returns
    -------
    Tensor, (batch,)
    """
    eps = torch.finfo(log_factors[0].dtype if precision is None else precision).eps
    found: torch.Tensor = _LogMeanExp.apply(eps**2, less, *log_factors)
    return found


def cumulant_terms(log_weights: torch.Tensor, order: int) -> torch.Tensor:
    """k-statistics of each column over r!, (batch, order)."""
    factorials = [math.factorial(r) for r in range(1, order + 1)]
    return _Cumulants.apply(log_weights, order) / log_weights.new_tensor(factorials)


class _LogMeanExp(torch.autograd.Function):
    """Shares are kept from the way there: the gradient is one product.

    Shares below `least`, the square of a precision, count as 0: they cannot be seen beside the others, and
    subnormal numbers in the gradients of networks make matrix products four times as slow.

    In NumPy, since PyTorch's exponential of a few thousand numbers wakes all its threads, which then stay on
    the processors that a kernel needs.
    """

    @staticmethod
    def forward(
        ctx: Any, least: float, less: torch.Tensor | None, first: torch.Tensor, *rest: torch.Tensor
    ) -> torch.Tensor:
        x = first.detach().numpy()
        for log_factor in rest:
            x = x + log_factor.detach().numpy()
        if less is not None:
            x = x - less.detach().numpy()
        top = x.max(axis=0)
        with np.errstate(all="ignore"):
            shares = np.exp(x - top)
            total = shares.sum(axis=0)
            shares /= total
            shares[shares < least] = 0
            ctx.save_for_backward(torch.from_numpy(shares), less, first, *rest)
            return torch.from_numpy(top + np.log(total / len(x)))

    @staticmethod
    @once
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        shares, _, *log_factors = ctx.saved_tensors
        by_factor = shares * gradient
        return (None, -by_factor if ctx.needs_input_grad[1] else None, *(by_factor for _ in log_factors))


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
