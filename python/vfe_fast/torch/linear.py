r"""The linear variational autoencoder, whose ln p(x) is known: probabilistic principal components.

.. math:: z \sim N(0, 1), \quad x|z \sim N(W z + m, \sigma^2), \quad
          x \sim N(m, C), \; C = W W^T + \sigma^2

(M. Tipping, C. Bishop, J. R. Stat. Soc. B 61 (1999) 611; J. Lucas, G. Tucker, R. Grosse, M. Norouzi 2019.)
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from ..arguments import count
from .likelihoods import Gaussian
from .vae import VAE

__all__ = ["LinearVAE"]


class _Encoder(nn.Module):
    def __init__(self, n_visible: int, n_latents: int) -> None:
        super().__init__()
        self.mu = nn.Linear(n_visible, n_latents)
        self.log_var = nn.Parameter(torch.zeros(n_latents))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mu = self.mu(x)
        return mu, self.log_var.expand_as(mu)


class LinearVAE(VAE):
    """A VAE of linear maps: every estimate of ln p(x) can be held to the true one.

    Parameters
    ----------
    n_visible, n_latents : int
        Units of x and of z.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Examples
    --------
    >>> vae = LinearVAE(4, 2).double()
    >>> with torch.no_grad():
    ...     _ = vae.decoder.weight.copy_(torch.eye(4, 2))
    >>> vae.set_best_posterior()
    >>> x = torch.zeros(1, 4, dtype=torch.float64) + 0.5
    >>> draw = vae.draw(x, n_samples=2, rng=0)
    >>> bool((draw.log_weights - vae.log_prob(x)).abs().max() < 1e-12)  # q is the posterior, so w is constant
    True
    """

    def __init__(self, n_visible: int, n_latents: int) -> None:
        n_visible, n_latents = count(n_visible, "n_visible"), count(n_latents, "n_latents")
        super().__init__(
            _Encoder(n_visible, n_latents),
            nn.Linear(n_latents, n_visible),
            likelihood=Gaussian("learned"),
        )

    def _parts(self) -> tuple[Any, Any, Any]:
        return self.decoder.weight, self.decoder.bias, self.likelihood.log_var.exp()

    def log_prob(self, x: torch.Tensor) -> torch.Tensor:
        """ln p(x) in closed form.

        Parameters
        ----------
        x : Tensor, (batch, n_visible)

        Returns
        -------
        Tensor, (batch,)
        """
        weight, mean, variance = self._parts()
        covariance = weight @ weight.T + variance * torch.eye(len(weight), dtype=weight.dtype)
        root = torch.linalg.cholesky(covariance)
        white = torch.linalg.solve_triangular(root, (x - mean).T, upper=False)
        log_det = 2 * root.diagonal().log().sum()
        return -0.5 * (white.square().sum(0) + log_det + len(weight) * math.log(2 * math.pi))

    def posterior_of(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The true p(z | x).

        Parameters
        ----------
        x : Tensor, (batch, n_visible)

        Returns
        -------
        mean : Tensor, (batch, n_latents)
        covariance : Tensor, (n_latents, n_latents)
        """
        weight, mean, variance = self._parts()
        precision = torch.eye(weight.shape[1], dtype=weight.dtype) + weight.T @ weight / variance
        covariance = torch.linalg.inv(precision)
        return (x - mean) @ weight @ covariance / variance, covariance

    @torch.no_grad()
    def set_best_posterior(self) -> None:
        """Let q be the best diagonal one: the true mean, and variances one over the precision's diagonal."""
        weight, mean, variance = self._parts()
        precision = torch.eye(weight.shape[1], dtype=weight.dtype) + weight.T @ weight / variance
        project = torch.linalg.solve(precision, weight.T) / variance
        self.encoder.mu.weight.copy_(project)
        self.encoder.mu.bias.copy_(-project @ mean)
        self.encoder.log_var.copy_(-precision.diagonal().log())

    @torch.no_grad()
    def set_most_likely(self, data: torch.Tensor) -> None:
        """Let p be the most likely one of the data, by their principal components, and q the best for it.

        Parameters
        ----------
        data : Tensor, (n_samples, n_visible)

        Raises
        ------
        ValueError
            If there are as many latents as units, which leaves no noise.
        """
        weight = self.decoder.weight
        if weight.shape[1] >= weight.shape[0]:
            raise ValueError(
                f"n_latents: expected less than n_visible = {len(weight)}, got {weight.shape[1]}"
            )
        mean = data.mean(0)
        values, vectors = torch.linalg.eigh((data - mean).T @ (data - mean) / len(data))
        n_latents = weight.shape[1]
        noise = values[:-n_latents].mean().clamp_min(torch.finfo(weight.dtype).tiny)
        weight.copy_(vectors[:, -n_latents:] * (values[-n_latents:] - noise).clamp_min(0).sqrt())
        self.decoder.bias.copy_(mean)
        self.likelihood.log_var.copy_(noise.log())
        self.set_best_posterior()
