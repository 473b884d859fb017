r"""Umbrella sampling: the free energy of a model as a function of an order parameter.

.. math:: F(m) = -\tfrac1\beta \ln p(m), \qquad m(v) = c \cdot v

Window k has the law p(v) e^{-b_k(m)}, b_k = ½ κ (m - m_k)² (G. Torrie, J. Valleau, J. Comput. Phys. 23
(1977) 187; text: C. Martin, "Free Energies and Variational Inference", 2017, umbrella sampling). A Gibbs
step of some visible units by way of the hidden ones keeps p(v) in detailed balance:
p(v) Σ_h p(h|v) p(v'|h) = Σ_h p(h) p(v|h) p(v'|h). So it is a proposal, accepted with probability
min(1, e^{b_k(m) - b_k(m')}), and nothing is approximate. MBAR takes the bias off.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arguments import count, inverse_temperature, memory_for, real
from ..arrays import Array
from ..brief import brief
from ..models import BernoulliRBM, SpinRBM
from ..random import generator, seed
from ..sampling import GibbsChains, gibbs
from ..warned import warn
from .windows import MbarWarning, Windows, solve

__all__ = ["Profile", "umbrella"]

_MANY_VALUES = 100  # of an order parameter, beyond which they share bins
_N_BINS = 40
_RESOLUTION = 1e-10  # of the largest m: nearer values are the same
_FEW_TIMES = 10.0  # statistical inefficiencies in a run
_LOW_EDGE = 0.3  # of the largest probability: where the last value has more, others are missing


@dataclass(frozen=True, eq=False)
class Profile:
    """A free energy as a function of an order parameter.

    Attributes
    ----------
    order : ndarray, (n_bins,)
        m: the values it takes, or centers of bins. Only those that were sampled.
    free_energy : ndarray, (n_bins,)
        F(m) = -ln p(m) / beta, p(m) the probability of the value or bin.
    stderr : ndarray, (n_bins,)
        Standard error of `free_energy`, from the spread of independent chains.
    converged : bool
        False if windows overlap by less than 0.03 (of K > 10: 0.3 / K), chains are shorter than ten times the
        statistical inefficiency of m, the solver failed, or the first or last m that was sampled has more
        than 0.3 of the largest probability and there are others beyond, as probabilities are of what was
        sampled.
    problem : str
        Which of these; empty if none.
    beta : float
        Inverse temperature.
    acceptance : ndarray, (n_windows,)
        Share of proposals that each window accepted.
    inefficiencies : ndarray, (n_windows,)
        Statistical inefficiency of m in steps, from the spread of the chains' means.
    overlap : ndarray, (n_windows, n_windows)
        See `mbar`.
    """

    order: Array
    free_energy: Array
    stderr: Array
    converged: bool
    problem: str
    beta: float
    acceptance: Array
    inefficiencies: Array
    overlap: Array

    __repr__ = brief


def umbrella(
    model: BernoulliRBM | SpinRBM,
    centers: Any,
    spring: float,
    *,
    order: Any = None,
    beta: float = 1.0,
    n_chains: int = 16,
    n_steps: int = 1000,
    n_warmup: int | None = None,
    n_units: int | None = None,
    rng: Any = None,
    num_threads: int | None = None,
) -> Profile:
    r"""F(m) of an order parameter of the visible units, from windows with harmonic biases.

    Parameters
    ----------
    model : BernoulliRBM or SpinRBM
        The model; of an `Ising` take ``model.to_spin_rbm(beta=beta).rbm`` and beta 1.
    centers : array_like, (n_windows,)
        m_k.
    spring : float
        κ > 0, of the bias ½ κ (m - m_k)² in units of the temperature.
    order : array_like, (n_visible,), optional
        c, of m = c.v; 1 / n_visible each if not given.
    beta : float
        Inverse temperature, > 0.
    n_chains : int
        Chains in each window, >= 2.
    n_steps, n_warmup : int
        Proposals that are recorded, and before; half as many if not given.
    n_units : int, optional
        Visible units, picked at random, that a proposal may change; a quarter of all if not given.
    rng : int, numpy.random.Generator, numpy.random.SeedSequence or None
        See `vfe_fast.random.seed`.
    num_threads : int, optional
        Threads to use; the result does not depend on it.

    Returns
    -------
    Profile

    Warns
    -----
    MbarWarning
        If `converged` is False.

    Raises
    ------
    ModuleNotFoundError
        Without pymbar: install ``vfe_fast[mbar]``.
    TypeError, ValueError
        If an argument is not as described.
    """
    if not isinstance(model, BernoulliRBM | SpinRBM):
        raise TypeError(f"model: expected a BernoulliRBM or SpinRBM, got {type(model).__name__}")
    beta = inverse_temperature(beta)
    if beta == 0:
        raise ValueError("beta: expected beta > 0, got 0")
    at, n_visible = _reals(centers, "centers"), model.n_visible
    spring = real(spring, "spring")
    if not 0 < spring < math.inf:
        raise ValueError(f"spring: expected spring > 0, got {spring:g}")
    pulls = np.full(n_visible, 1.0 / n_visible) if order is None else _reals(order, "order")
    if len(pulls) != n_visible:
        raise ValueError(f"order: expected (n_visible,) = ({n_visible},), got {pulls.shape}")
    n_chains, n_steps = count(n_chains, "n_chains", 2, below=1 << 31), count(n_steps, "n_steps", 2)
    n_warmup = n_steps // 2 if n_warmup is None else count(n_warmup, "n_warmup", 0)
    n_units = max(1, n_visible // 4) if n_units is None else count(n_units, "n_units", 1, n_visible + 1)
    with memory_for("n_steps", n_steps):
        found = np.empty((len(at), n_chains, n_steps))
    key = seed(rng)
    v = GibbsChains(model, len(at) * n_chains, rng=key, num_threads=num_threads).visible
    m: Array = v @ pulls
    center = np.repeat(at, n_chains)
    accepted = np.zeros(len(at))
    for step in range(n_warmup + n_steps):
        draws = generator(key, "umbrella", step)
        kept = np.argsort(draws.random(v.shape), axis=1) >= n_units
        other, _ = gibbs(
            model, v, 1, beta=beta, clamped=kept, rng=key, step_offset=step, num_threads=num_threads
        )
        moved: Array = other @ pulls
        gain = spring / 2 * ((m - center) ** 2 - (moved - center) ** 2)
        good = np.log(draws.random(len(v))) < gain
        v, m = np.where(good[:, None], other, v), np.where(good, moved, m)
        if step >= n_warmup:
            found[:, :, step - n_warmup] = m.reshape(len(at), n_chains)
            accepted += good.reshape(len(at), n_chains).mean(axis=1)
    low, high = -1.0 if isinstance(model, SpinRBM) else 0.0, 1.0
    reach = np.minimum(low * pulls, high * pulls).sum(), np.maximum(low * pulls, high * pulls).sum()
    return _profile(found, at, spring, beta, accepted / n_steps, reach)


def _profile(
    m: Array, centers: Array, spring: float, beta: float, acceptance: Array, reach: tuple[float, float]
) -> Profile:
    """The unbiased law is a window without samples, and so is each bin: of infinite potential elsewhere."""
    n_windows, n_chains, n_steps = m.shape
    samples = m.ravel()
    values: Array
    unit = _RESOLUTION * (max(map(abs, reach)) or 1.0)
    steps, bins = np.unique(np.round(samples / unit), return_inverse=True)
    values = steps * unit
    if len(values) > _MANY_VALUES:
        edges = np.linspace(values[0], values[-1], _N_BINS + 1)
        filled, bins = np.unique(np.digitize(samples, edges[1:-1]), return_inverse=True)
        values = (edges[filled] + edges[filled + 1]) / 2
    n_bins = len(values)

    def potentials(start: int, stop: int) -> Array:
        biases = spring / 2 * (samples[start:stop] - centers[:, None]) ** 2
        elsewhere = np.arange(n_bins)[:, None] != bins[start:stop]
        return np.concatenate([biases, np.zeros((1, stop - start)), np.where(elsewhere, np.inf, 0.0)])

    n_samples = np.concatenate([np.full(n_windows, n_chains * n_steps), np.zeros(1 + n_bins, np.int64)])
    solved = solve(Windows(n_samples, potentials), np.zeros(len(n_samples)))
    contrasts = np.zeros((len(n_samples), n_bins))
    contrasts[n_windows], contrasts[n_windows + 1 :] = -1.0, np.eye(n_bins)
    of_chains = solved.influences(contrasts).reshape(n_bins, n_windows, n_chains, n_steps).sum(axis=3)
    variance = np.square(of_chains).sum(axis=(1, 2)) * n_chains / (n_chains - 1)
    spread = m.var(axis=(1, 2))
    of_means = m.mean(axis=2).var(axis=1, ddof=1)
    g = np.maximum(1.0, n_steps * of_means / np.where(spread > 0, spread, np.inf))
    problem = solved.problem
    if not problem and (g * _FEW_TIMES > n_steps).any():
        problem = f"chains of {n_steps} steps are {n_steps / g.max():.1f} statistical inefficiencies long"
    if not problem:
        falls = solved.f[n_windows + 1 :].min() - solved.f[n_windows + 1 :]  # ln p of each, less the largest
        ends = (samples.min() - reach[0], falls[0]), (reach[1] - samples.max(), falls[-1])
        if any(room > unit and fall > math.log(_LOW_EDGE) for room, fall in ends):
            problem = (
                f"no m beyond {samples.min():.4g} ... {samples.max():.4g} was sampled, where F is low still"
            )
    if problem:
        warn(f"F(m) is not reliable: {problem}; try more windows, or n_steps", MbarWarning)
    return Profile(
        order=values,
        free_energy=(solved.f[n_windows + 1 :] - solved.f[n_windows]) / beta,
        stderr=np.sqrt(variance) / beta,
        converged=not problem,
        problem=problem,
        beta=beta,
        acceptance=acceptance,
        inefficiencies=g,
        overlap=solved.overlap[:n_windows, :n_windows],
    )


def _reals(values: Any, name: str) -> Array:
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name}: expected real numbers, got {array.dtype}")
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"{name}: expected a row of finite numbers, got {array.shape}")
    return array.astype(np.float64)
