"""ln p(x) of a trained variational autoencoder by importance sampling, beside its bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..arguments import count
from ..arrays import Array
from ..bar import Bar
from ..brief import brief
from ..free_energy.result import FreeEnergy
from ..random import generator, seed
from ..statistics.cumulants import MOST_ORDERS, cumulants
from .vae import VAE

__all__ = ["Evaluation", "evaluate"]

_AT_ONCE = 50  # samples of a row, under one key: what is drawn does not depend on max_megabytes
_LEAST_VARIANCE = 0.01  # of a latent's mean over data, for it to count as active (Burda et al. 2016)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Estimates of -ln p(x) for each row of data, in nats. Arrays of float64.

    Attributes
    ----------
    nll : ndarray, (n_data,)
        By importance sampling with all samples; an ``upper_bound`` on average, the tighter the more samples.
    nll_stderr : ndarray, (n_data,)
        Of sampling z, to first order.
    ess : ndarray, (n_data,)
        Effective sample size, (sum w)^2 / sum w^2.
    elbo : ndarray, (n_data,)
        Mean of -ln w: the free energy ⟨E⟩ - S.
    corrected : ndarray, (n_data, order)
        Minus the partial sums of the cumulant series; the first is `elbo`.
    iwae : dict of int to ndarray, (n_data,)
        Mean of the importance-weighted bounds of K samples.
    energy, entropy : ndarray, (n_data,)
        ⟨-ln p(x, z)⟩ and S = ⟨-ln q⟩.
    active : ndarray of bool, (n_latents,)
        Latents whose z varies over the data by more than 0.01 (variance), z being what the encoder gives
        without noise and before a flow: the mean of a Gaussian posterior.
    n_samples : int
        Samples of each row.
    out_of_reach : str
        What of p(x) no sample of q reaches, if so: `nll` lacks it then.
    """

    nll: Array
    nll_stderr: Array
    ess: Array
    elbo: Array
    corrected: Array
    iwae: dict[int, Array]
    energy: Array
    entropy: Array
    active: Array
    n_samples: int
    out_of_reach: str = ""

    __repr__ = brief

    @property
    def not_decreasing(self) -> float:
        """Share of rows of which a term, from the third on, is no smaller than the one before."""
        sizes = np.abs(np.diff(self.corrected, axis=1))
        return float((sizes[:, 1:] >= sizes[:, :-1]).any(axis=1).mean())

    @property
    def free_energy(self) -> FreeEnergy:
        """Mean of `nll`, whose standard error is that of the data and of sampling z together."""
        n = len(self.nll)
        mean = float(self.nll.mean())
        stderr = float(self.nll.std(ddof=1) / math.sqrt(n)) if n > 1 else float(self.nll_stderr[0])
        poor = float((self.ess < 10).mean())
        details: dict[str, Any] = {"n_data": n, "n_samples": self.n_samples, "share_of_small_ess": poor}
        if poor > 0.05:
            details["problem"] = f"{100 * poor:.0f} % of the rows rest on fewer than 10 effective samples"
        if self.out_of_reach:
            details["problem"] = self.out_of_reach
        converged = "problem" not in details
        return FreeEnergy(
            mean, -mean, stderr, "upper_bound", float(np.median(self.ess)), converged, details=details
        )

    def table(self) -> str:
        """Every estimate with its mean over the data, the error of that, and its gap to the best.

        Returns
        -------
        str
        """
        rows: list[tuple[str, Array]] = [("ELBO", self.elbo)]
        rows += [
            (f"cumulants to order {r + 1}", self.corrected[:, r]) for r in range(1, self.corrected.shape[1])
        ]
        rows += [(f"IWAE-{k}", values) for k, values in self.iwae.items()]
        rows.append((f"NLL, {self.n_samples} samples", self.nll))
        lines = [f"{'-ln p(x) by':<24}{'mean':>11}{'± data':>9}{'gap':>9}"]
        for name, values in rows:
            gap = values - self.nll
            error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
            lines.append(f"{name:<24}{values.mean():>11.3f}{error:>9.3f}{gap.mean():>9.3f}")
        if self.corrected.shape[1] > 2:
            lines.append(
                f"terms of the series fail to decrease in {100 * self.not_decreasing:.0f} % of the rows"
            )
        lines.append(f"<E> - S = {self.energy.mean():.3f} - {self.entropy.mean():.3f}")
        lines.append(f"active latents: {int(self.active.sum())} of {len(self.active)}")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.table()


@torch.no_grad()
def evaluate(
    vae: VAE,
    data: Any,
    *,
    n_samples: int = 5000,
    iwae: tuple[int, ...] = (5, 50),
    order: int = 4,
    rng: Any = None,
    max_megabytes: int = 256,
    progress: bool = False,
) -> Evaluation:
    r"""Estimate ln p(x) of each row by importance sampling, and what the bounds leave of it.

    .. math:: \ln p(x) \approx \ln \frac1S \sum_s \frac{p(x, z_s)}{q(z_s|x)}, \quad z_s \sim q(z|x)

    Parameters
    ----------
    vae : VAE
        The model, of temperature 1.
    data : array_like or Tensor, (n_data, n_visible)
        Rows to look at.
    n_samples : int
        S. 5000 is the custom (Burda et al. 2016).
    iwae : tuple of int
        K of the importance-weighted bounds to report, each at most n_samples.
    order : int
        Cumulants to report, at most 8, and less than n_samples.
    rng : int, numpy.random.Generator, numpy.random.SeedSequence or None
        See `vfe_fast.random.seed`.
    max_megabytes : int
        Bounds what a piece of the work takes, of as many rows as fit, at least one: the outputs of the
        decoder's layers for 50 samples, and all that is kept of n_samples.
    progress : bool
        Whether to show a progress bar on stderr.

    Returns
    -------
    Evaluation

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or not finite.

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> vae = VAE.mlp(n_visible=16, n_latents=2, hidden=(8,))
    >>> result = evaluate(vae, np.eye(16, dtype=np.float32), n_samples=100, iwae=(5,), rng=0)
    >>> bool((result.nll.mean() <= result.iwae[5].mean()) and result.free_energy.converged)
    True
    """
    x = as_rows(vae, data)
    if vae.temperature != 1:
        raise ValueError(
            f"vae: expected one of temperature 1, where there is a p(x) to estimate, got {vae.temperature}"
        )
    n_samples, order = count(n_samples, "n_samples", 2), count(order, "order", 1, MOST_ORDERS + 1)
    if n_samples <= order:
        raise ValueError(f"n_samples: expected more than order = {order}, got {n_samples}")
    if not isinstance(iwae, (tuple, list)):
        raise TypeError(f"iwae: expected a tuple of int, got {type(iwae).__name__}")
    for k in iwae:
        count(k, "iwae", 1, n_samples + 1)
    bar = Bar(len(x), "rows", enabled=progress)
    modes = [(module, module.training) for module in vae.modules()]
    vae.eval()
    try:
        means = _means(vae, x)
        # Three of the widest layer's outputs are alive at once, and four of ln w.
        per_row = 3 * _AT_ONCE * x.element_size() * _widest(vae, x) + 4 * 8 * n_samples
        n_rows = max(1, int(count(max_megabytes, "max_megabytes") * 2**20 / per_row))
        key, parts = seed(rng), []
        for first in range(0, len(x), n_rows):
            parts.append(_rows(vae, x[first : first + n_rows], n_samples, iwae, order, key, first))
            bar.update(first + len(x[first : first + n_rows]))
    finally:
        bar.close()
        for module, was_training in modes:
            module.training = was_training
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    bounds = {k: joined.pop(f"iwae {k}") for k in dict.fromkeys(iwae)}
    active = means.var(axis=0) > _LEAST_VARIANCE
    positive = vae.posterior == "log_normal" and vae.flow is None and vae.prior is None
    out_of_reach = (
        "samples of q are positive, the normal prior is not: what z < 0 adds is missing" if positive else ""
    )
    return Evaluation(iwae=bounds, active=active, n_samples=n_samples, out_of_reach=out_of_reach, **joined)


def as_rows(vae: VAE, data: Any, name: str = "data") -> torch.Tensor:
    """Data as a matrix of the dtype of the model, looked at by its likelihood."""
    if not isinstance(vae, VAE):
        raise TypeError(f"vae: expected a VAE, got {type(vae).__name__}")
    parameter = next(vae.parameters(), None)
    dtype = torch.get_default_dtype() if parameter is None else parameter.dtype
    try:
        if not isinstance(data, torch.Tensor):
            if np.iscomplexobj(data):
                raise TypeError("real, got complex ones")
            # PyTorch reads no other byte order, no steps backwards, and warns of what is read-only.
            data = torch.from_numpy(np.require(data, torch.empty(0, dtype=dtype).numpy().dtype, ["C", "W"]))
        if data.device.type != "cpu" or data.layout != torch.strided or data.is_complex():
            raise TypeError(f"on the CPU, dense and real, got {data.dtype}, {data.layout}, on {data.device}")
        x = data.detach().to(dtype)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name}: expected (n_data, n_visible) numbers: {error}") from error
    if x.ndim != 2 or len(x) == 0:
        raise ValueError(f"{name}: expected (n_data, n_visible), n_data >= 1, got {tuple(x.shape)}")
    if vae.recipe is not None and x.shape[1] != vae.recipe["n_visible"]:
        raise ValueError(f"{name}: expected n_visible = {vae.recipe['n_visible']}, got {tuple(x.shape)}")
    if not torch.isfinite(x).all():
        raise ValueError(f"{name}: expected finite numbers, got others")
    if hasattr(vae.likelihood, "check"):
        vae.likelihood.check(x, name)
    return x


def _means(vae: VAE, x: torch.Tensor) -> Array:
    found = []
    for first in range(0, len(x), 1000):
        found.append(vae.without_noise(vae.encode(x[first : first + 1000])[0]).double().numpy())
    means: Array = np.concatenate(found)
    return means


def _widest(vae: VAE, x: torch.Tensor) -> int:
    """The most numbers that a layer of the decoder gives for a sample."""
    sizes: list[int] = []

    def look(module: Any, inputs: Any, output: Any) -> None:
        sizes.append(output.numel())

    z = vae.without_noise(vae.encode(x[:1])[0])[None]
    hooks = [module.register_forward_hook(look) for module in vae.decoder.modules()]
    try:
        vae.decoder(z)
    finally:
        for hook in hooks:
            hook.remove()
    return max(sizes)


def _rows(
    vae: VAE, x: torch.Tensor, n_samples: int, iwae: tuple[int, ...], order: int, key: int, first_row: int
) -> dict[str, Array]:
    """All of some rows: what remains of a sample is its ln w."""
    log_w = np.empty((n_samples, len(x)))
    energy, entropy = np.zeros(len(x)), np.zeros(len(x))
    for first in range(0, n_samples, _AT_ONCE):
        n = min(_AT_ONCE, n_samples - first)
        noise = seed(generator(key, "latent noise", first // _AT_ONCE))
        draw = vae.draw(x, n, rng=noise, row_offset=first_row)
        log_w[first : first + n] = draw.log_weights.double().numpy()
        energy += draw.energy.double().sum(0).numpy()
        entropy -= draw.log_q.double().sum(0).numpy()
    found: dict[str, Array] = {"energy": energy / n_samples, "entropy": entropy / n_samples}
    found["nll"], found["nll_stderr"], found["ess"] = _importance(log_w)
    series = cumulants(log_w, order=order, axis=0).values
    terms = series / np.array([math.factorial(r) for r in range(1, order + 1)])
    found["corrected"] = -terms.cumsum(axis=-1)
    found["elbo"] = -log_w.mean(axis=0)
    for k in iwae:
        groups = log_w[: n_samples // k * k].reshape(-1, k, len(x))
        top = groups.max(axis=1)
        each = top + np.log(np.exp(groups - top[:, None]).mean(axis=1))
        found[f"iwae {k}"] = -each.mean(axis=0)
    return found


def _importance(log_w: Array) -> tuple[Array, Array, Array]:
    """-ln of the mean weight, its error to first order, and the effective sample size."""
    top = log_w.max(axis=0)
    w = np.exp(log_w - top)
    mean = w.mean(axis=0)
    stderr = w.std(axis=0, ddof=1) / (mean * math.sqrt(len(w)))
    return -(top + np.log(mean)), stderr, w.sum(axis=0) ** 2 / (w**2).sum(axis=0)
