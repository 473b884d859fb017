"""Logarithms of averages of weights, with their errors, and whether to believe them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import Array
from ..warned import warn
from .result import FreeEnergy, FreeEnergyWarning

__all__ = ["LogMean", "WeightsWarning", "estimate", "pareto_k", "too_few"]

_HEAVY = 0.7  # Pareto k beyond which averages of weights are not to be trusted
_FEW_WEIGHTS = 25  # whose tail is too short for a fit
_FEWEST = 10  # of two that vary little 19 % of estimates are beyond three standard errors, of ten 1 %
_SHORTEST_TAIL = 5
_LEAST_EFFECTIVE = 1.0 / 3.0  # share of these few, and 8 of more, where there is no fit
_PRIOR_K, _PRIOR_WEIGHT = 0.5, 10.0  # what is known of k before the fit, and the samples that this is worth
_PRIOR_SCALE = 3.0  # of Zhang and Stephens
_TINY = float(np.finfo(np.float64).tiny)


class WeightsWarning(FreeEnergyWarning):
    """Weights of which a few carry the average: an estimate that is not reliable."""


@dataclass(frozen=True)
class LogMean:
    """ln of the average of positive weights.

    Attributes
    ----------
    value : float
        ln (1/n) Σ w_i.
    stderr : float
        Its standard error, by the jackknife, times 1 + m_4 / (6 n m_2²), moments of the weights about their
        mean: to order 1/n, an interval of one such error holds a mean as often as that of a normal law,
        68.3 % (skewness has no part in it). Of its logarithm it is a little too wide where weights vary as
        much as their mean; what a few heavy-tailed weights hide of m_4 works the other way. nan for one
        weight. P. Hall, Annals of Statistics 16 (1988) 927, page 949; A. Owen, arXiv:2501.07645 (2025).
    ess : float
        Effective sample size (Σ w_i)² / Σ w_i².
    pareto_k : float
        See `pareto_k`.
    """

    value: float
    stderr: float
    ess: float
    pareto_k: float

    @classmethod
    def of(cls, log_weights: Array) -> LogMean:
        """Average independent weights, given as logarithms (n,)."""
        n = len(log_weights)
        top = float(log_weights.max())
        weights = np.exp(log_weights - top)
        total = float(weights.sum())
        stderr = math.nan
        if n > 1:
            largest = int(np.argmax(weights))
            without = total - weights
            without[largest] = weights[:largest].sum() + weights[largest + 1 :].sum()  # nothing cancels
            left_out = np.log(np.maximum(without, _TINY))
            stderr = math.sqrt((n - 1) / n * float(np.square(left_out - left_out.mean()).sum()))
            squares = np.square(weights - total / n)
            stderr *= 1.0 + float(np.square(squares).sum()) / (6.0 * max(float(squares.sum()) ** 2, _TINY))
        return cls(
            top + math.log(total / n),
            stderr,
            total**2 / float(np.square(weights).sum()),
            pareto_k(log_weights),
        )

    def problem(self, n: int) -> str:
        """What speaks against the average of n weights; empty if nothing does."""
        if self.pareto_k > _HEAVY:
            return f"the largest weights have a Pareto k of {self.pareto_k:.2f} > {_HEAVY}"
        if math.isnan(self.pareto_k) and self.ess < _LEAST_EFFECTIVE * min(n, _FEW_WEIGHTS):
            return f"{n} weights are worth {self.ess:.1f}"
        return too_few(n, "weights") if self.stderr > 0 else ""


def too_few(n: int, what: str) -> str:
    """What speaks against the standard error of so few; empty if they are enough."""
    return f"{n} {what} show little of their spread (fewer than {_FEWEST})" if n < _FEWEST else ""


def estimate(
    mean: LogMean, log_z: float, problem: str, beta: float, advice: str, details: Mapping[str, Any]
) -> FreeEnergy:
    """The free energy that an average of weights gives, with a warning if there is a problem."""
    if problem:
        warn(f"ln Z is not reliable: {problem}; {advice}", WeightsWarning)
    return FreeEnergy(
        value=-log_z / beta if beta > 0 else -math.inf,
        log_z=log_z,
        stderr=mean.stderr,
        kind="consistent",
        ess=mean.ess,
        converged=not problem,
        beta=beta,
        details={**details, "pareto_k": mean.pareto_k, "problem": problem},
    )


def pareto_k(log_weights: Array) -> float:
    r"""Shape of the generalized Pareto law of the largest weights: w has finite moments of orders < 1/k.

    Parameters
    ----------
    log_weights : ndarray, (n,)
        Logarithms of weights.

    Returns
    -------
    float
        k. Above 0.7, averages converge too slowly to be of use. -inf if the largest weights are all the same;
        nan for less than 25 weights, and where the largest repeat: those of few states.

    Notes
    -----
    The tail are the min(n/5, 3√n) largest weights. The fit is the posterior mean of J. Zhang and
    M. Stephens, Technometrics 51 (2009) 316, drawn towards 1/2 with the weight of ten samples: A. Vehtari,
    D. Simpson, A. Gelman, Y. Yao, J. Gabry, "Pareto smoothed importance sampling", JMLR 25 (2024).
    """
    n = len(log_weights)
    if n < _FEW_WEIGHTS:
        return math.nan
    ordered = np.sort(log_weights)
    if ordered[0] == ordered[-1]:
        return -math.inf
    size = math.ceil(min(n / 5, 3 * math.sqrt(n)))
    cut = float(ordered[n - size - 1])
    if cut == ordered[-1]:
        return -math.inf
    if len(np.unique(ordered[-size:])) < size / 2:
        return math.nan
    # Relative to the largest weight; what is less than its smallest fraction is no tail.
    cut = max(cut - float(ordered[-1]), math.log(_TINY))
    tail = ordered - ordered[-1]
    tail = tail[tail > cut]
    if len(tail) < _SHORTEST_TAIL:
        return math.inf
    return _shape(np.exp(cut) * np.expm1(tail - cut))


def _shape(excess: Array) -> float:
    """k of the generalized Pareto law of sorted positive numbers."""
    n = len(excess)
    n_points = 30 + int(math.sqrt(n))
    quartile = excess[max(int(n / 4 + 0.5) - 1, 0)]
    points = 1.0 - np.sqrt(n_points / (np.arange(n_points) + 0.5))
    points = points / (_PRIOR_SCALE * quartile) + 1.0 / excess[-1]  # values of -k / sigma
    shapes = np.array([np.log1p(-point * excess).mean() for point in points])
    log_profile = n * (np.log(-points / shapes) - shapes - 1.0)
    posterior = np.exp(log_profile - log_profile.max())
    point = float(posterior @ points / posterior.sum())
    k = float(np.log1p(-point * excess).mean())
    return (n * k + _PRIOR_WEIGHT * _PRIOR_K) / (n + _PRIOR_WEIGHT)
