"""Walkers in the space of energies of an Ising torus: spins looked at a second."""

from collections.abc import Iterator

from vfe_fast.bench.flat_histogram import FLAT_HISTOGRAM_NOTE, flat_histogram_case
from vfe_fast.bench.harness import Case

from . import rivals

NOTE = FLAT_HISTOGRAM_NOTE

# side, walkers, sweeps in a call: 20 trials a level, as `wang_landau` asks for at least
SHAPES = [(8, 16, 20), (16, 16, 20), (8, 256, 20)]
QUICK = [(8, 16, 20)]


def cases(threads: int, quick: bool) -> Iterator[Case]:
    for side, n_walkers, n_sweeps in QUICK if quick else SHAPES:
        yield flat_histogram_case(
            side, n_walkers, n_sweeps, threads=threads, rivals=rivals.makers("flat_histogram")
        )
