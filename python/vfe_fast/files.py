"""Files: written whole or not at all, and never a pickle."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

import numpy as np

from .arrays import Array

__all__ = [
    "check_checkpoint", "kept", "read_arrays", "read_checkpoint", "write_arrays", "write_atomically"
]  # fmt: skip

_WRITE_SECONDS = 2.0  # between two checkpoints, and 20 times what one takes

# What NumPy and zipfile raise on files that are not what they seem: headers that lie about sizes and
# offsets, encryption, unknown compression, pickles.
_UNREADABLE = (
    ValueError,
    TypeError,
    EOFError,
    KeyError,
    OSError,
    MemoryError,
    OverflowError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


def write_atomically(path: str | os.PathLike[str], write: Callable[[IO[bytes]], Any]) -> None:
    """Let `write` fill a file next to `path`, then put it in its place."""
    target = os.path.abspath(os.fsdecode(path))
    temporary = f"{target}.{secrets.token_hex(4)}.tmp"
    try:
        with _interrupts_held():
            with open(temporary, "xb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.filename == temporary:
            raise type(error)(error.errno, error.strerror, target) from None
        raise


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Put Ctrl-C off until the file is whole: NumPy and zipfile do not survive it, and lose it."""
    on_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if on_main_thread else None
    if handler is None:  # not ours to hold back
        yield
        return
    arrived: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: arrived.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if arrived:
            signal.raise_signal(signal.SIGINT)


def write_arrays(path: str | os.PathLike[str], arrays: Mapping[str, Any]) -> None:
    """Write named arrays to an ``.npz`` file."""
    contents: dict[str, Any] = {name: np.asarray(array) for name, array in arrays.items()}
    write_atomically(path, lambda file: np.savez(file, **contents))


def read_arrays(
    path: str | os.PathLike[str], what: str, expected_format: str | None = None
) -> dict[str, Array]:
    """Read every array of an ``.npz`` file; `what` says in errors what the file should have been.

    With `expected_format`, a file whose ``format`` is another one is refused before the rest is read.
    """
    with open(path, "rb") as file:
        try:
            found = np.load(file, allow_pickle=False)
            if not isinstance(found, np.lib.npyio.NpzFile):
                raise ValueError("a single array")
            if expected_format is not None and str(found.get("format", "")) != expected_format:
                raise ValueError(f"its format is {found.get('format', 'unknown')!s:.40}")
            return {name: found[name] for name in found.files}
        except _UNREADABLE as error:
            detail = "no .npz file, or pickled objects" if "pickle" in str(error) else str(error)
            raise ValueError(
                f"{os.fspath(path)}: expected {what}, got another, truncated or foreign file ({detail})"
            ) from error


def check_checkpoint(checkpoint: Any) -> None:
    """Check where a run is to be kept; now, not when it is written first. None is nowhere."""
    if checkpoint is None:
        return
    if not isinstance(checkpoint, (str, os.PathLike)):
        raise TypeError(f"checkpoint: expected a path, got {type(checkpoint).__name__}")
    folder = os.path.dirname(os.path.abspath(checkpoint))
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"checkpoint: expected a file in an existing folder, got {checkpoint}")


@contextlib.contextmanager
def kept(write: Callable[[], None] | None) -> Iterator[Callable[[], None]]:
    """Write the checkpoint of a long run now and then, and when it ends, also by Ctrl-C or an error.

    Parameters
    ----------
    write : callable or None
        Writes what is there; None if nothing is to be kept.

    Yields
    ------
    callable
        To be called between two steps, when what is there is whole.
    """
    due = time.monotonic() + _WRITE_SECONDS

    def look() -> None:
        nonlocal due
        if write is not None and (begin := time.monotonic()) > due:
            write()
            due = time.monotonic() + max(_WRITE_SECONDS, 20 * (time.monotonic() - begin))

    try:
        yield look
    finally:
        if write is not None:
            write()


def read_checkpoint(
    path: str | os.PathLike[str], what: str, expected_format: tuple[str, str], identity: str, owner: str
) -> dict[str, Array]:
    """Read the arrays of a checkpoint of this format and version, and of this run and no other.

    `what` and `owner` say in errors what the file should have been, and what else it may belong to.
    """
    name, (kind, version) = os.fspath(path), expected_format
    arrays = read_arrays(path, what, kind)
    if str(arrays.get("format_version", "")) != version:
        raise ValueError(f"checkpoint: {name} has another format version than {version}")
    if str(arrays.get("identity", "")) != identity:
        raise ValueError(f"checkpoint: {name} belongs to another {owner}, or version of vfe_fast")
    return arrays
