r"""An Ising model as a machine of two layers, so that what samples a `SpinRBM` samples it.

Where no bond joins two spins of one sublattice, the sublattices are the layers. Any other model gets a hidden
unit for each bond, the identity of which M. Kac and J. Hubbard made use for continuous fields:

.. math:: e^{J s s'} = \tfrac12 e^{-|J|} \sum_{t = \pm 1} e^{w t (s + \operatorname{sgn}(J) s')}, \qquad
          \cosh 2 w = e^{2 |J|}
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import Array
from ..brief import brief
from .ising import Ising
from .spin_rbm import SpinRBM

__all__ = ["SpinLayers", "spin_layers"]


@dataclass(frozen=True, eq=False)
class SpinLayers:
    """A machine of two layers whose spins have the law of an Ising model's.

    Attributes
    ----------
    rbm : SpinRBM
        The machine; at inverse temperature 1 its spins have the Ising model's law at `beta`.
    constant : float
        ln Z of the Ising model at `beta`, minus ln Z of `rbm` at 1.
    bipartite : bool
        Whether the layers are the sublattices. Then `rbm` at any inverse temperature t has the law of the
        Ising model at t beta; else only at t = 0 and 1.
    beta : float
        Inverse temperature of the Ising model, which the parameters of `rbm` contain.
    order : ndarray of int, (n_spins,)
        Where each spin of the model is among visible and hidden units.
    """

    rbm: SpinRBM
    constant: float
    bipartite: bool
    beta: float
    order: Array

    __repr__ = brief

    def spins(self, v: Any, h: Any) -> Array:
        """Put states of the machine into the order of the Ising model's spins.

        Parameters
        ----------
        v : array_like, (n_samples, n_visible)
            Visible states.
        h : array_like, (n_samples, n_hidden)
            Hidden states.

        Returns
        -------
        ndarray, (n_samples, n_spins)
        """
        joint: Array = np.concatenate([v, h], axis=1)[:, self.order]
        return joint

    def visible(self, s: Any) -> Array:
        """What the visible units are where the spins are `s`: states to start chains from.

        Parameters
        ----------
        s : array_like, (n_samples, n_spins)
            Spins.

        Returns
        -------
        ndarray, (n_samples, n_visible)
        """
        first = np.argsort(self.order)[: self.rbm.n_visible]
        visible: Array = np.ascontiguousarray(np.asarray(s)[..., first])
        return visible


def spin_layers(model: Ising, *, beta: float = 1.0) -> SpinLayers:
    """The machine of two layers that has an Ising model's law at `beta`; see `SpinLayers`."""
    couplings, fields = (beta * p.astype(np.float64) for p in model.parameters)
    sides = _sublattices(couplings != 0)
    if sides is not None:
        visible, hidden = np.flatnonzero(sides > 0), np.flatnonzero(sides < 0)
        weights, biases, constant = couplings[np.ix_(visible, hidden)], fields[hidden], 0.0
        order = np.argsort(np.concatenate([visible, hidden]))
    else:
        visible = order = np.arange(model.n_spins)
        weights, constant = _one_unit_a_bond(couplings)
        biases = np.zeros(weights.shape[1])
    parameters = (p.astype(model.dtype) for p in (weights, fields[visible], biases))
    return SpinLayers(SpinRBM(*parameters), constant, sides is not None, beta, order)


def _sublattices(bonds: Array) -> Array | None:
    """+1 and -1, (n_spins,), so that bonds join different ones; None if there is no such cut."""
    sides = np.zeros(len(bonds), np.int8)
    for root in range(len(bonds)):
        layer = np.array([root] if sides[root] == 0 else [], np.intp)
        side = 1
        while len(layer):
            sides[layer] = side
            near = np.flatnonzero(bonds[layer].any(axis=0))
            if (sides[near] == side).any():
                return None
            layer, side = near[sides[near] == 0], -side
    if (sides > 0).all():
        sides[-1] = -1  # of independent spins one makes the other layer
    return sides if (sides > 0).any() else None


def _one_unit_a_bond(couplings: Array) -> tuple[Array, float]:
    """Weights (n_spins, n_bonds), and what their sum over hidden states lacks, in ln Z."""
    first, second = np.nonzero(np.triu(couplings))
    bonds = couplings[first, second]
    n_hidden = max(len(bonds), 1)  # a lone spin has no bond, and a layer has a unit
    twice = 2 * np.abs(bonds)
    pulls = 0.5 * (twice + np.log1p(np.sqrt(-np.expm1(-2 * twice))))  # arccosh(e^twice) / 2, at any size
    weights = np.zeros((len(couplings), n_hidden))
    weights[first, np.arange(len(bonds))] = pulls
    weights[second, np.arange(len(bonds))] = np.sign(bonds) * pulls
    return weights, -float(np.abs(bonds).sum()) - n_hidden * math.log(2.0)
