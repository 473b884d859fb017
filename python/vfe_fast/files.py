"""Files: written whole or not at all, and never a pickle."""

from __future__ import annotations

import contextlib
import os
import secrets
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import IO, Any

import numpy as np

from .arrays import Array

__all__ = ["read_arrays", "write_arrays", "write_atomically"]

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
    target = os.path.abspath(os.fspath(path))
    temporary = f"{target}.{secrets.token_hex(4)}.tmp"
    try:
        with open(temporary, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def write_arrays(path: str | os.PathLike[str], arrays: Mapping[str, Any]) -> None:
    """Write named arrays to an ``.npz`` file."""
    contents: dict[str, Any] = {name: np.asarray(array) for name, array in arrays.items()}
    write_atomically(path, lambda file: np.savez(file, **contents))


def read_arrays(path: str | os.PathLike[str], what: str) -> dict[str, Array]:
    """Read every array of an ``.npz`` file; `what` says in errors what the file should have been."""
    with open(path, "rb") as file:
        try:
            found = np.load(file, allow_pickle=False)
            if not isinstance(found, np.lib.npyio.NpzFile):
                raise ValueError("a single array")
            return {name: found[name] for name in found.files}
        except _UNREADABLE as error:
            raise ValueError(
                f"{os.fspath(path)}: expected {what}, got a truncated or foreign file ({error})"
            ) from error
