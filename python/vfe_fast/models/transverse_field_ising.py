"""Quantum spins: an Ising model in a transverse field, as an operator that needs no matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..arguments import memory_for
from ..arrays import Array, borrow
from .ising import Ising

__all__ = ["TransverseFieldIsing"]

_MAX_SPINS = 28  # 2 GB a state
_MAX_DENSE = 14  # 2 GB


class TransverseFieldIsing:
    r"""Spins 1/2 with the energy of an Ising model along z, and fields along x.

    .. math:: H = E(\sigma^z) - \sum_i \Gamma_i \sigma^x_i
              = -\sum_{i<j} J_{ij} \sigma^z_i \sigma^z_j - \sum_i h_i \sigma^z_i - \sum_i \Gamma_i \sigma^x_i

    ``H @ x`` is the product with a state, without a matrix; `free_energy.trace` takes it as it is.

    Parameters
    ----------
    ising : Ising
        J and h, of at most 28 spins; computed in float64.
    transverse : float or array_like, (n_spins,)
        Γ.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    Basis states are those of σ^z in the order of Kronecker products: the first spin is the slowest, +1
    comes before -1. P. Pfeuty, Ann. Phys. 57 (1970) 79.

    Examples
    --------
    >>> pair = TransverseFieldIsing(Ising([[0.0, 1.0], [1.0, 0.0]]), 0.5)
    >>> pair.matrix()[0].tolist()
    [-1.0, -0.5, -0.5, 0.0]
    """

    dtype = np.dtype(np.float64)

    def __init__(self, ising: Ising, transverse: Any) -> None:
        if not isinstance(ising, Ising):
            raise TypeError(f"ising: expected an Ising, got {type(ising).__name__}")
        if ising.n_spins > _MAX_SPINS:
            raise ValueError(f"ising: expected at most {_MAX_SPINS} spins, got {ising.n_spins}")
        fields, _ = borrow(transverse, "transverse")
        if fields.dtype.kind not in "iuf":
            raise TypeError(f"transverse: expected real numbers, got {fields.dtype}")
        if fields.shape not in ((), (ising.n_spins,)):
            raise ValueError(
                f"transverse: expected a number or (n_spins,) = ({ising.n_spins},), got {fields.shape}"
            )
        if not np.isfinite(fields).all():
            raise ValueError("transverse: expected finite numbers")
        self.ising = ising
        self.transverse = np.broadcast_to(fields.astype(np.float64), (ising.n_spins,))
        with memory_for("ising", ising.n_spins):
            self._diagonal = _energies(ising)

    @property
    def n_spins(self) -> int:
        """Number of spins."""
        return self.ising.n_spins

    @property
    def shape(self) -> tuple[int, int]:
        """(2^n_spins, 2^n_spins)."""
        return len(self._diagonal), len(self._diagonal)

    def __matmul__(self, x: Any) -> Array:
        """H x, for x of shape (2^n_spins,) or (2^n_spins, n_vectors), real or complex."""
        x = np.asarray(x)
        if x.ndim not in (1, 2) or len(x) != len(self._diagonal):
            raise ValueError(f"x: expected {len(self._diagonal)} rows, got shape {x.shape}")
        product: Array = (self._diagonal * x.T).T
        for i, field in enumerate(self.transverse):
            if field != 0:
                spin = (2**i, 2, -1)
                product.reshape(spin)[...] -= field * x.reshape(spin)[:, ::-1]
        return product

    def matrix(self) -> npt.NDArray[np.float64]:
        """H as a dense matrix.

        Returns
        -------
        ndarray, (2^n_spins, 2^n_spins)

        Raises
        ------
        ValueError
            If there are more than 14 spins.
        """
        if self.n_spins > _MAX_DENSE:
            raise ValueError(f"matrix: expected at most {_MAX_DENSE} spins, got {self.n_spins}")
        return self @ np.eye(len(self._diagonal)) + 0.0  # no -0

    def __repr__(self) -> str:
        return f"TransverseFieldIsing(n_spins={self.n_spins})"


def _energies(ising: Ising) -> npt.NDArray[np.float64]:
    """E of all states, (2^n_spins,): each spin doubles those of the spins after it."""
    couplings, fields = (p.astype(np.float64) for p in ising.parameters)
    energies, local = np.zeros(1), np.zeros((ising.n_spins, 1))  # local: fields of these on each spin before
    for i in reversed(range(ising.n_spins)):
        up = fields[i] + local[i]
        energies = np.concatenate((energies - up, energies + up))
        local = np.concatenate(
            (local[:i] + couplings[:i, i, None], local[:i] - couplings[:i, i, None]), axis=1
        )
    return energies
