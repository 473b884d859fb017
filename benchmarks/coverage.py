"""How often standard errors of annealing hold ln Z of trained machines, ``python -m benchmarks.coverage``.

Machines of 784 x 20 units, trained by PCD on binarized MNIST, whose ln Z is a sum over 2^20 states. Fifteen
minutes on two cores. Needs VFE_DATA or ../shared/data, and SciPy to read it.
"""

from __future__ import annotations

import argparse
import warnings
from typing import Any

import numpy as np

import vfe_fast as vf
from vfe_fast.free_energy import WeightsWarning

from .data import binarized_mnist

METHODS: dict[str, Any] = {"ais": vf.free_energy.ais, "reverse_ais": vf.free_energy.reverse_ais}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description=__doc__)
    parser.add_argument("--method", choices=METHODS, default="ais")
    parser.add_argument("--machines", type=int, nargs="+", default=[1, 2, 3, 8, 9, 10], help="by seeds")
    parser.add_argument("--runs", type=int, default=100, help="of each, and each set")
    parser.add_argument("--temperatures", type=int, default=5000)
    parser.add_argument("--chains", type=int, default=400)
    parser.add_argument("--set", type=int, nargs="+", default=[0], help="of seeds: 0, 1, ...")
    options = parser.parse_args()
    images = binarized_mnist(or_random=False)
    print(
        "| machine | ln Z | converged | within one, two errors | beyond three, four | mean | all within one |"
    )
    print("|---|---|---|---|---|---|---|")
    all_off, all_converged = [], []
    for machine in options.machines:
        rbm = vf.BernoulliRBM.from_data(images, 20, rng=machine)
        vf.train(rbm, images, method="pcd", n_epochs=10, learning_rate=0.02, rng=machine)
        log_z = vf.free_energy.exact(rbm).log_z
        how = {"n_temperatures": options.temperatures, "n_chains": options.chains, "data": images}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", WeightsWarning)
            found = [
                METHODS[options.method](rbm, **how, rng=seed)
                for number in options.set
                for seed in np.random.SeedSequence([machine, number]).spawn(options.runs)
            ]
        off = np.array([(F.log_z - log_z) / F.stderr for F in found])
        converged = np.array([F.converged for F in found])
        print(f"| {machine} | {log_z:.2f} | {summary(off, converged)} |", flush=True)
        all_off.append(off)
        all_converged.append(converged)
    print(f"| all | | {summary(np.concatenate(all_off), np.concatenate(all_converged))} |")


def summary(off: np.ndarray, converged: np.ndarray) -> str:
    """Cells on runs that are so many errors off: those that say they have converged, at last all."""
    kept = off[converged]
    if len(kept) == 0:
        return f"0 of {len(off)} | | | | {np.mean(np.abs(off) < 1):.0%}"
    one, two = (f"{np.mean(np.abs(kept) < k):.0%}" for k in (1, 2))
    three, four = (np.sum(np.abs(kept) > k) for k in (3, 4))
    return (
        f"{len(kept)} of {len(off)} | {one}, {two} | {three}, {four} | {kept.mean():+.2f} | "
        f"{np.mean(np.abs(off) < 1):.0%}"
    )


if __name__ == "__main__":
    main()
