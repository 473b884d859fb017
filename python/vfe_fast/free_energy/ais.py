"""Annealed importance sampling of RBMs, from the base to the model and back."""

from __future__ import annotations

import math
import os
import time
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .. import _core
from ..arguments import count, threads
from ..arrays import Array, borrow
from ..models import BernoulliRBM, Ising, SpinRBM
from ..random import generator, seed
from .annealing import Chains, Path, Run, Target, anneal
from .log_weights import LogMean, estimate
from .ranges import check_how
from .result import FreeEnergy, Kind
from .samples import exact_samples
from .seen import log_z_seen, missed

__all__ = ["AisSandwich", "ais", "ais_sandwich", "reverse_ais"]

_PILOT_CHAINS = 64
_LEAST_SPEED = 0.1  # of the average: no step is more than ten times as long as an even one
_LEAST_BETA = 2.0**-40
_EXACT_UNITS = 20  # of the smaller layer, up to which reverse_ais draws exact samples
_PILOTS, _REVERSED, _BURN_IN, _UPWARDS = 0, 1, 2, 4  # what keys are derived for; `seen` has 3
_LEAST_UPWARDS = 25  # chains, or a quarter, that a way back is held against
_MOST_ERRORS, _CLOSE = 4.0, 0.1  # that it may be above them, and nats

Betas = npt.ArrayLike | Literal["adaptive"] | None


def ais(
    model: BernoulliRBM | SpinRBM | Ising,
    n_temperatures: int = 5000,
    n_chains: int = 400,
    *,
    betas: Betas = None,
    base: Any = None,
    data: Any = None,
    beta: float = 1.0,
    rng: Any = None,
    num_threads: int | None = None,
    executor: Executor | None = None,
    progress: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
) -> FreeEnergy:
    r"""Estimate ln Z by annealed importance sampling from independent units to the model.

    Chains start from the base and pass the laws

    .. math:: f_s(v) = e^{(1-s) \, a_0 \cdot v} \, e^{s \beta a \cdot v}
              \prod_j \left(1 + e^{s \beta (b_j + (v W)_j)}\right), \qquad 0 = s_0 < s_1 < \dots < s_K = 1,

    with one Gibbs step at each of :math:`s_1, \dots, s_{K-1}`. Their weights are Z / Z_0 in expectation,

    .. math:: \ln w = \sum_{k=0}^{K-1} \ln f_{s_{k+1}}(v_k) - \ln f_{s_k}(v_k), \qquad
              \ln Z \approx \ln Z_0 + \ln \frac1n \sum w .

    Parameters
    ----------
    model : BernoulliRBM, SpinRBM or Ising
        The model; an Ising one as the machine of two layers that `Ising.to_spin_rbm` has.
    n_temperatures : int
        Laws from the base to the model, both included: K + 1 >= 2. Not used if `betas` is an array.
    n_chains : int
        Independent chains, >= 2.
    betas : array_like, (K + 1,), or "adaptive", optional
        The s: increasing from 0 to 1; at even distances if not given. With "adaptive" they are placed by 64
        pilot chains, which are not used again, so that the increments' standard deviations are about equal.
    base : array_like, (n_visible,) or (n_spins,), optional
        Biases a_0 of the base, p_0 ∝ exp(a_0.v), below 2^40 (2^12 for a float32 model); those of the model,
        times beta, if not given.
    data : array_like, (n_samples, n_visible) or (n_samples, n_spins), optional
        States: a_0 gives the base their means, shrunk towards the middle by one count.
    beta : float
        Inverse temperature, 0 or >= 2^-100.
    rng : int, numpy.random.Generator, numpy.random.SeedSequence or None
        See `vfe_fast.random.seed`.
    num_threads : int, optional
        Threads to use; the result does not depend on it.
    executor : concurrent.futures.Executor, optional
        Moves the parts that the chains are cut in, of at most 64; a worker uses one thread. The result does
        not depend on it. Should it break, the rest is done in this process.
    progress : bool
        Show the temperatures done.
    checkpoint : path_like, optional
        File that keeps where the chains are, written two seconds after the last time and when the run ends
        or is interrupted. A run with the same arguments, an int for `rng` among them, continues from it and
        gives the same bits.

    Returns
    -------
    FreeEnergy
        Of kind ``"consistent"``: in expectation `log_z` is below ln Z and `value` above F. `stderr` is that
        of the jackknife over chains, times 1 + κ / (6n) for weights of kurtosis κ (3 for a normal law), `ess`
        that of their weights. `converged` is False, with a `WeightsWarning`, if the weights' Pareto k is
        above 0.7, if there are fewer than ten chains, or if `log_z` is four errors below a bound by the
        states that 64 Gibbs chains of 100 steps pass, half of them from fair coins. `details`:

        - ``log_weights`` (n_chains,), ``betas``, ``base_log_z``, ``pareto_k``, ``seconds``;
        - ``visible`` (n_chains, n_visible): where the chains ended; with the weights, samples of the model
          (of an Ising one that has two sublattices, of the first);
        - ``path_sampling``, ``path_sampling_stderr``: ln Z by thermodynamic integration over the same chains,
          Σ_k ⟨Δ_k⟩ + Var Δ_k / 2 for the increments Δ_k: right to second order in the distances, for
          chains in equilibrium. Far from `log_z`, chains lag behind;
        - ``increment_mean``, ``increment_variance`` (K,): of Δ_k over the chains;
        - ``log_z_seen``: that bound, ln Z of the different states of the smaller layer that were passed.

    Warns
    -----
    WeightsWarning
        If `converged` is False.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or `checkpoint` belongs to something else.

    Notes
    -----
    R. Neal, Statistics and Computing 11 (2001) 125; R. Salakhutdinov and I. Murray, "On the quantitative
    analysis of deep belief networks", ICML 2008, equations 15 to 18; path sampling: A. Gelman and X.-L. Meng,
    Statistical Science 13 (1998) 163; errors: P. Hall,
    Annals of Statistics 16 (1988) 927; A. Owen, arXiv:2501.07645 (2025).
    """
    begin = time.perf_counter()
    target, path = _path(model, beta, base, data)
    n_chains = count(n_chains, "n_chains", 2, below=1 << 32)
    how = _how(num_threads, executor, progress, checkpoint)
    key = seed(rng)
    schedule = _schedule(path, betas, n_temperatures, key, how["num_threads"])
    chains = anneal(Run(path, schedule, key), n_chains, **how)
    mean = LogMean.of(chains.log_weights)
    log_z = path.base_log_z + target.log_shift + mean.value
    heaviest = chains.visible[np.argsort(chains.log_weights)[::-1]]
    seen = _seen(target, heaviest, key, how["num_threads"])
    problem = mean.problem(n_chains) or missed(log_z, mean.stderr, seen)
    details = _details(target, path, schedule, chains, begin, 1.0) | {"log_z_seen": seen}
    return estimate(mean, log_z, problem, target.beta, _ADVICE, details)


def reverse_ais(
    model: BernoulliRBM | SpinRBM | Ising,
    samples: Any = None,
    n_temperatures: int = 5000,
    n_chains: int = 400,
    *,
    forward: FreeEnergy | None = None,
    n_burn_in: int = 1000,
    betas: Betas = None,
    base: Any = None,
    data: Any = None,
    beta: float = 1.0,
    rng: Any = None,
    num_threads: int | None = None,
    executor: Executor | None = None,
    progress: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
) -> FreeEnergy:
    r"""Estimate ln Z by annealed importance sampling from the model to independent units.

    The chains of `ais` backwards, s = 1 to 0: they start from samples of the model, and their weights are
    Z_0 / Z in expectation, so :math:`\ln Z \approx \ln Z_0 - \ln \frac1n \sum w`.

    Parameters
    ----------
    model : BernoulliRBM, SpinRBM or Ising
        The model; an Ising one as the machine of two layers that `Ising.to_spin_rbm` has.
    samples : array_like, (n_chains, n_visible) or (n_chains, n_spins), optional
        Independent samples of the model's visible units or spins to start from, one a chain. If not given:
        exact ones where the smaller layer has at most 20 units, else the ends of Gibbs chains.
    n_temperatures : int
        As in `ais`.
    n_chains : int
        Chains, >= 2; as many as `samples` if those are given.
    forward : FreeEnergy, optional
        Of the same model by `ais`, to hold the estimate against; if not given, a quarter as many chains (at
        least 25) are moved upwards for that.
    n_burn_in : int
        Steps of the Gibbs chains that make the samples where they cannot be exact: half of them warming from
        the base to the model, half at the model, >= 2.
    betas : array_like, (K + 1,), or "adaptive", optional
        As in `ais`, increasing.
    base, data : array_like, optional
        As in `ais`.
    beta : float
        Inverse temperature, 0 or >= 2^-100.
    rng : int, numpy.random.Generator, numpy.random.SeedSequence or None
        See `vfe_fast.random.seed`; the chains are independent of those of `ais` with the same seed.
    num_threads : int, optional
        Threads to use; the result does not depend on it.
    executor, progress, checkpoint : optional
        As in `ais`.

    Returns
    -------
    FreeEnergy
        In expectation `log_z` is above ln Z and `value` below F, if the samples are exact: kind
        ``"consistent"``. From Gibbs chains (``details["start"]`` says so) it is as good as they are: kind
        ``"asymptotic"``. Else as from `ais`, but that increments are those of the way down, in its order,
        ``visible`` is where chains are one step before the base, and `converged` is False also if `log_z` is
        above that of the way up by more than 0.1 and four errors of the difference, ``gap`` (the way up has
        none if it is not reliable).

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or `checkpoint` belongs to something else.

    Notes
    -----
    R. Grosse, Z. Ghahramani, R. Adams, "Sandwiching the marginal likelihood using bidirectional Monte Carlo"
    (2015); Y. Burda, R. Grosse, R. Salakhutdinov, "Accurate and conservative estimates of MRF log-likelihood
    using reverse annealing" (2015). A block Gibbs step is its own reverse.
    """
    begin = time.perf_counter()
    target, path = _path(model, beta, base, data)
    n_burn_in = count(n_burn_in, "n_burn_in", 2)
    if not (forward is None or isinstance(forward, FreeEnergy)):
        raise TypeError(f"forward: expected a FreeEnergy, got {type(forward).__name__}")
    if forward is not None and forward.beta != target.beta:
        raise ValueError(f"forward: expected one at beta = {target.beta:g}, got {forward.beta:g}")
    how = _how(num_threads, executor, progress, checkpoint)
    key = seed(rng)
    if samples is not None:
        bits, start = target.bits(samples, "samples"), "given"
        if len(bits) < 2:
            raise ValueError("samples: expected n_chains >= 2, got 1")
    else:
        n_chains = count(n_chains, "n_chains", 2, below=1 << 32)
    schedule = _schedule(path, betas, n_temperatures, key, how["num_threads"])
    quietly = how | {"progress": False, "checkpoint": None}
    if samples is None and min(path.rbm.weights.shape) <= _EXACT_UNITS:
        bits, start = exact_samples(path.rbm, n_chains, rng=_derived(key, _BURN_IN))[0], "exact"
    elif samples is None:
        bits, start = _burnt_in(path, n_chains, n_burn_in, _derived(key, _BURN_IN), quietly), "gibbs"
    words = _core.pack_states(bits, path.rbm.n_visible, "samples")
    run = Run(path, schedule[::-1].copy(), _derived(key, _REVERSED))
    chains = anneal(run, len(words), start=words, **how)
    mean = LogMean.of(chains.log_weights)
    log_z = path.base_log_z + target.log_shift - mean.value
    seen = _seen(target, words, run.key, how["num_threads"])
    if forward is None:
        n_upwards = max(_LEAST_UPWARDS, len(words) // 4)
        upwards = anneal(Run(path, schedule, _derived(key, _UPWARDS)), n_upwards, **quietly)
        up = LogMean.of(upwards.log_weights)
        gap = log_z - (path.base_log_z + target.log_shift + up.value)
        excuse = 0.0 if up.problem(n_upwards) else up.stderr
    else:
        gap, excuse = log_z - forward.log_z, forward.stderr if forward.converged else 0.0
    error = math.hypot(mean.stderr, excuse)
    problem = mean.problem(len(words)) or missed(log_z, mean.stderr, seen)
    if not problem and gap > max(_CLOSE, _MOST_ERRORS * error):
        problem = f"chains upwards give a ln Z that is lower by {gap:.2g} ± {error:.2g}"
    details = _details(target, path, schedule, chains, begin, -1.0)
    details |= {"start": start, "log_z_seen": seen, "gap": gap}
    found = estimate(mean, log_z, problem, target.beta, _ADVICE, details)
    return found if start != "gibbs" else replace(found, kind="asymptotic")


@dataclass(frozen=True, eq=False)
class AisSandwich:
    """ln Z from both ends of a path.

    Attributes
    ----------
    forward : FreeEnergy
        From `ais`: in expectation its ln Z is too low.
    reverse : FreeEnergy
        From `reverse_ais`: in expectation its ln Z is too high, if it started from exact samples.
    """

    forward: FreeEnergy
    reverse: FreeEnergy

    def __post_init__(self) -> None:
        if self.forward.beta != self.reverse.beta:
            raise ValueError(
                f"reverse: expected one at beta = {self.forward.beta:g}, got one at {self.reverse.beta:g}"
            )

    @property
    def gap(self) -> float:
        """ln Z from `reverse` minus that from `forward`: >= 0 in expectation, and 0 in the limit."""
        return self.reverse.log_z - self.forward.log_z

    @property
    def gap_stderr(self) -> float:
        """Standard error of `gap`."""
        return math.hypot(self.forward.stderr, self.reverse.stderr)

    @property
    def bounds(self) -> tuple[FreeEnergy, FreeEnergy]:
        r"""F from above and from below, by means of ln w.

        By Jensen's inequality :math:`\langle \ln w \rangle \le \ln \langle w \rangle`: in expectation they
        are bounds however few the chains, with errors of plain means, which have no heavy tails. Finer
        schedules close them, more chains do not: R. Grosse, Z. Ghahramani, R. Adams, "Sandwiching the
        marginal likelihood using bidirectional Monte Carlo" (2015).

        Returns
        -------
        tuple of FreeEnergy
            That of `forward`, of the kind "upper_bound" (a lower bound of ln Z); that of `reverse`, of the
            kind "lower_bound", or "asymptotic" if it started from Gibbs chains. Samples that were given are
            taken for exact.
        """
        return bound_of_mean(self.forward), bound_of_mean(self.reverse, reverse=True)

    @property
    def converged(self) -> bool:
        """Whether both ends are reliable and the gap is no larger than three errors allow, or 0.1 nat."""
        both = self.forward.converged and self.reverse.converged
        return both and abs(self.gap) <= max(3.0 * self.gap_stderr, 0.1)

    def __str__(self) -> str:
        warning = "" if self.converged else ", not converged"
        return (
            f"ln Z: {self.forward.log_z:.10g} ± {self.forward.stderr:.2g} (forward), "
            f"{self.reverse.log_z:.10g} ± {self.reverse.stderr:.2g} (reverse), "
            f"gap {self.gap:.2g} ± {self.gap_stderr:.2g}{warning}"
        )


def ais_sandwich(
    model: BernoulliRBM | SpinRBM | Ising,
    n_temperatures: int = 5000,
    n_chains: int = 400,
    *,
    samples: Any = None,
    n_burn_in: int = 1000,
    betas: Betas = None,
    base: Any = None,
    data: Any = None,
    beta: float = 1.0,
    rng: Any = None,
    num_threads: int | None = None,
    executor: Executor | None = None,
    progress: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
) -> AisSandwich:
    """Estimate ln Z from below and from above: `ais` and `reverse_ais` on one schedule.

    Parameters
    ----------
    model : BernoulliRBM, SpinRBM or Ising
        The model; an Ising one as the machine of two layers that `Ising.to_spin_rbm` has.
    n_temperatures, n_chains : int
        As in `ais`; backwards there are as many chains as `samples`, if those are given.
    samples, n_burn_in : optional
        As in `reverse_ais`.
    betas, base, data : optional
        As in `ais`.
    beta : float
        Inverse temperature, 0 or >= 2^-100.
    rng : int, numpy.random.Generator, numpy.random.SeedSequence or None
        See `vfe_fast.random.seed`.
    num_threads : int, optional
        Threads to use; the result does not depend on it.
    executor, progress : optional
        As in `ais`.
    checkpoint : path_like, optional
        As in `ais`, of the way up; that of the way back is beside it, ``run.reverse.npz`` of ``run.npz``.

    Returns
    -------
    AisSandwich
        Both free energies and their gap.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.
    """
    key = seed(rng)
    shared: dict[str, Any] = {
        "n_temperatures": n_temperatures, "n_chains": n_chains, "base": base, "data": data, "beta": beta,
        "rng": key, "num_threads": num_threads, "executor": executor, "progress": progress,
    }  # fmt: skip
    forward = ais(model, betas=betas, checkpoint=checkpoint, **shared)
    shared["betas"] = forward.details["betas"]
    if checkpoint is not None:
        file = FilePath(checkpoint)
        shared["checkpoint"] = file.with_name(f"{file.stem}.reverse{file.suffix}")
    return AisSandwich(forward, reverse_ais(model, samples, forward=forward, n_burn_in=n_burn_in, **shared))


def bound_of_mean(end: FreeEnergy, *, reverse: bool = False) -> FreeEnergy:
    """What the mean of ln w says of F, see `AisSandwich.bounds`."""
    log_weights = end.details["log_weights"]
    n = len(log_weights)
    kind: Kind = "upper_bound"
    if reverse:
        kind = "lower_bound" if end.kind == "consistent" else "asymptotic"
    log_z = end.details["base_log_z"] + (-1.0 if reverse else 1.0) * float(log_weights.mean())
    return FreeEnergy(
        value=-log_z / end.beta if end.beta > 0 else -math.inf,
        log_z=log_z,
        stderr=float(log_weights.std(ddof=1)) / math.sqrt(n),
        kind=kind,
        ess=float(n),
        converged=end.converged,
        beta=end.beta,
        details={"problem": end.problem},
    )


_ADVICE = "more temperatures, or a base closer to the model, would help"


def _path(model: Any, beta: Any, base: Any, data: Any) -> tuple[Target, Path]:
    target = Target.of(model, beta)
    return target, Path(target.rbm, target.base(base, data))


def _how(num_threads: Any, executor: Any, progress: Any, checkpoint: Any) -> dict[str, Any]:
    check_how(executor, progress, checkpoint)
    return {
        "num_threads": threads(num_threads), "executor": executor, "progress": bool(progress),
        "checkpoint": checkpoint,
    }  # fmt: skip


def _derived(key: int, index: int) -> int:
    """A key of its own for each thing that is drawn besides the forward chains."""
    return int(generator(key, "annealing", index).integers(0, 1 << 64, dtype=np.uint64))


def _schedule(path: Path, betas: Betas, n_temperatures: int, key: int, num_threads: int) -> Array:
    """The values of s, increasing."""
    if betas is None or isinstance(betas, str):
        n = count(n_temperatures, "n_temperatures", 2, below=1 << 31)
        if betas is None:
            return np.linspace(0.0, 1.0, n)
        if betas != "adaptive":
            raise ValueError(f"betas: expected 'adaptive' or numbers, got {betas!r}")
        return _adapted(path, n, _derived(key, _PILOTS), num_threads)
    array, _ = borrow(betas, "betas")
    if array.dtype.kind not in "fiu":
        raise TypeError(f"betas: expected numbers, got {array.dtype}")
    if array.ndim != 1 or len(array) < 2:
        raise ValueError(f"betas: expected (n_temperatures,) >= 2 numbers, got {array.shape}")
    schedule: Array = array.astype(np.float64)
    if not (schedule[0] == 0.0 and schedule[-1] == 1.0 and np.all(np.diff(schedule) > 0)):
        raise ValueError("betas: expected numbers that increase from 0 to 1")
    if schedule[1] < _LEAST_BETA:
        raise ValueError(f"betas: expected the second >= 2^-40, got {schedule[1]:g}")
    return schedule


def _adapted(path: Path, n: int, key: int, num_threads: int) -> Array:
    """Distances inversely proportional to the pilots' standard deviation of d ln f_s / ds."""
    pilots = np.linspace(0.0, 1.0, min(max(n // 5, 20), 1000) + 1)
    chains = anneal(Run(path, pilots, key), _PILOT_CHAINS, num_threads=num_threads)
    speed = np.sqrt(chains.moments[:, 1])
    if not speed.any():
        return np.linspace(0.0, 1.0, n)
    length = np.concatenate(([0.0], np.cumsum(np.maximum(speed, _LEAST_SPEED * speed.mean()))))
    schedule: Array = np.interp(np.linspace(0.0, length[-1], n), length, pilots)
    schedule[0], schedule[-1] = 0.0, 1.0
    return schedule


def _burnt_in(path: Path, n_chains: int, n_steps: int, key: int, how: dict[str, Any]) -> Array:
    """Visible states of Gibbs chains, warmed from the base to the model."""
    warming = n_steps // 2
    run = Run(path, np.linspace(0.0, 1.0, warming + 1), key)
    visible = anneal(run, n_chains, **how).visible
    rest = n_steps - warming + 1
    visible = path.move(1.0, visible, key, 0, warming, how["num_threads"], n_steps=rest)
    return _core.unpack_states(visible, path.rbm.n_visible)


def _seen(target: Target, words: Array, key: int, num_threads: int) -> float:
    """Lower bound of the model's ln Z by the states that chains from these, and from fair coins, pass."""
    bits = _core.unpack_states(words, target.rbm.n_visible)
    return target.log_shift + log_z_seen(target.rbm, bits, key, num_threads)


def _details(
    target: Target, path: Path, schedule: Array, chains: Chains, begin: float, sign: float
) -> dict[str, Any]:
    n = len(chains.log_weights)
    mean, squares = chains.moments.T
    variance = squares / (n - 1)
    base_log_z = path.base_log_z + target.log_shift
    integral = sign * (float(chains.log_weights.mean()) + 0.5 * float(variance.sum()))
    return {
        "log_weights": chains.log_weights,
        "betas": schedule,
        "base_log_z": base_log_z,
        "path_sampling": base_log_z + integral,
        "path_sampling_stderr": float(chains.log_weights.std(ddof=1)) / math.sqrt(n),
        "increment_mean": mean,
        "increment_variance": variance,
        "visible": target.states(_core.unpack_states(chains.visible, path.rbm.n_visible)),
        "seconds": time.perf_counter() - begin,
    }
