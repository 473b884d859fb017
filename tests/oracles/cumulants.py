"""Cumulants by their definition, in mpmath or exact fractions: slow, and sharing nothing with the package."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any


def set_partitions(items: Sequence[int]) -> Iterator[list[list[int]]]:
    """All ways to cut a set into blocks."""
    if not items:
        yield []
        return
    first, *rest = items
    for partition in set_partitions(rest):
        yield [[first], *partition]
        for k, block in enumerate(partition):
            yield [*partition[:k], [first, *block], *partition[k + 1 :]]


def integer_partitions(n: int) -> dict[tuple[int, ...], int]:
    """Sizes of blocks, and how many partitions of a set of n have them."""
    found: dict[tuple[int, ...], int] = {}
    for partition in set_partitions(range(n)):
        sizes = tuple(sorted(map(len, partition)))
        found[sizes] = found.get(sizes, 0) + 1
    return found


def biased(x: Sequence[Any], order: int, weights: Sequence[Any] | None = None) -> list[Any]:
    """Cumulants of the empirical distribution, by the recursion over raw moments about the mean."""
    w = [1] * len(x) if weights is None else list(weights)
    total = sum(w)
    mean = sum(a * b for a, b in zip(w, x, strict=True)) / total
    d = [a - mean for a in x]
    moment = [sum(a * b**q for a, b in zip(w, d, strict=True)) / total for q in range(order + 1)]
    kappa = [None, 0 * mean]
    for r in range(2, order + 1):
        kappa.append(moment[r] - sum(math.comb(r - 1, j - 1) * kappa[j] * moment[r - j] for j in range(1, r)))
    return [mean, *kappa[2:]]


@functools.cache
def over_distinct(sums: Any, parts: tuple[tuple[int, int], ...]) -> Any:
    """Σ over distinct i_1, ..., i_m of Π w_i^k x_i^q, given sums(k, q) = Σ w^k x^q; parts are the (k, q)."""
    *rest, (k, q) = sorted(parts)
    found = sums(k, q) * (over_distinct(sums, tuple(rest)) if rest else 1)
    for j, (other_k, other_q) in enumerate(rest):
        joined = [*rest]
        joined[j] = (other_k + k, other_q + q)
        found -= over_distinct(sums, tuple(joined))
    return found


def unbiased(x: Sequence[Any], order: int, weights: Sequence[Any] | None = None) -> list[Any]:
    """Σ over set partitions of (-1)^(m-1) (m-1)! times the mean of the product over distinct indices.

    If weighted, of as many indices as the order has, those without a factor too: the origin is no matter.
    """
    w = [1] * len(x) if weights is None else list(weights)
    mean = sum(x) / len(x)
    d = [a - mean for a in x]
    known: dict[tuple[int, int], Any] = {}

    def sums(k: int, q: int) -> Any:
        if (k, q) not in known:
            known[k, q] = sum(a**k * b**q for a, b in zip(w, d, strict=True))
        return known[k, q]

    found = []
    for r in range(1, order + 1):
        total = 0 * mean
        for sizes, count in integer_partitions(r).items():
            m = len(sizes)
            idle = [(1, 0)] * (r - m if weights is not None else 0)
            products = over_distinct(sums, (*((1, q) for q in sizes), *idle))
            of_ones = over_distinct(sums, (*((1, 0) for _ in sizes), *idle))
            total += (-1) ** (m - 1) * math.factorial(m - 1) * count * products / of_ones
        found.append(total + mean if r == 1 else total)
    return found


def by_tuples(x: Sequence[Any], order: int) -> Any:
    """The k-statistic of one order by going through all tuples of distinct samples."""
    total = 0
    for sizes, count in integer_partitions(order).items():
        m = len(sizes)
        products = [
            math.prod(a**q for a, q in zip(chosen, sizes, strict=True))
            for chosen in itertools.permutations(x, m)
        ]
        total += (-1) ** (m - 1) * math.factorial(m - 1) * count * sum(products) / len(products)
    return total
