r"""Cumulants of samples, with standard errors.

.. math:: \ln \langle e^{tx} \rangle = \sum_r \kappa_r \frac{t^r}{r!}

(C. Martin, "Free Energies and Variational Inference", 2017, "Cumulants"). Kernel:
``src/cpp/kernels/cumulants.hpp``.
"""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .. import _core
from ..arguments import array_shape, count, memory_for, on_cuda, threads
from ..arrays import Array, GiveBack, borrow, in_host
from ..brief import brief

__all__ = ["CumulantAccumulator", "Cumulants", "cumulants"]

MOST_ORDERS = 8
_BLOCKS = {512: 16, 8192: 32}  # of rows up to so many samples; 64 of longer ones
_FIRST_WEIGHTS = 1024  # of a row, which are looked at before the others
_LEAST = 4  # orders that are always computed: the error of the variance needs the fourth


@dataclass(frozen=True, eq=False)
class Cumulants:
    """Estimates of the cumulants κ_1 ... κ_order, in float64.

    Attributes
    ----------
    values : array, (..., order)
        The estimates: mean, variance, third central moment, ...
    stderr : array, (..., order)
        Standard errors by the block jackknife: blocks of neighbors are left out in turn, so they hold for
        samples that are correlated over much less than a block. Times 1 + κ / (6 n_blocks), κ the kurtosis of
        the pseudo-values (3 for a normal law; P. Hall 1988). nan where too few samples are left.
    n : int
        Samples.
    n_blocks : int
        Blocks of the jackknife.
    unbiased : bool
        Whether these are k-statistics, or cumulants of the empirical distribution.
    """

    values: Any
    stderr: Any
    n: int
    n_blocks: int
    unbiased: bool
    _weighted: bool = field(repr=False)
    _first_four: Array = field(repr=False)
    _give_back: GiveBack = field(repr=False)

    __repr__ = brief

    @property
    def stderr_independent(self) -> Any:
        """Standard errors of mean and variance if all samples were independent, (..., 2).

        Analytic, from the second and fourth cumulant; the square of ``stderr`` over this is the statistical
        inefficiency. nan for weighted samples; that of the variance where the fourth cumulant is not known
        (n < 4) or, of few samples, so negative that the estimated error has no root.
        """
        first_four = in_host(self._first_four)
        n, variance, fourth = self.n, first_four[..., 1], first_four[..., 3]
        with np.errstate(invalid="ignore", divide="ignore"):
            of_mean = np.sqrt(variance / n)
            # var k_2 = kappa_4 / n + 2 kappa_2^2 / (n - 1), without bias
            of_variance = np.sqrt((2 * n * variance**2 + (n - 1) * fourth) / (n * (n + 1.0)))
        found = np.stack([of_mean, of_variance], axis=-1)
        if self._weighted:
            found = np.full_like(found, np.nan)
        return self._give_back(_core.to_device(found) if _core.on_device(self._first_four) else found)

    @property
    def order(self) -> int:
        """Highest order."""
        return int(self.values.shape[-1])


def cumulants(
    x: Any,
    order: int = 8,
    *,
    axis: int = -1,
    weights: Any = None,
    unbiased: bool = True,
    num_threads: int | None = None,
    device: Literal["cpu", "cuda"] | None = None,
) -> Cumulants:
    r"""Estimate the first cumulants of samples, with standard errors.

    Parameters
    ----------
    x : array_like
        Samples along `axis`, float32 or float64, of any shape and memory layout; not copied if aligned.
    order : int
        Highest order, 1 to 8.
    axis : int
        Where the samples are.
    weights : array_like, optional
        Weights >= 0 of the samples, (n,) or of a shape that broadcasts to that of `x`; their scale does not
        matter between 1e-30 and 1e30. Unbiased orders are nan where a few samples carry all the weight.
    unbiased : bool
        k-statistics, whose expectations are the cumulants (R. A. Fisher 1929; for fixed weights, with mean
        products over distinct samples); else cumulants of the empirical distribution.
    num_threads : int, optional
        Threads to use; the result does not depend on it.
    device : {"cpu", "cuda"}, optional
        Where the kernel runs: where `x` is, if not given. Samples in host memory are moved to a CUDA device
        and results back; those that are there stay, as do their results. They agree within the bound of
        docs/cumulants.md. Weights on a device are float64, and rows with too few > 0 are nan.

    Returns
    -------
    Cumulants
        In float64; arrays of the caller's kind. Rows with nan or infinite numbers are nan, and orders whose
        sums of powers leave the range of float64 are nan or infinite.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or if there are fewer samples than `order` (unbiased).
    TargetUnavailableError
        If there is no such device; the message says what is missing.

    Notes
    -----
    All sums are in float64 about a center near the mean: samples may lie 1e8 standard deviations from zero.
    Errors: docs/cumulants.md.

    Examples
    --------
    >>> k = cumulants([1.0, 2.0, 4.0, 9.0, 3.0], order=3)
    >>> k.values.round(6).tolist()
    [3.8, 9.7, 46.8]
    """
    order, cuda = count(order, "order", 1, MOST_ORDERS + 1), on_cuda(device, x)
    samples, shared, give_back = samples_and_weights(x, axis, weights, order if unbiased else 1, cuda=cuda)
    n = samples.shape[-1]
    if n < (order if unbiased else 1):
        raise ValueError(f"x: expected n >= {order if unbiased else 1} samples along axis, got {n}")
    counts = blocks(n)
    with memory_for("x", samples.shape):
        values, stderr, _, _ = _core.cumulants(
            samples, shared, max(order, _LEAST), bool(unbiased), counts, "ve", threads(num_threads), cuda
        )
    assert values is not None
    assert stderr is not None
    return _result(values, stderr, order, n, len(counts), bool(unbiased), weights is not None, give_back)


class CumulantAccumulator:
    """Cumulants of samples that come in chunks; two of them can be merged.

    It keeps power sums of at most 64 blocks of neighbors: 10 numbers a block and row (6 up to order 4; 73
    and 21 if weighted and unbiased).
    Where a stream is cut into chunks changes nothing but rounding.

    Parameters
    ----------
    shape : int or tuple of int
        Shape of the rows: a chunk is of shape ``(*shape, n)``. () for a plain stream of numbers.
    order : int
        Highest order, 1 to 8.
    weighted : bool
        Whether chunks come with weights.
    unbiased : bool
        As in `cumulants`.
    num_threads : int, optional
        Threads to use; the result does not depend on it.
    device : {"cpu", "cuda"}
        Where chunks are summed and estimates made; those that are on it already are not moved. The sums are
        kept in host memory.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.
    TargetUnavailableError
        If there is no such device; the message says what is missing.

    Examples
    --------
    >>> acc = CumulantAccumulator(order=2)
    >>> for chunk in ([1.0, 2.0], [4.0, 9.0, 3.0]):
    ...     acc.update(chunk)
    >>> acc.result().values.round(6).tolist()
    [3.8, 9.7]
    """

    most_blocks = 64

    def __init__(
        self,
        shape: int | tuple[int, ...] = (),
        order: int = 8,
        *,
        weighted: bool = False,
        unbiased: bool = True,
        num_threads: int | None = None,
        device: Literal["cpu", "cuda"] = "cpu",
    ) -> None:
        self.shape = array_shape(shape)
        self.order = count(order, "order", 1, MOST_ORDERS + 1)
        self.weighted, self.unbiased = bool(weighted), bool(unbiased)
        self._num_threads = threads(num_threads)
        self._cuda = on_cuda(device)
        _core.require_device(self._cuda)
        # Samples in each block, their sums (rows, blocks, sums), what a block takes: replaced together.
        self._state: tuple[Array, Array | None, int] = np.empty(0), None, 1

    @property
    def n(self) -> int:
        """Samples so far."""
        return int(self._state[0].sum())

    def update(self, x: Any, weights: Any = None, *, axis: int = -1) -> None:
        """Take in a chunk.

        Parameters
        ----------
        x : array_like, (*shape, n)
            Samples, float32 or float64; n along `axis`.
        weights : array_like, optional
            Their weights, if the accumulator is weighted; as in `cumulants`.
        axis : int
            Where the samples are.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as described. Nothing is taken in then.
        """
        if (weights is not None) != self.weighted:
            expected = "weights, for a weighted accumulator" if self.weighted else "none"
            raise ValueError(f"weights: expected {expected}")
        samples, shared, _ = samples_and_weights(x, axis, weights, 0, cuda=self._cuda)
        if samples.shape[:-1] != self.shape:
            got = np.moveaxis(samples, -1, axis).shape
            raise ValueError(f"x: expected {self.shape} and samples along axis, got {got}")
        n = samples.shape[-1]
        if n == 0:
            return
        counts, sums, length = self._state
        while counts.sum() + n > self.most_blocks * length:
            counts, sums, length = _halved(counts), _in_pairs(sums), 2 * length
        fill = int(min(n, length - counts[-1])) if len(counts) else 0
        pieces = [fill] * (fill > 0) + _cut(n - fill, length)
        with memory_for("shape", self.shape):
            *_, new = _core.cumulants(
                samples, shared,
                order=max(self.order, _LEAST), unbiased=self.unbiased, counts=np.array(pieces, float),
                wanted="s", num_threads=self._num_threads, cuda=self._cuda,
            )  # fmt: skip
        assert new is not None
        new = in_host(new).reshape(-1, len(pieces), new.shape[-1])
        if fill:
            assert sums is not None
            sums = np.concatenate(
                [
                    sums[:, :-1],
                    _core.join_power_sums(
                        np.ascontiguousarray(sums[:, -1:]), np.ascontiguousarray(new[:, :1])
                    ),
                    new[:, 1:],
                ],
                axis=1,
            )
            counts = np.concatenate([counts[:-1], [counts[-1] + fill], pieces[1:]])
        else:
            sums = new if sums is None else np.concatenate([sums, new], axis=1)
            counts = np.concatenate([counts, pieces])
        assert sums is not None
        self._state = *_fewer(counts, sums, self.most_blocks), length

    def merge(self, other: CumulantAccumulator) -> None:
        """Take in what another one has, as if its samples came after these.

        Parameters
        ----------
        other : CumulantAccumulator
            Of the same shape, order and kind; it stays as it is.

        Raises
        ------
        TypeError, ValueError
            If it is not.
        """
        if not isinstance(other, CumulantAccumulator):
            raise TypeError(f"other: expected a CumulantAccumulator, got {type(other).__name__}")
        mine, theirs = ((a.shape, a.order, a.weighted, a.unbiased) for a in (self, other))
        if mine != theirs:
            raise ValueError(f"other: expected (shape, order, weighted, unbiased) = {mine}, got {theirs}")
        counts, sums, _ = self._state
        more, more_sums, _ = other._state
        if more_sums is None:
            return
        if sums is not None:
            more, more_sums = np.concatenate([counts, more]), np.concatenate([sums, more_sums], axis=1)
        length = 1
        while more.sum() > self.most_blocks * length:
            length *= 2
        self._state = *_fewer(more, more_sums, self.most_blocks), length

    def result(self) -> Cumulants:
        """Estimate the cumulants of all samples so far.

        Returns
        -------
        Cumulants

        Raises
        ------
        ValueError
            If there are fewer samples than `order` (unbiased), or none.
        """
        counts, sums, _ = self._state
        least = self.order if self.unbiased else 1
        if sums is None or counts.sum() < least:
            raise ValueError(f"n: expected n >= {least} samples to estimate from, got {self.n}")
        values, stderr, _ = _core.cumulants_of_sums(
            sums, order=max(self.order, _LEAST), weighted=self.weighted, unbiased=self.unbiased,
            counts=counts, wanted="ve", num_threads=self._num_threads, cuda=self._cuda,
        )  # fmt: skip
        assert values is not None
        assert stderr is not None
        values, stderr = (a.reshape(*self.shape, a.shape[-1]) for a in (values, stderr))
        return _result(values, stderr, self.order, self.n, len(counts), self.unbiased, self.weighted, _plain)

    def __repr__(self) -> str:
        return f"CumulantAccumulator(shape={self.shape}, order={self.order}, n={self.n})"


@functools.lru_cache(maxsize=64)
def blocks(n: int) -> npt.NDArray[np.float64]:
    """Numbers of neighbors in the blocks that the jackknife leaves out of n samples; read-only."""
    most = next((found for longest, found in _BLOCKS.items() if n <= longest), 64)
    counts = np.array(_cut(n, -(-n // most)), float)
    counts.flags.writeable = False
    return counts


def jackknife(values: Array, replicates: Array, counts: Array) -> Array:
    """Standard error of `values`, given estimates without each block: (n_blocks, *values.shape).

    F. Busing, E. Meijer, R. van der Leeden, Statistics and Computing 9 (1999) 3; widened as in the kernel.
    """
    others = (counts.sum() / counts - 1).reshape(-1, *[1] * values.ndim)  # n / m - 1
    with np.errstate(over="ignore", invalid="ignore"):
        off = replicates - values
        mean = (others / (others + 1) * off).sum(axis=0)
        size = np.abs(off).sum(axis=0)
        size = np.where(size > 0, size, 1.0)
        terms = ((others * off - mean) / size) ** 2 / (others * len(counts))
        square = terms.sum(axis=0)
        kurtosis = np.square(terms).sum(axis=0) / np.where(square > 0, square, 1.0) ** 2  # over their number
        found: Array = size * np.sqrt(square) * (1 + kurtosis / 6)
    return found


def _numbers(x: Any, name: str, cuda: bool) -> tuple[Array, GiveBack]:
    """View float32 or float64 samples; Python's numbers are converted."""
    array, give_back = borrow(x, name, cuda=cuda)
    if not isinstance(x, np.ndarray) and not hasattr(x, "__dlpack__") and array.dtype.kind in "iuf":
        array = array.astype(np.float64)
    if array.dtype not in (np.float32, np.float64) or not array.dtype.isnative:
        raise TypeError(f"{name}: expected dtype float32 or float64 in native byte order, got {array.dtype}")
    if array.flags.aligned:
        return array, give_back
    if _core.on_device(array):
        raise TypeError(f"{name}: expected an array that is aligned in memory")
    return array.copy(), give_back


def samples_and_weights(
    x: Any, axis: Any, weights: Any, least: int, *, cuda: bool = False
) -> tuple[Array, Array | None, GiveBack]:
    """Samples along the last axis, weights of their shape in float64 if there are any, and the way back.

    At least so many weights of a row must be positive; those on a device (`cuda`: both may be) are not looked
    at.
    """
    array, give_back = _numbers(x, "x", cuda)
    if array.ndim == 0:
        raise ValueError("x: expected at least one axis, got a number")
    try:
        axis = operator.index(axis)
    except TypeError:
        raise TypeError(f"axis: expected an int, got {type(axis).__name__}") from None
    if not -array.ndim <= axis < array.ndim:
        raise ValueError(f"axis: expected an axis of {array.ndim}, got {axis}")
    shared = None
    if weights is not None:
        of, _ = _numbers(weights, "weights", cuda)
        there = _core.on_device(of)
        if there and of.dtype != np.float64:
            raise TypeError(f"weights: expected float64 on a device, got {of.dtype}")
        if of.ndim == 1 and of.shape[0] == array.shape[axis]:
            of = of.reshape(-1, *[1] * (array.ndim - 1 - axis % array.ndim))
        try:
            shared = np.broadcast_to(of.astype(np.float64, copy=False), array.shape)
        except ValueError:
            raise ValueError(
                f"weights: expected ({array.shape[axis]},) or a shape that broadcasts to {array.shape}, got "
                f"{of.shape}"
            ) from None
        shared = np.moveaxis(shared, axis, -1)
        if not there:
            of = np.moveaxis(of.reshape(*[1] * (array.ndim - of.ndim), *of.shape), axis, -1)
            for some in (of[..., :_FIRST_WEIGHTS], of):
                positive = np.count_nonzero(some, axis=-1).min(initial=least)
                positive *= 1 if of.shape[-1] > 1 else least
                if positive >= least:
                    break
            else:
                raise ValueError(f"weights: expected {least} > 0 in every row, got {positive}")
    return array if axis in (-1, array.ndim - 1) else np.moveaxis(array, axis, -1), shared, give_back


def _result(
    values: Array, stderr: Array, order: int, n: int, n_blocks: int, unbiased: bool, weighted: bool,
    give_back: GiveBack,
) -> Cumulants:  # fmt: skip
    first, errors = (_first_of(a, order) for a in (values, stderr))
    return Cumulants(give_back(first), give_back(errors), n, n_blocks, unbiased, weighted, values, give_back)


def _first_of(array: Array, order: int) -> Array:
    """As many columns, where the array is."""
    if order == array.shape[-1]:
        return array
    if not _core.on_device(array):
        return np.ascontiguousarray(array[..., :order])
    return _core.to_device(np.ascontiguousarray(_core.to_host(array)[..., :order]))


def _plain(array: Array) -> Array:
    return array


def _cut(n: int, length: int) -> list[int]:
    """n in pieces of `length`, and what is left."""
    return [length] * (n // length) + [n % length] * (n % length > 0)


def _fewer(counts: Array, sums: Array, most: int) -> tuple[Array, Array]:
    """At most so many blocks: neighbors are joined, the smallest first."""
    while len(counts) > most:
        k = int((counts[:-1] + counts[1:]).argmin())
        joined = _core.join_power_sums(
            np.ascontiguousarray(sums[:, k : k + 1]), np.ascontiguousarray(sums[:, k + 1 : k + 2])
        )
        sums = np.concatenate([sums[:, :k], joined, sums[:, k + 2 :]], axis=1)
        counts = np.concatenate([counts[:k], [counts[k] + counts[k + 1]], counts[k + 2 :]])
    return counts, sums


def _halved(counts: Array) -> Array:
    """Numbers in pairs of blocks."""
    found: Array = np.add.reduceat(counts, np.arange(0, len(counts), 2)) if len(counts) else counts
    return found


def _in_pairs(sums: Array | None) -> Array | None:
    """Sums of pairs of blocks; a last one alone stays."""
    if sums is None or sums.shape[1] < 2:
        return sums
    even = sums.shape[1] // 2 * 2
    joined = _core.join_power_sums(
        np.ascontiguousarray(sums[:, 0:even:2]), np.ascontiguousarray(sums[:, 1:even:2])
    )
    return np.concatenate([joined, sums[:, even:]], axis=1)
