"""Seeds, and random numbers that depend on nothing but the seed.

Every random number is a function of a 64-bit key and of what the number is for (Philox4x32-10, counter
= unit block, chain, step, stream), so the same seed gives the same sample bit for bit whatever the
number of threads, the cut of a batch into calls, or the instruction set. The streams are listed in
``src/cpp/numerics/streams.hpp``.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from . import _core
from .arguments import array_shape, float_dtype, on_cuda, threads
from .device import DeviceArray

__all__ = ["normal", "seed", "uniform"]

# Numbers are never reused; add new ones at the end.
_PURPOSES = {
    "weights": 1,
    "minibatches": 2,
    "exact samples": 3,
    "units picked": 4,
    "swaps": 5,
    "annealing": 6,
    "mean-field starts": 7,
    "trial states": 8,
    "tempering": 9,
    "umbrella": 10,
    "langevin": 11,
    "hamiltonian": 12,
    "path lengths": 13,
    "trace probes": 14,
    "flat histogram": 15,
    "score matching": 17,
    "latent noise": 18,
}


def seed(rng: Any) -> int:
    """Turn what users pass as ``rng=`` into a 64-bit key.

    Parameters
    ----------
    rng : int, numpy.random.Generator, numpy.random.SeedSequence or None
        An int in [0, 2**64) **is** the key: the same int names the same random numbers in every call. A
        Generator gives a fresh key a call and advances. A SeedSequence names one key. None takes a fresh
        key from the operating system.

    Returns
    -------
    int
        In [0, 2**64).

    Raises
    ------
    TypeError, ValueError
        If `rng` is something else, or an int out of range.

    Examples
    --------
    >>> seed(5)
    5
    """
    if type(rng) is int and 0 <= rng < 1 << 64:
        return rng
    if rng is None:
        return secrets.randbits(64)
    if isinstance(rng, (int, np.integer)) and not isinstance(rng, bool):
        if not 0 <= rng < 1 << 64:
            raise ValueError(f"rng: expected 0 <= seed < 2^64, got {rng}")
        return int(rng)
    if isinstance(rng, np.random.Generator):
        return int(rng.integers(0, 1 << 64, dtype=np.uint64))
    if isinstance(rng, np.random.SeedSequence):
        return int(rng.generate_state(1, np.uint64)[0])
    raise TypeError(
        f"rng: expected an int, numpy.random.Generator, SeedSequence or None, got {type(rng).__name__}"
    )


def generator(key: int, purpose: str, index: int = 0) -> np.random.Generator:
    """NumPy's generator for what the kernels do not draw, with a stream of its own for each purpose."""
    words = np.array([key, _PURPOSES[purpose] << 56 | index], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=words))


def uniform(
    shape: int | tuple[int, ...],
    *,
    rng: Any = None,
    dtype: npt.DTypeLike = np.float64,
    num_threads: int | None = None,
    device: Literal["cpu", "cuda"] = "cpu",
) -> Any:
    """Uniform random numbers in the open interval (0, 1).

    Parameters
    ----------
    shape : int or tuple of int
        Shape of the result.
    rng : int, numpy.random.Generator, numpy.random.SeedSequence or None
        See `seed`.
    dtype : dtype
        float64 (52 random bits a number) or float32 (23).
    num_threads : int, optional
        Threads to use; the numbers do not depend on it.
    device : {"cpu", "cuda"}
        Where they are drawn, and stay: the same bits.

    Returns
    -------
    ndarray, or DeviceArray
        Midpoints of equal cells: neither 0 nor 1 occurs, and u and 1 - u have the same law.

    Raises
    ------
    TypeError, ValueError
        If an argument is not of the kind described.
    TargetUnavailableError
        If there is no such device; the message says why.
    """
    sizes = array_shape(shape)
    draw = _core.uniform_float32 if float_dtype(dtype).itemsize == 4 else _core.uniform_float64
    return _drawn(draw, sizes, seed(rng), threads(num_threads), on_cuda(device))


def normal(
    shape: int | tuple[int, ...],
    *,
    rng: Any = None,
    dtype: npt.DTypeLike = np.float64,
    num_threads: int | None = None,
    device: Literal["cpu", "cuda"] = "cpu",
) -> Any:
    r"""Standard normal random numbers.

    .. math:: z = \sqrt{-2 \ln u} \, (\cos t, \sin t)

    Parameters
    ----------
    shape : int or tuple of int
        Shape of the result.
    rng : int, numpy.random.Generator, numpy.random.SeedSequence or None
        See `seed`.
    dtype : dtype
        float64 (tails to 9.3) or float32 (to 6.6).
    num_threads : int, optional
        Threads to use; the numbers do not depend on it.
    device : {"cpu", "cuda"}
        Where they are drawn, and stay: the same bits.

    Returns
    -------
    ndarray, or DeviceArray
        By the method of G. Box and M. Muller, Ann. Math. Stat. 29 (1958) 610; accuracy: docs/numerics.md.

    Raises
    ------
    TypeError, ValueError
        If an argument is not of the kind described.
    TargetUnavailableError
        If there is no such device; the message says why.

    Examples
    --------
    >>> normal((2, 3), rng=0).shape
    (2, 3)
    """
    sizes = array_shape(shape)
    draw = _core.normal_float32 if float_dtype(dtype).itemsize == 4 else _core.normal_float64
    return _drawn(draw, sizes, seed(rng), threads(num_threads), on_cuda(device))


def _drawn(
    draw: Callable[..., npt.NDArray[Any]], sizes: tuple[int, ...], key: int, num_threads: int, cuda: bool
) -> Any:
    try:
        drawn = draw(sizes, key, num_threads, cuda)
    except MemoryError as error:  # not memory_for, which takes as long as a small array
        raise MemoryError(f"shape: expected a size that fits in memory, got {sizes}: {error}") from None
    return DeviceArray.of(drawn) if cuda else drawn
