"""What this machine can do at best."""

from __future__ import annotations

import functools

import numpy as np

from .. import _core
from .harness import Peak, best_rate

__all__ = ["measure_peaks"]


def measure_peaks(*, threads: int, seconds: float = 0.1) -> dict[str, Peak]:
    """Measure what the cases of this file are held against.

    Parameters
    ----------
    threads : int
        Threads to use.
    seconds : float
        For how long to run each probe.

    Returns
    -------
    dict of str to Peak
        Multiplications and additions, half of each and unfused, matrix products by NumPy, random words.
    """
    # The first second after idling is not representative: clocks rise and threads find their cores.
    _core.roofline(_core.Probe.mul_add_float32, seconds=5 * seconds, num_threads=threads)
    peaks = {}
    for kind in ("float32", "float64"):
        probe = getattr(_core.Probe, f"mul_add_{kind}")
        rate = _core.roofline(probe, seconds=seconds, num_threads=threads)
        peaks[f"{kind} mul+add"] = Peak(rate, "flop")
    for name, dtype, size in (("sgemm", np.float32, 2048), ("dgemm", np.float64, 1536)):
        matrix = np.random.default_rng(0).random((size, size)).astype(dtype)
        product = np.empty_like(matrix)
        multiply = functools.partial(np.matmul, matrix, matrix, out=product)
        peaks[name] = Peak(best_rate(multiply, 2.0 * size**3, 3 * seconds), "flop", "NumPy")
    peaks["philox"] = Peak(
        _core.roofline(_core.Probe.philox, seconds=seconds, num_threads=threads), "words", "32 bits each"
    )
    return peaks
