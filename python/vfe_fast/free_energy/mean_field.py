"""The best factorized distribution, and the upper bound on F that it gives."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import _core
from ..arguments import count, inverse_temperature, real, threads
from ..arrays import Array, borrow
from ..models import BernoulliRBM, Ising, SpinRBM
from ..models.bernoulli_rbm import as_states
from ..models.ising import as_spins
from ..random import generator, seed
from ..warned import warn
from .fixed_point import Settled, settle
from .pairs import Layers, Pairs, pairs_of
from .result import FreeEnergy, FreeEnergyWarning

__all__ = ["MeanFieldWarning", "Problem", "mean_field", "several_valleys"]

_APART = 0.02  # means of two solutions, in units of their range
_MUCH = 0.05  # nats that solutions beside the best would add
_SHRINK = 0.1  # of data towards equal probabilities, where a start is made of them


class MeanFieldWarning(FreeEnergyWarning):
    """Equations of means that were not solved, or whose solution says little of F."""


def mean_field(
    model: BernoulliRBM | SpinRBM | Ising,
    *,
    beta: float = 1.0,
    n_starts: int = 8,
    data: Any = None,
    tolerance: float = 1e-9,
    max_sweeps: int = 2000,
    rng: Any = None,
    num_threads: int | None = None,
) -> FreeEnergy:
    r"""Upper bound on the free energy by the best factorized distribution (Gibbs, Bogoliubov, Feynman).

    .. math:: F \le F_q = \langle E \rangle_q - S_q / \beta, \qquad q(x) = \prod_i q_i(x_i)

    The means are moved a block of units without couplings between them at a time (of an RBM: a layer), to
    the minimum of F_q given the others, so that F_q never increases.

    Parameters
    ----------
    model : BernoulliRBM, SpinRBM or Ising
        The model; float32 parameters are taken as float64.
    beta : float
        Inverse temperature, 0 or >= 2^-100.
    n_starts : int
        F_q has many minima; the best of those reached is kept. The starts: equal probabilities, the means of
        `data`, then in turns samples of `data` and means drawn at random; without data the latter alone.
    data : array_like, (n_samples, n_visible) or (n_samples, n_spins), optional
        States to start from.
    tolerance : float
        A start has converged when a sweep changes no mean by more, and no |∂(βF_q)/∂θ_i| of
        q_i ∝ exp(θ_i x_i) is larger.
    max_sweeps : int
        Sweeps over all units, at most.
    rng : int, numpy.random.Generator, numpy.random.SeedSequence or None
        Seed of the starts.
    num_threads : int, optional
        Threads to use; the result does not depend on it.

    Returns
    -------
    FreeEnergy
        Of kind ``"upper_bound"``, converged or not. `details`: ``visible`` and ``hidden`` (or ``spins``), the
        means; ``energy`` ⟨E⟩_q; ``entropy`` S_q in nats; ``gradient`` and ``change``, largest of all
        units; ``starts``, F_q of each start, and ``spread``, the highest less the lowest of them;
        ``valleys``, how many solutions they came to, and ``others``, what those beside the best would add to
        ln Z were all of their weights summed, ln Σ_k Z_k / Z_best; ``n_sweeps``, of the best.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Warns
    -----
    MeanFieldWarning
        If the best start has not converged.

    Notes
    -----
    The bound is Jensen's inequality; KL(q || p) = β (F_q - F). C. Martin, "Free Energies and Variational
    Inference" (2017), "Variational Free Energies".

    Examples
    --------
    >>> from vfe_fast.free_energy import exact
    >>> pair = Ising([[0.0, 0.5], [0.5, 0.0]], [0.1, -0.2])
    >>> F = mean_field(pair, rng=0)
    >>> F.kind, F.value >= exact(pair).value
    ('upper_bound', True)
    """
    problem = Problem(model, beta, n_starts, data, tolerance, max_sweeps, rng, num_threads)
    found = problem.solve(1, damping=0.0)
    best = int(np.argmax(problem.pairs.log_z(found.theta, 1)))
    reason = "" if found.converged[best] else problem.unsettled(found, best)
    if reason:
        warn(f"mean_field: {reason}", MeanFieldWarning)
    return problem.result(found, best, 1, reason)


def several_valleys(F: FreeEnergy) -> str:
    """What speaks against an expansion about the best solution alone; empty if nothing does."""
    valleys, others = F.details["valleys"], F.details["others"]
    if others <= _MUCH:
        return ""
    return f"starts came to {valleys} solutions: those beside the best would add {others:.2g} to ln Z"


class Problem:
    """Equations of means, their starts, and what their solution is.

    Parameters
    ----------
    model, beta, n_starts, data, tolerance, max_sweeps, rng, num_threads
        As `mean_field` takes them.
    """

    def __init__(
        self,
        model: BernoulliRBM | SpinRBM | Ising,
        beta: Any,
        n_starts: Any,
        data: Any,
        tolerance: Any,
        max_sweeps: Any,
        rng: Any,
        num_threads: Any,
    ) -> None:
        if not isinstance(model, (BernoulliRBM, SpinRBM, Ising)):
            raise TypeError(
                f"model: expected a BernoulliRBM, SpinRBM or Ising, got {type(model).__name__}"
                + (" (its hidden_ising() is one)" if hasattr(model, "hidden_ising") else "")
            )
        self.model = model
        self.beta = inverse_temperature(beta)
        self.tolerance = real(tolerance, "tolerance", 0.0)
        self.max_sweeps = count(max_sweeps, "max_sweeps")
        self.pairs: Pairs = pairs_of(model, self.beta, threads(num_threads))
        self.start = self._starts(count(n_starts, "n_starts"), data, seed(rng))

    def solve(self, order: int, *, damping: float) -> Settled:
        """From all starts."""
        return settle(
            self.pairs, self.start, order,
            damping=damping, tolerance=self.tolerance, max_sweeps=self.max_sweeps,
        )  # fmt: skip

    def unsettled(self, found: Settled, row: int) -> str:
        """Say how far from solved it is."""
        return (
            f"not converged after {found.n_sweeps[row]} sweeps: means change by {found.change[row]:.2g}, the "
            f"gradient is {found.gradient[row]:.2g}; raise max_sweeps or n_starts"
        )

    def result(self, found: Settled, best: int, order: int, reason: str) -> FreeEnergy:
        """What the best start has reached, and the others."""
        pairs, beta = self.pairs, self.beta
        theta = found.theta[best : best + 1]
        starts = pairs.log_z(found.theta, order)
        values = -starts / beta if beta > 0 else np.full(len(starts), -math.inf)
        valleys = self._valleys(found, starts, best)
        details = {
            **self._means(theta),
            "energy": float(pairs.energy(theta)[0]),
            "entropy": float(pairs.entropy(theta)[0]),
            "corrections": tuple(float(x[0]) for x in pairs.corrections(theta, order)),
            "gradient": float(found.gradient[best]),
            "change": float(found.change[best]),
            "n_sweeps": int(found.n_sweeps[best]),
            "starts": values,
            "starts_converged": found.converged,
            "spread": float(np.ptp(values)) if beta > 0 else 0.0,
            "valleys": len(valleys),
            "others": float(np.logaddexp.reduce(starts[valleys] - starts[best])),
            "problem": reason,
        }
        return FreeEnergy(
            value=-math.inf,
            log_z=math.nan,
            stderr=0.0,
            kind="upper_bound" if order == 1 else "asymptotic",
            ess=math.inf,
            converged=not reason,
            beta=beta,
            details=details,
        ).with_log_z(float(starts[best]))

    def _valleys(self, found: Settled, log_z: Array, best: int) -> list[int]:
        """A start of each solution that was reached, the best one first."""
        mean = self.pairs.cumulants(found.theta).mean
        first = [best]
        for k in np.argsort(-log_z):
            distance = np.abs(mean[first] - mean[k]).max(axis=1)
            if found.converged[k] and distance.min() > _APART * self.pairs.width:
                first.append(int(k))
        return first

    def _means(self, theta: Array) -> dict[str, Array]:
        mean = self.pairs.cumulants(theta).mean[0]
        if isinstance(self.model, Ising):
            return {"spins": mean}
        return {"visible": mean[: self.model.n_visible], "hidden": mean[self.model.n_visible :]}

    def _starts(self, n_starts: int, data: Any, key: int) -> Array:
        """Equal probabilities, means of data, then samples of data and random means, (n_starts, n_units)."""
        n_units = len(self.pairs.fields)
        draw = generator(key, "mean-field starts")
        up = draw.random((n_starts, n_units))
        of_data = np.zeros(n_starts, dtype=bool)
        if data is not None:
            of_data[1:2] = of_data[2::2] = True
            shares = self._shares(data)
            seen = shares[draw.integers(0, len(shares), n_starts)]
            seen[1:2] = shares.mean(axis=0)
            up[of_data, : shares.shape[1]] = _SHRINK / 2 + (1 - _SHRINK) * seen[of_data]
        up[0] = 0.5
        theta: Array = (_core.log(up) - _core.log(1 - up)) / self.pairs.width
        if isinstance(self.pairs, Layers) and of_data.any():
            at = self.pairs.cumulants(theta)
            theta[of_data, self.pairs.blocks[1]] = self.pairs.field(at, 1, 1)[of_data]
        return theta

    def _shares(self, data: Any) -> Array:
        """States as 0 and 1, (n_samples, n_visible or n_spins)."""
        n_units = self.model.n_spins if isinstance(self.model, Ising) else self.model.n_visible
        if isinstance(self.model, BernoulliRBM):
            states = as_states(data, "data").astype(np.float64)
        else:
            states = 0.5 + 0.5 * as_spins(borrow(data, "data")[0], n_units, "data")
        if states.shape[1] != n_units or len(states) == 0:
            raise ValueError(f"data: expected (n_samples >= 1, {n_units}), got {states.shape}")
        return states
