"""Energies of real numbers and their gradients: a `GaussianRBM`, or functions of the user's."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import numpy as np

from .. import _core
from ..arrays import Array, jax_in_64_bits
from ..models import GaussianRBM

__all__ = ["Energy", "GradientOf", "Potential", "potential", "reals"]

Energy: TypeAlias = GaussianRBM | Callable[[Any], Any]
GradientOf: TypeAlias = Callable[[Any], Any] | Literal["torch", "jax"] | None
Potential: TypeAlias = Callable[[Array], tuple[Array, Array]]  # x (n, d) -> β E (n,) and β ∂E/∂x (n, d)


def potential(energy: Energy, gradient: GradientOf, beta: float, n_dimensions: int) -> Potential:
    """β E and its gradient, checked for their shapes; what is not finite is the sampler's to refuse."""
    if isinstance(energy, GaussianRBM):
        if gradient is not None:
            raise ValueError("gradient: expected none for a GaussianRBM, whose gradient is known")
        if energy.n_visible != n_dimensions:
            raise ValueError(f"start: expected (n_chains, {energy.n_visible}), got (..., {n_dimensions})")
        return _of_rbm(energy, beta)
    if not callable(energy):
        raise TypeError(f"energy: expected a GaussianRBM or a function, got {type(energy).__name__}")
    if gradient == "torch":
        both = _by_torch(energy)
    elif gradient == "jax":
        both = _by_jax(energy)
    elif callable(gradient):
        both = _by_functions(energy, gradient)
    else:
        raise TypeError(
            'gradient: expected a function, "torch" or "jax" for an energy that is a function, '
            f"got {type(gradient).__name__}"
        )

    def found(x: Array) -> tuple[Array, Array]:
        x = x.view()
        x.flags.writeable = False  # what the user does not change in place
        values, slopes = both(x)
        values, slopes = reals(values, "energy"), reals(slopes, "gradient")
        if values.shape != x.shape[:1]:
            raise ValueError(f"energy: expected ({len(x)},) of {x.shape} numbers, got {values.shape}")
        if slopes.shape != x.shape:
            raise ValueError(f"gradient: expected {x.shape}, got {slopes.shape}")
        return beta * values, beta * slopes

    return found


def reals(found: Any, name: str) -> Array:
    """What a function of the user's returned, in float64."""
    try:
        array = np.asarray(found)
    except ValueError as error:  # rows of different lengths
        raise ValueError(f"{name}: expected an array of real numbers: {error}") from None
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name}: expected real numbers, got {type(found).__name__} of {array.dtype}")
    return array.astype(np.float64, copy=False)


def _of_rbm(rbm: GaussianRBM, beta: float) -> Potential:
    """The clamped free energy: β F_c(v) = β Σ (v - a)² / 2σ² - Σ softplus(β (b + (v / σ²) W))."""
    weights, a, b, sigma = (p.astype(np.float64) for p in rbm.parameters)
    unit = 1 / sigma**2
    pull = weights * unit[:, None]

    def found(x: Array) -> tuple[Array, Array]:
        away = (x - a) * unit
        fields = beta * (b + x @ pull)
        values = 0.5 * beta * ((x - a) * away).sum(axis=1) - _core.softplus(fields).sum(axis=1)
        return values, beta * (away - _core.sigmoid(fields) @ pull.T)

    return found


def _by_functions(energy: Callable[[Any], Any], gradient: Callable[[Any], Any]) -> Callable[[Array], Any]:
    return lambda x: (energy(x), gradient(x))


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"gradient: {name} is not installed (pip install 'vfe_fast[{name}]'): {error}", name=name
        ) from None


def _by_torch(energy: Callable[[Any], Any]) -> Callable[[Array], Any]:
    torch = _library("torch")

    def both(x: Array) -> Any:
        at = torch.tensor(x, requires_grad=True)
        values = energy(at)
        if not (isinstance(values, torch.Tensor) and values.requires_grad):
            raise TypeError("energy: expected a tensor that depends on x, as the gradient is to be torch's")
        (slopes,) = torch.autograd.grad(values.sum(), at)
        return values.detach().numpy(), slopes.numpy()

    return both


def _by_jax(energy: Callable[[Any], Any]) -> Callable[[Array], Any]:
    jax = _library("jax")

    def total(x: Any) -> Any:
        values = energy(x)
        return values.sum(), values

    compiled = jax.jit(jax.value_and_grad(total, has_aux=True))

    def both(x: Array) -> Any:
        with jax_in_64_bits():
            (_, values), slopes = compiled(x)
        return values, slopes

    return both
