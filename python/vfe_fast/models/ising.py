"""The Ising model with any couplings: a fully visible Boltzmann machine of spins ±1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..arguments import inverse_temperature
from ..arrays import Array, borrow, real_parameters
from .base import Parametric, parameters_like, refuse_large

if TYPE_CHECKING:
    from .spin_layers import SpinLayers

__all__ = ["Ising"]


class Ising(Parametric):
    r"""Spins that are -1 or +1, with couplings between all pairs.

    .. math:: E(s) = -\tfrac12 s^T J s - h \cdot s, \qquad p(s) = e^{-\beta E(s)} / Z

    The parameters are copied in and read-only.

    Parameters
    ----------
    couplings : array_like, (n_spins, n_spins)
        J: symmetric, with a zero diagonal. float32 or float64; the fields must have the same
        dtype, which Python numbers take.
    fields : array_like, (n_spins,), optional
        h; zero if not given.

    Raises
    ------
    TypeError
        If a dtype is not float32 or float64 in native byte order, or they differ.
    ValueError
        If the shapes do not agree, there is no spin, a number is not finite or not below 2^100 (float32) or
        2^900 (float64), or the couplings are not symmetric with a zero diagonal.

    Notes
    -----
    Each pair enters once: -½ s'Js counts J_ij s_i s_j twice and halves it. C. Martin, "Free Energies and
    Variational Inference" (2017).

    Examples
    --------
    >>> pair = Ising([[0.0, 0.5], [0.5, 0.0]], [0.1, -0.2])
    >>> pair.energy([[1, 1], [1, -1]])
    array([-0.4,  0.2])
    """

    names = ("couplings", "fields")

    def __init__(self, couplings: Any, fields: Any = None) -> None:
        couplings = real_parameters(couplings, "couplings")
        if couplings.ndim != 2 or couplings.shape[0] != couplings.shape[1] or couplings.shape[0] < 1:
            raise ValueError(
                f"couplings: expected (n_spins, n_spins) with n_spins >= 1, got {couplings.shape}"
            )
        if fields is None:
            fields = np.zeros(len(couplings), couplings.dtype)
        fields = parameters_like(couplings, fields, "fields")
        if fields.shape != couplings.shape[:1]:
            raise ValueError(f"fields: expected (n_spins,) = {couplings.shape[:1]}, got {fields.shape}")
        if fields.dtype != couplings.dtype:
            raise TypeError(f"fields: expected {couplings.dtype} like couplings, got {fields.dtype}")
        for name, values in (("couplings", couplings), ("fields", fields)):
            refuse_large(values, name)
        if np.diagonal(couplings).any():
            raise ValueError("couplings: expected a zero diagonal: s_i^2 = 1 is a constant")
        if not np.array_equal(couplings, couplings.T):
            raise ValueError("couplings: expected a symmetric matrix")
        for array in (couplings, fields):
            array.setflags(write=False)
        self._parameters = couplings, fields

    @property
    def couplings(self) -> Array:
        """J, (n_spins, n_spins), read-only."""
        return self._parameters[0]

    @property
    def fields(self) -> Array:
        """h, (n_spins,), read-only."""
        return self._parameters[1]

    @property
    def n_spins(self) -> int:
        """Number of spins."""
        return len(self.fields)

    def energy(self, s: Any) -> Any:
        """E(s) = -½ s'Js - h.s.

        Parameters
        ----------
        s : array_like, (n_samples, n_spins)
            Spins, -1 or +1, of any signed integer or float dtype.

        Returns
        -------
        array, (n_samples,)
            Of the model's dtype, computed in float64; the caller's kind of array.

        Raises
        ------
        TypeError, ValueError
            If `s` is not as described.
        """
        array, give_back = borrow(s, "s")
        spins = as_spins(array, self.n_spins, "s")
        couplings, fields = (p.astype(np.float64) for p in self._parameters)
        energy = -0.5 * np.einsum("si,si->s", spins @ couplings, spins) - spins @ fields
        return give_back(energy.astype(self.dtype))

    def to_spin_rbm(self, *, beta: float = 1.0) -> SpinLayers:
        r"""The machine of two layers that has this law of spins, for Gibbs sampling and all that rests on it.

        A model whose bonds join two sublattices is their `SpinRBM`; any other one gets a hidden unit for each
        bond, :math:`e^{J s s'} \propto 2 \cosh(w (s \pm s'))` with :math:`\cosh 2w = e^{2 |J|}`.

        Parameters
        ----------
        beta : float
            Inverse temperature >= 0 of this model, which the machine's parameters take in.

        Returns
        -------
        SpinLayers
            The machine ``rbm``, the ``constant`` in ln Z, and ``spins(v, h)``, the way back.

        Raises
        ------
        TypeError, ValueError
            If `beta` is not as described, or so large that parameters overflow.

        Examples
        --------
        >>> from vfe_fast import gibbs
        >>> ring = Ising([[0.0, 0.5, 0.2], [0.5, 0.0, -0.4], [0.2, -0.4, 0.0]])
        >>> layers = ring.to_spin_rbm()
        >>> v, h = gibbs(layers.rbm, [[1, -1, 1]], 10, rng=0)
        >>> layers.spins(v, h).shape
        (1, 3)
        """
        from .spin_layers import spin_layers  # which needs machines, which need spins

        return spin_layers(self, beta=inverse_temperature(beta))

    def __repr__(self) -> str:
        return f"Ising(n_spins={self.n_spins}, dtype={self.dtype})"


def as_spins(array: Array, n_spins: int, name: str) -> npt.NDArray[np.float64]:
    """States (n_samples, n_spins) in float64, checked to be -1 and +1."""
    if array.ndim != 2 or array.shape[1] != n_spins:
        raise ValueError(f"{name}: expected (n_samples, {n_spins}), got {array.shape}")
    if array.dtype.kind not in "if":
        raise TypeError(
            f"{name}: expected spins of a signed integer or float dtype, got {array.dtype} (of 0s and 1s, "
            "2 x - 1 are spins)"
        )
    good = np.abs(array) == 1
    if not good.all():
        at = tuple(map(int, np.argwhere(~good)[0]))
        raise ValueError(f"{name}: expected spins of -1 and +1, got {array[at]} at {at}")
    return array.astype(np.float64)
