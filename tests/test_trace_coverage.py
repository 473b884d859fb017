"""Whether the standard errors of the stochastic trace cover."""

from __future__ import annotations

import numpy as np

import vfe_fast as vf
from vfe_fast.free_energy import trace


def test_coverage() -> None:
    """68 % ± 5 % of 300 asymmetric models within one standard error, at three temperatures."""
    errors: dict[float, list[float]] = {0.4: [], 1.0: [], 4.0: []}
    for k in range(300):
        rng, n = np.random.default_rng(k), 5 + k % 2
        couplings = np.triu(rng.normal(size=(n, n)) / np.sqrt(n), 1)
        ising = vf.Ising(couplings + couplings.T, 0.5 * rng.normal(size=n))
        h = vf.TransverseFieldIsing(ising, rng.uniform(0.3, 1.5, n))
        exact = trace(h.matrix(), beta=list(errors))
        found = trace(h, beta=list(errors), n_probes=48, order=24, n_deflated=2, rng=k)
        for f, e in zip(found, exact, strict=True):
            assert f.converged
            errors[f.beta].append((f.log_z - e.log_z) / f.stderr)
    for of_beta in errors.values():
        assert abs(np.mean(np.abs(of_beta) < 1) - 0.68) < 0.05
