"""Saved models, whatever their kind."""

from __future__ import annotations

import os

from .bernoulli_rbm import BernoulliRBM
from .files import read_model
from .gaussian_rbm import GaussianRBM
from .ising import Ising
from .spin_rbm import SpinRBM

__all__ = ["Model", "load"]

Model = BernoulliRBM | GaussianRBM | SpinRBM | Ising

_KINDS: dict[str, type[Model]] = {kind.__name__: kind for kind in (BernoulliRBM, GaussianRBM, SpinRBM, Ising)}


def load(path: str | os.PathLike[str]) -> Model:
    """Read a model that was saved with its ``save`` method.

    Parameters
    ----------
    path : path_like
        An ``.npz`` or ``.safetensors`` file.

    Returns
    -------
    BernoulliRBM, GaussianRBM, SpinRBM or Ising
        With parameters bit for bit as saved.

    Raises
    ------
    ValueError
        If the file is truncated, foreign, holds pickled objects, or its arrays are no model.
    OSError
        If it cannot be read.
    """
    kind, arrays = read_model(path)
    if kind not in _KINDS:
        raise ValueError(f"{os.fspath(path)}: expected one of {', '.join(_KINDS)}, got a {kind}")
    model = _KINDS[kind]
    try:
        return model(*(arrays[name] for name in model.names))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{os.fspath(path)}: expected the parameters of a model, {kind}: {error}") from error
