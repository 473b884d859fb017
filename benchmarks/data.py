"""Real data for the benches, from the folder that VFE_DATA names, or ../shared/data."""

import os
from pathlib import Path

import numpy as np

FOLDER = Path(os.environ.get("VFE_DATA", Path(__file__).parents[2] / "shared" / "data"))


def binarized_mnist(*, or_random: bool = True) -> np.ndarray:
    """Salakhutdinov and Murray's binarized training images; without them, random states as dark as those."""
    file = FOLDER / "binarized_mnist" / "binarized_mnist_train.amat"
    if file.is_file():
        from scipy.io import loadmat

        return np.ascontiguousarray(loadmat(file)["X"], np.uint8)
    if not or_random:
        raise FileNotFoundError(f"{file}: is not there; VFE_DATA names its folder")
    rng = np.random.default_rng(0)
    return (rng.random((20_000, 784)) < rng.beta(0.2, 1.3, 784)).astype(np.uint8)


def published_rbm() -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """The 784 x 500 model that Salakhutdinov and Murray trained on MNIST (2008), if it is there."""
    file = FOLDER / "salakhutdinov_rbm" / "mnistvh_CD25.mat"
    if not file.is_file():
        return None
    from scipy.io import loadmat

    found = loadmat(file)
    weights, visible_bias, hidden_bias = (
        np.ascontiguousarray(found[name], np.float32) for name in ("vishid", "visbiases", "hidbiases")
    )
    return weights, visible_bias.ravel(), hidden_bias.ravel()
