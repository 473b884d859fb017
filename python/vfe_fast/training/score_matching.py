r"""Score matching: gradients of objectives in which ln Z does not occur.

The score ψ = ∂ ln p / ∂v of real units, and of binary ones the ratio of p(v) to p of v with one unit flipped,
are functions of the clamped free energy alone:

.. math:: \psi_i = -\partial F_c / \partial v_i = \frac{-(v_i - a_i) + \sum_j W_{ij} s_j}{\sigma_i^2}, \qquad
          s_j = \sigma(b_j + \textstyle\sum_i v_i W_{ij} / \sigma_i^2)

Four objectives, whose minimum over all distributions is the data's (or of noisy data):

.. math:: J_{score} &= \langle \tfrac12 |\psi|^2 + \textstyle\sum_i \partial \psi_i / \partial v_i \rangle \\
          J_{sliced} &= \langle \tfrac12 |\psi|^2 + u^T (\partial \psi / \partial v)\, u \rangle \\
          J_{denoising} &= \langle \tfrac12 |\psi(\tilde v) - (v - \tilde v) / \tau^2|^2 \rangle \\
          J_{ratio} &= \langle \textstyle\sum_i \sigma(F_c(v) - F_c(v^{(i)}))^2 \rangle

A. Hyvärinen, JMLR 6 (2005) 695, and Comput. Stat. Data Anal. 51 (2007) 2499 (ratios); P. Vincent, Neural
Comput. 23 (2011) 1661 (denoising); Y. Song, S. Garg, J. Shi, S. Ermon, UAI 2019 (slices).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import numpy as np

from .. import _core
from ..arguments import real
from ..arrays import Array, borrow_states, finite_reals
from ..models import BernoulliRBM, GaussianRBM
from ..random import generator
from .averages import Contrast, Machine
from .gradients import SamplerSettings, State

__all__ = [
    "DenoisingScoreMatching",
    "RatioMatching",
    "ScoreMatching",
    "SlicedScoreMatching",
    "ratio_matching_objective",
    "score_matching_objective",
]

_NUMBERS = 1 << 22  # in memory at a time


def score_matching_objective(
    rbm: GaussianRBM, data: Any, *, noisy: Any = None, noise: float | None = None
) -> float:
    r"""J_score of a model and data; with `noisy` data J_denoising.

    Parameters
    ----------
    rbm : GaussianRBM
        The model.
    data : array_like, (n_samples, n_visible)
        Real numbers.
    noisy : array_like, (n_samples, n_visible), optional
        The data with normal noise of standard deviation `noise`.
    noise : float, optional
        τ > 0, the same for all units.

    Returns
    -------
    float
        The mean over the samples, in float64.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.
    """
    if not isinstance(rbm, GaussianRBM):
        raise TypeError(f"rbm: expected a GaussianRBM, got {type(rbm).__name__}")
    if (noisy is None) != (noise is None):
        raise ValueError("noise: expected it with noisy data, and only then")
    wide = GaussianRBM(*(p.astype(np.float64) for p in rbm.parameters))
    v = finite_reals(data, rbm.n_visible, rbm.dtype, "data")[0].astype(np.float64)
    _check_some(v)
    if noisy is None or noise is None:
        scores = _Scores(wide, v)
        return float(scores.squares() + scores.divergence())
    moved = finite_reals(noisy, rbm.n_visible, rbm.dtype, "noisy")[0].astype(np.float64)
    if moved.shape != v.shape:
        raise ValueError(f"noisy: expected the shape of data, {v.shape}, got {moved.shape}")
    tau = real(noise, "noise", np.finfo(np.float64).tiny)
    return float(_Scores(wide, moved, (v - moved) / tau**2).squares())


def ratio_matching_objective(rbm: BernoulliRBM, data: Any) -> float:
    r"""J_ratio of a model and data.

    Parameters
    ----------
    rbm : BernoulliRBM
        The model.
    data : array_like, (n_samples, n_visible)
        0s and 1s.

    Returns
    -------
    float
        The mean over the samples, in float64.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.
    """
    if not isinstance(rbm, BernoulliRBM):
        raise TypeError(f"rbm: expected a BernoulliRBM, got {type(rbm).__name__}")
    words = borrow_states(data, rbm.n_visible, "data")[0]
    _check_some(words)
    return _Ratios(rbm, _core.unpack_states(words, rbm.n_visible)).objective


def _check_some(samples: Array) -> None:
    if len(samples) == 0:
        raise ValueError("data: expected n_samples >= 1, got 0")


class _Scores:
    """Scores of samples under a model, less targets; everything in float64.

    `unit` is 1 / σ², and `pull` W / σ²: what h adds to the score, and v / σ² to the fields of h.
    """

    def __init__(self, rbm: GaussianRBM, v: Array, target: Array | float = 0.0) -> None:
        weights, self.visible_bias, hidden_bias, sigma = (p.astype(np.float64) for p in rbm.parameters)
        self.v = v
        self.unit = 1 / sigma**2
        self.pull = weights * self.unit[:, None]
        self.mean = _core.sigmoid(hidden_bias + v @ self.pull)
        self.residual = self.mean @ self.pull.T - (v - self.visible_bias) * self.unit - target

    @property
    def slope(self) -> Array:
        """ds/dx."""
        found: Array = self.mean * (1 - self.mean)
        return found

    def squares(self) -> float:
        """⟨½ |residual|²⟩."""
        return 0.5 * float(np.square(self.residual).sum(axis=1).mean())

    def divergence(self) -> float:
        """⟨Σ_i ∂ψ_i / ∂v_i⟩."""
        return float(self.slope.mean(axis=0) @ np.square(self.pull).sum(axis=0) - self.unit.sum())

    def descent(self, probes: Array | None, *, with_divergence: bool) -> tuple[Array, ...]:
        """Minus the gradient in W, a, b and ln σ², without their factors 1 / σ_i² in W and a.

        The divergence is that along `probes` (n_samples, n_visible) if they are given.
        """
        n = len(self.v)
        slope = self.slope
        of_field = slope * (self.residual @ self.pull)
        of_pull = self.residual.T @ self.mean / n
        of_log_variance = np.zeros(self.v.shape[1])
        if with_divergence:
            curvature = slope * (1 - 2 * self.mean)
            if probes is None:
                of_field += curvature * np.square(self.pull).sum(axis=0)
                of_pull += 2 * self.pull * slope.mean(axis=0)
                of_log_variance -= self.unit
            else:
                along = probes @ self.pull
                of_field += curvature * along**2
                of_pull += 2 * probes.T @ (along * slope) / n
                of_log_variance -= self.unit * np.square(probes).mean(axis=0)
        of_pull += self.v.T @ of_field / n
        of_log_variance -= (self.residual * (self.v - self.visible_bias)).mean(axis=0) * self.unit
        of_log_variance += (self.pull * of_pull).sum(axis=1)
        return -of_pull, -self.residual.mean(axis=0), -of_field.mean(axis=0), of_log_variance


class ScoreMatching:
    """Hyvärinen's objective of real visible units, in closed form: one pass over the minibatch, no chain.

    The objective is that of data in units of training ((v - a) / σ at the start of a run).

    Parameters
    ----------
    rbm : GaussianRBM
        The model that is trained.
    settings : SamplerSettings
        Its seed.

    Raises
    ------
    TypeError
        If the model has other units.
    """

    state: State = MappingProxyType({})

    def __init__(self, rbm: Machine, settings: SamplerSettings) -> None:
        if not isinstance(rbm, GaussianRBM):
            raise TypeError("method: expected a model of real units for it, got one of binary units")
        self.rbm = rbm
        self.settings = settings

    def contrast(self, batch: Array, update: int) -> Contrast:
        """Minus the gradient, in the form of averages.

        Parameters
        ----------
        batch : ndarray, (n_samples, n_visible)
            The minibatch.
        update : int
            Updates before this one: the number of its noise, where there is any.

        Returns
        -------
        Contrast
        """
        scores, descent = self._descend(batch.astype(np.float64), update)
        return self._as_averages(batch, scores, descent)

    def _descend(self, v: Array, update: int) -> tuple[_Scores, tuple[Array, ...]]:
        scores = _Scores(self.rbm, v)
        return scores, scores.descent(None, with_divergence=True)

    def _draw(self, update: int) -> np.random.Generator:
        return generator(self.settings.seed, "score matching", update)

    def _as_averages(self, batch: Array, scores: _Scores, descent: tuple[Array, ...]) -> Contrast:
        """`direction` turns these back into the gradient: of ln σ² by ⟨v²⟩."""
        pairs, visible, hidden, of_log_variance = descent
        weights = scores.pull / scores.unit[:, None]
        pulled = (weights * pairs).sum(axis=1)
        squares = 2 * (of_log_variance / scores.unit + scores.visible_bias * visible + pulled)
        means = batch.mean(axis=0, dtype=np.float64), scores.mean.mean(axis=0)
        found = (*means, means[0] - visible, means[1] - hidden, pairs, squares)
        data_visible, data_hidden, *rest = (part.astype(self.rbm.dtype) for part in found)
        return Contrast(data_visible, data_hidden, *rest)


class SlicedScoreMatching(ScoreMatching):
    """The same with the divergence along one random direction of signs a sample.

    Its average is that of `ScoreMatching`; it costs as much here, where the divergence has a closed form.

    Parameters
    ----------
    rbm, settings
        As of `ScoreMatching`.
    """

    def _descend(self, v: Array, update: int) -> tuple[_Scores, tuple[Array, ...]]:
        scores = _Scores(self.rbm, v)
        signs = self._draw(update).integers(0, 2, v.shape) * 2.0 - 1.0
        return scores, scores.descent(signs, with_divergence=True)


class DenoisingScoreMatching(ScoreMatching):
    """The score of noisy data is matched to where the noise came from; no second derivatives.

    Parameters
    ----------
    rbm, settings
        As of `ScoreMatching`.
    noise : float
        Standard deviation of the noise, > 0, in units of training.
    """

    def __init__(self, rbm: Machine, settings: SamplerSettings, *, noise: float = 0.3) -> None:
        super().__init__(rbm, settings)
        self.noise = real(noise, "noise", np.finfo(np.float64).tiny)

    def _descend(self, v: Array, update: int) -> tuple[_Scores, tuple[Array, ...]]:
        epsilon = self._draw(update).standard_normal(v.shape)
        scores = _Scores(self.rbm, v + self.noise * epsilon, -epsilon / self.noise)
        return scores, scores.descent(None, with_divergence=False)


class _Ratios:
    """All single flips of samples: sums over hidden units are found anew for each, the product only once."""

    def __init__(self, rbm: BernoulliRBM, states: Array) -> None:
        weights, visible_bias, hidden_bias = (p.astype(np.float64) for p in rbm.parameters)
        n, n_visible = states.shape
        self.visible, self.hidden = np.zeros(n_visible), np.zeros(len(hidden_bias))
        self.pairs = np.zeros_like(weights)
        self.objective = 0.0
        rows = max(1, _NUMBERS // weights.size)
        for first in range(0, n, rows):
            v = states[first : first + rows].astype(np.float64)
            flip = 1 - 2 * v
            x = hidden_bias + v @ weights
            moved = x[:, None, :] + flip[:, :, None] * weights  # (rows, n_visible, n_hidden)
            gain = flip * visible_bias + (np.logaddexp(0, moved) - np.logaddexp(0, x)[:, None, :]).sum(axis=2)
            g = _core.sigmoid(gain)
            slope = 2 * g * g * (1 - g)
            on = _core.sigmoid(moved)
            of_field = np.einsum("si,sij->sj", slope, on) - slope.sum(axis=1)[:, None] * _core.sigmoid(x)
            self.objective += float(np.square(g).sum()) / n
            self.visible += (slope * flip).sum(axis=0) / n
            self.hidden += of_field.sum(axis=0) / n
            self.pairs += (v.T @ of_field + np.einsum("si,sij->ij", slope * flip, on)) / n


class RatioMatching:
    """Hyvärinen's ratio matching of binary units: no chain, n_visible times the cost of a mean of h.

    Parameters
    ----------
    rbm : BernoulliRBM
        The model that is trained.
    settings : SamplerSettings
        Not looked at.

    Raises
    ------
    TypeError
        If the model has other units.
    """

    state: State = MappingProxyType({})

    def __init__(self, rbm: Machine, settings: SamplerSettings) -> None:
        if not isinstance(rbm, BernoulliRBM):
            raise TypeError(f"method: expected a model of binary units for it, got {type(rbm).__name__}")
        self.rbm = rbm

    def contrast(self, batch: Array, update: int) -> Contrast:
        """Minus the gradient, in the form of averages.

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
        rbm = self.rbm
        states = _core.unpack_states(batch, rbm.n_visible)
        ratios = _Ratios(rbm, states)
        means = states.mean(axis=0, dtype=np.float64), rbm.mean_hidden(states).mean(axis=0, dtype=np.float64)
        found = (*means, means[0] + ratios.visible, means[1] + ratios.hidden, -ratios.pairs)
        data_visible, data_hidden, *rest = (part.astype(rbm.dtype) for part in found)
        return Contrast(data_visible, data_hidden, *rest)
