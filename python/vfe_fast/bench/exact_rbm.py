"""The exact ln Z case, and NumPy's enumeration."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .. import free_energy
from ..arrays import Array
from ..models import BernoulliRBM
from .harness import Call, Case, Maker, WrongAnswerError, made, verified
from .models import all_states, joint, model_of

__all__ = ["EXACT_RBM_NOTE", "Enumeration", "exact_rbm_case", "numpy_exact_rbm"]

EXACT_RBM_NOTE = (
    "exact_rbm: seconds for ln Z; float64. Peak: one multiplication, one addition a state and unit."
)

_PIECE = 1 << 16  # numbers that a NumPy thread works on at a time: they stay in its cache


def exact_rbm_case(
    n_visible: int,
    n_hidden: int,
    *,
    moments: bool,
    threads: int,
    rivals: Mapping[str, Maker | str],
    precision: Literal["double", "single"] = "double",
) -> Case:
    """Exact ln Z of an RBM by enumeration of its smaller layer.

    Parameters
    ----------
    n_visible, n_hidden : int
        Size of the model.
    moments : bool
        Also ⟨v⟩, ⟨h⟩ and ⟨vh⟩.
    threads : int
        Threads to use.
    rivals : mapping of str to callable or str
        ``maker(weights, visible_bias, hidden_bias, moments=, threads=)`` returns a callable that returns
        (ln Z,), or (ln Z, ⟨v⟩, ⟨h⟩, ⟨vh⟩) with `moments`.

    precision : {"double", "single"}
        Of our products.

    Returns
    -------
    Case
        Its work is one multiplication and one addition for each state and unit of the larger layer, with
        or without moments: what the product over units cannot do without.
    """
    model = model_of(n_visible, n_hidden, np.float64, 0.2)
    work: dict[str, Any] = {"moments": moments, "threads": threads}
    verify = _check_exact_moments if moments else _check_exact_log_z
    verify(_our_exact_rbm)
    ours = _our_exact_rbm(*model, **work, precision=precision)
    # Small models showed that ours in float64 is right; the others must agree.
    expected = functools.cache(_our_exact_rbm(*model, **work))
    return Case(
        bench="exact_rbm",
        name=", ".join(
            [f"{n_visible}x{n_hidden}"] + ["moments"] * moments + ["single"] * (precision == "single")
        ),
        ours=ours,
        rivals=made(verified(rivals, verify), *model, **work),
        work=2.0 * 2.0 ** min(n_visible, n_hidden) * max(n_visible, n_hidden),
        peak="float64 mul+add",
        check=lambda answer: _compare(answer, expected()),
    )


def _our_exact_rbm(
    weights: Array,
    visible_bias: Array,
    hidden_bias: Array,
    *,
    moments: bool,
    threads: int,
    precision: Literal["double", "single"] = "double",
) -> Call:
    rbm = BernoulliRBM(weights, visible_bias, hidden_bias)

    def call() -> tuple[Any, ...]:
        result = free_energy.exact(rbm, moments=moments, precision=precision, num_threads=threads)
        if result.moments is None:
            return (result.log_z,)
        return result.log_z, result.moments.visible, result.moments.hidden, result.moments.visible_hidden

    return call


def _check_exact_log_z(maker: Maker) -> None:
    """Compare with sums over all joint states, for models with the smaller layer on either side."""
    _check_exact(maker, moments=False)


def _check_exact_moments(maker: Maker) -> None:
    _check_exact(maker, moments=True)


def _check_exact(maker: Maker, moments: bool) -> None:
    for n_visible, n_hidden in ((9, 6), (6, 9)):
        model, log_z, pairs = joint(n_visible, n_hidden)
        expected: tuple[Any, ...] = (log_z,)
        if moments:
            means = np.diagonal(pairs)
            expected = (log_z, means[:n_visible], means[n_visible:], pairs[:n_visible, n_visible:])
        _compare(maker(*model, moments=moments, threads=1)(), expected)


def _compare(answer: tuple[Any, ...], expected: tuple[Any, ...]) -> None:
    for name, x, y in zip(("ln Z", "<v>", "<h>", "<vh>"), answer, expected, strict=False):
        error = float(np.max(np.abs(np.asarray(x) / np.asarray(y) - 1)))
        if not error < 1e-9:
            raise WrongAnswerError(f"relative error of {name} is {error:.1e}")
    if len(answer) != len(expected):
        raise WrongAnswerError(f"{len(answer)} results, not {len(expected)}")


@dataclass(frozen=True)
class Enumeration:
    """States of the smaller layer as pairs of a low and a high half, with the fields of each half.

    For the state (l, k) the units of the larger layer have the fields ``low_fields[l] + high_fields[k]`` and
    the state itself the bias ``low_bias[l] + high_bias[k]``. Every rival enumerates in this way: it saves
    them a matrix product.

    Attributes
    ----------
    low_fields, high_fields : ndarray, (states of the half, units of the larger layer)
        The larger layer's own biases are in the high half.
    low_bias, high_bias : ndarray, (states of the half,)
        Biases of the smaller layer.
    low_bits, high_bits : ndarray, (states of the half, units of the half)
        The states.
    hidden : bool
        Whether the hidden layer is the smaller one.
    """

    low_fields: Array
    high_fields: Array
    low_bias: Array
    high_bias: Array
    low_bits: Array
    high_bits: Array
    hidden: bool

    @classmethod
    def of(cls, weights: Array, visible_bias: Array, hidden_bias: Array, n_elements: int) -> Enumeration:
        """Tabulate a model, with at most `n_elements` fields in the low half (but one unit at least)."""
        hidden = weights.shape[1] < weights.shape[0]
        if hidden:
            weights, visible_bias, hidden_bias = weights.T, hidden_bias, visible_bias
        n, m = weights.shape
        low = min(n - 1, max(1, int(math.log2(max(2, n_elements // m)))))
        low_bits, high_bits = all_states(low), all_states(n - low)
        return cls(
            low_fields=low_bits @ weights[:low],
            high_fields=high_bits @ weights[low:] + hidden_bias,
            low_bias=low_bits @ visible_bias[:low],
            high_bias=high_bits @ visible_bias[low:],
            low_bits=low_bits,
            high_bits=high_bits,
            hidden=hidden,
        )

    def answer(self, top: float, sums: Array) -> tuple[Any, ...]:
        """Return (ln Z, ⟨v⟩, ⟨h⟩, ⟨vh⟩).

        Parameters
        ----------
        top : float
            Log of the factor taken out of `sums`.
        sums : ndarray, (1 + n, 1 + m)
            Sums over the states s, with weights w(s), of the products of (1, s_1 … s_n) and (1, σ_1 … σ_m),
            where σ_j is the mean of unit j of the larger layer given s.

        Returns
        -------
        tuple
            In the order in which the model has its layers.
        """
        log_z = top + math.log(sums[0, 0])
        means = sums / sums[0, 0]
        if self.hidden:
            means = means.T
        return log_z, means[1:, 0], means[0, 1:], means[1:, 1:]


def numpy_exact_rbm(
    weights: Array, visible_bias: Array, hidden_bias: Array, *, moments: bool, threads: int
) -> Call:
    """NumPy's exact ln Z at its best: chunks that fit the cache, on a pool of threads.

    Parameters
    ----------
    weights, visible_bias, hidden_bias : ndarray, float64
        The model; |x_j| < 700 for every field, so that ln(1 + e^x) needs no care.
    moments : bool
        Also ⟨v⟩, ⟨h⟩ and ⟨vh⟩.
    threads : int
        Threads to use.

    Returns
    -------
    callable
        Returns (ln Z,) or (ln Z, ⟨v⟩, ⟨h⟩, ⟨vh⟩).
    """
    pool = ThreadPoolExecutor(threads)
    part = _numpy_moments if moments else _numpy_log_z

    def call() -> tuple[Any, ...]:
        table = Enumeration.of(weights, visible_bias, hidden_bias, _PIECE)
        n_rows = len(table.high_bias)
        n_parts = min(n_rows, threads)
        rows = [range(k * n_rows // n_parts, (k + 1) * n_rows // n_parts) for k in range(n_parts)]
        parts = list(pool.map(functools.partial(part, table), rows))
        top = max(part_top for part_top, _ in parts)
        sums = sum(math.exp(part_top - top) * part_sums for part_top, part_sums in parts)
        return table.answer(top, sums) if moments else (top + math.log(sums),)

    return call


def _numpy_log_z(table: Enumeration, rows: range) -> tuple[float, Any]:
    x = np.empty_like(table.low_fields)
    log_weight = np.empty((len(rows), len(x)))
    for out, row in zip(log_weight, rows, strict=True):
        np.add(table.low_fields, table.high_fields[row], out=x)
        np.exp(x, out=x)
        x += 1
        np.log(x, out=x)
        np.sum(x, axis=1, out=out)
        out += table.low_bias
        out += table.high_bias[row]
    top = float(log_weight.max())
    log_weight -= top
    return top, float(np.exp(log_weight, out=log_weight).sum())


def _numpy_moments(table: Enumeration, rows: range) -> tuple[float, Array]:
    x, mean = np.empty_like(table.low_fields), np.empty_like(table.low_fields)
    low = np.vstack([np.ones(len(x)), table.low_bits.T])
    sums = np.zeros((len(low) + table.high_bits.shape[1], 1 + x.shape[1]))
    low_sums = np.empty((len(low), sums.shape[1]))
    top = -math.inf
    for row in rows:
        np.add(table.low_fields, table.high_fields[row], out=mean)
        np.exp(mean, out=mean)
        np.add(mean, 1, out=x)
        mean /= x
        np.log(x, out=x)
        log_weight = x.sum(axis=1)
        log_weight += table.low_bias
        log_weight += table.high_bias[row]
        highest = float(log_weight.max())
        if highest > top:
            sums *= math.exp(top - highest)
            top = highest
        weighted = low * np.exp(log_weight - top)
        low_sums[:, 0] = weighted.sum(axis=1)
        low_sums[:, 1:] = weighted @ mean
        sums[: len(low)] += low_sums
        sums[len(low) :][table.high_bits[row] == 1] += low_sums[0]
    return top, sums
