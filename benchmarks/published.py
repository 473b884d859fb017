"""ln Z of the published 784 x 500 model by annealing from both ends, ``python -m benchmarks.published``.

R. Salakhutdinov, I. Murray, ICML 2008: CD-25 on MNIST, 14,500 temperatures, 100 chains, ln Z = 451.28,
average log-likelihood of the test set -86.34. Needs VFE_DATA or ../shared/data, and SciPy to read it.
"""

from __future__ import annotations

import argparse
import math
import time

import numpy as np

import vfe_fast as vf
from vfe_fast.bench.ais import published_schedule

from .data import FOLDER, binarized_mnist, published_rbm


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.published", description=__doc__)
    parser.add_argument("--chains", type=int, default=100)
    parser.add_argument("--burn-in", type=int, default=4000, help="Gibbs steps before the way back")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    model = published_rbm()
    if model is None:
        parser.error(f"no published model in {FOLDER}")
    from scipy.io import loadmat

    rbm, data, betas = vf.BernoulliRBM(*model), binarized_mnist(), published_schedule()
    how = {"betas": betas, "data": data, "rng": options.seed}
    begin = time.perf_counter()
    forward = vf.free_energy.ais(rbm, n_chains=options.chains, **how)
    between = time.perf_counter()
    reverse = vf.free_energy.reverse_ais(rbm, n_chains=options.chains, n_burn_in=options.burn_in, **how)
    seconds = (between - begin, time.perf_counter() - between)
    for name, F, took in zip(("forward", "reverse"), (forward, reverse), seconds, strict=True):
        d = F.details
        print(
            f"{name}: ln Z = {F.log_z:.3f} ± {F.stderr:.3f}, effective chains {F.ess:.1f}, Pareto k "
            f"{d['pareto_k']:.2f}, path sampling {d['path_sampling']:.2f} ± {d['path_sampling_stderr']:.2f}, "
            f"{took:.1f} s" + ("" if F.converged else f"; not converged: {F.problem}")
        )
    gap, error = reverse.log_z - forward.log_z, math.hypot(forward.stderr, reverse.stderr)
    print(f"gap {gap:.2f} ± {error:.2f}")
    upper, lower = vf.free_energy.AisSandwich(forward, reverse).bounds  # of F
    print(
        f"bounds by means of ln w: {upper.log_z:.2f} ± {upper.stderr:.2f} <= ln Z <= {lower.log_z:.2f} ± "
        f"{lower.stderr:.2f} (published 451.28)"
    )
    test = np.ascontiguousarray(
        loadmat(FOLDER / "binarized_mnist" / "binarized_mnist_test.amat")["X"], np.uint8
    )
    inside = float(-np.mean(rbm.free_energy(test)))
    print(f"average log-likelihood of the test set: {inside - forward.log_z:.3f} (published -86.34)")


if __name__ == "__main__":
    main()
