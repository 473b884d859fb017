"""Philox4x32-10 in NumPy, and the uniform numbers that the Gibbs kernel says it draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

LOW = np.uint64(0xFFFFFFFF)
STREAMS = {"hidden": 1, "visible": 2}


def philox4x32(counter: list[Any], seed: int) -> list[npt.NDArray[np.uint64]]:
    """Four words for each element of the broadcast counter words."""
    c = [np.asarray(x, dtype=np.uint64) for x in np.broadcast_arrays(*counter)]
    key = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [
            (p1 >> np.uint64(32)) ^ c[1] ^ np.uint64(key[0]),
            p1 & LOW,
            (p0 >> np.uint64(32)) ^ c[3] ^ np.uint64(key[1]),
            p0 & LOW,
        ]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def gibbs_uniforms(
    n_chains: int, n_units: int, *, seed: int, layer: str, step: int
) -> npt.NDArray[np.float64]:
    """The numbers in [0, 1) that chain c compares for unit u: the draw line of gibbs.hpp."""
    unit = np.arange(n_units)
    block = 16 * (unit // 64) + unit % 16
    chain = np.arange(n_chains)[:, None]
    stream = [(STREAMS[layer] + tie) | (step >> 32) << 8 for tie in (0, 2)]
    words = philox4x32([block, chain // 2, step & 0xFFFFFFFF, stream[0]], seed)
    shift = np.uint64(16) * (chain % 2).astype(np.uint64)
    leading = (np.choose(unit // 16 % 4, words) >> shift) & np.uint64(0xFFFF)
    high, low, _, _ = philox4x32([unit, chain, step & 0xFFFFFFFF, stream[1]], seed)
    further = (high << np.uint64(32) | low) >> np.uint64(11)
    return leading / 2.0**16 + further / 2.0**69
