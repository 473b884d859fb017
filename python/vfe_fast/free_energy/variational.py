r"""Upper bounds on the free energy by distributions with correlations: within blocks, or along a tree.

With a distribution q of any kind, F ≤ F_q = ⟨E⟩_q - S_q / β (Gibbs, Bogoliubov, Feynman), and
β (F_q - F) = KL(q || p). Here q(x) = Π_B q_B(x_B), each q_B a table of the states of a few units, or
q(x) = Π_i q(x_i | x_p(i)), each unit with a parent.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from ..arguments import memory_for
from ..models import BernoulliRBM, Ising, SpinRBM
from ..warned import warn
from .blocks import Blocks, checked_blocks
from .mean_field import MeanFieldWarning, Problem
from .result import FreeEnergy
from .trees import Tree, checked_tree
from .units import AllStates, Units

__all__ = ["variational"]

_UNITS_A_BLOCK = 8
_MOST_ENUMERATED = 16  # units of a model whose states are all looked at


def variational(
    model: BernoulliRBM | SpinRBM | Ising,
    blocks: int | Sequence[Any] | None = None,
    *,
    tree: bool | Sequence[Any] = False,
    kl: Literal["exclusive", "inclusive"] = "exclusive",
    beta: float = 1.0,
    n_starts: int = 8,
    data: Any = None,
    tolerance: float = 1e-9,
    max_sweeps: int = 1000,
    rng: Any = None,
    num_threads: int | None = None,
) -> FreeEnergy:
    r"""Upper bound on the free energy by a distribution of blocks of units, or on a tree of them.

    .. math:: q_B(x_B) \propto \exp \beta \Big( \sum_{i \in B} x_i
              \big(f_i + \sum_{j \notin B} J_{ij} m_j\big) + \tfrac12 \sum_{ij \in B} J_{ij} x_i x_j \Big)

    is the minimum of F_q in one block given the means m of the others. On a tree, where
    :math:`q(x) = \prod_i q(x_i \mid x_{p(i)})`, that in one unit given its parent is

    .. math:: q(x_i \mid x_p) \propto \exp \big\langle -\beta E - \sum_{j \neq i} \ln q(x_j \mid x_{p(j)})
              \big\rangle_{q \mid x_i, x_p},

    with all correlations along the tree. Blocks or units take turns, so that F_q never increases. They begin
    at each solution that `mean_field` finds, whose bound they cannot but improve.

    Parameters
    ----------
    model : BernoulliRBM, SpinRBM or Ising
        The model.
    blocks : int or sequence of arrays of int, optional
        Units of a block, 1 to 14, which are then put together by the strength of their couplings; or the
        blocks themselves, each unit once, those of an RBM counted from the visible to the hidden ones. 8 if
        not given.
    tree : bool or array_like of int, (n_edges, 2)
        A tree instead of blocks: its edges, without a loop (parts that no edge joins are independent); or
        True for the spanning tree of the strongest couplings, with "inclusive" of the largest mutual
        information: that of Chow and Liu, the best of all trees.
    kl : {"exclusive", "inclusive"}
        Which divergence q minimizes: KL(q || p), which is the bound; or KL(p || q), whose q has the
        model's own distribution in each block, or of each unit and its parent. This takes a
        sum over all states, so 16 units at most.
    beta : float
        Inverse temperature, > 0.
    n_starts, data, tolerance, max_sweeps, rng, num_threads
        As `mean_field` takes them. `tolerance` is that of the means, on a tree of those
        given the parent.

    Returns
    -------
    FreeEnergy
        F_q, of kind ``"upper_bound"``, converged or not, whichever divergence was minimized. `details`:
        ``energy`` and ``entropy`` of q (F_q = energy - entropy / β), the means (``visible`` and ``hidden``,
        or ``spins``), ``blocks``, or ``edges`` and ``products`` (⟨x_i x_j⟩ of each edge) of a tree;
        ``mean_field`` (that bound on F), ``n_sweeps``, ``starts`` (the bound from each), ``problem``; and of
        up to 16 units ``kl``, both divergences, by a sum over all states.

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
    L. Saul, M. Jordan, "Exploiting tractable substructures in intractable networks", NIPS 1995; C. Chow,
    C. Liu, IEEE Trans. Inf. Theory 14 (1968) 462; C. Martin, "Free Energies and Variational Inference"
    (2017).

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
    strength = units.strengths(starts[0])
    all_states = AllStates(units) if len(units.fields) <= _MOST_ENUMERATED else None
    if kl == "inclusive":
        if all_states is None:
            raise ValueError(f"kl: expected a model of at most {_MOST_ENUMERATED} units for 'inclusive'")
        if tree is True:
            strength = all_states.informations()
    independent: Callable[[], Blocks | Tree]
    if tree is False:
        parts = checked_blocks(_UNITS_A_BLOCK if blocks is None else blocks, strength)
        independent = functools.partial(Blocks, units, parts)
    elif blocks is None:
        independent = functools.partial(Tree, units, checked_tree(tree, strength))
    else:
        raise ValueError("blocks: expected none beside a tree")
    if kl == "inclusive" and all_states is not None:
        tries = [independent().of_model(all_states)]
    else:
        distinct = starts[np.unique(np.round(starts, 6), axis=0, return_index=True)[1]]
        tries = [independent().descend(means, problem.tolerance, problem.max_sweeps) for means in distinct]
    best = max(tries, key=lambda q: q.log_z)
    reason = "" if best.change <= problem.tolerance else (
        f"not converged after {best.n_sweeps} sweeps: means change by {best.change:.2g}; raise max_sweeps"
    )  # fmt: skip
    if reason:
        warn(f"variational: {reason}", MeanFieldWarning)
    means = {"spins": best.means}
    if not isinstance(model, Ising):
        means = {"visible": best.means[: model.n_visible], "hidden": best.means[model.n_visible :]}
    details = {
        **means,
        "energy": best.energy,
        "entropy": best.entropy,
        **best.structure,
        "mean_field": -float(problem.pairs.log_z(found.theta, 1).max()) / problem.beta,
        "n_sweeps": best.n_sweeps,
        "starts": np.array([-q.log_z / problem.beta for q in tries]),
        "problem": reason,
    }
    if all_states is not None:
        details["kl"] = all_states.divergences(best.log_share(all_states))
    return FreeEnergy(
        value=-best.log_z / problem.beta, log_z=best.log_z, stderr=0.0, kind="upper_bound", ess=math.inf,
        converged=not reason, beta=problem.beta, details=details,
    )  # fmt: skip
