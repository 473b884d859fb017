"""How results show themselves at a prompt: numbers in full, arrays of more than a few by their shapes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["brief"]

_FEW = 8


def brief(result: Any) -> str:
    """Stand in for the ``__repr__`` of a dataclass.

    Parameters
    ----------
    result : dataclass
        Its fields with ``repr=False`` are left out.

    Returns
    -------
    str
    """
    shown = (f"{f.name}={_brief(getattr(result, f.name))}" for f in dataclasses.fields(result) if f.repr)
    return f"{type(result).__qualname__}({', '.join(shown)})"


def _brief(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {_brief(part)}" for key, part in value.items()) + "}"
    if isinstance(value, np.generic):
        return repr(value.item())
    if isinstance(value, np.ndarray) and value.size <= _FEW:
        return repr(value.tolist())
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"<{value.dtype} {tuple(value.shape)}>"
    return repr(value)
