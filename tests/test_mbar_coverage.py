"""Whether the standard errors of BAR and MBAR cover."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import vfe_fast as vf
from conftest import random_parameters
from vfe_fast.free_energy import bar, exact, mbar
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
