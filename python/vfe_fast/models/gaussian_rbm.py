"""The restricted Boltzmann machine with real visible and 0/1 hidden units."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .. import _core
from ..arguments import count, float_dtype, memory_for, on_cuda, real, threads
from ..arrays import Array, borrow_states, finite_reals
from ..random import generator, seed
from .base import RBM, parameters_like, rbm_parameters, refuse
from .ising import Ising

__all__ = ["GaussianRBM"]

_NO_SPREAD = 16  # roundings of the mean: a standard deviation up to here says nothing


class GaussianRBM(RBM):
    r"""A restricted Boltzmann machine with real visible units and hidden units that are 0 or 1.

    .. math:: E(v, h) = \sum_i \frac{(v_i - a_i)^2}{2 \sigma_i^2} - b \cdot h
              - \sum_{ij} \frac{v_i}{\sigma_i^2} W_{ij} h_j

    Given h, v is normal with mean a + Wh and variance σ² (at beta = 1).

    Parameters
    ----------
    weights : array_like, (n_visible, n_hidden)
        W. float32 or float64; the others must have the same dtype, which Python numbers take.
    visible_bias : array_like, (n_visible,)
        a.
    hidden_bias : array_like, (n_hidden,)
        b.
    sigma : array_like, (n_visible,), optional
        σ > 0, where 1/σ² is a number of that dtype; 1 if not given.

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
        self._take(_gaussian_parameters(weights, visible_bias, hidden_bias, sigma))

    def _take(self, parameters: tuple[Array, Array, Array, Array]) -> None:
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
        dtype: npt.DTypeLike | None = None,
    ) -> GaussianRBM:
        """Start a model for training: the data's means and standard deviations, small random weights.

        Parameters
        ----------
        data : array_like, (n_samples, n_visible)
            Finite real numbers. Units that hardly vary count as much as others: leave them out, or
            raise their σ with `set_parameters`.
        n_hidden : int
            Hidden units; with biases at which they are on half of the time, at the mean of the data.
        rng : int, numpy.random.Generator, numpy.random.SeedSequence or None
            Seed of the weights.
        scale : float
            Standard deviation of the weights, in units of σ.
        dtype : dtype, optional
            float32 or float64; that of the data if not given.

        Returns
        -------
        GaussianRBM
            With σ_i the standard deviation of unit i, or 1 where the data do not vary by more than rounding.

        Raises
        ------
        TypeError, ValueError
            If an argument is not of the kind described.
        """
        n_hidden = count(n_hidden, "n_hidden", below=1 << 40)
        numbers, _ = finite_reals(data, None, None, "data")
        if numbers.shape[0] < 1 or numbers.shape[1] < 1:
            raise ValueError(f"data: expected (n_samples >= 1, n_visible), got {numbers.shape}")
        kind = numbers.dtype if dtype is None else float_dtype(dtype)
        scale = real(scale, "scale", 0.0, 1e30)
        mean, sigma = numbers.mean(axis=0, dtype=np.float64), numbers.std(axis=0, dtype=np.float64)
        sigma[sigma <= _NO_SPREAD * np.finfo(numbers.dtype).eps * np.abs(mean)] = 1.0
        draw = generator(seed(rng), "weights")
        with memory_for("n_hidden", n_hidden):
            weights = sigma[:, None] * (scale * draw.standard_normal((len(mean), n_hidden)))
        weights, mean, sigma = weights.astype(kind), mean.astype(kind), sigma.astype(kind)
        pull = _core.product((mean / sigma.astype(np.float64) ** 2)[None], weights.astype(np.float64))
        return cls(weights, mean, -pull[0].astype(kind), sigma)

    @property
    def parameters(self) -> tuple[Array, Array, Array, Array]:
        """Weights, visible bias, hidden bias and σ, as one consistent set."""
        return self._current[0]

    @property
    def prepared(self) -> tuple[tuple[Array, Array, Array, Array], _core.Prepared]:
        """The parameters, and what kernels keep of them between calls."""
        return self._current

    def set_parameters(self, weights: Any, visible_bias: Any, hidden_bias: Any, sigma: Any = None) -> None:
        """Replace all parameters at once.

        Parameters
        ----------
        weights : array_like, (n_visible, n_hidden)
            W.
        visible_bias : array_like, (n_visible,)
            a.
        hidden_bias : array_like, (n_hidden,)
            b.
        sigma : array_like, (n_visible,), optional
            σ; as it is if not given.

        Raises
        ------
        TypeError, ValueError
            As the constructor does, and if the shapes are not those of the model. It is then unchanged.
        """
        sigma = self.sigma if sigma is None else sigma
        self._replace(_gaussian_parameters(weights, visible_bias, hidden_bias, sigma, self.weights))

    @property
    def sigma(self) -> Array:
        """σ, (n_visible,), read-only."""
        return self.parameters[3]

    def energy(self, v: Any, h: Any, *, num_threads: int | None = None) -> Any:
        """E(v, h) of joint states.

        Parameters
        ----------
        v : array_like, (n_samples, n_visible)
            Real numbers, float32 or float64.
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
            If an argument is not as described.
        """
        visible, give_back = self._visible(v)
        packed, _ = borrow_states(h, self.n_hidden, "h")
        if len(packed) != len(visible):
            raise ValueError(f"h: expected n_samples = {len(visible)} like v, got {len(packed)}")
        hidden = _core.unpack_states(packed, self.n_hidden).astype(np.float64)
        _, visible_bias, _, sigma = self._float64()
        own = 0.5 * (((visible - visible_bias) / sigma) ** 2).sum(axis=1)
        pull = (self._fields(visible, num_threads) * hidden).sum(axis=1)
        return give_back((own - pull).astype(self.dtype))

    def free_energy(
        self,
        v: Any,
        *,
        beta: float = 1.0,
        num_threads: int | None = None,
        device: Literal["cpu", "cuda"] | None = None,
    ) -> Any:
        r"""Clamped free energy Σ_i (v_i - a_i)² / 2σ_i² - Σ_j softplus(βx_j) / β, x = b + W'(v/σ²).

        Parameters
        ----------
        v : array_like, (n_samples, n_visible)
            Real numbers, float32 or float64.
        beta : float
            Inverse temperature, > 0.
        num_threads : int, optional
            Threads to use; the result does not depend on it.
        device : {"cpu", "cuda"}, optional
            There is no kernel for "cuda".

        Returns
        -------
        array, (n_samples,)
            Of the model's dtype, computed in float64; the caller's kind of array.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as described.
        TargetUnavailableError
            If it is to run elsewhere than on the CPU.
        """
        _check_device(device, v)
        visible, give_back = self._visible(v)
        beta = real(beta, "beta", 0.0)
        if beta == 0:
            raise ValueError("beta: expected beta > 0 for a free energy, got 0")
        _, visible_bias, _, sigma = self._float64()
        own = 0.5 * (((visible - visible_bias) / sigma) ** 2).sum(axis=1)
        softplus = _core.softplus(beta * self._fields(visible, num_threads)).sum(axis=1)
        return give_back((own - softplus / beta).astype(self.dtype))

    def mean_hidden(
        self,
        v: Any,
        *,
        beta: float = 1.0,
        num_threads: int | None = None,
        device: Literal["cpu", "cuda"] | None = None,
    ) -> Any:
        """p(h_j = 1 | v) = sigmoid(beta (b_j + Σ_i v_i W_ij / σ_i²)).

        Parameters
        ----------
        v : array_like, (n_samples, n_visible)
            Real numbers, float32 or float64.
        beta : float
            Inverse temperature, >= 0.
        num_threads : int, optional
            Threads to use; the result does not depend on it.
        device : {"cpu", "cuda"}, optional
            There is no kernel for "cuda".

        Returns
        -------
        array, (n_samples, n_hidden)
            Of the model's dtype, computed in float64; the caller's kind of array.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as described.
        TargetUnavailableError
            If it is to run elsewhere than on the CPU.
        """
        _check_device(device, v)
        visible, give_back = self._visible(v)
        fields = real(beta, "beta", 0.0) * self._fields(visible, num_threads)
        return give_back(_core.sigmoid(fields).astype(self.dtype))

    def mean_visible(
        self,
        h: Any,
        *,
        beta: float = 1.0,
        num_threads: int | None = None,
        device: Literal["cpu", "cuda"] | None = None,
    ) -> Any:
        """a + Wh, the mean of v given h.

        Parameters
        ----------
        h : array_like, (n_samples, n_hidden)
            States of 0s and 1s.
        beta : float
            Inverse temperature, >= 0. The mean does not depend on it.
        num_threads : int, optional
            Threads to use; the result does not depend on it.
        device : {"cpu", "cuda"}, optional
            There is no kernel for "cuda".

        Returns
        -------
        array, (n_samples, n_visible)
            Of the model's dtype, computed in float64; the caller's kind of array.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as described.
        TargetUnavailableError
            If it is to run elsewhere than on the CPU.
        """
        _check_device(device, h)
        packed, give_back = borrow_states(h, self.n_hidden, "h")
        real(beta, "beta", 0.0)
        weights, visible_bias, _, _ = self._float64()
        hidden = _core.unpack_states(packed, self.n_hidden).astype(np.float64)
        found = _core.product(hidden, weights.T, visible_bias, num_threads=threads(num_threads))
        return give_back(found.astype(self.dtype))

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
        return tuple(p.astype(np.float64) for p in self.parameters)

    def _fields(self, visible: Array, num_threads: int | None = None) -> Array:
        """b_j + Σ_i v_i W_ij / σ_i²."""
        weights, _, hidden_bias, sigma = self._float64()
        return _core.product(visible / sigma**2, weights, hidden_bias, num_threads=threads(num_threads))

    def _visible(self, v: Any) -> tuple[Array, Any]:
        array, give_back = finite_reals(v, self.n_visible, None, "v")
        return array.astype(np.float64), give_back


def _gaussian_parameters(
    weights: Any, visible_bias: Any, hidden_bias: Any, sigma: Any, known: Array | None = None
) -> tuple[Array, Array, Array, Array]:
    """Copy them, checked and read-only; σ = 1 if it is None."""
    weights, visible_bias, hidden_bias = rbm_parameters(weights, visible_bias, hidden_bias, known)
    sigma = np.ones_like(visible_bias) if sigma is None else parameters_like(weights, sigma, "sigma")
    if sigma.shape != visible_bias.shape:
        raise ValueError(f"sigma: expected (n_visible,) = {visible_bias.shape}, got {sigma.shape}")
    if sigma.dtype != weights.dtype:
        raise TypeError(f"sigma: expected {weights.dtype} like weights, got {sigma.dtype}")
    with np.errstate(all="ignore"):
        precision = 1 / (sigma * sigma)
    bad = ~((sigma > 0) & (precision > 0) & (precision < np.inf))
    refuse(sigma, bad, "sigma", f"numbers > 0 whose 1 / sigma^2 is in range of {sigma.dtype}")
    sigma.setflags(write=False)
    return weights, visible_bias, hidden_bias, sigma


def _check_device(device: Any, x: Any) -> None:
    if on_cuda(device, x):
        raise _core.TargetUnavailableError("device='cuda': there is no kernel for real units")
