r"""Chains that are moved along a path from a law of independent units to an RBM, and their weights.

.. math:: f_s(v) = e^{a_0 \cdot v} \, e^{s c \cdot v} \prod_j (1 + e^{s x_j(v)}), \qquad c = a - a_0

goes from the base (s = 0) to the machine with its hidden units summed out (s = 1): R. Salakhutdinov and
I. Murray, "On the quantitative analysis of deep belief networks" (2008), equations 15 to 18. A Gibbs step
at s is that of the machine at the inverse temperature s with visible biases c + a_0 / s.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import math
import os
import time
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import _core
from ..arguments import inverse_temperature
from ..arrays import Array, borrow
from ..bar import Bar
from ..files import kept, read_checkpoint, write_arrays
from ..models import BernoulliRBM, Ising, SpinRBM
from ..models.bernoulli_rbm import as_states
from ..models.ising import as_spins
from ..models.spin_layers import SpinLayers
from ..warned import warn

__all__ = ["Chains", "Path", "Run", "Target", "anneal"]

_MOST_CHAINS = 64  # of a part, which is one worker's
_PIECE = 1 << 20  # increments of a kernel call, 8 MB
_SEGMENT_SECONDS = 0.25  # between two looks at progress and checkpoint
_FORMAT, _FORMAT_VERSION = "vfe_fast.annealing", "1"


@dataclass(frozen=True, eq=False)
class Target:
    """A model as an RBM of units 0/1 at the inverse temperature 1, which is how all of this knows it.

    Attributes
    ----------
    rbm : BernoulliRBM
        With the parameters times beta.
    log_shift : float
        ln Z of the model minus ln Z of `rbm`.
    spins : bool
        Whether the model's units are ±1.
    beta : float
        The model's inverse temperature.
    biases : ndarray, (n_visible,)
        The law of its visible units without couplings, in log-odds. Those of `rbm` are other ones for spins:
        they take back what couplings to 0s and 1s are off by, so they have signs that the model has not.
    layers : SpinLayers or None
        The machine that an Ising model is read as.
    """

    rbm: BernoulliRBM
    log_shift: float
    spins: bool
    beta: float
    biases: Array
    layers: SpinLayers | None

    @classmethod
    def of(cls, model: Any, beta: Any) -> Target:
        """Check a model and its temperature."""
        if not isinstance(model, (BernoulliRBM, SpinRBM, Ising)):
            raise TypeError(f"model: expected a BernoulliRBM, SpinRBM or Ising, got {type(model).__name__}")
        beta = inverse_temperature(beta)
        at, shift, layers = beta, 0.0, None
        machine: BernoulliRBM | SpinRBM
        if isinstance(model, Ising):
            layers = model.to_spin_rbm(beta=beta)
            machine, at, shift = layers.rbm, 1.0, layers.constant
        else:
            machine = model
        spins = isinstance(machine, SpinRBM)
        rbm, constant = (
            (machine.bits, machine.to_bernoulli()[1]) if isinstance(machine, SpinRBM) else (machine, 0.0)
        )
        if at != 1.0:
            rbm = BernoulliRBM(*((at * p.astype(np.float64)).astype(rbm.dtype) for p in rbm.parameters))
        biases = (2.0 if spins else 1.0) * at * machine.visible_bias.astype(np.float64)
        return cls(rbm, shift - at * constant, spins, beta, biases, layers)

    @property
    def n_units(self) -> int:
        """Units that the caller knows: visible ones, or spins of an Ising model."""
        return self.rbm.n_visible if self.layers is None else len(self.layers.order)

    def visible(self, of_units: Array) -> Array:
        """What is given of those units, (..., n_units), of the visible ones."""
        return of_units if self.layers is None else self.layers.visible(of_units)

    def bits(self, states: Any, name: str) -> Array:
        """Visible states of the model, checked, as 0s and 1s."""
        if self.spins:
            up = as_spins(borrow(states, name)[0], self.n_units, name) > 0
            bits: Array = self.visible(up).astype(np.uint8)
        else:
            bits = as_states(states, name)
        if bits.shape[1] != self.rbm.n_visible:
            raise ValueError(f"{name}: expected (n_samples, {self.rbm.n_visible}), got {bits.shape}")
        if len(bits) == 0:
            raise ValueError(f"{name}: expected n_samples >= 1, got 0")
        return bits

    def states(self, bits: Array) -> Array:
        """0s and 1s as visible states of the model."""
        states: Array = 2 * bits.astype(np.int8) - 1 if self.spins else bits
        return states

    def base(self, base: Any, data: Any) -> Array:
        """Biases of the base in units 0/1: given, of the data's means, or those of the model."""
        if base is not None and data is not None:
            raise ValueError("data: expected only one of base and data")
        if data is not None:
            bits = self.bits(data, "data")
            mean = (bits.sum(axis=0, dtype=np.float64) + 0.5) / (len(bits) + 1.0)
            log_odds: Array = np.log(mean / (1.0 - mean))
            return log_odds
        if base is None:
            return self.biases
        array, _ = borrow(base, "base")
        if array.dtype.kind not in "fiu":
            raise TypeError(f"base: expected numbers, got {array.dtype}")
        if array.shape != (self.n_units,):
            raise ValueError(f"base: expected ({self.n_units},), got {array.shape}")
        biases = self.visible(array.astype(np.float64))
        n_bits = 12 if self.rbm.dtype == np.float32 else 40  # what is rounded relative to it is the model's
        if not np.all(np.abs(biases) < 2.0**n_bits):
            raise ValueError(f"base: expected finite numbers below 2^{n_bits}, got {np.abs(biases).max():g}")
        return 2.0 * biases if self.spins else biases


@dataclass(frozen=True, eq=False)
class Path:
    """The laws f_s of a machine.

    Attributes
    ----------
    rbm : BernoulliRBM
        The machine that is reached at s = 1.
    base : ndarray of float64, (n_visible,)
        a_0.
    """

    rbm: BernoulliRBM
    base: Array
    _bent: list[BernoulliRBM] = field(default_factory=list, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.rbm, self.base)

    @property
    def bent(self) -> BernoulliRBM:
        """The machine with visible biases c."""
        if not self._bent:
            c = self.rbm.visible_bias.astype(np.float64) - self.base
            self._bent.append(self.rbm.with_biases(c.astype(self.rbm.dtype)))
        return self._bent[0]

    @property
    def base_log_z(self) -> float:
        """ln Σ_v f_0(v)."""
        n_hidden = self.rbm.n_hidden
        return float(np.logaddexp(0.0, self.base).sum()) + n_hidden * math.log(2.0)

    def start(self, key: int, first: int, count: int, num_threads: int) -> Array:
        """Packed states of chains first, ..., first + count - 1 from the base: numbers of step 0."""
        n_visible = self.rbm.n_visible
        nothing = np.zeros((count, -(-n_visible // 64)), np.uint64)
        visible, _ = _core.gibbs(
            np.zeros((n_visible, 1)), self.base, np.zeros(1), nothing,
            n_steps=1, beta=1.0, clamped=None, seed=key, chain_offset=first, step_offset=0,
            num_threads=num_threads,
        )  # fmt: skip
        return visible

    def log_f(self, s: float, visible: Array, num_threads: int) -> Array:
        """ln f_s(v) - a_0.v of packed states, in float64."""
        if s == 0.0:
            return np.full(len(visible), self.rbm.n_hidden * math.log(2.0))
        parameters, prepared = self.bent.prepared
        found, _ = _core.free_energy(
            *parameters, visible, beta=s, free_energy=True, mean_hidden=False,
            num_threads=num_threads, prepared=prepared,
        )  # fmt: skip
        log_f: Array = -s * found.astype(np.float64)
        return log_f

    def move(
        self, s: float, visible: Array, key: int, first: int, step: int, num_threads: int, n_steps: int = 1
    ) -> Array:
        """Packed states after Gibbs steps that leave f_s as it is."""
        bias = self.bent.visible_bias.astype(np.float64) + self.base / s
        parameters, prepared = self.bent.with_biases(bias.astype(self.rbm.dtype)).prepared
        visible, _ = _core.gibbs(
            *parameters, visible, n_steps=n_steps, beta=s, clamped=None, seed=key, chain_offset=first,
            step_offset=step, num_threads=num_threads, prepared=prepared,
        )  # fmt: skip
        return visible


@dataclass(frozen=True, eq=False)
class Chains:
    """Some of the chains of a run, somewhere on their way.

    Attributes
    ----------
    first : int
        Number of the first chain.
    done : int
        Increments added.
    visible : ndarray of uint64, (n, words)
        Packed states, at the schedule's entry number `done` (at the end, at the last but one).
    log_weights : ndarray, (n,)
        Sums of increments.
    moments : ndarray, (done, 2)
        Of each increment, mean over the chains and sum of squares about it.
    """

    first: int
    done: int
    visible: Array
    log_weights: Array
    moments: Array


@dataclass(frozen=True, eq=False)
class Run:
    """A run along a schedule of values of s, upwards or downwards: what a worker has to know."""

    path: Path
    betas: Array
    key: int

    def advance(self, parts: list[Chains], until: int, num_threads: int) -> list[Chains]:
        """Add increments ln f_{k+1}(v_k) - ln f_k(v_k) k < until; a Gibbs step after each but the last."""
        move = self._move_float64 if self.path.rbm.dtype == np.float64 else self._move
        visible = np.concatenate([part.visible for part in parts])
        log_weights = np.concatenate([part.log_weights for part in parts])
        moments, done = [[part.moments] for part in parts], parts[0].done
        ends = np.cumsum([len(part.log_weights) for part in parts])[:-1]
        size = max(1, _PIECE // len(visible))
        while done < until:
            end = min(done + size, until)
            visible, log_weights, increments = move(
                visible, log_weights, done, end, parts[0].first, num_threads
            )
            for of_part, columns in zip(moments, np.split(increments, ends, axis=1), strict=True):
                mean = columns.mean(axis=1)
                squares = np.square(columns - mean[:, None]).sum(axis=1)
                of_part.append(np.stack((mean, squares), axis=1))
            done = end
        states, weights = np.split(visible, ends), np.split(log_weights, ends)
        return [
            Chains(part.first, until, states[k], weights[k], np.concatenate(moments[k]))
            for k, part in enumerate(parts)
        ]

    def _move(
        self, visible: Array, log_weights: Array, done: int, end: int, first: int, num_threads: int
    ) -> tuple[Array, Array, Array]:
        """States, ln w and increments (end - done, n_chains) of chains from number `first` on."""
        parameters, prepared = self.path.bent.prepared
        return _core.anneal(
            *parameters, self.path.base, visible, betas=self.betas[done : end + 1], log_weights=log_weights,
            stay=end + 1 == len(self.betas), seed=self.key, chain_offset=first, step_offset=done + 1,
            num_threads=num_threads, prepared=prepared,
        )  # fmt: skip

    def _move_float64(
        self, visible: Array, log_weights: Array, done: int, end: int, first: int, num_threads: int
    ) -> tuple[Array, Array, Array]:
        """The same a temperature at a time: free energies of float64 fields, which the kernel's are not."""
        increments = np.empty((end - done, len(visible)))
        for k in range(done, end):
            before, after = float(self.betas[k]), float(self.betas[k + 1])
            np.subtract(
                self.path.log_f(after, visible, num_threads),
                self.path.log_f(before, visible, num_threads),
                out=increments[k - done],
            )
            log_weights = log_weights + increments[k - done]
            if k + 2 < len(self.betas):
                visible = self.path.move(after, visible, self.key, first, k + 1, num_threads)
        return visible, log_weights, increments

    def identity(self, n_chains: int, start: Array | None) -> str:
        """A name for what the results depend on, but for the key."""
        digest = hashlib.sha256(_core.version().encode())
        for array in (*self.path.rbm.parameters, self.path.base, self.betas, np.array(n_chains), start):
            if array is not None:
                digest.update(f"{array.shape} {array.dtype.str}".encode())
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def anneal(
    run: Run,
    n_chains: int,
    *,
    start: Array | None = None,
    num_threads: int = 0,
    executor: Executor | None = None,
    progress: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
) -> Chains:
    """Move chains along a whole schedule.

    Chains are cut in parts that depend on their number alone, a worker moves a part, or this process all of
    them, and parts are joined in order: the same bits whoever did the work.

    Parameters
    ----------
    run : Run
        Path, schedule, key.
    n_chains : int
        How many.
    start : ndarray of uint64, (n_chains, words), optional
        Packed states to start from; drawn from the base if not given.
    num_threads : int
        0 for the default.
    executor : concurrent.futures.Executor, optional
        Where the parts are moved. Should it break, the rest is done here, with a warning.
    progress : bool
        Show what is done.
    checkpoint : path_like, optional
        Written every few seconds and at the end; continued from if it is there.

    Returns
    -------
    Chains
        All of them, at the end.
    """
    n_threads = num_threads or int(_core.build_info()["num_threads"])
    identity = run.identity(n_chains, start) if checkpoint is not None else ""
    n_steps = len(run.betas) - 1
    bounds = np.linspace(0, n_chains, -(-n_chains // _MOST_CHAINS) + 1).astype(int)
    if checkpoint is not None and os.path.exists(checkpoint):
        parts = _read(checkpoint, identity, run, bounds)
    else:
        words = run.path.start(run.key, 0, n_chains, n_threads) if start is None else start
        parts = [
            Chains(int(i), 0, words[i:j], np.zeros(j - i), np.empty((0, 2)))
            for i, j in itertools.pairwise(bounds)
        ]
    bar = Bar(n_steps, "temperatures", parts[0].done, enabled=progress)
    watched = progress or checkpoint is not None
    size = 8 if watched else n_steps
    write = None if checkpoint is None else lambda: _write(checkpoint, identity, run, parts)
    with kept(write) as look, contextlib.closing(bar):
        while parts[0].done < n_steps:
            begin = time.monotonic()
            until = min(n_steps, parts[0].done + size)
            if executor is not None:
                futures: list[Future[list[Chains]]] = []
                try:
                    futures = [executor.submit(run.advance, [part], until, 1) for part in parts]
                    parts = [future.result()[0] for future in futures]
                except BrokenExecutor as error:
                    warn(
                        f"executor: it broke ({error}); the rest is computed in this process", RuntimeWarning
                    )
                    executor = None
                finally:
                    for future in futures:
                        future.cancel()
            if executor is None:
                parts = run.advance(parts, until, n_threads)
            bar.update(until)
            seconds = max(time.monotonic() - begin, 1e-3)
            size = max(1, min(4 * size, int(size * _SEGMENT_SECONDS / seconds)))
            look()
    return _joined(parts)


def _joined(parts: list[Chains]) -> Chains:
    """All chains; means and sums of squares are joined two at a time, in order."""
    moments, count = parts[0].moments, len(parts[0].log_weights)
    for part in parts[1:]:
        more = len(part.log_weights)
        apart = part.moments[:, 0] - moments[:, 0]
        mean = moments[:, 0] + apart * more / (count + more)
        squares = moments[:, 1] + part.moments[:, 1] + np.square(apart) * count * more / (count + more)
        moments, count = np.stack((mean, squares), axis=1), count + more
    return Chains(
        0,
        parts[0].done,
        np.concatenate([part.visible for part in parts]),
        np.concatenate([part.log_weights for part in parts]),
        moments,
    )


def _write(path: str | os.PathLike[str], identity: str, run: Run, parts: list[Chains]) -> None:
    header = {"format": _FORMAT, "format_version": _FORMAT_VERSION, "identity": identity}
    arrays: dict[str, Any] = {"seed": np.uint64(run.key), "done": np.int64(parts[0].done)}
    arrays["visible"] = np.concatenate([part.visible for part in parts])
    arrays["log_weights"] = np.concatenate([part.log_weights for part in parts])
    arrays["moments"] = np.stack([part.moments for part in parts])
    write_arrays(path, {**header, **arrays})


def _read(path: str | os.PathLike[str], identity: str, run: Run, bounds: Array) -> list[Chains]:
    name = os.fspath(path)
    arrays = read_checkpoint(
        path, "a checkpoint of annealed chains", (_FORMAT, _FORMAT_VERSION), identity,
        "model, schedule, start",
    )  # fmt: skip
    if int(arrays.get("seed", -1)) != run.key:
        raise ValueError(f"checkpoint: {name} belongs to another seed than {run.key}")
    try:
        done, visible, log_weights, moments = (
            arrays[key] for key in ("done", "visible", "log_weights", "moments")
        )
        n, n_words = int(bounds[-1]), -(-run.path.rbm.n_visible // 64)
        found = [(array.shape, array.dtype.str[1:]) for array in (visible, log_weights, moments)]
        if not 0 <= done < len(run.betas) or found != [
            ((n, n_words), "u8"),
            ((n,), "f8"),
            ((len(bounds) - 1, int(done), 2), "f8"),
        ]:
            raise ValueError("its chains are not those of this run")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"checkpoint: {name} is damaged: {error}") from error
    return [
        Chains(int(i), int(done), visible[i:j], log_weights[i:j], of_part)
        for (i, j), of_part in zip(itertools.pairwise(bounds), moments, strict=True)
    ]
