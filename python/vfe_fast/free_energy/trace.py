"""ln Z of a quantum system, as the trace of its Boltzmann operator."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..arguments import inverse_temperature
from .result import FreeEnergy

__all__ = ["trace"]

_HERMITIAN = 1e-12  # of the largest element: what rounding may add


def trace(hamiltonian: Any, *, beta: float = 1.0) -> FreeEnergy:
    r"""Free energy of a quantum system, :math:`\ln Z = \ln \mathrm{Tr}\, e^{-\beta H}`, by diagonalization.

    Parameters
    ----------
    hamiltonian : array_like, (n_states, n_states)
        A dense Hermitian matrix, real or complex.
    beta : float
        Inverse temperature, 0 or in [2^-100, 2^100).

    Returns
    -------
    FreeEnergy
        Of kind ``"exact"``. `details` holds ``"energies"``, the eigenvalues in ascending order.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or the matrix is not finite or not Hermitian, or ln Z is
        out of range.

    Notes
    -----
    Sums in log space, with the lowest energy taken out: ln Z = -βE₀ + ln Σ e^(-β(E_k - E₀)), so that no β
    overflows. Costs n_states^3 operations and n_states^2 numbers.

    Examples
    --------
    >>> import vfe_fast as vf
    >>> round(vf.free_energy.trace([[0.5, -1.0], [-1.0, -0.5]], beta=2.0).log_z, 6)
    2.247426
    """
    beta = inverse_temperature(beta)
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
