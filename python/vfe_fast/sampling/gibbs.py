"""Block Gibbs sampling: a function for one run, an object for persistent chains."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .. import _core
from ..arguments import count, memory_for, on_cuda, real, threads
from ..arrays import Array, borrow, borrow_states
from ..brief import brief
from ..device import DeviceArray
from ..files import read_arrays, write_arrays
from ..random import seed
from .states import Sampled, Steps, Words, own_words, states_of

__all__ = ["ChainState", "GibbsChains", "gibbs"]

_FORMAT, _FORMAT_VERSION = "vfe_fast.chains", "1"


def gibbs(
    rbm: Sampled,
    v0: Any,
    n_steps: int = 1,
    *,
    beta: float | npt.ArrayLike = 1.0,
    clamped: Any = None,
    rng: Any = None,
    chain_offset: int = 0,
    step_offset: int = 0,
    num_threads: int | None = None,
    device: Literal["cpu", "cuda"] | None = None,
) -> tuple[Any, Any]:
    r"""Run block Gibbs sampling from `v0`: h given v, then v given h, `n_steps` times.

    .. math:: p(h_j = 1 | v) = \sigma(\beta (b_j + \sum_i v_i W_{ij})), \qquad
              p(v_i = 1 | h) = \sigma(\beta (a_i + \sum_j W_{ij} h_j))

    (or the same of spins; real visible units are normal: see `GaussianRBM`).

    Parameters
    ----------
    rbm : BernoulliRBM, GaussianRBM or SpinRBM
        The model.
    v0 : array_like, (n_chains, n_visible)
        States to start from: 0s and 1s, spins -1 and +1, or numbers of the model's dtype.
    n_steps : int
        Steps, >= 1.
    beta : float or array_like, (n_chains,)
        Inverse temperature, >= 0 (real units: >= 2^-100), of all chains or of each.
    clamped : array_like, (n_visible,) or (n_chains, n_visible), optional
        True or 1 where a visible unit keeps its value in `v0`: sampling given those units.
    rng : int, numpy.random.Generator, numpy.random.SeedSequence or None
        See `vfe_fast.random.seed`. The same int gives the same sample; pass a Generator, or count up
        `step_offset`, for fresh ones.
    chain_offset, step_offset : int
        Number of the first chain and of the first step. A batch cut in pieces, or a run cut in parts,
        gives the same states as the whole when its parts carry their offsets.
    num_threads : int, optional
        Threads to use; the sample does not depend on it.
    device : {"cpu", "cuda"}, optional
        Where the kernel runs: where `v0` is, if not given. States in host memory are moved to a CUDA device
        and back. The sample does not depend on it.

    Returns
    -------
    v : array, (n_chains, n_visible), uint8 (spins: int8, real units: the model's dtype)
        Visible states after the last step.
    h : array, (n_chains, n_hidden), uint8 (spins: int8)
        The hidden states they were drawn from. Both are of the caller's kind of array.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described; the message names it.
    TargetUnavailableError
        If there is no such device, or no kernel for it; the message says which.

    Notes
    -----
    The law and its precision: docs/gibbs.md, ``src/cpp/kernels/gibbs.hpp`` and
    ``gaussian_gibbs.hpp``.
    """
    states, cuda = states_of(rbm), on_cuda(device, v0)
    start, give_back = states.take(v0, "v0", cuda=cuda)
    steps = Steps(
        n_steps=count(n_steps, "n_steps"),
        beta=_betas(beta),
        clamped=_mask(clamped, rbm.n_visible),
        seed=seed(rng),
        chain_offset=count(chain_offset, "chain_offset", 0),
        step_offset=count(step_offset, "step_offset", 0),
        num_threads=threads(num_threads),
    )
    visible, hidden = states.move(start, steps, cuda=cuda)
    return give_back(states.visible(visible)), give_back(states.hidden(hidden))


@dataclass(frozen=True, eq=False)
class ChainState:
    """Everything that persistent chains are: a snapshot that can be stored and restored.

    Attributes
    ----------
    visible : ndarray
        States packed 64 units a word (uint64, unit u in bit u % 64 of word u // 64), chain first, read-only;
        numbers if the units are real.
    hidden : ndarray of uint64
        Packed states, read-only; no columns before the first step.
    seed : int
        Key of the random numbers.
    step : int
        Steps done.
    """

    visible: Array
    hidden: Words
    seed: int
    step: int

    __repr__ = brief

    def __post_init__(self) -> None:
        for array in (self.visible, self.hidden):
            if isinstance(array, np.ndarray):
                array.setflags(write=False)


class GibbsChains:
    """Persistent Gibbs chains of a model, one bit a binary unit.

    Each call of `step` goes on where the last one ended, with the model's parameters as they are then.
    A step that is interrupted leaves the chains as they were before it.

    Parameters
    ----------
    rbm : BernoulliRBM, GaussianRBM or SpinRBM
        The model; kept by reference, so training moves the chains' law along.
    n_chains : int
        Number of chains, >= 1.
    rng : int, numpy.random.Generator, numpy.random.SeedSequence or None
        See `vfe_fast.random.seed`.
    start : array_like, (n_chains, n_visible), optional
        Visible states to start from; drawn as if there were no weights if not given.
    clamped : array_like, (n_visible,) or (n_chains, n_visible), optional
        True or 1 where a visible unit keeps its value in `start`: chains of the law given those units.
    device : {"cpu", "cuda"}
        Where the chains live. On a CUDA device, `visible` and `hidden` are `vfe_fast.device.DeviceArray`;
        `state` is in host memory.
    num_threads : int, optional
        Threads to use; the sample does not depend on it.

    Raises
    ------
    TargetUnavailableError
        If there are no kernels for the device, or no device; the message says which.
    TypeError, ValueError
        If an argument is not as described.

    Examples
    --------
    >>> import numpy as np
    >>> from vfe_fast import BernoulliRBM
    >>> rbm = BernoulliRBM(np.zeros((3, 2)), np.zeros(3), np.zeros(2))
    >>> chains = GibbsChains(rbm, 4, rng=0)
    >>> chains.step(10)
    >>> chains.visible.shape
    (4, 3)
    """

    def __init__(
        self,
        rbm: Sampled,
        n_chains: int,
        *,
        rng: Any = None,
        start: Any = None,
        clamped: Any = None,
        device: Literal["cpu", "cuda"] = "cpu",
        num_threads: int | None = None,
    ) -> None:
        states = states_of(rbm)
        self._cuda = on_cuda(device)
        _core.require_device(self._cuda)
        self._rbm = rbm
        self._num_threads = threads(num_threads)
        n_chains = count(n_chains, "n_chains", below=(1 << 32) + 1)
        key = seed(rng)
        if start is None:
            with memory_for("n_chains", n_chains):
                visible = states.draw_start(n_chains, key, self._num_threads)
        else:
            visible = states.own(states.take(start, "start")[0], "start")
        if len(visible) != n_chains:
            raise ValueError(f"start: expected n_chains = {n_chains} rows, got {len(visible)}")
        self._clamped = _mask(clamped, rbm.n_visible)
        if self._clamped is not None:
            if start is None:
                raise ValueError("clamped: expected `start` too, whose values the units keep")
            if len(self._clamped) not in (1, n_chains):
                raise ValueError(
                    f"clamped: expected 1 or n_chains = {n_chains} rows, got {len(self._clamped)}"
                )
        self._state = self._there(ChainState(visible, np.empty((n_chains, 0), dtype=np.uint64), key, 0))

    def _there(self, state: ChainState) -> ChainState:
        """The state of chains that live on a CUDA device; the other way round, and else, the one given."""
        if not self._cuda:
            return state
        move = _core.to_host if _core.on_device(state.visible) else _core.to_device
        return replace(state, visible=move(state.visible), hidden=move(state.hidden))

    def step(self, n_steps: int = 1, *, beta: float | npt.ArrayLike = 1.0) -> None:
        """Move every chain on.

        Parameters
        ----------
        n_steps : int
            Block Gibbs steps, >= 1.
        beta : float or array_like, (n_chains,)
            Inverse temperature, >= 0 (real units: >= 2^-100), of all chains or of each.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as described.
        """
        state = self._state
        n_steps = count(n_steps, "n_steps")
        steps = Steps(
            n_steps=n_steps,
            beta=_betas(beta),
            clamped=self._clamped,
            seed=state.seed,
            chain_offset=0,
            step_offset=state.step,
            num_threads=self._num_threads,
        )
        visible, hidden = states_of(self.rbm).move(state.visible, steps, cuda=self._cuda)
        self._state = ChainState(visible, hidden, state.seed, state.step + n_steps)

    @property
    def rbm(self) -> Sampled:
        """The model; another one takes its place if it has the same units."""
        return self._rbm

    @rbm.setter
    def rbm(self, rbm: Sampled) -> None:
        states_of(rbm)
        if _units(rbm) != _units(self._rbm):
            raise ValueError(f"rbm: expected the units of {_units(self._rbm)}, got {_units(rbm)}")
        self._rbm = rbm

    @property
    def n_chains(self) -> int:
        """Number of chains."""
        return len(self._state.visible)

    @property
    def n_steps(self) -> int:
        """Steps done so far."""
        return self._state.step

    @property
    def visible(self) -> Any:
        """Visible states, (n_chains, n_visible), a fresh array: uint8, spins int8, or real numbers."""
        visible = states_of(self.rbm).visible(self._state.visible)
        return DeviceArray.of(visible) if self._cuda else visible

    @property
    def hidden(self) -> Any:
        """Hidden states that `visible` was drawn from, (n_chains, n_hidden), a fresh array."""
        if self._state.step == 0:
            raise ValueError("hidden: no step has been made yet, so no hidden states were drawn")
        hidden = states_of(self.rbm).hidden(self._state.hidden)
        return DeviceArray.of(hidden) if self._cuda else hidden

    @property
    def state(self) -> ChainState:
        """A snapshot in host memory; assigning one puts the chains back, bit for bit."""
        return self._there(self._state)

    @state.setter
    def state(self, state: ChainState) -> None:
        if not isinstance(state, ChainState):
            raise TypeError(f"state: expected a ChainState, got {type(state).__name__}")
        step = count(state.step, "state.step", 0)
        visible = states_of(self.rbm).own(state.visible, "state.visible")
        hidden = own_words(state.hidden, self.rbm.n_hidden if step > 0 else 0, "state.hidden")
        if len(visible) < 1 or len(visible) != len(hidden):
            raise ValueError(
                f"state: expected n_chains >= 1 rows in both, got {len(visible)} and {len(hidden)}"
            )
        if self._clamped is not None and len(self._clamped) not in (1, len(visible)):
            raise ValueError(
                f"state: expected n_chains = {len(self._clamped)}, as `clamped` has rows, got {len(visible)}"
            )
        self._state = self._there(ChainState(visible, hidden, seed(state.seed), step))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the chains to an ``.npz`` file, which appears whole or not at all; the model is not in it.

        Parameters
        ----------
        path : path_like
            The file.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        state = self.state
        arrays = {
            "format": _FORMAT, "format_version": _FORMAT_VERSION, "units": _units(self.rbm),
            "visible": state.visible, "hidden": state.hidden,
            "seed": np.uint64(state.seed), "step": np.int64(state.step),
        }  # fmt: skip
        if self._clamped is not None:
            arrays["clamped"] = self._clamped
        write_arrays(path, arrays)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        rbm: Sampled,
        *,
        device: Literal["cpu", "cuda"] = "cpu",
        num_threads: int | None = None,
    ) -> GibbsChains:
        """Read chains back: they go on, bit for bit, as those that were saved.

        Parameters
        ----------
        path : path_like
            Written by `save`.
        rbm : BernoulliRBM, GaussianRBM or SpinRBM
            The model they are chains of.
        device : {"cpu", "cuda"}
            Where they go on.
        num_threads : int, optional
            Threads to use; the sample does not depend on it.

        Returns
        -------
        GibbsChains

        Raises
        ------
        OSError
            If the file cannot be read.
        TypeError, ValueError
            If it holds no chains, or those of a model with other units.
        """
        arrays = read_arrays(path, "vfe_fast chains", _FORMAT)
        name = os.fspath(path)
        if str(arrays.get("format_version", "")) != _FORMAT_VERSION:
            raise ValueError(f"{name}: expected format version {_FORMAT_VERSION}")
        if str(arrays.get("units", "")) != _units(rbm):
            raise ValueError(f"{name}: expected chains of {_units(rbm)}, got {arrays.get('units')}")
        try:
            n_chains, step = len(arrays["visible"]), arrays["step"].item()
            chains = cls(rbm, n_chains, rng=arrays["seed"].item(), device=device, num_threads=num_threads)
            chains.state = ChainState(arrays["visible"], arrays["hidden"], arrays["seed"].item(), step)
            if "clamped" in arrays:
                chains._clamped = own_words(arrays["clamped"], rbm.n_visible, "clamped")
                if len(chains._clamped) not in (1, n_chains):
                    raise ValueError(f"clamped: expected 1 or {n_chains} rows, got {len(chains._clamped)}")
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{name}: expected chains of this model: {error}") from error
        return chains

    def __repr__(self) -> str:
        return f"GibbsChains({self.rbm!r}, n_chains={self.n_chains}, n_steps={self.n_steps})"


def _units(rbm: Sampled) -> str:
    """What a file says of the units."""
    return f"{type(rbm).__name__} {rbm.n_visible} {rbm.n_hidden} {rbm.dtype}"


def _betas(beta: Any) -> Any:
    """One number, or one a chain."""
    if type(beta) is float or np.ndim(beta) == 0:  # the common case first: np.ndim takes 2 microseconds
        return real(beta, "beta")
    betas, _ = borrow(beta, "beta")
    if betas.ndim != 1 or betas.dtype.kind not in "fiu":
        raise TypeError(f"beta: expected a number or (n_chains,) numbers, got {betas.dtype} {betas.shape}")
    return betas


def _mask(clamped: Any, n_visible: int) -> Words | None:
    """The clamped units in packed form, one row or one a chain."""
    if clamped is None:
        return None
    array, _ = borrow(clamped, "clamped")
    if array.ndim not in (1, 2) or array.shape[-1] != n_visible:
        raise ValueError(
            f"clamped: expected ({n_visible},) or (n_chains, {n_visible}), 1 where a unit keeps its value, "
            f"got {array.shape}"
        )
    packed, _ = borrow_states(array[None] if array.ndim == 1 else array, n_visible, "clamped")
    return packed
