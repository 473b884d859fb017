"""Training: an epoch of persistent contrastive divergence on binarized MNIST.

See data.py for the images.
"""

from collections.abc import Iterator

from vfe_fast.bench.harness import Case
from vfe_fast.bench.train import TRAIN_NOTE, train_case

from . import rivals
from .data import binarized_mnist

NOTE = TRAIN_NOTE

# n_hidden, batch size, Gibbs steps, samples
SHAPES = [(500, 100, 1, 20_000), (500, 500, 10, 10_000)]
QUICK = [(500, 100, 1, 5_000)]


def cases(threads: int, quick: bool) -> Iterator[Case]:
    images = binarized_mnist()
    for n_hidden, batch_size, n_steps, n_samples in QUICK if quick else SHAPES:
        yield train_case(
            images[:n_samples], n_hidden, batch_size=batch_size, n_steps=n_steps, threads=threads,
            rivals=rivals.makers("train"),
        )  # fmt: skip
