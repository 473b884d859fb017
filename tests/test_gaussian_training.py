"""Training machines with real visible units, against sums over hidden states and finite differences."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vfe_fast as vf
from conftest import random_parameters
from oracles.rbm import all_states
from test_training import central_differences
from vfe_fast.training import METHODS, ChainAutocorrelation, FreeEnergyGap, PseudoLogLikelihood
from vfe_fast.training.averages import clamped
from vfe_fast.training.gradients import SamplerSettings, direction
from vfe_fast.training.machines import Reals
from vfe_fast.training.updates import Ascent, Memory

Parameters = tuple[np.ndarray, ...]

METHODS_OF_REALS = sorted(set(METHODS) - {"tap", "ratio_matching"})


def log_z(parameters: Parameters) -> float:
    """The visible units integrated by completing the square, the hidden states summed; σ as ln σ²."""
    w, a, b, log_variance = parameters
    variance = np.exp(log_variance)
    h = all_states(len(b))
    exponent = h @ b + (((a + h @ w.T) ** 2 - a**2) / (2 * variance)).sum(axis=1)
    return float(np.logaddexp.reduce(exponent) + 0.5 * np.log(2 * np.pi * variance).sum())


def mean_log_likelihood(parameters: Parameters, data: np.ndarray) -> float:
    w, a, b, log_variance = parameters
    variance = np.exp(log_variance)
    own = -((data - a) ** 2 / (2 * variance)).sum(axis=1)
    return float((own + np.logaddexp(0, b + data / variance @ w).sum(axis=1)).mean() - log_z(parameters))


def free_parameters(rbm: vf.GaussianRBM) -> Parameters:
    w, a, b, sigma = (p.astype(np.float64) for p in rbm.parameters)
    return w, a, b, 2 * np.log(sigma)


def model(n_visible: int, n_hidden: int, scale: float = 0.5, dtype: Any = np.float64) -> vf.GaussianRBM:
    parameters = random_parameters(n_visible, n_hidden, scale=scale)
    sigma = np.random.default_rng(3).uniform(0.6, 1.5, n_visible)
    return vf.GaussianRBM(*(p.astype(dtype) for p in (*parameters, sigma)))


def samples(n_samples: int, n: int, seed: int = 0) -> np.ndarray:
    """Two clusters with a spread of their own in each direction."""
    rng = np.random.default_rng(seed)
    centers = np.array([np.linspace(-1, 2, n), np.linspace(1.5, -0.5, n)])
    return centers[rng.integers(0, 2, n_samples)] + rng.normal(size=(n_samples, n)) * np.linspace(0.3, 0.9, n)


def test_free_energy_and_log_likelihood() -> None:
    rbm, data = model(4, 3), samples(50, 4)
    exact = vf.free_energy.exact(rbm)
    assert exact.log_z == pytest.approx(log_z(free_parameters(rbm)), rel=1e-13)
    found = rbm.log_likelihood(data, exact.log_z).mean()
    assert found == pytest.approx(mean_log_likelihood(free_parameters(rbm), data), rel=1e-13)


@pytest.mark.parametrize("centered", [False, True])
def test_gradient(centered: bool) -> None:
    """An update along the exact gradient, σ included, of the usual or of the centered parameters."""
    rbm, data = model(4, 3), samples(7, 4)
    machine = Reals(rbm, True)
    contrast = machine.gradient(METHODS["exact"], SamplerSettings()).contrast(data, 0)
    rng = np.random.default_rng(1)
    mu, la = (rng.uniform(-0.8, 0.8, n) if centered else np.zeros(n) for n in (4, 3))
    slopes, offsets = machine.slopes(contrast, (mu, la) if centered else ())
    before = machine.parameters
    found, _ = Ascent()(before, Memory(), slopes, offsets, 1.0, 0, machine.more_slopes(contrast))
    precision = 1 / rbm.sigma**2

    def usual(c: Parameters) -> Any:
        return c[0], c[1] - c[0] @ la, c[2] - c[0].T @ (mu * precision)

    w, a, b, log_variance = free_parameters(rbm)
    here = (w, a + w @ la, b + w.T @ (mu * precision))
    uphill: Any = central_differences(lambda c: mean_log_likelihood((*usual(c), log_variance), data), here)
    (of_variance,) = central_differences(lambda c: mean_log_likelihood((w, a, b, *c), data), (log_variance,))
    for mine, old, step in zip(found, before, (*usual(uphill), of_variance), strict=True):
        np.testing.assert_allclose(mine - old, step, rtol=1e-6, atol=1e-8)
    if not centered:
        for mine, step in zip(direction(rbm, contrast), (*uphill, of_variance), strict=True):
            np.testing.assert_allclose(mine, step, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_samples", [300, 9000])  # at once, and in pieces of 4,096
def test_averages_over_data(target: str, dtype: Any, n_samples: int) -> None:
    rbm, data = model(70, 40, scale=0.1, dtype=dtype), samples(n_samples, 70).astype(dtype)
    data[n_samples // 2 :] += 0.5  # pieces differ
    found = clamped(rbm, data)
    w, _, b, sigma = (p.astype(np.float64) for p in rbm.parameters)
    v = data.astype(np.float64)
    h = 1 / (1 + np.exp(-(b + v / sigma**2 @ w)))
    tolerance: Any = {"rtol": 0, "atol": 3e-6 if dtype == np.float32 else 1e-13}
    np.testing.assert_allclose(found.visible, v.mean(axis=0), **tolerance)
    np.testing.assert_allclose(found.hidden, h.mean(axis=0), **tolerance)
    np.testing.assert_allclose(found.visible_hidden, v.T @ h / n_samples, **tolerance)
    np.testing.assert_allclose(found.squares, (v**2).mean(axis=0), **tolerance)
    assert found.visible_hidden.dtype == dtype
    one = clamped(rbm, data, 1)
    assert one.visible_hidden.tobytes() == found.visible_hidden.tobytes()


@pytest.mark.parametrize("method", ["cd", "pcd", "pt"])
def test_sampled_averages_agree_with_the_exact_ones(method: str) -> None:
    rbm, batch = model(4, 3, scale=0.3), np.tile(samples(9, 4), (4000, 1))
    settings = SamplerSettings(50, 36_000, 2)
    found = METHODS[method](rbm, settings).contrast(batch, 0)
    expected = METHODS["exact"](rbm, settings).contrast(batch, 0)
    # Standard deviations below 3 / sqrt(36,000) = 0.016; 5.5 of them, 23 entries: once in 10^6 seeds.
    for name in ("model_visible", "model_hidden", "pairs", "squares"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=0, atol=0.088)


@pytest.mark.parametrize("learn_sigma", [False, True])
@pytest.mark.parametrize("method", METHODS_OF_REALS)
def test_training_raises_the_likelihood(method: str, learn_sigma: bool) -> None:
    data = samples(300, 5)
    rbm = vf.GaussianRBM.from_data(data, 4, rng=3)
    start = mean_log_likelihood(free_parameters(rbm), data)
    sigma = rbm.sigma
    # CD-1 finds σ slowly. The scores of narrow clusters are steep: at 0.02 likelihoods jump by nats between
    # epochs, and the last hangs on how a BLAS rounds; at 0.005 twelve seeds gain 0.72 to 0.78.
    steep = learn_sigma and method in ("score_matching", "sliced")
    rate = 0.005 if steep else 0.1 if learn_sigma and method == "cd" else 0.02
    vf.train(
        rbm, data, method=method, n_epochs=150, batch_size=50, n_chains=100, learn_sigma=learn_sigma, rng=4,
        learning_rate=rate,
    )  # fmt: skip
    gain = 0.6 if steep else 1.0 if learn_sigma else 0.3  # two narrow clusters: most is to be gained by σ
    assert mean_log_likelihood(free_parameters(rbm), data) > start + gain
    assert np.array_equal(rbm.sigma, sigma) != learn_sigma


@pytest.mark.parametrize("learn_sigma", [False, True])
@pytest.mark.parametrize("method", ["cd", "pcd", "fpcd", "pt"])
def test_resume(tmp_path: Path, method: str, learn_sigma: bool) -> None:
    data = samples(60, 5).astype(np.float32)
    options: dict[str, Any] = {
        "method": method, "learn_sigma": learn_sigma, "batch_size": 20, "rng": 1, "momentum": 0.5,
        "callbacks": [
            vf.training.ExactLogLikelihood(data=data),
            FreeEnergyGap(data[:30], data[30:]),
            ChainAutocorrelation(),
        ],
    }  # fmt: skip
    straight = model(5, 3, dtype=np.float32)
    history = vf.train(straight, data, n_epochs=4, **options)
    assert history.records[-1]["log_likelihood_data"] == pytest.approx(
        mean_log_likelihood(free_parameters(straight), data), abs=1e-4
    )
    assert ("chain_autocorrelation" in history.records[-1]) == (method in ("pcd", "fpcd"))
    run = partial(vf.train, data=data, checkpoint=tmp_path / "run.npz", **options)
    run(model(5, 3, dtype=np.float32), n_epochs=2)
    again = model(5, 3, dtype=np.float32)
    run(again, resume=True, n_epochs=4)
    for mine, theirs in zip(again.parameters, straight.parameters, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    w, a, b, sigma = model(5, 3, dtype=np.float32).parameters
    other = vf.GaussianRBM(w, a, b, 2 * sigma)
    if learn_sigma:  # the checkpoint has it
        run(other, resume=True, n_epochs=4)
        np.testing.assert_array_equal(other.sigma, straight.sigma)
    else:
        with pytest.raises(ValueError, match="model"):
            run(other, resume=True, n_epochs=5)


def test_same_bits_for_any_threads() -> None:
    data = samples(400, 200).astype(np.float32)
    found = []
    for threads in (1, 2, 3):
        rbm = model(200, 100, scale=0.05, dtype=np.float32)
        vf.train(rbm, data, n_epochs=2, batch_size=200, learn_sigma=True, rng=1, num_threads=threads)
        found.append(b"".join(p.tobytes() for p in rbm.parameters))
    assert len(set(found)) == 1


def test_bias_of_the_gradient() -> None:
    rbm, data = model(4, 3, scale=0.3, dtype=np.float32), samples(500, 4).astype(np.float32)
    near = vf.training.gradient_bias(rbm, data, method="pcd", n_chains=2000, rng=1)
    bias, stderr = near.bias.visible_hidden, near.stderr.visible_hidden
    assert (np.abs(bias) < 6 * stderr).all()
    assert near.bias.squares is not None
    far = vf.training.gradient_bias(rbm, data, method="cd", n_estimates=40, rng=1)
    assert far.relative > 3 * near.relative


def test_from_data() -> None:
    data = samples(100, 4)
    data[:, 2] = 0.1  # whose mean is rounded
    assert data[:, 2].std() > 0
    rbm = vf.GaussianRBM.from_data(data, 3, rng=1)
    assert rbm.dtype == np.float64
    np.testing.assert_allclose(rbm.visible_bias, data.mean(axis=0))
    np.testing.assert_allclose(rbm.sigma[[0, 1, 3]], data.std(axis=0)[[0, 1, 3]])
    assert rbm.sigma[2] == 1
    assert vf.GaussianRBM.from_data(data, 3, dtype=np.float32).dtype == np.float32
    assert vf.GaussianRBM.from_data(data.astype(np.float32), 3).dtype == np.float32


def test_set_parameters() -> None:
    rbm, other = model(4, 3), model(4, 3, scale=0.9)
    w, a, b, _ = other.parameters
    sigma = rbm.sigma
    rbm.set_parameters(w, a, b)
    assert np.array_equal(rbm.weights, w)
    assert np.array_equal(rbm.sigma, sigma)
    rbm.set_parameters(w, a, b, 2 * sigma)
    assert np.array_equal(rbm.sigma, 2 * sigma)
    with pytest.raises(ValueError, match=r"^weights:"):
        rbm.set_parameters(w[1:], a[1:], b, sigma[1:])
    with pytest.raises(ValueError, match=r"^sigma:"):
        rbm.set_parameters(w, a, b, -sigma)
    assert np.array_equal(rbm.sigma, 2 * sigma)


@pytest.mark.parametrize("learn_sigma", [False, True])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_training_does_not_depend_on_units(optimizer: str, learn_sigma: bool) -> None:
    """Data in other units, per unit a shift and a factor, train the same machine in those units.

    Factors of two and no chains, so that rounding is all that can differ.
    """
    data, rng = samples(300, 5), np.random.default_rng(1)
    shift, factor = rng.normal(size=5) * 20, np.exp2(rng.integers(-12, 12, 5))
    found = []
    for x in (data, data * factor + shift):
        rbm = vf.GaussianRBM.from_data(x, 4, rng=3)
        vf.train(
            rbm, x, method="exact", optimizer=optimizer, learn_sigma=learn_sigma, n_epochs=20, batch_size=50,
            rng=4,
        )  # fmt: skip
        log_z = vf.free_energy.exact(rbm).log_z
        found.append(float(rbm.log_likelihood(x, log_z).mean()))
    assert found[1] == pytest.approx(found[0] - np.log(factor).sum(), abs=1e-6)


@pytest.mark.parametrize("mean", [0.0, 1e2, 1e4])
def test_float32_survives_means_far_from_zero(mean: float) -> None:
    data = np.round(64 * samples(300, 5)) / 64 + mean  # what float32 holds
    found = []
    for dtype in (np.float32, np.float64):
        rbm = vf.GaussianRBM.from_data(data.astype(dtype), 4, rng=3)
        vf.train(rbm, data.astype(dtype), method="exact", learn_sigma=True, n_epochs=30, batch_size=50, rng=4)
        found.append(rbm.sigma.astype(np.float64))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-3)


@pytest.mark.parametrize("method", METHODS_OF_REALS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_units_that_hardly_vary(method: str, dtype: Any) -> None:
    """Raw counts, a unit that is nearly always the same: what scanned digits look like."""
    rng = np.random.default_rng(2)
    data = rng.integers(0, 17, (200, 6)).astype(dtype)
    data[:, 2] = 0
    data[7, 2] = 1
    rbm = vf.GaussianRBM.from_data(data, 4, rng=1)
    vf.train(rbm, data, method=method, learn_sigma=True, n_epochs=20, batch_size=50, rng=1)
    assert all(np.isfinite(p).all() for p in rbm.parameters)
    assert np.isfinite(vf.free_energy.exact(rbm).log_z)
    vf.gibbs(rbm, data, 2, rng=0)


@pytest.mark.parametrize("method", METHODS_OF_REALS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_divergence_is_an_error(method: str, dtype: Any) -> None:
    """One that says what to lower, and leaves a model that still samples."""
    data = 5 * samples(60, 5).astype(dtype)
    for rate, learn_sigma in ((30.0, False), (1e5, False), (30.0, True), (1e30, True)):
        rbm = vf.GaussianRBM.from_data(data, 3, rng=0)
        with np.errstate(all="ignore"), pytest.raises(ValueError, match=r"^(learning_rate|fast_rate): "):
            vf.train(
                rbm, data, method=method, learning_rate=rate, learn_sigma=learn_sigma, n_epochs=300, rng=0,
                batch_size=10,
            )  # fmt: skip
        assert all((np.abs(p) < 1e20).all() for p in rbm.parameters)
        vf.gibbs(rbm, data, 1, rng=0)


def test_bits_do_not_depend_on_numpys_instruction_sets() -> None:
    code = (
        "import numpy as np, vfe_fast as vf, zlib;"
        "x = np.random.default_rng(0).integers(-99, 99, (50, 9)).astype(np.float32) / 64;"
        "rbm = vf.GaussianRBM.from_data(x, 4, rng=0);"
        "vf.train(rbm, x, learn_sigma=True, n_epochs=20, batch_size=10, learning_rate=0.05, rng=0);"
        "print(*(zlib.crc32(p.tobytes()) for p in rbm.parameters))"
    )
    found = np._core._multiarray_umath.__cpu_dispatch__  # type: ignore[attr-defined]
    features = np._core._multiarray_umath.__cpu_features__  # type: ignore[attr-defined]
    disabled = " ".join(name for name in found if features.get(name))
    results = set()
    for names in ("", disabled):
        environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": names}
        results.add(subprocess.run([sys.executable, "-c", code], env=environment, check=True,
                                   capture_output=True, text=True).stdout)  # fmt: skip
    assert len(results) == 1


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"data": samples(10, 4)}, TypeError, "data"),
        ({"data": np.zeros((3, 4), int)}, TypeError, "data"),
        ({"data": np.full((3, 4), np.inf, np.float32)}, ValueError, "data"),
        ({"data": np.zeros((3, 5), np.float32)}, ValueError, "data"),
        ({"rbm": vf.Ising(np.zeros((4, 4)), np.zeros(4))}, TypeError, "rbm"),
        (
            {"rbm": vf.BernoulliRBM(*random_parameters(4, 2)), "data": [[0, 1, 0, 1]], "learn_sigma": True},
            ValueError,
            "learn_sigma",
        ),
        ({"callbacks": [PseudoLogLikelihood(data=samples(5, 4))]}, TypeError, "callbacks"),
    ],
)
def test_bad_arguments(change: dict[str, Any], error: type[Exception], match: str) -> None:
    options = {"rbm": model(4, 3, dtype=np.float32), "data": samples(10, 4).astype(np.float32), "n_epochs": 1}
    with pytest.raises(error, match=f"^{match}:"):
        vf.train(**(options | change))
