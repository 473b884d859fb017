"""How often standard errors of annealing hold ln Z of trained machines, ``python -m benchmarks.coverage``.

Machines of 784 x 20 units, trained by PCD on binarized MNIST, whose ln Z is a sum over 2^20 states. Ten
minutes on two cores. Needs VFE_DATA or ../shared/data, and SciPy to read it.
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np

import vfe_fast as vf
from vfe_fast.free_energy import FreeEnergy, WeightsWarning

from .data import binarized_mnist

METHODS = {"ais": vf.free_energy.ais, "reverse_ais": vf.free_energy.reverse_ais}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description=__doc__)
    parser.add_argument("--method", choices=METHODS, default="ais")
    parser.add_argument(
        "--machines", type=int, nargs="+", default=[1, 2, 3, 8, 9, 10], help="seeds of training"
    )
    parser.add_argument("--runs", type=int, default=100, help="of each")
    parser.add_argument("--temperatures", type=int, default=5000)
    options = parser.parse_args()
    images = binarized_mnist(or_random=False)
    print("| machine | ln Z | runs, converged | within one, two | beyond three, four | mean | of all runs |")
    print("|---|---|---|---|---|---|---|")
    everywhere: list[tuple[float, FreeEnergy]] = []
    for machine in options.machines:
        rbm = vf.BernoulliRBM.from_data(images, 20, rng=machine)
        vf.train(rbm, images, method="pcd", n_epochs=10, learning_rate=0.02, rng=machine)
        log_z = vf.free_energy.exact(rbm).log_z
        how = {"n_temperatures": options.temperatures, "data": images}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", WeightsWarning)
            found = [METHODS[options.method](rbm, **how, rng=run) for run in range(options.runs)]
        off = [((F.log_z - log_z) / F.stderr, F) for F in found]
        everywhere += off
        print(row(f"{machine} | {log_z:.2f}", off), flush=True)
    print(row("all |", everywhere))


def row(name: str, off: list[tuple[float, FreeEnergy]]) -> str:
    """How many errors runs are off, those that say they have converged, and all."""
    z, every = np.array([x for x, F in off if F.converged]), np.array([x for x, _ in off])
    within = " ".join(f"{np.mean(np.abs(z) < k):.0%}" for k in (1, 2))
    beyond = ", ".join(str(np.sum(np.abs(z) > k)) for k in (3, 4))
    return (
        f"| {name} | {len(every)}, {len(z)} | {within} | {beyond} | {z.mean():+.2f} | "
        f"{np.mean(np.abs(every) < 1):.0%} |"
    )


if __name__ == "__main__":
    main()
