r"""Langevin dynamics.

.. math:: x' = x - \tfrac{\epsilon^2}{2} \beta \nabla E(x) + \epsilon \xi, \qquad \xi \sim N(0, 1)

with a Metropolis test (MALA: G. Roberts, R. Tweedie, Bernoulli 2 (1996) 341), without one (ULA: biased by the
step), or with a gradient of minibatches (SGLD: M. Welling, Y. W. Teh, ICML 2011).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..arguments import count, inverse_temperature, real, threads
from ..arrays import Array
from ..random import generator, seed
from .energies import Energy, GradientOf, reals
from .samples import Samples, finished, room, starts
from .trajectories import trajectories

__all__ = ["langevin", "sgld"]

_ADAPTED_TO = 0.574  # acceptance: G. Roberts, J. Rosenthal, J. R. Stat. Soc. B 60 (1998) 255


def langevin(
    energy: Energy,
    start: Any,
    n_samples: int = 1000,
    *,
    gradient: GradientOf = None,
    beta: float = 1.0,
    adjusted: bool = True,
    step_size: float | None = None,
    n_warmup: int = 1000,
    n_steps: int = 10,
    rng: Any = None,
    num_threads: int | None = None,
) -> Samples:
    """Sample p(x) ∝ e^(-β E(x)) by Langevin steps, with a Metropolis test (MALA) or without (ULA).

    Parameters
    ----------
    energy, start, n_samples, gradient, beta
        As `hmc` takes them.
    adjusted : bool
        Whether steps are tested. Without the test the law is off by the order of ε².
    step_size : float, optional
        ε > 0. If not given it is adapted in the warm-up to an acceptance of 0.574, which needs the test.
    n_warmup : int
        Steps before the first sample; without any, and no `step_size`, ε stays where it starts, at 0.1.
    n_steps : int
        Steps between samples, >= 1.
    rng : int, numpy.random.Generator, numpy.random.SeedSequence or None
        See `vfe_fast.random.seed`.
    num_threads : int, optional
        As `hmc` takes it.

    Returns
    -------
    Samples
        With `is_exact` False if steps are not tested.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, the energy is not finite at the start, or steps without a test ran
        away.

    Warns
    -----
    SamplingWarning
        If chains disagree or are too short.

    Examples
    --------
    >>> found = langevin(lambda x: (x**2).sum(axis=1) / 2, np.zeros((8, 2)), gradient=lambda x: x, rng=0)
    >>> bool(abs(found.samples.var() - 1) < 0.1)
    True
    """
    x = starts(start)
    n_samples = count(n_samples, "n_samples", 4)
    beta = inverse_temperature(beta)
    if beta == 0:
        raise ValueError("beta: expected beta > 0, got 0")
    if not adjusted and step_size is None:
        raise ValueError("step_size: expected a number with adjusted=False, got None")
    n_warmup, n_steps = count(n_warmup, "n_warmup", 0), count(n_steps, "n_steps")
    step = 0.1 if step_size is None else real(step_size, "step_size", np.finfo(np.float64).tiny)
    chains = trajectories(
        energy, gradient, beta, x, key=seed(rng), purpose="langevin", num_threads=threads(num_threads),
        tested=bool(adjusted),
    )  # fmt: skip
    one = np.ones(1, dtype=np.int64)
    if step_size is None:
        for k in range(n_warmup):
            accepted = chains.move(step, one)[2]
            step *= math.exp((float(accepted.mean()) - _ADAPTED_TO) / math.sqrt(k + 1))
    elif n_warmup:
        chains.move(step, one.repeat(n_warmup), every=n_warmup)
    n_moves = n_steps * n_samples
    samples, energies, accepted, _ = chains.move(step, one.repeat(n_moves), every=n_steps)
    return finished(
        samples, energies / beta, method="mala" if adjusted else "ula", is_exact=bool(adjusted),
        acceptance=float(accepted.mean()) / n_moves if adjusted else math.nan,
        step_size=step, mass=chains.mass, n_divergent=0,
    )  # fmt: skip


def sgld(
    gradient: Callable[[Array, int], Any],
    start: Any,
    n_samples: int = 1000,
    *,
    step_size: float,
    beta: float = 1.0,
    n_warmup: int = 1000,
    n_steps: int = 10,
    rng: Any = None,
) -> Samples:
    """Stochastic gradient Langevin dynamics: unbiased estimates of the gradient, no test.

    Parameters
    ----------
    gradient : callable
        Of x (n_chains, n_dimensions) and the number of the step, to pick a minibatch by: an estimate of
        ∂E/∂x.
    start, n_samples, beta, n_warmup, n_steps, rng
        As of `langevin`.
    step_size : float
        ε > 0. The law is wider than e^(-β E) by the variance of the gradient, β² ε² Var / 4 of the noise's,
        and off by the order of ε² besides.

    Returns
    -------
    Samples
        With `is_exact` False and energies that are nan: nothing but gradients is known.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or the steps ran away.

    Warns
    -----
    SamplingWarning
        If chains disagree or are too short.
    """
    if not callable(gradient):
        raise TypeError(f"gradient: expected a function, got {type(gradient).__name__}")
    x = starts(start)
    samples, energies = room(x, n_samples)
    energies[:] = np.nan
    beta = inverse_temperature(beta)
    if beta == 0:
        raise ValueError("beta: expected beta > 0, got 0")
    step = real(step_size, "step_size", np.finfo(np.float64).tiny)
    n_warmup, n_steps = count(n_warmup, "n_warmup", 0), count(n_steps, "n_steps")
    draw = generator(seed(rng), "langevin")
    for k in range(n_warmup + n_steps * samples.shape[1]):
        x.flags.writeable = False
        slope = reals(gradient(x, k), "gradient")
        if slope.shape != x.shape:
            raise ValueError(f"gradient: expected {x.shape}, got {slope.shape}")
        with np.errstate(over="ignore", invalid="ignore"):
            x = x - 0.5 * step**2 * beta * slope + step * draw.standard_normal(x.shape)
        if not np.isfinite(x).all():
            raise ValueError(f"step_size: expected steps that do not run away, got {step:g}")
        if k >= n_warmup and (k - n_warmup) % n_steps == n_steps - 1:
            samples[:, (k - n_warmup) // n_steps] = x
    return finished(
        samples, energies, method="sgld", is_exact=False, acceptance=math.nan, step_size=step,
        mass=np.ones(x.shape[1]), n_divergent=0,
    )  # fmt: skip
