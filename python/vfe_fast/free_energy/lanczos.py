"""Lanczos's tridiagonal form of a Hermitian operator, and its integrals over the spectrum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..arrays import Array

__all__ = ["Rule", "Tridiagonal", "lanczos", "low_states", "project_out"]

Product = Callable[[Array], Array]

_INVARIANT = 1e-13  # of the largest element: a remainder that is rounding
_RESIDUAL = 1e-9  # of the largest eigenvalue: an eigenvector
_MOST_RUNS = 4
_LOOK = 16  # steps between looks


@dataclass(frozen=True)
class Rule:
    """Nodes and logarithms of weights of ⟨v|f(H)|v⟩ = Σ_k w_k f(θ_k)."""

    nodes: Array
    log_weights: Array

    def log_mean(self, beta: float) -> float:
        """ln ⟨v|e^(-βH)|v⟩, with the lowest node taken out."""
        exponent = self.log_weights - beta * (self.nodes - self.nodes[0])
        top = float(exponent.max())
        return top + float(np.log(np.exp(exponent - top).sum())) - beta * float(self.nodes[0])


@dataclass(frozen=True)
class Tridiagonal:
    """H in the space of v, Hv, H²v, ...; `complete` if H does not lead out of it."""

    diagonal: Array
    beside: Array
    complete: bool

    def eigh(self, order: int | None = None) -> tuple[Array, Array]:
        """Eigenvalues and eigenvectors of the first rows."""
        n = len(self.diagonal) if order is None else order
        matrix = np.diag(self.diagonal[:n])
        matrix[np.arange(1, n), np.arange(n - 1)] = self.beside[: n - 1]  # eigh reads the lower half
        nodes, vectors = np.linalg.eigh(matrix)
        return nodes, vectors

    def rule(self, order: int | None = None) -> Rule:
        """Gauss's rule of the spectral measure of v (G. Golub, G. Meurant, 1994)."""
        nodes, vectors = self.eigh(order)
        with np.errstate(divide="ignore"):
            return Rule(nodes, 2.0 * np.log(np.abs(vectors[0])))


def lanczos(
    product: Product,
    start: Array,
    order: int,
    basis: Array,
    n_held: int,
    enough: Callable[[Tridiagonal], bool],
) -> Tridiagonal:
    """Run up to `order` steps, each orthogonalized to all vectors before and to the rows held in `basis`.

    basis : (>= n_held + order, n_states); the rows after the first n_held are overwritten.
    enough : asked now and then whether to stop.
    """
    v = start / np.linalg.norm(start)
    diagonal: list[float] = []
    beside: list[float] = []
    largest = 0.0
    for step in range(order):
        basis[n_held + step] = v
        w = product(v)
        diagonal.append(float(np.vdot(v, w).real))
        w = w - diagonal[-1] * v
        if step:
            w -= beside[-1] * basis[n_held + step - 1]
        w = project_out(basis[: n_held + step + 1], w)
        remainder = float(np.linalg.norm(w))
        largest = max(largest, abs(diagonal[-1]), remainder)
        if remainder <= _INVARIANT * largest:
            return Tridiagonal(np.array(diagonal), np.array(beside), True)
        beside.append(remainder)
        v = w / remainder
        if (step + 1) % _LOOK == 0 and enough(Tridiagonal(np.array(diagonal), np.array(beside), False)):
            break
    return Tridiagonal(np.array(diagonal), np.array(beside), False)


def project_out(known: Array, w: Array) -> Array:
    """What of w is orthogonal to the orthonormal rows of `known`."""
    projected: Array = w - (known @ w.conj()).conj() @ known
    return projected


def low_states(
    product: Product, starts: Callable[[int], Array], order: int, most: int, basis: Array
) -> Array:
    """Lowest eigenvalues whose states Lanczos finds; the states are left in the first rows of `basis`.

    A run sees one state of each level; the next one, orthogonal to what is known, another.
    """
    energies: list[float] = []
    for run in range(_MOST_RUNS):
        n_held = len(energies)
        if n_held >= most:
            break
        wanted = most - n_held
        start = project_out(basis[:n_held], starts(run))
        steps = min(order, len(basis) - n_held, len(start) - n_held)
        form = lanczos(product, start, steps, basis, n_held, lambda form: _n_converged(form) >= wanted)  # noqa: B023
        nodes, vectors = form.eigh()
        found = min(_n_converged(form), wanted)
        if found == 0:
            break
        space = basis[n_held : n_held + len(nodes)]
        basis[n_held : n_held + found] = vectors[:, :found].T.astype(basis.dtype) @ space
        energies.extend(nodes[:found].tolist())
    return np.array(energies)


def _n_converged(form: Tridiagonal) -> int:
    """How many of the lowest are eigenstates of H, by their residuals."""
    nodes, vectors = form.eigh()
    last = 0.0 if form.complete else form.beside[-1]
    good = last * np.abs(vectors[-1]) <= _RESIDUAL * np.abs(nodes).max()
    return len(good) if good.all() else int(np.argmin(good))
