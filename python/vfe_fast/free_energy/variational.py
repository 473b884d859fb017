r"""Upper bounds on the free energy by distributions of blocks: correlations within, none between.

With a distribution q of any kind, F ≤ F_q = ⟨E⟩_q - S_q / β (Gibbs, Bogoliubov, Feynman), and
β (F_q - F) = KL(q || p). Here q(x) = Π_B q_B(x_B), each q_B a table of the states of a few units.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .. import _core
from ..arguments import count, memory_for
from ..arrays import Array
from ..models import BernoulliRBM, Ising, SpinRBM
from .mean_field import MeanFieldWarning, Problem
from .result import FreeEnergy

__all__ = ["variational"]

_MOST_IN_A_BLOCK = 14
_MOST_ENUMERATED = 16  # units of a model whose states are all looked at


def variational(
    model: BernoulliRBM | SpinRBM | Ising,
    blocks: int | Sequence[Any] = 8,
    *,
    kl: Literal["exclusive", "inclusive"] = "exclusive",
    beta: float = 1.0,
    n_starts: int = 8,
    data: Any = None,
    tolerance: float = 1e-9,
    max_sweeps: int = 1000,
    rng: Any = None,
    num_threads: int | None = None,
) -> FreeEnergy:
    r"""Upper bound on the free energy by a distribution that factorizes over blocks of units.

    .. math:: q_B(x_B) \propto \exp \beta \Big( \sum_{i \in B} x_i
              \big(f_i + \sum_{j \notin B} J_{ij} m_j\big) + \tfrac12 \sum_{ij \in B} J_{ij} x_i x_j \Big)

    is the minimum of F_q in one block given the means m of the others; blocks take turns, so that F_q never
    increases. They begin at each solution that `mean_field` finds, whose bound they cannot but improve.

    Parameters
    ----------
    model : BernoulliRBM, SpinRBM or Ising
        The model.
    blocks : int or sequence of arrays of int
        Units of a block, 1 to 14, which are then put together by the strength of their couplings; or the
        blocks themselves, each unit once, those of an RBM counted from the visible to the hidden ones.
    kl : {"exclusive", "inclusive"}
        Which divergence q minimizes: KL(q || p), which is the bound; or KL(p || q), whose q has the
        model's own distribution in each block. This takes a sum over all states, so 16 units at most.
    beta : float
        Inverse temperature, > 0.
    n_starts, data, tolerance, max_sweeps, rng, num_threads
        As `mean_field` takes them. `tolerance` is that of the means.

    Returns
    -------
    FreeEnergy
        F_q, of kind ``"upper_bound"``, converged or not, whichever divergence was minimized. `details`:
        ``energy`` and ``entropy`` of q (F_q = energy - entropy / β), the means (``visible`` and ``hidden``,
        or ``spins``), ``blocks``, ``mean_field`` (that bound on F), ``n_sweeps``, ``starts`` (the bound from
        each), ``problem``; and of up to 16 units ``kl``, both divergences, by a sum over all states.

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
    L. Saul, M. Jordan, "Exploiting tractable substructures in intractable networks", NIPS 1995; C. Martin,
    "Free Energies and Variational Inference" (2017).

    Examples
    --------
    >>> from vfe_fast.free_energy import exact, mean_field
    >>> ring = Ising([[0, 1.0, 0.5], [1.0, 0, 0.3], [0.5, 0.3, 0]], [0.1, -0.2, 0.3])
    >>> F = variational(ring, blocks=2, rng=0)
    >>> exact(ring).value <= F.value <= mean_field(ring, rng=0).value
    True
    """
    if kl not in ("exclusive", "inclusive"):
        raise ValueError(f"kl: expected 'exclusive' or 'inclusive', got {kl!r}")
    problem = Problem(model, beta, n_starts, data, tolerance, max_sweeps, rng, num_threads)
    if problem.beta == 0:
        raise ValueError("beta: expected beta > 0, got 0")
    found = problem.solve(1, damping=0.0)
    with memory_for("model", len(problem.pairs.fields) ** 2):
        units = Units.of(model, problem.beta)
    starts = problem.pairs.cumulants(found.theta).mean
    parts = _checked_blocks(blocks, units, starts[0])
    all_states = AllStates(units) if len(units.fields) <= _MOST_ENUMERATED else None
    if kl == "inclusive":
        if all_states is None:
            raise ValueError(f"kl: expected a model of at most {_MOST_ENUMERATED} units for 'inclusive'")
        tries = [Blocks(units, parts).of_model(all_states)]
    else:
        distinct = starts[np.unique(np.round(starts, 6), axis=0, return_index=True)[1]]
        tries = [
            Blocks(units, parts).descend(means, problem.tolerance, problem.max_sweeps) for means in distinct
        ]
    best = max(tries, key=lambda q: q.log_z)
    reason = "" if best.change <= problem.tolerance else (
        f"not converged after {best.n_sweeps} sweeps: means change by {best.change:.2g}; raise max_sweeps"
    )  # fmt: skip
    if reason:
        warnings.warn(f"variational: {reason}", MeanFieldWarning, stacklevel=2)
    means = {"spins": best.means}
    if not isinstance(model, Ising):
        means = {"visible": best.means[: model.n_visible], "hidden": best.means[model.n_visible :]}
    details = {
        **means,
        "energy": best.energy,
        "entropy": best.entropy,
        "blocks": tuple(parts),
        "mean_field": -float(problem.pairs.log_z(found.theta, 1).max()) / problem.beta,
        "n_sweeps": best.n_sweeps,
        "starts": np.array([-q.log_z / problem.beta for q in tries]),
        "problem": reason,
    }
    if all_states is not None:
        details["kl"] = all_states.divergences(best)
    return FreeEnergy(
        value=-best.log_z / problem.beta, log_z=best.log_z, stderr=0.0, kind="upper_bound", ess=math.inf,
        converged=not reason, beta=problem.beta, details=details,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Units:
    """Two-valued units in pairs, E(x) = -f.x - ½ x'Jx, in float64; their values are `low` and 1."""

    fields: Array
    couplings: Array
    low: float
    beta: float

    @classmethod
    def of(cls, model: BernoulliRBM | SpinRBM | Ising, beta: float) -> Units:
        """Those of a model; of an RBM visible ones first."""
        if isinstance(model, Ising):
            return cls(model.fields.astype(np.float64), model.couplings.astype(np.float64), -1.0, beta)
        weights, *biases = (p.astype(np.float64) for p in model.parameters)
        corner = np.zeros((model.n_visible + model.n_hidden,) * 2)
        corner[: model.n_visible, model.n_visible :] = weights
        low = 0.0 if isinstance(model, BernoulliRBM) else -1.0
        return cls(np.concatenate(biases), corner + corner.T, low, beta)

    def states(self, n: int) -> Array:
        """All states of n units, (2^n, n)."""
        bits = np.arange(1 << n)[:, None] >> np.arange(n) & 1
        found: Array = np.where(bits == 1, 1.0, self.low)
        return found


class Blocks:
    """A distribution q = Π q_B: a table of probabilities a block, and what follows from them."""

    def __init__(self, units: Units, parts: Sequence[Array]) -> None:
        self.units = units
        self.parts = parts
        self.tables = [np.empty(0)] * len(parts)
        self.logs = [np.empty(0)] * len(parts)  # ln of the tables, which underflow
        self.states = {len(part): units.states(len(part)) for part in parts}
        self.inner = [  # ½ x'Jx of each state of a block
            0.5
            * np.einsum("si,ij,sj->s", x := self.states[len(part)], units.couplings[np.ix_(part, part)], x)
            for part in parts
        ]
        self.means = np.zeros(len(units.fields))
        self.change, self.n_sweeps = 0.0, 0

    def descend(self, means: Array, tolerance: float, max_sweeps: int) -> Blocks:
        """Move all blocks in turn until no mean changes by more than `tolerance`."""
        units, self.means = self.units, means.copy()
        self.change = math.inf
        while self.n_sweeps < max_sweeps and self.change > tolerance:
            before = self.means.copy()
            for k, part in enumerate(self.parts):
                rows = units.couplings[part]
                outside = units.fields[part] + rows @ self.means - rows[:, part] @ self.means[part]
                self._put(k, units.beta * (self.states[len(part)] @ outside + self.inner[k]))
            self.change = float(np.abs(self.means - before).max())
            self.n_sweeps += 1
        return self

    def of_model(self, all_states: AllStates) -> Blocks:
        """The model's own distribution in each block."""
        for k, part in enumerate(self.parts):
            self._put(k, all_states.log_marginal(part))
        return self

    def _put(self, block: int, exponents: Array) -> None:
        below = exponents - exponents.max()
        weights = _core.exp(below)
        total = weights.sum()
        self.tables[block], self.logs[block] = weights / total, below - math.log(total)
        part, table = self.parts[block], self.tables[block]
        self.means[part] = table @ self.states[len(part)]

    @property
    def energy(self) -> float:
        """⟨E⟩_q: pairs within a block by its table, others by their means."""
        units, m = self.units, self.means
        pairs = 0.5 * float(m @ units.couplings @ m)
        for part, table, inner in zip(self.parts, self.tables, self.inner, strict=True):
            pairs += float(table @ inner) - 0.5 * float(
                m[part] @ units.couplings[np.ix_(part, part)] @ m[part]
            )
        return -float(units.fields @ m) - pairs

    @property
    def entropy(self) -> float:
        """S_q = Σ_B S_B."""
        return -sum(float(table @ logs) for table, logs in zip(self.tables, self.logs, strict=True))

    @property
    def log_z(self) -> float:
        """-β F_q."""
        return self.entropy - self.units.beta * self.energy


class AllStates:
    """p(x) of all states of a small model."""

    def __init__(self, units: Units) -> None:
        x = units.states(len(units.fields))
        exponents = units.beta * (x @ units.fields + 0.5 * np.einsum("si,ij,sj->s", x, units.couplings, x))
        below = exponents - exponents.max()
        self.log_share = below - math.log(_core.exp(below).sum())

    def _of_block(self, part: Array) -> Array:
        """The number of the block's state in each state of the model."""
        whole = np.arange(len(self.log_share))
        found: Array = sum((whole >> int(unit) & 1) << k for k, unit in enumerate(part))  # type: ignore[assignment]
        return found

    def log_marginal(self, part: Array) -> Array:
        """ln p of a block's states."""
        of_block = self._of_block(part)
        top = np.full(1 << len(part), -np.inf)
        np.maximum.at(top, of_block, self.log_share)
        found: Array = top + np.log(np.bincount(of_block, _core.exp(self.log_share - top[of_block])))
        return found

    def divergences(self, q: Blocks) -> dict[str, float]:
        """KL(q || p) and KL(p || q)."""
        log_q: Array = sum(logs[self._of_block(part)] for part, logs in zip(q.parts, q.logs, strict=True))  # type: ignore[assignment]
        excess = log_q - self.log_share
        return {
            "exclusive": float(_core.exp(log_q) @ excess),
            "inclusive": -float(_core.exp(self.log_share) @ excess),
        }


def _checked_blocks(blocks: Any, units: Units, means: Array) -> list[Array]:
    n = len(units.fields)
    if isinstance(blocks, (int, np.integer)):
        return _by_strength(units, means, count(blocks, "blocks", 1, _MOST_IN_A_BLOCK + 1))
    try:
        given = [np.asarray(part) for part in blocks]
        if any(part.size > 0 and part.dtype.kind not in "iu" for part in given):
            raise TypeError
        parts = [part.astype(np.intp) for part in given]
    except (TypeError, ValueError):
        raise TypeError("blocks: expected a number of units, or a sequence of arrays of units") from None
    if any(part.ndim != 1 or not 1 <= len(part) <= _MOST_IN_A_BLOCK for part in parts):
        raise ValueError(f"blocks: expected each (n_units,) with 1 <= n_units <= {_MOST_IN_A_BLOCK}")
    if not np.array_equal(np.sort(np.concatenate([*parts, np.empty(0, np.intp)])), np.arange(n)):
        raise ValueError(f"blocks: expected each unit of 0, ..., {n - 1} once")
    return parts


def _by_strength(units: Units, means: Array, size: int) -> list[Array]:
    """Blocks grown from the strongest coupling that is left, β |J| times the units' spreads."""
    spread = np.sqrt(np.maximum((1 - means) * (means - units.low), 1e-300))
    strength = np.abs(units.couplings) * spread[:, None] * spread
    left = np.ones(len(means), bool)
    parts = []
    while left.any():
        pull = np.where(left, (strength * left).max(axis=1), -1.0)
        part = [int(np.argmax(pull))]
        left[part[0]] = False
        while len(part) < size and left.any():
            nearest = int(np.argmax(np.where(left, strength[part].sum(axis=0), -1.0)))
            part.append(nearest)
            left[nearest] = False
        parts.append(np.array(sorted(part), dtype=np.intp))
    return parts
