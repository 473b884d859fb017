"""What models have in common: read-only parameters with names, and files."""

from __future__ import annotations

import abc
import os
from typing import Any, ClassVar, Literal, Self

import numpy as np

from .. import _core
from ..arguments import real
from ..arrays import Array, borrow, real_parameters
from . import files

__all__ = ["RBM", "BinaryRBM", "Parametric", "rbm_parameters"]


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
            Taken as it is, no ending is added. Written as safetensors if it ends in ``.safetensors``, else,
            whatever the ending, as ``.npz``, which has checksums: a flipped bit is found there, and not in
            safetensors.

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


class RBM(Parametric, abc.ABC):
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
        return len(self.parameters[1])

    @property
    def n_hidden(self) -> int:
        """Number of hidden units."""
        return len(self.parameters[2])

    @abc.abstractmethod
    def _take(self, parameters: Any) -> None:
        """Make these, checked and read-only, the model's, at once."""

    def _replace(self, parameters: tuple[Array, ...]) -> None:
        """The same, if they are of the model's shape and dtype."""
        if parameters[0].shape != self.weights.shape:
            raise ValueError(
                f"weights: expected (n_visible, n_hidden) = {self.weights.shape}, got {parameters[0].shape}"
            )
        if parameters[0].dtype != self.dtype:
            raise TypeError(f"weights: expected {self.dtype} as before, got {parameters[0].dtype}")
        self._take(parameters)

    @abc.abstractmethod
    def set_parameters(self, weights: Any, visible_bias: Any, hidden_bias: Any) -> None:
        """Replace all parameters at once."""

    def with_biases(self, visible_bias: Any = None, hidden_bias: Any = None) -> Self:
        """The machine with the same weights and other biases.

        It shares the weights, and what the Gibbs kernel prepared of them, with this one, so annealing and
        fields that change from step to step cost no new tables. `set_parameters` with this model's own
        `weights` does the same in place.

        Parameters
        ----------
        visible_bias : array_like, (n_visible,), optional
            a; as it is if not given.
        hidden_bias : array_like, (n_hidden,), optional
            b; as it is if not given.

        Returns
        -------
        RBM
            Of the same kind.

        Raises
        ------
        TypeError, ValueError
            As the constructor does.
        """
        other = object.__new__(type(self))
        other.__dict__ |= self.__dict__
        weights, *biases = other.parameters[:3]
        given = zip((visible_bias, hidden_bias), biases, ("visible_bias", "hidden_bias"), strict=True)
        new = [own if bias is None else _like(own, bias, name) for bias, own, name in given]
        other.set_parameters(weights, *new)
        return other

    @abc.abstractmethod
    def free_energy(
        self,
        v: Any,
        *,
        beta: float = 1.0,
        num_threads: int | None = None,
        device: Literal["cpu", "cuda"] | None = None,
    ) -> Any:
        """Clamped free energy of visible states."""

    def log_likelihood(
        self,
        v: Any,
        log_z: float,
        *,
        beta: float = 1.0,
        num_threads: int | None = None,
        device: Literal["cpu", "cuda"] | None = None,
    ) -> Any:
        r"""ln p(v) = -beta F_c(v) - ln Z in nats, one number a sample.

        Parameters
        ----------
        v : array_like, (n_samples, n_visible)
            States of the visible units, or real numbers, of which p(v) is the density.
        log_z : float
            ln Z at the same `beta`, as in ``free_energy.exact(rbm).log_z``; finite.
        beta : float
            Inverse temperature, >= 2^-100.
        num_threads : int, optional
            Threads to use; the result does not depend on it.
        device : {"cpu", "cuda"}, optional
            Where the kernel runs: where `v` is, if not given. States in host memory are moved to a CUDA
            device and back. The result does not depend on it.

        Returns
        -------
        array, (n_samples,)
            Of the model's dtype; the caller's kind of array.

        Raises
        ------
        TypeError, ValueError
            If shapes or values are not as described.
        TargetUnavailableError
            If there is no such device, or no kernel for it.
        """
        if not isinstance(log_z, float) and hasattr(log_z, "log_z"):
            raise TypeError("log_z: expected a number, got a FreeEnergy: pass its log_z")
        if not np.isfinite(log_z := real(log_z, "log_z")):
            raise ValueError(f"log_z: expected a finite number, got {log_z}")
        energies = self.free_energy(v, beta=beta, num_threads=num_threads, device=device)
        return -real(beta, "beta") * energies - log_z

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(n_visible={self.n_visible}, n_hidden={self.n_hidden}, dtype={self.dtype})"
        )


class BinaryRBM(RBM):
    """An RBM whose units have two states each."""

    def set_parameters(self, weights: Any, visible_bias: Any, hidden_bias: Any) -> None:
        """Replace all parameters at once.

        Parameters
        ----------
        weights : array_like, (n_visible, n_hidden)
            W.
        visible_bias : array_like, (n_visible,)
            a.
        hidden_bias : array_like, (n_hidden,)
            b.

        Raises
        ------
        TypeError, ValueError
            As the constructor does, and if the shapes are not those of the model. It is then unchanged.
        """
        self._replace(rbm_parameters(weights, visible_bias, hidden_bias, self.weights))


def _like(own: Array, bias: Any, name: str) -> Array:
    array = parameters_like(own, bias, name)
    if array.shape != own.shape:
        raise ValueError(f"{name}: expected {own.shape}, got {array.shape}")
    return array


def parameters_like(first: Array, x: Any, name: str) -> Array:
    """Copy parameters that must have the dtype of the `first`, which Python numbers take."""
    if not isinstance(x, np.ndarray) and not hasattr(x, "__dlpack__"):
        x, _ = borrow(x, name)
        with np.errstate(over="ignore"):  # what overflows is refused
            x = x.astype(first.dtype) if x.dtype.kind in "iuf" else x
    return real_parameters(x, name)


def refuse(array: Array, bad: Array, name: str, expected: str) -> None:
    """Raise if some numbers are `bad`, with the first of them and where it is."""
    if bad.any():
        at = tuple(map(int, np.argwhere(bad)[0]))
        raise ValueError(f"{name}: expected {expected}, got {array[at]:g} at {at}")


def refuse_large(array: Array, name: str) -> None:
    """Raise if some numbers are not finite, or so large that an energy might overflow."""
    exponent = 100 if array.dtype == np.float32 else 900
    refuse(array, ~(np.abs(array) < 2.0**exponent), name, f"finite numbers below 2^{exponent}")


def rbm_parameters(
    weights: Any, visible_bias: Any, hidden_bias: Any, known: Array | None = None
) -> tuple[Array, Array, Array]:
    """Copy weights and biases, checked and read-only; weights that are `known` were checked before."""
    own = real_parameters(weights, "weights")
    parameters = (
        own,
        parameters_like(own, visible_bias, "visible_bias"),
        parameters_like(own, hidden_bias, "hidden_bias"),
    )
    try:
        _core.check_rbm(*parameters, biases_only=own is known)
    except ValueError:
        for name, array in zip(RBM.names, parameters, strict=True):
            refuse_large(array, name)  # says where
        raise
    for array in parameters:
        array.setflags(write=False)
    return parameters
