"""The restricted Boltzmann machine with real visible and 0/1 hidden units."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _core
from ..arguments import real
from ..arrays import Array, borrow, borrow_states, real_parameters
from .base import RBM, rbm_parameters
from .ising import Ising

__all__ = ["GaussianRBM"]


class GaussianRBM(RBM):
    r"""A restricted Boltzmann machine with real visible units and hidden units that are 0 or 1.

    .. math:: E(v, h) = \sum_i \frac{(v_i - a_i)^2}{2 \sigma_i^2} - b \cdot h
              - \sum_{ij} \frac{v_i}{\sigma_i^2} W_{ij} h_j

    Given h, v is normal with mean a + Wh and variance σ² (at beta = 1).

    Parameters
    ----------
    weights : array_like, (n_visible, n_hidden)
        W. float32 or float64; the others must have the same dtype.
    visible_bias : array_like, (n_visible,)
        a.
    hidden_bias : array_like, (n_hidden,)
        b.
    sigma : array_like, (n_visible,), optional
        σ > 0; 1 if not given.

    Raises
    ------
    TypeError, ValueError
        As `BernoulliRBM` does, and if some σ is not positive.

    Notes
    -----
    This form of the energy: K. Cho, A. Ilin, T. Raiko, ICANN 2011, doi:10.1007/978-3-642-21735-7_2.
    """

    names = (*RBM.names, "sigma")

    def __init__(self, weights: Any, visible_bias: Any, hidden_bias: Any, sigma: Any = None) -> None:
        weights, visible_bias, hidden_bias = rbm_parameters(weights, visible_bias, hidden_bias)
        sigma = np.ones_like(visible_bias) if sigma is None else real_parameters(sigma, "sigma")
        if sigma.shape != visible_bias.shape:
            raise ValueError(f"sigma: expected (n_visible,) = {visible_bias.shape}, got {sigma.shape}")
        if sigma.dtype != weights.dtype:
            raise TypeError(f"sigma: expected {weights.dtype} like weights, got {sigma.dtype}")
        bad = sigma[~((sigma > 0) & (sigma < np.inf))]
        if bad.size:
            raise ValueError(f"sigma: expected finite numbers > 0, got {bad[0]}")
        sigma.setflags(write=False)
        self._parameters = weights, visible_bias, hidden_bias, sigma

    @property
    def sigma(self) -> Array:
        """σ, (n_visible,), read-only."""
        return self._parameters[3]

    def energy(self, v: Any, h: Any) -> Any:
        """E(v, h) of joint states.

        Parameters
        ----------
        v : array_like, (n_samples, n_visible)
            Real numbers, float32 or float64.
        h : array_like, (n_samples, n_hidden)
            States of 0s and 1s.

        Returns
        -------
        array, (n_samples,)
            Of the model's dtype, computed in float64; the caller's kind of array.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as described.
        """
        visible, give_back = self._visible(v)
        packed, _ = borrow_states(h, self.n_hidden, "h")
        if len(packed) != len(visible):
            raise ValueError(f"h: expected n_samples = {len(visible)} like v, got {len(packed)}")
        hidden = _core.unpack_states(packed, self.n_hidden).astype(np.float64)
        _, visible_bias, hidden_bias, sigma = self._float64()
        own = 0.5 * (((visible - visible_bias) / sigma) ** 2).sum(axis=1)
        coupling = np.einsum("sj,sj->s", self._pull(visible), hidden)
        return give_back((own - hidden @ hidden_bias - coupling).astype(self.dtype))

    def free_energy(self, v: Any, *, beta: float = 1.0) -> Any:
        r"""Clamped free energy Σ_i (v_i - a_i)² / 2σ_i² - Σ_j softplus(βx_j) / β, x = b + W'(v/σ²).

        Parameters
        ----------
        v : array_like, (n_samples, n_visible)
            Real numbers, float32 or float64.
        beta : float
            Inverse temperature, > 0.

        Returns
        -------
        array, (n_samples,)
            Of the model's dtype, computed in float64; the caller's kind of array.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as described.
        """
        visible, give_back = self._visible(v)
        beta = real(beta, "beta", 0.0)
        if beta == 0:
            raise ValueError("beta: expected beta > 0 for a free energy, got 0")
        _, visible_bias, hidden_bias, sigma = self._float64()
        own = 0.5 * (((visible - visible_bias) / sigma) ** 2).sum(axis=1)
        softplus = np.logaddexp(0.0, beta * (hidden_bias + self._pull(visible))).sum(axis=1)
        return give_back((own - softplus / beta).astype(self.dtype))

    def mean_hidden(self, v: Any, *, beta: float = 1.0) -> Any:
        """p(h_j = 1 | v) = sigmoid(beta (b_j + Σ_i v_i W_ij / σ_i²)).

        Parameters
        ----------
        v : array_like, (n_samples, n_visible)
            Real numbers, float32 or float64.
        beta : float
            Inverse temperature, >= 0.

        Returns
        -------
        array, (n_samples, n_hidden)
            Of the model's dtype, computed in float64; the caller's kind of array.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as described.
        """
        visible, give_back = self._visible(v)
        field = real(beta, "beta", 0.0) * (self._float64()[2] + self._pull(visible))
        return give_back(_core.sigmoid(field).astype(self.dtype))

    def mean_visible(self, h: Any) -> Any:
        """a + Wh, the mean of v given h.

        Parameters
        ----------
        h : array_like, (n_samples, n_hidden)
            States of 0s and 1s.

        Returns
        -------
        array, (n_samples, n_visible)
            Of the model's dtype, computed in float64; the caller's kind of array.

        Raises
        ------
        TypeError, ValueError
            If `h` is not as described.
        """
        packed, give_back = borrow_states(h, self.n_hidden, "h")
        weights, visible_bias, _, _ = self._float64()
        hidden = _core.unpack_states(packed, self.n_hidden).astype(np.float64)
        return give_back((visible_bias + hidden @ weights.T).astype(self.dtype))

    def hidden_ising(self) -> tuple[Ising, float]:
        r"""The law of the hidden units, the visible ones integrated out, as spins s = 2h - 1.

        Returns
        -------
        ising : Ising
            Of dtype float64, for any beta.
        constant : float
            Marginal energy :math:`-b' \cdot h - \tfrac12 h^T K h` minus that of `ising`, with
            K = W' diag(1/σ²) W and b' = b + W'(a/σ²).
        """
        weights, visible_bias, hidden_bias, sigma = self._float64()
        scaled = weights / sigma[:, None]
        between = scaled.T @ scaled
        between = 0.5 * (between + between.T)
        own = hidden_bias + weights.T @ (visible_bias / sigma**2) + 0.5 * np.diagonal(between)
        between = between - np.diag(np.diagonal(between))
        fields = 0.5 * own + 0.25 * between.sum(axis=1)
        return Ising(0.25 * between, fields), float(-0.5 * own.sum() - 0.125 * between.sum())

    def _float64(self) -> tuple[Array, ...]:
        return tuple(p.astype(np.float64) for p in self._parameters)

    def _pull(self, visible: Array) -> Array:
        """Σ_i v_i W_ij / σ_i²."""
        weights, _, _, sigma = self._float64()
        fields: Array = (visible / sigma**2) @ weights
        return fields

    def _visible(self, v: Any) -> tuple[Array, Any]:
        array, give_back = borrow(v, "v")
        if array.ndim != 2 or array.shape[1] != self.n_visible:
            raise ValueError(f"v: expected (n_samples, {self.n_visible}), got {array.shape}")
        if array.dtype not in (np.float32, np.float64):
            raise TypeError(f"v: expected dtype float32 or float64, got {array.dtype}")
        if not np.isfinite(array).all():
            raise ValueError("v: expected finite numbers, got others")
        return array.astype(np.float64), give_back
