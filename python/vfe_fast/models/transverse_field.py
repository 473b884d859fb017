"""The transverse-field Ising model: a Hamiltonian that is never written down."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import Array, real_parameters
from .ising import Ising

__all__ = ["TransverseFieldIsing"]

_MOST_SPINS = 26  # whose states fit in memory some times


class TransverseFieldIsing:
    r"""Quantum spins in a field across their couplings.

    .. math:: H = -\tfrac12 \sum_{ij} J_{ij} \sigma^z_i \sigma^z_j - \sum_i h_i \sigma^z_i
                  - \sum_i \Gamma_i \sigma^x_i

    ``H @ x`` costs n_spins 2^n_spins operations; `vfe_fast.free_energy.trace` takes it. In the state with
    number k, spin i is +1 where bit i of k is set.

    Parameters
    ----------
    ising : Ising
        J and h.
    transverse : array_like, () or (n_spins,)
        Γ.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or there are more than 26 spins.

    Examples
    --------
    >>> H = TransverseFieldIsing(Ising([[0.0, 1.0], [1.0, 0.0]]), 0.5)
    >>> H @ np.ones(4)
    array([-2.,  0.,  0., -2.])
    """

    def __init__(self, ising: Ising, transverse: Any) -> None:
        if not isinstance(ising, Ising):
            raise TypeError(f"ising: expected an Ising, got {type(ising).__name__}")
        n = ising.n_spins
        if n > _MOST_SPINS:
            raise ValueError(f"ising: expected at most {_MOST_SPINS} spins, got {n}")
        across = real_parameters(np.asarray(transverse, dtype=np.float64), "transverse")
        if across.shape not in ((), (n,)) or not np.isfinite(across).all():
            raise ValueError(f"transverse: expected a number or ({n},) finite ones, got {across.shape}")
        self.ising = ising
        self.transverse = np.broadcast_to(across, (n,))
        spins = np.where(np.arange(1 << n)[:, None] >> np.arange(n) & 1, 1.0, -1.0)
        couplings, fields = (p.astype(np.float64) for p in ising.parameters)
        self._diagonal: Array = -0.5 * ((spins @ couplings) * spins).sum(axis=1) - spins @ fields

    @property
    def shape(self) -> tuple[int, int]:
        """(2^n_spins, 2^n_spins)."""
        return (len(self._diagonal),) * 2

    @property
    def dtype(self) -> np.dtype[Any]:
        """float64."""
        return self._diagonal.dtype

    def __matmul__(self, x: Any) -> Array:
        """H x of x (2^n_spins,)."""
        states = np.asarray(x)
        if states.shape != self._diagonal.shape:
            raise ValueError(f"x: expected {self._diagonal.shape}, got {states.shape}")
        found: Array = self._diagonal * states
        for spin, across in enumerate(self.transverse):
            if across:
                parts = (-1, 2, 1 << spin)
                found -= across * states.reshape(parts)[:, ::-1].reshape(-1)
        return found

    def matrix(self) -> Array:
        """H as a dense matrix, of few spins."""
        return np.stack([self @ row for row in np.eye(len(self._diagonal))])
