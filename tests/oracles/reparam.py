"""Reparameterized samples in NumPy and mpmath: noise from the counter, densities, and KL by quadrature."""

from __future__ import annotations

from typing import Any

import mpmath as mp
import numpy as np
import numpy.typing as npt

from .philox import box_muller, philox4x32

STREAMS = {
    "gaussian": 7, "laplace": 8, "logistic": 9, "log_normal": 10, "concrete": 11, "gumbel_softmax": 12,
}  # fmt: skip


def halves(words: list[npt.NDArray[np.uint64]], bits: int, dtype: Any) -> list[tuple[Any, Any, Any]]:
    """(t, bit 0, bit 1) of the numbers of a block, t as the dtype holds it."""
    w = [np.asarray(word, dtype=np.int64) for word in words]
    if dtype == np.float32:
        size = 2.0 ** -(33 - bits)
        return [
            (((k >> bits).astype(np.float32) + np.float32(0.5)).astype(np.float64) * size, k & 1, k & 2)
            for k in w
        ]
    return [
        (((a >> bits) + ((b >> 1) + 0.5) * 2.0**-31) * 2.0 ** -(33 - bits), a & 1, a & 2)
        for a, b in (w[:2], w[2:])
    ]


def exponential_of(t: Any, complement: Any) -> Any:
    return -np.where(complement != 0, np.log1p(-t), np.log(t))


def made(family: str, words: list[npt.NDArray[np.uint64]], dtype: Any) -> list[npt.NDArray[np.float64]]:
    """The numbers of blocks of words."""
    if family in ("gaussian", "log_normal"):
        return box_muller(words, dtype)
    if family == "laplace":
        return [exponential_of(t, b) * np.where(sign != 0, -1, 1) for t, b, sign in halves(words, 2, dtype)]
    if family == "gumbel_softmax":
        return [-np.log(exponential_of(t, b)) for t, b, _ in halves(words, 1, dtype)]
    return [(np.log1p(-t) - np.log(t)) * np.where(b != 0, -1, 1) for t, b, _ in halves(words, 1, dtype)]


def noise(family: str, shape: tuple[int, ...], seed: int, dtype: Any, row_offset: int = 0) -> Any:
    """Noise of (n_samples, batch, ...): the draw line of reparam.hpp."""
    per_block = 4 if dtype == np.float32 else 2
    n_samples, *sheet = shape
    width = int(np.prod(sheet[1:]))
    e = row_offset * width + np.arange(int(np.prod(sheet)))
    block = 16 * (e // (16 * per_block)) + e % 16
    sample = np.arange(n_samples)[:, None]
    words = philox4x32([block & 0xFFFFFFFF, block >> 32, sample, STREAMS[family]], seed)
    return np.choose(e // 16 % per_block, made(family, words, dtype)).reshape(shape)


def quadrature(family: str, mu: Any, log_var: Any, mean: Any, prior_log_var: Any) -> Any:
    """KL(q || N(mean, e^prior_log_var)) by integrating q (ln q - ln p) numerically, in mpmath."""
    mu, log_var, mean, prior_log_var = map(mp.mpf, (mu, log_var, mean, prior_log_var))
    s = mp.exp(log_var / 2)
    density = {
        "gaussian": lambda x: mp.exp(-x * x / 2) / mp.sqrt(2 * mp.pi),
        "log_normal": lambda x: mp.exp(-x * x / 2) / mp.sqrt(2 * mp.pi),
        "laplace": lambda x: mp.exp(-abs(x)) / 2,
        "logistic": lambda x: mp.exp(-abs(x)) / (1 + mp.exp(-abs(x))) ** 2,
    }[family]

    def integrand(x: Any) -> Any:
        z = mu + s * x
        jacobian = mp.log(s)
        if family == "log_normal":
            jacobian += z
            z = mp.exp(z)
        log_p = -((z - mean) ** 2) / (2 * mp.exp(prior_log_var)) - (mp.log(2 * mp.pi) + prior_log_var) / 2
        return density(x) * (mp.log(density(x)) - jacobian - log_p)

    normal = family in ("gaussian", "log_normal")
    ends = [-30, -10, -3, 0, 3, 10, 30] if normal else [-120, -40, -10, -3, 0, 3, 10, 40, 120]
    return mp.quad(integrand, ends)


def concrete_quadrature(logit: Any, prior: Any, temperature: Any) -> Any:
    """KL of two relaxed Bernoulli laws, over z itself."""
    logit, prior, temperature = map(mp.mpf, (logit, prior, temperature))

    def log_density(y: Any, a: Any) -> Any:  # at z = sigmoid(y), without digits lost at either end
        log_z, log_rest = -mp.log1p(mp.exp(-y)), -mp.log1p(mp.exp(y))
        odds = a - temperature * (log_z - log_rest)
        return mp.log(temperature) + odds - log_z - log_rest - 2 * mp.log1p(mp.exp(odds))

    def integrand(y: Any) -> Any:
        dz = mp.exp(-mp.log1p(mp.exp(-y)) - mp.log1p(mp.exp(y)))
        return mp.exp(log_density(y, logit)) * (log_density(y, logit) - log_density(y, prior)) * dz

    reach = (80 + abs(logit)) / temperature
    return mp.quad(integrand, [-reach, -reach / 4, logit / temperature, reach / 4, reach])
