"""How chains hold the states of each kind of model, and which kernel moves them."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from .. import _core
from ..arrays import Array, GiveBack, borrow, borrow_states, finite_reals
from ..models import BernoulliRBM, GaussianRBM, SpinRBM
from ..models.ising import as_spins

__all__ = ["Sampled", "States", "Words", "states_of"]

Words = npt.NDArray[np.uint64]
Sampled: TypeAlias = BernoulliRBM | GaussianRBM | SpinRBM

_START_STEP = (1 << 56) - 2  # the last there is: no chain ever gets there


class Steps(NamedTuple):
    """How chains move: what kernels take after the states, in their order. By names, a call takes longer."""

    n_steps: int
    beta: float | Array
    clamped: Words | None
    seed: int
    chain_offset: int
    step_offset: int
    num_threads: int


class States(Protocol):
    """States of a model's units, as users know them and as kernels do, for which hidden ones are packed."""

    def take(self, array: Any, name: str, *, cuda: bool = False) -> tuple[Array, GiveBack]:
        """Visible states from a user (`cuda`: maybe on a device), checked; how they return to the user."""

    def visible(self, states: Array) -> Array:
        """Visible states for a user, a fresh array."""

    def hidden(self, words: Words) -> Array:
        """Hidden states for a user, a fresh array."""

    def move(self, start: Array, steps: Steps, *, cuda: bool = False) -> tuple[Array, Words]:
        """Visible and hidden states after some steps."""

    def draw_start(self, n_chains: int, key: int, num_threads: int) -> Array:
        """Visible states of independent units: a Gibbs step without weights, under a number of its own."""

    def own(self, states: Any, name: str) -> Array:
        """Copy visible states as kernels know them, checked."""


class BitStates:
    """Of a machine with units 0/1: packed words."""

    def __init__(self, rbm: BernoulliRBM) -> None:
        self.rbm = rbm

    def take(self, array: Any, name: str, *, cuda: bool = False) -> tuple[Words, GiveBack]:
        """Pack 0s and 1s."""
        return borrow_states(array, self.rbm.n_visible, name, cuda=cuda)

    def visible(self, states: Words) -> Array:
        """Unpack them."""
        return _core.unpack_states(states, self.rbm.n_visible)

    def hidden(self, words: Words) -> Array:
        """Unpack them."""
        return _core.unpack_states(words, self.rbm.n_hidden)

    def move(self, start: Words, steps: Steps, *, cuda: bool = False) -> tuple[Words, Words]:
        """Run kernel `gibbs`."""
        (weights, visible_bias, hidden_bias), prepared = self.rbm.prepared
        return _core.gibbs(weights, visible_bias, hidden_bias, start, *steps, prepared, cuda)

    def draw_start(self, n_chains: int, key: int, num_threads: int) -> Words:
        """Draw them from the visible biases."""
        n_visible, dtype = self.rbm.n_visible, self.rbm.dtype
        visible, _ = _core.gibbs(
            np.zeros((n_visible, 1), dtype), self.rbm.visible_bias, np.zeros(1, dtype),
            np.zeros((n_chains, -(-n_visible // 64)), np.uint64), *_start_of(key, num_threads),
        )  # fmt: skip
        return visible

    def own(self, states: Any, name: str) -> Words:
        """Copy words, clearing the bits beyond the units."""
        return own_words(states, self.rbm.n_visible, name)


class SpinStates(BitStates):
    """Of a machine with units ±1: the words of the same machine in units 0/1."""

    def __init__(self, rbm: SpinRBM) -> None:
        super().__init__(rbm.bits)

    def take(self, array: Any, name: str, *, cuda: bool = False) -> tuple[Words, GiveBack]:
        """Pack spins, which have to be in host memory."""
        spins, give_back = borrow(array, name)
        bits = as_spins(spins, self.rbm.n_visible, name) > 0
        return super().take(bits, name)[0], give_back

    def visible(self, states: Words) -> Array:
        """Unpack them, as int8."""
        return _spins(super().visible(states))

    def hidden(self, words: Words) -> Array:
        """Unpack them, as int8."""
        return _spins(super().hidden(words))


class RealStates:
    """Of a machine with real visible units: numbers of the model's dtype."""

    def __init__(self, rbm: GaussianRBM) -> None:
        self.rbm = rbm

    def take(self, array: Any, name: str, *, cuda: bool = False) -> tuple[Array, GiveBack]:
        """Check numbers, which have to be in host memory."""
        return finite_reals(array, self.rbm.n_visible, self.rbm.dtype, name)

    def visible(self, states: Array) -> Array:
        """Copy them."""
        return states.copy()

    def hidden(self, words: Words) -> Array:
        """Unpack them."""
        return _core.unpack_states(words, self.rbm.n_hidden)

    def move(self, start: Array, steps: Steps, *, cuda: bool = False) -> tuple[Array, Words]:
        """Run kernel `gaussian_gibbs`."""
        if cuda:
            raise _core.TargetUnavailableError("device='cuda': there is no kernel for real units")
        (weights, visible_bias, hidden_bias, sigma), prepared = self.rbm.prepared
        return _core.gaussian_gibbs(weights, visible_bias, hidden_bias, sigma, start, *steps, prepared)

    def draw_start(self, n_chains: int, key: int, num_threads: int) -> Array:
        """Draw them from the visible biases and variances."""
        n_visible, dtype = self.rbm.n_visible, self.rbm.dtype
        visible, _ = _core.gaussian_gibbs(
            np.zeros((n_visible, 1), dtype), self.rbm.visible_bias, np.zeros(1, dtype), self.rbm.sigma,
            np.zeros((n_chains, n_visible), dtype), *_start_of(key, num_threads),
        )  # fmt: skip
        return visible

    def own(self, states: Any, name: str) -> Array:
        """Copy numbers."""
        return np.array(self.take(states, name)[0])


def states_of(rbm: Any) -> States:
    """The states of this model's chains.

    Parameters
    ----------
    rbm : BernoulliRBM, GaussianRBM or SpinRBM
        The model.

    Returns
    -------
    States

    Raises
    ------
    TypeError
        If it is none of these.
    """
    if isinstance(rbm, BernoulliRBM):
        return BitStates(rbm)
    if isinstance(rbm, GaussianRBM):
        return RealStates(rbm)
    if isinstance(rbm, SpinRBM):
        return SpinStates(rbm)
    raise TypeError(f"rbm: expected a BernoulliRBM, GaussianRBM or SpinRBM, got {type(rbm).__name__}")


def own_words(words: Any, n_units: int, name: str) -> Words:
    """Copy packed states of `n_units` units, clearing the bits beyond them."""
    n_words = -(-n_units // 64)
    if not isinstance(words, np.ndarray) or words.dtype != np.uint64 or words.ndim != 2:
        raise TypeError(f"{name}: expected a 2-d array of uint64, got {type(words).__name__}")
    if words.shape[1] != n_words:
        raise ValueError(f"{name}: expected (n_chains, {n_words}), got {words.shape}")
    own = np.array(words, order="C", copy=True)
    if n_units % 64:
        own[:, -1] &= np.uint64((1 << n_units % 64) - 1)
    return own


def _start_of(key: int, num_threads: int) -> Steps:
    return Steps(1, 1.0, None, key, 0, _START_STEP, num_threads)


def _spins(bits: Array) -> Array:
    spins: Array = 2 * bits.astype(np.int8) - 1
    return spins
