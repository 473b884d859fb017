"""Training: an epoch of persistent contrastive divergence on binarized MNIST.

Salakhutdinov and Murray's binarized images are read if VFE_DATA or ../shared/data has them; else random
states as dark as those stand in for them.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vfe_fast.bench.harness import Case
from vfe_fast.bench.train import TRAIN_NOTE, train_case

from . import rivals

NOTE = TRAIN_NOTE

# n_hidden, batch size, Gibbs steps, samples
SHAPES = [(500, 100, 1, 20_000), (500, 500, 10, 10_000)]
QUICK = [(500, 100, 1, 5_000)]


def cases(threads: int, quick: bool) -> Iterator[Case]:
    images = _images()
    for n_hidden, batch_size, n_steps, n_samples in QUICK if quick else SHAPES:
        yield train_case(
            images[:n_samples], n_hidden, batch_size=batch_size, n_steps=n_steps, threads=threads,
            rivals=rivals.makers("train"),
        )  # fmt: skip


def _images() -> np.ndarray:
    folder = Path(os.environ.get("VFE_DATA", Path(__file__).parents[2] / "shared" / "data"))
    file = folder / "binarized_mnist" / "binarized_mnist_train.amat"
    if file.is_file():
        from scipy.io import loadmat

        return np.ascontiguousarray(loadmat(file)["X"], np.uint8)
    rng = np.random.default_rng(0)
    return (rng.random((20_000, 784)) < rng.beta(0.2, 1.3, 784)).astype(np.uint8)
