"""Averages over data and chains: the chains are those of the Gibbs sampler, the sums NumPy's in float64."""

from __future__ import annotations

import numpy as np
import pytest

import vfe_fast as vf
from conftest import random_rbm
from vfe_fast import _core

# n_visible, n_hidden, samples, chains, steps: tiles that are not whole, few states, blocks of both kinds
CASES = [
    (5, 3, 1, 1, 1),
    (70, 65, 3, 2, 2),
    (100, 30, 70, 50, 3),
    (33, 130, 300, 290, 2),
    (64, 64, 5, 600, 1),
    (100, 70, 280, 280, 8),  # enough chains and steps for sums of 16 bits
]

# With work for eight threads, but one tile or two: the threads share a tile's visible units, in parts
# that are no whole words. Several blocks of samples, of which one has chains as well.
SHARED = [
    (784, 20, 1100, 700, 2),
    (1030, 65, 700, 600, 1),
    (517, 64, 900, 1300, 1),
]


def problem(n_visible, n_hidden, n_data, n_chains, dtype):
    rng = np.random.default_rng(n_visible)
    rbm = random_rbm(n_visible, n_hidden, scale=0.3, dtype=dtype)
    data = (rng.random((n_data, n_visible)) < 0.3).astype(np.uint8)
    start = (rng.random((n_chains, n_hidden)) < 0.6).astype(np.uint8)
    return rbm, data, start


def contrast(rbm, data, start, n_steps, step_offset=4, num_threads=1):
    packed = None if start is None else _core.pack_states(start, rbm.n_hidden, "start")
    return _core.contrast(
        *rbm.parameters, _core.pack_states(data, rbm.n_visible, "data"), packed,
        n_steps=n_steps, seed=11, step_offset=step_offset, num_threads=num_threads,
    )  # fmt: skip


def mean_hidden(rbm, v):
    weights, _, hidden_bias = (p.astype(np.float64) for p in rbm.parameters)
    return 1.0 / (1.0 + np.exp(-(v @ weights + hidden_bias)))


def assert_averages(rbm, data, chains, found):
    """Against float64, within the contract's bounds: of the sums, and of the fields that enter them."""
    pairs, *averages, _, _ = found
    layers = [data.astype(np.float64), chains.astype(np.float64)]
    hidden = [mean_hidden(rbm, v) for v in layers]
    given, model = (v.T @ h / len(v) for v, h in zip(layers, hidden, strict=True))
    sizes = np.abs(rbm.weights).sum(0) + np.abs(rbm.hidden_bias)
    of_fields = 0.25 * (rbm.n_visible + 1) * 2.0**-31 * sizes.max()
    eps = 2.0**-24 if rbm.dtype == np.float32 else 2.0**-53
    atol = ((len(data) + len(chains)) / 64 + 15) * 2 * eps + 64 * eps + 2 * of_fields
    assert {x.dtype for x in (pairs, *averages)} == {rbm.dtype}
    np.testing.assert_allclose(pairs, given - model, rtol=0, atol=atol)
    expected = (layers[0].mean(0), hidden[0].mean(0), layers[1].mean(0), hidden[1].mean(0))
    for mine, theirs in zip(averages, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=atol)


def gibbs_of_few(rbm, v, n_steps, step_offset):
    """By exact sums: 15 chains at a time."""
    parts = [
        vf.gibbs(rbm, v[k : k + 15], n_steps, rng=11, step_offset=step_offset, chain_offset=k)
        for k in range(0, len(v), 15)
    ]
    return (np.concatenate(states) for states in zip(*parts, strict=True))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES)
def test_persistent_chains(target, case, dtype):
    """The chains of `gibbs`, half a step later: v of step t is drawn from h of step t."""
    *shape, n_steps = case
    rbm, data, start = problem(*shape, dtype)
    found = contrast(rbm, data, start, n_steps)
    visible = _core.unpack_states(found[5], rbm.n_visible)
    hidden = _core.unpack_states(found[6], rbm.n_hidden)
    assert_averages(rbm, data, visible, found)

    # One more step of `gibbs` from `visible` draws the very `hidden`.
    _, again = gibbs_of_few(rbm, visible, 1, 4 + n_steps)
    np.testing.assert_array_equal(hidden, again)
    first = contrast(rbm, data, start, 1)
    if n_steps > 1:  # and from the first v on, `gibbs` goes the same way
        v, _ = gibbs_of_few(rbm, _core.unpack_states(first[5], rbm.n_visible), n_steps - 1, 5)
        np.testing.assert_array_equal(visible, v)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES)
def test_chains_from_the_data(target, case, dtype):
    n_visible, n_hidden, n_data, _, n_steps = case
    rbm, data, _ = problem(n_visible, n_hidden, n_data, 1, dtype)
    found = contrast(rbm, data, None, n_steps)
    visible = _core.unpack_states(found[5], n_visible)
    np.testing.assert_array_equal(visible, next(gibbs_of_few(rbm, data, n_steps, 4)))
    assert len(found[6]) == 0
    assert_averages(rbm, data, visible, found)


def test_draws_at_the_bound_of_coarse_sums(target):
    """Hidden units that stay on, equal weights: coarse sums are off by their bound (see test_gibbs.py)."""
    rng = np.random.default_rng(6)
    w = np.full((64, 514), 12.0 / 514) * rng.choice([-1.0, 1.0], (64, 1))
    rbm = vf.BernoulliRBM(w, rng.normal(scale=0.1, size=64) - w.sum(axis=1), np.full(514, 60.0))
    data, start = np.ones((1, 64), dtype=np.uint8), np.ones((2100, 514), dtype=np.uint8)
    visible = _core.unpack_states(contrast(rbm, data, start, 1)[5], 64)
    np.testing.assert_array_equal(visible, next(gibbs_of_few(rbm, np.ones((2100, 64), np.uint8), 1, 4)))


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_bits(keep_target, persistent, dtype):
    """For any number of threads and any instruction set."""
    rbm, data, start = problem(784, 100, 400, 400, dtype)
    found = set()
    for name in vf.show_config("dict")["usable_targets"]:
        _core.use_target(name)
        for num_threads in (1, 2, 3):
            results = contrast(rbm, data, start if persistent else None, 6, 0, num_threads)
            found.add(b"".join(x.tobytes() for x in results))
    assert len(found) == 1


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", SHARED)
def test_parts_of_a_tile(target, case, dtype, persistent):
    """Shared out among threads: the averages against NumPy's, the same bits as by one."""
    *shape, n_steps = case
    rbm, data, start = problem(*shape, dtype)
    bits = set()
    for num_threads in (1, 2, 3, 5, 8):
        found = contrast(rbm, data, start if persistent else None, n_steps, num_threads=num_threads)
        bits.add(b"".join(x.tobytes() for x in found))
        assert_averages(rbm, data, _core.unpack_states(found[5], rbm.n_visible), found)
    assert len(bits) == 1


def test_bad_arguments():
    rbm, data, start = problem(70, 5, 3, 2, np.float32)
    with pytest.raises(ValueError, match=r"^data: expected"):
        contrast(rbm, data[:0], start, 1)
    with pytest.raises(ValueError, match=r"^start: expected"):
        contrast(rbm, data, start[:0], 1)
    with pytest.raises(ValueError, match=r"^n_steps: expected"):
        contrast(rbm, data, start, 0)
    with pytest.raises(ValueError, match=r"^step_offset: expected"):
        contrast(rbm, data, start, 1, step_offset=-1)
