"""How parameters follow a gradient."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import _core
from ..arguments import real, threads
from ..arrays import Array
from .averages import Contrast

__all__ = ["OPTIMIZERS", "Ascent", "Memory"]

OPTIMIZERS = ("sgd", "adam")

_MOST_MOMENTUM = 1.0 - 2.0**-25  # what rounds to 1 in float32
_ADAM_MOMENTUM, _ADAM_MEMORY, _ADAM_EPSILON = 0.9, 0.999, 1e-8  # those of Kingma and Ba


@dataclass(frozen=True)
class Memory:
    """What an optimizer remembers of the updates before, by parameter; empty if nothing.

    Attributes
    ----------
    velocity, squares : tuple of ndarray
        Running update or gradient, and running squared gradient.
    """

    velocity: tuple[Array, ...] = ()
    squares: tuple[Array, ...] = ()


@dataclass(frozen=True)
class Ascent:
    r"""Stochastic gradient ascent, with momentum or as Adam.

    With the gradient g less the weight decay, SGD does u ← momentum u + rate g, θ ← θ + u. Adam divides a
    running mean of g by the root of a running mean of g² (D. Kingma, J. Ba, ICLR 2015, arXiv:1412.6980).

    Attributes
    ----------
    optimizer : {"sgd", "adam"}
        Which of the two.
    momentum : float
        Share of the last update, or of the running mean.
    weight_decay : float
        Times the weights, subtracted from their gradient.
    sparsity_target, sparsity_cost : float
        Adds cost (target - ⟨h⟩) to the gradient of the hidden biases, ⟨h⟩ over the minibatch (H. Lee,
        C. Ekanadham, A. Ng, NIPS 2007).
    num_threads : int or None
        Threads of the kernels.
    """

    optimizer: str = "sgd"
    momentum: float = 0.0
    weight_decay: float = 0.0
    sparsity_target: float = 0.0
    sparsity_cost: float = 0.0
    num_threads: int | None = None

    @classmethod
    def checked(
        cls,
        optimizer: Any,
        momentum: Any,
        weight_decay: Any,
        sparsity_target: Any,
        sparsity_cost: Any,
        num_threads: int | None,
    ) -> Ascent:
        """From what a user gives; `momentum` may be None."""
        if not isinstance(optimizer, str) or optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer: expected one of {', '.join(OPTIMIZERS)}, got {optimizer!r}")
        if momentum is None:
            momentum = _ADAM_MOMENTUM if optimizer == "adam" else 0.0
        return cls(
            optimizer,
            real(momentum, "momentum", 0.0, _MOST_MOMENTUM),
            real(weight_decay, "weight_decay", 0.0),
            real(sparsity_target, "sparsity_target", 0.0, 1.0),
            real(sparsity_cost, "sparsity_cost", 0.0),
            num_threads,
        )

    @classmethod
    def of(cls, settings: Any) -> Ascent:
        """From the settings in a checkpoint."""
        return cls(settings["optimizer"], real(settings["momentum"], "momentum"))

    def remembers(self) -> tuple[bool, bool]:
        """Whether there are velocities, and squares."""
        return self.optimizer == "adam" or self.momentum > 0, self.optimizer == "adam"

    def start(self, parameters: tuple[Array, ...]) -> Memory:
        """Nothing yet to remember."""
        velocity, squares = (
            tuple(np.zeros_like(p) for p in parameters) if used else () for used in self.remembers()
        )
        return Memory(velocity, squares)

    def __call__(
        self,
        parameters: tuple[Array, ...],
        memory: Memory,
        contrast: Contrast,
        offsets: tuple[Array, ...],
        rate: float,
        update: int,
        more: tuple[Array, ...] = (),
    ) -> tuple[tuple[Array, ...], Memory]:
        """Parameters after an update, and what to remember of it.

        Parameters
        ----------
        parameters : tuple of ndarray
            Weights, visible bias, hidden bias, and those that `more` is of.
        memory : Memory
            Of the updates before.
        contrast : Contrast
            The gradient.
        offsets : tuple of ndarray
            μ, λ of a centered gradient, or none: ∂W = ΔVH - μ ΔH' - ΔV λ', ∂a = ΔV - ∂W λ, ∂b = ΔH - ∂W' μ
            (J. Melchior, A. Fischer, L. Wiskott, JMLR 17 (2016) 1, "How to center deep Boltzmann machines").
        rate : float
            Learning rate.
        update : int
            Updates before this one.
        more : tuple of ndarray
            The gradient of further parameters.

        Returns
        -------
        parameters : tuple of ndarray
        memory : Memory
        """
        options: dict[str, Any] = {
            "rate": rate,
            "momentum": self.momentum,
            "num_threads": threads(self.num_threads),
        }
        if self.optimizer == "adam":
            fresh = math.sqrt(1.0 - _ADAM_MEMORY ** (update + 1))
            options |= {
                "rate": rate * fresh / (1.0 - self.momentum ** (update + 1)),
                "memory": _ADAM_MEMORY,
                "epsilon": _ADAM_EPSILON * fresh,
            }

        def ascend(k: int, gradient: Array, decay: float, **centering: Array) -> tuple[Any, ...]:
            found: tuple[Any, ...] = _core.ascend(
                parameters[k],
                gradient,
                decay=decay,
                velocity=memory.velocity[k] if memory.velocity else None,
                squares=memory.squares[k] if memory.squares else None,
                **options,
                **centering,
            )
            return found

        gradient = contrast.gradient
        visible, hidden, centering = gradient.visible, gradient.hidden, {}
        if offsets:
            centering = {
                "row_offset": offsets[0],
                "column_offset": offsets[1],
                "row_change": visible,
                "column_change": hidden,
            }
        weights = ascend(0, gradient.visible_hidden, self.weight_decay, **centering)
        if offsets:
            visible, hidden = visible - weights[3], hidden - weights[4]
        if self.sparsity_cost > 0:
            kind = hidden.dtype.type
            hidden = hidden + kind(self.sparsity_cost) * (kind(self.sparsity_target) - contrast.data_hidden)
        of_others = (ascend(k, slope, 0.0) for k, slope in enumerate((visible, hidden, *more), 1))
        new, velocity, squares, *_ = zip(weights, *of_others, strict=True)
        return new, Memory(velocity if memory.velocity else (), squares if memory.squares else ())
