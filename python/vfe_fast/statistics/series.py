r"""The cumulant series of ln⟨exp(-βV)⟩, beside its direct estimate.

.. math:: \ln \langle e^{-\lambda\beta V} \rangle = \sum_r \frac{(-\lambda\beta)^r}{r!} \kappa_r

The first term is the Gibbs-Bogoliubov-Feynman bound, the others correct it; "it is unclear if these
expansions even converge" (C. Martin, "Free Energies and Variational Inference", 2017, "Perturbation theory"),
so the result says what it sees.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .. import _core
from ..arguments import count, on_cuda, real, threads
from ..arrays import Array, borrow
from ..brief import brief
from ..warned import warn
from .cumulants import MOST_ORDERS, blocks, jackknife, samples_and_weights

__all__ = ["CumulantSeries", "SeriesWarning", "log_mean_exp_cumulants"]

_ROUNDING = 1e-12  # singular values below this share of the largest are nothing
_SIGNIFICANT = 3.0  # standard errors beyond which a term is taken to be there


class SeriesWarning(UserWarning):
    """A cumulant series that seems not to converge."""


@dataclass(frozen=True, eq=False)
class CumulantSeries:
    """A cumulant series and what it is worth.

    Arrays of float64; their first axis is that of the couplings, if there are several.

    Attributes
    ----------
    terms, terms_stderr : ndarray, (..., order)
        (-λβ)^r κ_r / r! for r = 1, ..., order.
    partial_sums, partial_sums_stderr : ndarray, (..., order)
        Their sums up to each order; errors by the jackknife, so correlations between orders are in.
    ratios : ndarray, (..., order - 1)
        Each term over the one before.
    best_order : ndarray of int
        Where to stop: the order with the least squared standard error plus square of the larger of the next
        two terms (less two of their errors); of a series that diverges, where the larger of the next two
        terms is least, errors and all, before the last that stands out from the noise.
    value, stderr : ndarray
        The partial sum there; the error is that of sampling, not of stopping.
    pade, pade_stderr : ndarray
        The series resummed: the Padé approximant of its sum over λ, with a denominator of the highest degree
        up to the numerator's for which there is no pole up to λ and which is possible: between the first
        term and the largest -λβV of the samples, but for three errors of the first. Where none is and the
        series diverges, nan. For strong couplings its quotient by λ goes to a constant if the order is odd,
        as that of ln⟨exp(-λβV)⟩ does if V is bounded.
    diverges : ndarray of bool
        Whether, at the last term that stands out from the noise (three standard errors; of order >= 4), two
        terms are not smaller than the two before (less the first, which only says where V is 0), one of which
        stands out too. Of three terms, whether the last is not smaller than the second; fewer tell nothing.
    noisy : ndarray of bool
        Whether the last term is less than three standard errors: nothing can be said of the terms after it.
    hidden : ndarray of bool
        Whether noise may hide that the series diverges: it is noisy, and of four terms or more one of the
        last two is the largest.
    direct, direct_stderr : ndarray
        ln of the mean of exp(-λβV), of the same samples; the error is nan where one block of neighbors has
        all of the mean.
    ess : ndarray
        Effective sample size of the direct estimate, (Σ e^(-λβV))² / Σ e^(-2λβV).
    n : int
        Samples.
    """

    terms: Array
    terms_stderr: Array
    partial_sums: Array
    partial_sums_stderr: Array
    ratios: Array
    best_order: Array
    value: Array
    stderr: Array
    pade: Array
    pade_stderr: Array
    diverges: Array
    noisy: Array
    hidden: Array
    direct: Array
    direct_stderr: Array
    ess: Array
    n: int

    __repr__ = brief

    @property
    def order(self) -> int:
        """Highest order."""
        return int(self.terms.shape[-1])

    def __str__(self) -> str:
        if self.value.ndim:
            return (
                f"{self.value.size} cumulant series, {self.value.shape}, {int(self.diverges.sum())} diverge"
            )
        lines = ["order         term            partial sum"]
        for r in range(self.order):
            lines.append(
                f"{r + 1:>5} {self.terms[r]:>12.5g} ± {self.terms_stderr[r]:<8.2g} "
                f"{self.partial_sums[r]:>12.6g} ± {self.partial_sums_stderr[r]:<8.2g}"
                + ("  best" if r + 1 == self.best_order else "")
            )
        lines.append(f"Padé   {self.pade:.6g} ± {self.pade_stderr:.2g}")
        ess = f"effective samples {self.ess:.1f} of {self.n}"
        lines.append(f"direct {self.direct:.6g} ± {self.direct_stderr:.2g}, {ess}")
        if self.diverges:
            lines.append("the series diverges: its terms do not become smaller")
        elif self.hidden:
            lines.append("the last terms are the largest, and lost in noise: the series may diverge")
        elif self.noisy:
            lines.append("the last term is lost in noise")
        return "\n".join(lines)


def log_mean_exp_cumulants(
    V: Any,
    beta: float = 1.0,
    order: int = 6,
    weights: Any = None,
    *,
    lambda_: float | npt.ArrayLike = 1.0,
    axis: int = -1,
    num_threads: int | None = None,
    device: Literal["cpu", "cuda"] = "cpu",
) -> CumulantSeries:
    r"""Estimate ln⟨exp(-λβV)⟩ as a series in cumulants, and directly.

    Parameters
    ----------
    V : array_like
        Samples of the perturbation along `axis`, float32 or float64.
    beta : float
        Inverse temperature.
    order : int
        Highest order, 1 to 8.
    weights : array_like, optional
        Weights of the samples, as in `cumulants`; estimates are then biased, those of the weighted sample.
    lambda_ : float or array_like, (n_couplings,)
        Couplings at which the series is summed; the cumulants are computed once.
    axis : int
        Where the samples are.
    num_threads : int, optional
        Threads to use; the result does not depend on it.
    device : {"cpu", "cuda"}
        Where the cumulants are computed; the direct estimate is not.

    Returns
    -------
    CumulantSeries

    Warns
    -----
    SeriesWarning
        If a series diverges, as far as its terms tell, or if they grow and noise hides whether it does.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.
    TargetUnavailableError
        If there is no such device; the message says what is missing.

    Examples
    --------
    >>> import numpy as np
    >>> V = np.random.default_rng(0).normal(1.0, 0.5, 10_000)
    >>> found = log_mean_exp_cumulants(V, order=4)          # -1 + 0.25 / 2 for normal numbers
    >>> bool(abs(found.value + 0.875) < 4 * found.stderr)
    True
    """
    order = count(order, "order", 1, MOST_ORDERS + 1)
    unbiased = weights is None
    samples, shared, _ = _samples_of(V, axis, weights, order)
    n = samples.shape[-1]
    if n < order + 1:
        raise ValueError(f"V: expected n >= order + 1 = {order + 1} samples along axis, got {n}")
    couplings = couplings_of(lambda_)
    beta = real(beta, "beta")
    if not math.isfinite(beta):
        raise ValueError(f"beta: expected a finite number, got {beta}")
    counts = blocks(n)
    values, replicates = _cumulants_of(samples, shared, order, unbiased, counts, num_threads, device)
    found = [
        _summed(values, replicates, counts, beta * coupling, samples, shared, num_threads)
        for coupling in couplings.ravel()
    ]
    result = _joined(found, couplings, n)
    warn_if_it_diverges(result)
    return result


def stopped(V: Array, order: int, axis: int) -> tuple[Array, Array, Array]:
    """Partial sums of ln⟨exp(-V)⟩, the order at which they are best stopped, and the direct estimate."""
    samples, _, _ = _samples_of(V, axis, None, order)
    counts = blocks(samples.shape[-1])
    values, replicates = _cumulants_of(samples, None, order, True, counts, None, "cpu")
    found = _summed(values, replicates, counts, 1.0, samples, None, None, resummed=False)
    return found["partial_sums"], found["best_order"], found["direct"]


def _cumulants_of(
    samples: Array, shared: Array | None, order: int, unbiased: bool, counts: Array,
    num_threads: int | None, device: Literal["cpu", "cuda"],
) -> tuple[Array, Array]:  # fmt: skip
    """Cumulants, and those without each of the blocks."""
    values, _, replicates, _ = _core.cumulants(
        samples, shared,
        order=order, unbiased=unbiased, counts=counts, wanted="vr", num_threads=threads(num_threads),
        cuda=on_cuda(device),
    )  # fmt: skip
    assert values is not None
    assert replicates is not None
    if not np.isfinite(values).all():
        raise ValueError("V: expected finite numbers whose powers up to `order` are finite, got others")
    if shared is not None and np.isnan(replicates).any():
        raise ValueError("weights: expected some in two blocks of neighbors, for the errors, got all in one")
    return values, replicates


def known_series(values: Array, V: Array, probabilities: Array, couplings: Array) -> CumulantSeries:
    """The series of a distribution given by all its states: its cumulants, V and the probabilities."""
    halves = np.array([len(V) // 2, len(V) - len(V) // 2], dtype=np.float64)
    found = [
        _summed(values, np.stack([values, values]), halves, coupling, V, probabilities, None)
        for coupling in couplings.ravel()
    ]
    for one in found:
        one |= {name: np.zeros_like(one[name]) for name in one if name.endswith("stderr")}
    return _joined(found, couplings, len(V))


def couplings_of(lambda_: Any) -> Array:
    """Couplings as float64, () or (n_couplings,)."""
    given, _ = borrow(lambda_, "lambda_")
    if given.dtype.kind not in "iuf" or given.size == 0:
        raise TypeError(f"lambda_: expected one or more real numbers, got {given.dtype} {given.shape}")
    couplings: Array = given.astype(np.float64)
    if couplings.ndim > 1 or not np.isfinite(couplings).all():
        raise ValueError(
            f"lambda_: expected a finite number or (n_couplings,) of them, got {couplings.shape}"
        )
    return couplings


def _joined(found: list[dict[str, Array]], couplings: Array, n: int) -> CumulantSeries:
    """One series a coupling, stacked unless there is only a number."""
    parts = {name: np.stack([one[name] for one in found]) for name in found[0]}
    if couplings.ndim == 0:
        parts = {name: part[0] for name, part in parts.items()}
    return CumulantSeries(**parts, n=n)


_WARNINGS = {
    "diverges": "the cumulant series diverges{}: its terms do not become smaller; stop at `best_order`, or "
    "compare with `direct` and `pade`",
    "hidden": "the last terms of the cumulant series are the largest{}, and lost in noise: whether it "
    "converges cannot be told; compare with `direct`",
}


def warn_if_it_diverges(result: CumulantSeries) -> None:
    """Say so plainly, or that noise hides whether it does."""
    for name, text in _WARNINGS.items():
        flags = getattr(result, name)
        if flags.any():
            many = f" in {int(flags.sum())} of {flags.size} cases" if flags.ndim else ""
            warn(text.format(many), SeriesWarning)
            return


def _samples_of(V: Any, axis: Any, weights: Any, order: int) -> Any:
    try:
        return samples_and_weights(V, axis, weights, 1)
    except (TypeError, ValueError) as error:
        if str(error).startswith("x:"):
            raise type(error)(f"V{str(error)[1:]}") from error
        raise


def _summed(
    values: Array, replicates: Array, counts: Array, t: float, samples: Array, shared: Array | None,
    num_threads: int | None, resummed: bool = True,
) -> dict[str, Array]:  # fmt: skip
    """The series at -λβ = -t; `resummed`: with its Padé approximant."""
    order = values.shape[-1]
    orders = np.arange(1, order + 1)
    with np.errstate(over="ignore", invalid="ignore"):
        factors = np.power(-t, orders) / np.array([math.factorial(r) for r in orders])
        terms, left_out = values * factors, replicates * factors
    if not (np.isfinite(terms).all() and np.isfinite(left_out).all()):
        raise ValueError(
            "beta: expected terms (-lambda_ beta)^r kappa_r / r! in the range of float64, got others"
        )
    terms_stderr = jackknife(terms, left_out, counts)
    sums = terms.cumsum(axis=-1)
    sums_stderr = jackknife(sums, left_out.cumsum(axis=-1), counts)
    with np.errstate(all="ignore"):
        ratios = terms[..., 1:] / terms[..., :-1]
    significant = np.where(np.abs(terms) > _SIGNIFICANT * terms_stderr, np.abs(terms), 0.0)
    sure = np.maximum(np.abs(terms) - 2 * terms_stderr, 0.0)  # what is no noise
    padded = np.concatenate([sure, np.zeros((*terms.shape[:-1], 2))], axis=-1)
    rest = np.maximum(padded[..., 1:-1], padded[..., 2:])
    rest[..., -1] = padded[..., order - 1] / 2  # nothing is known of what follows
    diverges = np.zeros(terms.shape[:-1], bool)
    for r in range(min(3, order - 1), order) if order > 2 else ():  # the last term that stands out decides
        last = significant[..., max(r - 1, 2) : r + 1].max(axis=-1)
        # The first is as large as where V is 0 makes it.
        before = significant[..., max(r - 3, 1) : max(r - 1, 2)].max(axis=-1)
        diverges = np.where(significant[..., r] > 0, (last >= before) & (before > 0), diverges)
    # Of a series that diverges, what noise may hide counts in full, and terms after the last that stands out
    # are larger, seen or not.
    seen_later = (significant[..., ::-1].cumsum(axis=-1)[..., ::-1] - significant) > 0
    sizes = np.abs(terms)
    at_most = np.concatenate([sizes, np.full((*terms.shape[:-1], 2), np.inf)], axis=-1)
    rest = np.where(diverges[..., None], np.maximum(at_most[..., 1:-1], at_most[..., 2:]), rest)
    off = np.hypot(sums_stderr, rest)
    best = np.where(diverges[..., None] & ~seen_later, np.inf, off).argmin(axis=-1)
    noisy = significant[..., -1] == 0
    hidden = np.zeros_like(diverges)
    if order >= 4:
        hidden = noisy & ~diverges & (sizes[..., -2:].max(axis=-1) > sizes[..., :-2].max(axis=-1))
    direct, direct_stderr, ess, most = _direct(samples, shared, counts, t, num_threads)

    def at_best(array: Array) -> Array:
        chosen: Array = np.take_along_axis(array, best[..., None], axis=-1)[..., 0]
        return chosen

    found = {
        "terms": terms,
        "terms_stderr": terms_stderr,
        "partial_sums": sums,
        "partial_sums_stderr": sums_stderr,
        "ratios": ratios,
        "best_order": best + 1,
        "value": at_best(sums),
        "stderr": at_best(sums_stderr),
        "diverges": diverges,
        "noisy": noisy,
        "hidden": hidden,
        "direct": direct,
        "direct_stderr": direct_stderr,
        "ess": ess,
    }
    if resummed:
        slack = _SIGNIFICANT * terms_stderr[..., 0] + _ROUNDING * sizes.max(axis=-1)
        pade, pade_left_out, possible = _resummed(terms, left_out, (terms[..., 0] - slack, most + slack))
        no_sum = diverges & ~possible
        found["pade"] = np.where(no_sum, np.nan, pade)
        found["pade_stderr"] = np.where(no_sum, np.nan, jackknife(pade, pade_left_out, counts))
    return found


def _pade(terms: Array, degree: int) -> tuple[Array, Array]:
    """Σ_r terms_r λ^r at λ = 1 as λ P(λ) / Q(λ), Q of this degree, and the coefficients of Q.

    P has the degree that is left; where Q's equations have many solutions, the smallest.
    """
    order = terms.shape[-1]
    low = order - 1 - degree  # degree of P
    c = np.concatenate(
        [np.zeros((*terms.shape[:-1], degree)), terms], axis=-1
    )  # c[degree + r] is of λ^r, r >= 0
    q = np.ones((*terms.shape[:-1], 1))
    if degree > 0:
        first = degree + low + 1
        columns = [c[..., first - k : first - k + degree] for k in range(1, degree + 1)]
        inverse = np.linalg.pinv(np.stack(columns, axis=-1), rcond=_ROUNDING)
        q = np.concatenate([q, -(inverse @ c[..., first : first + degree, None])[..., 0]], axis=-1)
    # P at 1: the sum over k of q_k times the first terms of the series, up to degree low - k.
    p = sum(q[..., k] * c[..., degree : degree + low + 1 - k].sum(axis=-1) for k in range(degree + 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Array = p / q.sum(axis=-1)
    return found, q


def _has_pole(q: Array) -> Array:
    """Whether a polynomial of these coefficients, 1 at 0, has a zero in (0, 1]."""
    poles = np.zeros(q.shape[:-1], bool)
    for point in np.linspace(0.0, 1.0, 1025)[1:]:
        value = q[..., -1]
        for k in range(q.shape[-1] - 2, -1, -1):
            value = value * point + q[..., k]
        poles |= value <= 0
    return poles


def _resummed(
    terms: Array, left_out: Array, within: tuple[Array | float, Array | float] = (-np.inf, np.inf)
) -> tuple[Array, Array, Array]:
    """The Padé approximant of the highest degree without a pole, `within`; without blocks; whether any is."""
    found, found_left_out = terms.sum(axis=-1), left_out.sum(axis=-1)
    possible: Array = (found >= within[0]) & (found <= within[1])
    for degree in range(1, (terms.shape[-1] - 1) // 2 + 1):
        better, q = _pade(terms, degree)
        fits = (better >= within[0]) & (better <= within[1]) & ~_has_pole(q)
        found = np.where(fits, better, found)
        found_left_out = np.where(fits, _pade(left_out, degree)[0], found_left_out)
        possible |= fits
    return found, found_left_out, possible


def _direct(
    samples: Array, shared: Array | None, counts: Array, t: float, num_threads: int | None
) -> tuple[Array, Array, Array, Array]:
    """ln of the mean of exp(-t V), its error, effective sample size, and the largest -t V, block by block."""
    n_threads = threads(num_threads)
    sums, squares, weights = [], [], []
    ends = counts.astype(int).cumsum()
    each_block = [slice(end - int(size), end) for end, size in zip(ends, counts, strict=True)]
    tops = []
    for block in each_block:
        used = samples[..., block]
        if shared is not None:
            used = np.where(shared[..., block] > 0, used, np.nan)
        extremes = np.fmin.reduce(used, axis=-1), np.fmax.reduce(used, axis=-1)
        tops.append(np.fmax(*(-t * extreme.astype(np.float64) for extreme in extremes)))
    top = np.fmax.reduce(tops, axis=0)
    for block, size in zip(each_block, counts, strict=True):
        exponent = -t * samples[..., block].astype(np.float64) - top[..., None]
        np.minimum(exponent, 0.0, out=exponent)  # of samples without weight
        each = _core.exp(np.ascontiguousarray(exponent), num_threads=n_threads)
        if shared is not None:
            each = each * shared[..., block]
            weights.append(shared[..., block].sum(axis=-1))
        else:
            weights.append(np.full(each.shape[:-1], float(size)))
        sums.append(each.sum(axis=-1))
        squares.append((each**2).sum(axis=-1))
    of_blocks, of_weights = np.stack(sums), np.stack(weights)
    total, weight = of_blocks.sum(axis=0), of_weights.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.log(total / weight) + top
        others = 1.0 - np.eye(len(counts))  # sums without a block, not differences: one may have nearly all
        left_out = np.log(np.tensordot(others, of_blocks, 1) / np.tensordot(others, of_weights, 1)) + top
        stderr = jackknife(value, left_out, counts)
    return value, stderr, total**2 / np.stack(squares).sum(axis=0), top
