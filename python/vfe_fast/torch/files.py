"""Variational autoencoders on disk: arrays and plain words, no pickles."""

from __future__ import annotations

import json
import os
from typing import Any

import torch

from ..files import read_arrays, write_arrays
from .likelihoods import LIKELIHOODS
from .vae import VAE

__all__ = ["load", "save"]

VAE_FORMAT = "vfe_fast.vae"
FORMAT_VERSION = "1"
_STATE = "state."


def save(vae: VAE, path: str | os.PathLike[str]) -> None:
    """Write a ready-made VAE to an ``.npz`` file, atomically.

    Parameters
    ----------
    vae : VAE
        Made by `VAE.mlp` or `VAE.convolutional` from plain arguments. (The parameters of any other: PyTorch's
        ``state_dict``.)
    path : path
        Of the file.

    Raises
    ------
    ValueError
        If the model has modules of the caller's.
    """
    if vae.recipe is None:
        raise ValueError(
            "vae: expected one of VAE.mlp or VAE.convolutional without modules of the caller's; "
            "save the state_dict of others"
        )
    state = {_STATE + name: value.detach().cpu().numpy() for name, value in vae.state_dict().items()}
    how = vae.recipe["how"] | {"temperature": vae.temperature}
    about = json.dumps(vae.recipe | {"how": how})
    write_arrays(path, {"format": VAE_FORMAT, "format_version": FORMAT_VERSION, "recipe": about, **state})


def load(path: str | os.PathLike[str]) -> VAE:
    """Read what `save` wrote.

    Parameters
    ----------
    path : path
        Of the file.

    Returns
    -------
    VAE
        In the mode of evaluation, as after `fit`.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is none of `save`, or truncated.
    """
    arrays = read_arrays(path, "a VAE of vfe_fast", VAE_FORMAT)
    try:
        vae = from_recipe(json.loads(str(arrays["recipe"])))
        state = {
            name.removeprefix(_STATE): torch.from_numpy(value)
            for name, value in arrays.items()
            if name.startswith(_STATE)
        }
        vae.to(next(v.dtype for v in state.values() if v.dtype.is_floating_point))
        vae.load_state_dict(state)
    except (KeyError, TypeError, ValueError, RuntimeError, StopIteration) as error:
        raise ValueError(f"{os.fspath(path)}: expected a VAE of vfe_fast: {error}") from error
    return vae.eval()


def from_recipe(recipe: dict[str, Any]) -> VAE:
    """Make the model anew, with parameters that are not yet those of the file."""
    name, options = recipe["likelihood"]
    make = {"mlp": VAE.mlp, "convolutional": VAE.convolutional}[recipe["kind"]]
    likelihood = LIKELIHOODS[name](**options)
    return make(recipe["n_visible"], recipe["n_latents"], likelihood=likelihood, **recipe["how"])
