"""An RBM of 784 x 20 units trained on MNIST: every free energy beside the exact one.

The binarized images are looked for in the folder that VFE_DATA names, or ../shared/data.
"""

from __future__ import annotations

import sys
from pathlib import Path

from matplotlib.figure import Figure
from style import save

import vfe_fast as vf

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.data import binarized_mnist


def compute(small: bool = False) -> vf.free_energy.Comparison:
    """Train by PCD, then compare."""
    images = binarized_mnist(or_random=small)
    rbm = vf.BernoulliRBM.from_data(images, 20, rng=1)
    vf.train(rbm, images, method="pcd", n_epochs=1 if small else 10, learning_rate=0.02, rng=1)
    return vf.free_energy.compare(rbm, data=images[:1000], rng=2)


def draw(found: vf.free_energy.Comparison) -> Figure:
    """The picture that `Comparison.plot` makes."""
    return found.plot()


if __name__ == "__main__":
    comparison = compute()
    print(comparison)
    save(draw(comparison), __file__)
