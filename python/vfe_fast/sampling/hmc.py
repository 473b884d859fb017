r"""Hamiltonian Monte Carlo.

.. math:: H(x, p) = \beta E(x) + \tfrac12 \sum_i p_i^2 / m_i

Leapfrog steps of the Hamiltonian's flow, then a Metropolis test: S. Duane, A. Kennedy, B. Pendleton, D.
Roweth, Phys. Lett. B 195 (1987) 216; R. Neal in Handbook of MCMC (2011), ch. 5.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..arguments import count, inverse_temperature, real, threads
from ..arrays import Array
from ..random import generator, seed
from .energies import Energy, GradientOf
from .samples import Samples, finished, starts
from .trajectories import Trajectories, trajectories

__all__ = ["hmc"]

_MOST_STEPS = 1000  # of a trajectory
_FIRST_WINDOW, _SETTLING, _LAST = 25, 75, 50  # updates of the warm-up, at least: as in Stan
_GAMMA, _DELAY, _FORGET = 0.05, 10.0, 0.75  # of dual averaging


def hmc(
    energy: Energy,
    start: Any,
    n_samples: int = 1000,
    *,
    gradient: GradientOf = None,
    beta: float = 1.0,
    n_warmup: int = 1000,
    path_length: float = 1.6,
    acceptance: float = 0.8,
    step_size: float | None = None,
    rng: Any = None,
    num_threads: int | None = None,
) -> Samples:
    r"""Sample p(x) ∝ e^(-β E(x)) by Hamiltonian Monte Carlo.

    In the warm-up the step size is adapted by dual averaging to a mean acceptance, and the masses to the
    inverse variances of the dimensions; both are fixed after it. The length of a trajectory is drawn anew for
    each, between half and one and a half of `path_length`, so that none returns to where it began for ever.

    Parameters
    ----------
    energy : GaussianRBM or callable
        The clamped free energy of a GaussianRBM, or E(x) of x (n_chains, n_dimensions) -> (n_chains,).
    start : array_like, (n_chains, n_dimensions)
        Where chains begin; far apart, or R-hat cannot tell.
    n_samples : int
        Samples a chain, >= 4.
    gradient : callable, "torch" or "jax", optional
        ∂E/∂x, of x like x; or what differentiates `energy`, which is then a function of tensors or traced
        arrays.
    beta : float
        Inverse temperature, > 0.
    n_warmup : int
        Trajectories before the first sample; with less than 150, masses stay 1.
    path_length : float
        Mean length of a trajectory, > 0, in units of a dimension's standard deviation; π/2 turns a normal
        law.
    acceptance : float
        Mean acceptance to adapt to, between 0 and 1.
    step_size : float, optional
        Leapfrog step. If given, neither it nor the masses (1) are adapted.
    rng : int, numpy.random.Generator, numpy.random.SeedSequence or None
        See `vfe_fast.random.seed`.
    num_threads : int, optional
        Threads of the kernel that moves chains of a GaussianRBM; see `vfe_fast.show_config`.

    Returns
    -------
    Samples

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or the energy is not finite at the start.

    Warns
    -----
    SamplingWarning
        If chains disagree, are too short, or trajectories diverged.

    Notes
    -----
    Dual averaging: M. Hoffman, A. Gelman, JMLR 15 (2014) 1593, §3.2. Windows of the masses as in Stan.

    Examples
    --------
    >>> found = hmc(lambda x: (x**2).sum(axis=1) / 8, np.zeros((4, 2)), gradient=lambda x: x / 4, rng=0)
    >>> bool(abs(found.samples.var() - 4) < 0.4)
    True
    """
    x = starts(start)
    n_samples = count(n_samples, "n_samples", 4)
    beta = inverse_temperature(beta)
    if beta == 0:
        raise ValueError("beta: expected beta > 0, got 0")
    n_warmup = count(n_warmup, "n_warmup", 0)
    path_length = real(path_length, "path_length", np.finfo(np.float64).tiny)
    acceptance = real(acceptance, "acceptance", np.finfo(np.float64).tiny, 1.0)
    key = seed(rng)
    chains = trajectories(
        energy, gradient, beta, x, key=key, purpose="hamiltonian", num_threads=threads(num_threads)
    )
    lengths = _Lengths(path_length, generator(key, "path lengths"))
    if step_size is not None:
        step = real(step_size, "step_size", np.finfo(np.float64).tiny)
        if n_warmup:
            chains.move(step, lengths.of(n_warmup, step), every=n_warmup)
    else:
        step = _warm_up(chains, n_warmup, lengths, acceptance)
    samples, energies, accepted, divergent = chains.move(step, lengths.of(n_samples, step))
    return finished(
        samples, energies / beta, method="hmc", is_exact=True, acceptance=float(accepted.mean()) / n_samples,
        step_size=step, mass=chains.mass, n_divergent=divergent,
    )  # fmt: skip


class _Lengths:
    """Numbers of steps of trajectories, drawn anew for each."""

    def __init__(self, path_length: float, draw: np.random.Generator) -> None:
        self.path_length = path_length
        self.draw = draw

    def of(self, n_moves: int, step: float) -> Array:
        lengths = self.path_length * self.draw.uniform(0.5, 1.5, n_moves)
        return np.clip(np.round(lengths / step), 1, _MOST_STEPS).astype(np.int64)


class _DualAveraging:
    """Step sizes whose mean acceptance nears a target."""

    def __init__(self, step: float, target: float) -> None:
        self.target = target
        self.center, self.excess, self.log_mean, self.n = math.log(10 * step), 0.0, 0.0, 0
        self.step = step

    def update(self, acceptance: float) -> None:
        self.n += 1
        share = 1 / (self.n + _DELAY)
        self.excess += share * (self.target - acceptance - self.excess)
        log_step = self.center - math.sqrt(self.n) / _GAMMA * self.excess
        weight = self.n**-_FORGET
        self.log_mean += weight * (log_step - self.log_mean)
        self.step = math.exp(log_step)

    @property
    def mean(self) -> float:
        return math.exp(self.log_mean) if self.n else self.step


def _warm_up(chains: Trajectories, n_warmup: int, lengths: _Lengths, acceptance: float) -> float:
    """Adapt the step, and the masses at the end of windows that double; the step to go on with."""
    averaging = _DualAveraging(_reasonable(chains), acceptance)
    ends = _window_ends(n_warmup)
    seen: list[Array] = []
    for k in range(n_warmup):
        accepted = chains.move(averaging.step, lengths.of(1, averaging.step))[2]
        averaging.update(float(accepted.mean()))
        if ends and _SETTLING <= k < ends[-1]:
            seen.append(chains.x)
            if k + 1 in ends:
                window = np.concatenate(seen)
                n = len(window)
                variance = n / (n + 5) * window.var(axis=0) + 1e-3 * 5 / (n + 5)
                chains.mass = 1 / variance
                seen = []
                averaging = _DualAveraging(_reasonable(chains), acceptance)
    return averaging.mean


def _window_ends(n_warmup: int) -> list[int]:
    """After which trajectories the masses are set: windows of 25, 50, ..., the last one to the end."""
    last = n_warmup - _LAST
    ends, at, size = [], _SETTLING, _FIRST_WINDOW
    while at + size <= last:
        if at + 3 * size > last:  # no room for the next, twice as long
            size = last - at
        at += size
        ends.append(at)
        size *= 2
    return ends


def _reasonable(chains: Trajectories) -> float:
    """A step whose single leapfrog is accepted about half of the time: found by halving or doubling."""
    step, up = 1.0, chains.trial(1.0) > 0.5
    for _ in range(60):
        following = step * 2 if up else step / 2
        if (chains.trial(following) > 0.5) != up:
            return step if up else following
        step = following
    return step
