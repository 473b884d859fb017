"""Whether chains of real numbers have converged: rank-normalized split R-hat, and effective sample sizes.

A. Vehtari, A. Gelman, D. Simpson, B. Carpenter, P.-C. Bürkner, Bayesian Anal. 16 (2021) 667. Arrays are
(n_chains, n_samples).
"""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np

from ..arrays import Array

__all__ = ["ess_bulk", "ess_tail", "r_hat"]


def r_hat(samples: Any) -> float:
    """The larger of the split R-hats of ranks, and of ranks of distances from the median.

    Parameters
    ----------
    samples : array_like, (n_chains, n_samples)
        Of one quantity.

    Returns
    -------
    float
        Near 1 if chains agree with one another and with themselves later; nan for constants and for what is
        not finite.

    Raises
    ------
    ValueError
        If there are fewer than four samples a chain.
    """
    x = _checked(samples)
    if not np.isfinite(x).all():
        return float("nan")
    folded = np.abs(x - np.median(x))
    return max(_potential_scale(_normal_ranks(_split(each))) for each in (x, folded))


def ess_bulk(samples: Any) -> float:
    """Effective sample size for means: of the normal ranks of split chains.

    Parameters
    ----------
    samples : array_like, (n_chains, n_samples)
        Of one quantity.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If there are fewer than four samples a chain.
    """
    return _effective(_normal_ranks(_split(_checked(samples))))


def ess_tail(samples: Any) -> float:
    """Effective sample size for tails: the smaller one of the 5 % and 95 % quantiles'.

    Parameters
    ----------
    samples : array_like, (n_chains, n_samples)
        Of one quantity.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If there are fewer than four samples a chain.
    """
    x = _checked(samples)
    return min(_effective(_split((x <= np.quantile(x, q)).astype(np.float64))) for q in (0.05, 0.95))


def _checked(samples: Any) -> Array:
    x = np.asarray(samples, dtype=np.float64)
    if x.ndim != 2 or x.shape[0] < 1 or x.shape[1] < 4:
        raise ValueError(f"samples: expected (n_chains >= 1, n_samples >= 4), got {x.shape}")
    return x


def _split(x: Array) -> Array:
    """Halves of chains as chains."""
    half = x.shape[1] // 2
    return np.concatenate([x[:, :half], x[:, -half:]])


def _normal_ranks(x: Array) -> Array:
    """Φ⁻¹((rank - 3/8) / (n + 1/4)), equal numbers at their mean rank."""
    if not np.isfinite(x).all():
        return np.full_like(x, np.nan)
    _, places, counts = np.unique(x, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    inverse = NormalDist().inv_cdf
    scores = np.array([inverse(share) for share in (ranks - 0.375) / (x.size + 0.25)])
    found: Array = scores[places.reshape(x.shape)]
    return found


def _potential_scale(z: Array) -> float:
    n = z.shape[1]
    within = z.var(axis=1, ddof=1).mean()
    between = n * z.mean(axis=1).var(ddof=1) if len(z) > 1 else 0.0
    if not within > 0:
        return float("nan")
    return float(np.sqrt(((n - 1) / n * within + between / n) / within))


def _effective(z: Array) -> float:
    """Geyer's initial monotone sequence of the autocorrelations of all chains together."""
    m, n = z.shape
    centered = z - z.mean(axis=1, keepdims=True)
    spectrum = np.abs(np.fft.rfft(centered, 2 * n, axis=1)) ** 2
    covariance = np.fft.irfft(spectrum, axis=1)[:, :n] / n
    within = covariance[:, 0].mean() * n / (n - 1)
    variance = within * (n - 1) / n + (z.mean(axis=1).var(ddof=1) if m > 1 else 0.0)
    if not variance > 0:
        return float("nan")
    rho = 1 - (within - covariance.mean(axis=0) * n / (n - 1)) / variance
    rho[0] = 1.0
    pairs = rho[: n // 2 * 2].reshape(-1, 2).sum(axis=1)
    last = np.argmax(pairs < 0) if (pairs < 0).any() else len(pairs)
    time = -1 + 2 * np.minimum.accumulate(pairs[: max(last, 1)]).sum()
    return float(m * n / max(time, 1 / np.log10(m * n)))
