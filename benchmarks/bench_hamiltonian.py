"""Hamiltonian dynamics of a GaussianRBM: gradients a second, draws and tests included."""

from collections.abc import Iterator

from vfe_fast.bench.hamiltonian import HAMILTONIAN_NOTE, hamiltonian_case
from vfe_fast.bench.harness import Case

from . import rivals

NOTE = HAMILTONIAN_NOTE

# n_visible, n_hidden, n_chains, moves in a call, steps in a move
SHAPES = [
    (784, 500, 128, 1, 10),
    (784, 500, 4, 10, 10),
    (64, 32, 100, 20, 10),
    (64, 32, 100, 100, 1),
    (8, 4, 4, 100, 10),
]
QUICK = [(64, 32, 100, 20, 10)]


def cases(threads: int, quick: bool) -> Iterator[Case]:
    for n_visible, n_hidden, n_chains, n_moves, n_steps in QUICK if quick else SHAPES:
        yield hamiltonian_case(
            n_visible, n_hidden, n_chains, n_moves=n_moves, n_steps=n_steps, threads=threads,
            rivals=rivals.makers("hamiltonian"),
        )  # fmt: skip
