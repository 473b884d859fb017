r"""Samples of several windows, combined by the multistate Bennett acceptance ratio.

Of samples x_n from windows k with reduced potentials u_k(x), n_k of each, the free energies f_k = -ln Z_k
solve

.. math:: \sum_n W_{nk} = 1, \qquad
          W_{nk} = \frac{e^{f_k - u_k(x_n)}}{\sum_l n_l e^{f_l - u_l(x_n)}}

(M. Shirts, J. Chodera, J. Chem. Phys. 129 (2008) 124105). pymbar solves the equations; it holds u several
times, so of many samples it gets some, and a few of Newton's steps lead from their solution to that of all.
Everything but pymbar reads the potentials in blocks: these steps, overlaps, and what each sample adds to the
error,

.. math:: \delta f = -(1 - O)^+ \sum_n (W_n - \langle W \rangle_{\text{window of } n}), \qquad
          O_{kl} = \sum_n W_{nk} W_{nl} n_l.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import Array, jax_in_64_bits
from .result import FreeEnergyWarning

__all__ = ["MbarWarning", "Solved", "Windows", "inefficiency", "pymbar_quietly", "solve"]

_BLOCK = 1 << 20  # potentials held at a time
_LEAST_OVERLAP = 0.03  # P. Klimovich, M. Shirts, D. Mobley, J. Comput. Aided Mol. Des. 29 (2015) 397
_MANY_WINDOWS = 10  # of which more share the same samples
_LARGEST_RESIDUAL = 1e-6  # of the equations
_MOST_ITERATIONS = 100
_MOST_SOLVED = 1 << 20  # potentials for pymbar, which holds several times as many
_MOST_STEPS = 10  # of Newton's method, from there


class MbarWarning(FreeEnergyWarning):
    """Windows that overlap too little, chains that moved too little, or a solver that failed."""


@dataclass(frozen=True)
class Windows:
    """Samples in the order of their windows, and their reduced potentials in all windows.

    Attributes
    ----------
    n_samples : ndarray of int, (n_windows,)
        Samples of each window; may be 0.
    potentials : callable
        ``potentials(start, stop)``, (n_windows, stop - start) in float64, of those samples.
    """

    n_samples: Array
    potentials: Callable[[int, int], Array]

    def blocks(self) -> Iterator[tuple[slice, Array]]:
        """Potentials of all samples, some at a time."""
        n, step = int(self.n_samples.sum()), max(1, _BLOCK // len(self.n_samples))
        for start in range(0, n, step):
            stop = min(n, start + step)
            yield slice(start, stop), self.potentials(start, stop)

    def matrix(self, rows: Array, every: int) -> tuple[Array, Array]:
        """Potentials in some windows of every so-manyth sample of each, and how many these are of each."""
        taken = np.concatenate([np.arange(n) % every == 0 for n in self.n_samples])
        whole = np.concatenate([u[rows][:, taken[part]] for part, u in self.blocks()], axis=1)
        return whole, -(-self.n_samples // every)

    def overlaps(self, f: Array) -> tuple[Array, Array]:
        """Σ_n W_nk W_nl and Σ_n W_nk."""
        products, sums = np.zeros((len(f), len(f))), np.zeros(len(f))
        for _, u in self.blocks():
            weights = self.weights(f, u)
            products += weights @ weights.T
            sums += weights.sum(axis=1)
        return products, sums

    def log_denominators(self, f: Array, u: Array) -> Array:
        """ln Σ_l n_l e^(f_l - u_l), (n,)."""
        sampled = self.n_samples > 0
        terms = (np.log(self.n_samples[sampled]) + f[sampled])[:, None] - u[sampled]
        top = terms.max(axis=0)
        found: Array = top + np.log(np.exp(terms - top).sum(axis=0))
        return found

    def weights(self, f: Array, u: Array) -> Array:
        """W, (n_windows, n)."""
        found: Array = np.exp(f[:, None] - u - self.log_denominators(f, u))
        return found


@dataclass(frozen=True)
class Solved:
    """Free energies of windows.

    Attributes
    ----------
    windows : Windows
        The samples.
    f : ndarray, (n_windows,)
        f_k, that of the first window 0.
    overlap : ndarray, (n_windows, n_windows)
        O: how many of the samples that window k needs come from window l; rows add up to 1.
    problem : str
        What speaks against the result; empty if nothing does.
    """

    windows: Windows
    f: Array
    overlap: Array
    problem: str

    @classmethod
    def at(cls, windows: Windows, f: Array, failed: str = "") -> Solved:
        """With these free energies of windows that have samples, and what the solver failed at, if it did."""
        f = _unsampled(windows, f)
        products, sums = windows.overlaps(f)
        residual = float(np.abs(sums - 1).max())
        if residual <= _LARGEST_RESIDUAL:
            failed = ""  # whatever the solver says of itself
        elif not failed:
            failed = f"the equations hold to {residual:.1g} only"
        overlap = products * windows.n_samples
        sampled = np.flatnonzero(windows.n_samples)
        apart = _apart(overlap[np.ix_(sampled, sampled)])
        if not failed and apart is not None:
            failed = f"windows {_named(sampled[apart])} overlap too little with the others"
        return cls(windows, f - f[0], overlap, failed)

    @property
    def gap(self) -> float:
        """1 minus the second largest eigenvalue of the overlap: 0 if windows fall apart."""
        n = self.windows.n_samples
        root = np.sqrt(n[n > 0])
        inner = self.overlap[np.ix_(n > 0, n > 0)] * root[:, None] / root
        values = np.linalg.eigvalsh((inner + inner.T) / 2)
        return float(1.0 - values[-2]) if len(values) > 1 else 1.0

    @property
    def neighbors(self) -> Array:
        """Overlap of each window with the next one."""
        found: Array = np.diagonal(self.overlap, 1).copy()
        return found

    def influences(self, contrasts: Array) -> Array:
        """What each sample adds to the error of Σ_k c_k f_k.

        Parameters
        ----------
        contrasts : ndarray, (n_windows, n_contrasts)
            c, columns that add up to 0.

        Returns
        -------
        ndarray, (n_contrasts, n)
            Less their mean in each window.
        """
        pulls = self._pulls(contrasts)
        found = np.empty((pulls.shape[1], int(self.windows.n_samples.sum())))
        for part, u in self.windows.blocks():
            found[:, part] = -pulls.T @ self.windows.weights(self.f, u)
        return self.centered(found)

    def variances(self, contrasts: Array, inefficiencies: Array) -> Array:
        """What `influences` add up to, squared, times the inefficiencies of the windows; sample by sample.

        Parameters
        ----------
        contrasts : ndarray, (n_windows, n_contrasts)
            As of `influences`.
        inefficiencies : ndarray, (n_windows,)
            g.

        Returns
        -------
        ndarray, (n_contrasts,)
        """
        n = self.windows.n_samples
        stop = np.cumsum(n)
        about = self.overlap / np.maximum(n, 1)  # close to the means of W in each window
        sums, squares = np.zeros((len(n), len(n))), np.zeros((len(n), len(n)))
        for part, u in self.windows.blocks():
            weights = self.windows.weights(self.f, u)
            for k in np.flatnonzero((stop > part.start) & (stop - n < part.stop)):
                own = weights[:, max(stop[k] - n[k] - part.start, 0) : stop[k] - part.start]
                own = own - about[:, k : k + 1]
                sums[k] += own.sum(axis=1)
                squares += inefficiencies[k] * (own @ own.T)
        squares -= (sums.T * (inefficiencies / np.maximum(n, 1))) @ sums
        pulls = self._pulls(contrasts)
        found: Array = np.maximum(np.einsum("kc,kl,lc->c", pulls, squares, pulls), 0.0)
        return found

    def _pulls(self, contrasts: Array) -> Array:
        """The transpose of (1 - O)^+, times c."""
        return np.linalg.lstsq((np.eye(len(self.f)) - self.overlap).T, contrasts, rcond=None)[0]

    def centered(self, of_samples: Array) -> Array:
        """Less the mean in each window, in place."""
        stop = np.cumsum(self.windows.n_samples)
        for end, n in zip(stop, self.windows.n_samples, strict=True):
            if n:
                of_samples[:, end - n : end] -= of_samples[:, end - n : end].mean(axis=1, keepdims=True)
        return of_samples


def solve(windows: Windows, guess: Array) -> Solved:
    """Free energies of windows.

    Parameters
    ----------
    windows : Windows
        The samples.
    guess : ndarray, (n_windows,)
        Where the solver starts.

    Returns
    -------
    Solved
    """
    sampled = np.flatnonzero(windows.n_samples)
    f = guess - guess[sampled[0]]
    failed = ""
    if len(sampled) > 1:
        with pymbar_quietly() as pymbar:
            protocol = (
                {
                    "method": "adaptive",
                    "continuation": False,
                    "options": {"min_sc_iter": 0, "maxiter": _MOST_ITERATIONS},
                },
                {"method": "hybr", "continuation": False, "options": {"maxfev": _MOST_ITERATIONS}},
            )
            every = -(-len(sampled) * int(windows.n_samples.sum()) // _MOST_SOLVED)
            potentials, n_samples = windows.matrix(sampled, every)
            try:
                of_sampled, steps = pymbar.mbar_solvers.solve_mbar(
                    potentials, n_samples[sampled], f[sampled], solver_protocol=protocol
                )
                f[sampled] = np.asarray(of_sampled, np.float64)
                failed = "" if steps[-1]["success"] else "the solver of pymbar did not converge"
            except Exception as error:  # of whatever kind; Ctrl-C passes
                failed = f"the solver of pymbar failed: {error}"
    if not np.isfinite(f).all():
        failed, f = "the solver of pymbar did not converge", guess - guess[sampled[0]]
    return Solved.at(windows, _polished(windows, f), failed)


def _polished(windows: Windows, f: Array) -> Array:
    """f after those of Newton's steps towards the solution that came nearer to it."""
    sampled = np.flatnonzero(windows.n_samples)
    n = windows.n_samples[sampled]
    best, least = f, np.inf
    for _ in range(_MOST_STEPS):
        products, sums = windows.overlaps(f)
        sums = sums[sampled]
        residual = np.abs(sums - 1).max()
        if not residual < least / 2:
            break
        best, least, f = f, residual, f.copy()
        curvature = np.diag(n * sums) - n[:, None] * products[np.ix_(sampled, sampled)] * n
        f[sampled] -= np.linalg.lstsq(curvature, n * (sums - 1), rcond=None)[0]
    return best


def _unsampled(windows: Windows, f: Array) -> Array:
    """The same with f of windows without samples, from the others."""
    lacking = np.flatnonzero(windows.n_samples == 0)
    if not len(lacking):
        return f
    log_sums = np.full(len(lacking), -np.inf)
    for _, u in windows.blocks():
        terms = -u[lacking] - windows.log_denominators(f, u)
        log_sums = np.logaddexp(log_sums, np.logaddexp.reduce(terms, axis=1))
    f = f.copy()
    f[lacking] = -log_sums
    return f


def _apart(overlap: Array) -> Array | None:
    """Windows that the first one cannot be reached from through sufficient overlaps; None if all can."""
    near = overlap >= _LEAST_OVERLAP * min(1.0, _MANY_WINDOWS / len(overlap))
    near |= near.T
    reached = np.zeros(len(overlap), bool)
    reached[0] = True
    for _ in overlap:
        reached |= near[reached].any(axis=0)
    return None if reached.all() else np.flatnonzero(~reached)


def _named(numbers: Array) -> str:
    return f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} ... {numbers[-1]}"


def inefficiency(series: Array) -> float:
    """Statistical inefficiency 1 + 2 Σ_t ρ(t) >= 1 of several series of one law, (n_series, n)."""
    if series.shape[1] < 4 or not series.std() > 0:
        return 1.0
    with pymbar_quietly() as pymbar:
        found = pymbar.timeseries.statistical_inefficiency_multiple(list(series))
    return max(1.0, float(found))


@contextlib.contextmanager
def pymbar_quietly() -> Iterator[Any]:
    """The package pymbar, without its messages, and with JAX as the user has set it.

    With JAX installed, pymbar sets it to 64 bit for the whole process; where this thread is in that mode
    already, for as long as this context, it does not.
    """
    logger = logging.getLogger("pymbar")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        try:
            import pymbar
            import pymbar.mbar_solvers
            import pymbar.utils
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(f"mbar needs pymbar: pip install 'vfe_fast[mbar]' ({error})") from error
        with (
            warnings.catch_warnings(),
            jax_in_64_bits() if pymbar.mbar_solvers.use_jit else contextlib.nullcontext(),
        ):
            warnings.simplefilter("ignore")  # what is wrong shows in the equations
            yield pymbar
    finally:
        logger.setLevel(level)
