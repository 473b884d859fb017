"""What can be done at the end of an epoch."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..arguments import count
from ..arrays import Array, borrow
from ..free_energy.ais import ais
from ..free_energy.exact import exact
from ..models import GaussianRBM, SpinRBM
from ..random import generator, seed
from ..sampling import GibbsChains
from .gradients import Gradient, too_long
from .machines import Trained

__all__ = [
    "AisLogLikelihood",
    "Callback",
    "ChainAutocorrelation",
    "Epoch",
    "ExactLogLikelihood",
    "FreeEnergyGap",
    "PseudoLogLikelihood",
    "StopTraining",
]


_OTHER = 0x5DEECE66D15A4E35  # makes another seed of a run's


class StopTraining(Exception):
    """Raised by a callback to end training after the epoch; not an error."""


@dataclass(frozen=True)
class Epoch:
    """What a callback is given.

    Attributes
    ----------
    number : int
        Epochs done, counted from 1.
    n_epochs : int
        Epochs asked for.
    rbm : BernoulliRBM, SpinRBM or GaussianRBM
        The model as it is now.
    gradient : Gradient
        The method, with its chains if it has any; those of real units are in units of training,
        (v - a) / σ with a and σ of the model at the start of the run.
    num_threads : int or None
        Threads the run may use.
    """

    number: int
    n_epochs: int
    rbm: Trained
    gradient: Gradient
    num_threads: int | None


Callback = Callable[[Epoch], Mapping[str, float] | None]


def _samples(data: Any, name: str) -> Array:
    array, _ = borrow(data, name)
    if array.ndim != 2 or len(array) == 0:
        raise ValueError(f"{name}: expected (n_samples, n_visible) with n_samples >= 1, got {array.shape}")
    return array


def _data_sets(data: Mapping[str, Any]) -> dict[str, Array]:
    if not data:
        raise ValueError("data: expected at least one data set by name, as in test=v")
    return {name: _samples(v, name) for name, v in data.items()}


def _stderr(values: Array) -> float:
    """Of the mean; unknown of one value."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else math.nan


class _EveryFewEpochs(abc.ABC):
    """A callback that is due every few epochs, and after the last."""

    def __init__(self, every: int) -> None:
        self.every = count(every, "every")

    def __call__(self, epoch: Epoch) -> Mapping[str, float] | None:
        """Evaluate, if it is time to."""
        due = epoch.number % self.every == 0 or epoch.number == epoch.n_epochs
        return self._metrics(epoch) if due else None

    @abc.abstractmethod
    def _metrics(self, epoch: Epoch) -> Mapping[str, float]: ...


class ExactLogLikelihood(_EveryFewEpochs):
    """Records the exact mean log-likelihood of data sets, by enumeration.

    Parameters
    ----------
    every : int
        Epochs between evaluations; the last epoch is always evaluated.
    **data : array_like, (n_samples, n_visible)
        Data sets by name; the metric is called ``log_likelihood_<name>``, in nats a sample.

    Examples
    --------
    >>> callback = ExactLogLikelihood(every=5, test=[[0, 1], [1, 1]])
    """

    def __init__(self, *, every: int = 1, **data: Any) -> None:
        super().__init__(every)
        self.data = _data_sets(data)

    def _metrics(self, epoch: Epoch) -> Mapping[str, float]:
        try:
            log_z = exact(epoch.rbm, num_threads=epoch.num_threads).log_z
        except ValueError as error:
            raise ValueError(
                f"callbacks: ExactLogLikelihood enumerates all states: {too_long(error)}; "
                "AisLogLikelihood samples"
            ) from error
        return _log_likelihoods(epoch, self.data, log_z)


class AisLogLikelihood(_EveryFewEpochs):
    """Records the mean log-likelihood of data sets, with ln Z by annealed importance sampling.

    The metrics are ``log_likelihood_<name>``, in nats a sample, and ``log_z_stderr``, the standard error of
    ln Z and so of each of them, for binary models of any size. ln Z is too low more often than too high,
    which flatters the model; a warning says when its weights are not to be believed.

    Parameters
    ----------
    n_temperatures, n_chains : int
        Of `free_energy.ais`, which takes twenty times as many steps where nothing is said.
    every : int
        Epochs between evaluations; the last epoch is always evaluated.
    rng : int, numpy.random.Generator, numpy.random.SeedSequence or None
        Seed of the chains, which are others in each epoch.
    **data : array_like, (n_samples, n_visible)
        Data sets by name.

    Examples
    --------
    >>> callback = AisLogLikelihood(every=5, test=[[0, 1], [1, 1]])
    """

    def __init__(
        self, *, n_temperatures: int = 1000, n_chains: int = 100, every: int = 1, rng: Any = 0, **data: Any
    ) -> None:
        super().__init__(every)
        self.n_temperatures = count(n_temperatures, "n_temperatures", 2)
        self.n_chains = count(n_chains, "n_chains", 2)
        self.key, self.data = seed(rng), _data_sets(data)

    def _metrics(self, epoch: Epoch) -> Mapping[str, float]:
        if isinstance(epoch.rbm, GaussianRBM):
            raise TypeError("callbacks: AisLogLikelihood expects binary units, got a GaussianRBM")
        key = seed(generator(self.key, "annealing", epoch.number))
        found = ais(epoch.rbm, self.n_temperatures, self.n_chains, rng=key, num_threads=epoch.num_threads)
        return {**_log_likelihoods(epoch, self.data, found.log_z), "log_z_stderr": found.stderr}


def _log_likelihoods(epoch: Epoch, data: Mapping[str, Any], log_z: float) -> dict[str, float]:
    """The means over data sets."""
    return {
        f"log_likelihood_{name}": float(
            np.mean(epoch.rbm.log_likelihood(v, log_z, num_threads=epoch.num_threads), dtype=np.float64)
        )
        for name, v in data.items()
    }


class FreeEnergyGap(_EveryFewEpochs):
    """Records by how much the clamped free energy of validation data exceeds that of training data.

    The metrics are ``free_energy_gap``, in nats, and its standard error over samples,
    ``free_energy_gap_stderr``.

    ln Z drops out of the difference, so a gap that grows shows overfitting for models of any size (G. Hinton,
    "A practical guide to training RBMs", 2010, section 6).

    Parameters
    ----------
    train, validation : array_like, (n_samples, n_visible)
        States as the model is trained on; of the training data as many as of the validation data are enough.
    every : int
        Epochs between evaluations; the last epoch is always evaluated.
    """

    def __init__(self, train: Any, validation: Any, *, every: int = 1) -> None:
        super().__init__(every)
        self.train, self.validation = _samples(train, "train"), _samples(validation, "validation")

    def _metrics(self, epoch: Epoch) -> Mapping[str, float]:
        parts = [
            np.asarray(epoch.rbm.free_energy(v, num_threads=epoch.num_threads), np.float64)
            for v in (self.validation, self.train)
        ]
        stderr = math.hypot(*map(_stderr, parts))
        return {
            "free_energy_gap": float(parts[0].mean() - parts[1].mean()),
            "free_energy_gap_stderr": stderr,
        }


class PseudoLogLikelihood(_EveryFewEpochs):
    """Records the mean pseudo-log-likelihood Σ_i ln p(v_i | all other units) of data sets.

    The metrics are ``pseudo_log_likelihood_<name>``, in nats a sample, and its standard error over samples
    and picks, ``pseudo_log_likelihood_<name>_stderr``: one unit is picked at random for each sample, and
    its term counts n_visible times. Two free energies a sample, for models of any size. It is no
    log-likelihood, and may rise while that falls.

    Parameters
    ----------
    every : int
        Epochs between evaluations; the last epoch is always evaluated.
    rng : int, numpy.random.Generator, numpy.random.SeedSequence or None
        Seed of the picks, which are others in each epoch.
    **data : array_like, (n_samples, n_visible)
        Data sets by name.
    """

    def __init__(self, *, every: int = 1, rng: Any = 0, **data: Any) -> None:
        super().__init__(every)
        self.key = seed(rng)
        self.data = _data_sets(data)

    def _metrics(self, epoch: Epoch) -> Mapping[str, float]:
        if isinstance(epoch.rbm, GaussianRBM):
            raise TypeError("callbacks: PseudoLogLikelihood expects binary units, got a GaussianRBM")
        found = {}
        for name, v in self.data.items():
            picks = generator(self.key, "units picked", epoch.number).integers(0, v.shape[1], len(v))
            flipped = v.copy()
            picked = np.arange(len(v)), picks
            flipped[picked] = -v[picked] if isinstance(epoch.rbm, SpinRBM) else np.logical_not(v[picked])
            clamped = [
                np.asarray(epoch.rbm.free_energy(x, num_threads=epoch.num_threads), np.float64)
                for x in (v, flipped)
            ]
            terms = -v.shape[1] * np.logaddexp(0.0, clamped[0] - clamped[1])
            found[f"pseudo_log_likelihood_{name}"] = float(terms.mean())
            found[f"pseudo_log_likelihood_{name}_stderr"] = _stderr(terms)
        return found


class ChainAutocorrelation(_EveryFewEpochs):
    r"""Records how much persistent chains remember after some Gibbs steps of the model as it is.

    .. math:: C = \frac{\sum_i \mathrm{cov}(v_i(0), v_i(n))}{\sum_i \mathrm{var}(v_i)}

    over chains, as ``chain_autocorrelation``: 0 for independent states, 1 for chains that do not move, when
    PCD's gradient means little. Nothing is recorded of a method without chains, or with chains at several
    temperatures.

    Parameters
    ----------
    n_steps : int
        Steps between the two.
    every : int
        Epochs between evaluations; the last epoch is always evaluated.
    """

    def __init__(self, n_steps: int = 1, *, every: int = 1) -> None:
        super().__init__(every)
        self.n_steps = count(n_steps, "n_steps")

    def _metrics(self, epoch: Epoch) -> Mapping[str, float]:
        trained = getattr(epoch.gradient, "chains", None)
        if trained is None or trained.n_chains < 2:
            return {}
        # Chains of their own: those that train are left alone.
        rbm = getattr(epoch.gradient, "rbm", epoch.rbm)  # which has the chains' units
        chains = GibbsChains(rbm, trained.n_chains, rng=0, num_threads=epoch.num_threads)
        chains.state = replace(trained.state, seed=trained.state.seed ^ _OTHER)
        before = chains.visible.astype(np.float64)
        chains.step(self.n_steps)
        after = chains.visible.astype(np.float64)
        before -= before.mean(axis=0)
        after -= after.mean(axis=0)
        spread = np.sqrt((before**2).sum() * (after**2).sum())
        return {"chain_autocorrelation": float((before * after).sum() / spread) if spread > 0 else 1.0}
