"""Quantum spins in transverse fields by free fermions: the ring, with both parities, and the open chain."""

from __future__ import annotations

import numpy as np


def ring_log_z(n: int, field: float, beta: float) -> float:
    """ln Tr e^(-βH) of H = -Σ σz_i σz_i+1 - Γ Σ σx_i on n spins, n even.

    Fermions of even number have the momenta (2m + 1) π/n, of odd number 2m π/n, and the energies
    2 √(1 + Γ² - 2Γ cos k), at k = 0 with a sign: 2(Γ - 1). Projecting on a parity takes half the sum of the
    product of cosh and (for odd number: minus) that of sinh. P. Pfeuty, Ann. Phys. 57 (1970) 79.
    """
    logs, signs = [], []
    for parity in (1, -1):
        k = np.pi * (2 * np.arange(n) + (parity == 1)) / n
        x = beta * np.sqrt(np.maximum(1 + field**2 - 2 * field * np.cos(k), 0.0))
        if parity == -1:
            x[0] = beta * (field - 1)
        with np.errstate(divide="ignore"):
            sinh = np.abs(x) + np.log(-np.expm1(-2 * np.abs(x)))
        logs += [np.logaddexp(x, -x).sum(), sinh.sum()]
        signs += [1.0, parity * np.prod(np.sign(x))]
    top = max(logs)
    return float(top + np.log(0.5 * np.dot(signs, np.exp(np.array(logs) - top))))


def chain_log_z(couplings: np.ndarray, fields: np.ndarray, beta: float) -> float:
    """ln Tr e^(-βH) of H = -Σ J_i σz_i σz_i+1 - Σ Γ_i σx_i on an open chain, any J and Γ.

    The energies are Σ_k ε_k (2 n_k - 1), n_k = 0 or 1, with ε_k the singular values of the matrix with Γ on
    its diagonal and J beside it; an open chain has both parities. E. Lieb, T. Schultz, D. Mattis, Ann. Phys.
    16 (1961) 407.
    """
    energies = beta * np.linalg.svd(np.diag(fields) + np.diag(couplings, 1), compute_uv=False)
    return float(np.logaddexp(energies, -energies).sum())
