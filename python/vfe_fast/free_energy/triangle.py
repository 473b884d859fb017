r"""Sums over all states of an Ising model, as matrix products.

Cut the spins in three groups with states a, b, c. A term of the energy has spins of two groups at most:

.. math:: E = E_x(a, b) + E_y(b, c) + E_v(a, c), \qquad Z = \sum_{ac} (X Y)_{ac} V_{ac},
          \quad X = e^{-\beta E_x}, \ldots

one product of matrices of size 2^(n/3) and 2 operations a state (the "split and list" of R. Williams,
Theoretical Computer Science 348 (2005) 357). All terms are positive: nothing cancels. The marginals of two
groups, from which every pair correlation follows, are three such products. Here they are NumPy's; on a GPU
the kernel `exact_ising` finds the sums without storing a matrix.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .. import _core
from ..arrays import Array
from .ranges import added

__all__ = ["Triangle", "TriangleSum", "energy_bound"]

_MOST_ROWS, _LEAST_ROWS = 512, 64  # states of the first group in a range
_RANGE_STATES = 1 << 31  # in all: a twentieth of a second, between which a signal is seen
_SAFE = 300.0  # of |beta E|: then no factor, and no product of factors, leaves the range of float64
_WHOLE = 2.0**40  # powers of two up to here are whole numbers
_LN2 = math.log(2.0)


def spin_table(n: int) -> npt.NDArray[np.float64]:
    """All states of n spins, (2^n, n): spin i is +1 where bit i is set."""
    bits = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    return 2.0 * bits.astype(np.float64) - 1.0


def cut(n: int) -> tuple[slice, slice, slice]:
    """Spins of the three groups: as equal as can be, the first the largest."""
    first, second = (n + 2) // 3, (n + 1) // 3
    return slice(0, first), slice(first, first + second), slice(first + second, n)


class Triangle:
    """An Ising model between three groups of spins.

    Parameters
    ----------
    couplings : ndarray, (n_spins, n_spins)
        J.
    fields : ndarray, (n_spins,)
        h.

    Attributes
    ----------
    spins : tuple of ndarray
        The states of each group, (2^n_g, n_g).
    own : tuple of ndarray
        Energy of each group's states by themselves.
    """

    def __init__(self, couplings: Array, fields: Array) -> None:
        self.couplings, fields = couplings.astype(np.float64), fields.astype(np.float64)
        self.groups = cut(len(fields))
        self.spins = tuple(spin_table(g.stop - g.start) for g in self.groups)
        self.own = tuple(
            -0.5 * np.einsum("si,si->s", s @ self.couplings[g, g], s) - s @ fields[g]
            for g, s in zip(self.groups, self.spins, strict=True)
        )

    def fields_on(self, k: int, other: int, rows: slice) -> Array:
        """What states of group k do to the spins of another group: (rows, n_other)."""
        fields: Array = self.spins[k][rows] @ self.couplings[self.groups[k], self.groups[other]]
        return fields

    def energy(self, k: int, other: int, rows: slice) -> Array:
        """Energy between states of two groups, with that of group k by itself: (rows, 2^n_other)."""
        energy: Array = self.own[k][rows, None] - self.fields_on(k, other, rows) @ self.spins[other].T
        return energy

    def factor(self, k: int, other: int, rows: slice, beta: float, *, own: bool = True) -> Array:
        """e^(-beta energy), as products of two halves of the other group: few exponentials.

        Without `own`, the energy of group k by itself is left out.
        """
        fields = beta * self.fields_on(k, other, rows)
        half = fields.shape[1] // 2
        exponent = fields[:, :half] @ spin_table(half).T
        if own:
            exponent -= beta * self.own[k][rows, None]
        low = _core.exp(exponent)
        high = _core.exp(fields[:, half:] @ spin_table(fields.shape[1] - half).T)
        product: Array = high[:, :, None] * low[:, None, :]
        return product.reshape(len(fields), -1)

    def states(self, a: Array, b: Array, c: Array) -> npt.NDArray[np.int8]:
        """Spins (n_states, n_spins) of states given by their numbers in the groups."""
        parts = [table[k] for table, k in zip(self.spins, (a, b, c), strict=True)]
        return np.concatenate(parts, axis=1).astype(np.int8)


@dataclass(frozen=True)
class TriangleSum:
    """The sum over the states of an Ising model, a range of states of the first group at a time.

    Attributes
    ----------
    couplings, fields : ndarray
        The model.
    beta : float
        Inverse temperature.
    what : {"log_z", "moments", "variance"}
        Besides Z: nothing, ⟨s⟩ and ⟨s s'⟩, or ⟨(E - energy)²⟩.
    energy : float
        For the variance.
    products : bool
        Whether matrix products may be used; else exponentials, state by state.
    device : {"cpu", "cuda"}
        Where the products are computed.
    """

    couplings: Array
    fields: Array
    beta: float
    what: str = "log_z"
    energy: float = 0.0
    products: bool = True
    device: Literal["cpu", "cuda"] = "cpu"
    _kept: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        """Tables do not travel; they are made where they are used."""
        return {**vars(self), "_kept": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

    @property
    def n_spins(self) -> int:
        """Number of spins."""
        return len(self.fields)

    @property
    def n_states(self) -> int:
        """States in all."""
        return int(2**self.n_spins)

    @property
    def n_ranges(self) -> int:
        """Ranges of some states of the first group."""
        return int(2 ** ((self.n_spins + 2) // 3)) // self._range_rows

    @property
    def _range_rows(self) -> int:
        first = int(2 ** ((self.n_spins + 2) // 3))
        if self.on_device:  # which is fast enough for many, and needs them
            return min(first, _MOST_ROWS)
        return min(first, _MOST_ROWS, max(_LEAST_ROWS, _RANGE_STATES * first // self.n_states))

    @property
    def ranges_at_once(self) -> int:
        """Ranges of a call that are worth it."""
        return 1

    @property
    def row_size(self) -> int:
        """Numbers in a row: exponent, Z, and what else is wanted."""
        n = self.n_spins
        return 2 + {"log_z": 0, "moments": n + n * n, "variance": 1}[self.what]

    @property
    def as_products(self) -> bool:
        """Whether the factors fit the range of float64, whatever the state."""
        return self.products and self.beta * self.size <= _SAFE

    @property
    def on_device(self) -> bool:
        """Whether the kernel's CUDA twin finds the sums: it has products alone."""
        return self.device == "cuda" and self.as_products

    @property
    def size(self) -> float:
        """What no energy exceeds."""
        return energy_bound(self.couplings, self.fields)

    def identity(self) -> tuple[Any, ...]:
        """What the sums depend on."""
        return self.couplings, self.fields, self.beta, self.what, self.energy, self.products, self.device

    def rows(self, first: int, count: int, num_threads: int) -> Array:
        """Sums of some ranges."""
        if self.on_device:
            return self._rows_of_kernel(first, count, num_threads)
        with _blas_threads(num_threads):
            triangle = self._table("triangle", lambda: Triangle(self.couplings, self.fields))
            size = self._range_rows
            part = self._product_row if self.as_products else self._exponential_row
            return np.stack(
                [part(triangle, slice(k * size, (k + 1) * size)) for k in range(first, first + count)]
            )

    def _rows_of_kernel(self, first: int, count: int, num_threads: int) -> Array:
        rows: Array = _core.exact_ising(
            self.couplings.astype(np.float64),
            self.fields.astype(np.float64),
            beta=self.beta,
            what=_core.IsingSums[self.what],
            energy=self.energy,
            range_states=self._range_rows,
            first_range=first,
            n_ranges=count,
            num_threads=num_threads,
            cuda=True,
        )
        return rows

    def _table(self, name: str, make: Any) -> Any:
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]

    def _product_row(self, t: Triangle, a: slice) -> Array:
        every = slice(None)
        x = t.factor(0, 1, a, self.beta)
        y = self._table("y", lambda: t.factor(1, 2, every, self.beta))
        # V but for the energy of the third group's states by themselves, `last`.
        v = t.factor(0, 2, a, self.beta, own=False)
        last = self._table("last", lambda: _core.exp(-self.beta * t.own[2]))
        xy = x @ y
        if self.what == "log_z":
            return _row(0.0, [np.einsum("ac,ac->c", xy, v) @ last])
        v *= last
        xy *= v
        sums: list[Any] = [xy.sum()]
        if self.what == "moments":
            sums += _spin_sums(t, a, x * (v @ y.T), (x.T @ v) * y, xy)
        else:
            ex = t.energy(0, 1, a) - self.energy
            ey = self._table("ey", lambda: t.energy(1, 2, every))
            ev = t.own[2] - t.fields_on(0, 2, a) @ t.spins[2].T
            x1, y1 = x * ex, y * ey
            second = (x1 * ex) @ y + 2.0 * (x1 @ y1) + x @ (y1 * ey) + 2.0 * ev * (x1 @ y + x @ y1)
            sums.append(np.einsum("ac,ac->", second, v) + np.einsum("ac,ac,ac->", xy, ev, ev))
        return _row(0.0, sums)

    def _exponential_row(self, t: Triangle, a: slice) -> Array:
        """State by state of the first group, with exponentials: for energies of any size."""
        every = slice(None)
        bc = self._table("bc", lambda: t.energy(1, 2, every) + t.own[2])
        ab = t.energy(0, 1, a)
        ac = -t.fields_on(0, 2, a) @ t.spins[2].T
        total = np.concatenate(([-np.inf], np.zeros(self.row_size - 1)))
        for k in range(a.stop - a.start):
            energy = ab[k][:, None] + bc + ac[k]
            exponent = -self.beta * energy
            m = float(exponent.max())
            w = _core.exp(np.subtract(exponent, m, out=exponent))
            sums: list[Any] = [w.sum()]
            if self.what == "moments":
                one = slice(a.start + k, a.start + k + 1)
                sums += _spin_sums(t, one, w.sum(axis=1)[None, :], w, w.sum(axis=0)[None, :])
            elif self.what == "variance":
                sums.append(np.einsum("bc,bc,bc->", w, energy - self.energy, energy - self.energy))
            total = added(total, _row(m, sums))
        return total


def energy_bound(couplings: Array, fields: Array) -> float:
    """Σ|J_ij| + Σ|h_i|, what no energy exceeds in magnitude."""
    return float(np.abs(couplings, dtype=np.float64).sum() / 2 + np.abs(fields, dtype=np.float64).sum())


def _row(exponent: float, sums: list[Any]) -> Array:
    """Sums that are multiples of e^exponent, as a row: multiples of a power of two."""
    power = exponent / _LN2
    rest = 0.0
    if abs(power) < _WHOLE:
        power = math.floor(power)
        rest = exponent - power * _LN2
    return np.concatenate(([float(power)], np.concatenate([np.ravel(x) for x in sums]) * math.exp(rest)))


def _spin_sums(t: Triangle, a: slice, ab: Array, bc: Array, ac: Array) -> list[Array]:
    """Sums of s and of s s' from the weights of two groups, summed over the third."""
    spins = (t.spins[0][a], t.spins[1], t.spins[2])
    one = (ab.sum(axis=1), ab.sum(axis=0), bc.sum(axis=0))
    first = [weight @ s for weight, s in zip(one, spins, strict=True)]
    blocks: list[list[Any]] = [[None] * 3 for _ in range(3)]
    for k in range(3):
        blocks[k][k] = spins[k].T @ (one[k][:, None] * spins[k])
    for (k, other), weight in zip(((0, 1), (1, 2), (0, 2)), (ab, bc, ac), strict=True):
        blocks[k][other] = spins[k].T @ weight @ spins[other]
        blocks[other][k] = blocks[k][other].T
    return [np.concatenate(first), np.block(blocks)]


def _blas_threads(num_threads: int) -> contextlib.AbstractContextManager[Any]:
    """Limit the threads of NumPy's BLAS, if threadpoolctl is there to do it."""
    limit = num_threads or int(os.environ.get("VFE_NUM_THREADS") or 0)
    controller = _blas() if limit > 0 else None
    return contextlib.nullcontext() if controller is None else controller.limit(limits=limit)


@functools.cache
def _blas() -> Any:
    """NumPy's BLAS as threadpoolctl sees it: looking for it takes milliseconds."""
    try:
        from threadpoolctl import ThreadpoolController
    except ModuleNotFoundError:
        return None
    return ThreadpoolController().select(user_api="blas")
