"""Philox4x32-10 in NumPy, and the uniform numbers that the Gibbs kernel says it draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

LOW = np.uint64(0xFFFFFFFF)
STREAMS = {"hidden": 1, "visible": 2}
NORMAL, GAUSSIAN_VISIBLE = 5, 6
HAMILTONIAN_MOMENTUM, HAMILTONIAN_TEST, FLAT_HISTOGRAM = 13, 14, 15


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


def box_muller(words: list[npt.NDArray[np.uint64]], dtype: Any) -> list[npt.NDArray[np.float64]]:
    """The normal numbers of blocks, four in float32 and two in float64: numerics/normal.hpp, in float64."""
    signed = [np.asarray(w, dtype=np.uint32).view(np.int32).astype(np.int64) for w in words]
    w = [np.asarray(word, dtype=np.int64) for word in words]
    if dtype == np.float32:

        def middle(k: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:  # k + 1/2 in float32
            return (k.astype(np.float32) + np.float32(0.5)).astype(np.float64)

        pairs = [
            (middle(w[k] >> 1) * 2.0**-31, middle(signed[k + 1] >> 2) * 2.0**-30, w[k + 1]) for k in (0, 2)
        ]
    else:
        u = ((w[0] >> 1) + ((w[1] >> 1) + 0.5) * 2.0**-31) * 2.0**-31
        f = (signed[2] + ((w[3] >> 2) + 0.5) * 2.0**-30) * 2.0**-32
        pairs = [(u, f, w[3])]
    found = []
    for u, f, quarter in pairs:
        radius = np.sqrt(-2 * np.log(u)) * np.where(quarter & 2, -1.0, 1.0)
        cos, sin = np.cos(np.pi / 2 * f), np.sin(np.pi / 2 * f)
        swap = (quarter & 1).astype(bool)
        found += [radius * np.where(swap, sin, cos), radius * np.where(swap, cos, sin)]
    return found


def normals(
    unit: npt.NDArray[Any], chain: Any, step: int, stream: int, seed: int, dtype: Any
) -> npt.NDArray[np.float64]:
    """The normal number of a unit: (u / 16) % k of block 16 (u / 16k) + u % 16."""
    per_block = 4 if dtype == np.float32 else 2
    block = 16 * (unit // (16 * per_block)) + unit % 16
    words = philox4x32([block, chain, step & 0xFFFFFFFF, stream | (step >> 32) << 8], seed)
    return np.choose(unit // 16 % per_block, box_muller(words, dtype))
