"""Block Gibbs sampling: full sweeps, the hidden layer given the visible one and back."""

from collections.abc import Iterator

from vfe_fast.bench.gibbs import GIBBS_NOTE, gibbs_case
from vfe_fast.bench.harness import Case

from . import rivals

NOTE = GIBBS_NOTE

# n_visible, n_hidden, n_chains, sweeps in a call
SHAPES = [
    (784, 500, 1024, 5),
    (784, 500, 64, 20),
    (64, 64, 100, 100),
    (784, 500, 1, 500),
    (100, 30, 10_000, 5),
]
QUICK = [(784, 500, 64, 20), (64, 64, 100, 100)]


def cases(threads: int, quick: bool) -> Iterator[Case]:
    for n_visible, n_hidden, n_chains, n_steps in QUICK if quick else SHAPES:
        yield gibbs_case(
            n_visible, n_hidden, n_chains, n_steps=n_steps, threads=threads, rivals=rivals.makers("gibbs")
        )
