"""The likelihood cases: ln p(x|z) of Bernoulli units for several samples of z, alone or with its gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..arrays import Array
from .harness import Call, Case, Maker, WrongAnswerError, made, verified

__all__ = ["LIKELIHOOD_NOTE", "likelihood_case"]

LIKELIHOOD_NOTE = (
    "likelihood: seconds a call; float32, ln p(x|z) of Bernoulli units given logits and, if so said, the "
    "gradient by them. Ours as PyTorch calls it. Peak: one reading of the logits, for a gradient another and "
    "writing it."
)


def likelihood_case(
    n_samples: int,
    batch: int,
    n_units: int,
    gradient: bool,
    *,
    threads: int,
    rivals: Mapping[str, Maker | str],
) -> Case:
    """Logits of each sample and row, beside the row's units.

    Parameters
    ----------
    n_samples, batch, n_units : int
        Shape of the logits.
    gradient : bool
        Whether that by the logits is found, too, given that by ln p.
    threads : int
        Threads to use.
    rivals : mapping of str to callable or str
        ``maker(x, logits, grad, gradient=, threads=)`` returns a callable that returns (ln p,), or with
        (n_samples, batch, n_units) gradients behind it.

    Returns
    -------
    Case
    """
    given = _given(n_samples, batch, n_units)
    options: dict[str, Any] = {"gradient": gradient, "threads": threads}
    _check(_ours)
    return Case(
        bench="likelihood",
        name=f"{n_samples}x{batch}x{n_units}{', gradient' if gradient else ''}",
        ours=_ours(*given, **options),
        rivals=made(verified(rivals, _check), *given, **options),
        work=4.0 * given[1].size * (3 if gradient else 1),
        peak="read, out of cache",
    )


def _given(n_samples: int, batch: int, n_units: int) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(1)
    x = rng.random((batch, n_units)) < 0.2
    logits, grad = 3 * rng.normal(size=(n_samples, batch, n_units)), rng.normal(size=(n_samples, batch))
    return x.astype(np.float32), logits.astype(np.float32), grad.astype(np.float32)


def _ours(x: Array, logits: Array, grad: Array, *, gradient: bool, threads: int) -> Call:
    import torch

    from .. import torch as vft

    units, given, to = map(torch.from_numpy, (x, logits, grad))
    given.requires_grad_(gradient)
    log_prob = vft.Bernoulli().log_prob

    def call() -> tuple[Any, ...]:
        found = log_prob(units, given)
        return (found.detach(), *torch.autograd.grad(found, given, to)) if gradient else (found,)

    return call


def _check(maker: Maker) -> None:
    """Compare with the formulas in float64."""
    x, logits, grad = _given(3, 5, 77)
    found, slope = (np.asarray(a, np.float64) for a in maker(x, logits, grad, gradient=True, threads=1)())
    wide = logits.astype(np.float64)
    expected = (x * wide - np.logaddexp(0, wide)).sum(axis=-1)
    of_logits = grad[..., None] * (x - 1 / (1 + np.exp(-wide)))
    for mine, truth, name in ((found, expected, "ln p"), (slope, of_logits, "its gradient")):
        error = np.abs(mine - truth).max() / np.abs(truth).max()
        if not error < 1e-5:
            raise WrongAnswerError(f"{name} is off by {float(error):.1g} of its largest value")
