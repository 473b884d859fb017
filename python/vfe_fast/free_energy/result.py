"""What every free-energy method returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..arrays import Array

__all__ = ["FreeEnergy", "Kind", "Moments"]

Kind = Literal["exact", "upper_bound", "lower_bound", "consistent", "asymptotic"]


@dataclass(frozen=True, eq=False)
class Moments:
    """First moments under p(v, h), in float64.

    Attributes
    ----------
    visible : ndarray, (n_visible,)
        ⟨v_i⟩.
    hidden : ndarray, (n_hidden,)
        ⟨h_j⟩.
    visible_hidden : ndarray, (n_visible, n_hidden)
        ⟨v_i h_j⟩.
    energy : float
        ⟨E⟩ = -∂ ln Z / ∂β.
    """

    visible: Array
    hidden: Array
    visible_hidden: Array
    energy: float


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
        Standard error of `log_z` from sampling; 0 for deterministic methods. `details` holds a bound on
        the rounding error where there is one.
    kind : {"exact", "upper_bound", "lower_bound", "consistent", "asymptotic"}
        What `value` is to the true F. It speaks of F, so a mean-field value is an upper bound.
    ess : float
        Effective sample size; infinite for deterministic methods.
    converged : bool
        Whether the method did what it set out to do.
    beta : float
        Inverse temperature.
    moments : Moments or None
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
    moments: Moments | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        error = "" if self.kind == "exact" else f" ± {self.stderr:.2g}"
        warning = "" if self.converged else ", not converged"
        return f"F = {self.value:.10g}, ln Z = {self.log_z:.10g}{error} ({self.kind}{warning})"
