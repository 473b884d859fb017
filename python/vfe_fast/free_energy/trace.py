"""ln Z of a quantum system, as the trace of its Boltzmann operator."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from ..arguments import count, inverse_temperature, memory_for
from ..arrays import Array
from ..random import generator, seed
from .log_weights import LogMean
from .result import FreeEnergy, FreeEnergyWarning

__all__ = ["TraceWarning", "trace"]

_HERMITIAN = 1e-12  # of the largest element: what rounding may add
_MOST_SHARE = 0.3  # of the standard error that a shorter recursion may differ by


class TraceWarning(FreeEnergyWarning):
    """A trace whose Lanczos recursion is too short."""


def trace(
    hamiltonian: Any,
    *,
    beta: float = 1.0,
    n_states: int | None = None,
    n_probes: int = 64,
    order: int = 80,
    rng: Any = None,
) -> FreeEnergy:
    r"""Free energy of a quantum system, :math:`\ln Z = \ln \mathrm{Tr}\, e^{-\beta H}`.

    A dense matrix is diagonalized. Anything else that multiplies vectors is sampled by stochastic Lanczos
    quadrature: with random vectors z of signs (of phases, if H is complex), n_states long,

    .. math:: \mathrm{Tr}\, e^{-\beta H} = \mathrm{E}\, z^\dagger e^{-\beta H} z
              \approx \frac{n_{states}}{n_{probes}} \sum_z \sum_k \tau_{zk}^2 e^{-\beta \theta_{zk}}

    with the eigenvalues θ and first components τ of the eigenvectors of each recursion's tridiagonal matrix.

    Parameters
    ----------
    hamiltonian : array_like, (n_states, n_states), or sparse, or callable
        A dense Hermitian matrix, real or complex; an object with ``shape`` and ``@``, such as a SciPy sparse
        matrix or a `TransverseFieldIsing`; or a function that gives H x of x (n_states,). Only the first is
        checked to be Hermitian.
    beta : float
        Inverse temperature, 0 or in [2^-100, 2^100).
    n_states : int, optional
        Length of vectors, of a function.
    n_probes : int
        Random vectors, >= 2.
    order : int
        Steps of the Lanczos recursion, >= 4; it keeps as many vectors.
    rng : int, numpy.random.Generator, numpy.random.SeedSequence or None
        See `vfe_fast.random.seed`; of random vectors.

    Returns
    -------
    FreeEnergy
        Of a dense matrix of kind ``"exact"``, with `details` ``energies``, the eigenvalues in ascending
        order. Else ``"consistent"``, with a standard error from the spread of the probes, and `details`
        ``order_change`` (how far ln Z is with two thirds of the steps), ``lowest_energy`` (that was seen),
        ``problem``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or the matrix is not finite or not Hermitian, or ln Z is
        out of range.

    Warns
    -----
    TraceWarning
        If fewer steps give another ln Z.

    Notes
    -----
    Sums in log space, with the lowest energy taken out: ln Z = -βE₀ + ln Σ e^(-β(E_k - E₀)), so that no β
    overflows. Diagonalizing costs n_states^3 operations and n_states^2 numbers; sampling n_probes · order
    products with H and order · n_states numbers. S. Ubaru, J. Chen, Y. Saad, SIAM J. Matrix Anal. Appl. 38
    (2017) 1075; recursions with full reorthogonalization.

    Examples
    --------
    >>> import vfe_fast as vf
    >>> round(vf.free_energy.trace([[0.5, -1.0], [-1.0, -0.5]], beta=2.0).log_z, 6)
    2.247426
    """
    beta = inverse_temperature(beta)
    product, n = _product(hamiltonian, n_states)
    if product is not None:
        n_probes, order = count(n_probes, "n_probes", 2), min(count(order, "order", 4), n)
        with memory_for("order", order * n):
            return _sampled(product, n, beta, n_probes, order, seed(rng))
    energies = np.linalg.eigvalsh(_hermitian(hamiltonian))
    with np.errstate(over="ignore"):  # far above the lowest, e^-inf is the 0 that it should be
        log_z = -beta * float(energies[0]) + math.log(math.fsum(np.exp(-beta * (energies - energies[0]))))
    if not math.isfinite(log_z):
        raise ValueError(f"beta: ln Z of energies as low as {energies[0]:.3g} is no float64 at {beta:.3g}")
    return FreeEnergy(
        value=-log_z / beta if beta > 0 else -math.inf,
        log_z=log_z,
        stderr=0.0,
        kind="exact",
        ess=math.inf,
        converged=True,
        beta=beta,
        details={"energies": energies},
    )


def _product(hamiltonian: Any, n_states: int | None) -> tuple[Callable[[Array], Array] | None, int]:
    """What gives H x, and how long x is; nothing of a dense matrix."""
    if callable(hamiltonian):
        if n_states is None:
            raise ValueError("n_states: expected it for a Hamiltonian that is a function")
        return hamiltonian, count(n_states, "n_states")
    if n_states is not None:
        raise ValueError("n_states: expected it for a function only")
    if isinstance(hamiltonian, np.ndarray) or not (
        hasattr(hamiltonian, "shape") and hasattr(hamiltonian, "__matmul__")
    ):
        return None, 0
    shape = tuple(hamiltonian.shape)
    if len(shape) != 2 or shape[0] != shape[1] or shape[0] < 1:
        raise ValueError(f"hamiltonian: expected a square matrix, got shape {shape}")
    return (lambda x: hamiltonian @ x), int(shape[0])


def _sampled(
    product: Callable[[Array], Array], n: int, beta: float, n_probes: int, order: int, key: int
) -> FreeEnergy:
    logs, shorter, lowest = np.empty(n_probes), np.empty(n_probes), math.inf
    is_complex = np.iscomplexobj(_times(product, np.ones(n)))
    for probe in range(n_probes):
        draw = generator(key, "trace probes", probe)
        z: Array = draw.integers(0, 2, n) * 2.0 - 1.0
        if is_complex:
            z = np.exp(2j * np.pi * draw.random(n))
        diagonal, beside = _lanczos(product, z / math.sqrt(n), order)
        for steps, into in ((len(diagonal), logs), (max(2 * len(diagonal) // 3, 1), shorter)):
            matrix = (
                np.diag(diagonal[:steps]) + np.diag(beside[: steps - 1], 1) + np.diag(beside[: steps - 1], -1)
            )
            values, vectors = np.linalg.eigh(matrix)
            lowest = min(lowest, float(values[0]))
            first = np.maximum(np.square(vectors[0]), np.finfo(np.float64).tiny)
            into[probe] = math.log(n) + np.logaddexp.reduce(np.log(first) - beta * values)
    found, other = LogMean.of(logs), LogMean.of(shorter)
    if not math.isfinite(found.value):
        raise ValueError(f"beta: ln Z of energies as low as {lowest:.3g} is no float64 at {beta:.3g}")
    change = found.value - other.value
    problem = ""
    if abs(change) > max(_MOST_SHARE * found.stderr, 1e-10 * max(1.0, abs(found.value))):
        problem = f"ln Z is {change:.2g} lower with two thirds of {order} steps"
        warnings.warn(f"trace: {problem}; raise order", TraceWarning, stacklevel=3)
    return FreeEnergy(
        value=-found.value / beta if beta > 0 else -math.inf,
        log_z=found.value,
        stderr=found.stderr,
        kind="consistent",
        ess=found.ess,
        converged=not problem,
        beta=beta,
        details={"order_change": change, "lowest_energy": lowest, "problem": problem},
    )


def _times(product: Callable[[Array], Array], x: Array) -> Array:
    found = np.asarray(product(x))
    if found.shape != x.shape:
        raise ValueError(
            f"hamiltonian: expected it to give {x.shape} of {x.shape} numbers, got {found.shape}"
        )
    if not np.isfinite(found).all():
        raise ValueError("hamiltonian: expected finite numbers from it")
    return found


def _lanczos(product: Callable[[Array], Array], start: Array, order: int) -> tuple[Array, Array]:
    """Diagonal and side of the tridiagonal matrix of a unit vector; shorter if its space is exhausted."""
    basis = np.empty((order, len(start)), start.dtype)
    diagonal, beside = np.empty(order), np.empty(order)
    vector, size = start, 0.0
    for k in range(order):
        basis[k] = vector
        new = _times(product, vector)
        diagonal[k] = np.vdot(vector, new).real
        size = max(size, float(np.linalg.norm(new)))
        for _ in range(2):  # against all before, twice: rounding
            new = new - basis[: k + 1].T @ (basis[: k + 1].conj() @ new)
        beside[k] = np.linalg.norm(new)
        if beside[k] <= 1e-13 * size:
            return diagonal[: k + 1], beside[:k]
        vector = new / beside[k]
    return diagonal, beside[: order - 1]


def _hermitian(hamiltonian: Any) -> Any:
    matrix = np.asarray(hamiltonian)
    if matrix.dtype.kind not in "biufc":
        raise TypeError(f"hamiltonian: expected a dense matrix of numbers, got {type(hamiltonian).__name__}")
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.size == 0:
        raise ValueError(f"hamiltonian: expected a square matrix, got shape {matrix.shape}")
    matrix = matrix.astype(np.complex128 if matrix.dtype.kind == "c" else np.float64)
    if not np.isfinite(matrix).all():
        raise ValueError("hamiltonian: expected finite elements")
    if np.abs(matrix - matrix.conj().T).max() > _HERMITIAN * np.abs(matrix).max():
        raise ValueError("hamiltonian: expected a Hermitian matrix")
    return matrix
