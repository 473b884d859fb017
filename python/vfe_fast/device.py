"""CUDA devices: arrays that stay there, and where kernels go."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from . import _core
from .arrays import Array, borrow

__all__ = ["DeviceArray", "empty_cache", "stream"]

_DLPACK_CUDA = 2  # kDLCUDA
_LEGACY_DEFAULT_STREAM = 1  # what DLPack calls CUDA's stream 0


class DeviceArray:
    """An array on a CUDA device.

    ``torch.from_dlpack``, ``cupy.from_dlpack`` and ``jax.dlpack.from_dlpack`` take it without a copy; their
    arrays are taken as arguments in the same way, and results come back as their kind of array.

    Parameters
    ----------
    x : array_like
        An array on a CUDA device, which is shared, or one in host memory, which is copied.

    Raises
    ------
    TargetUnavailableError
        If there is no such device; the message says why.
    TypeError
        If `x` is no array of numbers.
    """

    def __init__(self, x: Any) -> None:
        _core.require_device(True)
        array, _ = borrow(x, "x", cuda=True)
        self.array = array if _core.on_device(array) else _core.to_device(array)

    @classmethod
    def of(cls, array: Array) -> DeviceArray:
        """Wrap what a kernel left on the device."""
        wrapped = object.__new__(cls)
        wrapped.array = array
        return wrapped

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Kind of its elements."""
        return self.array.dtype

    def __len__(self) -> int:
        return len(self.array)

    def numpy(self) -> Array:
        """Copy to host memory.

        Returns
        -------
        ndarray
        """
        return _core.to_host(self.array)

    def __dlpack_device__(self) -> tuple[int, int]:
        return _DLPACK_CUDA, _core.cuda_device()

    def __dlpack__(self, *, stream: int | None = None, **options: Any) -> Any:
        if options.get("copy"):
            raise BufferError("copy: expected False or None, as the array is lent where it is")
        if options.get("dl_device") not in (None, self.__dlpack_device__()):
            raise BufferError(f"dl_device: expected {self.__dlpack_device__()}, got {options['dl_device']}")
        handle = 0 if stream in (None, _LEGACY_DEFAULT_STREAM) else stream
        if handle != -1:  # that of who takes care itself
            _core.let_cuda_stream_wait(handle)
        return _core.lend_device_array(self.array, _core.cuda_device(), handle)

    def __repr__(self) -> str:
        return f"DeviceArray(shape={self.shape}, dtype={self.dtype})"


def current_stream() -> int:
    """Where this thread's kernels go, as DLPack counts streams."""
    return _core.cuda_stream() or _LEGACY_DEFAULT_STREAM


@contextlib.contextmanager
def stream(handle: int) -> Iterator[None]:
    """Send this thread's kernels and copies to a stream.

    Without it they go to the default stream. In either case kernels wait for what the library that an array
    comes from has begun, and that library waits for them.

    Parameters
    ----------
    handle : int
        A ``cudaStream_t``: ``torch.cuda.current_stream().cuda_stream`` or
        ``cupy.cuda.get_current_stream().ptr``.
    """
    before = _core.cuda_stream()
    _core.use_cuda_stream(handle)
    try:
        yield
    finally:
        _core.use_cuda_stream(before)


def empty_cache() -> None:
    """Give device memory that is kept for the next arrays back to the driver."""
    _core.empty_cuda_cache()
