"""Exact ln Z of an RBM by enumeration of its smaller layer, without and with moments."""

from collections.abc import Iterator

from vfe_fast.bench.exact_rbm import EXACT_RBM_NOTE, exact_rbm_case
from vfe_fast.bench.harness import Case

from . import rivals

NOTE = EXACT_RBM_NOTE

# n_visible, n_hidden, moments
SHAPES = [
    (784, 16, False),
    (784, 20, False),
    (64, 20, False),
    (784, 16, True),
    (784, 20, True),
    (64, 20, True),
]
QUICK = [(784, 16, False), (784, 16, True)]


def cases(threads: int, quick: bool) -> Iterator[Case]:
    for n_visible, n_hidden, moments in QUICK if quick else SHAPES:
        yield exact_rbm_case(
            n_visible, n_hidden, moments=moments, threads=threads, rivals=rivals.makers("exact_rbm")
        )
