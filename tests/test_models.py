"""The RBMs of other units, and what all models have in common."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import integrate

import vfe_fast as vf
from conftest import random_parameters, random_rbm
from oracles.ising import all_spins
from oracles.rbm import all_states


def spin_rbm(n: int, m: int, scale: float = 0.5, dtype: Any = np.float64) -> vf.SpinRBM:
    return vf.SpinRBM(*random_parameters(n, m, scale=scale, dtype=dtype))


def gaussian_rbm(n: int, m: int, dtype: Any = np.float64) -> vf.GaussianRBM:
    w, a, b = random_parameters(n, m, scale=0.5)
    sigma = np.random.default_rng(n).uniform(0.5, 1.5, n)
    return vf.GaussianRBM(*(x.astype(dtype) for x in (w, a, b, sigma)))


MODELS = [
    random_rbm(3, 4, dtype=np.float32),
    spin_rbm(3, 4),
    gaussian_rbm(3, 4, np.float32),
    vf.Ising(np.array([[0.0, 1.5], [1.5, 0.0]]), [0.1, -0.2]),
]


def arrays(model: Any) -> list[bytes]:
    names = ("weights", "visible_bias", "hidden_bias", "sigma", "couplings", "fields")
    return [getattr(model, name).tobytes() for name in names if hasattr(model, name)]


@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_saved_and_loaded(model: Any, ending: str, tmp_path: Path) -> None:
    if ending == "safetensors":
        pytest.importorskip("safetensors")
    model.save(tmp_path / f"model.{ending}")
    found = vf.load(tmp_path / f"model.{ending}")
    assert type(found) is type(model)
    assert arrays(found) == arrays(model)


@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
def test_pickled_and_copied(model: Any) -> None:
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert type(other) is type(model)
        assert arrays(other) == arrays(model)


@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
def test_parameters_stay_as_they_are(model: Any) -> None:
    """Kernels rely on it: what they prepared is kept."""
    array = model.couplings if isinstance(model, vf.Ising) else model.weights
    with pytest.raises(ValueError, match="read-only"):
        array[:] = 0
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.setflags(write=True)


def test_models_travel_to_other_processes() -> None:
    rbm = random_rbm(9, 5)
    chains = vf.GibbsChains(rbm, 7, rng=0)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        (there,) = pool.map(_log_z, [rbm])
        (visible,) = pool.map(_stepped, [chains])
    assert there == vf.free_energy.exact(rbm).log_z
    assert np.array_equal(visible, _stepped(chains))


def _log_z(rbm: vf.BernoulliRBM) -> float:
    return vf.free_energy.exact(rbm).log_z


def _stepped(chains: vf.GibbsChains) -> Any:
    chains.step(5)
    return chains.visible


def test_spin_rbm_energies() -> None:
    model = spin_rbm(4, 3)
    v, h = np.repeat(all_spins(4), 8, axis=0), np.tile(all_spins(3), (16, 1))
    expected = -(v @ model.visible_bias) - h @ model.hidden_bias - ((v @ model.weights) * h).sum(axis=1)
    np.testing.assert_allclose(model.energy(v, h), expected, atol=1e-14)
    rbm, constant = model.to_bernoulli()
    np.testing.assert_allclose(rbm.energy((v + 1) / 2, (h + 1) / 2) + constant, expected, atol=1e-13)
    back = vf.SpinRBM.from_bernoulli(rbm)
    np.testing.assert_allclose(back.weights, model.weights, rtol=1e-14)
    np.testing.assert_allclose(back.visible_bias, model.visible_bias, atol=1e-14)
    np.testing.assert_allclose(back.hidden_bias, model.hidden_bias, atol=1e-14)


@pytest.mark.parametrize("shape", [(1, 1), (4, 3), (3, 8), (8, 4)])
@pytest.mark.parametrize("beta", [0.0, 0.7, 1.0])
def test_spin_rbm_exactly(shape: tuple[int, int], beta: float) -> None:
    model = spin_rbm(*shape)
    v, h = all_spins(shape[0]), all_spins(shape[1])
    energy = -(v @ model.visible_bias)[:, None] - h @ model.hidden_bias - v @ model.weights @ h.T
    p = np.exp(-beta * energy)
    log_z = np.log(p.sum())
    p /= p.sum()
    result = vf.free_energy.exact(model, beta=beta, moments=True)
    assert result.log_z == pytest.approx(log_z, rel=1e-12)
    assert result.value == (-np.inf if beta == 0 else pytest.approx(-log_z / beta, rel=1e-12))
    moments = result.moments
    np.testing.assert_allclose(moments.visible, p.sum(axis=1) @ v, atol=1e-12)
    np.testing.assert_allclose(moments.hidden, p.sum(axis=0) @ h, atol=1e-12)
    np.testing.assert_allclose(moments.visible_hidden, v.T @ p @ h, atol=1e-12)
    mean = (p * energy).sum()
    assert moments.energy == pytest.approx(mean, abs=1e-12)
    assert moments.energy_variance == pytest.approx((p * (energy - mean) ** 2).sum(), rel=1e-11)


def test_gaussian_rbm_definitions() -> None:
    """Energies, the sum over hidden states, and the conditional means as derivatives."""
    model, beta = gaussian_rbm(3, 4), 0.8
    v, h = np.random.default_rng(0).normal(size=(16, 3)), all_states(4)
    expected = [
        sum((x - a) ** 2 / (2 * s**2) for x, a, s in zip(row, model.visible_bias, model.sigma, strict=True))
        - model.hidden_bias @ hidden
        - sum(row[i] / model.sigma[i] ** 2 * model.weights[i] @ hidden for i in range(3))
        for row, hidden in zip(v, h, strict=True)
    ]
    np.testing.assert_allclose(model.energy(v, h), expected, rtol=1e-13)
    for row in v[:3]:
        energies = model.energy(np.tile(row, (16, 1)), h)
        weights = np.exp(-beta * energies)
        found = model.free_energy(row[None], beta=beta)[0]
        assert found == pytest.approx(-np.log(weights.sum()) / beta, rel=1e-13)
        means = model.mean_hidden(row[None], beta=beta)[0]
        np.testing.assert_allclose(means, weights @ h / weights.sum(), rtol=1e-12)
    np.testing.assert_allclose(model.mean_visible(h), model.visible_bias + h @ model.weights.T, rtol=1e-14)


@pytest.mark.parametrize("beta", [0.6, 1.0])
def test_gaussian_rbm_against_quadrature(beta: float) -> None:
    """Two visible units: the integral over the plane, for every hidden state."""
    model = gaussian_rbm(2, 3)
    grid = np.linspace(-14.0, 14.0, 701)
    x, y = np.meshgrid(grid, grid, indexing="ij")
    points = np.stack((x.ravel(), y.ravel()), axis=1)

    def integral(values: Any) -> float:
        inner = integrate.simpson(np.reshape(values, x.shape), x=grid)
        return float(integrate.simpson(inner, x=grid))

    states = all_states(3)
    energies = [model.energy(points, np.tile(h, (len(points), 1))) for h in states]
    weights = [np.exp(-beta * e) for e in energies]
    z = np.array([integral(w) for w in weights])
    result = vf.free_energy.exact(model, beta=beta, moments=True)
    assert result.log_z == pytest.approx(np.log(z.sum()), rel=1e-10)
    moments = result.moments
    np.testing.assert_allclose(moments.hidden, z @ states / z.sum(), atol=1e-9)
    v = np.array([[integral(w * points[:, i]) for i in range(2)] for w in weights])
    np.testing.assert_allclose(moments.visible, v.sum(axis=0) / z.sum(), atol=1e-9)
    np.testing.assert_allclose(moments.visible_hidden, v.T @ states / z.sum(), atol=1e-9)
    mean = sum(integral(w * e) for w, e in zip(weights, energies, strict=True)) / z.sum()
    square = sum(integral(w * e**2) for w, e in zip(weights, energies, strict=True)) / z.sum()
    assert moments.energy == pytest.approx(mean, abs=1e-8)
    assert moments.energy_variance == pytest.approx(square - mean**2, abs=1e-7)


GAUSSIAN = random_parameters(2, 3)


@pytest.mark.parametrize(
    ("call", "error", "name"),
    [
        (lambda: vf.GaussianRBM(*GAUSSIAN, [1.0, 0.0]), ValueError, "sigma"),
        (lambda: vf.GaussianRBM(*GAUSSIAN, [1.0, np.inf]), ValueError, "sigma"),
        (lambda: vf.GaussianRBM(*GAUSSIAN, [1.0]), ValueError, "sigma"),
        (lambda: vf.GaussianRBM(*GAUSSIAN, np.ones(2, np.float32)), TypeError, "sigma"),
        (lambda: vf.GaussianRBM(*GAUSSIAN).energy([[0.0, np.nan]], [[0, 1, 1]]), ValueError, "v"),
        (lambda: vf.GaussianRBM(*GAUSSIAN).energy([[0.0]], [[0, 1, 1]]), ValueError, "v"),
        (lambda: vf.GaussianRBM(*GAUSSIAN).energy([[0.0, 1.0]], [[0, 2, 1]]), ValueError, "h"),
        (lambda: vf.GaussianRBM(*GAUSSIAN).free_energy([[0.0, 1.0]], beta=0.0), ValueError, "beta"),
        (lambda: vf.free_energy.exact(vf.GaussianRBM(*GAUSSIAN), beta=0.0), ValueError, "beta"),
        (lambda: vf.SpinRBM(*GAUSSIAN).energy([[0, 1]], [[1, 1, 1]]), ValueError, "v"),
        (lambda: vf.SpinRBM(*GAUSSIAN).energy([[1, 1]], [[1, 1]]), ValueError, "h"),
        (lambda: vf.SpinRBM(GAUSSIAN[0] * np.nan, *GAUSSIAN[1:]), ValueError, "weights"),
        (lambda: vf.free_energy.exact(MODELS[0], moments="no"), TypeError, "moments"),
    ],
)
def test_bad_arguments(call: Any, error: type[Exception], name: str) -> None:
    with pytest.raises(error, match=f"^{name}: expected"):
        call()
