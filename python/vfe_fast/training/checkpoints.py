"""A run on disk: everything needed to continue it bit for bit."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arguments import count, real
from ..arrays import Array
from ..files import read_arrays, write_arrays
from ..random import seed
from .state import RunState
from .updates import Ascent, Memory

__all__ = ["read_checkpoint", "write_checkpoint"]

CHECKPOINT_FORMAT = "vfe_fast.checkpoint"
FORMAT_VERSION = "4"
_CHAINS = "chains_"  # begins the names of what the method remembers


def write_checkpoint(path: str | os.PathLike[str], settings: dict[str, Any], state: RunState) -> None:
    """Write a run, atomically."""
    arrays: dict[str, Any] = {"format": CHECKPOINT_FORMAT, "format_version": FORMAT_VERSION}
    groups = {
        "parameter": state.parameters,
        "velocity": state.memory.velocity,
        "squares": state.memory.squares,
        "offset": state.offsets,
        "frame": state.frame,
    }
    for group, members in groups.items():
        arrays |= {f"{group}_{k}": member for k, member in enumerate(members)}
    about: dict[str, Any] = {
        "settings": settings,
        "epoch": state.epoch,
        "batch": state.batch,
        "update": state.update,
        "records": list(state.records),
        "seconds": state.seconds,
    }
    arrays |= {_CHAINS + name: array for name, array in state.chains.items()}
    write_arrays(path, {**arrays, "about": json.dumps(about)})


def read_checkpoint(path: str | os.PathLike[str], settings: dict[str, Any]) -> tuple[RunState, int]:
    """Read a run and its seed back.

    Raises ValueError if the file is no checkpoint, or one of a run whose settings differ from `settings`.
    """
    name = os.fspath(path)
    arrays = read_arrays(path, "a vfe_fast checkpoint", CHECKPOINT_FORMAT)
    if str(arrays.get("format_version", "")) != FORMAT_VERSION:
        raise ValueError(f"{name}: expected format version {FORMAT_VERSION}")
    try:
        about = json.loads(str(arrays["about"]))
        found = about["settings"]
        for key, expected in settings.items():
            if found[key] != expected:
                raise ValueError(f"this run has {key} = {expected}, the checkpoint's had {found[key]}")
        n_visible, n_hidden, dtype, kind, *_ = found["model"]
        layers = [(n_visible,), (n_hidden,)]
        shapes = [(n_visible, n_hidden), *layers, *([(n_visible,)] if found["learn_sigma"] else [])]
        state = RunState(
            parameters=_members(arrays, "parameter", shapes, dtype),
            memory=Memory(
                *(
                    _members(arrays, name, shapes if used else [], dtype)
                    for name, used in zip(("velocity", "squares"), Ascent.of(found).remembers(), strict=True)
                )
            ),
            offsets=_members(arrays, "offset", layers if found["centered"] else [], dtype),
            chains={k.removeprefix(_CHAINS): v for k, v in arrays.items() if k.startswith(_CHAINS)},
            frame=_members(arrays, "frame", 2 * layers[:1] if kind == "GaussianRBM" else [], dtype),
            epoch=count(about["epoch"], "epoch", 0),
            batch=count(about["batch"], "batch", 0),
            update=count(about["update"], "update", 0),
            records=tuple(about["records"]),
            seconds=real(about["seconds"], "seconds"),
        )
        return state, seed(found["seed"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{name}: cannot continue from this checkpoint: {error}") from error


def _members(
    arrays: dict[str, Array], group: str, shapes: Sequence[tuple[int, ...]], dtype: str
) -> tuple[Array, ...]:
    """Arrays of one group, checked to be finite and of the given shapes and dtype."""
    members = [arrays[f"{group}_{k}"] for k in range(len(shapes))]
    for k, (member, shape) in enumerate(zip(members, shapes, strict=True)):
        if member.shape != shape or str(member.dtype) != dtype or not np.isfinite(member).all():
            raise ValueError(f"{group}_{k}: expected finite {dtype} {shape}")
    return tuple(members)
