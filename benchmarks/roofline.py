"""What this machine can do: arithmetic, matrix products, memory in and out of cache, random words."""

from pathlib import Path

import numpy as np

from vfe_fast._core import Probe, roofline
from vfe_fast.bench.harness import Peak, best_rate
from vfe_fast.bench.peaks import measure_peaks


def measure(threads: int, quick: bool) -> dict[str, Peak]:
    seconds = 0.1 if quick else 0.5
    peaks = measure_peaks(threads=threads, seconds=seconds)
    for kind in ("float32", "float64"):
        rate = roofline(Probe[f"fma_{kind}"], seconds=seconds, num_threads=threads)
        if rate > 0:  # the baseline instruction set has none
            peaks[f"{kind} FMA"] = Peak(rate, "flop")
    _try_torch(peaks, seconds)
    inside, outside = _working_sets(threads)
    for probe in (Probe.read, Probe.write, Probe.copy):
        # A copy has two buffers of the size given.
        small, large = (inside // 2, outside // 2) if probe is Probe.copy else (inside, outside)
        for place, size in (("in L2", small), ("out of cache", large)):
            rate = roofline(probe, seconds=seconds, bytes=size, num_threads=threads)
            peaks[f"{probe.name}, {place}"] = Peak(rate, "B", f"{size >> 10} KiB a thread")
    return peaks


def _try_torch(peaks: dict[str, Peak], seconds: float) -> None:
    """Replace the rates of NumPy's BLAS by those of PyTorch's where they are higher."""
    try:
        import torch
    except Exception:  # not installed or broken: the list of rivals says which
        return
    for name, dtype, size in (("sgemm", torch.float32, 2048), ("dgemm", torch.float64, 1536)):
        matrix = torch.from_numpy(np.random.default_rng(0).random((size, size))).to(dtype)
        product = torch.empty_like(matrix)
        rate = best_rate(lambda m=matrix, p=product: torch.mm(m, m, out=p), 2.0 * size**3, 3 * seconds)
        if rate > peaks[name].rate:
            peaks[name] = Peak(rate, "flop", "PyTorch")


def _working_sets(threads: int) -> tuple[int, int]:
    """Bytes a thread: half of its L2 cache, and well beyond its share of the last cache."""
    level2, last = _cache_bytes(2, 1 << 20), _cache_bytes(3, 1 << 25)
    return level2 // 2, max(1 << 25, 4 * last // threads)


def _cache_bytes(level: int, default: int) -> int:
    for folder in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            if int((folder / "level").read_text()) == level:
                return int((folder / "size").read_text().strip().removesuffix("K")) << 10
        except (OSError, ValueError):
            pass
    return default
