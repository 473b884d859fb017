"""The same number of threads for everybody. Imports no library that starts any."""

import os
import sys


def available() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def set_environment(n_threads: int) -> None:
    """Set what the libraries read once, when they are imported."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VFE_NUM_THREADS"):
        os.environ[name] = str(n_threads)
    # XLA: the flags are its documented ones, but the size of its pool follows NPROC.
    os.environ["NPROC"] = str(n_threads)
    eigen = "true" if n_threads > 1 else "false"
    flags = f"--xla_cpu_multi_thread_eigen={eigen} intra_op_parallelism_threads={n_threads}"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()
    # Every rival runs on the CPU, also where there is a GPU.
    os.environ["JAX_PLATFORMS"] = "cpu"


def settle(n_threads: int) -> None:
    """Tell the libraries that are loaded by now."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(n_threads)
    try:
        from threadpoolctl import threadpool_limits
    except ModuleNotFoundError:
        return
    threadpool_limits(limits=n_threads)
