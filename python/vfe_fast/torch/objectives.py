r"""What a variational autoencoder may be trained for: estimates of ln p(x) = ln ⟨w⟩_q.

w = p(x, z) / q(z | x). Each names its kind, which speaks of F = -ln p(x) as everywhere in this package: a
lower bound of ln p(x) is an ``upper_bound``.

=====================  ================================================  ====================================
`ELBO`                 ⟨ln w⟩ = -(⟨E⟩ - S)                               ``upper_bound``
`CumulantELBO`         sum over r up to the order of κ_r(ln w) / r!      ``asymptotic``
`IWAE`                 ⟨ln mean of K w⟩                                  ``upper_bound``, tighter with K
`Renyi`                ln ⟨w^(1 - α)⟩ / (1 - α)                          ``upper_bound`` for α >= 0
`BetaELBO`             ⟨ln p(x|z)⟩ - β KL                                ``upper_bound`` for β >= 1
=====================  ================================================  ====================================
"""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ..arguments import count, real
from ..brief import brief
from ..free_energy.result import Kind
from ..statistics.cumulants import MOST_ORDERS
from ..statistics.series import stopped
from .log_mean_exp import cumulant_terms, log_mean_exp
from .vae import VAE, Draw

__all__ = ["ELBO", "IWAE", "OBJECTIVES", "BetaELBO", "Bound", "CumulantELBO", "Renyi"]

_BELIEVED = 1.0  # nats between a partial sum and the direct estimate


@dataclass(frozen=True, eq=False)
class Bound:
    """An estimate of ln p(x) for each row of a batch.

    Attributes
    ----------
    value : Tensor, (batch,)
        The estimate, in nats.
    kind : {"upper_bound", "consistent", "asymptotic"} or None
        What -value is to F = -ln p(x); None if it is no estimate of it at all.
    details : mapping
        What is specific to the objective, as plain numbers.
    """

    value: torch.Tensor
    kind: Kind | None
    details: Mapping[str, float] = field(default_factory=dict)

    __repr__ = brief

    @property
    def loss(self) -> torch.Tensor:
        """Minus the mean over the batch, to be minimized."""
        return -self.value.mean()


class _Objective(abc.ABC):
    """Draws, then estimates."""

    n_samples: int

    def __call__(self, vae: VAE, x: torch.Tensor, *, rng: Any = None) -> Bound:
        """Estimate ln p(x).

        Parameters
        ----------
        vae : VAE
            The model.
        x : Tensor, (batch, n_visible)
            Data.
        rng : int, numpy.random.Generator, numpy.random.SeedSequence or None
            See `vfe_fast.random.seed`.

        Returns
        -------
        Bound
            At a temperature T other than 1, of -F where F = ⟨E⟩ - T S; at T = 0, -E(x, mu) whatever the
            objective.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as described, or not finite. What a module raises, such as PyTorch's
            RuntimeError for rows of another width, comes through.
        """
        draw = vae.draw(x, self.n_samples, rng=rng, path_only=self.path_only)
        if vae.temperature == 0:
            value = -draw.energy[0]
            return Bound(value, None)
        return self.of(draw)

    @property
    def path_only(self) -> bool:
        """Whether gradients reach q through its samples alone."""
        return False

    def of(self, draw: Draw) -> Bound:
        """Estimate ln p(x) from samples at hand.

        Parameters
        ----------
        draw : Draw
            Of n_samples samples of each row.

        Returns
        -------
        Bound
        """
        return self._of(draw)

    @abc.abstractmethod
    def _of(self, draw: Draw) -> Bound: ...

    @property
    def name(self) -> str:
        """For tables."""
        return type(self).__name__


def _checked(objective: Any, least: int, *reals: str) -> None:
    object.__setattr__(objective, "n_samples", count(objective.n_samples, "n_samples", least))
    for name in reals:
        object.__setattr__(objective, name, real(getattr(objective, name), name))


def _mean(of_samples: torch.Tensor) -> torch.Tensor:
    """Over samples; of a single one without PyTorch's two loops, there and back."""
    return of_samples.squeeze(0) if len(of_samples) == 1 else of_samples.mean(0)


@dataclass(frozen=True)
class ELBO(_Objective):
    r"""The Gibbs-Bogoliubov-Feynman bound, as the evidence lower bound.

    .. math:: \langle \ln p(x|z) \rangle_q - KL(q \| p) = -(\langle E \rangle_q - S_q)

    Parameters
    ----------
    n_samples : int
        Samples of each row.
    analytic_kl : bool
        Whether to take the KL in closed form where there is one (less noise); otherwise by sample.
    """

    n_samples: int = 1
    analytic_kl: bool = True

    def __post_init__(self) -> None:
        _checked(self, 1)

    def _of(self, draw: Draw) -> Bound:
        if self.analytic_kl:
            value = _mean(draw.log_likelihood) - draw.kl
            if draw.temperature != 1:  # T S, not S
                value = value + (1 - draw.temperature) * _mean(draw.log_q)
        else:
            value = draw.temperature * _mean(draw.log_weights)
        return Bound(value, "upper_bound")


@dataclass(frozen=True)
class CumulantELBO(_Objective):
    r"""The ELBO corrected by the cumulants of V = ln q - ln p: the bound is the first term of a series.

    .. math:: \ln \langle e^{-V} \rangle_q = -\langle V \rangle + \frac{\kappa_2(V)}{2!}
              - \frac{\kappa_3(V)}{3!} + \dots

    by unbiased k-statistics of the samples of each row. Not a bound: the series is cut off, and may diverge.
    What is maximized then has no maximum: the variance of V, with order 2, is largest where q is nowhere near
    p. So each row is cut off where `log_mean_exp_cumulants` says that the series is best stopped
    (`best_order`), and before a partial sum that is more than a nat from ln of the mean weight of the same
    samples.

    Parameters
    ----------
    order : int
        Where to cut it off, 1 to 8.
    n_samples : int
        Samples of each row, more than `order`.
    stop : bool
        Whether to do so; if not, all rows are cut off at `order`.

    Notes
    -----
    `details` of its `Bound` from order 2 on: ``not_decreasing``, the share of rows of which a term from the
    third on is no smaller than the one before (the first says only where V is 0; of order 2 the third is
    looked at, too); always ``mean_order``.
    """

    order: int = 2
    n_samples: int = 50
    stop: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "order", count(self.order, "order", 1, MOST_ORDERS + 1))
        _checked(self, self.order + 1)

    @torch.compiler.disable(reason="cumulants are computed by a kernel, where to stop by NumPy")
    def _of(self, draw: Draw) -> Bound:
        terms = cumulant_terms(draw.log_weights, self.order)
        details: dict[str, float] = {"mean_order": float(self.order)}
        if self.order >= 2:
            size = (terms if self.order > 2 else cumulant_terms(draw.log_weights.detach(), 3)).detach().abs()
            details["not_decreasing"] = float((size[:, 2:] >= size[:, 1:-1]).any(1).double().mean())
        if self.stop and self.order > 1:
            sums, best_order, direct = stopped(-draw.log_weights.detach().numpy(), self.order, axis=0)
            # Few samples do not show that a series diverges, but they bound what can be believed.
            far = np.abs(sums - direct[:, None]) > _BELIEVED
            far[:, 0] = False  # the bound itself
            best = np.minimum(best_order, np.where(far.any(axis=1), far.argmax(axis=1), self.order))
            kept = torch.from_numpy(np.arange(1, self.order + 1) <= best[:, None])
            terms = torch.where(kept, terms, torch.zeros((), dtype=terms.dtype))
            details["mean_order"] = float(best.mean())
        value = draw.temperature * terms.sum(1)
        return Bound(value, "upper_bound" if self.order == 1 else "asymptotic", details)


@dataclass(frozen=True)
class IWAE(_Objective):
    r"""The importance-weighted bound (Y. Burda, R. Grosse, R. Salakhutdinov 2016).

    .. math:: \left\langle \ln \frac1K \sum_k w_k \right\rangle_q

    Parameters
    ----------
    n_samples : int
        K.
    doubly_reparameterized : bool
        Whether the encoder's gradient is that of G. Tucker et al. (2018): the same mean, and a signal that
        does not drown in noise as K grows. Where q is far from the posterior it may be the noisier one.
    """

    n_samples: int = 5
    doubly_reparameterized: bool = False

    def __post_init__(self) -> None:
        _checked(self, 1)

    def __call__(self, vae: VAE, x: torch.Tensor, *, rng: Any = None) -> Bound:
        """Estimate ln p(x): see `ELBO`."""
        if self.doubly_reparameterized:
            return self._uncompiled(vae, x, rng=rng)
        return super().__call__(vae, x, rng=rng)

    @torch.compiler.disable(reason="a hook on the samples stands between decoder and encoder")
    def _uncompiled(self, vae: VAE, x: torch.Tensor, *, rng: Any) -> Bound:
        return super().__call__(vae, x, rng=rng)

    @property
    def path_only(self) -> bool:
        """Whether gradients reach q through its samples alone."""
        return self.doubly_reparameterized

    def _of(self, draw: Draw) -> Bound:
        if draw.temperature == 1:
            value = log_mean_exp(draw.log_likelihood, draw.log_prior, less=draw.log_q)
        else:
            value = draw.temperature * log_mean_exp(draw.log_weights)
        z = draw.z if draw.z_before_flow is None else draw.z_before_flow
        if self.doubly_reparameterized and z.requires_grad:
            with torch.no_grad():
                share = torch.softmax(draw.log_weights, dim=0)[..., None]
            # Decoder and flow get sum_k share_k d ln w_k; what goes on through z, share_k once more.
            z.register_hook(lambda gradient: share * gradient)
        return Bound(value, "upper_bound")


@dataclass(frozen=True)
class Renyi(_Objective):
    r"""The variational Rényi bound (Y. Li, R. Turner 2016).

    .. math:: \frac{1}{1 - \alpha} \ln \langle w^{1 - \alpha} \rangle_q

    A bound for α >= 0 (1 is the ELBO, 0 the IWAE bound), by samples too, since a power mean of positive
    numbers grows with its power. For α < 0 it is one from the other side, which K samples do not keep.

    Parameters
    ----------
    alpha : float
        α.
    n_samples : int
        Samples of each row.
    """

    alpha: float = 0.5
    n_samples: int = 5

    def __post_init__(self) -> None:
        _checked(self, 1, "alpha")
        if not math.isfinite(self.alpha):
            raise ValueError(f"alpha: expected a finite number, got {self.alpha}")

    def _of(self, draw: Draw) -> Bound:
        power = 1 - self.alpha
        log_w = draw.log_weights
        # In float64, since what is left of ln of the mean near alpha = 1 is divided by a small number.
        value = log_w.mean(0)
        if power != 0:
            mean = log_mean_exp(power * log_w.double(), precision=log_w.dtype)
            value = (mean / power).to(log_w.dtype)
        value = draw.temperature * value
        return Bound(value, "upper_bound" if self.alpha >= 0 else None)


@dataclass(frozen=True)
class BetaELBO(_Objective):
    r"""The ELBO with β times the KL divergence (I. Higgins et al. 2017).

    .. math:: \langle \ln p(x|z) \rangle_q - \beta \, KL(q \| p)

    Parameters
    ----------
    beta : float
        β >= 0. Below 1 it is no bound.
    n_samples : int
        Samples of each row.
    """

    beta: float = 4.0
    n_samples: int = 1

    def __post_init__(self) -> None:
        _checked(self, 1, "beta")
        if not 0 <= self.beta < math.inf:
            raise ValueError(f"beta: expected 0 <= beta, got {self.beta}")

    def _of(self, draw: Draw) -> Bound:
        if draw.temperature != 1:
            raise ValueError(f"temperature: expected 1 beside a beta, got {draw.temperature}")
        value = _mean(draw.log_likelihood) - self.beta * draw.kl
        return Bound(value, "upper_bound" if self.beta >= 1 else None)


OBJECTIVES: dict[str, Any] = {
    "elbo": ELBO, "cumulant": CumulantELBO, "iwae": IWAE, "renyi": Renyi, "beta": BetaELBO
}  # fmt: skip
