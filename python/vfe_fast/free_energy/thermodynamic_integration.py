r"""ln Z as an integral over temperatures of the mean energy.

.. math:: \ln Z(\beta) = \ln Z(0) - \int_0^\beta \langle E \rangle_{\beta'} \, d\beta'

since -∂ ln Z / ∂β = ⟨E⟩ (C. Martin, "Free Energies and Variational Inference", 2017: the free energy
generates thermodynamic relations; J. Kirkwood, J. Chem. Phys. 3 (1935) 300).
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np

from ..arguments import count, inverse_temperature, memory_for, threads
from ..arrays import Array
from ..models import BernoulliRBM, Ising, SpinRBM
from ..random import seed
from ..sampling import GibbsChains
from ..warned import warn
from .annealing import Target
from .kronrod import GAUSS_WEIGHTS, POINTS, WEIGHTS
from .result import FreeEnergy, FreeEnergyWarning
from .seen import log_z_seen, missed

__all__ = ["IntegrationWarning", "thermodynamic_integration"]

Integrated: TypeAlias = BernoulliRBM | SpinRBM | Ising
Machine: TypeAlias = BernoulliRBM | SpinRBM

_MOST_ERRORS = 5.0  # by which averages that should agree may differ
_FEW_TIMES = 10.0  # statistical inefficiencies in a run; a fourth of its steps if it has less than forty
#: What a polynomial through numbers at POINTS is at -1: Lagrange's factors.
_AT_START = np.array([
    np.prod((-1.0 - np.delete(POINTS, i)) / (x - np.delete(POINTS, i))) for i, x in enumerate(POINTS)
])  # fmt: skip


class IntegrationWarning(FreeEnergyWarning):
    """Thermodynamic integration whose chains or whose points do not seem to be enough."""


def thermodynamic_integration(
    model: Integrated,
    *,
    beta: float = 1.0,
    n_chains: int = 100,
    n_steps: int = 200,
    n_warmup: int | None = None,
    n_panels: int = 1,
    rng: Any = None,
    num_threads: int | None = None,
) -> FreeEnergy:
    r"""ln Z by integrating the mean energy of Gibbs chains at many temperatures.

    The integral is cut in panels of 15 temperatures each (Gauss and Kronrod); all chains of all temperatures
    move together. Chains are independent, so the spread of their time averages gives the standard error
    whatever their autocorrelation.

    Parameters
    ----------
    model : BernoulliRBM, SpinRBM or Ising
        The model. Of an Ising model the machine ``model.to_spin_rbm(beta=beta).rbm`` is sampled, from 0 to 1.
    beta : float
        Inverse temperature, > 0.
    n_chains : int
        Chains at each temperature, >= 4: two that have been cold, two that have not.
    n_steps : int
        Steps over which the energy is averaged, >= 2.
    n_warmup : int, optional
        Steps before, twice, in which the chains forget where they started; half of `n_steps` if not given.
    n_panels : int
        Panels of 15 temperatures.
    rng : int, numpy.random.Generator, numpy.random.SeedSequence or None
        See `vfe_fast.random.seed`.
    num_threads : int, optional
        Threads to use; the result does not depend on it.

    Returns
    -------
    FreeEnergy
        Of kind ``"consistent"``. `ess` is how many independent energies would have the standard error of the
        mean, at the temperature where that is fewest; at most ``n_chains * n_steps``, as where energies are
        all the same. `converged` is False if at some temperature the two halves of the run, or
        the chains that have been at the lowest temperature before (every second one) and those that have not,
        differ by more than five standard errors, if the two rules of integration differ by more than three
        standard errors and 1e-3, or the energy at β = 0, which is known, from where the rule's polynomial has
        it (times the weight of the lowest temperature), if `log_z` is below the bound ``log_z_seen``, see
        `ais`, or if at some temperature the run is shorter than ten times the statistical inefficiency, or
        than a fourth of its steps, if that is less: chains that remember their start. `details`:
        ``log_z_seen``, the temperatures ``betas``, ``energies`` and their ``energies_stderr``
        there (of an Ising model, those of the machine), ``quadrature``, the difference of ln Z by the two
        rules, much larger than the error of the better one, ``start``, what the energy at β = 0 says, and
        ``drift`` and ``memory``, the largest of those differences in standard errors, and ``length``, the
        shortest run in statistical inefficiencies.

    Warns
    -----
    IntegrationWarning
        If `converged` is False.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Examples
    --------
    >>> from vfe_fast import BernoulliRBM
    >>> rbm = BernoulliRBM([[0.2, -0.1], [0.3, 0.1]], [0.1, -0.2], [0.3, 0.2])
    >>> F = thermodynamic_integration(rbm, rng=0)
    >>> from vfe_fast.free_energy import exact
    >>> bool(abs(F.log_z - exact(rbm).log_z) < 4 * F.stderr)
    True
    """
    if not isinstance(model, Integrated):
        raise TypeError(f"model: expected a BernoulliRBM, SpinRBM or Ising, got {type(model).__name__}")
    beta = inverse_temperature(beta)
    if beta == 0:
        raise ValueError("beta: expected beta > 0, got 0")
    n_chains = count(n_chains, "n_chains", 4)
    n_steps = count(n_steps, "n_steps", 2)
    n_warmup = n_steps // 2 if n_warmup is None else count(n_warmup, "n_warmup", 0)
    machine: Machine
    if isinstance(model, Ising):
        layers = model.to_spin_rbm(beta=beta)
        machine, constant, last = layers.rbm, layers.constant, 1.0
    else:
        machine, constant, last = model, 0.0, beta
    betas, weights, gauss_weights = _panels(last, count(n_panels, "n_panels", below=1 << 20))
    with memory_for("n_chains", n_chains * len(betas)):
        key = seed(rng)
        about, halves, spread, cold = _mean_energies(
            machine, betas, n_chains, n_steps, n_warmup, key, num_threads
        )
    of_chains = halves.mean(axis=0)  # (n_betas, n_chains)
    energies = about + of_chains.mean(axis=1)
    stderr = of_chains.std(axis=1, ddof=1) / math.sqrt(n_chains)
    log_z_0 = (machine.n_visible + machine.n_hidden) * math.log(2.0) + constant
    log_z = log_z_0 - float(weights @ energies)
    quadrature = float((gauss_weights - weights) @ energies)
    total = float(np.sqrt(weights**2 @ stderr**2))
    drift = _largest_in_errors(halves[1] - halves[0])
    pairs = of_chains[:, : n_chains // 2 * 2].reshape(len(betas), -1, 2)
    memory = _largest_in_errors(pairs[..., 1] - pairs[..., 0])
    length = _shortest(spread, stderr, n_chains)
    start = float(weights[0] * (_AT_START @ energies[: len(POINTS)] - _energy_of_coins(machine)))
    agree = max(drift, memory) <= _MOST_ERRORS and max(abs(quadrature), abs(start)) <= max(1e-3, 3 * total)
    problem = ""
    if not agree:
        problem = (
            f"chains drift by {drift:.1f} standard errors within the run, those that have been cold differ "
            f"from others by {memory:.1f}, rules of integration by {abs(quadrature):.2g} in ln Z, and what "
            f"they make of the known energy at beta 0 by {abs(start):.2g}"
        )
    target = Target.of(machine, last)
    seen = log_z_seen(target.rbm, target.bits(cold, "cold"), key, threads(num_threads))
    seen += target.log_shift + constant
    problem = problem or missed(log_z, total, seen)
    if not problem and length < min(_FEW_TIMES, n_steps / 4):
        problem = f"a run of {n_steps} steps is {length:.1f} statistical inefficiencies long"
    if problem:
        advice = "more n_warmup, n_steps or n_panels are needed"
        warn(f"{problem}: {advice}", IntegrationWarning)
    return FreeEnergy(
        value=-log_z / beta,
        log_z=log_z,
        stderr=total,
        kind="consistent",
        ess=n_chains * min(length, float(n_steps)),
        converged=not problem,
        beta=beta,
        details={
            "betas": betas,
            "energies": energies,
            "energies_stderr": stderr,
            "quadrature": quadrature,
            "start": start,
            "drift": drift,
            "memory": memory,
            "length": length,
            "log_z_seen": seen,
            "problem": problem,
        },
    )


def _shortest(spread: Array, stderr: Array, n_chains: int) -> float:
    """Run in statistical inefficiencies, of the temperatures where energies are not all the same."""
    moved = stderr > 0
    return float(np.min((spread[moved] / stderr[moved]) ** 2 / n_chains, initial=np.inf))


def _largest_in_errors(differences: Array) -> float:
    """Of the means over the last axis, whose numbers are independent."""
    n = differences.shape[-1]
    spread = differences.std(axis=-1, ddof=1) / math.sqrt(n) if n > 1 else np.full(len(differences), np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.nan_to_num(np.abs(differences.mean(axis=-1)) / spread).max())


def _energy_of_coins(model: Machine) -> float:
    """⟨E⟩ at β = 0."""
    mean = 0.0 if isinstance(model, SpinRBM) else 0.5
    weights, a, b = (float(p.sum(dtype=np.float64)) for p in model.parameters)
    return -mean * (mean * weights + a + b)


def _panels(beta: float, n_panels: int) -> tuple[Array, Array, Array]:
    """Temperatures from 0 to beta, and the weights of both rules."""
    width = beta / n_panels
    starts = width * np.arange(n_panels)
    betas = (starts[:, None] + width * (1.0 + POINTS) / 2).ravel()
    return betas, np.tile(WEIGHTS * width / 2, n_panels), np.tile(GAUSS_WEIGHTS * width / 2, n_panels)


def _mean_energies(
    model: Machine, betas: Array, n_chains: int, n_steps: int, n_warmup: int, key: int,
    num_threads: int | None,
) -> tuple[Array, Array, Array, Array]:  # fmt: skip
    """An energy, (n_betas,); averages of each chain above it, of halves; spread; cold states.

    Averages are (2, n_betas, n_chains), and exactly 0 where chains are frozen: rounding would pass for
    fluctuations. The spread is the standard deviation of all energies, (n_betas,).
    Every second chain has been at the lowest temperature before: what it found there, others may have missed.
    """
    wide = type(model)(*(p.astype(np.float64) for p in model.parameters))
    chains = GibbsChains(model, n_chains * len(betas), rng=key, num_threads=num_threads)
    of_chains = np.repeat(betas, n_chains)
    if n_warmup:
        cold_first = np.where(np.arange(len(of_chains)) % 2 == 1, betas.max(), of_chains)
        chains.step(n_warmup, beta=cold_first)
        chains.step(n_warmup, beta=of_chains)
    sums, counts = np.zeros((2, len(betas), n_chains)), np.zeros((2, 1, 1))
    moments = np.zeros((2, len(betas)))
    for step in range(n_steps):
        chains.step(1, beta=of_chains)
        half = 2 * step // n_steps
        energies = wide.energy(chains.visible, chains.hidden, num_threads=num_threads)
        of_betas = energies.reshape(len(betas), n_chains)
        if step == 0:
            about = of_betas[:, :1].copy()
        above = of_betas - about
        sums[half] += above
        counts[half] += 1
        moments += np.mean([above, np.square(above)], axis=2) / n_steps
    spread = np.sqrt(np.maximum(moments[1] - np.square(moments[0]), 0.0))
    return about[:, 0], sums / counts, spread, chains.visible[of_chains == betas.max()]
