"""ln p(x|z) of Bernoulli units, as training of an autoencoder and its evaluation find it."""

import importlib.util
from collections.abc import Iterator

from vfe_fast.bench.harness import Case
from vfe_fast.bench.likelihood import LIKELIHOOD_NOTE, likelihood_case

from . import rivals

NOTE = LIKELIHOOD_NOTE

# n_samples, batch, n_units, gradient
SHAPES = [(50, 100, 784, True), (50, 100, 784, False), (5, 100, 784, True), (1, 100, 784, True)]
QUICK = [(5, 20, 100, True)]


def cases(threads: int, quick: bool) -> Iterator[Case]:
    if importlib.util.find_spec("torch") is None:
        return
    for *shape, gradient in QUICK if quick else SHAPES:
        yield likelihood_case(*shape, gradient, threads=threads, rivals=rivals.makers("likelihood"))
