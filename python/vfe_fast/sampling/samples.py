"""What samplers of real numbers return."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..arguments import count, memory_for
from ..arrays import Array
from ..brief import brief
from ..warned import warn
from .diagnostics import ess_bulk, ess_tail, r_hat
from .energies import reals

__all__ = ["Samples", "SamplingWarning", "finished", "starts"]

_MOST_R_HAT = 1.01
_LEAST_ESS = 100.0  # of bulk and tails, of each dimension


class SamplingWarning(UserWarning):
    """Chains that have not converged, or that were stopped by divergences."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples of some chains and what they are worth.

    Attributes
    ----------
    samples : ndarray, (n_chains, n_samples, n_dimensions)
        After the warm-up, float64.
    energies : ndarray, (n_chains, n_samples)
        E of each.
    method : str
        "hmc", "mala", "ula" or "sgld".
    is_exact : bool
        Whether the law is that of e^(-β E) in the limit of many samples; "ula" and "sgld" are off by their
        step.
    acceptance : float
        Mean probability that a proposal was taken; nan where all are.
    step_size : float
        ε, after the warm-up.
    mass : ndarray, (n_dimensions,)
        Of the kinetic energy ½ Σ p²/m.
    n_divergent : int
        Trajectories after the warm-up whose energy ran away.
    r_hat, ess, ess_tail : ndarray, (n_dimensions,)
        See `vfe_fast.sampling.diagnostics`.
    problem : str
        What speaks against them; empty if nothing does.
    """

    samples: Array
    energies: Array
    method: str
    is_exact: bool
    acceptance: float
    step_size: float
    mass: Array
    n_divergent: int
    r_hat: Array = field(repr=False)
    ess: Array = field(repr=False)
    ess_tail: Array = field(repr=False)
    problem: str = ""

    __repr__ = brief

    @property
    def converged(self) -> bool:
        """Whether chains agree (R-hat <= 1.01), are long enough (100 effective samples) and none diverged."""
        return not self.problem

    @property
    def mean(self) -> Array:
        """Mean over all chains, (n_dimensions,)."""
        found: Array = self.samples.mean(axis=(0, 1))
        return found

    @property
    def stderr(self) -> Array:
        """Standard error of `mean`: standard deviation over √ess."""
        found: Array = self.samples.std(axis=(0, 1), ddof=1) / np.sqrt(self.ess)
        return found

    def __str__(self) -> str:
        chains, n, d = self.samples.shape
        found = (
            f"{self.method}: {chains} chains of {n} samples in {d} dimensions, step {self.step_size:.3g}, "
            f"R-hat <= {self.r_hat.max():.3f}, ESS >= {self.ess.min():.0f}"
        )
        found += "" if self.is_exact else "; steps are not tested: their law is biased"
        found += "" if np.isnan(self.acceptance) else f", acceptance {self.acceptance:.2f}"
        return found + ("" if self.converged else f"; not converged: {self.problem}")


def starts(start: Any, each: str = "n_chains") -> Array:
    """Where chains begin, (n_chains, n_dimensions), a copy in float64."""
    x = np.array(reals(start, "start"))
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"start: expected ({each}, n_dimensions), got {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError("start: expected finite numbers")
    return x


def room(x: Array, n_samples: Any) -> tuple[Array, Array]:
    """Arrays for samples and energies."""
    n = count(n_samples, "n_samples", 4)
    with memory_for("n_samples", n):
        return np.empty((len(x), n, x.shape[1])), np.empty((len(x), n))


def finished(
    samples: Array, energies: Array, *, method: str, is_exact: bool, acceptance: float, step_size: float,
    mass: Array, n_divergent: int,
) -> Samples:  # fmt: skip
    """Diagnose, and warn."""
    by_dimension = np.moveaxis(samples, 2, 0)
    of_rank, bulk, tail = (np.array([f(x) for x in by_dimension]) for f in (r_hat, ess_bulk, ess_tail))
    problems = []
    if n_divergent:
        problems.append(f"{n_divergent} trajectories diverged")
    if not (of_rank <= _MOST_R_HAT).all():
        problems.append(f"R-hat is up to {of_rank.max():.3f} > {_MOST_R_HAT}")
    least = min(bulk.min(), tail.min())
    if not least >= _LEAST_ESS:
        problems.append(f"{least:.0f} effective samples < {_LEAST_ESS:.0f}")
    problem = "; ".join(problems)
    if problem:
        advice = "a larger `acceptance`" if n_divergent else "more n_samples or n_warmup"
        warn(f"{method}: {problem}; {advice} may help", SamplingWarning)
    return Samples(
        samples, energies, method, is_exact, acceptance, step_size, mass, n_divergent, of_rank, bulk, tail,
        problem,
    )  # fmt: skip
