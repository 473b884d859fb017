"""The law of the random numbers, at sizes beyond the test suite: ``python -m benchmarks.randomness --help``.

Normal numbers: Kolmogorov-Smirnov and Anderson-Darling, tails, moments to order 8, and correlations between
neighbors, streams and seeds. Noise of reparameterized samples, of all families: the same but moments. Words:
the battery dieharder, if it is installed, on those of seeds 0, 1, 2, ...
"""

from __future__ import annotations

import argparse
import itertools
import math
import shutil
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy import special, stats

import vfe_fast as vf
from vfe_fast import _core

PIECE = 1 << 24  # numbers in memory beside the sorted ones
CRITICAL = {1e-3: 6.0, 1e-2: 3.857, 5e-2: 2.492}  # of Anderson-Darling's A^2, the law known


def report(name: str, found: str, p: float) -> None:
    verdict = "ok" if p > 1e-4 else "SUSPECT"
    print(f"{name:<44} {found:<34} p = {p:.3g}  {verdict}", flush=True)


def two_sided(z: float) -> float:
    return float(2 * stats.norm.sf(abs(z)))


def law(z: np.ndarray) -> None:
    n = len(z)
    pieces = in_pieces(n)
    for bound in (3.0, 4.0, 5.0, 5.5):
        count = sum(int((np.abs(z[piece]) > bound).sum()) for piece in pieces)
        mean = n * 2 * stats.norm.sf(bound)
        p = min(1.0, 2 * min(stats.poisson.cdf(count, mean), stats.poisson.sf(count - 1, mean)))
        report(f"beyond {bound} sigma", f"{count}, expected {mean:.1f}", p)
    for order in range(1, 9):
        moment = sum(float((z[piece].astype(np.float64) ** order).sum()) for piece in pieces) / n
        expected = 0.0 if order % 2 else float(special.factorial2(order - 1))
        variance = float(special.factorial2(2 * order - 1)) - expected**2
        off = (moment - expected) / math.sqrt(variance / n)
        report(f"moment {order}", f"{moment:.6f}, {off:+.2f} errors", two_sided(off))
    for lag in (1, 2, 3, 4, 15, 16, 17, 32, 64, 1024):
        total = sum(float(np.dot(z[p][:-lag].astype(np.float64), z[p][lag:])) for p in pieces)
        off = total / math.sqrt(n)
        report(f"correlation at lag {lag}", f"{off:+.2f} errors", two_sided(off))
    goodness("normal", z, stats.norm)


def goodness(name: str, x: np.ndarray, known: Any) -> None:
    """Kolmogorov-Smirnov and Anderson-Darling; sorts x."""
    n = len(x)
    x.sort()
    largest, total = 0.0, 0.0
    for piece in in_pieces(n):
        ranks, at = np.arange(piece.start, piece.stop, dtype=np.float64), x[piece].astype(np.float64)
        below = known.cdf(at)
        largest = max(largest, float((below - ranks / n).max()), float(((ranks + 1) / n - below).max()))
        logs, mirrored = known.logcdf(at), known.logsf(at)
        total += float(((2 * ranks + 1) * logs + (2 * (n - ranks) - 1) * mirrored).sum())
    scaled = largest * math.sqrt(n)
    report(f"{name}: Kolmogorov-Smirnov", f"D sqrt(n) = {scaled:.3f}", float(stats.kstwobign.sf(scaled)))
    a2 = -n - total / n
    p = min((level for level, critical in CRITICAL.items() if a2 > critical), default=0.5)
    report(f"{name}: Anderson-Darling", f"A^2 = {a2:.3f} (5 %: 2.492, 0.1 %: 6.0)", p)


def in_pieces(n: int) -> list[slice]:
    return [slice(k, min(k + PIECE, n)) for k in range(0, n, PIECE)]


# The law of the noise of each family, and the noise from samples of location 0 and scale 1, relaxed ones of
# temperature 4 and, of categories, two.
NOISE: dict[str, tuple[Any, Callable[[np.ndarray], np.ndarray]]] = {
    "gaussian": (stats.norm, lambda z: z),
    "laplace": (stats.laplace, lambda z: z),
    "logistic": (stats.logistic, lambda z: z),
    "log_normal": (stats.norm, np.log),
    "concrete": (stats.logistic, lambda z: 4 * special.logit(z)),
    "gumbel_softmax": (stats.logistic, lambda z: 4 * (np.log(z[..., 0]) - np.log(z[..., 1]))),
}


def noise_of(family: str, n: int, dtype: type) -> np.ndarray:
    shape = (-(-n // 1000), 1000) + ((2,) if family == "gumbel_softmax" else ())
    zeros = np.zeros(shape, dtype)
    relaxed = family in ("concrete", "gumbel_softmax")
    parameters = (zeros,) if relaxed else (zeros, zeros)
    temperature = 4.0 if relaxed else None
    z = vf.reparameterize(*parameters, family=family, temperature=temperature, rng=0).sample
    return NOISE[family][1](z[0]).ravel()


def families(n: int, dtype: type) -> None:
    """Noise of each family, as its samples show it."""
    for family, (known, _) in NOISE.items():
        x = noise_of(family, n, dtype)
        pieces = in_pieces(len(x))
        for lag in (1, 16, 1000):
            total = sum(float(np.dot(x[p][:-lag].astype(np.float64), x[p][lag:])) for p in pieces)
            off = total / known.var() / math.sqrt(len(x))
            report(f"{family}: correlation at lag {lag}", f"{off:+.2f} errors", two_sided(off))
        for tail in (1e-5, 1e-7):
            for name, count in (
                ("above", sum(int((x[p] > known.isf(tail)).sum()) for p in pieces)),
                ("below", sum(int((x[p] < known.ppf(tail)).sum()) for p in pieces)),
            ):
                mean = len(x) * tail
                p = min(1.0, 2 * min(stats.poisson.cdf(count, mean), stats.poisson.sf(count - 1, mean)))
                report(f"{family}: {name} its {tail:g} quantile", f"{count}, expected {mean:.1f}", p)
        goodness(family, x, known)


def between(n: int) -> None:
    """Seeds 0 and 1, and two streams of one seed, share nothing."""
    normals = [vf.random.normal(n, rng=seed) for seed in (0, 1)]
    uniform = vf.random.uniform(n, rng=0) - 0.5
    pairs = {
        "normal numbers of seeds 0 and 1": (normals[0], normals[1], 1.0),
        "their squares": (normals[0] ** 2 - 1, normals[1] ** 2 - 1, 2.0),
        "normal and uniform numbers of seed 0": (normals[0], uniform, math.sqrt(1 / 12)),
        "square and uniform": (normals[0] ** 2 - 1, uniform, math.sqrt(2 / 12)),
    }
    for name, (a, b, spread) in pairs.items():
        off = float(np.dot(a, b)) / (spread * math.sqrt(n))
        report(name, f"{off:+.2f} errors", two_sided(off))


def words() -> Iterator[bytes]:
    """2^26 words a seed."""
    for seed in itertools.count():
        yield _core.random_words((1 << 26,), seed).tobytes()


def dieharder(options: list[str]) -> None:
    program = shutil.which("dieharder")
    if program is None:
        raise SystemExit("dieharder is not installed")
    with subprocess.Popen([program, "-g", "200", *options], stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        try:
            for block in words():
                process.stdin.write(block)
        except BrokenPipeError:
            pass


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.randomness", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--size", type=float, default=1e8, help="normal numbers of each dtype (default: 1e8)")
    parser.add_argument("--noise", action="store_true", help="that of reparameterized samples alone")
    parser.add_argument(
        "--dieharder", nargs=argparse.REMAINDER, help="run it instead, with these options (such as -a)"
    )
    arguments = parser.parse_args()
    if arguments.dieharder is not None:
        return dieharder(arguments.dieharder or ["-a"])
    for dtype in (np.float32, np.float64):
        print(f"{int(arguments.size):.0e} numbers, {np.dtype(dtype)}")
        if not arguments.noise:
            law(vf.random.normal(int(arguments.size), rng=0, dtype=dtype))
        families(int(arguments.size), dtype)
    if not arguments.noise:
        between(int(arguments.size) // 4)


if __name__ == "__main__":
    main()
