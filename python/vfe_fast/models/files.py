"""Model files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import Array
from ..files import read_arrays, write_arrays, write_atomically

if TYPE_CHECKING:
    from .bernoulli_rbm import BernoulliRBM

__all__ = ["load", "write_model"]

MODEL_FORMAT = "vfe_fast.model"
FORMAT_VERSION = "1"


def write_model(path: str | os.PathLike[str], kind: str, arrays: Mapping[str, Array]) -> None:
    """Write a model's arrays with the format, its version and the model's kind."""
    header = {"format": MODEL_FORMAT, "format_version": FORMAT_VERSION, "kind": kind}
    if os.fspath(path).endswith(".safetensors"):
        from safetensors.numpy import save

        contents = save(
            {name: np.ascontiguousarray(array) for name, array in arrays.items()}, metadata=header
        )
        write_atomically(path, lambda file: file.write(contents))
    else:
        write_arrays(path, {**header, **arrays})


def load(path: str | os.PathLike[str]) -> BernoulliRBM:
    """Read a model that was saved with its ``save`` method.

    Parameters
    ----------
    path : path_like
        An ``.npz`` or ``.safetensors`` file.

    Returns
    -------
    BernoulliRBM
        With parameters bit for bit as saved.

    Raises
    ------
    ValueError
        If the file is truncated, foreign, holds pickled objects, or its arrays are no model.
    OSError
        If it cannot be read.
    """
    from .bernoulli_rbm import BernoulliRBM

    header, arrays = _read_safetensors(path) if os.fspath(path).endswith(".safetensors") else _read_npz(path)
    if header["format"] != MODEL_FORMAT:
        raise ValueError(
            f"{os.fspath(path)}: expected a vfe_fast model, got {header['format'] or 'a foreign file'}"
        )
    if header["kind"] != "BernoulliRBM":
        raise ValueError(f"{os.fspath(path)}: expected a BernoulliRBM, got a {header['kind']}")
    if header["format_version"] != FORMAT_VERSION:
        raise ValueError(
            f"{os.fspath(path)}: expected format version {FORMAT_VERSION}, got {header['format_version']}"
        )
    try:
        return BernoulliRBM(arrays["weights"], arrays["visible_bias"], arrays["hidden_bias"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{os.fspath(path)}: expected the parameters of a BernoulliRBM: {error}") from error


def _header(found: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(found.get(name, "")) for name in ("format", "format_version", "kind")}


def _read_npz(path: str | os.PathLike[str]) -> tuple[dict[str, str], dict[str, Array]]:
    arrays = read_arrays(path, "a vfe_fast model")
    return _header(arrays), arrays


def _read_safetensors(path: str | os.PathLike[str]) -> tuple[dict[str, str], dict[str, Array]]:
    from safetensors import SafetensorError, safe_open

    with open(path, "rb"):  # for the plain errors of a file that is not there or cannot be read
        pass
    try:
        with safe_open(path, framework="numpy") as file:
            return _header(file.metadata() or {}), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, TypeError) as error:
        raise ValueError(
            f"{os.fspath(path)}: expected a vfe_fast model, got a truncated or foreign file ({error})"
        ) from error
