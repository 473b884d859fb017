"""The training loop."""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arguments import count, real
from ..arrays import Array
from ..random import generator, seed
from .averages import Contrast
from .callbacks import Callback, Epoch, StopTraining
from .checkpoints import read_checkpoint, write_checkpoint
from .gradients import Diverged, Gradient, Method, SamplerSettings
from .machines import Bits, Trained, machine_of
from .methods import named
from .progress import ProgressBar
from .schedules import described
from .state import Record, RunState
from .updates import Ascent

__all__ = ["History", "train"]

OFFSET_RATE = 0.01  # share of the newest minibatch in the offsets of a centered run
_SHOWN = 5  # epochs at either end of a printed history


@dataclass(frozen=True, repr=False)
class History:
    """What happened in training; printed, a table of the epochs in which most was recorded.

    Attributes
    ----------
    records : tuple of dict
        One a finished epoch: ``epoch``, ``learning_rate``, ``seconds`` and what the callbacks returned.
    interrupted : bool
        Whether Ctrl-C ended the run; the model then holds the last whole update.
    seconds : float
        Time spent in finished epochs.
    """

    records: tuple[Record, ...]
    interrupted: bool
    seconds: float

    def metric(self, name: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Look up one metric, where it was recorded.

        Parameters
        ----------
        name : str
            Its name in the records.

        Returns
        -------
        epochs, values : ndarray
            Both empty if it never was.
        """
        found = [(r["epoch"], r[name]) for r in self.records if name in r]
        epochs, values = zip(*found, strict=True) if found else ((), ())
        return np.array(epochs, dtype=np.float64), np.array(values, dtype=np.float64)

    def __repr__(self) -> str:
        ended = ", interrupted" if self.interrupted else ""
        epochs = "1 epoch" if len(self.records) == 1 else f"{len(self.records)} epochs"
        return f"History({epochs}, {self.seconds:.3g} s{ended})"

    def __str__(self) -> str:
        fewest = min(map(len, self.records), default=0)
        rows = [r for r in self.records if len(r) > fewest] or list(self.records)
        names = list(dict.fromkeys(name for r in rows for name in r))
        table = [names, *([f"{r[name]:.6g}" if name in r else "" for name in names] for r in rows)]
        if len(rows) > 2 * _SHOWN:
            table[1 + _SHOWN : -_SHOWN] = [["..." for _ in names]]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ("  ".join(map(str.rjust, row, widths)) for row in table if names)
        return "\n".join([repr(self), *lines])


def train(
    rbm: Trained,
    data: Any,
    *,
    method: str | Method = "pcd",
    n_epochs: int = 10,
    batch_size: int = 100,
    learning_rate: float | Callable[[float], float] = 0.01,
    optimizer: str = "sgd",
    momentum: float | None = None,
    weight_decay: float = 0.0,
    sparsity_target: float = 0.1,
    sparsity_cost: float = 0.0,
    centered: bool = True,
    learn_sigma: bool = False,
    n_gibbs_steps: int = 1,
    n_chains: int | None = None,
    rng: Any = None,
    callbacks: Sequence[Callback] = (),
    progress: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int = 1,
    resume: bool = False,
    num_threads: int | None = None,
) -> History:
    """Train an RBM on data by stochastic gradient ascent of the log-likelihood.

    Parameters
    ----------
    rbm : BernoulliRBM, SpinRBM or GaussianRBM
        The model; its parameters are replaced after every update.
    data : array_like, (n_samples, n_visible)
        States of 0s and 1s, spins -1 and +1, or real numbers of the model's dtype.
    method : str or callable
        "pcd", "cd", "fpcd", "pt", "tap" or "exact": how the model's averages are estimated; "score_matching",
        "denoising", "sliced" (real units), "ratio_matching" (binary ones): objectives that do without them.
        The name of a class in `vfe_fast.training`, or such a class
        with options, as in ``functools.partial(ParallelTempering, n_temperatures=20)``.
    n_epochs : int
        Passes through the data. A resumed run counts those already done.
    batch_size : int
        Samples an update; the last minibatch of an epoch may be smaller.
    learning_rate : float or callable
        A number, or a function of the epoch (fractions count); `vfe_fast.training` has schedules. On
        resuming, a function is compared by its name, a schedule by its values.
    optimizer : {"sgd", "adam"}
        How the gradient is followed: as it is, or scaled by Adam.
    momentum : float, optional
        In [0, 1): the share of the last update that is added to the next, 0 if not given; with Adam the share
        of the running mean that is kept, 0.9 if not given.
    weight_decay : float
        Subtracts this times the weights from their gradient.
    sparsity_target, sparsity_cost : float
        Adds cost (target - ⟨h⟩) to the gradient of the hidden biases, ⟨h⟩ over the minibatch.
    centered : bool
        Follow the gradient of the centered parameterization, with offsets that track the averages over data.
        It learned better in every comparison on MNIST (docs/training.md).
    learn_sigma : bool
        Learn the standard deviations of a `GaussianRBM` too, as ln σ²; else they stay as they are.
    n_gibbs_steps : int
        Gibbs steps an update, of all methods but ``"exact"``; of ``"tap"`` sweeps over the means.
    n_chains : int, optional
        Persistent chains (of ``"pt"`` at each temperature; ``"cd"``, ``"tap"`` and ``"exact"`` have none); as
        many as samples in a minibatch if not given.
    rng : int, numpy.random.Generator, numpy.random.SeedSequence or None
        Seed of the chains and of the order of the minibatches. A resumed run keeps its own.
    callbacks : sequence of callable
        Each is called with an `Epoch` after every epoch; the metrics it returns go into the history, where
        no name may come twice. `StopTraining` ends the run.
    progress : bool
        Show a progress bar (tqdm if installed, else a line an epoch) on standard error.
    checkpoint : path_like, optional
        Write the run there every `checkpoint_every` epochs, at the end, and when interrupted.
    checkpoint_every : int
        Epochs between checkpoints.
    resume : bool
        Continue from `checkpoint` if the file exists. The result is, bit for bit, that of the run that
        was never stopped. Without it, an existing file is an error.
    num_threads : int, optional
        Threads to use; the result does not depend on it.

    Returns
    -------
    History
        Of the whole run, with what a resumed one did before.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or the checkpoint belongs to another run.
    FileExistsError
        If `checkpoint` exists and `resume` is not set.

    Notes
    -----
    Ctrl-C ends the run at the last whole update: the model keeps it, the checkpoint (if any) is written,
    and the history is returned with ``interrupted`` set.
    """
    flags = {"centered": centered, "learn_sigma": learn_sigma, "progress": progress, "resume": resume}
    for name, flag in flags.items():
        if not isinstance(flag, (bool, np.bool_)):
            raise TypeError(f"{name}: expected True or False, got {flag!r}")
    method_name, maker = named(method)
    machine = machine_of(rbm, bool(learn_sigma))
    states = machine.states(data)
    n_epochs = count(n_epochs, "n_epochs", 0)
    batch_size = count(batch_size, "batch_size", below=1 << 32)
    ascent = Ascent.checked(optimizer, momentum, weight_decay, sparsity_target, sparsity_cost, num_threads)
    settings = {
        "method": method_name,
        "batch_size": batch_size,
        "learning_rate": described(learning_rate),
        "optimizer": ascent.optimizer,
        "momentum": ascent.momentum,
        "weight_decay": ascent.weight_decay,
        "sparsity": [ascent.sparsity_target, ascent.sparsity_cost],
        "centered": bool(centered),
        "n_gibbs_steps": count(n_gibbs_steps, "n_gibbs_steps"),
        "n_chains": count(min(batch_size, len(states)) if n_chains is None else n_chains, "n_chains"),
        "learn_sigma": bool(learn_sigma),
        "model": machine.description,
        "data": [len(states), zlib.crc32(states.data)],
        "seed": None if rng is None else seed(rng),
    }
    if not isinstance(callbacks, Sequence) or not all(map(callable, callbacks)):
        raise TypeError(f"callbacks: expected a sequence of callables, got {callbacks!r}")
    if checkpoint is not None:
        checkpoint = os.fspath(checkpoint)
        folder = os.path.dirname(os.path.abspath(checkpoint))
        if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
            raise ValueError(f"checkpoint: expected a file in a folder that can be written, got {checkpoint}")
    elif resume:
        raise ValueError("resume: expected a checkpoint to continue from, got none")
    run = _Run(machine, states, settings, maker, learning_rate, ascent)
    checkpoint_every = count(checkpoint_every, "checkpoint_every")
    if checkpoint is not None and os.path.exists(checkpoint):
        if not resume:
            raise FileExistsError(
                f"checkpoint: {os.fspath(checkpoint)} exists; pass resume=True to continue it"
            )
        run.load(checkpoint)
    else:
        run.start()

    interrupted = False
    try:
        with ProgressBar(n_epochs, run.state.epoch, enabled=progress) as bar:
            while run.state.epoch < n_epochs:
                run.epoch()
                stop = run.end_epoch(n_epochs, callbacks)
                bar.update(run.state.records[-1])
                if stop:
                    break
                if checkpoint is not None and run.state.epoch % checkpoint_every == 0:
                    run.save(checkpoint)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        run.restore(run.state)
        if checkpoint is not None:
            run.save(checkpoint)
    return History(run.state.records, interrupted, run.state.seconds)


class _Run:
    """A training run: its settings, and the state that each update replaces by the next."""

    state: RunState
    gradient: Gradient
    held: tuple[Array, ...] | None = None  # the state's parameters that the model has

    def __init__(
        self,
        machine: Bits,
        states: Array,
        settings: dict[str, Any],
        method: Method,
        learning_rate: float | Callable[[float], float],
        ascent: Ascent,
    ) -> None:
        self.machine = machine
        self.states = states
        self.settings = settings
        self.method = method
        self.learning_rate = learning_rate
        self.ascent = ascent
        self.num_threads = ascent.num_threads
        self.n_batches = -(-len(states) // settings["batch_size"])

    def start(self) -> None:
        """Begin at the model as it is."""
        if self.settings["seed"] is None:
            self.settings["seed"] = seed(None)
        self.machine.start()
        self._make_gradient()
        offsets: tuple[Array, ...] = ()
        if self.settings["centered"]:
            offsets = self.machine.means(self.states, self.num_threads)
        parameters = self.machine.parameters
        memory = self.ascent.start(parameters)
        self.state = RunState(parameters, memory, offsets, self.gradient.state, self.machine.frame)
        self.held = parameters

    def load(self, path: str | os.PathLike[str]) -> None:
        """Go on where a checkpoint stopped."""
        known = {name: value for name, value in self.settings.items() if name != "seed" or value is not None}
        state, self.settings["seed"] = read_checkpoint(path, known)
        try:
            if state.frame:
                self.machine.frame = state.frame
            self._make_gradient()
            self.restore(state)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{os.fspath(path)}: cannot continue from this checkpoint: {error}") from error

    def _make_gradient(self) -> None:
        s = self.settings
        settings = SamplerSettings(s["n_gibbs_steps"], s["n_chains"], s["seed"], self.num_threads)
        self.gradient = self.machine.gradient(self.method, settings)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint."""
        write_checkpoint(path, self.settings, self.state)

    def restore(self, state: RunState) -> None:
        """Put model and chains where `state` has them."""
        self.gradient.state = state.chains
        if self.held is not state.parameters:
            self._hold(state.parameters)
        self.state = state

    def _hold(self, parameters: tuple[Array, ...]) -> None:
        """Let the model have these, unless it refuses; after an interrupt it is not known what it has."""
        before, self.held = self.held, None
        try:
            self.machine.parameters = parameters
        except ValueError:
            self.held = before
            raise
        self.held = parameters

    def epoch(self) -> None:
        """Do what is left of the epoch under way."""
        begin = time.perf_counter()
        for batch in self._batches(self.state.batch):
            self.state = self._updated(batch)
        self.state = replace(self.state, seconds=self.state.seconds + time.perf_counter() - begin)

    def end_epoch(self, n_epochs: int, callbacks: Sequence[Callback]) -> bool:
        """Record the epoch and call the callbacks; True if one of them wants to stop."""
        state, stop = self.state, False
        record: Record = {
            "epoch": state.epoch + 1,
            "learning_rate": self._rate(state.epoch + 1.0),
            "seconds": state.seconds,
        }
        epoch = Epoch(state.epoch + 1, n_epochs, self.machine.rbm, self.gradient, self.num_threads)
        for callback in callbacks:
            try:
                metrics = callback(epoch) or {}
                if not isinstance(metrics, Mapping):
                    raise TypeError(
                        f"callbacks: expected a mapping of metrics or None, got {type(metrics).__name__}"
                    )
            except StopTraining:
                stop = True
            else:
                for name, value in metrics.items():
                    if not isinstance(name, str):
                        raise TypeError(f"callbacks: expected metrics named by str, got {name!r}")
                    if name in record:
                        raise ValueError(f"callbacks: expected a metric only once, got {name!r} twice")
                    record[name] = real(value, f"metric {name!r}")
        self.state = replace(state, epoch=state.epoch + 1, batch=0, records=(*state.records, record))
        return stop

    def _batches(self, first: int) -> Iterator[Array]:
        """Minibatches of this epoch from number `first` on; their order depends on seed and epoch only."""
        order = generator(self.settings["seed"], "minibatches", self.state.epoch).permutation(
            len(self.states)
        )
        size = self.settings["batch_size"]
        for batch in range(first, self.n_batches):
            yield self.machine.batch(self.states[order[batch * size : (batch + 1) * size]])

    def _rate(self, epoch: float) -> float:
        rate = self.learning_rate(epoch) if callable(self.learning_rate) else self.learning_rate
        return real(rate, "learning_rate", 0.0)

    def _moved(self, offsets: tuple[Array, ...], contrast: Contrast) -> tuple[Array, ...]:
        """Offsets of a centered run, moved towards the averages over a minibatch."""
        kind = self.machine.rbm.dtype.type
        averages = (contrast.data_visible, contrast.data_hidden)[: len(offsets)]
        return tuple(
            kind(1 - OFFSET_RATE) * old + kind(OFFSET_RATE) * new
            for old, new in zip(offsets, averages, strict=True)
        )

    def _diverged(self, error: Exception) -> Diverged:
        return Diverged(
            f"learning_rate: training diverged at update {self.state.update}, the model is left as it was "
            f"before; lower learning_rate or momentum ({error})"
        )

    def _updated(self, batch: Array) -> RunState:
        """Do one update; return the state after it."""
        state, machine = self.state, self.machine
        rate = self._rate(state.epoch + state.batch / self.n_batches)
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused
            try:
                contrast = self.gradient.contrast(batch, state.update)
            except (ValueError, OverflowError) as error:
                if state.update == 0 or isinstance(error, Diverged):
                    raise
                raise self._diverged(error) from error
            offsets = self._moved(state.offsets, contrast)
            slopes, centers = machine.slopes(contrast, offsets)
            parameters, memory = self.ascent(
                state.parameters, state.memory, slopes, centers, rate, state.update,
                machine.more_slopes(contrast),
            )  # fmt: skip
            try:
                if not all(np.isfinite(array).all() for array in (*memory.velocity, *memory.squares)):
                    raise ValueError("the optimizer's averages overflowed")
                self._hold(parameters)
            except ValueError as error:
                raise self._diverged(error) from error
        return replace(
            state,
            parameters=parameters,
            memory=memory,
            offsets=offsets,
            chains=self.gradient.state,
            batch=state.batch + 1,
            update=state.update + 1,
        )
