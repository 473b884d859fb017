"""The lower halves of images given the upper ones: Gibbs sampling with clamped units of an RBM of MNIST.

The binarized images are looked for in the folder that VFE_DATA names, or ../shared/data.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from style import save

import vfe_fast as vf

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.data import binarized_mnist

SIDE, N_IMAGES = 28, 10


def compute(small: bool = False) -> list[tuple[str, NDArray[np.float64]]]:
    """Rows of images, each with its name: what is given, what three chains add, and what they expect."""
    images = binarized_mnist(or_random=small)
    train, held_out = images[:-1000], images[-1000:][:N_IMAGES]
    rbm = vf.BernoulliRBM.from_data(train, 20 if small else 500, rng=1)
    n_epochs = 1 if small else 40
    decay = vf.training.LinearDecay(0.05, 0.0005, n_epochs)
    vf.train(rbm, train, method="pcd", n_epochs=n_epochs, n_gibbs_steps=5, learning_rate=decay, rng=1)

    upper = np.arange(SIDE * SIDE) < SIDE * SIDE // 2
    given = np.where(upper, held_out, 0.5)
    rows = [("image", held_out.astype(float)), ("given", given)]
    coins = np.random.default_rng(2).integers(0, 2, held_out.shape, dtype=np.uint8)
    chains_per_image = 3
    start = np.repeat(np.where(upper, held_out, coins), chains_per_image, axis=0)
    chains = vf.GibbsChains(rbm, len(start), start=start, clamped=upper, rng=3)
    chains.step(1000)
    for k in range(chains_per_image):
        rows.append((f"chain {k + 1}", chains.visible[k::chains_per_image].astype(float)))
    total = np.zeros(held_out.shape)
    n_samples = 500
    for _ in range(n_samples):
        chains.step(10)
        total += chains.visible.reshape(len(held_out), chains_per_image, -1).sum(1)
    rows.append(("mean", total / (n_samples * chains_per_image)))
    return rows


def draw(rows: list[tuple[str, NDArray[np.float64]]]) -> Figure:
    """One row of pictures for each of `rows`."""
    figure = Figure(figsize=(6.4, 0.62 * len(rows)), layout="constrained")
    for k, (name, images) in enumerate(rows):
        axes = figure.add_subplot(len(rows), 1, k + 1)
        axes.imshow(np.hstack(images.reshape(-1, SIDE, SIDE)), cmap="gray_r", vmin=0, vmax=1)
        axes.set_xticks([])
        axes.set_yticks([SIDE / 2], [name])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    return figure


if __name__ == "__main__":
    save(draw(compute()), __file__)
