"""What training with real units reaches on digits: ``python -m benchmarks.digits --help``.

scikit-learn's, counts 0 to 16 with a uniform number in [0, 1) added, of the pixels that vary; exact test
log-likelihood beside densities that scikit-learn fits.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time

import numpy as np

import vfe_fast as vf


def digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    counts = load_digits().data
    rng = np.random.default_rng(0)
    x = (counts + rng.random(counts.shape))[rng.permutation(len(counts))]
    x = x[:, counts.std(axis=0) > 0.5]
    return x[:1437], x[1437:]


def peers(train: np.ndarray, test: np.ndarray, n_hidden: int) -> None:
    from sklearn.decomposition import FactorAnalysis
    from sklearn.mixture import GaussianMixture

    for name, density in (
        ("independent normals", GaussianMixture(1, covariance_type="diag")),
        (f"factor analysis, {n_hidden} factors", FactorAnalysis(n_hidden)),
        (
            f"mixture of {n_hidden} normals",
            GaussianMixture(n_hidden, covariance_type="diag", reg_covar=0.01, random_state=0),
        ),
    ):
        print(f"{name:<27} ln p(test) {density.fit(train).score(test):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.digits", description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--hidden", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=3, help="runs of each kind, >= 2 (default: 3)")
    arguments = parser.parse_args()
    if arguments.seeds < 2 or arguments.hidden < 1:
        parser.error("expected at least two seeds and one hidden unit")
    train, test = digits()
    print(f"{len(train)} training and {len(test)} test images of {train.shape[1]} pixels")
    peers(train, test, arguments.hidden)
    for learn_sigma, method in itertools.product((False, True), ("cd", "pcd", "pt", "exact")):
        found, begin = [], time.perf_counter()
        for seed in range(arguments.seeds):
            rbm = vf.GaussianRBM.from_data(train, arguments.hidden, rng=seed)
            vf.train(
                rbm, train, method=method, learn_sigma=learn_sigma, n_epochs=arguments.epochs, batch_size=50,
                learning_rate=0.003, momentum=0.9, n_chains=500, rng=seed,
            )  # fmt: skip
            log_z = vf.free_energy.exact(rbm).log_z
            found.append(float(rbm.log_likelihood(test, log_z).mean()))
        spread = statistics.stdev(found)
        took = (time.perf_counter() - begin) / arguments.seeds
        sigma = "learned" if learn_sigma else "fixed"
        print(
            f"{method:<5} sigma {sigma:<7} ln p(test) {statistics.mean(found):.2f} "
            f"(standard deviation over {arguments.seeds} seeds {spread:.2f}), {took:.1f} s a run",
            flush=True,
        )


if __name__ == "__main__":
    main()
