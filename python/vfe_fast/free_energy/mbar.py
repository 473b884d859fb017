r"""ln Z from windows between independent units and the model: BAR and MBAR.

.. math:: \ln Z(\beta) = \ln Z(0) + f_0 - f_K, \qquad f_k = -\ln Z(\beta_k)

The windows are the temperatures of a parallel-tempering run, in which u_k(x) = β_k E(x). Text: C. Martin,
"Free Energies and Variational Inference" (2017); C. Bennett, J. Comput. Phys. 22 (1976) 245;
M. Shirts, J. Chodera, J. Chem. Phys. 129 (2008) 124105; `windows` has the equations and their errors.
"""

from __future__ import annotations

import math
import os
import warnings
from typing import Any, TypeAlias

import numpy as np

from ..arguments import inverse_temperature, real
from ..arrays import Array
from ..models import BernoulliRBM, Ising, SpinRBM
from ..sampling.tempering import TemperedRun, TemperingWarning, parallel_tempering
from ..warned import warn
from .log_weights import LogMean
from .result import FreeEnergy
from .windows import MbarWarning, Solved, Windows, inefficiency, pymbar_quietly, solve

__all__ = ["bar", "mbar", "mbar_from_potentials"]

Windowed: TypeAlias = BernoulliRBM | SpinRBM | Ising

_FEW_TIMES = 10.0  # statistical inefficiencies in a run, and round trips


def mbar(
    model: Windowed,
    run: TemperedRun | None = None,
    *,
    beta: float = 1.0,
    betas: Any = 16,
    n_ladders: int = 16,
    n_sweeps: int = 1000,
    n_warmup: int | None = None,
    rng: Any = None,
    num_threads: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
) -> FreeEnergy:
    r"""ln Z from all temperatures of a parallel-tempering run at once (MBAR).

    Parameters
    ----------
    model : BernoulliRBM, SpinRBM or Ising
        The model. An Ising model is sampled as ``model.to_spin_rbm(beta=beta).rbm``.
    run : TemperedRun, optional
        A run of the machine whose first beta is 0 and whose last one is `beta`; if not given, one is made
        with the options that follow.
    beta : float
        Inverse temperature, > 0.
    betas, n_ladders, n_sweeps, n_warmup, rng, num_threads, checkpoint
        As `vfe_fast.sampling.parallel_tempering` takes them; temperatures are from 0 to `beta`, of an Ising
        model from 0 to 1 of the machine. No `checkpoint` beside a run, which has ended.

    Returns
    -------
    FreeEnergy
        Of kind ``"consistent"``. `stderr` is that of the time series of what the samples contribute, all
        windows of a ladder taken together, which swaps correlate; `ess` is their number over its statistical
        inefficiency. `converged` is False if windows overlap by less than 0.03 (of K > 10: 0.3 / K), if there
        were fewer than ten round trips, if a run is shorter than ten times the statistical inefficiency, if
        ladders differ by more than that explains, or if the solver failed; ``details["problem"]`` says which.
        `details`:
        ``betas``, ``free_energies`` -ln Z_k + ln Z_0, ``overlap`` (n_betas, n_betas), ``neighbor_overlap``,
        ``spectral_gap`` (1 minus the overlap's second largest eigenvalue), ``inefficiency`` in sweeps,
        ``acceptance``, ``round_trips``, ``round_trip_time``, ``run``.

    Warns
    -----
    MbarWarning
        If `converged` is False.

    Raises
    ------
    ModuleNotFoundError
        Without pymbar: install ``vfe_fast[mbar]``.
    TypeError, ValueError
        If an argument is not as described.

    Examples
    --------
    >>> from vfe_fast import BernoulliRBM
    >>> from vfe_fast.free_energy import exact
    >>> rbm = BernoulliRBM([[2.0, -1.0], [3.0, 1.0]], [-1.0, -2.0], [-3.0, 0.2])
    >>> F = mbar(rbm, betas=5, rng=0)  # doctest: +SKIP
    >>> abs(F.log_z - exact(rbm).log_z) < 4 * F.stderr  # doctest: +SKIP
    True
    """
    options = {
        "n_ladders": n_ladders, "n_sweeps": n_sweeps, "n_warmup": n_warmup, "rng": rng,
        "num_threads": num_threads, "checkpoint": checkpoint,
    }  # fmt: skip
    run, log_z_0 = _run(model, run, beta, betas, options)
    solved = solve(_of_temperatures(run.betas, run.energies.reshape(-1)), _integrated(run))
    contrast = np.zeros((len(run.betas), 1))
    contrast[0], contrast[-1] = 1.0, -1.0
    series = solved.influences(contrast).reshape(run.energies.shape).sum(axis=0)
    return _free_energy(run, series, log_z_0 + float(solved.f[0] - solved.f[-1]), beta, solved.problem, {
        "free_energies": solved.f, "overlap": solved.overlap, "neighbor_overlap": solved.neighbors,
        "spectral_gap": solved.gap,
    })  # fmt: skip


def bar(
    model: Windowed,
    run: TemperedRun | None = None,
    *,
    beta: float = 1.0,
    betas: Any = 16,
    n_ladders: int = 16,
    n_sweeps: int = 1000,
    n_warmup: int | None = None,
    rng: Any = None,
    num_threads: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
) -> FreeEnergy:
    r"""ln Z as the sum of Bennett's acceptance ratios of neighboring temperatures (BAR).

    Parameters
    ----------
    model : BernoulliRBM, SpinRBM or Ising
        The model.
    run, beta, betas, n_ladders, n_sweeps, n_warmup, rng, num_threads, checkpoint
        As `mbar` takes them.

    Returns
    -------
    FreeEnergy
        As that of `mbar`, but that ``neighbor_overlap`` is the overlap of each pair by itself, at most 1/2,
        and there are no ``overlap`` and ``spectral_gap``.

    Warns
    -----
    MbarWarning
        If `converged` is False.

    Raises
    ------
    ModuleNotFoundError
        Without pymbar: install ``vfe_fast[mbar]``.
    TypeError, ValueError
        If an argument is not as described.
    """
    options = {
        "n_ladders": n_ladders, "n_sweeps": n_sweeps, "n_warmup": n_warmup, "rng": rng,
        "num_threads": num_threads, "checkpoint": checkpoint,
    }  # fmt: skip
    run, log_z_0 = _run(model, run, beta, betas, options)
    n_betas, n = len(run.betas), run.energies[0].size
    series, steps = np.zeros(run.energies.shape[1:]), np.zeros(n_betas - 1)
    overlaps, problem = np.zeros(n_betas - 1), ""
    for k, guess in enumerate(np.diff(_integrated(run))):
        pair = run.energies[k : k + 2].reshape(-1)
        width = run.betas[k + 1] - run.betas[k]
        windows = _of_temperatures(run.betas[k : k + 2], pair)
        steps[k], failed = _bennett(width * pair[:n], -width * pair[n:], float(guess))
        solved = Solved.at(windows, np.array([0.0, steps[k]]))
        overlaps[k] = solved.overlap[0, 1]
        problem = problem or failed or solved.problem.replace("windows 1", f"windows {k + 1} ...")
        moved = solved.influences(np.array([[1.0], [-1.0]]))
        series += moved.reshape(2, *series.shape).sum(axis=0)
    details = {"free_energies": np.concatenate([[0.0], np.cumsum(steps)]), "neighbor_overlap": overlaps}
    return _free_energy(run, series, log_z_0 - float(steps.sum()), beta, problem, details)


def mbar_from_potentials(
    u_kn: Any, n_samples: Any, *, inefficiencies: Any = None, log_z: float = 0.0, beta: float = 1.0
) -> FreeEnergy:
    r"""ln Z of the last of several windows from reduced potentials of samples (MBAR).

    Parameters
    ----------
    u_kn : array_like, (n_windows, n)
        Reduced potential in each window of all samples, in the order of the windows they are from.
    n_samples : array_like of int, (n_windows,)
        Samples of each window, independent ones; 0 where there are none.
    inefficiencies : array_like, (n_windows,), optional
        Statistical inefficiencies >= 1 of each window's samples if they are not independent; variances are
        multiplied by them.
    log_z : float
        ln Z of the first window.
    beta : float
        Inverse temperature > 0 by which ln Z is divided to give F.

    Returns
    -------
    FreeEnergy
        Of kind ``"consistent"``, `log_z` that of the last window; with `log_z` and `beta` not given, `value`
        is f_K - f_0. `details`: ``free_energies`` f_k - f_0 and their ``free_energies_stderr``, ``overlap``,
        ``neighbor_overlap``, ``spectral_gap``, ``problem``.

    Warns
    -----
    MbarWarning
        If `converged` is False: if windows overlap by less than 0.03 (of K > 10: 0.3 / K), a window has one
        sample, or none and the Pareto k of the weights that the others' have in it is above 0.7, or if the
        solver failed.

    Raises
    ------
    ModuleNotFoundError
        Without pymbar: install ``vfe_fast[mbar]``.
    TypeError, ValueError
        If an argument is not as described.
    """
    u, n = _potentials(u_kn), np.asarray(n_samples)
    if n.dtype.kind not in "iu":
        raise TypeError(f"n_samples: expected ints, got {n.dtype}")
    if n.shape != u.shape[:1] or (n < 0).any() or n.sum() != u.shape[1] or not (n > 0).any():
        raise ValueError(
            f"n_samples: expected {u.shape[0]} counts that add up to {u.shape[1]}, got {n.shape}, {n.sum()}"
        )
    beta = inverse_temperature(beta)
    if beta == 0:
        raise ValueError("beta: expected beta > 0, got 0")
    log_z = real(log_z, "log_z")
    if not math.isfinite(log_z):
        raise ValueError(f"log_z: expected a finite number, got {log_z:g}")
    g = np.ones(len(n)) if inefficiencies is None else np.asarray(inefficiencies)
    if g.dtype.kind not in "fiu":
        raise TypeError(f"inefficiencies: expected real numbers, got {g.dtype}")
    if g.shape != n.shape or not (np.isfinite(g) & (g >= 1)).all():
        raise ValueError(f"inefficiencies: expected {len(n)} finite numbers >= 1")
    for k, row in enumerate(u):
        if not np.isfinite(row).all():
            raise ValueError(f"u_kn: expected finite numbers, got others in window {k}")
    windows = Windows(n.astype(np.int64), lambda start, stop: u[:, start:stop].astype(np.float64))
    guess = np.zeros(len(n))
    solved = solve(windows, guess)
    first_and = -np.eye(len(n))
    first_and[0] += 1.0
    stderr = np.sqrt(solved.variances(first_and, g))
    log_z -= float(solved.f[-1])
    squares = sum(float(np.square(windows.weights(solved.f, part)[-1]).sum()) for _, part in windows.blocks())
    problem = solved.problem or _unsupported(windows, solved.f)
    return _checked(log_z, float(stderr[-1]), 1 / squares, beta, problem, {
        "free_energies": solved.f, "free_energies_stderr": stderr, "overlap": solved.overlap,
        "neighbor_overlap": solved.neighbors, "spectral_gap": solved.gap,
    })  # fmt: skip


def _unsupported(windows: Windows, f: Array) -> str:
    """What speaks against free energies whose errors the samples do not tell; empty if nothing does."""
    alone = np.flatnonzero(windows.n_samples == 1)
    if len(alone):
        return f"window {alone[0]} has a single sample, which has no spread"
    for k in np.flatnonzero(windows.n_samples == 0):
        log_w = np.concatenate([
            f[k] - u[k] - windows.log_denominators(f, u) for _, u in windows.blocks()
        ])  # fmt: skip
        problem = LogMean.of(log_w).problem(len(log_w))
        if problem:
            return f"window {k} has no samples, and of those of others {problem}"
    return ""


def _potentials(u_kn: Any) -> Array:
    u = np.asarray(u_kn)
    if u.dtype.kind not in "fiu":
        raise TypeError(f"u_kn: expected real numbers, got {u.dtype}")
    if u.ndim != 2 or u.size == 0:
        raise ValueError(f"u_kn: expected (n_windows, n), got {u.shape}")
    return u


def _run(
    model: Any, run: TemperedRun | None, beta: float, betas: Any, options: dict[str, Any]
) -> tuple[TemperedRun, float]:
    """A run whose highest beta is the model's, and ln Z at its lowest, 0, with an Ising model's constant."""
    if not isinstance(model, Windowed):
        raise TypeError(f"model: expected a BernoulliRBM, SpinRBM or Ising, got {type(model).__name__}")
    beta = inverse_temperature(beta)
    if beta == 0:
        raise ValueError("beta: expected beta > 0, got 0")
    constant, last, given = 0.0, beta, run
    if isinstance(model, Ising):
        layers = model.to_spin_rbm(beta=beta)
        model, constant, last = layers.rbm, layers.constant, 1.0
    if run is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TemperingWarning)  # said below
            run = parallel_tempering(model, betas, beta=last, **options)
    elif not isinstance(run, TemperedRun):
        raise TypeError(f"run: expected a TemperedRun, got {type(run).__name__}")
    elif not _same(run.chains.rbm, model):
        raise ValueError("run: expected one of this model")
    elif options["checkpoint"] is not None:
        raise ValueError("checkpoint: expected None beside a run, which has ended")
    if run.betas[0] != 0 or run.betas[-1] != last:
        name = "betas" if given is None else "run"
        raise ValueError(f"{name}: expected temperatures from 0 to {last:g}, got {run.betas[[0, -1]]}")
    return run, (model.n_visible + model.n_hidden) * math.log(2.0) + constant


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and all(map(np.array_equal, one.parameters, other.parameters))


def _of_temperatures(betas: Array, energies: Array) -> Windows:
    """As many samples at each, u_k = β_k E."""
    n_samples = np.full(len(betas), len(energies) // len(betas))
    return Windows(n_samples, lambda start, stop: betas[:, None] * energies[start:stop])


def _integrated(run: TemperedRun) -> Array:
    """f_k by the mean energies, for the solver to start from."""
    means = run.energies.mean(axis=(1, 2))
    return np.concatenate([[0.0], np.cumsum(np.diff(run.betas) * (means[1:] + means[:-1]) / 2)])


def _bennett(forward: Array, backward: Array, guess: float) -> tuple[float, str]:
    """f_1 - f_0 from the works to and fro, by pymbar."""
    with pymbar_quietly() as pymbar, np.errstate(over="ignore"):
        try:
            found = pymbar.bar(forward, backward, DeltaF=guess, compute_uncertainty=False)["Delta_f"]
        except Exception as error:  # of whatever kind; Ctrl-C passes
            return guess, f"the solver of pymbar failed: {error}"
    return (float(found), "") if math.isfinite(found) else (guess, "the solver of pymbar did not converge")


def _free_energy(
    run: TemperedRun, series: Array, log_z: float, beta: float, problem: str, details: dict[str, Any]
) -> FreeEnergy:
    """What the run says, given each sweep's contribution to the error, (n_ladders, n_sweeps)."""
    n_ladders, n_sweeps = series.shape
    g = inefficiency(series)
    variance = float(series.var()) * series.size * g
    of_ladders = series.sum(axis=1)
    between = float(np.square(of_ladders - of_ladders.mean()).sum())  # of n_ladders - 1 degrees of freedom
    problems = [problem] if problem else []
    if run.round_trips < _FEW_TIMES:
        problems.append(f"{run.round_trips} round trips")
    if n_sweeps < _FEW_TIMES * g:
        problems.append(f"a run of {n_sweeps} sweeps is {n_sweeps / g:.1f} statistical inefficiencies long")
    if n_ladders > 1 and between > _chi_square(n_ladders - 1) * variance / n_ladders:
        problems.append("ladders differ by more than their fluctuations explain")
        variance = max(variance, between * n_ladders / (n_ladders - 1))
    return _checked(log_z, math.sqrt(variance), series.size / g, beta, "; ".join(problems), {
        "betas": run.betas, "inefficiency": g, "acceptance": run.acceptance, "round_trips": run.round_trips,
        "round_trip_time": run.round_trip_time, "run": run, **details,
    })  # fmt: skip


def _chi_square(n: int) -> float:
    """What χ² of n degrees of freedom exceeds in 3e-5 of cases (E. Wilson, M. Hilferty, 1931)."""
    part = 2.0 / (9.0 * n)
    return float(n * (1.0 - part + 4.0 * math.sqrt(part)) ** 3)


def _checked(
    log_z: float, stderr: float, ess: float, beta: float, problem: str, details: dict[str, Any]
) -> FreeEnergy:
    if problem:
        warn(f"ln Z is not reliable: {problem}; try more windows, or more samples", MbarWarning)
    return FreeEnergy(
        value=-log_z / beta,
        log_z=log_z,
        stderr=stderr,
        kind="consistent",
        ess=ess,
        converged=not problem,
        beta=beta,
        details={**details, "problem": problem},
    )
