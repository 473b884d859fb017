"""Training of machines with units ±1, as the same machines in units 0/1."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..models import BernoulliRBM, SpinRBM
from ..sampling.gibbs import Words
from .gradients import Contrast, Method, SamplerSettings, State

__all__ = ["InSpins", "as_bits"]


def as_bits(rbm: SpinRBM) -> BernoulliRBM:
    """The same machine in units 0/1, of the same dtype."""
    return BernoulliRBM(*(p.astype(rbm.dtype) for p in rbm.to_bernoulli()[0].parameters))


class InSpins:
    """A method for a `SpinRBM`: its averages are those of another method for the 0/1 machine.

    Parameters
    ----------
    rbm : SpinRBM
        The model that is trained.
    method : callable
        Makes the other method.
    settings : SamplerSettings
        For it.
    """

    def __init__(self, rbm: SpinRBM, method: Method, settings: SamplerSettings) -> None:
        self.rbm = rbm
        self.machine = as_bits(rbm)
        self.of_bits = method(self.machine, settings)

    def contrast(self, batch: Words, update: int) -> Contrast:
        """Averages for the given update on the given minibatch.

        Parameters
        ----------
        batch : ndarray of uint64, (n_samples, n_words)
            The minibatch, packed, +1 as 1.
        update : int
            Updates before this one.

        Returns
        -------
        Contrast
        """
        self.machine.set_parameters(*as_bits(self.rbm).parameters)
        found = self.of_bits.contrast(batch, update)
        change = found.gradient
        pairs = 4 * found.pairs - 2 * change.visible[:, None] - 2 * change.hidden
        return Contrast(
            data_visible=2 * found.data_visible - 1,
            data_hidden=2 * found.data_hidden - 1,
            model_visible=2 * found.model_visible - 1,
            model_hidden=2 * found.model_hidden - 1,
            pairs=np.ascontiguousarray(pairs),
        )

    @property
    def chains(self) -> Any:
        """The other method's, or None."""
        return getattr(self.of_bits, "chains", None)

    @property
    def state(self) -> State:
        """That of the other method."""
        return self.of_bits.state

    @state.setter
    def state(self, state: State) -> None:
        self.of_bits.state = state
