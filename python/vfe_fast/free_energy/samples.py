"""Independent samples from the exact law of a small model."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..arguments import count, inverse_temperature
from ..arrays import Array
from ..models import BernoulliRBM, GaussianRBM, Ising, Model, SpinRBM
from ..random import generator, seed
from .enumeration import Enumeration
from .triangle import Triangle

__all__ = ["exact_samples"]

_MAX_UNITS = 26  # of the smaller layer
_MAX_SPINS = 36


def exact_samples(model: Model, n_samples: int, *, beta: float = 1.0, rng: Any = None) -> Any:
    """Draw independent samples from p ∝ exp(-beta E), by the weights of all states.

    Parameters
    ----------
    model : BernoulliRBM, SpinRBM, GaussianRBM or Ising
        An RBM whose smaller layer has at most 26 units, one with real visible units and at most 36 hidden
        ones, or an Ising model of at most 36 spins.
    n_samples : int
        How many.
    beta : float
        Inverse temperature, 0 or >= 2^-100; > 0 for a GaussianRBM.
    rng : int, numpy.random.Generator, numpy.random.SeedSequence or None
        The seed; the same seed gives the same samples.

    Returns
    -------
    v, h : ndarray, (n_samples, n_visible) and (n_samples, n_hidden)
        Of an RBM: uint8, int8 where units are ±1, float64 where they are real.
    s : ndarray of int8, (n_samples, n_spins)
        Of an Ising model.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or the model is too large.

    Notes
    -----
    RBM: a range of states by its exact sum, a state in it by its weight, then the other layer from its
    conditional law. Ising: the first third of the spins by its marginal, then the rest given it.
    """
    if not isinstance(model, Model):
        raise TypeError(f"model: expected an RBM or an Ising, got {type(model).__name__}")
    n_samples = count(n_samples, "n_samples", 0)
    beta = inverse_temperature(beta)
    if isinstance(model, GaussianRBM) and beta == 0:
        raise ValueError("beta: expected beta > 0 for a GaussianRBM, whose Z is infinite at 0")
    draw = generator(seed(rng), "exact samples")
    if isinstance(model, Ising):
        return _of_ising(model, n_samples, beta, draw)
    if isinstance(model, GaussianRBM):
        spins = _of_ising(model.hidden_ising()[0], n_samples, beta, draw)
        hidden = ((spins + 1) // 2).astype(np.uint8)
        mean = model.visible_bias.astype(np.float64) + hidden @ model.weights.astype(np.float64).T
        noise = draw.standard_normal(mean.shape)
        return mean + model.sigma.astype(np.float64) / np.sqrt(beta) * noise, hidden
    if isinstance(model, SpinRBM):
        v, h = _of_rbm(model.to_bernoulli()[0], n_samples, beta, draw)
        return 2 * v.astype(np.int8) - 1, 2 * h.astype(np.int8) - 1
    return _of_rbm(model, n_samples, beta, draw)


def _choose(weights: Array, n: int, draw: np.random.Generator) -> npt.NDArray[np.int64]:
    """n indices, each with a probability proportional to its weight."""
    cumulative = np.cumsum(weights)
    chosen = np.searchsorted(cumulative, draw.random(n) * cumulative[-1], side="right")
    indices: npt.NDArray[np.int64] = np.minimum(chosen, len(weights) - 1)
    return indices


def _of_rbm(
    model: BernoulliRBM, n_samples: int, beta: float, draw: np.random.Generator
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    n = min(model.n_visible, model.n_hidden)
    if n > _MAX_UNITS:
        raise ValueError(
            f"model: expected a layer of at most {_MAX_UNITS} units, got 2^{n} states; see GibbsChains"
        )
    wide = BernoulliRBM(*(p.astype(np.float64) for p in model.parameters))
    if model.n_visible > model.n_hidden:
        weights, visible_bias, hidden_bias = wide.parameters
        wide = BernoulliRBM(weights.T, hidden_bias, visible_bias)
    enumeration = Enumeration(wide.parameters, beta)
    sums = enumeration.rows(0, enumeration.n_ranges, 0)
    of_range = np.ldexp(sums[:, 1], (sums[:, 0] - sums[:, 0].max()).astype(np.int64))
    size = 2**n // enumeration.n_ranges
    states = np.empty((n_samples, n), np.uint8)
    ranges = _choose(of_range, n_samples, draw)
    for chosen in np.unique(ranges):
        numbers = np.arange(chosen * size, (chosen + 1) * size)
        candidates = ((numbers[:, None] >> np.arange(n)) & 1).astype(np.uint8)
        exponent = -beta * wide.free_energy(candidates, beta=beta)
        (here,) = np.nonzero(ranges == chosen)
        states[here] = candidates[_choose(np.exp(exponent - exponent.max()), len(here), draw)]
    means = wide.mean_hidden(states, beta=beta)
    others = (draw.random(means.shape) < means).astype(np.uint8)
    return (states, others) if model.n_visible <= model.n_hidden else (others, states)


def _of_ising(model: Ising, n_samples: int, beta: float, draw: np.random.Generator) -> npt.NDArray[np.int8]:
    if model.n_spins > _MAX_SPINS:
        raise ValueError(f"model: expected at most {_MAX_SPINS} spins, got 2^{model.n_spins} states")
    t = Triangle(model.couplings, model.fields)
    every = slice(None)
    bc = -beta * (t.energy(1, 2, every) + t.own[2])
    ab, ac = -beta * t.energy(0, 1, every), beta * t.fields_on(0, 2, every) @ t.spins[2].T

    def weights_given(a: int) -> tuple[float, Array]:
        exponent = bc + ac[a] + ab[a][:, None]
        top = float(exponent.max())
        return top, np.exp(exponent - top)

    marginal = np.array([top + np.log(w.sum()) for top, w in map(weights_given, range(len(ab)))])
    first = _choose(np.exp(marginal - marginal.max()), n_samples, draw)
    spins = np.empty((n_samples, model.n_spins), np.int8)
    for a in np.unique(first):
        (here,) = np.nonzero(first == a)
        b, c = np.divmod(_choose(weights_given(a)[1].ravel(), len(here), draw), bc.shape[1])
        spins[here] = t.states(np.full(len(here), a), b, c)
    return spins
