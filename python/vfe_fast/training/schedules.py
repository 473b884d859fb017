"""Learning rates as functions of the epoch. Any callable of one float will do in their place."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from ..arguments import real

__all__ = ["ExponentialDecay", "LinearDecay"]


@dataclass(frozen=True)
class LinearDecay:
    """From `start` to `end` in a straight line over `n_epochs`, constant afterwards.

    Attributes
    ----------
    start, end : float
        First and last learning rate.
    n_epochs : float
        Epochs from one to the other, > 0.
    """

    start: float
    end: float
    n_epochs: float

    def __post_init__(self) -> None:
        real(self.start, "start", 0.0)
        real(self.end, "end", 0.0)
        if not real(self.n_epochs, "n_epochs") > 0:
            raise ValueError(f"n_epochs: expected n_epochs > 0, got {self.n_epochs}")

    def __call__(self, epoch: float) -> float:
        """Learning rate at `epoch` (fractions of an epoch count)."""
        return self.start + (self.end - self.start) * min(epoch / self.n_epochs, 1.0)


@dataclass(frozen=True)
class ExponentialDecay:
    """start * 2^(-epoch / half_life).

    Attributes
    ----------
    start : float
        First learning rate.
    half_life : float
        Epochs after which it has halved, > 0.
    """

    start: float
    half_life: float

    def __post_init__(self) -> None:
        real(self.start, "start", 0.0)
        if not real(self.half_life, "half_life") > 0:
            raise ValueError(f"half_life: expected half_life > 0, got {self.half_life}")

    def __call__(self, epoch: float) -> float:
        """Learning rate at `epoch` (fractions of an epoch count)."""
        return float(self.start * 2.0 ** (-epoch / self.half_life))


def described(learning_rate: float | Callable[[float], float]) -> str:
    """Name a learning rate in the checkpoint: its value, its fields if it is a dataclass, or its name."""
    if not callable(learning_rate):
        return repr(real(learning_rate, "learning_rate", 0.0))
    if dataclasses.is_dataclass(learning_rate):
        return repr(learning_rate)  # its fields; a plain function is known by its name alone
    return str(getattr(learning_rate, "__qualname__", type(learning_rate).__qualname__))
