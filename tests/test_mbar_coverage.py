"""Whether the standard errors of BAR and MBAR cover."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import vfe_fast as vf
from conftest import random_parameters
from vfe_fast.free_energy import bar, exact, mbar, mbar_from_potentials
from vfe_fast.sampling import parallel_tempering

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("pymbar")


def test_coverage() -> None:
    """68 % ± 5 % of 300 models within one standard error, by both methods."""
    off: dict[Any, list[float]] = {mbar: [], bar: []}
    for k in range(300):
        parameters = random_parameters(4 + k % 4, 3 + k % 5, scale=0.6, seed=k)
        model: Any = vf.BernoulliRBM(*parameters)
        if k % 2:
            model = vf.SpinRBM(*(0.5 * p for p in parameters))
        run = parallel_tempering(model, 4, n_ladders=8, n_sweeps=200, rng=1000 + k, num_threads=1)
        for method, errors in off.items():
            found = method(model, run)
            assert found.converged
            errors.append((found.log_z - exact(model).log_z) / found.stderr)
    for errors in off.values():
        assert abs(np.mean(np.abs(errors) < 1) - 0.68) < 0.05


def test_coverage_of_potentials() -> None:
    """68 % ± 5 % of 300 sets of three springs, f = ln(k) / 2 + a constant; another seed fails in 6 %."""
    rng, off = np.random.default_rng(0), []
    n = [200, 100, 150]
    for _ in range(300):
        springs, places, constants = (
            np.exp(rng.uniform(-0.7, 0.7, 3)),
            rng.normal(0, 0.7, 3),
            rng.normal(size=3),
        )
        x = rng.normal(np.repeat(places, n), np.repeat(springs**-0.5, n))
        u = springs[:, None] / 2 * (x - places[:, None]) ** 2 + constants[:, None]
        f = np.log(springs) / 2 + constants
        found = mbar_from_potentials(u, n)
        assert found.converged
        off.append((found.value - (f[2] - f[0])) / found.stderr)
    assert abs(np.mean(np.abs(off) < 1) - 0.68) < 0.05
    assert abs(np.mean(off)) < 0.2  # 3.5 errors
