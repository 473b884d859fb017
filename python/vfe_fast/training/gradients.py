r"""Gradients of the log-likelihood: one small object a method.

The gradient of ⟨ln p(v)⟩ is a difference of averages, with the hidden units at their conditional mean:

.. math:: \partial_W = \langle v h \rangle_{data} - \langle v h \rangle_{model}, \quad
          \partial_a = \langle v \rangle_{data} - \langle v \rangle_{model}, \quad
          \partial_b = \langle h \rangle_{data} - \langle h \rangle_{model}

The first is the clamped, the second the equilibrium free energy's gradient (C. Martin, "Free Energies and
Variational Inference", 2017, "Inference in RBMs"). Methods differ in how they estimate the second.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

from .. import _core
from ..arguments import threads
from ..arrays import Array, borrow, borrow_states
from ..free_energy.exact import exact
from ..models import BernoulliRBM
from ..sampling.gibbs import ChainState, GibbsChains, Words

__all__ = [
    "METHODS",
    "Contrast",
    "ContrastiveDivergence",
    "Exact",
    "Gradient",
    "PersistentCD",
    "SamplerSettings",
    "Statistics",
    "checked",
    "clamped",
]


@dataclass(frozen=True)
class Statistics:
    """Averages ⟨v⟩, ⟨h⟩ and ⟨v h⟩ of the model's dtype; differences of two make a gradient."""

    visible: Array
    hidden: Array
    visible_hidden: Array

    def __sub__(self, other: Statistics) -> Statistics:
        return Statistics(
            self.visible - other.visible,
            self.hidden - other.hidden,
            self.visible_hidden - other.visible_hidden,
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
    """

    data_visible: Array
    data_hidden: Array
    model_visible: Array
    model_hidden: Array
    pairs: Array

    @property
    def gradient(self) -> Statistics:
        """The gradient, by parameter."""
        return Statistics(
            self.data_visible - self.model_visible, self.data_hidden - self.model_hidden, self.pairs
        )


def clamped(rbm: BernoulliRBM, visible: Words, num_threads: int | None = None) -> Statistics:
    """Averages over given packed visible states, the hidden units at their conditional mean.

    No BLAS: its threads would wait, spinning, where the kernels' run.
    """
    parameters, prepared = rbm.prepared
    n_threads = threads(num_threads)
    _, hidden = _core.free_energy(
        *parameters, visible,
        beta=1.0, free_energy=False, mean_hidden=True, num_threads=n_threads, prepared=prepared,
    )  # fmt: skip
    pairs, counts = _core.pair_sums(visible, rbm.n_visible, hidden, num_threads=n_threads)
    size = rbm.dtype.type(len(visible))
    pairs /= size
    return Statistics(counts.astype(rbm.dtype) / size, hidden.sum(axis=0) / size, pairs)


def _contrast(
    rbm: BernoulliRBM, data: Words, start: Words | None, settings: SamplerSettings, seed: int, step: int
) -> tuple[Contrast, Words, Words]:
    """Averages over data and chains, from hidden states or from the data; the chains after that."""
    parameters, prepared = rbm.prepared
    pairs, data_visible, data_hidden, model_visible, model_hidden, visible, hidden = _core.contrast(
        *parameters, data, start,
        n_steps=settings.n_steps, seed=seed, step_offset=step,
        num_threads=threads(settings.num_threads), prepared=prepared,
    )  # fmt: skip
    found = Contrast(data_visible, data_hidden, model_visible, model_hidden, pairs)
    return found, visible, hidden


class Gradient(Protocol):
    """Estimates the gradient; `state` is all it remembers between updates."""

    def contrast(self, batch: Words, update: int) -> Contrast:
        """Averages for the given update (counted from 0) on the given minibatch of packed states."""

    @property
    def state(self) -> ChainState | None:
        """A snapshot that can be assigned back."""

    @state.setter
    def state(self, state: ChainState | None) -> None: ...


@dataclass(frozen=True)
class SamplerSettings:
    """How a method samples the model; each takes what it needs.

    Attributes
    ----------
    n_steps, n_chains : int
        Gibbs steps an update, and persistent chains.
    seed : int
        Key of the random numbers.
    num_threads : int or None
        Threads of the kernels.
    """

    n_steps: int = 1
    n_chains: int = 100
    seed: int = 0
    num_threads: int | None = None


class ContrastiveDivergence:
    """CD-k: a few Gibbs steps from the minibatch (G. Hinton, Neural Computation 14 (2002) 1771).

    Parameters
    ----------
    rbm : BernoulliRBM
        The model that is trained.
    settings : SamplerSettings
        Steps, seed, threads.
    """

    state: ChainState | None = None

    def __init__(self, rbm: BernoulliRBM, settings: SamplerSettings) -> None:
        self.rbm = rbm
        self.settings = settings

    def contrast(self, batch: Words, update: int) -> Contrast:
        """Compare the minibatch with itself after `n_steps` Gibbs steps.

        Parameters
        ----------
        batch : ndarray of uint64, (n_samples, n_words)
            The minibatch, packed.
        update : int
            Updates before this one.

        Returns
        -------
        Contrast
        """
        step = update * self.settings.n_steps
        found, _, _ = _contrast(self.rbm, batch, None, self.settings, self.settings.seed, step)
        return found


class PersistentCD:
    """PCD-k: chains that are never reset (T. Tieleman, ICML 2008, doi:10.1145/1390156.1390290).

    Between updates `chains` hold hidden states that were drawn given the visible ones, by the parameters
    before the update; the next step begins with them.

    Parameters
    ----------
    rbm : BernoulliRBM
        The model that is trained.
    settings : SamplerSettings
        Steps, chains, seed, threads.
    """

    def __init__(self, rbm: BernoulliRBM, settings: SamplerSettings) -> None:
        self.settings = settings
        self.chains = GibbsChains(rbm, settings.n_chains, rng=settings.seed, num_threads=settings.num_threads)
        start = self.chains.state.visible
        self.chains.step()
        self.chains.state = replace(self.chains.state, visible=start)

    def contrast(self, batch: Words, update: int) -> Contrast:
        """Compare the minibatch with the chains, moved on by `n_steps` Gibbs steps.

        Parameters
        ----------
        batch : ndarray of uint64, (n_samples, n_words)
            The minibatch, packed.
        update : int
            Not looked at: the chains count their steps.

        Returns
        -------
        Contrast
        """
        state, n_steps = self.chains.state, self.settings.n_steps
        found, visible, hidden = _contrast(
            self.chains.rbm, batch, state.hidden, self.settings, state.seed, state.step - 1
        )
        self.chains.state = ChainState(visible, hidden, state.seed, state.step + n_steps)
        return found

    @property
    def state(self) -> ChainState | None:
        """The chains."""
        return self.chains.state

    @state.setter
    def state(self, state: ChainState | None) -> None:
        if state is None:
            raise ValueError("state: expected the chains of a persistent CD, got None")
        self.chains.state = state


class Exact:
    """The exact averages, by enumeration: for models with one small layer.

    Parameters
    ----------
    rbm : BernoulliRBM
        The model that is trained.
    settings : SamplerSettings
        Threads; nothing is sampled.
    """

    state: ChainState | None = None
    max_seconds: ClassVar[float] = 10.0  # an update

    def __init__(self, rbm: BernoulliRBM, settings: SamplerSettings) -> None:
        self.rbm = rbm
        self.num_threads = settings.num_threads

    def contrast(self, batch: Words, update: int) -> Contrast:
        """Compare the minibatch with p(v, h).

        Parameters
        ----------
        batch : ndarray of uint64, (n_samples, n_words)
            The minibatch, packed.
        update : int
            Not looked at.

        Returns
        -------
        Contrast

        Raises
        ------
        ValueError
            If an update would take longer than `max_seconds`.
        """
        data = clamped(self.rbm, batch, self.num_threads)
        try:
            moments = exact(
                self.rbm, moments=True, max_seconds=self.max_seconds, num_threads=self.num_threads
            ).moments
        except ValueError as error:
            raise ValueError(
                f"method: 'exact' enumerates all states in every update: {error} Or train with method='pcd'."
            ) from error
        kind = self.rbm.dtype
        visible, hidden = moments.visible.astype(kind), moments.hidden.astype(kind)
        pairs = data.visible_hidden - moments.visible_hidden.astype(kind)
        return Contrast(data.visible, data.hidden, visible, hidden, pairs)


METHODS: dict[str, Callable[[BernoulliRBM, SamplerSettings], Gradient]] = {
    "cd": ContrastiveDivergence,
    "pcd": PersistentCD,
    "exact": Exact,
}


def checked(rbm: BernoulliRBM, data: Any, method: str) -> Words:
    """The data as packed states, if a model can be trained on them by the method."""
    if not isinstance(rbm, BernoulliRBM):
        raise TypeError(f"rbm: expected a BernoulliRBM, got {type(rbm).__name__}")
    array, _ = borrow(data, "data")
    if array.ndim != 2 or array.shape[1] != rbm.n_visible or array.shape[0] == 0:
        raise ValueError(
            f"data: expected (n_samples, n_visible) = (>= 1, {rbm.n_visible}), got {array.shape}"
        )
    states, _ = borrow_states(array, rbm.n_visible, "data")
    if not isinstance(method, str) or method not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")
    return states
