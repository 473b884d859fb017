"""Sums over samples of binary units times real numbers, against NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest

import vfe_fast as vf
from vfe_fast import _core

SHAPES = [(0, 3, 2), (1, 1, 1), (3, 70, 5), (64, 15, 16), (65, 300, 17), (130, 64, 130), (2100, 33, 20)]


def problem(shape, dtype):
    n_samples, n_units, n_columns = shape
    rng = np.random.default_rng(n_samples)
    states = (rng.random((n_samples, n_units)) < rng.random(n_units)).astype(np.uint8)
    values = (rng.normal(size=(n_samples, n_columns)) * 10.0 ** rng.uniform(-3, 3, n_columns)).astype(dtype)
    return states, _core.pack_states(states, n_units, "states"), values


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_against_numpy(target, shape, dtype):
    """Within the contract's bound, and for one sample exactly."""
    states, packed, values = problem(shape, dtype)
    sums, counts = _core.pair_sums(packed, shape[1], values, num_threads=1)
    assert sums.dtype == dtype
    assert np.array_equal(counts, states.sum(axis=0))
    wide = values.astype(np.longdouble)
    bound = (shape[0] / 64 + 6) * np.finfo(dtype).eps / 2 * np.abs(wide).sum(axis=0)
    assert (np.abs(sums - states.T.astype(np.longdouble) @ wide) <= bound * (shape[0] > 1)).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_same_bits_everywhere(keep_target, shape):
    _, packed, values = problem(shape, np.float32)
    found = set()
    for name in vf.show_config("dict")["usable_targets"]:
        _core.use_target(name)
        for num_threads in (1, 2, 5):
            found.add(_core.pair_sums(packed, shape[1], values, num_threads=num_threads)[0].tobytes())
    assert len(found) == 1


def test_bad_arguments():
    _, packed, values = problem((65, 70, 4), np.float32)
    with pytest.raises(ValueError, match=r"^states: expected"):
        _core.pair_sums(packed, 200, values, num_threads=1)
    with pytest.raises(ValueError, match=r"^values: expected"):
        _core.pair_sums(packed, 70, values[1:], num_threads=1)
    with pytest.raises(ValueError, match=r"^values: expected"):
        _core.pair_sums(packed, 70, np.asfortranarray(values), num_threads=1)
    with pytest.raises(TypeError, match=r"^values: expected"):
        _core.pair_sums(packed, 70, values.astype(np.float16), num_threads=1)
