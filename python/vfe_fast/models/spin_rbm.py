"""The restricted Boltzmann machine with units ±1 in both layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import borrow
from .base import RBM, rbm_parameters
from .bernoulli_rbm import BernoulliRBM
from .ising import as_spins

__all__ = ["SpinRBM"]


class SpinRBM(RBM):
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
        self._parameters = rbm_parameters(weights, visible_bias, hidden_bias)

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
