"""The cumulants case, and NumPy's way to them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ..arrays import Array
from ..statistics import cumulants
from .harness import Call, Case, Maker, WrongAnswerError, made, verified

__all__ = ["CUMULANTS_NOTE", "cumulants_case", "k_statistics", "numpy_cumulants"]

CUMULANTS_NOTE = (
    "cumulants: seconds a call; float64. Peak: one reading of the data. Ours are k-statistics with errors, "
    "rivals' k-statistics (order 4) or central moments (8) without."
)

_PIECE = 1 << 14  # numbers that a NumPy thread works on at a time: they stay in its cache


def cumulants_case(
    n_rows: int, n: int, order: int, *, threads: int, rivals: Mapping[str, Maker | str]
) -> Case:
    """Cumulants of each row of an array of float64.

    Parameters
    ----------
    n_rows, n : int
        Rows, and numbers in each.
    order : int
        Highest order: 4, or 8.
    threads : int
        Threads to use.
    rivals : mapping of str to callable or str
        ``maker(x, order=, threads=)`` returns a callable that returns (n_rows, order): k-statistics for order
        4, for more than that mean and central moments.

    Returns
    -------
    Case
        Its work is that of reading the numbers once.
    """
    x = np.random.default_rng(1).random((n_rows, n))
    work: dict[str, Any] = {"order": order, "threads": threads}
    _check(_ours)
    return Case(
        bench="cumulants",
        name=f"{n_rows} x {n}, order {order}",
        ours=_ours(x, **work),
        rivals=made(verified(rivals, _check), x, **work),
        work=8.0 * n_rows * n,
        peak="read, out of cache",
    )


def _ours(x: Array, *, order: int, threads: int) -> Call:
    return lambda: cumulants(x, order, num_threads=threads).values


def k_statistics(mean: Any, moments: Any, n: int) -> list[Any]:
    """The first four, from central moments m_2, m_3, m_4 of n numbers."""
    m2, m3, m4 = moments
    fourth = n**2 * ((n + 1) * m4 - 3 * (n - 1) * m2**2) / ((n - 1.0) * (n - 2.0) * (n - 3.0))
    return [mean, n / (n - 1.0) * m2, n**2 / ((n - 1.0) * (n - 2.0)) * m3, fourth]


def _check(maker: Maker) -> None:
    """Compare with sums in exact arithmetic, as far as float64 has it."""
    x = np.random.default_rng(3).random((3, 1000)) + 2
    found = np.asarray(maker(x, order=4, threads=1)())
    wide = x.astype(np.longdouble)
    mean = wide.mean(axis=1)
    d = wide - mean[:, None]
    expected = np.stack(k_statistics(mean, [(d**q).mean(axis=1) for q in (2, 3, 4)], 1000), axis=-1)
    error = np.abs(found - expected).max()
    if not error < 1e-12:
        raise WrongAnswerError(f"k-statistics of uniform numbers are off by {float(error):.1g}")


def numpy_cumulants(x: Array, *, order: int, threads: int) -> Call:
    """NumPy at its best: means first, then powers in pieces that stay in the cache, on a pool of threads.

    Parameters
    ----------
    x : ndarray, (n_rows, n)
        The numbers.
    order : int
        As in `cumulants_case`.
    threads : int
        Threads to use.

    Returns
    -------
    callable
        Returns (n_rows, order).
    """
    n_rows, n = x.shape
    pool = ThreadPoolExecutor(threads)
    width = min(n, _PIECE)
    height = max(1, _PIECE // width)
    pieces = [
        (slice(r, min(r + height, n_rows)), slice(c, min(c + width, n)))
        for r in range(0, n_rows, height)
        for c in range(0, n, width)
    ]
    shares = [pieces[k::threads] for k in range(threads)]

    def sums(share: list[tuple[slice, slice]]) -> Array:
        found = np.zeros((n_rows, order))
        for rows, columns in share:
            found[rows, 0] += x[rows, columns].sum(axis=1)
        return found

    def powers(mean: Array, share: list[tuple[slice, slice]]) -> Array:
        found = np.zeros((n_rows, order))
        for rows, columns in share:
            d = x[rows, columns] - mean[rows, None]
            power = d.copy()
            for q in range(1, order):
                found[rows, q] += np.einsum("rk,rk->r", power, d)
                if q + 1 < order:
                    power *= d
        return found

    def call() -> Array:
        mean = np.sum(list(pool.map(sums, shares)), axis=0)[:, 0] / n
        found: Array = np.sum(list(pool.map(functools.partial(powers, mean), shares)), axis=0) / n
        found[:, 0] = mean
        return np.stack(k_statistics(mean, found[:, 1:].T, n), axis=-1) if order == 4 else found

    return call
