r"""Gradients of the log-likelihood: one small object a method.

The gradient of ⟨ln p(v)⟩ is a difference of averages, with the hidden units at their conditional mean:

.. math:: \partial_W = \langle v h \rangle_{data} - \langle v h \rangle_{model}, \quad
          \partial_a = \langle v \rangle_{data} - \langle v \rangle_{model}, \quad
          \partial_b = \langle h \rangle_{data} - \langle h \rangle_{model}

The first is the clamped, the second the equilibrium free energy's gradient (C. Martin, "Free Energies and
Variational Inference", 2017, "Inference in RBMs"). Methods differ in how they estimate the second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

import numpy as np

from .. import _core
from ..arguments import count, real, threads
from ..arrays import Array, borrow, borrow_states
from ..free_energy.exact import exact
from ..models import BernoulliRBM, SpinRBM
from ..models.ising import as_spins
from ..random import generator
from ..sampling.gibbs import ChainState, GibbsChains, Words

__all__ = [
    "METHODS",
    "Contrast",
    "ContrastiveDivergence",
    "Exact",
    "FastPersistentCD",
    "Gradient",
    "Method",
    "ParallelTempering",
    "PersistentCD",
    "SamplerSettings",
    "State",
    "Statistics",
    "checked",
    "clamped",
    "clamped_means",
    "named",
]


_STATES = 4096  # whose hidden means are in memory at a time


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
    mean_hidden = hidden.mean(axis=0, dtype=np.float64).astype(rbm.dtype)
    return Statistics(counts.astype(rbm.dtype) / size, mean_hidden, pairs)


def clamped_means(rbm: BernoulliRBM, visible: Words, num_threads: int | None = None) -> tuple[Array, Array]:
    """⟨v⟩ and ⟨h⟩ alone, over states of any number, some at a time."""
    visible_sum, hidden_sum = np.zeros(rbm.n_visible), np.zeros(rbm.n_hidden)
    for first in range(0, len(visible), _STATES):
        states = visible[first : first + _STATES]
        averages = clamped(rbm, states, num_threads)
        visible_sum += len(states) * averages.visible.astype(np.float64)
        hidden_sum += len(states) * averages.hidden.astype(np.float64)
    means = (visible_sum / len(visible), hidden_sum / len(visible))
    return means[0].astype(rbm.dtype), means[1].astype(rbm.dtype)


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


State = Mapping[str, Array]


def _difference(data: Statistics, model: Statistics) -> Contrast:
    pairs = data.visible_hidden - model.visible_hidden
    return Contrast(data.visible, data.hidden, model.visible, model.hidden, pairs)


def _as_arrays(chains: ChainState) -> State:
    return {
        "visible": chains.visible,
        "hidden": chains.hidden,
        "seed": np.array(chains.seed, np.uint64),
        "step": np.array(chains.step, np.int64),
    }


def _as_chains(state: State, n_chains: int) -> ChainState:
    """From a snapshot, whose contents are checked when the chains take them."""
    for name in ("visible", "hidden", "seed", "step"):
        if name not in state:
            raise ValueError(f"{name}: expected it in the state of {n_chains} chains")
    if state["seed"].ndim != 0 or state["step"].ndim != 0 or len(state["visible"]) != n_chains:
        raise ValueError(f"visible: expected {n_chains} chains, got {len(state['visible'])}")
    return ChainState(state["visible"], state["hidden"], state["seed"].item(), state["step"].item())


class Gradient(Protocol):
    """Estimates the gradient; `state` is all it remembers between updates, nothing if empty."""

    def contrast(self, batch: Words, update: int) -> Contrast:
        """Averages for the given update (counted from 0) on the given minibatch of packed states."""

    @property
    def state(self) -> State:
        """A snapshot that can be assigned back."""

    @state.setter
    def state(self, state: State) -> None: ...


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

    state: State = MappingProxyType({})

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
    def state(self) -> State:
        """The chains."""
        return _as_arrays(self.chains.state)

    @state.setter
    def state(self, state: State) -> None:
        self.chains.state = _as_chains(state, self.settings.n_chains)


class FastPersistentCD:
    """Persistent CD whose chains see weights that are repelled from where they have been.

    The chains follow the model's parameters plus fast ones, fast ← 19/20 fast + fast_rate gradient (T.
    Tieleman, G. Hinton, ICML 2009, doi:10.1145/1553374.1553506).

    Parameters
    ----------
    rbm : BernoulliRBM
        The model that is trained.
    settings : SamplerSettings
        Steps, chains, seed, threads.
    fast_rate : float
        Learning rate of the fast parameters.
    """

    def __init__(self, rbm: BernoulliRBM, settings: SamplerSettings, *, fast_rate: float = 0.01) -> None:
        self.rbm = rbm
        self.settings = settings
        self.fast_rate = real(fast_rate, "fast_rate", 0.0)
        self.chains = GibbsChains(rbm, settings.n_chains, rng=settings.seed, num_threads=settings.num_threads)
        self.fast = tuple(np.zeros_like(p) for p in rbm.parameters)

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

        Raises
        ------
        ValueError
            If the fast parameters diverged.
        """
        num_threads, kind = self.settings.num_threads, self.rbm.dtype.type
        try:
            pushed = BernoulliRBM(*(p + f for p, f in zip(self.rbm.parameters, self.fast, strict=True)))
        except ValueError as error:
            raise ValueError(f"fast_rate: the fast parameters diverged; lower it ({error})") from error
        self.chains.rbm = pushed
        self.chains.step(self.settings.n_steps)
        found = _difference(
            clamped(self.rbm, batch, num_threads), clamped(pushed, self.chains.state.visible, num_threads)
        )
        gradient = found.gradient
        moved = (gradient.visible_hidden, gradient.visible, gradient.hidden)
        self.fast = tuple(
            kind(0.95) * f + kind(self.fast_rate) * g for f, g in zip(self.fast, moved, strict=True)
        )
        return found

    @property
    def state(self) -> State:
        """The chains and the fast parameters."""
        return {**_as_arrays(self.chains.state), **{f"fast_{k}": f for k, f in enumerate(self.fast)}}

    @state.setter
    def state(self, state: State) -> None:
        self.chains.state = _as_chains(state, self.settings.n_chains)
        fast = tuple(state.get(f"fast_{k}", np.zeros(0)) for k in range(3))
        for k, (array, p) in enumerate(zip(fast, self.rbm.parameters, strict=True)):
            if array.shape != p.shape or array.dtype != p.dtype or not np.isfinite(array).all():
                raise ValueError(f"fast_{k}: expected finite {p.dtype} {p.shape}")
        self.fast = fast


class ParallelTempering:
    """Chains at several temperatures that exchange their states; those at beta = 1 make the gradient.

    The betas are evenly spaced from 0 to 1. Neighbors swap joint states (v, h) with probability
    min(1, exp((β' - β) (E' - E))), even and odd pairs in turns (G. Desjardins et al., AISTATS 2010; the
    energy is that of the joint state, as the chains sample). Energies are NumPy's products: a swap whose draw
    is within some 1e-13 of the limit may depend on its BLAS.

    Parameters
    ----------
    rbm : BernoulliRBM
        The model that is trained.
    settings : SamplerSettings
        Steps between swaps, chains at each temperature, seed, threads.
    n_temperatures : int
        How many, >= 2.
    """

    def __init__(self, rbm: BernoulliRBM, settings: SamplerSettings, *, n_temperatures: int = 10) -> None:
        self.settings = settings
        self.betas = np.linspace(0.0, 1.0, count(n_temperatures, "n_temperatures", 2))
        self.replicas = GibbsChains(
            rbm, settings.n_chains * n_temperatures, rng=settings.seed, num_threads=settings.num_threads
        )

    def contrast(self, batch: Words, update: int) -> Contrast:
        """Compare the minibatch with the chains at beta = 1, after `n_steps` Gibbs steps and swaps.

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
        rbm, n_chains, num_threads = self.replicas.rbm, self.settings.n_chains, self.settings.num_threads
        self.replicas.step(self.settings.n_steps, beta=np.repeat(self.betas, n_chains))
        self._swap()
        at_one = np.ascontiguousarray(self.replicas.state.visible[-n_chains:])
        return _difference(clamped(rbm, batch, num_threads), clamped(rbm, at_one, num_threads))

    def _swap(self) -> None:
        replicas, n_chains = self.replicas, self.settings.n_chains
        state = replicas.state
        energy = replicas.rbm.energy(replicas.visible, replicas.hidden).reshape(-1, n_chains)
        parity = state.step // self.settings.n_steps % 2
        lower = np.arange(parity, len(self.betas) - 1, 2)
        draws = generator(state.seed, "swaps", state.step).random((len(lower), n_chains))
        gain = np.diff(self.betas)[lower, None] * (energy[lower + 1] - energy[lower])
        pair, chain = np.nonzero(np.log(draws) < gain)
        order = np.arange(energy.size).reshape(energy.shape)
        low = lower[pair]
        order[low, chain], order[low + 1, chain] = order[low + 1, chain], order[low, chain]
        order = order.ravel()
        replicas.state = replace(state, visible=state.visible[order], hidden=state.hidden[order])

    @property
    def state(self) -> State:
        """The chains at all temperatures."""
        return _as_arrays(self.replicas.state)

    @state.setter
    def state(self, state: State) -> None:
        self.replicas.state = _as_chains(state, self.settings.n_chains * len(self.betas))


class Exact:
    """The exact averages, by enumeration: for models with one small layer.

    Parameters
    ----------
    rbm : BernoulliRBM
        The model that is trained.
    settings : SamplerSettings
        Threads; nothing is sampled.
    """

    state: State = MappingProxyType({})
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
        model = (moments.visible, moments.hidden, moments.visible_hidden)
        return _difference(data, Statistics(*(average.astype(kind) for average in model)))


Method = Callable[[BernoulliRBM, SamplerSettings], Gradient]

METHODS: dict[str, Method] = {
    "cd": ContrastiveDivergence,
    "pcd": PersistentCD,
    "fpcd": FastPersistentCD,
    "pt": ParallelTempering,
    "exact": Exact,
}


def named(method: Any) -> tuple[str, Method]:
    """A method by its name in METHODS, or given as what makes it; with a name for checkpoints."""
    if isinstance(method, str) and method in METHODS:
        return method, METHODS[method]
    if isinstance(method, str) or not callable(method):
        raise ValueError(
            f"method: expected one of {', '.join(METHODS)}, or a class of gradients, got {method!r}"
        )
    maker = getattr(method, "func", method)  # of a functools.partial
    options = ", ".join(f"{name}={value!r}" for name, value in getattr(method, "keywords", {}).items())
    return f"{getattr(maker, '__qualname__', type(maker).__qualname__)}({options})", method


def checked(rbm: BernoulliRBM | SpinRBM, data: Any) -> Words:
    """The data as packed states, +1 as 1, if the model can be trained on them."""
    if not isinstance(rbm, (BernoulliRBM, SpinRBM)):
        raise TypeError(f"rbm: expected a BernoulliRBM or a SpinRBM, got {type(rbm).__name__}")
    array, _ = borrow(data, "data")
    if array.ndim != 2 or array.shape[1] != rbm.n_visible or array.shape[0] == 0:
        raise ValueError(
            f"data: expected (n_samples, n_visible) = (>= 1, {rbm.n_visible}), got {array.shape}"
        )
    if isinstance(rbm, SpinRBM):
        array = as_spins(array, rbm.n_visible, "data") > 0
    states, _ = borrow_states(array, rbm.n_visible, "data")
    return states
