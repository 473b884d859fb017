"""The demo: an RBM trained on real digits, judged by its exact likelihood."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .free_energy.exact import exact
from .models import BernoulliRBM
from .random import seed
from .sampling import GibbsChains
from .training import ExactLogLikelihood, History, LinearDecay, train

__all__ = ["DemoResult", "load_digits", "run_demo"]

N_HIDDEN = 20
N_TRAIN = 1500
EXACT_EVERY = 5


@dataclass(frozen=True)
class DemoResult:
    """What the demo ends with.

    Attributes
    ----------
    rbm : BernoulliRBM
        The trained model.
    history : History
        With exact log-likelihoods every few epochs.
    samples, digits : ndarray, (n, 64)
        Gibbs samples of the model, and real images to hold them against.
    log_likelihood : dict
        Mean exact log-likelihood in nats of "train" and "test", and of the "independent pixels" on test.
    seconds : float
        Training and evaluation.
    """

    rbm: BernoulliRBM
    history: History
    samples: npt.NDArray[np.uint8]
    digits: npt.NDArray[np.uint8]
    log_likelihood: dict[str, float]
    seconds: float


def load_digits() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Scikit-learn's 1,797 handwritten digits, 8 x 8, a pixel >= 8 of 16 being 1: train and test."""
    from sklearn import datasets

    images = (datasets.load_digits().data >= 8).astype(np.uint8)
    images = images[np.random.default_rng(0).permutation(len(images))]
    return images[:N_TRAIN], images[N_TRAIN:]


def run_demo(*, n_epochs: int = 200, rng: Any = 0, progress: bool = True) -> DemoResult:
    """Train on the digits by PCD and evaluate exactly.

    Parameters
    ----------
    n_epochs : int
        Passes through the 1,500 training images.
    rng : int, numpy.random.Generator, numpy.random.SeedSequence or None
        Seed of everything random.
    progress : bool
        Show a progress bar.

    Returns
    -------
    DemoResult
    """
    begin = time.perf_counter()
    key = seed(rng)
    train_set, test_set = load_digits()
    rbm = BernoulliRBM.from_data(train_set, N_HIDDEN, rng=key)
    history = train(
        rbm,
        train_set,
        method="pcd",
        n_epochs=n_epochs,
        batch_size=50,
        n_chains=100,
        n_gibbs_steps=5,
        learning_rate=LinearDecay(0.2, 0.002, n_epochs),
        rng=key,
        callbacks=[ExactLogLikelihood(every=EXACT_EVERY, train=train_set, test=test_set)],
        progress=progress,
    )
    log_z = exact(rbm).log_z
    log_likelihood = {
        "train": float(np.mean(rbm.log_likelihood(train_set, log_z), dtype=np.float64)),
        "test": float(np.mean(rbm.log_likelihood(test_set, log_z), dtype=np.float64)),
        "independent pixels": _independent_pixels(train_set, test_set),
    }
    chains = GibbsChains(rbm, 40, rng=key ^ 1)  # not the words of the training
    chains.step(2000)
    seconds = time.perf_counter() - begin
    return DemoResult(rbm, history, chains.visible, test_set[:40], log_likelihood, seconds)


def _independent_pixels(train_set: npt.NDArray[np.uint8], test_set: npt.NDArray[np.uint8]) -> float:
    """Mean log-likelihood of the test set if each pixel were drawn on its own (one count added)."""
    mean = (train_set.sum(axis=0) + 0.5) / (len(train_set) + 1.0)
    return float(np.mean(np.sum(np.where(test_set == 1, np.log(mean), np.log1p(-mean)), axis=1)))


def show_demo(
    directory: str | os.PathLike[str],
    *,
    n_epochs: int = 200,
    rng: Any = 0,
    show: Callable[[str], Any] = print,
) -> DemoResult:
    """Run the demo, print its table, and leave its picture and its model in `directory`."""
    import matplotlib.figure  # noqa: F401  before the work, so that a missing extra is known at once

    from .plot import plot_demo

    os.makedirs(directory, exist_ok=True)
    show(f"Training a BernoulliRBM (64 visible, {N_HIDDEN} hidden) on 1,500 handwritten digits by PCD.")
    show("Log-likelihoods are exact: ln Z by enumeration, nats a digit.")
    result = run_demo(n_epochs=n_epochs, rng=rng)
    epochs, test = result.history.metric("log_likelihood_test")
    _, training = result.history.metric("log_likelihood_train")
    show(f"\n{'epoch':>8}{'train':>12}{'test':>12}")
    for k in sorted({round(i * (len(epochs) - 1) / 7) for i in range(8)}) if len(epochs) else ():
        show(f"{epochs[k]:8.0f}{training[k]:12.3f}{test[k]:12.3f}")
    show(f"\n{'independent pixels, test':<30}{result.log_likelihood['independent pixels']:10.3f}")
    show(f"{'this model, test (exact)':<30}{result.log_likelihood['test']:10.3f}")
    if result.history.interrupted:
        show("interrupted: the figures are those of the last whole update")
    picture, model = (
        os.path.join(directory, "vfe_fast_demo.png"),
        os.path.join(directory, "vfe_fast_demo.npz"),
    )
    result.rbm.save(model)
    plot_demo(result, picture)
    show(
        f"\npicture  {picture}\nmodel    {model}\n{result.seconds:.1f} s of training, evaluation and sampling"
    )
    return result
