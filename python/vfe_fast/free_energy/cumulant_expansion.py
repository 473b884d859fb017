r"""Perturbation theory: ln Z as a series in the cumulants of what a simple trial distribution leaves out.

.. math:: H = H_q + \lambda V, \qquad
          \ln Z = \ln Z_q + \sum_r \frac{(-\lambda \beta)^r}{r!} \langle\langle V^r \rangle\rangle_q

(C. Martin, "Free Energies and Variational Inference", 2017, "Perturbation Theory" and "Cumulant Expansion".)
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ..arguments import count, inverse_temperature, memory_for
from ..arrays import Array, borrow
from ..models import BernoulliRBM, Ising, SpinRBM
from ..random import generator, seed
from ..statistics.cumulants import MOST_ORDERS, cumulants
from ..statistics.series import (
    CumulantSeries,
    SeriesWarning,
    couplings_of,
    known_series,
    log_mean_exp_cumulants,
    warn_if_it_diverges,
)
from ..warned import warn
from .mean_field import mean_field, several_valleys
from .result import FreeEnergy

__all__ = ["cumulant_expansion"]

Expanded: TypeAlias = BernoulliRBM | SpinRBM | Ising

_MOST_ENUMERATED = 20  # units of q, whose states are all looked at unless a sample is asked for
_SAMPLES = 100_000
_ROWS = 1 << 14  # states at a time
_HARDLY = 0.5  # of the terms before, as much as the last ones may be
_ENOUGH = 100.0  # effective samples of the direct estimate, to hold the series against it


def cumulant_expansion(
    model: Expanded,
    order: int = 4,
    *,
    beta: float = 1.0,
    means: Any = None,
    sum_hidden: bool = False,
    n_samples: int | None = None,
    lambda_: Any = None,
    rng: Any = None,
    num_threads: int | None = None,
) -> FreeEnergy:
    r"""Free energy by the cumulant expansion about independent units.

    With q(s) the distribution of independent units of the given means and H_q = -(ln q) / β, so that Z_q = 1,

    .. math:: \ln Z = \ln \langle e^{-\beta V} \rangle_q
              = -\beta \langle V \rangle_q + \tfrac{\beta^2}{2} \langle\langle V^2 \rangle\rangle_q - \ldots,
              \qquad V = E + \tfrac1\beta \ln q

    The first term is minus β times the Gibbs-Bogoliubov-Feynman bound ⟨E⟩_q - S_q/β; those after it correct
    it, and the sums are bounds no more.

    Parameters
    ----------
    model : BernoulliRBM, SpinRBM or Ising
        The model.
    order : int
        Highest order, 1 to 8.
    beta : float
        Inverse temperature, > 0.
    means : array_like, (n_spins,), or pair of them, (n_visible,) and (n_hidden,), or "mean_field", optional
        Means of the units under q, strictly between their two values. Without them, those of the units
        without couplings: H_q is the energy of the biases alone. ``"mean_field"``: those of
        `vfe_fast.free_energy.mean_field`, the best bound among them; better where biases decide, not where
        it must choose between several equal minima.
    sum_hidden : bool
        Sum over the hidden units of an RBM first: E is then the clamped free energy, q a distribution of the
        visible units (and `means` theirs), and the bound is a better one.
    n_samples : int, optional
        Samples of q to estimate the cumulants from. Without it they are exact for up to 20 units (all states
        of q are looked at), and come of 100,000 samples for more.
    lambda_ : array_like, (n_couplings,), optional
        Couplings at which to trace the series, for ``details["trace"]``.
    rng : int, numpy.random.Generator, numpy.random.SeedSequence or None
        See `vfe_fast.random.seed`; of samples.
    num_threads : int, optional
        Threads to use; the result does not depend on it.

    Returns
    -------
    FreeEnergy
        ln Z is the partial sum at the order where the series is best stopped. Of kind ``"upper_bound"`` if
        that is the first, else ``"asymptotic"``. `converged` is False if the series diverges, or if its last
        two terms are larger than half of those before them (the first left out), or if the sum is farther
        from the direct estimate ln⟨e^(-βV)⟩ than the larger of them (and three standard errors), where that
        estimate is known: of all states, or of 100 effective samples; or if ``means="mean_field"`` found
        several solutions, as `tap` has it. `details`:
        ``series`` (a `CumulantSeries`: all terms, partial sums, their errors, Padé, the direct estimate),
        ``cumulants`` of V, ``bound`` (the first order, as a free energy), ``energy`` and ``entropy`` of q,
        whether they are ``exact``, and the ``trace``.

    Warns
    -----
    SeriesWarning
        If `converged` is False.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Examples
    --------
    >>> from vfe_fast import BernoulliRBM
    >>> rbm = BernoulliRBM([[0.2, -0.1], [0.3, 0.1]], [0.1, -0.2], [0.3, 0.2])
    >>> from vfe_fast.free_energy import exact
    >>> F = cumulant_expansion(rbm, order=6)
    >>> bool(abs(F.log_z - exact(rbm).log_z) < 1e-5)
    True
    """
    if not isinstance(model, Expanded):
        raise TypeError(f"model: expected a BernoulliRBM, SpinRBM or Ising, got {type(model).__name__}")
    order = count(order, "order", 1, MOST_ORDERS + 1)
    beta = inverse_temperature(beta)
    if beta == 0:
        raise ValueError("beta: expected beta > 0, got 0")
    if not isinstance(sum_hidden, (bool, np.bool_)):
        raise TypeError(f"sum_hidden: expected True or False, got {type(sum_hidden).__name__}")
    if sum_hidden and not isinstance(model, (BernoulliRBM, SpinRBM)):
        raise ValueError("sum_hidden: expected an RBM to sum the hidden units of, got an Ising")
    couplings = None if lambda_ is None else couplings_of(lambda_)
    system = _System.of(model, beta, sum_hidden=bool(sum_hidden))
    key, several = seed(rng), ""
    if isinstance(means, str):
        means, several = _mean_field(
            model, means, bool(sum_hidden), beta=beta, rng=key, num_threads=num_threads
        )
    trial = _Trial.of(system, means)
    is_exact = n_samples is None and trial.n_units <= _MOST_ENUMERATED
    one = np.array(1.0)
    traced: CumulantSeries | None = None
    if is_exact:
        energies, log_q = _of_all_states(system, trial)
        q = np.exp(log_q)
        x = beta * energies + log_q  # beta V
        values = cumulants(x, order, weights=q, unbiased=False, num_threads=num_threads).values
        series = known_series(values, x, q, one)
        traced = None if couplings is None else known_series(values, x, q, couplings)
        energy, entropy = float(q @ energies), -float(q @ log_q)
    else:
        n = count(_SAMPLES if n_samples is None else n_samples, "n_samples", order + 1)
        with memory_for("n_samples", n):
            energies, log_q = _of_samples(system, trial, n, key)
        x = beta * energies + log_q
        values = cumulants(x, order, num_threads=num_threads).values
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SeriesWarning)  # said below, where the caller is
            series = log_mean_exp_cumulants(x, order=order, num_threads=num_threads)
            if couplings is not None:
                traced = log_mean_exp_cumulants(x, order=order, lambda_=couplings, num_threads=num_threads)
        energy, entropy = float(energies.mean()), trial.entropy()
    warn_if_it_diverges(series)
    log_z, stderr, bound = float(series.value), float(series.stderr), float(-series.partial_sums[0] / beta)
    if not is_exact and not sum_hidden:
        energy = system.mean_energy(trial)
        bound = energy - entropy / beta
        if series.best_order == 1:
            log_z, stderr = -beta * bound, 0.0
    problem = _problem(series, is_exact) or ("" if series.best_order == 1 else several)
    if problem and not series.diverges:  # which the series has said itself
        warn(f"cumulant_expansion: {problem}", SeriesWarning)
    return FreeEnergy(
        value=-log_z / beta,
        log_z=log_z,
        stderr=stderr,
        kind="upper_bound" if series.best_order == 1 else "asymptotic",
        ess=np.inf if is_exact else float(series.ess),
        converged=not problem,
        beta=beta,
        details={
            "series": series,
            "cumulants": values / beta ** np.arange(1, order + 1),
            "bound": bound,
            "energy": energy,
            "entropy": entropy,
            "exact": is_exact,
            "trace": traced,
            "problem": problem,
        },
    )


def _mean_field(model: Expanded, name: str, sum_hidden: bool, **how: Any) -> tuple[Any, str]:
    """Means of the best bound by independent units, and what speaks against those alone.

    They are kept away from where q would rule states out.
    """
    if name != "mean_field":
        raise ValueError(f'means: expected arrays or "mean_field", got {name!r}')
    best = mean_field(model, **how)
    found = best.details
    edge, low = np.nextafter(1.0, 0.0), 0.0 if isinstance(model, BernoulliRBM) else -1.0
    means = [
        np.clip(found[layer], low + 1.0 - edge, edge)
        for layer in ("spins", "visible", "hidden")
        if layer in found
    ]
    return means if len(means) == 2 and not sum_hidden else means[0], several_valleys(best)


def _problem(series: CumulantSeries, is_exact: bool) -> str:
    """What speaks against the series: the last two terms beside those before them, less the first.

    Of three terms, the last one; the first says where V is 0, and no more.
    """
    if series.diverges:
        return "its terms do not become smaller"
    sure = np.maximum(np.abs(series.terms) - 2 * series.terms_stderr, 0.0)
    split = max(series.order - 2, 2)
    if series.order > 2 and sure[split:].max() > _HARDLY * np.abs(series.terms[1:split]).max():
        return "its terms hardly become smaller, and nothing is known of those that follow"
    if series.order > 2 and (is_exact or series.ess >= _ENOUGH):
        off = abs(float(series.value - series.direct))
        noise = 3 * math.hypot(float(series.stderr), float(series.direct_stderr))
        rounding = 1e-9 * max(1.0, abs(float(series.direct)))
        if off > np.abs(series.terms[split:]).max() + noise + rounding:
            return f"ln Z is {off:.2g} off the direct estimate, more than its last terms tell"
    return ""


@dataclass(frozen=True)
class _System:
    """Units of two values each, and the energy of their states in float64."""

    model: Any
    beta: float
    sizes: tuple[int, ...]  # of the layers that q is a distribution of
    low: float  # the units' lower value; the upper one is 1
    biases: Array

    @classmethod
    def of(cls, model: Expanded, beta: float, *, sum_hidden: bool) -> _System:
        wide = type(model)(*(p.astype(np.float64) for p in model.parameters))
        low = 0.0 if isinstance(model, BernoulliRBM) else -1.0
        if isinstance(wide, Ising):
            return cls(wide, beta, (wide.n_spins,), low, wide.fields)
        if sum_hidden:
            return cls(wide, beta, (wide.n_visible,), low, wide.visible_bias)
        biases = np.concatenate([wide.visible_bias, wide.hidden_bias])
        return cls(wide, beta, (wide.n_visible, wide.n_hidden), low, biases)

    def energies(self, upper: Array) -> Array:
        """Of states given as whether units have their upper value, (n_states, n_units)."""
        states = upper.astype(np.float64) * (1.0 - self.low) + self.low
        if len(self.sizes) == 2:
            v, h = states[:, : self.sizes[0]], states[:, self.sizes[0] :]
            joint: Array = -states @ self.biases - ((v @ self.model.weights) * h).sum(axis=1)
            return joint
        if isinstance(self.model, Ising):
            of_spins: Array = self.model.energy(states)
            return of_spins
        clamped: Array = self.model.free_energy(states, beta=self.beta)
        return clamped

    def mean_energy(self, trial: _Trial) -> float:
        """⟨E⟩_q where E is a sum over pairs: E of the means."""
        m = np.exp(trial.log_on) + self.low * np.exp(trial.log_off)
        if isinstance(self.model, Ising):
            pairs = 0.5 * float(m @ self.model.couplings @ m)
        else:
            pairs = float(m[: self.sizes[0]] @ self.model.weights @ m[self.sizes[0] :])
        return -float(m @ self.biases) - pairs


@dataclass(frozen=True)
class _Trial:
    """Independent units: each has its upper value with a probability of its own."""

    log_on: Array  # ln of the probability of the upper value, (n_units,)
    log_off: Array

    @classmethod
    def of(cls, system: _System, means: Any) -> _Trial:
        gap = 1.0 - system.low
        if means is None:  # ln p = -ln(1 + e^-x), x = beta times the difference of energy
            x = system.beta * gap * system.biases
            return cls(-np.logaddexp(0.0, -x), -np.logaddexp(0.0, x))
        given = means if len(system.sizes) == 2 else (means,)
        if not isinstance(given, (tuple, list)) or len(given) != len(system.sizes):
            raise TypeError("means: expected a pair of arrays, of the visible and of the hidden units")
        parts = [borrow(part, "means")[0] for part in given]
        for part, size in zip(parts, system.sizes, strict=True):
            if part.shape != (size,):
                raise ValueError(f"means: expected ({size},), got {part.shape}")
            if part.dtype.kind not in "iuf":
                raise TypeError(f"means: expected real numbers, got {part.dtype}")
        of_units = np.concatenate(parts).astype(np.float64)
        inside = (system.low < of_units) & (of_units < 1.0)
        if not inside.all():
            raise ValueError(
                f"means: expected {system.low:g} < mean < 1, as q must give every state some probability, "
                f"got {of_units[~inside][0]}"
            )
        return cls(np.log((of_units - system.low) / gap), np.log((1.0 - of_units) / gap))

    @property
    def n_units(self) -> int:
        return len(self.log_on)

    def log_q(self, upper: Array) -> Array:
        """Of states, (n_states,)."""
        found: Array = np.where(upper, self.log_on, self.log_off).sum(axis=1)
        return found

    def entropy(self) -> float:
        return -float((np.exp(self.log_on) * self.log_on + np.exp(self.log_off) * self.log_off).sum())


def _of_all_states(system: _System, trial: _Trial) -> tuple[Array, Array]:
    """Energies and ln q, (2^n_units,)."""
    n_states, units = 1 << trial.n_units, np.arange(trial.n_units)
    numbers = (np.arange(first, min(first + _ROWS, n_states)) for first in range(0, n_states, _ROWS))
    return _of_states(system, trial, ((k[:, None] >> units & 1).astype(bool) for k in numbers))


def _of_samples(system: _System, trial: _Trial, n: int, key: int) -> tuple[Array, Array]:
    """The same of n states drawn from q."""
    draw, p = generator(key, "trial states"), np.exp(trial.log_on)
    sizes = (min(_ROWS, n - first) for first in range(0, n, _ROWS))
    return _of_states(system, trial, (draw.random((size, trial.n_units)) < p for size in sizes))


def _of_states(system: _System, trial: _Trial, parts: Any) -> tuple[Array, Array]:
    found = [(system.energies(upper), trial.log_q(upper)) for upper in parts]
    energies, log_q = (np.concatenate(of_parts) for of_parts in zip(*found, strict=True))
    return energies, log_q
