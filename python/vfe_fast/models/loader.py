"""Saved models, whatever their kind."""

from __future__ import annotations

import os

from .bernoulli_rbm import BernoulliRBM
from .files import read_model

__all__ = ["load"]


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
    kind, arrays = read_model(path)
    if kind != "BernoulliRBM":
        raise ValueError(f"{os.fspath(path)}: expected a BernoulliRBM, got a {kind}")
    try:
        return BernoulliRBM(arrays["weights"], arrays["visible_bias"], arrays["hidden_bias"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{os.fspath(path)}: expected the parameters of a BernoulliRBM: {error}") from error
