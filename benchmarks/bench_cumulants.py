"""Cumulants of rows of numbers, with standard errors, from one long row to many short ones."""

from collections.abc import Iterator

from vfe_fast.bench.cumulants import CUMULANTS_NOTE, cumulants_case
from vfe_fast.bench.harness import Case

from . import rivals

NOTE = CUMULANTS_NOTE

# n_rows, n, order
SHAPES = [
    (n_rows, n, order)
    for n_rows, n in ((1, 100_000_000), (1000, 100_000), (1_000_000, 100), (1, 100_000))
    for order in (4, 8)
]
QUICK = [(1, 1_000_000, 4), (1000, 100, 8)]


def cases(threads: int, quick: bool) -> Iterator[Case]:
    for n_rows, n, order in QUICK if quick else SHAPES:
        yield cumulants_case(n_rows, n, order, threads=threads, rivals=rivals.makers("cumulants"))
