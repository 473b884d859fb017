"""The restricted Boltzmann machine with units ±1 in both layers."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .. import _core
from ..arguments import threads
from ..arrays import Array, borrow
from .base import BinaryRBM, rbm_parameters
from .bernoulli_rbm import BernoulliRBM
from .ising import as_spins

__all__ = ["SpinRBM"]


class SpinRBM(BinaryRBM):
    r"""A restricted Boltzmann machine whose units are -1 or +1.

    .. math:: E(v, h) = -a \cdot v - b \cdot h - v^T W h, \qquad p(v, h) = e^{-\beta E(v, h)} / Z

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
    TypeError, ValueError
        As `BernoulliRBM` does.

    Notes
    -----
    With v = 2v' - 1 and h = 2h' - 1 it is the 0/1 machine of W' = 4W, a' = 2a - 2W1, b' = 2b - 2W'1, whose
    energies are lower by a constant: `to_bernoulli`.
    """

    def __init__(self, weights: Any, visible_bias: Any, hidden_bias: Any) -> None:
        self._take(rbm_parameters(weights, visible_bias, hidden_bias))

    _bits: tuple[tuple[Array, Array, Array], BernoulliRBM] | None = None  # for the parameters it was made of

    def _take(self, parameters: tuple[Array, Array, Array]) -> None:
        self._parameters: tuple[Array, Array, Array] = parameters

    @classmethod
    def from_data(
        cls,
        data: Any,
        n_hidden: int,
        *,
        rng: Any = None,
        scale: float = 0.01,
        dtype: npt.DTypeLike = np.float32,
    ) -> SpinRBM:
        """Start a model for training: visible biases from the data's means, small random weights.

        Parameters
        ----------
        data : array_like, (n_samples, n_visible)
            Spins, -1 or +1.
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
        SpinRBM
            With a_i = artanh ⟨v_i⟩, the mean shrunk towards 0 by one count.

        Raises
        ------
        TypeError, ValueError
            If an argument is not of the kind described.
        """
        array, _ = borrow(data, "data")
        spins = as_spins(array, array.shape[-1] if array.ndim == 2 else 0, "data")
        start = BernoulliRBM.from_data(
            (spins > 0).astype(np.uint8), n_hidden, rng=rng, scale=scale, dtype=dtype
        )
        return cls(start.weights, start.visible_bias / 2, start.hidden_bias)

    @classmethod
    def from_bernoulli(cls, rbm: BernoulliRBM) -> SpinRBM:
        """The same machine with its units read as ±1; energies differ by a constant.

        Parameters
        ----------
        rbm : BernoulliRBM
            Units 0 become -1.

        Returns
        -------
        SpinRBM
            Of dtype float64.
        """
        weights, visible_bias, hidden_bias = (p.astype(np.float64) for p in rbm.parameters)
        return cls(
            weights / 4,
            visible_bias / 2 + weights.sum(axis=1) / 4,
            hidden_bias / 2 + weights.sum(axis=0) / 4,
        )

    def to_bernoulli(self) -> tuple[BernoulliRBM, float]:
        """The same machine with its units read as 0/1.

        Returns
        -------
        rbm : BernoulliRBM
            Of dtype float64; -1 becomes 0.
        constant : float
            E of this machine minus E of `rbm`, the same for all states.
        """
        weights, visible_bias, hidden_bias = (p.astype(np.float64) for p in self._parameters)
        rbm = BernoulliRBM(4 * weights, *_bit_biases(self._parameters))
        return rbm, float(visible_bias.sum() + hidden_bias.sum() - weights.sum())

    @property
    def bits(self) -> BernoulliRBM:
        """The same machine in units 0/1 and the same dtype, kept until the parameters are replaced."""
        kept, parameters = self._bits, self._parameters
        if kept is not None and kept[0] is parameters:
            return kept[1]
        biases = (bias.astype(self.dtype) for bias in _bit_biases(parameters))
        if kept is not None and kept[0][0] is parameters[0]:
            machine = kept[1].with_biases(*biases)
        else:
            machine = BernoulliRBM((4 * parameters[0].astype(np.float64)).astype(self.dtype), *biases)
        self._bits = parameters, machine
        return machine

    def free_energy(
        self,
        v: Any,
        *,
        beta: float = 1.0,
        num_threads: int | None = None,
        device: Literal["cpu", "cuda"] | None = None,
    ) -> Any:
        r"""Clamped free energy of visible states, the hidden units summed out.

        .. math:: F_c(v) = -a \cdot v - \tfrac1\beta \sum_j \ln 2 \cosh(\beta (b_j + (vW)_j))

        Parameters
        ----------
        v : array_like, (n_samples, n_visible)
            Spins, -1 or +1.
        beta : float
            Inverse temperature, >= 2^-100.
        num_threads : int, optional
            Threads to use; the result does not depend on it.
        device : {"cpu", "cuda"}, optional
            Where the kernel runs; the CPU if not given. States, which have to be in host memory, are moved
            there and back. The result does not depend on it.

        Returns
        -------
        array, (n_samples,)
            Of the model's dtype, computed in float64; the caller's kind of array.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as described.
        TargetUnavailableError
            If there is no such device.
        """
        array, give_back = borrow(v, "v")
        bits = (as_spins(array, self.n_visible, "v") > 0).astype(np.uint8)
        rbm, constant = self.to_bernoulli()
        found = rbm.free_energy(bits, beta=beta, num_threads=num_threads, device=device or "cpu") + constant
        return give_back(found.astype(self.dtype))

    def energy(self, v: Any, h: Any, *, num_threads: int | None = None) -> Any:
        """E(v, h) = -a.v - b.h - v'Wh of joint states.

        Parameters
        ----------
        v : array_like, (n_samples, n_visible)
            Spins, -1 or +1, of any signed integer or float dtype.
        h : array_like, (n_samples, n_hidden)
            Spins.
        num_threads : int, optional
            Threads to use; the result does not depend on it.

        Returns
        -------
        array, (n_samples,)
            Of the model's dtype, computed in float64; the caller's kind of array.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as described.
        """
        array, give_back = borrow(v, "v")
        visible = as_spins(array, self.n_visible, "v")
        hidden = as_spins(borrow(h, "h")[0], self.n_hidden, "h")
        if len(visible) != len(hidden):
            raise ValueError(f"h: expected n_samples = {len(visible)} like v, got {len(hidden)}")
        weights, visible_bias, hidden_bias = (p.astype(np.float64) for p in self._parameters)
        fields = _core.product(visible, weights, hidden_bias, num_threads=threads(num_threads))
        pull = (fields * hidden).sum(axis=1)
        return give_back((-(visible * visible_bias).sum(axis=1) - pull).astype(self.dtype))


def _bit_biases(parameters: tuple[Array, Array, Array]) -> tuple[Array, Array]:
    """The biases of the same machine in units 0/1, in float64."""
    weights, visible_bias, hidden_bias = (p.astype(np.float64) for p in parameters)
    return 2 * visible_bias - 2 * weights.sum(axis=1), 2 * hidden_bias - 2 * weights.sum(axis=0)
