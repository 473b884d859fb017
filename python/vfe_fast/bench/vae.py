"""The vae cases: a training step of the network of Burda et al. (2016), and the stochastic part of one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from ..arrays import Array
from .harness import Call, Case, Maker, WrongAnswerError, fastest, made, verified

__all__ = ["VAE_NOTE", "Part", "Purpose", "linear_likelihood", "vae_case"]

VAE_NOTE = (
    "vae: seconds a training step of 784-200-200-50 units, Bernoulli pixels, Adam, everybody's networks "
    "PyTorch's, eager or compiled as is faster; or of its stochastic part alone: samples, KL, log q, log "
    "prior, bound, and gradients by mu and log_var, given what a decoder would give: ln p(x|z) and its "
    "gradient by z. Peak: sgemm of the networks; a random word a number, twice."
)

Part = Literal["step", "stochastic part"]
Purpose = Literal["elbo", "iwae"]

SIZES = (784, 200, 200, 50)


def vae_case(
    batch: int,
    n_samples: int,
    purpose: Purpose,
    part: Part,
    *,
    threads: int,
    rivals: Mapping[str, Maker | str],
) -> Case:
    """One training step, or what of it is not networks.

    Parameters
    ----------
    batch, n_samples : int
        Rows, and samples of z of each.
    purpose : str
        ``"elbo"`` with the analytic KL, or ``"iwae"``.
    part : str
        ``"step"`` or ``"stochastic part"``.
    threads : int
        Threads to use.
    rivals : mapping of str to callable or str
        ``maker(x, purpose=, n_samples=, threads=)`` for a step returns a callable that makes one and returns
        the loss; ``maker(mu, log_var, slope, purpose=, ...)`` for the rest returns (loss, gradients by mu and
        log_var), with `linear_likelihood` for ln p(x|z).

    Returns
    -------
    Case
    """
    options: dict[str, Any] = {"purpose": purpose, "n_samples": n_samples, "threads": threads}
    _check(_ours)
    rng = np.random.default_rng(0)
    if part == "step":
        given: tuple[Array, ...] = ((rng.random((batch, SIZES[0])) < 0.15).astype(np.float32),)
        products = [a * b for a, b in itertools.pairwise(SIZES)]
        # Forward, and twice as much backward; the decoder once a sample.
        work, peak = 6.0 * batch * (sum(products) + n_samples * sum(products)), "sgemm"
    else:
        given = _parameters(batch, SIZES[-1])
        work, peak = 2.0 * batch * n_samples * SIZES[-1], "philox"
    return Case(
        bench="vae",
        name=f"{purpose}, batch {batch}, K = {n_samples}, {part}",
        ours=_ours(*given, **options),
        rivals=made(verified(rivals, _check), *given, **options),
        work=work,
        peak=peak,
    )


def _parameters(batch: int, n_latents: int) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(1)
    mu, log_var, slope = (rng.normal(size=(batch, n_latents)).astype(np.float32) for _ in range(3))
    return mu, log_var - np.float32(1), np.float32(0.5) * slope


def linear_likelihood(slope: Array, n_samples: int, exact: bool) -> Callable[[Any], Any]:
    """The function z -> slope.z; if not `exact`, what it was once and its gradient, at no cost."""
    import torch

    g = torch.from_numpy(slope)
    if exact:
        return lambda z: (z * g).sum(-1)
    value, gradient = torch.zeros(n_samples, len(g)), g.expand(n_samples, -1, -1).contiguous()

    class Given(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, z: Any) -> Any:
            return value.clone()

        @staticmethod
        def backward(ctx: Any, _: Any) -> Any:
            return gradient

    return Given.apply


def _ours(*given: Array, purpose: Purpose, n_samples: int, threads: int, exact: bool = False) -> Call:
    import torch

    from .. import torch as vft

    seeds = itertools.count()
    objective: Any = vft.ELBO(n_samples) if purpose == "elbo" else vft.IWAE(n_samples)
    if len(given) == 1:
        x = torch.from_numpy(given[0])

        def step(compiled: str) -> Call:
            vae = vft.VAE.mlp(SIZES[0], SIZES[-1], hidden=SIZES[1:-1])
            optimizer = torch.optim.Adam(vae.parameters(), lr=1e-3, fused=True)

            def loss_of(key: int) -> Any:
                return objective(vae, x, rng=key).loss

            if compiled == "networks":
                vae.compile()
            elif compiled == "all":
                loss_of = torch.compile(loss_of)

            def call() -> float:
                loss = loss_of(next(seeds))
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                return float(loss.detach())

            return call

        return fastest([step(compiled) for compiled in ("nothing", "networks", "all")])

    mu, log_var, slope = (torch.from_numpy(g) for g in given)
    leaves = mu.requires_grad_(), log_var.requires_grad_()

    of = linear_likelihood(given[2], n_samples, exact)

    class Leaves(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return leaves

        def log_prob(self, x: Any, z: Any) -> Any:
            return of(z)

    part = Leaves()
    vae = vft.VAE(part, torch.nn.Identity(), likelihood=part)

    def call() -> tuple[Any, ...]:
        loss = objective(vae, slope, rng=next(seeds)).loss
        return loss.detach(), *torch.autograd.grad(loss, leaves)

    return call


def _check(maker: Maker) -> None:
    """Against closed forms: with a linear log likelihood g.z, F is -|g|^2 / 2 and the ELBO g.mu - KL."""
    mu, log_var, slope = _parameters(400, 3)
    log_var = np.float32(0.3) * (log_var + np.float32(2))  # wide enough for weights of a finite variance
    kl = (mu**2 + np.exp(log_var) - 1 - log_var).sum(axis=1) / 2
    elbo = float(((mu * slope).sum(axis=1) - kl).mean())
    free = float((slope**2).sum(axis=1).mean() / 2)
    purposes: tuple[Purpose, ...] = ("elbo", "iwae")
    for purpose, truth, within in zip(purposes, (elbo, free), (0.01, 0.1), strict=True):
        loss, by_mu, _ = (
            np.asarray(x, np.float64)
            for x in maker(mu, log_var, slope, purpose=purpose, n_samples=2000, threads=1, exact=True)()
        )
        if not abs(-float(loss) - truth) < within:
            raise WrongAnswerError(f"the bound is {-float(loss):.3f}, not {truth:.3f}")
        if by_mu.shape != mu.shape:
            raise WrongAnswerError(f"the gradient by mu is of {by_mu.shape}, not {mu.shape}")
        error = np.abs(by_mu * len(mu) - (mu - slope)).max()
        if purpose == "elbo" and not error < 0.01:
            raise WrongAnswerError(f"the gradient of the ELBO by mu is off by {float(error):.2g}")
