"""Where a training run stands."""

from __future__ import annotations

from dataclasses import dataclass

from ..arrays import Array
from .gradients import State
from .updates import Memory

__all__ = ["Record", "RunState"]

Record = dict[str, float]


@dataclass(frozen=True, eq=False)
class RunState:
    """A run between two updates. Never changed in place, so an interrupt finds either the old or the new.

    Attributes
    ----------
    parameters : tuple of ndarray
        Weights, visible bias, hidden bias.
    memory : Memory
        What the optimizer remembers.
    offsets : tuple of ndarray
        Offsets μ, λ of a centered run; empty otherwise.
    chains : mapping of str to ndarray
        What the method remembers: its chains, if any.
    frame : tuple of ndarray
        Units in which real units are trained; empty otherwise.
    epoch, batch, update : int
        Epochs finished, minibatches done in the one under way, updates in all.
    records : tuple of dict
        One a finished epoch.
    seconds : float
        Time spent in finished epochs.
    """

    parameters: tuple[Array, ...]
    memory: Memory
    offsets: tuple[Array, ...]
    chains: State
    frame: tuple[Array, ...] = ()
    epoch: int = 0
    batch: int = 0
    update: int = 0
    records: tuple[Record, ...] = ()
    seconds: float = 0.0
