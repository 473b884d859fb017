"""All free energies of one model, side by side."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arguments import inverse_temperature
from ..arrays import borrow
from ..models import GaussianRBM, Ising, TransverseFieldIsing
from ..random import seed
from ..sampling.tempering import TemperingWarning
from ..statistics.series import SeriesWarning
from .methods import METHODS, Compared
from .result import FreeEnergy, FreeEnergyWarning

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["METHODS", "Comparison", "compare"]


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Free energies of one model by several methods. Print it for a table; `plot` draws it.

    Attributes
    ----------
    model : str
        What was compared.
    results : mapping of str to FreeEnergy
        Of each method that gave one; also ``comparison["ais"]``.
    seconds : mapping of str to float
        What each took.
    skipped : mapping of str to str
        Methods that gave none, and why.
    """

    model: str
    results: Mapping[str, FreeEnergy]
    seconds: Mapping[str, float]
    skipped: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> FreeEnergy:
        return self.results[name]

    @property
    def reference(self) -> str | None:
        """What the others are held against: "exact", or else the converged estimate of the least error."""
        if "exact" in self.results:
            return "exact"
        estimates = {
            name: F.stderr + F.error_bound
            for name, F in self.results.items()
            if F.kind == "consistent" and F.converged
        }
        return min(estimates, key=estimates.__getitem__) if estimates else None

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """Draw ln Z of each method, less that of the reference (extra ``plot``).

        Parameters
        ----------
        path : path, optional
            Where to write the picture.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from ..plot import plot_comparison

        figure = plot_comparison(self)
        if path is not None:
            figure.savefig(path, dpi=110)
        return figure

    def __str__(self) -> str:
        reference = self.reference
        against = "" if reference is None else f"- {reference}"
        lines = [
            self.model,
            f"{'method':26}{'ln Z':>14}{'±':>9}{'at most':>9}  {'F is':15}"
            f"{against:>12}{'ESS':>9}{'seconds':>9}",
        ]
        for name, F in self.results.items():
            error = f"{F.stderr:.2g}" if F.stderr > 0 else ""
            bound = f"{F.error_bound:.2g}" if F.error_bound > 0 and F.kind != "exact" else ""
            apart = ""
            if reference not in (None, name):
                apart = f"{F.log_z - self.results[reference].log_z:+.3g}"
            kind = {"upper_bound": "upper bound", "lower_bound": "lower bound"}.get(F.kind, F.kind)
            ess = "" if np.isinf(F.ess) else f"{F.ess:.3g}"
            mark = "" if F.converged else "  not converged"
            value = f"{name:26}{F.log_z:14.4f}{error:>9}{bound:>9}  {kind:15}"
            lines.append(f"{value}{apart:>12}{ess:>9}{self.seconds[name]:9.2g}{mark}")
        lines += [f"{name}: {F.problem}" for name, F in self.results.items() if F.problem]
        lines += [f"{name}: none, {why}" for name, why in self.skipped.items()]
        return "\n".join(lines)

    __repr__ = __str__


def compare(
    model: Compared,
    methods: Iterable[str] | None = None,
    *,
    beta: float = 1.0,
    data: Any = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    rng: Any = None,
    num_threads: int | None = None,
) -> Comparison:
    r"""Free energies of one model by every method that knows its kind.

    .. math:: F = -\tfrac1\beta \ln Z, \qquad Z = \sum_{v, h} e^{-\beta E(v, h)}

    Parameters
    ----------
    model : BernoulliRBM, SpinRBM, GaussianRBM, Ising or TransverseFieldIsing
        The model. What takes spins only gets the Ising model of an RBM's units; of a GaussianRBM's hidden
        ones, the visible ones integrated out, whose `details` then are of that model.
    methods : iterable of str, or str, optional
        Which, and in which order; all of `METHODS` that take such a model if not given.
    beta : float
        Inverse temperature, > 0.
    data : array_like, (n_samples, n_visible) or (n_samples, n_spins), optional
        What the model was trained on: starts of mean field and TAP, and the base that annealing begins from.
        Not of a GaussianRBM, whose hidden units are what methods see, nor of a TransverseFieldIsing.
    options : mapping of str to mapping, optional
        Keywords of single methods, as ``{"ais": {"n_chains": 1000}}``.
    rng : int, numpy.random.Generator, numpy.random.SeedSequence or None
        See `vfe_fast.random.seed`; all methods get the same key, and draw from streams of their own.
    num_threads : int, optional
        Threads to use.

    Returns
    -------
    Comparison
        A method that refuses the model (an enumeration that would take more than a minute, say) is in
        `skipped` with its reason. What does not converge says so in the table instead of by a warning.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    C. Martin, "Free Energies and Variational Inference" (2017), asks of each: how is it related to ln Z, is
    it a variational bound, can it be improved? The column "F is" answers.

    Examples
    --------
    >>> from vfe_fast import BernoulliRBM
    >>> rbm = BernoulliRBM([[0.5, -1.0], [0.3, 0.2]], [0.1, 0.2], [0.0, -0.3])
    >>> found = compare(rbm, ["exact", "mean_field", "ais"], rng=0)
    >>> found["mean_field"].value >= found["exact"].value
    True
    """
    if not isinstance(model, Compared):
        raise TypeError(f"model: expected an RBM, Ising or TransverseFieldIsing, got {type(model).__name__}")
    beta = inverse_temperature(beta)
    if beta == 0:
        raise ValueError("beta: expected beta > 0, got 0")
    fit = [name for name, method in METHODS.items() if isinstance(model, method.models + method.as_ising)]
    if isinstance(methods, str):
        methods = [methods]
    names = fit if methods is None else [_checked(name, "methods") for name in methods]
    of_methods = {_checked(name, "options"): given for name, given in dict(options or {}).items()}
    if not all(isinstance(given, Mapping) for given in of_methods.values()):
        raise TypeError("options: expected a mapping of keywords for each method")
    for name in of_methods:
        if name not in names:
            raise ValueError(f"options: expected methods that are compared, got {name!r}")
        if "beta" in of_methods[name]:
            raise ValueError(f"options: expected no beta of {name}, which is that of all")
    if data is not None:
        if isinstance(model, GaussianRBM | TransverseFieldIsing):
            raise ValueError(f"data: expected None, of which methods of a {type(model).__name__} make no use")
        n_units = model.n_spins if isinstance(model, Ising) else model.n_visible
        shape = np.shape(borrow(data, "data")[0])
        if len(shape) != 2 or shape[1] != n_units:
            raise ValueError(f"data: expected (n_samples, {n_units}), got {shape}")
    key = seed(rng)
    results: dict[str, FreeEnergy] = {}
    seconds: dict[str, float] = {}
    skipped: dict[str, str] = {}
    for name in names:
        if name not in fit:
            skipped[name] = f"it does not take a {type(model).__name__}"
            continue
        method, own = METHODS[name], dict(of_methods.get(name, {}))
        how: dict[str, Any] = {"beta": beta, "num_threads": num_threads}
        if method.is_random:
            how["rng"] = key
        if method.takes_data:
            how["data"] = data
        if method.reads in results and not own:
            how["before"] = results[method.reads]
        begin = time.perf_counter()
        try:
            with warnings.catch_warnings():
                for said_by_the_table in (FreeEnergyWarning, SeriesWarning, TemperingWarning):
                    warnings.simplefilter("ignore", said_by_the_table)
                results[name] = method.of(model, **(how | own))
        except (ValueError, ModuleNotFoundError) as error:
            if name in of_methods:
                raise
            skipped[name] = str(error)
            continue
        seconds[name] = time.perf_counter() - begin
    return Comparison(f"{model!r} at beta = {beta:g}", results, seconds, skipped)


def _checked(name: Any, argument: str) -> str:
    if name not in METHODS:
        raise ValueError(f"{argument}: expected names of {', '.join(METHODS)}, got {name!r}")
    return str(name)
