"""Annealed importance sampling: temperatures of the published schedule, 784 x 500, 100 chains.

Of the published model if it is there (data.py), at the states of the real run, and of random weights.
"""

from collections.abc import Iterator

from vfe_fast.bench.ais import AIS_NOTE, ais_case
from vfe_fast.bench.harness import Case

from . import rivals
from .data import published_rbm

NOTE = AIS_NOTE


def cases(threads: int, quick: bool) -> Iterator[Case]:
    trained = published_rbm()
    for model in [trained] if quick and trained else [None, trained] if trained else [None]:
        yield ais_case(784, 500, 100, threads=threads, rivals=rivals.makers("ais"), trained=model)
