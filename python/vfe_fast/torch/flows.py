r"""A normalizing flow behind the Gaussian posterior: correlated, and no longer Gaussian."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import softplus

from ..arguments import count

__all__ = ["PlanarFlow"]


class PlanarFlow(nn.Module):
    r"""Planar maps one after another, each pushing z along one direction.

    .. math:: z' = z + u \tanh(w \cdot z + b), \quad
              \ln |\det dz'/dz| = \ln(1 + u \cdot w \, (1 - \tanh^2))

    (D. Rezende, S. Mohamed, "Variational inference with normalizing flows", ICML 2015, eqs. 10-12.) u is
    moved along w so that u.w >= -1, which makes each map invertible (their appendix A.1).

    Parameters
    ----------
    n_latents : int
        Size of z.
    n_maps : int
        How many maps.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.
    """

    def __init__(self, n_latents: int, n_maps: int = 8) -> None:
        super().__init__()
        shape = (count(n_maps, "n_maps"), count(n_latents, "n_latents"))
        self.u = nn.Parameter(0.1 * torch.randn(shape) / shape[1] ** 0.5)
        self.w = nn.Parameter(torch.randn(shape) / shape[1] ** 0.5)
        self.b = nn.Parameter(torch.zeros(shape[0]))

    def forward(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Push samples through all maps.

        Parameters
        ----------
        z : Tensor, (..., n_latents)

        Returns
        -------
        z : Tensor, (..., n_latents)
        log_det : Tensor, (...)
            ln of the volume's change: ln q falls by as much.
        """
        log_det = z.new_zeros(z.shape[:-1])
        for u, w, b in zip(self.u, self.w, self.b, strict=True):
            along = (u * w).sum()
            pushed = u + (softplus(along) - 1 - along) * w / w.square().sum()
            h = torch.tanh(z @ w + b)
            log_det = log_det + torch.log1p((softplus(along) - 1) * (1 - h.square()))
            z = z + h[..., None] * pushed
        return z, log_det
