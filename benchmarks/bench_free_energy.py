"""Clamped free energies of visible states and mean hidden states, from one state to many."""

from collections.abc import Iterator

from vfe_fast.bench.free_energy import FREE_ENERGY_NOTE, free_energy_case
from vfe_fast.bench.harness import Case

from . import rivals
from .data import binarized_mnist

NOTE = FREE_ENERGY_NOTE

# n_visible, n_hidden, n_states, means
SHAPES = [
    (n_visible, n_hidden, n_states, means)
    for n_visible, n_hidden in ((784, 500), (784, 20), (64, 20))
    for n_states in (1, 10, 30, 1000)
    for means in (False, True)
]
QUICK = [(784, 500, 30, False), (784, 20, 30, True)]


def cases(threads: int, quick: bool) -> Iterator[Case]:
    for n_visible, n_hidden, n_states, means in QUICK if quick else SHAPES:
        yield free_energy_case(
            n_visible,
            n_hidden,
            n_states,
            means=means,
            threads=threads,
            rivals=rivals.makers("free_energy"),
        )
    if not quick:
        images = binarized_mnist()[:10_000]
        yield free_energy_case(
            784,
            500,
            len(images),
            means=False,
            threads=threads,
            rivals=rivals.makers("free_energy"),
            images=images,
        )
