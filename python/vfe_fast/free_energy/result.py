"""What every free-energy method returns."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, overload

from ..arrays import Array
from ..brief import brief

__all__ = ["FreeEnergies", "FreeEnergy", "FreeEnergyWarning", "Kind", "Moments", "SpinMoments"]


class FreeEnergyWarning(UserWarning):
    """A free energy that did not converge; `FreeEnergy.problem` says why."""


Kind = Literal["exact", "upper_bound", "lower_bound", "consistent", "asymptotic"]
_AS_WORDS = {"upper_bound": "an upper bound", "lower_bound": "a lower bound"}


@dataclass(frozen=True, eq=False)
class _EnergyMoments:
    """What the moments of all models share.

    Attributes
    ----------
    energy : float
        ⟨E⟩ = -∂ ln Z / ∂β.
    """

    energy: float
    _variance: Callable[[], float] = field(repr=False)

    @functools.cached_property
    def energy_variance(self) -> float:
        """⟨E²⟩ - ⟨E⟩² = ∂² ln Z / ∂β²: a sum over all states of its own, done when first asked for.

        In this process, five to six times as long as ln Z, whatever `exact` was told but `num_threads`.
        """
        return self._variance()


@dataclass(frozen=True, eq=False)
class Moments(_EnergyMoments):
    """First moments of an RBM under p(v, h), in float64.

    Attributes
    ----------
    energy : float
        ⟨E⟩ = -∂ ln Z / ∂β.
    visible : ndarray, (n_visible,)
        ⟨v_i⟩.
    hidden : ndarray, (n_hidden,)
        ⟨h_j⟩.
    visible_hidden : ndarray, (n_visible, n_hidden)
        ⟨v_i h_j⟩.
    """

    visible: Array
    hidden: Array
    visible_hidden: Array

    __repr__ = brief


@dataclass(frozen=True, eq=False)
class SpinMoments(_EnergyMoments):
    """First and second moments of an Ising model under p(s), in float64.

    Attributes
    ----------
    energy : float
        ⟨E⟩ = -∂ ln Z / ∂β.
    spins : ndarray, (n_spins,)
        ⟨s_i⟩.
    spin_spin : ndarray, (n_spins, n_spins)
        ⟨s_i s_j⟩; 1 on the diagonal.
    """

    spins: Array
    spin_spin: Array

    __repr__ = brief


@dataclass(frozen=True, eq=False)
class FreeEnergy:
    """A free energy F = -ln Z / beta, with what is known of its error.

    Attributes
    ----------
    value : float
        F. Minus infinity at beta = 0, where ln Z is finite.
    log_z : float
        ln Z in nats.
    stderr : float
        Standard error of `log_z` from sampling; 0 for deterministic methods.
    kind : {"exact", "upper_bound", "lower_bound", "consistent", "asymptotic"}
        What `value` is to the true F. It speaks of F, so a mean-field value is an upper bound.
    ess : float
        Effective sample size; infinite for deterministic methods.
    converged : bool
        Whether the method did what it set out to do.
    beta : float
        Inverse temperature.
    moments : Moments, SpinMoments or None
        If asked for.
    details : mapping
        What is specific to the method.
    """

    value: float
    log_z: float
    stderr: float
    kind: Kind
    ess: float
    converged: bool
    beta: float = 1.0
    moments: Any = None
    details: Mapping[str, Any] = field(default_factory=dict)

    __repr__ = brief

    @property
    def problem(self) -> str:
        """Why it did not converge, in words; empty if it did."""
        return str(self.details.get("problem", ""))

    @property
    def error_bound(self) -> float:
        """What an error of `log_z` beside that of sampling is at most, if that is known; else 0."""
        return float(self.details.get("error_bound", 0.0))

    def with_log_z(self, log_z: float) -> FreeEnergy:
        """Replace ln Z, and the value with it.

        Parameters
        ----------
        log_z : float
            ln Z in nats.

        Returns
        -------
        FreeEnergy
        """
        return replace(self, log_z=log_z, value=-log_z / self.beta if self.beta > 0 else -math.inf)

    def __str__(self) -> str:
        error = f" ± {self.stderr:.2g}" if self.stderr > 0 and self.kind != "exact" else ""
        if self.error_bound > 0 and self.converged and self.kind != "exact":
            error += f" ± at most {self.error_bound:.2g}"
        kind = f"F is {_AS_WORDS[self.kind]}" if self.kind.endswith("bound") else self.kind
        warning = "" if self.converged else ", not converged"
        value, log_z = self.value + 0.0, self.log_z + 0.0  # not -0
        return f"F = {value:.10g}, ln Z = {log_z:.10g}{error} ({kind}{warning})"


@dataclass(frozen=True, eq=False)
class FreeEnergies(Sequence[FreeEnergy]):
    """Free energies of several systems by one method, as arrays; ``found[k]`` is a `FreeEnergy`.

    Attributes
    ----------
    value, log_z : ndarray, (n,)
        F and ln Z = -β F.
    stderr : ndarray, (n,)
        Standard errors of `log_z` from sampling; 0 for deterministic methods.
    kind : {"exact", "upper_bound", "lower_bound", "consistent", "asymptotic"}
        What each value is to the true F.
    ess : ndarray, (n,)
        Effective sample sizes; infinite for deterministic methods.
    converged : ndarray of bool, (n,)
        Whether the method did what it set out to do.
    beta : float
        Inverse temperature.
    rows : mapping of str to ndarray, (n, ...)
        What is specific to the method, of each system.
    details : mapping
        What is specific to the method, of all together.
    """

    value: Array
    log_z: Array
    stderr: Array
    kind: Kind
    ess: Array
    converged: Array
    beta: float = 1.0
    rows: Mapping[str, Array] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)

    __repr__ = brief

    @property
    def problem(self) -> str:
        """Why some have not converged, in words; empty if all have."""
        return str(self.details.get("problem", ""))

    def __len__(self) -> int:
        return len(self.log_z)

    @overload
    def __getitem__(self, index: int) -> FreeEnergy: ...

    @overload
    def __getitem__(self, index: slice) -> list[FreeEnergy]: ...

    def __getitem__(self, index: int | slice) -> FreeEnergy | list[FreeEnergy]:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        converged = bool(self.converged[index])
        own = {name: part[index] for name, part in self.rows.items()}
        return FreeEnergy(
            value=float(self.value[index]),
            log_z=float(self.log_z[index]),
            stderr=float(self.stderr[index]),
            kind=self.kind,
            ess=float(self.ess[index]),
            converged=converged,
            beta=self.beta,
            details={**self.details, **own, "problem": "" if converged else self.problem},
        )
