"""What the loop needs to know of each kind of model: its data, its averages, what ascends."""

from __future__ import annotations

import math
import zlib
from dataclasses import replace
from typing import Any

import numpy as np

from .. import _core
from ..arrays import Array, borrow, borrow_states, finite_reals
from ..models import BernoulliRBM, GaussianRBM, SpinRBM
from ..models.ising import as_spins
from .averages import Contrast, clamped_means
from .gradients import Gradient, Method, SamplerSettings, State, direction

__all__ = ["Bits", "InSpins", "Reals", "Spins", "Trained", "machine_of"]

Trained = BernoulliRBM | GaussianRBM | SpinRBM

_MOST, _MOST_LOG_VARIANCE = 2.0**40, 40 * math.log(2.0)  # of real units: beyond, training has diverged


class Bits:
    """A machine with units 0/1: its averages are its gradient.

    Parameters
    ----------
    rbm : BernoulliRBM
        The model that is trained.
    """

    def __init__(self, rbm: Any) -> None:
        self.rbm = rbm

    def states(self, data: Any) -> Array:
        """Data as the kernels know them, checked."""
        return borrow_states(self._table(data), self.rbm.n_visible, "data")[0]

    def start(self) -> None:
        """Begin a run at the model as it is."""

    frame: tuple[Array, ...] = ()  # what a run's units are: nothing to say of binary ones

    def batch(self, states: Array) -> Array:
        """Make a minibatch of some of the states."""
        return states

    def gradient(self, method: Method, settings: SamplerSettings) -> Gradient:
        """Make the method's gradient, in averages of this machine."""
        return method(self.rbm, settings)

    def means(self, states: Array, num_threads: int | None) -> tuple[Array, ...]:
        """⟨v⟩ and ⟨h⟩ over the data."""
        return clamped_means(self.rbm, states, num_threads)

    @property
    def parameters(self) -> tuple[Array, ...]:
        """What ascends: weights, visible bias, hidden bias, and ln σ² if it is learned."""
        return tuple(self.rbm.parameters[:3])

    @parameters.setter
    def parameters(self, parameters: tuple[Array, ...]) -> None:
        self.rbm.set_parameters(*parameters)

    def slopes(self, contrast: Contrast, offsets: tuple[Array, ...]) -> tuple[Contrast, tuple[Array, ...]]:
        """Averages and offsets as the gradient of these parameters is made of them."""
        return contrast, offsets

    def more_slopes(self, contrast: Contrast) -> tuple[Array, ...]:
        """The gradient of further parameters."""
        return ()

    @property
    def description(self) -> list[Any]:
        """What a checkpoint says of the model."""
        rbm = self.rbm
        return [rbm.n_visible, rbm.n_hidden, str(rbm.dtype), type(rbm).__name__]

    def _table(self, data: Any) -> Array:
        array, _ = borrow(data, "data")
        if array.ndim != 2 or array.shape[1] != self.rbm.n_visible or array.shape[0] == 0:
            raise ValueError(
                f"data: expected (n_samples, n_visible) = (>= 1, {self.rbm.n_visible}), got {array.shape}"
            )
        return array


class Spins(Bits):
    """A machine with units ±1: averages are those of the same machine in units 0/1, read as those of spins.

    Parameters
    ----------
    rbm : SpinRBM
        The model that is trained.
    """

    def states(self, data: Any) -> Array:
        """Packed data, +1 as 1."""
        spins = as_spins(self._table(data), self.rbm.n_visible, "data")
        return borrow_states(spins > 0, self.rbm.n_visible, "data")[0]

    def gradient(self, method: Method, settings: SamplerSettings) -> Gradient:
        """Make the method's gradient for the 0/1 machine, in averages of spins."""
        return InSpins(self.rbm, method, settings)

    def means(self, states: Array, num_threads: int | None) -> tuple[Array, ...]:
        """⟨v⟩ and ⟨h⟩ over the data."""
        return tuple(2 * mean - 1 for mean in clamped_means(self.rbm.bits, states, num_threads))


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
        self.machine = BernoulliRBM(*rbm.bits.parameters)
        self.of_bits = method(self.machine, settings)

    def contrast(self, batch: Array, update: int) -> Contrast:
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
        self.machine.set_parameters(*self.rbm.bits.parameters)
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


class Reals(Bits):
    """A machine with real visible units, trained in units of its own: v' = (v - m) / s.

    There it is the machine of W' = W / s, a' = (a - m) / s, σ' = σ / s and b'_j = b_j + Σ_i m_i W_ij / σ_i²;
    m and s are a and σ at the start of a run: steps do not depend on the scale of the data, nor averages on
    their mean. Slopes in W' and a' have a factor 1/σ'²; ln σ'² may ascend too.

    Parameters
    ----------
    rbm : GaussianRBM
        The model that is trained.
    learn_sigma : bool
        Whether σ is learned.
    """

    def __init__(self, rbm: GaussianRBM, learn_sigma: bool) -> None:
        super().__init__(rbm)
        self.learn_sigma = learn_sigma
        self.frame = np.zeros_like(rbm.sigma), np.ones_like(rbm.sigma)

    def start(self) -> None:
        """Take a and σ of the model as it is for m and s."""
        _, visible_bias, _, sigma = self.rbm.parameters
        self.frame = visible_bias, sigma

    @property
    def frame(self) -> tuple[Array, ...]:
        """m and s."""
        return self._frame

    @frame.setter
    def frame(self, frame: tuple[Array, ...]) -> None:
        kind = self.rbm.dtype
        weights, visible_bias, hidden_bias, sigma = (p.astype(np.float64) for p in self.rbm.parameters)
        origin, scale = (part.astype(np.float64) for part in frame)
        pull = _core.product((origin / sigma**2)[None], weights)[0]
        inner = weights / scale[:, None], (visible_bias - origin) / scale, hidden_bias + pull, sigma / scale
        self._frame = frame
        self.machine = GaussianRBM(*(p.astype(kind) for p in inner))

    def states(self, data: Any) -> Array:
        """Check that they are finite numbers of the model's dtype."""
        self._table(data)
        return np.array(finite_reals(data, self.rbm.n_visible, self.rbm.dtype, "data")[0])

    def batch(self, states: Array) -> Array:
        """The same in units of training."""
        origin, scale = self.frame
        found: Array = (states - origin) / scale
        return found

    def gradient(self, method: Method, settings: SamplerSettings) -> Gradient:
        """Make the method's gradient, in averages in units of training."""
        return method(self.machine, settings)

    def means(self, states: Array, num_threads: int | None) -> tuple[Array, ...]:
        """⟨v'⟩ and ⟨h⟩ over the data."""
        return clamped_means(self.machine, self.batch(states), num_threads)

    @property
    def parameters(self) -> tuple[Array, ...]:
        """Weights, visible bias, hidden bias, and ln σ² if it is learned, in units of training."""
        weights, visible_bias, hidden_bias, sigma = self.machine.parameters
        log_variance = (2 * _core.log(sigma),) if self.learn_sigma else ()
        return (weights, visible_bias, hidden_bias, *log_variance)

    @parameters.setter
    def parameters(self, parameters: tuple[Array, ...]) -> None:
        weights, visible_bias, hidden_bias, *log_variance = parameters
        for name, array in zip(("weights", "visible_bias", "hidden_bias"), parameters[:3], strict=True):
            if not (np.abs(array) < _MOST).all():
                raise ValueError(f"{name}: expected magnitudes below 2^40 in units of the first sigma")
        if not all((np.abs(z) < _MOST_LOG_VARIANCE).all() for z in log_variance):
            raise ValueError(
                "sigma: expected it within factors of 2^20 of the first one; GaussianRBM.from_data starts "
                "near it, and units that other units determine have none to learn"
            )
        sigma = _core.exp(log_variance[0] / 2) if log_variance else self.machine.sigma
        origin, scale = self.frame
        wide = origin.astype(np.float64) / (scale * sigma.astype(np.float64) ** 2)
        pull = _core.product(wide[None], weights.astype(np.float64))[0]
        self.rbm.set_parameters(
            weights * scale[:, None],
            origin + scale * visible_bias,
            (hidden_bias - pull).astype(weights.dtype),
            scale * sigma,
        )
        self.machine.set_parameters(weights, visible_bias, hidden_bias, sigma)

    def slopes(self, contrast: Contrast, offsets: tuple[Array, ...]) -> tuple[Contrast, tuple[Array, ...]]:
        """Averages of v', and the offsets of its units, over σ'²: those of v' / σ'², which h couples to."""
        precision = 1 / self.machine.sigma**2
        of_scaled = replace(
            contrast,
            data_visible=contrast.data_visible * precision,
            model_visible=contrast.model_visible * precision,
            pairs=contrast.pairs * precision[:, None],
        )
        return of_scaled, (offsets[0] * precision, *offsets[1:]) if offsets else ()

    def more_slopes(self, contrast: Contrast) -> tuple[Array, ...]:
        """The gradient of ln σ'²."""
        return direction(self.machine, contrast)[3:] if self.learn_sigma else ()

    @property
    def description(self) -> list[Any]:
        """With the σ that is not learned."""
        fixed = None if self.learn_sigma else zlib.crc32(self.rbm.sigma.data)
        return [*super().description, fixed]


def machine_of(rbm: Any, learn_sigma: bool = False) -> Bits:
    """What the loop needs to know of this model.

    Parameters
    ----------
    rbm : BernoulliRBM, GaussianRBM or SpinRBM
        The model that is trained.
    learn_sigma : bool
        Whether its σ is learned.

    Returns
    -------
    Bits
        Or one of its kin.

    Raises
    ------
    TypeError, ValueError
        If it is none of these, or has no σ to learn.
    """
    if isinstance(rbm, GaussianRBM):
        return Reals(rbm, learn_sigma)
    if not isinstance(rbm, (BernoulliRBM, SpinRBM)):
        raise TypeError(f"rbm: expected a BernoulliRBM, GaussianRBM or SpinRBM, got {type(rbm).__name__}")
    if learn_sigma:
        raise ValueError(f"learn_sigma: expected a GaussianRBM to have a sigma, got {type(rbm).__name__}")
    return Spins(rbm) if isinstance(rbm, SpinRBM) else Bits(rbm)
