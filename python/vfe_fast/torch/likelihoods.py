r"""What the decoder's output means: ln p(x | z), summed over the units of x."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn.functional import log_softmax, one_hot, softmax, softplus

from .. import _core
from ..arguments import count, real
from .operator import has_tangent, is_plain

__all__ = ["LIKELIHOODS", "Bernoulli", "Categorical", "Gaussian"]

_LOG_2PI = math.log(2 * math.pi)


class Bernoulli(nn.Module):
    r"""Independent units in {0, 1}, or their means in [0, 1]; the decoder gives logits.

    .. math:: \ln p(x|z) = \sum_i x_i l_i - \ln(1 + e^{l_i})
    """

    def n_outputs(self, n_visible: int) -> int:
        """Numbers that the decoder must give for `n_visible` units."""
        return n_visible

    def check(self, x: torch.Tensor, name: str) -> None:
        """Refuse what is no probability, such as pixels up to 255."""
        if not ((x >= 0) & (x <= 1)).all():
            raise ValueError(f"{name}: expected numbers in [0, 1], got {_bad(x, (x < 0) | (x > 1))}")

    def log_prob(self, x: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """Sum over units of ln p(x | z).

        Parameters
        ----------
        x : Tensor, (batch, n_visible)
        output : Tensor, (n_samples, batch, n_visible)
            Logits.

        Returns
        -------
        Tensor, (n_samples, batch)
        """
        _fits(self, x, output)
        if _for_kernel(x, output):
            found: torch.Tensor = _BernoulliLogProb.apply(x, output)
            return found
        # Half the time of binary_cross_entropy_with_logits; the threshold is where float64 ends, too.
        return torch.linalg.vecdot(output, x) - softplus(output, threshold=40).sum(-1)

    def mean(self, output: torch.Tensor) -> torch.Tensor:
        """Means of the units given the decoder's output."""
        return torch.sigmoid(output)

    def sample(self, output: torch.Tensor, generator: Any = None) -> torch.Tensor:
        """Draw units given the decoder's output."""
        return torch.bernoulli(self.mean(output), generator=generator)

    def options(self) -> dict[str, Any]:
        """What makes the same likelihood once more, for files."""
        return {}


def _for_kernel(x: torch.Tensor, output: torch.Tensor) -> bool:
    """Whether these are arrays that the kernel reads, and nobody asks for more than one derivative by one."""
    return (
        is_plain(x)
        and is_plain(output)
        and output.dtype == x.dtype
        and output.dtype in (torch.float32, torch.float64)
        and output.ndim == 3
        and x.shape == output.shape[1:]
        and not x.requires_grad
        and x.is_contiguous()
        and output.is_contiguous()
        and not (has_tangent(x) or has_tangent(output))
    )


class _BernoulliLogProb(torch.autograd.Function):
    """The kernel of `Bernoulli`, a quarter of PyTorch's time; second derivatives are PyTorch's."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, output)
        return torch.from_numpy(_core.log_likelihood(output.detach().numpy(), x.numpy(), 0))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[None, torch.Tensor]:
        x, output = ctx.saved_tensors
        if torch.is_grad_enabled() or not is_plain(gradient):
            return None, gradient[..., None] * (x - torch.sigmoid(output))
        arrays = output.detach().numpy(), x.numpy(), gradient.contiguous().numpy()
        return None, torch.from_numpy(_core.log_likelihood_backward(*arrays, 0))


class Gaussian(nn.Module):
    r"""Independent real units around the decoder's output.

    .. math:: \ln p(x|z) = -\tfrac12 \sum_i (x_i - m_i)^2 / s_i^2 + \ln 2\pi s_i^2

    Parameters
    ----------
    variance : float or {"learned", "optimal", "decoder"}
        A number stays what it is. ``"learned"``: one for all units, a parameter of the model. ``"optimal"``:
        in each call that which makes the batch most likely, the mean squared error (O. Rybkin, K.
        Daniilidis, S. Levine, ICML 2021); after ``eval()`` the running mean of the logarithms seen before, of
        a hundred batches or so, and 1 if there were none.
        ``"decoder"``: one a unit and sample; the decoder gives means, then log variances.

    Raises
    ------
    TypeError, ValueError
        If the variance is not as described.
    """

    def __init__(self, variance: float | str = "learned") -> None:
        super().__init__()
        self.variance = variance
        if isinstance(variance, str):
            if variance not in ("learned", "optimal", "decoder"):
                raise ValueError(
                    f"variance: expected a number, 'learned', 'optimal' or 'decoder', got {variance!r}"
                )
            value = 0.0
        else:
            self.variance = variance = real(variance, "variance")
            if not 0 < variance < math.inf:
                raise ValueError(f"variance: expected a finite variance > 0, got {variance}")
            value = math.log(variance)
        log_var = torch.tensor(value)
        if variance == "learned":
            self.log_var = nn.Parameter(log_var)
        else:
            self.register_buffer("log_var", log_var)
        self.register_buffer("n_seen", torch.tensor(0.0))

    def n_outputs(self, n_visible: int) -> int:
        """Numbers that the decoder must give for `n_visible` units."""
        return 2 * n_visible if self.variance == "decoder" else n_visible

    def log_prob(self, x: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """Sum over units of ln p(x | z).

        Parameters
        ----------
        x : Tensor, (batch, n_visible)
        output : Tensor, (n_samples, batch, n_outputs(n_visible))

        Returns
        -------
        Tensor, (n_samples, batch)
        """
        _fits(self, x, output)
        if self.variance == "decoder":
            mean, log_var = output.chunk(2, dim=-1)
            return -0.5 * ((x - mean).square() * torch.exp(-log_var) + log_var + _LOG_2PI).sum(-1)
        squares = (x - output).square().sum(-1)
        n = x.shape[-1]
        log_var = self.log_var
        if self.variance == "optimal" and self.training:
            log_var = (squares.mean() / n).log()
            with torch.no_grad():
                self.n_seen += 1
                self.log_var += (log_var.detach() - self.log_var) / self.n_seen.clamp(max=100.0)
        return -0.5 * (squares * torch.exp(-log_var) + n * (log_var + _LOG_2PI))

    def mean(self, output: torch.Tensor) -> torch.Tensor:
        """Means of the units given the decoder's output."""
        return output.chunk(2, dim=-1)[0] if self.variance == "decoder" else output

    def sample(self, output: torch.Tensor, generator: Any = None) -> torch.Tensor:
        """Draw units given the decoder's output."""
        mean = self.mean(output)
        log_var = output.chunk(2, dim=-1)[1] if self.variance == "decoder" else self.log_var
        noise = torch.empty_like(mean).normal_(generator=generator)
        return mean + torch.exp(0.5 * log_var) * noise

    def options(self) -> dict[str, Any]:
        """What makes the same likelihood once more, for files."""
        return {"variance": self.variance}


class Categorical(nn.Module):
    r"""Independent units in {0, ..., n_categories - 1}; the decoder gives logits, category fastest.

    Parameters
    ----------
    n_categories : int
        At least 2.
    """

    def __init__(self, n_categories: int) -> None:
        super().__init__()
        self.n_categories = count(n_categories, "n_categories", 2)

    def n_outputs(self, n_visible: int) -> int:
        """Numbers that the decoder must give for `n_visible` units."""
        return n_visible * self.n_categories

    def check(self, x: torch.Tensor, name: str) -> None:
        """Refuse what is no category."""
        bad = (x < 0) | (x >= self.n_categories) | (x != x.floor())
        if bad.any():
            raise ValueError(
                f"{name}: expected categories 0, ..., {self.n_categories - 1}, got {_bad(x, bad)}"
            )

    def _logits(self, output: torch.Tensor) -> torch.Tensor:
        return output.unflatten(-1, (-1, self.n_categories))

    def log_prob(self, x: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """Sum over units of ln p(x | z).

        Parameters
        ----------
        x : Tensor, (batch, n_visible)
            Categories, as numbers of any dtype.
        output : Tensor, (n_samples, batch, n_visible * n_categories)
            Logits.

        Returns
        -------
        Tensor, (n_samples, batch)
        """
        _fits(self, x, output)
        logits = log_softmax(self._logits(output), dim=-1)
        chosen = x.to(torch.int64)[..., None].expand(*logits.shape[:-1], 1)
        return logits.gather(-1, chosen)[..., 0].sum(-1)

    def mean(self, output: torch.Tensor) -> torch.Tensor:
        """Probabilities of the categories, (..., n_visible, n_categories)."""
        return softmax(self._logits(output), dim=-1)

    def sample(self, output: torch.Tensor, generator: Any = None) -> torch.Tensor:
        """Draw units given the decoder's output."""
        probabilities = self.mean(output)
        drawn = torch.multinomial(probabilities.flatten(0, -2), 1, generator=generator)
        return drawn.reshape(probabilities.shape[:-1]).to(output.dtype)

    def one_hot(self, x: torch.Tensor) -> torch.Tensor:
        """Categories as the encoder may read them, (..., n_visible * n_categories)."""
        return one_hot(x.to(torch.int64), self.n_categories).flatten(-2).to(x.dtype)

    def options(self) -> dict[str, Any]:
        """What makes the same likelihood once more, for files."""
        return {"n_categories": self.n_categories}


LIKELIHOODS: dict[str, Any] = {"bernoulli": Bernoulli, "gaussian": Gaussian, "categorical": Categorical}


def _fits(likelihood: Any, x: torch.Tensor, output: torch.Tensor) -> None:
    """Refuse what PyTorch would stretch."""
    n = likelihood.n_outputs(x.shape[-1])
    if output.shape[-1] != n:
        raise ValueError(f"decoder: expected (n_samples, batch, {n}), got {tuple(output.shape)}")


def _bad(x: torch.Tensor, bad: torch.Tensor) -> str:
    at = tuple(bad.nonzero()[0].tolist())
    return f"{float(x[at]):g} at {at}"
