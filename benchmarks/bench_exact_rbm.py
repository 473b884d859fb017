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
    (784, 24, False),
    (784, 16, True),
    (784, 20, True),
    (64, 20, True),
]
QUICK = [(784, 16, False), (784, 16, True)]


def cases(threads: int, quick: bool) -> Iterator[Case]:
    for n_visible, n_hidden, moments in QUICK if quick else SHAPES:
        # Beyond 2^20 states the rivals take minutes.
        makers = rivals.makers("exact_rbm") if n_hidden <= 20 else {}
        yield exact_rbm_case(n_visible, n_hidden, moments=moments, threads=threads, rivals=makers)
        if not (moments or quick):
            yield exact_rbm_case(
                n_visible, n_hidden, moments=False, threads=threads, rivals={}, precision="single"
            )
