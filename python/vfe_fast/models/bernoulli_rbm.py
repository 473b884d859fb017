"""The restricted Boltzmann machine with 0/1 units in both layers."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .. import _core
from ..arguments import count, float_dtype, memory_for, on_cuda, real, threads
from ..arrays import Array, borrow, borrow_states
from ..random import generator, seed
from .base import BinaryRBM, rbm_parameters

__all__ = ["BernoulliRBM"]

_STATES = 4096  # that are in memory as float64 at a time


class BernoulliRBM(BinaryRBM):
    r"""A restricted Boltzmann machine: visible and hidden units that are 0 or 1.

    .. math:: E(v, h) = -a \cdot v - b \cdot h - v^T W h, \qquad p(v, h) = e^{-\beta E(v, h)} / Z

    The parameters are copied in and read-only; `set_parameters` replaces all three at once, so the
    model is never half changed.

    Parameters
    ----------
    weights : array_like, (n_visible, n_hidden)
        W. float32 or float64; the biases must have the same dtype, which Python numbers take.
    visible_bias : array_like, (n_visible,)
        a.
    hidden_bias : array_like, (n_hidden,)
        b.

    Raises
    ------
    TypeError
        If a dtype is not float32 or float64 in native byte order, or they differ.
    ValueError
        If the shapes do not agree, a layer is empty, or a number is NaN or too large: magnitudes are below
        2^100 (float32) or 2^900 (float64), so that no energy overflows.

    Notes
    -----
    Equations: C. Martin, "Free Energies and Variational Inference" (2017), section "Inference in RBMs";
    G. Hinton, Neural Computation 14 (2002) 1771.

    Examples
    --------
    >>> rbm = BernoulliRBM([[1.0, -2.0], [0.5, 0.0], [0.0, 1.0]], [0.1, 0.2, 0.3], [-1.0, 1.0])
    >>> rbm.energy([[1, 0, 1]], [[0, 1]])
    array([-0.4])
    """

    def __init__(self, weights: Any, visible_bias: Any, hidden_bias: Any) -> None:
        self._take(rbm_parameters(weights, visible_bias, hidden_bias))

    def _take(self, parameters: tuple[Array, Array, Array]) -> None:
        before: tuple[Any, Any] | None = getattr(self, "_current", None)
        if before is not None and before[0][0] is parameters[0]:
            self._current = parameters, before[1].with_other_biases()
        else:
            self._current = parameters, _core.Prepared()

    @classmethod
    def from_data(
        cls,
        data: Any,
        n_hidden: int,
        *,
        rng: Any = None,
        scale: float = 0.01,
        dtype: npt.DTypeLike = np.float32,
    ) -> BernoulliRBM:
        """Start a model for training: visible biases from the data's means, small random weights.

        Parameters
        ----------
        data : array_like, (n_samples, n_visible)
            States of 0s and 1s.
        n_hidden : int
            Hidden units; their biases start at 0.
        rng : int, numpy.random.Generator, numpy.random.SeedSequence or None
            Seed of the weights.
        scale : float
            Standard deviation of the weights.
        dtype : dtype
            float32 or float64.

        Returns
        -------
        BernoulliRBM
            With a_i = ln(p_i / (1 - p_i)), p_i the mean of unit i shrunk towards 1/2 by one count
            (G. Hinton, "A practical guide to training RBMs", 2010, section 8).

        Raises
        ------
        TypeError, ValueError
            If an argument is not of the kind described.
        """
        n_hidden = count(n_hidden, "n_hidden", below=1 << 40)
        states = as_states(data, "data")
        if states.shape[0] == 0:
            raise ValueError("data: expected n_samples >= 1, got 0")
        scale = real(scale, "scale", 0.0, 1e30)
        kind = float_dtype(dtype)
        mean = (states.sum(axis=0, dtype=np.float64) + 0.5) / (states.shape[0] + 1.0)
        draw = generator(seed(rng), "weights")
        with memory_for("n_hidden", n_hidden):
            weights = scale * draw.standard_normal((states.shape[1], n_hidden))
        return cls(
            weights.astype(kind), np.log(mean / (1.0 - mean)).astype(kind), np.zeros(n_hidden, dtype=kind)
        )

    @property
    def parameters(self) -> tuple[Array, Array, Array]:
        """Weights, visible bias and hidden bias, as one consistent set."""
        return self._current[0]

    @property
    def prepared(self) -> tuple[tuple[Array, Array, Array], _core.Prepared]:
        """The parameters, and what kernels keep of them between calls (about three times their memory)."""
        return self._current

    def energy(self, v: Any, h: Any, *, num_threads: int | None = None) -> Any:
        r"""E(v, h) = -a.v - b.h - v'Wh of joint states.

        Parameters
        ----------
        v : array_like, (n_samples, n_visible)
            States of 0s and 1s.
        h : array_like, (n_samples, n_hidden)
            States of 0s and 1s.
        num_threads : int, optional
            Threads to use; the result does not depend on it.

        Returns
        -------
        array, (n_samples,)
            Of the model's dtype, computed in float64; the caller's kind of array.

        Raises
        ------
        TypeError, ValueError
            If shapes or values are not as described.
        """
        packed_v, give_back = borrow_states(v, self.n_visible, "v")
        packed_h, _ = borrow_states(h, self.n_hidden, "h")
        if len(packed_v) != len(packed_h):
            raise ValueError(f"h: expected n_samples = {len(packed_v)} like v, got {len(packed_h)}")
        weights, visible_bias, hidden_bias = (p.astype(np.float64) for p in self.parameters)
        energies = np.empty(len(packed_v), self.dtype)
        for first in range(0, len(energies), _STATES):
            some = slice(first, first + _STATES)
            visible = _core.unpack_states(packed_v[some], self.n_visible).astype(np.float64)
            hidden = _core.unpack_states(packed_h[some], self.n_hidden).astype(np.float64)
            fields = _core.product(visible, weights, hidden_bias, num_threads=threads(num_threads))
            energies[some] = -(visible * visible_bias).sum(axis=1) - (fields * hidden).sum(axis=1)
        return give_back(energies)

    def free_energy(
        self,
        v: Any,
        *,
        beta: float = 1.0,
        num_threads: int | None = None,
        device: Literal["cpu", "cuda"] | None = None,
    ) -> Any:
        r"""Clamped free energy of visible states, the hidden units summed out.

        .. math:: F_c(v) = -a \cdot v - \tfrac1\beta \sum_j \ln(1 + e^{\beta (b_j + (vW)_j)})

        so that :math:`\ln p(v) = -\beta F_c(v) - \ln Z`.

        Parameters
        ----------
        v : array_like, (n_samples, n_visible)
            States of 0s and 1s.
        beta : float
            Inverse temperature, >= 2^-100.
        num_threads : int, optional
            Threads to use; the result does not depend on it.
        device : {"cpu", "cuda"}, optional
            Where the kernel runs: where the states are, if not given. Those in host memory are moved to a
            CUDA device and back. The result does not depend on it.

        Returns
        -------
        array, (n_samples,)
            Of the model's dtype; the caller's kind of array.

        Raises
        ------
        TypeError, ValueError
            If shapes or values are not as described.
        TargetUnavailableError
            If there is no such device.
        """
        return self._clamped(v, "v", beta, num_threads, device, free_energy=True)

    def mean_hidden(
        self,
        v: Any,
        *,
        beta: float = 1.0,
        num_threads: int | None = None,
        device: Literal["cpu", "cuda"] | None = None,
    ) -> Any:
        """p(h_j = 1 | v) = sigmoid(beta (b_j + (vW)_j)), which is also -dF_c/db_j.

        Parameters
        ----------
        v : array_like, (n_samples, n_visible)
            States of 0s and 1s.
        beta : float
            Inverse temperature, >= 0.
        num_threads : int, optional
            Threads to use; the result does not depend on it.
        device : {"cpu", "cuda"}, optional
            Where the kernel runs: where the states are, if not given. Those in host memory are moved to a
            CUDA device and back. The result does not depend on it.

        Returns
        -------
        array, (n_samples, n_hidden)
            Of the model's dtype; the caller's kind of array.

        Raises
        ------
        TypeError, ValueError
            If shapes or values are not as described.
        TargetUnavailableError
            If there is no such device.
        """
        return self._clamped(v, "v", beta, num_threads, device)

    def mean_visible(
        self,
        h: Any,
        *,
        beta: float = 1.0,
        num_threads: int | None = None,
        device: Literal["cpu", "cuda"] | None = None,
    ) -> Any:
        """p(v_i = 1 | h) = sigmoid(beta (a_i + (Wh)_i)).

        Parameters
        ----------
        h : array_like, (n_samples, n_hidden)
            States of 0s and 1s.
        beta : float
            Inverse temperature, >= 0.
        num_threads : int, optional
            Threads to use; the result does not depend on it.
        device : {"cpu", "cuda"}, optional
            Where the kernel runs: where the states are, if not given. Those in host memory are moved to a
            CUDA device and back. The result does not depend on it.

        Returns
        -------
        array, (n_samples, n_visible)
            Of the model's dtype; the caller's kind of array.

        Raises
        ------
        TypeError, ValueError
            If shapes or values are not as described.
        TargetUnavailableError
            If there is no such device.
        """
        return self._clamped(h, "h", beta, num_threads, device, exchanged=True)

    def _clamped(
        self,
        states: Any,
        name: str,
        beta: float,
        num_threads: int | None,
        device: Any,
        *,
        free_energy: bool = False,
        exchanged: bool = False,
    ) -> Any:
        """Free energies or means of the other layer, given one; `exchanged` if that is the hidden one."""
        (weights, given, other), prepared = self._current
        if exchanged:
            weights, given, other = weights.T, other, given
        cuda = on_cuda(device, states)
        packed, give_back = borrow_states(states, len(given), name, cuda=cuda)
        try:
            results = _core.free_energy(
                weights, given, other, packed, real(beta, "beta"), free_energy, not free_energy,
                threads(num_threads), exchanged, prepared, cuda,
            )  # fmt: skip
        except MemoryError as error:
            raise MemoryError(f"{name}: expected fewer states, got {len(packed)}: {error}") from None
        return give_back(results[0] if free_energy else results[1])


def as_states(data: Any, name: str) -> npt.NDArray[np.uint8]:
    """Data as uint8 states (n_samples, n_visible), checked to be 0s and 1s."""
    array, _ = borrow(data, name)
    if array.ndim != 2 or array.shape[1] < 1:
        raise ValueError(f"{name}: expected (n_samples, n_visible), got {array.shape}")
    packed, _ = borrow_states(array, array.shape[1], name)
    return _core.unpack_states(packed, array.shape[1])
