"""Long sums over states: cut in ranges, computed anywhere, added up in order.

A range's sums are a row of float64 numbers, multiples of 2 to the power of the row's first number. Rows are
added in the order of the ranges, one by one, so the result is the same bits for any number of threads,
processes or machines, and for a run that was stopped and continued.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import math
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, wait
from typing import Any, Protocol

import numpy as np

from .._core import version
from ..arguments import threads
from ..arrays import Array
from ..files import check_checkpoint, kept, read_checkpoint, write_arrays
from ..warned import warn

__all__ = ["RangeSum", "added", "check_how", "sum_ranges"]

CHECKPOINT_FORMAT = "vfe_fast.ranges"
FORMAT_VERSION = "1"

_BATCH_SECONDS = 0.2  # between two looks at the clock
_BATCH_BYTES = 8 << 20  # of rows that wait to be added up
_UNKNOWN_WORKERS = 128  # of an executor that does not say how many: a cluster's
_PATIENCE_SECONDS = 3.0  # with a worker before asking whether another one died


class RangeSum(Protocol):
    """A sum over states; picklable, so that it can travel to a worker."""

    @property
    def n_ranges(self) -> int:
        """Ranges that the states are cut in."""

    @property
    def n_states(self) -> int:
        """States in all."""

    @property
    def row_size(self) -> int:
        """Numbers in a row."""

    @property
    def ranges_at_once(self) -> int:
        """Ranges of a call that are worth it, whatever the threads."""

    def rows(self, first: int, count: int, num_threads: int) -> Array:
        """Sums of the ranges first, ..., first + count - 1: (count, row_size)."""

    def identity(self) -> tuple[Any, ...]:
        """What the sums depend on: arrays and plain values."""


def sum_ranges(
    task: RangeSum,
    *,
    num_threads: int | None = None,
    executor: Executor | None = None,
    progress: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
) -> Array:
    """Add up all ranges.

    Parameters
    ----------
    task : RangeSum
        What to add up.
    num_threads : int, optional
        Threads here; a worker of `executor` uses one.
    executor : concurrent.futures.Executor, optional
        Where the ranges are computed. A batch that fails is sent once more. Should the executor break, the
        rest is computed here, with a warning.
    progress : bool
        Show the states done, the rate, and the time left.
    checkpoint : path_like, optional
        Written every few seconds; continued from if it is there.

    Returns
    -------
    ndarray, (row_size,)

    Raises
    ------
    TypeError
        If `executor` is none, `progress` not True or False, or `checkpoint` no path.
    FileNotFoundError
        If the folder of `checkpoint` does not exist.
    ValueError
        If `checkpoint` belongs to another sum, or is no checkpoint.
    """
    check_how(executor, progress, checkpoint)
    n_threads = threads(num_threads)
    total = np.concatenate(([-np.inf], np.zeros(task.row_size - 1)))
    done = 0
    identity = _digest(task) if checkpoint is not None else ""
    if checkpoint is not None and os.path.exists(checkpoint):
        done, total = _read(checkpoint, identity, task)
    bar = _Bar(task, done, enabled=progress)
    if executor is None:
        watched = progress or checkpoint is not None
        source = _here(task, done, n_threads, seconds=_BATCH_SECONDS if watched else math.inf)
    else:
        source = _elsewhere(task, done, n_threads, executor)
    write = None if checkpoint is None else lambda: _write(checkpoint, identity, done, total)
    with kept(write) as look, contextlib.closing(bar):
        for rows in source:
            for row in rows:
                total = added(total, row)
            done += len(rows)
            bar.update(done)
            look()
    return total


def check_how(executor: Any, progress: Any, checkpoint: Any) -> None:
    """Check what says how a long run is done; now, not when the first checkpoint is written."""
    if executor is not None and (
        isinstance(executor, type) or not callable(getattr(executor, "submit", None))
    ):
        raise TypeError(f"executor: expected a concurrent.futures.Executor, got {type(executor).__name__}")
    if not isinstance(progress, (bool, np.bool_)):
        raise TypeError(f"progress: expected True or False, got {type(progress).__name__}")
    check_checkpoint(checkpoint)


def added(total: Array, row: Array) -> Array:
    """The sum of two rows: powers of two are exact, so only one rounding a number."""
    if total[0] == -np.inf:
        return row
    top = max(total[0], row[0])
    both = [np.ldexp(x[1:], int(max(x[0] - top, -4096.0))) for x in (total, row)]
    return np.concatenate(([top], both[0] + both[1]))


def _here(task: RangeSum, first: int, n_threads: int, seconds: float = math.inf) -> Iterator[Array]:
    """Rows computed in this process, in batches of about as many seconds and not too many bytes."""
    most = max(1, _BATCH_BYTES // (8 * task.row_size))
    least = min(most, max(n_threads or os.cpu_count() or 1, task.ranges_at_once))  # threads share out ranges
    count = most if seconds == math.inf else least
    while first < task.n_ranges:
        count = min(count, most, task.n_ranges - first)
        begin = time.perf_counter()
        yield task.rows(first, count, n_threads)
        first += count
        rate = count / (time.perf_counter() - begin)
        count = most if seconds == math.inf else min(most, max(least, min(4 * count, int(rate * seconds))))


def _elsewhere(task: RangeSum, first: int, n_threads: int, executor: Executor) -> Iterator[Array]:
    """Rows computed by an executor: a few batches a worker under way, taken in order."""
    n_workers = getattr(executor, "_max_workers", None) or _UNKNOWN_WORKERS
    most = max(1, _BATCH_BYTES // (8 * task.row_size))
    count = max(1, min(most, (task.n_ranges - first) // (8 * n_workers)))
    under_way: collections.deque[tuple[int, int, Future[Array]]] = collections.deque()
    submitted = first
    try:
        while first < task.n_ranges:
            while submitted < task.n_ranges and len(under_way) < 3 * n_workers:
                size = min(count, task.n_ranges - submitted)
                under_way.append((submitted, size, executor.submit(task.rows, submitted, size, 1)))
                submitted += size
            first, size, future = under_way[0]
            try:
                rows = _result(future, executor)
            except BrokenExecutor:
                raise
            except Exception:  # once more: Dask may fail one whose worker was killed
                rows = _result(executor.submit(task.rows, first, size, 1), executor)
            under_way.popleft()
            yield rows
            first += size
    except BrokenExecutor as error:
        warn(f"executor: it broke ({error}); the rest is computed in this process", RuntimeWarning)
        yield from _here(task, first, n_threads)
    finally:
        for _, _, future in under_way:
            future.cancel()


def _result(future: Future[Array], executor: Executor) -> Array:
    """What a future returns."""
    while not wait([future], timeout=_PATIENCE_SECONDS).done:
        _break_if_a_worker_died(executor)
    return future.result()


def _break_if_a_worker_died(executor: Executor) -> None:
    """Have a process pool notice that a worker was killed in the middle of sending a result.

    It waits for the rest as long as somebody might write to its pipe: the other workers, and this process.
    """
    workers = list((getattr(executor, "_processes", None) or {}).values())
    if any(worker.exitcode not in (None, 0) for worker in workers):
        for worker in workers:
            worker.kill()
        executor._result_queue._writer.close()  # type: ignore[attr-defined]


def _digest(task: RangeSum) -> str:
    """A name for the sum: the version, and everything it depends on."""
    digest = hashlib.sha256(version().encode())
    for part in (type(task).__name__, task.n_ranges, task.row_size, *task.identity()):
        if isinstance(part, np.ndarray):
            digest.update(f"{part.shape} {part.dtype.str}".encode())
            digest.update(np.ascontiguousarray(part).tobytes())
        else:
            digest.update(repr(part).encode())
    return digest.hexdigest()


def _write(path: str | os.PathLike[str], identity: str, done: int, total: Array) -> None:
    header = {"format": CHECKPOINT_FORMAT, "format_version": FORMAT_VERSION, "identity": identity}
    write_arrays(path, {**header, "done": done, "total": total})


def _read(path: str | os.PathLike[str], identity: str, task: RangeSum) -> tuple[int, Array]:
    name = os.fspath(path)
    arrays = read_checkpoint(
        path, "a checkpoint of a sum over states", (CHECKPOINT_FORMAT, FORMAT_VERSION), identity,
        "model, beta, kind of moments",
    )  # fmt: skip
    try:
        done, total = int(arrays["done"]), arrays["total"]
        if not 0 <= done <= task.n_ranges or total.shape != (task.row_size,) or total.dtype != np.float64:
            raise ValueError("its sums are not those of this model")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"checkpoint: {name} is damaged: {error}") from error
    return done, total


class _Bar:
    """States done: tqdm's bar if it is installed, else a line every few seconds."""

    def __init__(self, task: RangeSum, done: int, *, enabled: bool) -> None:
        self.states_per_range = task.n_states // task.n_ranges
        self.n_states = task.n_states
        self.done = self.first = done
        self.bar: Any = None
        self.enabled = enabled
        self.begin = self.shown = time.monotonic()
        if enabled:
            try:
                from tqdm import tqdm
            except ModuleNotFoundError:
                return
            self.bar = tqdm(
                total=task.n_states,
                initial=done * self.states_per_range,
                unit=" states",
                unit_scale=True,
                dynamic_ncols=True,
            )

    def update(self, done: int) -> None:
        if self.bar is not None:
            self.bar.update(done * self.states_per_range - self.bar.n)
        elif self.enabled and time.monotonic() - self.shown > 5.0:
            self.shown = time.monotonic()
            rate = (done - self.first) * self.states_per_range / (self.shown - self.begin)
            left = (self.n_states - done * self.states_per_range) / rate
            share = 100.0 * done * self.states_per_range / self.n_states
            print(
                f"{share:.1f} % of {self.n_states:.3g} states, {rate:.3g} states/s, {left:.0f} s left",
                file=sys.stderr,
            )
        self.done = done

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
