"""How far a gradient is from the exact one, on average."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arguments import count
from ..arrays import Array, finite_reals
from ..models import GaussianRBM
from ..random import seed
from .averages import Statistics
from .gradients import Exact, Method, SamplerSettings
from .machines import Trained, machine_of
from .methods import named

__all__ = ["GradientBias", "gradient_bias"]

_BLOCKS = 20  # of consecutive estimates, whose means tell the error: chains remember


@dataclass(frozen=True, eq=False, repr=False)
class GradientBias:
    """The mean error of a gradient estimate.

    Attributes
    ----------
    bias : Statistics
        ⟨estimate⟩ - exact differences of averages over data and model, in float64: for binary units the
        gradient of the mean log-likelihood, by parameter.
    stderr : Statistics
        Standard error of each number of `bias`.
    gradient : Statistics
        The exact gradient.
    """

    bias: Statistics
    stderr: Statistics
    gradient: Statistics

    @property
    def relative(self) -> float:
        """Norm of the weights' bias over that of their exact gradient; noise counts as bias."""
        return self._relative(self.bias)

    @property
    def noise(self) -> float:
        """What `relative` would be about if there were no bias: the same of the standard errors."""
        return self._relative(self.stderr)

    def _relative(self, part: Statistics) -> float:
        return float(np.linalg.norm(part.visible_hidden) / np.linalg.norm(self.gradient.visible_hidden))

    def __repr__(self) -> str:
        with np.errstate(divide="ignore", invalid="ignore"):  # of a gradient that is zero
            return f"GradientBias(relative={self.relative:.3g}, noise={self.noise:.3g})"


def gradient_bias(
    rbm: Trained,
    data: Any,
    *,
    method: str | Method = "cd",
    n_gibbs_steps: int = 1,
    n_chains: int = 100,
    n_estimates: int = 200,
    rng: Any = None,
    num_threads: int | None = None,
) -> GradientBias:
    """Compare a method's gradient with the exact one, for a model that is not changed.

    Parameters
    ----------
    rbm : BernoulliRBM, SpinRBM or GaussianRBM
        A model small enough to enumerate.
    data : array_like, (n_samples, n_visible)
        States as in `train`, all in one minibatch.
    method : {"cd", "pcd", "fpcd", "pt", "tap", "exact"} or callable
        As in `train`.
    n_gibbs_steps, n_chains : int
        As in `train`.
    n_estimates : int
        Estimates to average, >= 20. Those of chains follow one another; the first tenth is left out.
    rng : int, numpy.random.Generator, numpy.random.SeedSequence or None
        Seed of the chains.
    num_threads : int, optional
        Threads of the kernels.

    Returns
    -------
    GradientBias

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or the model is too large to enumerate.

    Notes
    -----
    The bias of CD-k is that of a chain stopped after k steps (M. Carreira-Perpiñán, G. Hinton, "On
    contrastive divergence learning", AISTATS 2005). Errors are those of the means of 20 blocks of estimates.
    """
    name, maker = named(method)
    wide = machine_of(type(rbm)(*(p.astype(np.float64) for p in rbm.parameters)))
    batch = wide.states(_as_float64(rbm, data))
    n_estimates = count(n_estimates, "n_estimates", _BLOCKS)
    settings = SamplerSettings(
        count(n_gibbs_steps, "n_gibbs_steps"), count(n_chains, "n_chains"), seed(rng), num_threads
    )
    exact = wide.gradient(Exact, settings).contrast(batch, 0).gradient
    estimate = wide.gradient(maker, settings)
    first = 0 if name in ("cd", "tap", "exact") else n_estimates // 10
    errors = [estimate.contrast(batch, k).gradient - exact for k in range(first + n_estimates)][first:]

    def over_estimates(of: Callable[[Array], Array]) -> Statistics:
        names = ["visible", "hidden", "visible_hidden"] + (["squares"] if exact.squares is not None else [])
        return Statistics(*(of(np.stack([getattr(error, name) for error in errors])) for name in names))

    return GradientBias(over_estimates(_mean), over_estimates(_stderr), exact)


def _as_float64(rbm: Trained, data: Any) -> Any:
    """Real data in the dtype that averages are taken in."""
    if not isinstance(rbm, GaussianRBM):
        return data
    return finite_reals(data, rbm.n_visible, None, "data")[0].astype(np.float64)


def _mean(values: Array) -> Array:
    mean: Array = values.mean(axis=0)
    return mean


def _stderr(values: Array) -> Array:
    blocks = np.stack([block.mean(axis=0) for block in np.array_split(values, _BLOCKS)])
    stderr: Array = blocks.std(axis=0, ddof=1) / np.sqrt(_BLOCKS)
    return stderr
