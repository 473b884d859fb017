"""The short run behind ``vfe-fast bench``: a few cases against NumPy, in a few seconds."""

from __future__ import annotations

import argparse
import functools
import os
import subprocess
import sys
from collections.abc import Callable, Sequence

from ..config import show_config
from .exact_rbm import EXACT_RBM_NOTE, exact_rbm_case, numpy_exact_rbm
from .free_energy import FREE_ENERGY_NOTE, free_energy_case, numpy_free_energy
from .gibbs import GIBBS_NOTE, gibbs_case, numpy_gibbs
from .harness import RATIO_NOTE, Case, format_peaks, format_table, measure, write_json
from .peaks import measure_peaks

__all__ = ["available_cores", "main"]

_BLAS_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VFE_NUM_THREADS")


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def main(argv: Sequence[str]) -> int:
    """Run ``vfe-fast bench``: a few cases against NumPy, in a few seconds.

    Parameters
    ----------
    argv : sequence of str
        ``[--threads N] [--json FILE]``.

    Returns
    -------
    int
        Exit status.
    """
    parser = argparse.ArgumentParser(prog="vfe-fast bench", description="A short benchmark against NumPy.")
    parser.add_argument(
        "--threads", type=int, default=available_cores(), metavar="N", help="default: all cores"
    )
    parser.add_argument("--json", metavar="FILE", help="also write the rows to FILE")
    arguments = parser.parse_args(argv)
    if arguments.threads < 1:
        parser.error(f"--threads: expected N >= 1, got {arguments.threads}")
    if arguments.json is not None and not os.path.isdir(os.path.dirname(os.path.abspath(arguments.json))):
        parser.error(f"--json: expected a file in a folder that is there, got {arguments.json}")
    threads = str(arguments.threads)
    default = str(available_cores())
    if any(os.environ.get(name, default) != threads for name in _BLAS_VARIABLES):
        # NumPy's BLAS has started its threads by now; only a new process can have another number.
        environment = {**os.environ, **dict.fromkeys(_BLAS_VARIABLES, threads)}
        return subprocess.run([sys.executable, "-m", "vfe_fast.bench", *argv], env=environment).returncode
    _short_run(arguments.threads, arguments.json)
    return 0


def _short_run(threads: int, json_path: str | None) -> None:
    config = show_config("dict") or {}
    print(f"vfe_fast {config['version']}, instruction set {config['target']}, threads: {threads}\n")
    peaks = measure_peaks(threads=threads)
    print(format_peaks(peaks), flush=True)
    gibbs = functools.partial(gibbs_case, threads=threads, rivals={"numpy": numpy_gibbs})
    exact = functools.partial(exact_rbm_case, threads=threads, rivals={"numpy": numpy_exact_rbm})
    clamped = functools.partial(free_energy_case, threads=threads, rivals={"numpy": numpy_free_energy})
    makers: list[Callable[[], Case]] = [
        lambda: gibbs(784, 500, 256, n_steps=5),
        lambda: gibbs(64, 64, 100, n_steps=100),
        lambda: clamped(784, 500, 30, means=False),
        lambda: exact(784, 14, moments=False),
        lambda: exact(64, 16, moments=True),
    ]
    rows = [measure(make(), threads=threads, peaks=peaks, quick=True) for make in makers]
    print(f"\n{format_table(rows)}")
    print(f"\n{GIBBS_NOTE}\n{FREE_ENERGY_NOTE}\n{EXACT_RBM_NOTE}\n{RATIO_NOTE}")
    if json_path is not None:
        write_json(rows, json_path)
