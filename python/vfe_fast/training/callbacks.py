"""What can be done at the end of an epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arguments import count
from ..free_energy.exact import exact
from ..models import BernoulliRBM
from .gradients import Gradient

__all__ = ["Callback", "Epoch", "ExactLogLikelihood", "StopTraining"]


class StopTraining(Exception):
    """Raised by a callback to end training after the epoch; not an error."""


@dataclass(frozen=True)
class Epoch:
    """What a callback is given.

    Attributes
    ----------
    number : int
        Epochs done, counted from 1.
    n_epochs : int
        Epochs asked for.
    rbm : BernoulliRBM
        The model as it is now.
    gradient : Gradient
        The method, with its chains if it has any.
    num_threads : int or None
        Threads the run may use.
    """

    number: int
    n_epochs: int
    rbm: BernoulliRBM
    gradient: Gradient
    num_threads: int | None


Callback = Callable[[Epoch], Mapping[str, float] | None]


class ExactLogLikelihood:
    """Records the exact mean log-likelihood of data sets, by enumeration.

    Parameters
    ----------
    every : int
        Epochs between evaluations; the last epoch is always evaluated.
    **data : array_like, (n_samples, n_visible)
        Data sets by name; the metric is called ``log_likelihood_<name>``, in nats a sample.

    Examples
    --------
    >>> callback = ExactLogLikelihood(every=5, test=[[0, 1], [1, 1]])
    """

    def __init__(self, *, every: int = 1, **data: Any) -> None:
        self.every = count(every, "every")
        self.data = data

    def __call__(self, epoch: Epoch) -> Mapping[str, float] | None:
        """Evaluate, if it is time to."""
        if epoch.number % self.every != 0 and epoch.number != epoch.n_epochs:
            return None
        log_z = exact(epoch.rbm, num_threads=epoch.num_threads).log_z
        return {
            f"log_likelihood_{name}": float(
                np.mean(epoch.rbm.log_likelihood(v, log_z, num_threads=epoch.num_threads), dtype=np.float64)
            )
            for name, v in self.data.items()
        }
