"""Arrays in and out: NumPy at once, anything with DLPack without a copy."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _core
from ._core import TargetUnavailableError, pack_states
from .arguments import is_on_device, memory_for

Array = npt.NDArray[Any]
GiveBack = Callable[[Array], Any]

_DLPACK_CPU_DEVICES = (1, 3)  # plain and pinned host memory (kDLCPU, kDLCUDAHost)


def borrow(x: Any, name: str, *, cuda: bool = False) -> tuple[Array, GiveBack]:
    """View `x` as a NumPy array, and say how results return to the caller.

    An array on a CUDA device stays there: what stands for it has its shape and dtype, and a kernel's
    twin can read it, but nobody here may touch its elements.

    Parameters
    ----------
    x : array_like
        A NumPy array, anything with ``__dlpack__`` in host memory (a PyTorch, JAX or CuPy array), or
        nested sequences of numbers.
    name : str
        The argument's name, for error messages.
    cuda : bool
        Whether it may be on a CUDA device.

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
    if type(x) is np.ndarray:
        return x, _as_is
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{name}: expected an array without a mask, got a masked array")
    if isinstance(x, np.ndarray):
        return x, _as_is
    if hasattr(x, "__dlpack__"):
        if cuda and is_on_device(x):
            return _borrow_on_device(x, name)
        try:
            device = int(x.__dlpack_device__()[0])
        except (BufferError, RuntimeError, TypeError, ValueError) as error:
            raise TypeError(f"{name}: expected an array with memory: {error}") from error
        if device not in _DLPACK_CPU_DEVICES:
            raise TargetUnavailableError(
                f"{name}: expected an array in host memory, got one on DLPack device type {device}"
            )
        try:
            return np.from_dlpack(x), _importer_of(x)
        except (BufferError, RuntimeError, TypeError, ValueError) as error:
            raise TypeError(f"{name}: expected an array that NumPy can view: {error}") from error
    try:
        array = np.asarray(x)
    except ValueError as error:
        raise ValueError(f"{name}: expected an array of numbers: {error}") from error
    if array.dtype.kind in "OUS":
        raise TypeError(f"{name}: expected an array of numbers, got {type(x).__name__}")
    return array, _as_is


def borrow_states(
    x: Any, n_units: int, name: str, *, cuda: bool = False
) -> tuple[npt.NDArray[np.uint64], GiveBack]:
    """Pack 0/1 states (n_samples, n_units) into words; the errors name the argument.

    Every bool, integer, float32 and float64 dtype is accepted in any memory layout, and only read.
    """
    array, give_back = borrow(x, name, cuda=cuda)
    try:
        return pack_states(array, n_units, name), give_back
    except ValueError as error:
        if array.shape[1:] != (n_units,) or _core.on_device(array):
            raise
        bad = np.argwhere((array != 0) & (array != 1))
        if len(bad) == 0:
            raise
        at = tuple(map(int, bad[0]))
        raise ValueError(f"{name}: expected states of 0s and 1s, got {array[at]} at {at}") from error
    except MemoryError as error:  # not memory_for: this runs in every call
        raise MemoryError(
            f"{name}: expected a size that fits in memory, got {array.shape}: {error}"
        ) from None


def finite_reals(
    x: Any, n_units: int | None, dtype: np.dtype[Any] | None, name: str
) -> tuple[Array, GiveBack]:
    """View (n_samples, n_units) finite numbers, C-ordered; Python's numbers are converted.

    Of float32 or float64, or only of the dtype given; of any number of units if that is None.
    """
    array, give_back = borrow(x, name)
    if not isinstance(x, np.ndarray) and not hasattr(x, "__dlpack__") and array.dtype.kind in "iuf":
        array = array.astype(np.float64 if dtype is None else dtype)
    if array.ndim != 2 or n_units not in (None, array.shape[1]):
        width = "n_visible" if n_units is None else n_units
        raise ValueError(f"{name}: expected (n_samples, {width}), got {array.shape}")
    if dtype is not None and array.dtype != dtype:
        raise TypeError(f"{name}: expected {dtype} like the model, got {array.dtype}")
    if array.dtype not in (np.float32, np.float64) or not array.dtype.isnative:
        raise TypeError(f"{name}: expected dtype float32 or float64 in native byte order, got {array.dtype}")
    finite = np.isfinite(array)
    if not finite.all():
        at = tuple(map(int, np.argwhere(~finite)[0]))
        raise ValueError(f"{name}: expected finite numbers, got {array[at]} at {at}")
    return np.ascontiguousarray(array), give_back


def in_host(array: Array) -> Array:
    """Copy what a kernel left on a device; what is in host memory is given as it is."""
    return _core.to_host(array) if _core.on_device(array) else array


def real_parameters(x: Any, name: str) -> Array:
    """Copy model parameters: float32 and float64 keep their dtype, Python numbers become float64."""
    array, _ = borrow(x, name)
    if not isinstance(x, np.ndarray) and not hasattr(x, "__dlpack__") and array.dtype.kind in "iu":
        array = array.astype(np.float64)
    if array.dtype not in (np.float32, np.float64) or not array.dtype.isnative:
        raise TypeError(f"{name}: expected dtype float32 or float64 in native byte order, got {array.dtype}")
    if isinstance(array.base, bytes) and array.flags.c_contiguous and array.flags.aligned:
        return array  # on bytes, which nothing can make writable
    with memory_for(name, f"shape {array.shape}"):
        if array.size == 0:
            return np.array(array, order="C", copy=True)
        return np.ndarray(array.shape, array.dtype, array.tobytes())


def _borrow_on_device(x: Any, name: str) -> tuple[Array, GiveBack]:
    from .device import DeviceArray, current_stream

    try:
        _core.require_device(True)
    except TargetUnavailableError as error:
        raise TargetUnavailableError(f"{name}: {error}") from None
    if isinstance(x, DeviceArray):
        return x.array, DeviceArray.of
    take: Callable[[Any], Any] = _importer_of(x)
    try:
        array = _core.borrow_device_array(x.__dlpack__(stream=current_stream()))
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise TypeError(f"{name}: expected an array that kernels can read: {error}") from error
    return array, lambda result: take(DeviceArray.of(result))


def _as_is(array: Array) -> Array:
    return array


def _importer_of(x: Any) -> GiveBack:
    """Find ``from_dlpack`` of the library that `x` comes from."""
    if hasattr(x, "__array_namespace__"):
        return x.__array_namespace__().from_dlpack  # type: ignore[no-any-return]
    for kind in type(x).__mro__:  # a subclass may be defined anywhere
        library = sys.modules.get(kind.__module__.partition(".")[0])
        if hasattr(library, "from_dlpack"):
            return library.from_dlpack  # type: ignore[union-attr,no-any-return]
    return _as_is


def jax_in_64_bits() -> contextlib.AbstractContextManager[Any]:
    """JAX's setting, of this thread alone."""
    import jax

    if hasattr(jax, "enable_x64"):
        found: contextlib.AbstractContextManager[Any] = jax.enable_x64(True)
        return found
    from jax.experimental import enable_x64  # before JAX 0.8

    older: contextlib.AbstractContextManager[Any] = enable_x64(True)
    return older
