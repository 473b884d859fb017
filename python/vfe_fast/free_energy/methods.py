"""All free energies by name, called alike, each with the models that it takes."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from ..arrays import Array
from ..models import BernoulliRBM, GaussianRBM, Ising, SpinRBM, TransverseFieldIsing
from ..sampling import GibbsChains
from .ais import ais, bound_of_mean, reverse_ais
from .as_ising import as_ising
from .cumulant_expansion import cumulant_expansion
from .exact import exact
from .importance import importance
from .integral import integral
from .laplace import laplace
from .mbar import bar, mbar
from .mean_field import mean_field
from .result import FreeEnergy
from .spectrum import Levels, density_of_states
from .tap import tap
from .thermodynamic_integration import thermodynamic_integration
from .trace import trace
from .umbrella import umbrella
from .variational import variational
from .wang_landau import MOST_LEVELS, wang_landau

__all__ = ["METHODS", "Compared", "Method"]

Compared: TypeAlias = BernoulliRBM | SpinRBM | GaussianRBM | Ising | TransverseFieldIsing

_DISCRETE = (BernoulliRBM, SpinRBM, Ising)
_RBMS = (BernoulliRBM, SpinRBM, GaussianRBM)

# What is quick enough to be done unasked.
_MOST_SECONDS = 60.0
_MOST_COUNTED = 26  # spins of a density of states
_MOST_BINNED = 64  # spins whose energies are not whole multiples of anything, for walks
_MOST_WINDOWS = 16  # visible units, a window for each number of them that are on
_MOST_TRACED = 16  # spins
_MOST_DENSE = 10
_MOST_INTEGRATED = 4  # visible units
_N_BINS = 100_000


@dataclass(frozen=True)
class Method:
    """A method, called with a model, `beta`, `num_threads`, and `rng` or `data` if it takes them.

    Attributes
    ----------
    call : callable
        Returns a `FreeEnergy`.
    models : tuple of type
        What it takes.
    as_ising : tuple of type
        What it takes as an Ising model, see `as_ising`.
    is_random, takes_data : bool
        Whether it takes `rng`, `data`.
    reads : str
        A method whose result, if there is one already, it takes for `before`: nothing is sampled twice then.
    """

    call: Callable[..., FreeEnergy]
    models: tuple[type, ...] = _DISCRETE
    as_ising: tuple[type, ...] = (GaussianRBM,)
    is_random: bool = True
    takes_data: bool = False
    reads: str = ""

    def of(self, model: Compared, beta: float, **how: Any) -> FreeEnergy:
        """The free energy of a model by this method.

        Of a model that is taken as an Ising model, `details` are of that, and have ``ising_constant``: what
        ln Z of the model is more.
        """
        if isinstance(model, self.models):
            return self.call(model, beta=beta, **how)
        assert isinstance(model, _RBMS)
        ising, constant = as_ising(model, beta)
        F = self.call(ising, beta=beta, **how)
        details = {**F.details, "ising_constant": constant}
        return replace(F, details=details).with_log_z(F.log_z + constant)


def _exact(model: Any, *, beta: float, **how: Any) -> FreeEnergy:
    """By a sum over states, or over eigenvalues."""
    found: FreeEnergy
    if isinstance(model, TransverseFieldIsing):
        _at_most(_MOST_DENSE, "spins to be diagonalized", model.n_spins)
        found = trace(model.matrix(), beta=beta, **{k: v for k, v in how.items() if k != "num_threads"})
    else:
        found = exact(model, beta=beta, **{"max_seconds": _MOST_SECONDS, **how})
    return found


def _laplace(
    model: GaussianRBM, *, beta: float, rng: Any, num_threads: int | None, start: Any = None, **options: Any
) -> FreeEnergy:
    start = _visited(model, beta, rng, num_threads) if start is None else start
    return laplace(model, start, beta=beta, **options)


def _integral(
    model: GaussianRBM, *, beta: float, rng: Any, num_threads: int | None, **options: Any
) -> FreeEnergy:
    """Over the visible units."""
    n = model.n_visible
    _at_most(_MOST_INTEGRATED, "real units", n)
    points = _visited(model, beta, rng, num_threads)
    wide = GaussianRBM(*(p.astype(np.float64) for p in model.parameters))

    def energy(x: Any) -> Any:
        return wide.free_energy(x.reshape(-1, n), beta=beta, num_threads=num_threads)

    if n == 1:
        return integral(energy, (-math.inf, math.inf), beta=beta, **{"points": points[:, 0], **options})
    return integral(energy, [(-math.inf, math.inf)] * n, beta=beta, **{"points": points, **options})


def _visited(model: GaussianRBM, beta: float, rng: Any, num_threads: int | None) -> Array:
    """Where Gibbs chains end: in several valleys, if there are."""
    chains = GibbsChains(model, 32, rng=rng, num_threads=num_threads)
    chains.step(100, beta=beta)
    found: Array = chains.visible
    return found


def _density_of_states(model: Ising, *, beta: float, num_threads: int | None, **options: Any) -> FreeEnergy:
    _at_most(_MOST_COUNTED, "spins", model.n_spins)
    return density_of_states(model, beta=beta, **{"n_bins": _N_BINS, **options})


def _bar(model: Any, *, before: FreeEnergy | None = None, **how: Any) -> FreeEnergy:
    return bar(model, None if before is None else before.details["run"], **how)


def _ais_bound(model: Any, *, before: FreeEnergy | None = None, **how: Any) -> FreeEnergy:
    return bound_of_mean(ais(model, **how) if before is None else before)


def _reverse_ais_bound(model: Any, *, before: FreeEnergy | None = None, **how: Any) -> FreeEnergy:
    return bound_of_mean(reverse_ais(model, **how) if before is None else before, reverse=True)


def _wang_landau(
    model: Ising, *, beta: float, rng: Any, num_threads: int | None, **options: Any
) -> FreeEnergy:
    """At one temperature from the density of states, learned less well than for all of them."""
    if not Levels.of(model, 1, MOST_LEVELS).are_exact:
        _at_most(_MOST_BINNED, "spins with energies in bins", model.n_spins)
    quick = {"final_increment": 1e-4, "max_sweeps": 300_000, "n_sweeps": 20_000} | options
    return wang_landau(model, beta=beta, rng=rng, num_threads=num_threads, **quick)


def _trace(model: Any, *, beta: float, rng: Any, num_threads: int | None, **options: Any) -> FreeEnergy:
    """Of a model without transverse fields, too: of a diagonal matrix."""
    _at_most(_MOST_TRACED, "spins", model.n_spins)
    if isinstance(model, Ising):
        model = TransverseFieldIsing(model, 0.0)
    return trace(model, beta=beta, rng=rng, **options)


def _umbrella(model: Any, *, beta: float, rng: Any, num_threads: int | None, **options: Any) -> FreeEnergy:
    """By windows for each number of visible units that are on, from none to all."""
    machine, inner_beta, constant = model, beta, 0.0
    if isinstance(model, Ising):
        layers = model.to_spin_rbm(beta=beta)
        machine, inner_beta, constant = layers.rbm, 1.0, layers.constant
    n = machine.n_visible
    if "centers" not in options:
        _at_most(_MOST_WINDOWS, "visible units, without centers and a spring", n)
        low, width = (-n, 2.0) if isinstance(machine, SpinRBM) else (0.0, 1.0)
        windows = {"centers": low + width * np.arange(n + 1), "spring": width**-2, "order": np.ones(n)}
        options = windows | {"n_units": 1} | options
    profile = umbrella(machine, beta=inner_beta, rng=rng, num_threads=num_threads, **options)
    found: FreeEnergy | None = profile.details["model"]
    if found is None:
        raise ValueError("no window has reached an end of the range of m that a single state has")
    return replace(found, beta=beta).with_log_z(found.log_z + constant)


def _at_most(most: int, what: str, n: int) -> None:
    if n > most:
        raise ValueError(f"expected at most {most} {what}, got {n}")


#: In the order of the table.
METHODS: dict[str, Method] = {
    "exact": Method(_exact, (*_DISCRETE, GaussianRBM, TransverseFieldIsing), is_random=False),
    "density_of_states": Method(_density_of_states, (Ising,), _RBMS, is_random=False),
    "integral": Method(_integral, (GaussianRBM,), ()),
    "trace": Method(_trace, (Ising, TransverseFieldIsing), _RBMS),
    "mean_field": Method(mean_field, takes_data=True),
    "variational": Method(variational, takes_data=True),
    "variational tree": Method(functools.partial(variational, tree=True), takes_data=True),
    "cumulant_expansion": Method(functools.partial(cumulant_expansion, means="mean_field")),
    "tap 2": Method(functools.partial(tap, order=2), takes_data=True),
    "tap 3": Method(functools.partial(tap, order=3), takes_data=True),
    "laplace": Method(_laplace, (GaussianRBM,), ()),
    "importance": Method(importance),
    "thermodynamic_integration": Method(thermodynamic_integration),
    "mbar": Method(mbar),
    "bar": Method(_bar, reads="mbar"),
    "umbrella": Method(_umbrella),
    "wang_landau": Method(_wang_landau, (Ising,), _RBMS),
    "ais": Method(ais, takes_data=True),
    "reverse_ais": Method(reverse_ais, takes_data=True),
    "ais bound": Method(_ais_bound, takes_data=True, reads="ais"),
    "reverse_ais bound": Method(_reverse_ais_bound, takes_data=True, reads="reverse_ais"),
}
