"""Arrays in and out: NumPy at once, anything with DLPack without a copy."""

from __future__ import annotations

import numbers
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ._core import TargetUnavailableError, pack_states

Array = npt.NDArray[Any]
GiveBack = Callable[[Array], Any]

_DLPACK_CPU_DEVICES = (1, 3)  # plain and pinned host memory (kDLCPU, kDLCUDAHost)


def borrow(x: Any, name: str) -> tuple[Array, GiveBack]:
    """View `x` as a NumPy array, and say how results return to the caller.

    Parameters
    ----------
    x : array_like
        A NumPy array, anything with ``__dlpack__`` in host memory (a PyTorch, JAX or CuPy array), or
        nested sequences of numbers.
    name : str
        The argument's name, for error messages.

    Returns
    -------
    array : ndarray
        Shares memory with `x` unless `x` was a sequence.
    give_back : callable
        Turns a NumPy result into the caller's kind of array, without a copy.

    Raises
    ------
    TargetUnavailableError
        If `x` lives on a device for which there is no kernel.
    TypeError
        If `x` is no array of numbers.
    """
    if isinstance(x, np.ndarray):
        return x, _as_is
    if hasattr(x, "__dlpack__"):
        device = int(x.__dlpack_device__()[0])
        if device not in _DLPACK_CPU_DEVICES:
            raise TargetUnavailableError(
                f"{name}: expected an array in host memory, got one on DLPack device type {device}; "
                "this version has CPU kernels only"
            )
        return np.from_dlpack(x), _importer_of(x)
    array = np.asarray(x)
    if array.dtype == object:
        raise TypeError(f"{name}: expected an array of numbers, got {type(x).__name__}")
    return array, _as_is


def borrow_states(x: Any, n_units: int, name: str) -> tuple[npt.NDArray[np.uint64], GiveBack]:
    """Pack 0/1 states (n_samples, n_units) into words; the errors name the argument.

    Every bool, integer, float32 and float64 dtype is accepted in any memory layout, and only read.
    """
    array, give_back = borrow(x, name)
    return pack_states(array, n_units, name), give_back


def real_parameters(x: Any, name: str) -> Array:
    """Copy model parameters: float32 and float64 keep their dtype, Python numbers become float64."""
    array, _ = borrow(x, name)
    if not isinstance(x, np.ndarray) and not hasattr(x, "__dlpack__") and array.dtype.kind in "iu":
        array = array.astype(np.float64)
    if array.dtype not in (np.float32, np.float64) or not array.dtype.isnative:
        raise TypeError(f"{name}: expected dtype float32 or float64 in native byte order, got {array.dtype}")
    return np.array(array, order="C", copy=True)


def threads(num_threads: int | None) -> int:
    """`num_threads` for the kernels, where 0 stands for the default."""
    if num_threads is None:
        return 0
    if isinstance(num_threads, bool) or not isinstance(num_threads, (int, np.integer)):
        raise TypeError(f"num_threads: expected an int or None, got {type(num_threads).__name__}")
    if num_threads < 1:
        raise ValueError(f"num_threads: expected num_threads >= 1, got {num_threads}")
    return int(num_threads)


def real(value: Any, name: str) -> float:
    """Check that `value` is a real number; its range is the kernel's to check."""
    if isinstance(value, (bool, str)) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}: expected a real number, got {type(value).__name__}")
    return float(value)


def count(value: Any, name: str, least: int = 1) -> int:
    """Check a whole number with a lower limit."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}: expected an int, got {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name}: expected {name} >= {least}, got {value}")
    if value >= 1 << 63:
        raise ValueError(f"{name}: expected {name} < 2^63, got {value}")
    return int(value)


def _as_is(array: Array) -> Array:
    return array


def _importer_of(x: Any) -> GiveBack:
    """Find ``from_dlpack`` of the library that `x` comes from."""
    if hasattr(x, "__array_namespace__"):
        return x.__array_namespace__().from_dlpack  # type: ignore[no-any-return]
    library = sys.modules[type(x).__module__.partition(".")[0]]
    return getattr(library, "from_dlpack", _as_is)
