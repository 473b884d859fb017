"""What was compiled, what was found, and what is in use."""

from __future__ import annotations

import platform
from typing import Any, Literal

import numpy as np

from . import _core

__all__ = ["show_config"]


def show_config(mode: Literal["print", "dict"] = "print") -> dict[str, Any] | None:
    """Print the configuration of this build and machine.

    Parameters
    ----------
    mode : {"print", "dict"}
        Print it, or return it as a dictionary.

    Returns
    -------
    dict or None
        Versions, the instruction set in use (`target`; set ``VFE_TARGET`` before import to force one)
        and those that could be, the default number of threads (``VFE_NUM_THREADS``), and what is known
        of CUDA.

    Raises
    ------
    ValueError
        If `mode` is neither.
    """
    if mode not in ("print", "dict"):
        raise ValueError(f"mode: expected 'print' or 'dict', got {mode!r}")
    config: dict[str, Any] = {
        **_core.build_info(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.machine(),
    }
    if mode == "dict":
        return config
    width = max(map(len, config))
    for name, value in config.items():
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        print(f"{name:<{width}}  {text or '-'}")
    return None
