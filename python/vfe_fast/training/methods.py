"""The methods of `train`, by name."""

from __future__ import annotations

from typing import Any

from .gradients import (
    ContrastiveDivergence,
    Exact,
    FastPersistentCD,
    Method,
    ParallelTempering,
    PersistentCD,
    ThoulessAndersonPalmer,
)
from .score_matching import DenoisingScoreMatching, RatioMatching, ScoreMatching, SlicedScoreMatching

__all__ = ["METHODS", "named"]

METHODS: dict[str, Method] = {
    "cd": ContrastiveDivergence,
    "pcd": PersistentCD,
    "fpcd": FastPersistentCD,
    "pt": ParallelTempering,
    "tap": ThoulessAndersonPalmer,
    "exact": Exact,
    "score_matching": ScoreMatching,
    "denoising": DenoisingScoreMatching,
    "sliced": SlicedScoreMatching,
    "ratio_matching": RatioMatching,
}


def named(method: Any) -> tuple[str, Method]:
    """A method by its name in METHODS, or given as what makes it; with a name for checkpoints."""
    if isinstance(method, str) and method in METHODS:
        return method, METHODS[method]
    if isinstance(method, str) or not callable(method):
        raise ValueError(
            f"method: expected one of {', '.join(METHODS)}, or a class of gradients, got {method!r}"
        )
    maker = getattr(method, "func", method)  # of a functools.partial
    options = ", ".join(f"{name}={value!r}" for name, value in getattr(method, "keywords", {}).items())
    return f"{getattr(maker, '__qualname__', type(maker).__qualname__)}({options})", method
