"""What models have in common: read-only parameters with names, and files."""

from __future__ import annotations

import os
from typing import Any, ClassVar

import numpy as np

from .. import _core
from ..arrays import Array, real_parameters
from . import files

__all__ = ["RBM", "Parametric", "rbm_parameters"]


class Parametric:
    """A model that is its parameters; `names` are those of the constructor's arguments, in order."""

    names: ClassVar[tuple[str, ...]]
    _parameters: tuple[Array, ...]

    @property
    def parameters(self) -> tuple[Array, ...]:
        """All of them, as one consistent set."""
        return self._parameters

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the parameters and of what the methods return."""
        return self.parameters[0].dtype

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a file, which appears whole or not at all; `vfe_fast.load` reads it back.

        Parameters
        ----------
        path : path_like
            Written as safetensors if it ends in ``.safetensors``, else as ``.npz``, which has checksums: a
            flipped bit is found there, and not in safetensors.

        Raises
        ------
        OSError
            If the file cannot be written.
        ModuleNotFoundError
            For ``.safetensors`` without the package of that name.
        """
        files.write_model(path, type(self).__name__, dict(zip(self.names, self.parameters, strict=True)))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.parameters  # what kernels prepared stays behind


class RBM(Parametric):
    """Two layers and the weights between them."""

    names: ClassVar[tuple[str, ...]] = ("weights", "visible_bias", "hidden_bias")

    @property
    def weights(self) -> Array:
        """W, (n_visible, n_hidden), read-only."""
        return self.parameters[0]

    @property
    def visible_bias(self) -> Array:
        """a, (n_visible,), read-only."""
        return self.parameters[1]

    @property
    def hidden_bias(self) -> Array:
        """b, (n_hidden,), read-only."""
        return self.parameters[2]

    @property
    def n_visible(self) -> int:
        """Number of visible units."""
        return int(self.weights.shape[0])

    @property
    def n_hidden(self) -> int:
        """Number of hidden units."""
        return int(self.weights.shape[1])

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(n_visible={self.n_visible}, n_hidden={self.n_hidden}, dtype={self.dtype})"
        )


def rbm_parameters(weights: Any, visible_bias: Any, hidden_bias: Any) -> tuple[Array, Array, Array]:
    """Copy weights and biases, checked and read-only."""
    parameters = (
        real_parameters(weights, "weights"),
        real_parameters(visible_bias, "visible_bias"),
        real_parameters(hidden_bias, "hidden_bias"),
    )
    _core.check_rbm(*parameters)
    for array in parameters:
        array.setflags(write=False)
    return parameters
