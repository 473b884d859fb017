"""Averages over states, and the differences of them that gradients are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from .. import _core
from ..arguments import threads
from ..arrays import Array
from ..models import BernoulliRBM, GaussianRBM

__all__ = ["Contrast", "Machine", "Statistics", "clamped", "clamped_means", "difference"]

Machine: TypeAlias = BernoulliRBM | GaussianRBM  # what averages are taken of: spins are read as bits

_STATES = 4096  # whose hidden means are in memory at a time


@dataclass(frozen=True)
class Statistics:
    """Averages ⟨v⟩, ⟨h⟩, ⟨v h⟩ and of real units ⟨v²⟩, of the model's dtype; two make a gradient."""

    visible: Array
    hidden: Array
    visible_hidden: Array
    squares: Array | None = None

    def __sub__(self, other: Statistics) -> Statistics:
        return Statistics(
            self.visible - other.visible,
            self.hidden - other.hidden,
            self.visible_hidden - other.visible_hidden,
            None if self.squares is None or other.squares is None else self.squares - other.squares,
        )


@dataclass(frozen=True)
class Contrast:
    """What an update is made of.

    Attributes
    ----------
    data_visible, data_hidden : ndarray
        Averages ⟨v⟩ and ⟨h⟩ over the minibatch.
    model_visible, model_hidden : ndarray
        The same under the model, as estimated.
    pairs : ndarray, (n_visible, n_hidden)
        ⟨v h⟩ over the minibatch minus ⟨v h⟩ under the model.
    squares : ndarray, (n_visible,), optional
        The same of ⟨v²⟩, of real units.
    """

    data_visible: Array
    data_hidden: Array
    model_visible: Array
    model_hidden: Array
    pairs: Array
    squares: Array | None = None

    @property
    def gradient(self) -> Statistics:
        """Differences of averages: for binary units the gradient, by parameter."""
        return Statistics(
            self.data_visible - self.model_visible,
            self.data_hidden - self.model_hidden,
            self.pairs,
            self.squares,
        )


def difference(data: Statistics, model: Statistics) -> Contrast:
    """Of the averages over data and under the model."""
    found = data - model
    return Contrast(
        data.visible, data.hidden, model.visible, model.hidden, found.visible_hidden, found.squares
    )


def clamped(rbm: Machine, visible: Array, num_threads: int | None = None) -> Statistics:
    """Averages over given visible states, packed or real, the hidden units at their conditional mean.

    Of many states some at a time: their hidden means are forgotten when they are added. No BLAS: its threads
    would wait, spinning, where the kernels' run.
    """
    n_samples, n_threads = len(visible), threads(num_threads)
    if n_samples <= _STATES:
        return _of_some(rbm, visible, n_threads)
    sums: dict[str, Any] = {}
    for first in range(0, n_samples, _STATES):
        states = visible[first : first + _STATES]
        for name, average in vars(_of_some(rbm, states, n_threads)).items():
            if average is not None:
                sums[name] = sums.get(name, 0.0) + len(states) * average.astype(np.float64)
    return Statistics(**{name: (x / n_samples).astype(rbm.dtype) for name, x in sums.items()})


def clamped_means(rbm: Machine, visible: Array, num_threads: int | None = None) -> tuple[Array, Array]:
    """⟨v⟩ and ⟨h⟩ alone."""
    averages = clamped(rbm, visible, num_threads)
    return averages.visible, averages.hidden


def _of_some(rbm: Machine, visible: Array, num_threads: int) -> Statistics:
    if isinstance(rbm, GaussianRBM):
        return _of_reals(rbm, visible, num_threads)
    parameters, prepared = rbm.prepared
    _, hidden = _core.free_energy(
        *parameters, visible,
        beta=1.0, free_energy=False, mean_hidden=True, num_threads=num_threads, prepared=prepared,
    )  # fmt: skip
    pairs, counts = _core.pair_sums(visible, rbm.n_visible, hidden, num_threads=num_threads)
    size = rbm.dtype.type(len(visible))
    pairs /= size
    mean_hidden = hidden.mean(axis=0, dtype=np.float64).astype(rbm.dtype)
    return Statistics(counts.astype(rbm.dtype) / size, mean_hidden, pairs)


def _of_reals(rbm: GaussianRBM, visible: Array, num_threads: int) -> Statistics:
    kind, n_samples = rbm.dtype.type, len(visible)
    weights, _, hidden_bias, sigma = rbm.parameters
    fields = _core.product(visible / sigma**2, weights, hidden_bias, num_threads=num_threads)
    hidden = _core.sigmoid(fields, num_threads=num_threads)
    pairs = _core.product(visible.T, hidden, num_threads=num_threads)
    pairs /= kind(n_samples)

    def mean(values: Array) -> Array:
        found: Array = values.mean(axis=0, dtype=np.float64).astype(kind)
        return found

    return Statistics(mean(visible), mean(hidden), pairs, mean(visible.astype(np.float64) ** 2))
