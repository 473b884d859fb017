"""The CUDA twin of `free_energy` against the CPU kernel, bit for bit, in small cases."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import vfe_fast as vf
from conftest import random_parameters
from vfe_fast import _core
from vfe_fast.device import DeviceArray


def states(n_states: int, n_units: int) -> Any:
    return np.random.default_rng(n_units).integers(0, 2, (n_states, n_units), dtype=np.uint8)


def same(pair: tuple[Any, Any]) -> bool:
    cpu, cuda = pair
    return bool(cpu.dtype == cuda.dtype and cpu.shape == cuda.shape and cpu.tobytes() == cuda.tobytes())


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 70, 33), (66, 31, 70), (33, 530, 9), (130, 65, 20)])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_free_energy(both: Any, shape: tuple[int, int, int], order: Any, dtype: Any) -> None:
    n_visible, n_hidden, n_states = shape
    w, a, b = random_parameters(n_visible, n_hidden, scale=0.5, dtype=dtype)
    rbm = vf.BernoulliRBM(np.asarray(w, order=order), a, b)
    v, h = states(n_states, n_visible), states(n_states, n_hidden)
    assert same(both(lambda device: rbm.free_energy(v, beta=0.7, device=device)))
    assert same(both(lambda device: rbm.mean_hidden(v, beta=0.7, device=device)))
    assert same(both(lambda device: rbm.mean_visible(h, beta=0.7, device=device)))
    assert same(both(lambda device: rbm.log_likelihood(v, 1.5, device=device)))


def test_states_of_a_device(both: Any) -> None:
    """The results are there, too."""
    rbm, v = vf.BernoulliRBM(*random_parameters(34, 20, dtype=np.float32)), states(9, 34)

    def call(device: str) -> Any:
        if device == "cpu":
            return rbm.free_energy(v)
        found = rbm.free_energy(DeviceArray(v))
        assert isinstance(found, DeviceArray)
        assert rbm.mean_hidden(DeviceArray(v)).shape == (9, 20)
        return found.numpy()

    assert same(both(call))


def test_many_states(both: Any) -> None:
    """More than the few for which blocks are smaller."""
    rbm, v = vf.BernoulliRBM(*random_parameters(34, 20)), states(1100, 34)
    assert same(both(lambda device: rbm.free_energy(v, device=device)))
    assert same(both(lambda device: rbm.mean_hidden(v, device=device)))


def test_against_the_definition(both: Any) -> None:
    """Where both sides could err together."""
    w, a, b = random_parameters(41, 37, scale=0.5)
    v = states(45, 41)
    x = b + v @ w
    rbm = vf.BernoulliRBM(w, a, b)
    _, energies = both(lambda device: rbm.free_energy(v, beta=0.4, device=device))
    np.testing.assert_allclose(energies, -(v @ a) - np.logaddexp(0, 0.4 * x).sum(axis=1) / 0.4, rtol=1e-12)
    _, means = both(lambda device: rbm.mean_hidden(v, beta=0.4, device=device))
    np.testing.assert_allclose(means, 1 / (1 + np.exp(-0.4 * x)), rtol=1e-12)


def test_both_results_without_a_cache(both: Any) -> None:
    parameters, v = random_parameters(70, 40, dtype=np.float32), states(5, 70)
    packed = _core.pack_states(v, 70, "v")

    def run(device: str) -> Any:
        energies, means = _core.free_energy(
            *parameters, packed, beta=1.0, free_energy=True, mean_hidden=True, num_threads=0,
            cuda=device == "cuda",
        )  # fmt: skip
        return np.concatenate([energies, means.ravel()])

    assert same(both(run))


def test_other_biases(both: Any) -> None:
    """The weights are kept, the biases are not."""
    rbm, v = vf.BernoulliRBM(*random_parameters(20, 10)), states(3, 20)
    other = rbm.with_biases(np.linspace(-1, 1, 20), np.linspace(2, -3, 10))
    for machine in (rbm, other, rbm):
        assert same(both(lambda device, machine=machine: machine.free_energy(v, device=device)))


@pytest.mark.parametrize("scale", [0.0, 1e-30, 100.0, 1e25])
@pytest.mark.parametrize("beta", [2.0**-100, 1.0, 1e10])
def test_extreme_values(both: Any, scale: float, beta: float) -> None:
    rbm = vf.BernoulliRBM(*random_parameters(9, 12, scale=scale, dtype=np.float32))
    v = states(4, 9)
    assert same(both(lambda device: rbm.free_energy(v, beta=beta, device=device)))
    assert same(both(lambda device: rbm.mean_hidden(v, beta=beta, device=device)))
    assert same(both(lambda device: rbm.mean_hidden(v, beta=0.0, device=device)))


def test_no_states(both: Any) -> None:
    rbm = vf.BernoulliRBM(*random_parameters(5, 4))
    assert same(both(lambda device: rbm.free_energy(np.zeros((0, 5)), device=device)))
    assert same(both(lambda device: rbm.mean_hidden(np.zeros((0, 5)), device=device)))


def test_spins(both: Any) -> None:
    rbm, v = vf.SpinRBM(*random_parameters(12, 7, dtype=np.float32)), 2 * states(6, 12).astype(np.int8) - 1
    assert same(both(lambda device: rbm.free_energy(v, device=device)))
    assert same(both(lambda device: rbm.log_likelihood(v, 0.5, device=device)))


def test_real_units_have_no_twin() -> None:
    rbm = vf.GaussianRBM(*random_parameters(3, 2))
    for refused in (
        lambda: rbm.free_energy(np.zeros((1, 3)), device="cuda"),
        lambda: rbm.mean_hidden(np.zeros((1, 3)), device="cuda"),
        lambda: rbm.mean_visible(np.zeros((1, 2)), device="cuda"),
        lambda: rbm.log_likelihood(np.zeros((1, 3)), 0.0, device="cuda"),
    ):
        with pytest.raises(vf.TargetUnavailableError, match="real units"):
            refused()


def test_device_is_checked() -> None:
    rbm: Any = vf.BernoulliRBM(*random_parameters(3, 2))
    with pytest.raises(ValueError, match="device: expected 'cpu' or 'cuda'"):
        rbm.free_energy(np.zeros((1, 3)), device="gpu")
