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
from typing import ClassVar, Protocol

import numpy as np

from .. import _core
from ..arguments import count, real, threads
from ..arrays import Array
from ..free_energy.exact import exact
from ..free_energy.pairs import Cumulants, pairs_of
from ..free_energy.result import Moments
from ..free_energy.tap import ORDERS
from ..models import BernoulliRBM, GaussianRBM
from ..random import generator
from ..sampling.gibbs import ChainState, GibbsChains
from ..sampling.states import Steps, Words, states_of
from ..sampling.tempering import swaps
from .averages import Contrast, Machine, Statistics, clamped, difference

__all__ = [
    "ContrastiveDivergence",
    "Diverged",
    "Exact",
    "FastPersistentCD",
    "Gradient",
    "Method",
    "ParallelTempering",
    "PersistentCD",
    "SamplerSettings",
    "State",
    "ThoulessAndersonPalmer",
    "direction",
]


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


class Diverged(ValueError):
    """Parameters went beyond what a model takes; the message says what to lower."""


def direction(rbm: Machine, contrast: Contrast) -> tuple[Array, ...]:
    """The gradient in weights, visible bias, hidden bias, and of real units in ln σ².

    Those of E(v, h) = Σ (v - a)² / 2σ² - b.h - Σ v W h / σ² have factors 1/σ², and

        ∂/∂ ln σ_i² = (Δ⟨v_i²⟩ / 2 - a_i Δ⟨v_i⟩ - Σ_j W_ij Δ⟨v_i h_j⟩) / σ_i².
    """
    change = contrast.gradient
    if not isinstance(rbm, GaussianRBM):
        return change.visible_hidden, change.visible, change.hidden
    weights, visible_bias, _, sigma = rbm.parameters
    precision = 1 / sigma**2
    assert change.squares is not None
    of_variance = change.squares / 2 - visible_bias * change.visible
    of_variance = of_variance - (weights * change.visible_hidden).sum(axis=1)
    return (
        change.visible_hidden * precision[:, None],
        change.visible * precision,
        change.hidden,
        of_variance * precision,
    )


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

    def contrast(self, batch: Array, update: int) -> Contrast:
        """Averages for the given update (counted from 0) on the given minibatch, of packed or real states."""

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
    rbm : BernoulliRBM or GaussianRBM
        The model that is trained.
    settings : SamplerSettings
        Steps, seed, threads.
    """

    state: State = MappingProxyType({})

    def __init__(self, rbm: Machine, settings: SamplerSettings) -> None:
        self.rbm = rbm
        self.settings = settings

    def contrast(self, batch: Array, update: int) -> Contrast:
        """Compare the minibatch with itself after `n_steps` Gibbs steps.

        Parameters
        ----------
        batch : ndarray, (n_samples, n_words) of uint64 or (n_samples, n_visible)
            The minibatch, packed, or real numbers.
        update : int
            Updates before this one.

        Returns
        -------
        Contrast
        """
        step = update * self.settings.n_steps
        if isinstance(self.rbm, GaussianRBM):
            num_threads = self.settings.num_threads
            steps = Steps(
                n_steps=self.settings.n_steps, beta=1.0, clamped=None, seed=self.settings.seed,
                chain_offset=0, step_offset=step, num_threads=threads(num_threads),
            )  # fmt: skip
            moved, _ = states_of(self.rbm).move(batch, steps)
            return difference(clamped(self.rbm, batch, num_threads), clamped(self.rbm, moved, num_threads))
        found, _, _ = _contrast(self.rbm, batch, None, self.settings, self.settings.seed, step)
        return found


class PersistentCD:
    """PCD-k: chains that are never reset (T. Tieleman, ICML 2008, doi:10.1145/1390156.1390290).

    Between updates the `chains` of binary units hold hidden states that were drawn given the visible ones, by
    the parameters before the update; the next step begins with them.

    Parameters
    ----------
    rbm : BernoulliRBM or GaussianRBM
        The model that is trained.
    settings : SamplerSettings
        Steps, chains, seed, threads.
    """

    def __init__(self, rbm: Machine, settings: SamplerSettings) -> None:
        self.settings = settings
        self.chains = GibbsChains(rbm, settings.n_chains, rng=settings.seed, num_threads=settings.num_threads)
        self.rbm = rbm
        if isinstance(rbm, GaussianRBM):
            return
        start = self.chains.state.visible
        self.chains.step()
        self.chains.state = replace(self.chains.state, visible=start)

    def contrast(self, batch: Array, update: int) -> Contrast:
        """Compare the minibatch with the chains, moved on by `n_steps` Gibbs steps.

        Parameters
        ----------
        batch : ndarray, (n_samples, n_words) of uint64 or (n_samples, n_visible)
            The minibatch, packed, or real numbers.
        update : int
            Not looked at: the chains count their steps.

        Returns
        -------
        Contrast
        """
        rbm, state, n_steps = self.rbm, self.chains.state, self.settings.n_steps
        if isinstance(rbm, GaussianRBM):
            self.chains.step(n_steps)
            num_threads = self.settings.num_threads
            return difference(
                clamped(rbm, batch, num_threads), clamped(rbm, self.chains.state.visible, num_threads)
            )
        found, visible, hidden = _contrast(
            rbm, batch, state.hidden, self.settings, state.seed, state.step - 1
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
    rbm : BernoulliRBM or GaussianRBM
        The model that is trained.
    settings : SamplerSettings
        Steps, chains, seed, threads.
    fast_rate : float
        Learning rate of the fast parameters.
    """

    def __init__(self, rbm: Machine, settings: SamplerSettings, *, fast_rate: float = 0.01) -> None:
        self.rbm = rbm
        self.settings = settings
        self.fast_rate = real(fast_rate, "fast_rate", 0.0)
        self.chains = GibbsChains(rbm, settings.n_chains, rng=settings.seed, num_threads=settings.num_threads)
        self.fast = tuple(np.zeros_like(p) for p in rbm.parameters[:3])

    def contrast(self, batch: Array, update: int) -> Contrast:
        """Compare the minibatch with the chains, moved on by `n_steps` Gibbs steps.

        Parameters
        ----------
        batch : ndarray, (n_samples, n_words) of uint64 or (n_samples, n_visible)
            The minibatch, packed, or real numbers.
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
            pushed = self._pushed()
        except ValueError as error:
            raise Diverged(f"fast_rate: the fast parameters diverged; lower it ({error})") from error
        self.chains.rbm = pushed
        self.chains.step(self.settings.n_steps)
        found = difference(
            clamped(self.rbm, batch, num_threads), clamped(pushed, self.chains.state.visible, num_threads)
        )
        moved = direction(self.rbm, found)[:3]
        self.fast = tuple(
            kind(0.95) * f + kind(self.fast_rate) * g for f, g in zip(self.fast, moved, strict=True)
        )
        return found

    def _pushed(self) -> Machine:
        weights, visible_bias, hidden_bias, *sigma = self.rbm.parameters
        moved = (p + f for p, f in zip((weights, visible_bias, hidden_bias), self.fast, strict=True))
        return type(self.rbm)(*moved, *sigma)

    @property
    def state(self) -> State:
        """The chains and the fast parameters."""
        return {**_as_arrays(self.chains.state), **{f"fast_{k}": f for k, f in enumerate(self.fast)}}

    @state.setter
    def state(self, state: State) -> None:
        self.chains.state = _as_chains(state, self.settings.n_chains)
        fast = tuple(state.get(f"fast_{k}", np.zeros(0)) for k in range(3))
        for k, (array, p) in enumerate(zip(fast, self.rbm.parameters[:3], strict=True)):
            if array.shape != p.shape or array.dtype != p.dtype or not np.isfinite(array).all():
                raise ValueError(f"fast_{k}: expected finite {p.dtype} {p.shape}")
        self.fast = fast


class ParallelTempering:
    """Chains at several temperatures that exchange their states; those at beta = 1 make the gradient.

    The betas are evenly spaced from 0 to 1 (of real units: from 1 / n_temperatures). Neighbors swap joint
    states (v, h) with probability min(1, exp((β' - β) (E' - E))), even and odd pairs in turns (G. Desjardins
    et al., AISTATS 2010; the energy is that of the joint state, as the chains sample).

    Parameters
    ----------
    rbm : BernoulliRBM or GaussianRBM
        The model that is trained.
    settings : SamplerSettings
        Steps between swaps, chains at each temperature, seed, threads.
    n_temperatures : int
        How many, >= 2.
    """

    def __init__(self, rbm: Machine, settings: SamplerSettings, *, n_temperatures: int = 10) -> None:
        self.settings = settings
        n_temperatures = count(n_temperatures, "n_temperatures", 2)
        hottest = 1.0 / n_temperatures if isinstance(rbm, GaussianRBM) else 0.0
        self.rbm = rbm
        self.betas = np.linspace(hottest, 1.0, n_temperatures)
        self.replicas = GibbsChains(
            rbm, settings.n_chains * n_temperatures, rng=settings.seed, num_threads=settings.num_threads
        )

    def contrast(self, batch: Array, update: int) -> Contrast:
        """Compare the minibatch with the chains at beta = 1, after `n_steps` Gibbs steps and swaps.

        Parameters
        ----------
        batch : ndarray, (n_samples, n_words) of uint64 or (n_samples, n_visible)
            The minibatch, packed, or real numbers.
        update : int
            Not looked at: the chains count their steps.

        Returns
        -------
        Contrast
        """
        rbm, n_chains, num_threads = self.rbm, self.settings.n_chains, self.settings.num_threads
        self.replicas.step(self.settings.n_steps, beta=np.repeat(self.betas, n_chains))
        self._swap()
        at_one = np.ascontiguousarray(self.replicas.state.visible[-n_chains:])
        return difference(clamped(rbm, batch, num_threads), clamped(rbm, at_one, num_threads))

    def _swap(self) -> None:
        replicas, n_chains = self.replicas, self.settings.n_chains
        state = replicas.state
        energy = self.rbm.energy(
            replicas.visible, replicas.hidden, num_threads=self.settings.num_threads
        ).reshape(-1, n_chains)
        parity = state.step // self.settings.n_steps % 2
        found = swaps(energy, self.betas, parity, generator(state.seed, "swaps", state.step))
        order = found.order.ravel()
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
    rbm : BernoulliRBM or GaussianRBM
        The model that is trained.
    settings : SamplerSettings
        Threads; nothing is sampled.
    """

    state: State = MappingProxyType({})
    max_seconds: ClassVar[float] = 10.0  # an update

    def __init__(self, rbm: Machine, settings: SamplerSettings) -> None:
        self.rbm = rbm
        self.num_threads = settings.num_threads

    def contrast(self, batch: Array, update: int) -> Contrast:
        """Compare the minibatch with p(v, h).

        Parameters
        ----------
        batch : ndarray, (n_samples, n_words) of uint64 or (n_samples, n_visible)
            The minibatch, packed, or real numbers.
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
                f"method: 'exact' enumerates all states in every update: {too_long(error)}; 'pcd' samples"
            ) from error
        kind = self.rbm.dtype
        model = [moments.visible, moments.hidden, moments.visible_hidden]
        if isinstance(self.rbm, GaussianRBM):
            model.append(_squares(self.rbm, moments))
        return difference(data, Statistics(*(average.astype(kind) for average in model)))


class ThoulessAndersonPalmer:
    """The averages of TAP means that start from the minibatch: EMF-RBM (M. Gabrié et al., NeurIPS 2015).

    Each sample's means move by `n_steps` damped sweeps, visible then hidden units, towards the stationarity
    conditions of `free_energy.tap`; ⟨v h⟩ is the derivative of that free energy by the weights. Nothing is
    drawn at random. Like CD, it is biased: by the sweeps left out, and by the expansion.

    Parameters
    ----------
    rbm : BernoulliRBM
        The model that is trained.
    settings : SamplerSettings
        Sweeps an update (`n_steps`), threads.
    order : {1, 2, 3}
        Of the expansion.
    damping : float
        In [0, 1): share of the old means in a sweep.

    Raises
    ------
    TypeError, ValueError
        If the model has other units, or an option is not as described.
    """

    state: State = MappingProxyType({})

    def __init__(
        self, rbm: Machine, settings: SamplerSettings, *, order: int = 2, damping: float = 0.5
    ) -> None:
        if not isinstance(rbm, BernoulliRBM):
            raise TypeError(f"method: expected a model of binary units for 'tap', got {type(rbm).__name__}")
        self.rbm = rbm
        self.settings = settings
        self.order = count(order, "order", 1, ORDERS[-1] + 1)
        self.damping = real(damping, "damping", 0.0, 1.0)

    def contrast(self, batch: Array, update: int) -> Contrast:
        """Compare the minibatch with means that started there.

        Parameters
        ----------
        batch : ndarray, (n_samples, n_words) of uint64
            The minibatch, packed.
        update : int
            Not looked at.

        Returns
        -------
        Contrast
        """
        rbm, num_threads = self.rbm, self.settings.num_threads
        pairs = pairs_of(rbm, 1.0, threads(num_threads))
        at = self.means(batch)
        model = (*np.split(at.mean.mean(axis=0), [rbm.n_visible]), pairs.visible_hidden(at, self.order))
        return difference(
            clamped(rbm, batch, num_threads), Statistics(*(average.astype(rbm.dtype) for average in model))
        )

    def means(self, batch: Array) -> Cumulants:
        """Means of all units, a row a sample, visible units first, with their cumulants.

        Parameters
        ----------
        batch : ndarray, (n_samples, n_words) of uint64
            The minibatch, packed.

        Returns
        -------
        Cumulants
        """
        pairs = pairs_of(self.rbm, 1.0, threads(self.settings.num_threads))
        visible, hidden = pairs.blocks
        mean = np.full((len(batch), self.rbm.n_visible + self.rbm.n_hidden), 0.5)
        mean[:, visible] = _core.unpack_states(batch, self.rbm.n_visible)
        mean[:, hidden] = _core.sigmoid(pairs.field(Cumulants.of_means(mean, 1.0), 1, order=1))
        for _ in range(self.settings.n_steps):
            for block, units in enumerate(pairs.blocks):
                field = pairs.field(Cumulants.of_means(mean, 1.0), block, self.order)
                mean[:, units] = self.damping * mean[:, units] + (1 - self.damping) * _core.sigmoid(field)
        return Cumulants.of_means(mean, 1.0)


def too_long(error: ValueError) -> str:
    """What `free_energy.exact` says of its time, without the advice that helps only its own callers."""
    return str(error).removeprefix("model: ").partition(" (max_seconds")[0]


def _squares(rbm: GaussianRBM, moments: Moments) -> Array:
    """⟨v²⟩ = σ² + ⟨(a + Wh)²⟩, where ⟨v h⟩ = ⟨(a + Wh) h⟩."""
    weights, visible_bias, _, sigma = (p.astype(np.float64) for p in rbm.parameters)
    pulled = (weights * moments.visible_hidden).sum(axis=1)
    squares: Array = sigma**2 + visible_bias * moments.visible + pulled
    return squares


Method = Callable[[Machine, SamplerSettings], Gradient]
