"""Checks of plain arguments; every error begins with the argument's name.

Arrays are checked in `vfe_fast.arrays` and by the kernels.
"""

from __future__ import annotations

import contextlib
import math
import numbers
from collections.abc import Iterator
from typing import Any

import numpy as np

__all__ = [
    "array_shape", "count", "float_dtype", "inverse_temperature", "is_on_device", "memory_for", "on_cuda",
    "real", "threads"
]  # fmt: skip

_MAX_COUNT = 1 << 63
_DLPACK_CUDA = 2  # kDLCUDA
_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


def count(value: Any, name: str, least: int = 1, below: int = _MAX_COUNT) -> int:
    """Check a whole number."""
    if type(value) is int and least <= value < below:
        return value
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}: expected an int, got {type(value).__name__}")
    if not least <= value < below:
        limit = f"{least} <= {name}" if value < least else f"{name} < {below}"
        raise ValueError(f"{name}: expected {limit}, got {value}")
    return int(value)


def real(value: Any, name: str, least: float = -math.inf, below: float = math.inf) -> float:
    """Check a real number; without limits, infinities and NaN are left to the kernel's check."""
    if type(value) is float and least == -math.inf and below == math.inf:
        return value
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}: expected a real number, got {type(value).__name__}")
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(f"{name}: expected a number in the range of float64, got a larger one") from None
    if (least > -math.inf or below < math.inf) and not least <= number < below:
        low = "0 <" if least == np.finfo(np.float64).tiny else f"{least:g} <="
        raise ValueError(f"{name}: expected {low} {name} < {below:g}, got {number:g}")
    return number


def inverse_temperature(value: Any) -> float:
    """`beta` of an exact sum, whose products and quotients with energies stay in range."""
    beta = real(value, "beta")
    if not (beta == 0 or 2.0**-100 <= beta < 2.0**100):
        raise ValueError(f"beta: expected 0 or 2^-100 <= beta < 2^100, got {beta:g}")
    return beta


def on_cuda(device: Any, *arrays: Any) -> bool:
    """Whether the kernel's CUDA twin is to run; by default where the first array is."""
    if device is None and arrays:
        return is_on_device(arrays[0])
    if device not in ("cpu", "cuda"):
        raise ValueError(f"device: expected 'cpu' or 'cuda', got {device!r}")
    return bool(device == "cuda")


def is_on_device(x: Any) -> bool:
    """Whether an array is on a CUDA device, as it says itself."""
    if type(x) is np.ndarray or not hasattr(x, "__dlpack_device__"):
        return False
    try:
        return int(x.__dlpack_device__()[0]) == _DLPACK_CUDA
    except (BufferError, RuntimeError, TypeError, ValueError):  # it has no memory; the gate says so
        return False


def threads(num_threads: Any) -> int:
    """`num_threads` for the kernels, where 0 stands for the default."""
    return 0 if num_threads is None else count(num_threads, "num_threads", below=1 << 31)


def float_dtype(dtype: Any, name: str = "dtype") -> np.dtype[Any]:
    """float32 or float64 in native byte order."""
    if dtype is np.float64 or dtype is np.float32:
        return _FLOAT64 if dtype is np.float64 else _FLOAT32
    try:
        found: np.dtype[Any] = np.dtype(dtype)
    except TypeError as error:
        raise TypeError(f"{name}: expected float32 or float64, got {dtype!r}") from error
    if found not in (np.float32, np.float64) or not found.isnative:
        raise TypeError(f"{name}: expected float32 or float64 in native byte order, got {found.str}")
    return found


def array_shape(shape: Any, name: str = "shape") -> tuple[int, ...]:
    """A shape given as an int or a sequence of ints, of less than 2^63 elements."""
    if isinstance(shape, (int, np.integer)):
        shape = (shape,)
    elif not isinstance(shape, (tuple, list)):
        raise TypeError(f"{name}: expected an int or a tuple of ints, got {type(shape).__name__}")
    sizes = tuple([count(size, name, 0) for size in shape])  # no generator: this runs in every call
    if math.prod(sizes) >= _MAX_COUNT // 8:
        raise ValueError(f"{name}: expected fewer than 2^60 elements, got {sizes}")
    return sizes


@contextlib.contextmanager
def memory_for(name: str, value: Any) -> Iterator[None]:
    """Say which argument asked for the memory that is not there."""
    try:
        yield
    except MemoryError as error:
        raise MemoryError(f"{name}: expected a size that fits in memory, got {value}: {error}") from None
