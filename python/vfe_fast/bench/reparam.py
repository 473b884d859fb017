"""The reparam cases: normal numbers, samples with KL and log q, their gradients; NumPy's way to them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np

from .. import random
from ..arrays import Array
from ..sampling import reparameterize
from .harness import Call, Case, Maker, WrongAnswerError, made, verified

__all__ = ["REPARAM_NOTE", "Work", "numpy_reparam", "reparam_case"]

REPARAM_NOTE = (
    "reparam: seconds a call; float32. Peak: one random word a number. backward: samples, KL and log q, then "
    "gradients by mu and log_var, which draw the noise again."
)

Work = Literal["normals", "forward", "backward"]

_PIECE = 1 << 14  # numbers that a NumPy thread works on at a time: they stay in its cache


def reparam_case(
    batch: int, n_latents: int, work: Work, *, threads: int, rivals: Mapping[str, Maker | str]
) -> Case:
    """Gaussian samples of float32, one a row.

    Parameters
    ----------
    batch, n_latents : int
        Shape of the parameters.
    work : str
        ``"normals"``: standard normal numbers alone. ``"forward"``: samples, KL, log q. ``"backward"``: the
        same, and gradients by mu and log_var of a loss whose gradients by sample and KL are given.
    threads : int
        Threads to use.
    rivals : mapping of str to callable or str
        ``maker(mu, log_var, grad_sample, grad_kl, work=, threads=)`` returns a callable that returns
        (numbers,), (sample, kl, log_q), or these three and both gradients.

    Returns
    -------
    Case
        Its work is that of a random word a number; backward, which draws twice, of two.
    """
    given = _parameters(batch, n_latents)
    options: dict[str, Any] = {"work": work, "threads": threads}
    _check(_ours)
    return Case(
        bench="reparam",
        name=f"{batch}x{n_latents}, {work}",
        ours=_ours(*given, **options),
        rivals=made(verified(rivals, _check), *given, **options),
        work=float(batch * n_latents * (2 if work == "backward" else 1)),
        peak="philox",
    )


def _parameters(batch: int, n_latents: int) -> tuple[Array, Array, Array, Array]:
    rng = np.random.default_rng(1)
    shape = (batch, n_latents)
    mu, log_var, grad_sample = (rng.normal(size=shape).astype(np.float32) for _ in range(3))
    return mu, log_var - np.float32(1), grad_sample, rng.normal(size=batch).astype(np.float32)


def _ours(mu: Array, log_var: Array, grad_sample: Array, grad_kl: Array, *, work: Work, threads: int) -> Call:
    seeds = itertools.count()
    given = grad_sample[None]
    if work == "normals":
        return lambda: (random.normal(mu.shape, rng=next(seeds), dtype=np.float32, num_threads=threads),)

    def call() -> tuple[Any, ...]:
        z = reparameterize(mu, log_var, rng=next(seeds), num_threads=threads)
        if work == "forward":
            return z.sample, z.kl, z.log_q
        return z.sample, z.kl, z.log_q, *z.backward(given, grad_kl)

    return call


def _check(maker: Maker) -> None:
    """Compare with the formulas in float64, given the noise that the sample shows; then its law."""
    given = _parameters(3000, 20)
    (numbers,) = (np.asarray(x, dtype=np.float64) for x in maker(*given, work="normals", threads=1)())
    for work in ("forward", "backward"):
        found = [np.asarray(x, dtype=np.float64) for x in maker(*given, work=work, threads=1)()]
        mu, log_var, grad_sample, grad_kl = (x.astype(np.float64) for x in given)
        sample, kl, log_q = (x.reshape(s) for x, s in zip(found, (mu.shape, (3000,), (3000,)), strict=False))
        noise = (sample - mu) * np.exp(-log_var / 2)
        expected = [
            (mu**2 + np.exp(log_var) - 1 - log_var).sum(axis=1) / 2,
            -(noise**2 + log_var + np.log(2 * np.pi)).sum(axis=1) / 2,
        ]
        pairs = [(kl, expected[0], "KL"), (log_q, expected[1], "log q")]
        if work == "backward":
            of_variance = grad_kl[:, None] * (np.exp(log_var) - 1) / 2
            pairs.append((found[3], grad_sample + grad_kl[:, None] * mu, "the gradient by mu"))
            by_log_var = of_variance + grad_sample * (sample - mu) / 2
            pairs.append((found[4], by_log_var, "the gradient by log_var"))
        for mine, truth, name in pairs:
            error = np.abs(mine - truth).max() / np.abs(truth).max()
            if not error < 1e-5:
                raise WrongAnswerError(f"{name} is off by {float(error):.1g} of its largest value")
        for x in (noise, numbers):  # of 60,000 numbers: five standard errors
            off = max(abs(x.mean()), abs((x**2).mean() - 1) / np.sqrt(2.0)) * np.sqrt(x.size)
            if not off < 5:
                raise WrongAnswerError(f"moments of the noise are off by {float(off):.1f} standard errors")


def numpy_reparam(
    mu: Array, log_var: Array, grad_sample: Array, grad_kl: Array, *, work: Work, threads: int
) -> Call:
    """NumPy at its best: pieces of rows that stay in the cache, each thread with a generator of its own.

    Parameters
    ----------
    mu, log_var, grad_sample : ndarray, (batch, n_latents)
        Parameters, and the gradient by the sample.
    grad_kl : ndarray, (batch,)
        The gradient by the KL.
    work : str
        As in `reparam_case`.
    threads : int
        Threads to use.

    Returns
    -------
    callable
        Returns what `reparam_case` says.
    """
    batch, n_latents = mu.shape
    height = max(1, _PIECE // max(1, n_latents))
    pieces = [slice(r, min(r + height, batch)) for r in range(0, batch, height)]
    threads = min(threads, len(pieces))
    pool = ThreadPoolExecutor(threads)
    generators = [np.random.Generator(np.random.SFC64([0, k])) for k in range(threads)]
    constant = np.float32(n_latents * np.log(2 * np.pi))
    half = np.float32(0.5)
    sample, by_mu, by_log_var = np.empty_like(mu), np.empty_like(mu), np.empty_like(mu)
    kl, log_q = np.empty(batch, np.float32), np.empty(batch, np.float32)

    def share(which: int) -> None:
        for rows in pieces[which::threads]:
            noise = generators[which].standard_normal(mu[rows].shape, dtype=np.float32)
            if work == "normals":
                sample[rows] = noise
                continue
            scale = np.exp(half * log_var[rows])
            spread = scale * noise
            np.add(mu[rows], spread, out=sample[rows])
            total = log_var[rows].sum(axis=1)
            squares = np.einsum("rk,rk->r", mu[rows], mu[rows]) + np.einsum("rk,rk->r", scale, scale)
            kl[rows] = half * (squares - n_latents - total)
            log_q[rows] = -half * (np.einsum("rk,rk->r", noise, noise) + total + constant)
            if work == "backward":
                of_kl = grad_kl[rows, None]
                np.multiply(of_kl, mu[rows], out=by_mu[rows])
                by_mu[rows] += grad_sample[rows]
                spread *= grad_sample[rows]
                scale *= scale
                scale -= 1
                scale *= of_kl
                spread += scale
                np.multiply(spread, half, out=by_log_var[rows])

    def call() -> tuple[Array, ...]:
        if threads > 1:
            list(pool.map(share, range(threads)))
        else:
            share(0)
        return {
            "normals": (sample,),
            "forward": (sample, kl, log_q),
            "backward": (sample, kl, log_q, by_mu, by_log_var),
        }[work]

    return call
