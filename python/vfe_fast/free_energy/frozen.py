"""Units that their biases hold on or off in every state that counts.

If a unit's field is beyond ±800/β whatever the others do, its other value has a probability below e^-800,
less than the smallest float64. It is taken out: a large bias common to all weights would cost the other
units' moments their digits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arrays import Array
from ..models import BernoulliRBM, Ising
from .result import FreeEnergy, Moments, SpinMoments

__all__ = ["FrozenRBM", "FrozenSpins"]

_HELD = 800.0  # -ln of a probability that float64 has no number for


@dataclass(frozen=True, eq=False)
class FrozenRBM:
    """An RBM without its frozen units.

    Attributes
    ----------
    model : BernoulliRBM
        The units left; a layer that would be empty has one that is off and has no weights.
    energy : float
        To add to the energies of `model`.
    visible, hidden : ndarray of int8
        0 or 1 for a frozen unit, -1 for one that is left.
    """

    model: BernoulliRBM
    energy: float
    visible: npt.NDArray[np.int8]
    hidden: npt.NDArray[np.int8]

    @classmethod
    def of(cls, model: BernoulliRBM, beta: float) -> FrozenRBM | None:
        """The model without them; None if there are none."""
        if beta * max(np.abs(b).max() for b in (model.visible_bias, model.hidden_bias)) <= _HELD:
            return None
        weights, *biases = (p.astype(np.float64) for p in model.parameters)
        states = [np.full(len(b), -1, np.int8) for b in biases]
        energy, found, before = 0.0, 0, -1
        while found != before:  # those found change the fields of the others
            before = found
            for layer, into in enumerate((weights, weights.T)):  # (units of this layer, of the other)
                free = states[1 - layer] < 0
                low = biases[layer] + np.minimum(into[:, free], 0).sum(axis=1)
                high = biases[layer] + np.maximum(into[:, free], 0).sum(axis=1)
                left = states[layer] < 0
                on, off = left & (beta * low > _HELD), left & (beta * high < -_HELD)
                states[layer][on], states[layer][off] = 1, 0
                energy -= float(biases[layer][on].sum())
                biases[1 - layer] = biases[1 - layer] + into[on].sum(axis=0)
                found += int(on.sum() + off.sum())
        if found == 0:
            return None
        kept = [np.flatnonzero(s < 0) for s in states]
        part = weights[np.ix_(*kept)]
        own = [b[k] for b, k in zip(biases, kept, strict=True)]
        for axis in (0, 1):
            if len(kept[axis]) == 0:
                part = np.zeros([1 if k == axis else part.shape[k] for k in (0, 1)])
                own[axis] = np.array([-_HELD / beta])
        return cls(BernoulliRBM(part, *own), energy, *states)

    def whole(self, found: FreeEnergy) -> FreeEnergy:
        """The result for all units from that for those left."""
        moments = found.moments
        if moments is not None:
            v, h = _put_back(self.visible, moments.visible), _put_back(self.hidden, moments.hidden)
            pairs = np.outer(v, h)  # right wherever one of the two is frozen
            left = np.ix_(self.visible < 0, self.hidden < 0)
            pairs[left] = moments.visible_hidden[: left[0].size, : left[1].size]
            moments = Moments(moments.energy + self.energy, moments._variance, v, h, pairs)
        return _shifted(
            found, self.energy, moments, int((self.visible >= 0).sum() + (self.hidden >= 0).sum())
        )


@dataclass(frozen=True, eq=False)
class FrozenSpins:
    """An Ising model without its frozen spins.

    Attributes
    ----------
    model : Ising
        The spins left, at least one.
    energy : float
        To add to the energies of `model`.
    spins : ndarray of int8
        -1 or 1 for a frozen spin, 0 for one that is left.
    """

    model: Ising
    energy: float
    spins: npt.NDArray[np.int8]

    @classmethod
    def of(cls, model: Ising, beta: float) -> FrozenSpins | None:
        """The model without them; None if there are none."""
        if 2 * beta * np.abs(model.fields).max() <= _HELD or model.n_spins == 1:
            return None
        couplings, fields = model.couplings.astype(np.float64), model.fields.astype(np.float64)
        spins, energy = np.zeros(len(fields), np.int8), 0.0
        while True:
            left = spins == 0
            held = left & (2 * beta * (np.abs(fields) - np.abs(couplings[:, left]).sum(axis=1)) > _HELD)
            held[np.flatnonzero(left)[0]] &= not held[left].all()
            if not held.any():
                break
            signs = np.sign(fields[held])
            energy -= float(fields[held] @ signs + 0.5 * signs @ couplings[np.ix_(held, held)] @ signs)
            spins[held] = signs
            fields = fields + couplings[:, held] @ signs
        if not spins.any():
            return None
        left = spins == 0
        return cls(Ising(couplings[np.ix_(left, left)], fields[left]), energy, spins)

    def whole(self, found: FreeEnergy) -> FreeEnergy:
        """The result for all spins from that for those left."""
        moments = found.moments
        if moments is not None:
            left = self.spins == 0
            s = self.spins.astype(np.float64)
            s[left] = moments.spins
            pairs = np.outer(s, s)
            pairs[np.ix_(left, left)] = moments.spin_spin
            np.fill_diagonal(pairs, 1.0)
            moments = SpinMoments(moments.energy + self.energy, moments._variance, s, pairs)
        return _shifted(found, self.energy, moments, int((self.spins != 0).sum()))


def _put_back(states: npt.NDArray[np.int8], means: Array) -> Array:
    whole = states.astype(np.float64)
    left = states < 0
    whole[left] = means[: int(left.sum())]
    return whole


def _shifted(found: FreeEnergy, energy: float, moments: Any, n_frozen: int) -> FreeEnergy:
    details = {**found.details, "n_frozen": n_frozen}
    return replace(found.with_log_z(found.log_z - found.beta * energy), moments=moments, details=details)
