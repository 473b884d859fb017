"""Clamped free energies, conditional means and energies against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

import vfe_fast as vf
from conftest import random_parameters, random_rbm
from oracles.rbm import all_states, energies
from vfe_fast import _core


def states(n_states, n_units, seed=0):
    return np.random.default_rng(seed).integers(0, 2, (n_states, n_units), dtype=np.uint8)


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


@pytest.mark.twin(small=True)
@pytest.mark.parametrize("shape", [(1, 1), (9, 4), (64, 64), (65, 130), (300, 700)])
@pytest.mark.parametrize("beta", [0.4, 1.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_against_the_definition(target, shape, beta, dtype):
    w, a, b = random_parameters(*shape, scale=0.5, dtype=dtype)
    rbm, v, h = vf.BernoulliRBM(w, a, b), states(40, shape[0]), states(40, shape[1], 1)
    w, a, b = (p.astype(np.float64) for p in (w, a, b))
    x = b + v @ w
    # the contract's error of a field, and what it does to the sum of the softplus terms
    eps = np.finfo(dtype).eps / 2
    field_error = (shape[0] / 4 + 4) * eps * (np.abs(b) + np.abs(w).sum(axis=0)) + 4 * eps * np.abs(x)
    expected = -(v @ a) - np.logaddexp(0, beta * x).sum(axis=1) / beta
    got = rbm.free_energy(v, beta=beta)
    assert got.dtype == dtype
    assert np.all(np.abs(got - expected) <= field_error.sum(axis=1) + 4 * eps * np.abs(expected))
    got = rbm.mean_hidden(v, beta=beta)
    assert got.dtype == dtype
    assert np.all(np.abs(got - sigmoid(beta * x)) <= beta * field_error / 4 + 4 * eps)
    x = a + h @ w.T
    field_error = (shape[1] / 4 + 4) * eps * (np.abs(a) + np.abs(w).sum(axis=1)) + 4 * eps * np.abs(x)
    got = rbm.mean_visible(h, beta=beta)
    assert got.dtype == dtype
    assert np.all(np.abs(got - sigmoid(beta * x)) <= beta * field_error / 4 + 4 * eps)


def test_hidden_units_summed_out():
    """F_c(v) = -(1/beta) ln sum_h exp(-beta E(v, h))."""
    parameters, beta = random_parameters(6, 5), 0.6
    expected = -np.log(np.exp(-beta * energies(*parameters)).sum(axis=1)) / beta
    got = vf.BernoulliRBM(*parameters).free_energy(all_states(6), beta=beta)
    np.testing.assert_allclose(got, expected, rtol=1e-13)


def test_probabilities_add_up_to_one():
    for beta in (0.5, 1.0):
        rbm = random_rbm(8, 6)
        log_z = vf.free_energy.exact(rbm, beta=beta).log_z
        assert np.exp(rbm.log_likelihood(all_states(8), log_z, beta=beta)).sum() == pytest.approx(
            1, rel=1e-12
        )


def test_energy():
    parameters = random_parameters(5, 4)
    v, h = np.repeat(all_states(5), 16, axis=0), np.tile(all_states(4), (32, 1))
    np.testing.assert_allclose(
        vf.BernoulliRBM(*parameters).energy(v, h), energies(*parameters).ravel(), atol=1e-14
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_energy_of_many_states(dtype):
    """In pieces of 4,096, the last of another size: those of all states, looked up."""
    w, a, b = random_parameters(5, 4, dtype=dtype)
    k, j = np.random.default_rng(2).integers(0, (32, 16), (9000, 2)).T
    found = vf.BernoulliRBM(w, a, b).energy(all_states(5)[k], all_states(4)[j])
    expected = energies(*(p.astype(np.float64) for p in (w, a, b)))[k, j]
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, atol=1e-6 if dtype == np.float32 else 1e-14)


def test_mean_hidden_is_the_gradient_of_the_free_energy():
    w, a, b = random_parameters(6, 3)
    v, step = all_states(6), 1e-5
    means = vf.BernoulliRBM(w, a, b).mean_hidden(v)
    for j in range(3):
        up, down = (vf.BernoulliRBM(w, a, b + s * step * np.eye(3)[j]).free_energy(v) for s in (1, -1))
        np.testing.assert_allclose(means[:, j], -(up - down) / (2 * step), atol=1e-9)


def test_saturated_fields():
    """Fields of hundreds: no overflow, exact limits."""
    rbm = vf.BernoulliRBM([[800.0, -800.0]], [0.0], [-100.0, 30.0])
    np.testing.assert_allclose(rbm.free_energy([[1], [0]]), [-700.0, -30.0], rtol=1e-12)
    np.testing.assert_allclose(rbm.mean_hidden([[1], [0]]), [[1, 0], [0, 1]], atol=1e-12)


@pytest.mark.usefixtures("keep_target")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_bits_for_any_batch_threads_and_target(dtype):
    """Few states add rows, many use tables: the results are the same bits."""
    rbm, v = random_rbm(200, 150, scale=0.2, dtype=dtype), states(300, 200)
    whole, means = rbm.free_energy(v), rbm.mean_hidden(v)
    for name in vf.show_config("dict")["usable_targets"]:
        _core.use_target(name)
        for num_threads in (1, 2, 7):
            assert rbm.free_energy(v, num_threads=num_threads).tobytes() == whole.tobytes()
        pieces = [rbm.free_energy(v[k : k + 7]) for k in range(0, 300, 7)]
        assert np.concatenate(pieces).tobytes() == whole.tobytes()
        assert rbm.mean_hidden(v[:3]).tobytes() == means[:3].tobytes()


def test_published_model(reference_data):
    """Salakhutdinov and Murray's 784 x 500 RBM: mean unnormalized log p on the binarized test set."""
    io = pytest.importorskip("scipy.io")
    model = io.loadmat(reference_data / "salakhutdinov_rbm" / "mnistvh_CD25.mat")
    rbm = vf.BernoulliRBM(
        *(np.ascontiguousarray(model[k], dtype=np.float64) for k in ("vishid",)),
        model["visbiases"].ravel().astype(np.float64),
        model["hidbiases"].ravel().astype(np.float64),
    )
    (path,) = (reference_data / "binarized_mnist").glob("*test*")
    data = io.loadmat(path)["X"]
    assert -rbm.free_energy(data).mean() == pytest.approx(364.942339, abs=1e-6)
