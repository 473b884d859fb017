"""A run on disk: everything needed to continue it bit for bit."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np

from ..arrays import Array
from ..files import read_arrays, write_arrays
from ..sampling import ChainState
from .state import RunState

__all__ = ["read_checkpoint", "write_checkpoint"]

CHECKPOINT_FORMAT = "vfe_fast.checkpoint"
FORMAT_VERSION = "1"
_GROUPS = ("parameter", "velocity", "offset")


def write_checkpoint(path: str | os.PathLike[str], settings: dict[str, Any], state: RunState) -> None:
    """Write a run, atomically."""
    arrays: dict[str, Any] = {"format": CHECKPOINT_FORMAT, "format_version": FORMAT_VERSION}
    for group, members in zip(_GROUPS, (state.parameters, state.velocity, state.offsets), strict=True):
        arrays |= {f"{group}_{k}": member for k, member in enumerate(members)}
    about: dict[str, Any] = {
        "settings": settings,
        "epoch": state.epoch,
        "batch": state.batch,
        "update": state.update,
        "records": list(state.records),
        "seconds": state.seconds,
    }
    if state.chains is not None:
        arrays |= {"chains_visible": state.chains.visible, "chains_hidden": state.chains.hidden}
        about["chains"] = {"seed": state.chains.seed, "step": state.chains.step}
    write_arrays(path, {**arrays, "about": json.dumps(about)})


def read_checkpoint(path: str | os.PathLike[str], settings: dict[str, Any]) -> tuple[RunState, int]:
    """Read a run and its seed back.

    Raises ValueError if the file is no checkpoint, or one of a run whose settings differ from `settings`.
    """
    name = os.fspath(path)
    arrays = read_arrays(path, "a vfe_fast checkpoint")
    if str(arrays.get("format", "")) != CHECKPOINT_FORMAT:
        raise ValueError(f"{name}: expected a vfe_fast checkpoint, got a foreign file")
    if str(arrays["format_version"]) != FORMAT_VERSION:
        raise ValueError(f"{name}: expected format version {FORMAT_VERSION}, got {arrays['format_version']}")
    try:
        about = json.loads(str(arrays["about"]))
        for key, expected in settings.items():
            if about["settings"][key] != expected:
                raise ValueError(
                    f"this run has {key} = {expected}, the checkpoint's had {about['settings'][key]}"
                )
        chains = None
        if "chains" in about:
            chains = ChainState(arrays["chains_visible"], arrays["chains_hidden"], **about["chains"])
        parameters, velocity, offsets = (_members(arrays, group) for group in _GROUPS)
        state = RunState(
            parameters=parameters,
            velocity=velocity,
            offsets=offsets,
            chains=chains,
            epoch=about["epoch"],
            batch=about["batch"],
            update=about["update"],
            records=tuple(about["records"]),
            seconds=about["seconds"],
        )
        return state, int(about["settings"]["seed"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{name}: cannot continue from this checkpoint: {error}") from error


def _members(arrays: dict[str, Array], group: str) -> tuple[Array, ...]:
    members: list[Array] = []
    while f"{group}_{len(members)}" in arrays:
        members.append(np.asarray(arrays[f"{group}_{len(members)}"]))
    return tuple(members)
