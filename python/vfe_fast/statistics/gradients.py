r"""Derivatives of cumulants by the numbers they are estimated from.

With d_i = x_i - mean and m_s the mean of d^s, κ_r is a polynomial in m_2, ..., m_r, and

.. math:: \frac{\partial m_s}{\partial x_i} = \frac{s}{n} (d_i^{s-1} - m_{s-1})
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _core
from ..arrays import Array

__all__ = ["cumulants_backward"]


def cumulants_backward(x: Any, gradient: Any, *, unbiased: bool = True) -> Array:
    """Pull a gradient by cumulants back to the samples along the first axis.

    Parameters
    ----------
    x : ndarray, (n, ...)
        Samples.
    gradient : ndarray, (..., order)
        Gradient by the cumulants of orders 1, 2, ....
    unbiased : bool
        Whether they are k-statistics.

    Returns
    -------
    ndarray, (n, ...)
        Float64.
    """
    samples, to = np.asarray(x, np.float64), np.asarray(gradient, np.float64)
    n, order = len(samples), to.shape[-1]
    off = samples - samples.mean(axis=0)
    powers = [np.ones_like(off), off]
    for _ in range(2, order):
        powers.append(powers[-1] * off)
    moments = [power.mean(axis=0) for power in powers] + [(powers[-1] * off).mean(axis=0)]
    by_moment = _by_moments(moments, to, n, unbiased)
    # Of the polynomial in d_i: d^(s - 1) has s / n times the gradient by m_s; its mean is taken off.
    found: Array = sum(
        (s / n * by_moment[s] * powers[s - 1] for s in range(2, order + 1)), np.zeros_like(off)
    )
    found -= found.mean(axis=0)
    found += to[..., 0] / n
    return found


def _by_moments(moments: list[Array], to: Array, n: int, unbiased: bool) -> list[Array]:
    """Gradient by each moment, through products of moments that are made one from another."""
    order = to.shape[-1]
    terms = [term for term in _core.cumulant_terms(float(n), unbiased) if term[0] <= order]
    nothing = np.zeros_like(moments[0])
    products, by_product = [np.ones_like(nothing)], [nothing]
    for of, part, rest, coefficient in terms:
        products.append(moments[part] * products[rest] if rest else moments[part])
        by_product.append(coefficient * to[..., of - 1])
    by_moment = [nothing] * (order + 1)
    for t in range(len(terms), 0, -1):
        _, part, rest, _ = terms[t - 1]
        by_moment[part] = by_moment[part] + by_product[t] * products[rest]
        if rest:
            by_product[rest] = by_product[rest] + by_product[t] * moments[part]
    return by_moment
