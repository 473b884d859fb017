"""Exact ln Z of dense Ising models, beside enumerations of all states and beside the rate of dgemm."""

from collections.abc import Iterator

from vfe_fast.bench.exact_ising import EXACT_ISING_NOTE, exact_ising_case
from vfe_fast.bench.harness import Case

from . import rivals

NOTE = EXACT_ISING_NOTE

# n_spins, moments, whether rivals can be asked
SHAPES = [(20, False, True), (24, False, True), (30, False, False), (30, True, False), (33, False, False)]
QUICK = [(20, False, True), (24, True, False)]


def cases(threads: int, quick: bool) -> Iterator[Case]:
    for n_spins, moments, others in QUICK if quick else SHAPES:
        makers = rivals.makers("exact_ising") if others else {}
        yield exact_ising_case(n_spins, moments=moments, threads=threads, rivals=makers)
