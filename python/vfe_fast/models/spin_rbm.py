"""The restricted Boltzmann machine with units ±1 in both layers."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from .. import _core
from ..arrays import Array, borrow, real_parameters
from . import files
from .bernoulli_rbm import BernoulliRBM
from .ising import as_spins

__all__ = ["SpinRBM"]


class SpinRBM:
    r"""A restricted Boltzmann machine whose units are -1 or +1.

    .. math:: E(v, h) = -a \cdot v - b \cdot h - v^T W h, \qquad p(v, h) = e^{-\beta E(v, h)} / Z

    Parameters
    ----------
    weights : array_like, (n_visible, n_hidden)
        W. float32 or float64; the biases must have the same dtype.
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
        parameters = (
            real_parameters(weights, "weights"),
            real_parameters(visible_bias, "visible_bias"),
            real_parameters(hidden_bias, "hidden_bias"),
        )
        _core.check_rbm(*parameters)
        for array in parameters:
            array.setflags(write=False)
        self._parameters: tuple[Array, Array, Array] = parameters

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
        rbm = BernoulliRBM(
            4 * weights,
            2 * visible_bias - 2 * weights.sum(axis=1),
            2 * hidden_bias - 2 * weights.sum(axis=0),
        )
        return rbm, float(visible_bias.sum() + hidden_bias.sum() - weights.sum())

    @property
    def weights(self) -> Array:
        """W, (n_visible, n_hidden), read-only."""
        return self._parameters[0]

    @property
    def visible_bias(self) -> Array:
        """a, (n_visible,), read-only."""
        return self._parameters[1]

    @property
    def hidden_bias(self) -> Array:
        """b, (n_hidden,), read-only."""
        return self._parameters[2]

    @property
    def n_visible(self) -> int:
        """Number of visible units."""
        return int(self.weights.shape[0])

    @property
    def n_hidden(self) -> int:
        """Number of hidden units."""
        return int(self.weights.shape[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the parameters."""
        return self._parameters[0].dtype

    def energy(self, v: Any, h: Any) -> Any:
        """E(v, h) = -a.v - b.h - v'Wh of joint states.

        Parameters
        ----------
        v : array_like, (n_samples, n_visible)
            Spins, -1 or +1, of any signed integer or float dtype.
        h : array_like, (n_samples, n_hidden)
            Spins.

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
        coupling = np.einsum("sj,sj->s", visible @ weights, hidden)
        return give_back((-(visible @ visible_bias) - hidden @ hidden_bias - coupling).astype(self.dtype))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a file, which appears whole or not at all; `vfe_fast.load` reads it back.

        Parameters
        ----------
        path : path_like
            Written as safetensors if it ends in ``.safetensors``, else as ``.npz``, which has checksums.

        Raises
        ------
        OSError
            If the file cannot be written.
        ModuleNotFoundError
            For ``.safetensors`` without the package of that name.
        """
        names = ("weights", "visible_bias", "hidden_bias")
        files.write_model(path, type(self).__name__, dict(zip(names, self._parameters, strict=True)))

    def __repr__(self) -> str:
        return f"SpinRBM(n_visible={self.n_visible}, n_hidden={self.n_hidden}, dtype={self.dtype})"
