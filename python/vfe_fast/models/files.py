"""Model files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..arrays import Array
from ..files import read_arrays, write_arrays, write_atomically

__all__ = ["read_model", "write_model"]

MODEL_FORMAT = "vfe_fast.model"
FORMAT_VERSION = "1"


def write_model(path: str | os.PathLike[str], kind: str, arrays: Mapping[str, Array]) -> None:
    """Write a model's arrays with the format, its version and the model's kind."""
    header = {"format": MODEL_FORMAT, "format_version": FORMAT_VERSION, "kind": kind}
    if os.fsdecode(path).endswith(".safetensors"):
        save = _safetensors().numpy.save
        contents = save(
            {name: np.ascontiguousarray(array) for name, array in arrays.items()}, metadata=header
        )
        write_atomically(path, lambda file: file.write(contents))
    else:
        write_arrays(path, {**header, **arrays})


def read_model(path: str | os.PathLike[str]) -> tuple[str, dict[str, Array]]:
    """Kind and arrays of a model file; ValueError if it is truncated, foreign or of another version."""
    header, arrays = (
        _read_safetensors(path) if os.fsdecode(path).endswith(".safetensors") else _read_npz(path)
    )
    if header["format"] != MODEL_FORMAT:
        raise ValueError(
            f"{os.fspath(path)}: expected a vfe_fast model, got {header['format'] or 'a foreign file'}"
        )
    if header["format_version"] != FORMAT_VERSION:
        raise ValueError(
            f"{os.fspath(path)}: expected format version {FORMAT_VERSION}, got {header['format_version']}"
        )
    return header["kind"], arrays


def _header(found: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(found.get(name, "")) for name in ("format", "format_version", "kind")}


def _read_npz(path: str | os.PathLike[str]) -> tuple[dict[str, str], dict[str, Array]]:
    arrays = read_arrays(path, "a vfe_fast model", MODEL_FORMAT)
    return _header(arrays), arrays


def _read_safetensors(path: str | os.PathLike[str]) -> tuple[dict[str, str], dict[str, Array]]:
    library = _safetensors()
    with open(path, "rb"):  # for the plain errors of a file that is not there or cannot be read
        pass
    try:
        with library.safe_open(path, framework="numpy") as file:
            return _header(file.metadata() or {}), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (library.SafetensorError, TypeError) as error:
        raise ValueError(
            f"{os.fspath(path)}: expected a vfe_fast model, got a truncated or foreign file ({error})"
        ) from error


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'files that end in .safetensors need pip install "vfe_fast[safetensors]" ({error})',
            name=error.name,
        ) from error
    return safetensors
