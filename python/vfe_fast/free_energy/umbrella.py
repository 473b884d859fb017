r"""Umbrella sampling: the free energy of a model as a function of an order parameter.

.. math:: F(m) = -\tfrac1\beta \ln p(m), \qquad m(v) = c \cdot v

Window k has the law p(v) e^{-b_k(m)}, b_k = ½ κ (m - m_k)² (G. Torrie, J. Valleau, J. Comput. Phys. 23
(1977) 187; text: C. Martin, "Free Energies and Variational Inference", 2017, umbrella sampling). A Gibbs
step of some visible units by way of the hidden ones keeps p(v) in detailed balance:
p(v) Σ_h p(h|v) p(v'|h) = Σ_h p(h) p(v|h) p(v'|h). So it is a proposal, accepted with probability
min(1, e^{b_k(m) - b_k(m')}), and nothing is approximate. MBAR takes the bias off.

Where windows reach an end of the range of m that a single state v* has, ln Z is known, too, since
:math:`p(v^*) = e^{-\beta F_c(v^*)} / Z`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..arguments import count, inverse_temperature, memory_for, real
from ..arrays import Array
from ..models import BernoulliRBM, SpinRBM
from ..random import generator, seed
from ..sampling import GibbsChains, gibbs
from ..warned import warn
from .result import FreeEnergies, FreeEnergy
from .windows import MbarWarning, Windows, solve

__all__ = ["umbrella"]

_MANY_VALUES = 100  # of an order parameter, beyond which they share bins
_N_BINS = 40
_RESOLUTION = 1e-10  # of the largest m: nearer values are the same
_FEW_TIMES = 10.0  # statistical inefficiencies in a run
_LOW_EDGE = 0.3  # of the largest probability: where the last value has more, others are missing


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
) -> FreeEnergies:
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
    FreeEnergies
        A row for each value of m that was sampled (of more than 100 values, for each of 40 bins): `log_z` is
        ln p(m), `value` is F(m), of kind ``"consistent"``. `stderr` is from the spread of independent chains,
        widened as their number asks for; `ess` the samples that fell there over the statistical
        inefficiencies of their windows. `converged` is False in all rows if windows overlap by less than 0.03
        (of K > 10: 0.3 / K), chains are shorter than ten times the statistical inefficiency of m, the solver
        failed, or the first or last m that was sampled has more than 0.3 of the largest probability and there
        are others beyond, as probabilities are of what was sampled. `rows`: ``order``, the values m, or
        centers of bins. `details`: ``acceptance`` (n_windows,), ``inefficiencies`` (n_windows,) of m in
        steps, ``overlap`` as of `mbar`, ``problem``, and ``model``: the `FreeEnergy` of the model itself,
        from an end of the range of m, or None where no window has reached one, or several states share it.

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
    return _profile(found, at, spring, beta, accepted / n_steps, _ends(model, pulls, beta))


class _End(NamedTuple):
    """The least or the largest m that is possible, to the resolution."""

    order: float
    log_weight: float  # -β F_c of the state that has it; nan if several do


def _ends(model: BernoulliRBM | SpinRBM, pulls: Array, beta: float) -> tuple[_End, _End]:
    low = -1 if isinstance(model, SpinRBM) else 0
    v = np.where([pulls > 0, pulls < 0], low, 1).astype(np.int8)
    wide = type(model)(*(p.astype(np.float64) for p in model.parameters))
    of_one = np.abs(pulls).min() > 2 * _unit(v @ pulls)
    log_weights = -beta * wide.free_energy(v, beta=beta) if of_one else np.full(2, np.nan)
    least, largest = zip(v @ pulls, log_weights, strict=True)
    return _End(*map(float, least)), _End(*map(float, largest))


def _unit(ends: Any) -> float:
    """Distance at which two values of m are the same."""
    return _RESOLUTION * (max(map(abs, ends)) or 1.0)


def _profile(
    m: Array, centers: Array, spring: float, beta: float, acceptance: Array, ends: tuple[_End, _End]
) -> FreeEnergies:
    """The unbiased law is a window without samples, and so is each bin and end: infinitely high elsewhere."""
    n_windows, n_chains, n_steps = m.shape
    samples = m.ravel()
    values: Array
    unit = _unit([end.order for end in ends])
    steps, bins = np.unique(np.round(samples / unit), return_inverse=True)
    values = steps * unit
    if len(values) > _MANY_VALUES:
        edges = np.linspace(values[0], values[-1], _N_BINS + 1)
        filled, bins = np.unique(np.digitize(samples, edges[1:-1]), return_inverse=True)
        values = (edges[filled] + edges[filled + 1]) / 2
    n_bins = len(values)
    at_ends = np.abs(samples - np.array([[end.order] for end in ends])) <= unit
    reached = [end for end, there in zip(ends, at_ends, strict=True) if there.any()]
    at_ends = at_ends[at_ends.any(axis=1)]
    n_sets = n_bins + len(reached)

    def potentials(start: int, stop: int) -> Array:
        biases = spring / 2 * (samples[start:stop] - centers[:, None]) ** 2
        here = np.arange(n_bins)[:, None] == bins[start:stop]
        inside = np.concatenate([here, at_ends[:, start:stop]])
        return np.concatenate([biases, np.zeros((1, stop - start)), np.where(inside, 0.0, np.inf)])

    n_samples = np.concatenate([np.full(n_windows, n_chains * n_steps), np.zeros(1 + n_sets, np.int64)])
    solved = solve(Windows(n_samples, potentials), np.zeros(len(n_samples)))
    contrasts = np.zeros((len(n_samples), n_sets))
    contrasts[n_windows], contrasts[n_windows + 1 :] = -1.0, np.eye(n_sets)
    of_chains = solved.influences(contrasts).reshape(n_sets, n_windows, n_chains, n_steps).sum(axis=3)
    stderr = np.sqrt(np.square(of_chains).sum(axis=(1, 2)) * n_chains / (n_chains - 1))
    stderr *= 1 + 0.5 / (n_chains - 1)  # 68 % of Student's law, to the first order in 1 / n_chains
    log_p = solved.f[n_windows] - solved.f[n_windows + 1 :]
    spread = m.var(axis=(1, 2))
    of_means = m.mean(axis=2).var(axis=1, ddof=1)
    g = np.maximum(1.0, n_steps * of_means / np.where(spread > 0, spread, np.inf))
    problem = solved.problem
    if not problem and (g * _FEW_TIMES > n_steps).any():
        problem = f"chains of {n_steps} steps are {n_steps / g.max():.1f} statistical inefficiencies long"
    if not problem:
        falls = log_p[:n_bins].max() - log_p[[0, n_bins - 1]]
        rooms = samples.min() - ends[0].order, ends[1].order - samples.max()
        if any(room > unit and fall < -math.log(_LOW_EDGE) for room, fall in zip(rooms, falls, strict=True)):
            problem = (
                f"no m beyond {samples.min():.4g} ... {samples.max():.4g} was sampled, where F is low still"
            )
    if problem:
        warn(f"F(m) is not reliable: {problem}; try more windows, or n_steps", MbarWarning)
    independent = np.repeat(1 / g, n_chains * n_steps)
    known = [
        (float(error), end.log_weight - float(log_p_end))
        for end, log_p_end, error in zip(reached, log_p[n_bins:], stderr[n_bins:], strict=True)
        if not math.isnan(end.log_weight)
    ]
    of_model = None
    if known:
        error, log_z = min(known)
        of_model = FreeEnergy(
            -log_z / beta, log_z, error, "consistent", float(independent.sum()), not problem, beta,
            details={"problem": problem},
        )  # fmt: skip
    return FreeEnergies(
        value=-log_p[:n_bins] / beta,
        log_z=log_p[:n_bins],
        stderr=stderr[:n_bins],
        kind="consistent",
        ess=np.bincount(bins, independent),
        converged=np.full(n_bins, not problem),
        beta=beta,
        rows={"order": values},
        details={
            "acceptance": acceptance,
            "inefficiencies": g,
            "overlap": solved.overlap[:n_windows, :n_windows],
            "model": of_model,
            "problem": problem,
        },
    )


def _reals(values: Any, name: str) -> Array:
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name}: expected real numbers, got {array.dtype}")
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"{name}: expected a row of finite numbers, got {array.shape}")
    return array.astype(np.float64)
