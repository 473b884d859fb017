"""Z by simple Monte Carlo and importance sampling from independent units."""

from __future__ import annotations

import time
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .. import _core
from ..arguments import count, memory_for, threads
from ..arrays import Array, borrow
from ..models import BernoulliRBM, Ising, SpinRBM
from ..random import seed
from .annealing import Path, Target
from .log_weights import LogMean, estimate
from .result import FreeEnergy
from .seen import log_z_seen, missed

__all__ = ["importance"]

_BLOCK = 1 << 14  # samples at a time
_GIBBS_CHAINS, _GIBBS_STEPS = 64, 100  # that look for what the samples missed
_MUCH_UNSEEN = 0.1


def importance(
    model: BernoulliRBM | SpinRBM | Ising,
    q: Literal["biases", "uniform"] | npt.ArrayLike | None = None,
    n_samples: int = 10_000,
    *,
    beta: float = 1.0,
    rng: Any = None,
    num_threads: int | None = None,
) -> FreeEnergy:
    r"""Estimate ln Z by importance sampling from a law q of independent visible units.

    .. math:: Z = \sum_v q(v) \frac{e^{-\beta F_c(v)}}{q(v)} \approx \frac1n \sum_{v \sim q} w(v),
              \qquad w(v) = \frac{e^{-\beta F_c(v)}}{q(v)},

    with the hidden units summed out: :math:`F_c` is the clamped free energy.

    Parameters
    ----------
    model : BernoulliRBM, SpinRBM or Ising
        The model; an Ising one as `Ising.to_spin_rbm` has it.
    q : {"biases", "uniform"} or array_like, (n_visible,) or (n_spins,), optional
        The law: what the visible biases alone would make of the units (the default), fair coins (simple Monte
        Carlo), or the units' means ⟨v_i⟩, inside (0, 1), of spins inside (-1, 1).
    n_samples : int
        Samples, >= 2.
    beta : float
        Inverse temperature, 0 or >= 2^-100.
    rng : int, numpy.random.Generator, numpy.random.SeedSequence or None
        See `vfe_fast.random.seed`.
    num_threads : int, optional
        Threads to use; the result does not depend on it.

    Returns
    -------
    FreeEnergy
        Of kind ``"consistent"``: the average of w is Z in expectation, so `log_z` is below ln Z and `value`
        above F in expectation. `stderr` is that of the jackknife, widened as in `ais`. `details` holds
        ``log_weights`` (n_samples,), ``pareto_k``, ``unseen`` and the seconds taken. Where k > 0.7, the
        average converges too slowly to be of use: `converged` is False, with a `WeightsWarning`. As k knows
        only what was sampled, 64 Gibbs chains of 100 steps set out from the heaviest samples; ``unseen`` is
        the share of them that ends at a larger weight than any sample's, and more than 0.1 of them is a
        problem too; so is a ln Z below the bound ``log_z_seen``, see `ais`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    C. Martin, "Free Energies and Variational Inference" (2017), "Importance sampling"; tails: A. Vehtari,
    D. Simpson, A. Gelman, Y. Yao, J. Gabry, "Pareto smoothed importance sampling", JMLR 25 (2024).

    Examples
    --------
    >>> import numpy as np
    >>> from vfe_fast import BernoulliRBM
    >>> rbm = BernoulliRBM(np.zeros((3, 2)), np.ones(3), np.zeros(2))
    >>> F = importance(rbm, rng=0)  # ln Z = 3 ln(1 + e) + 2 ln 2
    >>> round(F.log_z, 6)
    5.326079
    """
    begin = time.perf_counter()
    target = Target.of(model, beta)
    path = Path(target.rbm, _log_odds(target, q))
    n = count(n_samples, "n_samples", 2, below=1 << 32)
    key, n_threads = seed(rng), threads(num_threads)
    with memory_for("n_samples", n):
        log_weights = np.empty(n)
    for first in range(0, n, _BLOCK):
        visible = path.start(key, first, min(_BLOCK, n - first), n_threads)
        log_weights[first : first + _BLOCK] = path.log_f(1.0, visible, n_threads)
    n_chains = min(_GIBBS_CHAINS, n)
    heaviest = np.argsort(log_weights)[: -n_chains - 1 : -1]
    start = np.concatenate([path.start(key, int(i), 1, n_threads) for i in heaviest])
    unseen = _unseen(path, start, float(log_weights.max()), key, n_threads)
    bits = _core.unpack_states(start, target.rbm.n_visible)
    seen = target.log_shift + log_z_seen(target.rbm, bits, key, n_threads)
    log_weights += float(np.logaddexp(0.0, path.base).sum()) + target.log_shift
    mean = LogMean.of(log_weights)
    problem = mean.problem(n)
    if not problem and unseen > _MUCH_UNSEEN:
        problem = f"{unseen:.0%} of the states that Gibbs chains find have a larger weight than any sample"
    problem = problem or missed(mean.value, mean.stderr, seen)
    details = {
        "log_weights": log_weights, "unseen": unseen, "log_z_seen": seen,
        "seconds": time.perf_counter() - begin,
    }  # fmt: skip
    return estimate(mean, mean.value, problem, target.beta, "try ais", details)


def _unseen(path: Path, start: Array, largest: float, key: int, num_threads: int) -> float:
    """Share of the ends of Gibbs chains, from the heaviest samples, that weigh more than any sample."""
    # Steps from 1 on, as the samples are of step 0.
    visible = path.move(1.0, start, key, 0, 1, num_threads, n_steps=_GIBBS_STEPS)
    return float(np.mean(path.log_f(1.0, visible, num_threads) > largest))


def _log_odds(target: Target, q: Any) -> Array:
    """q in units 0/1."""
    if q is None or (isinstance(q, str) and q == "biases"):
        return target.biases
    if isinstance(q, str):
        if q != "uniform":
            raise ValueError(f"q: expected 'biases', 'uniform' or means, got {q!r}")
        return np.zeros(target.rbm.n_visible)
    array, _ = borrow(q, "q")
    if array.dtype.kind not in "fiu":
        raise TypeError(f"q: expected numbers, got {array.dtype}")
    if array.shape != (target.n_units,):
        raise ValueError(f"q: expected ({target.n_units},), got {array.shape}")
    means = target.visible(array.astype(np.float64))
    least = -1.0 if target.spins else 0.0
    if not np.all((means > least) & (means < 1.0)):
        raise ValueError(f"q: expected {least:g} < mean < 1 of every unit")
    log_odds: Array = np.log(means - least) - np.log1p(-means)
    return log_odds
