"""Score and ratio matching: objectives by definition, gradients by differences, what training finds."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest

import vfe_fast as vf
from conftest import random_rbm
from vfe_fast import _core
from vfe_fast.training import (
    DenoisingScoreMatching,
    ratio_matching_objective,
    score_matching_objective,
)
from vfe_fast.training.gradients import SamplerSettings, direction
from vfe_fast.training.methods import METHODS

STEP = 1e-5


@pytest.fixture
def gaussian():
    draw = np.random.default_rng(3)
    return vf.GaussianRBM(
        draw.normal(size=(5, 3)), draw.normal(size=5), draw.normal(size=3), draw.uniform(0.5, 1.5, 5)
    )


@pytest.fixture
def reals():
    return np.random.default_rng(4).normal(size=(7, 5)) * 1.3


def free_energy(rbm, v):
    """By definition, in NumPy."""
    w, a, b, sigma = rbm.parameters
    x = b + (v / sigma**2) @ w
    return (np.square(v - a) / (2 * sigma**2)).sum(axis=1) - np.logaddexp(0, x).sum(axis=1)


def score(rbm, v):
    """-∂F_c/∂v by differences."""
    found = np.empty_like(v)
    for i in range(v.shape[1]):
        shift = np.zeros(v.shape[1])
        shift[i] = STEP
        found[:, i] = -(free_energy(rbm, v + shift) - free_energy(rbm, v - shift)) / (2 * STEP)
    return found


def test_objective_by_its_definition(gaussian, reals):
    step, divergence = 1e-3, np.zeros(len(reals))
    for i in range(5):
        shift = np.zeros(5)
        shift[i] = step
        second = free_energy(gaussian, reals + shift) + free_energy(gaussian, reals - shift)
        divergence -= (second - 2 * free_energy(gaussian, reals)) / step**2
    expected = (0.5 * np.square(score(gaussian, reals)).sum(axis=1) + divergence).mean()
    assert score_matching_objective(gaussian, reals) == pytest.approx(expected, rel=1e-5)


def test_denoising_objective_by_its_definition(gaussian, reals):
    noisy = reals + 0.4 * np.random.default_rng(5).normal(size=reals.shape)
    target = (reals - noisy) / 0.4**2
    expected = 0.5 * np.square(score(gaussian, noisy) - target).sum(axis=1).mean()
    found = score_matching_objective(gaussian, reals, noisy=noisy, noise=0.4)
    assert found == pytest.approx(expected, rel=1e-7)


def test_denoising_is_an_autoencoder_with_tied_weights(reals):
    """Where τ = σ, ψ(ṽ) - (v - ṽ)/τ² = (a + W s(b + W'ṽ/σ²) - v) / σ²: P. Vincent (2011)."""
    draw = np.random.default_rng(6)
    tau = 0.7
    w, a, b = draw.normal(size=(5, 3)), draw.normal(size=5), draw.normal(size=3)
    rbm = vf.GaussianRBM(w, a, b, np.full(5, tau))
    noisy = reals + tau * draw.normal(size=reals.shape)
    code = 1 / (1 + np.exp(-(b + noisy @ w / tau**2)))
    reconstruction = a + code @ w.T
    of_autoencoder = 0.5 * np.square(reconstruction - reals).sum(axis=1).mean()
    found = score_matching_objective(rbm, reals, noisy=noisy, noise=tau)
    assert found == pytest.approx(of_autoencoder / tau**4, rel=1e-12)


def test_ratio_objective_by_its_definition():
    rbm = random_rbm(6, 4, scale=0.9)
    v = np.random.default_rng(7).integers(0, 2, (9, 6), dtype=np.uint8)

    def log_p(v):  # but for ln Z
        fields = rbm.hidden_bias + v @ rbm.weights
        return v @ rbm.visible_bias + np.log1p(np.exp(fields)).sum(axis=1)

    expected = 0.0
    for i in range(6):
        flipped = v.copy()
        flipped[:, i] ^= 1
        ratio = np.exp(log_p(v) - log_p(flipped))
        expected += np.square(1 / (1 + ratio)).mean()
    assert ratio_matching_objective(rbm, v) == pytest.approx(expected, rel=1e-12)


def moved(rbm, name, index, by):
    parameters = [p.copy() for p in rbm.parameters]
    at = {"weights": 0, "visible_bias": 1, "hidden_bias": 2, "log_variance": 3}[name]
    if name == "log_variance":
        parameters[3][index] *= np.exp(by / 2)
    else:
        parameters[at][index] += by
    return type(rbm)(*parameters)


def check_gradient(rbm, contrast, objective):
    """`direction` of the averages against differences of minus the objective, in every parameter."""
    names = ("weights", "visible_bias", "hidden_bias", "log_variance")
    for name, found in zip(names, direction(rbm, contrast), strict=False):
        for index in itertools.product(*map(range, found.shape)):
            up, down = (objective(moved(rbm, name, index, sign * STEP)) for sign in (1, -1))
            assert found[index] == pytest.approx(-(up - down) / (2 * STEP), abs=2e-8 * (1 + abs(up))), name


def test_gradient(gaussian, reals):
    contrast = METHODS["score_matching"](gaussian, SamplerSettings()).contrast(reals, 0)
    check_gradient(gaussian, contrast, lambda rbm: score_matching_objective(rbm, reals))


def test_denoising_gradient(gaussian, reals):
    method = DenoisingScoreMatching(gaussian, SamplerSettings(seed=5), noise=0.4)
    epsilon = method._draw(3).standard_normal(reals.shape)
    noisy = reals + 0.4 * epsilon
    check_gradient(
        gaussian,
        method.contrast(reals, 3),
        lambda rbm: score_matching_objective(rbm, reals, noisy=noisy, noise=0.4),
    )


def test_sliced_gradient(gaussian, reals):
    """J = ½|ψ|² + u' (∂ψ/∂v) u, the second by differences of scores in the direction u."""
    method = METHODS["sliced"](gaussian, SamplerSettings(seed=5))
    signs = method._draw(2).integers(0, 2, reals.shape) * 2.0 - 1.0
    assert set(np.unique(signs)) == {-1, 1}

    def exact_score(rbm, v):
        w, a, b, sigma = rbm.parameters
        s = 1 / (1 + np.exp(-(b + v / sigma**2 @ w)))
        return (s @ w.T - (v - a)) / sigma**2

    def objective(rbm):
        step = 1e-4
        change = exact_score(rbm, reals + step * signs) - exact_score(rbm, reals - step * signs)
        along = (signs * change).sum(axis=1) / (2 * step)
        return float((0.5 * np.square(exact_score(rbm, reals)).sum(axis=1) + along).mean())

    contrast = method.contrast(reals, 2)
    for name, found in zip(("weights", "hidden_bias"), direction(gaussian, contrast)[::2], strict=True):
        for index in itertools.product(*map(range, found.shape)):
            up, down = (objective(moved(gaussian, name, index, sign * 1e-4)) for sign in (1, -1))
            assert found[index] == pytest.approx(-(up - down) / 2e-4, abs=1e-5), name


def test_slices_average_to_the_whole(gaussian, reals):
    whole = direction(gaussian, METHODS["score_matching"](gaussian, SamplerSettings()).contrast(reals, 0))
    method = METHODS["sliced"](gaussian, SamplerSettings(seed=8))
    draws = [direction(gaussian, method.contrast(reals, k)) for k in range(2000)]
    for part, of_draws in zip(whole, zip(*draws, strict=True), strict=True):
        of_draws = np.stack(of_draws)
        stderr = of_draws.std(axis=0) / np.sqrt(len(of_draws)) + 1e-12
        assert (np.abs(of_draws.mean(axis=0) - part) < 4.8 * stderr).all()  # 28 numbers: one alarm in 20,000


def test_ratio_gradient():
    rbm = random_rbm(6, 4, scale=0.9)
    v = np.random.default_rng(7).integers(0, 2, (9, 6), dtype=np.uint8)
    words = _core.pack_states(v, 6, "v")
    contrast = METHODS["ratio_matching"](rbm, SamplerSettings()).contrast(words, 0)
    check_gradient(rbm, contrast, lambda moved: ratio_matching_objective(moved, v))


@pytest.mark.parametrize("method", ["score_matching", "sliced", "denoising"])
def test_training_of_real_units(method):
    """Four clusters: likelihoods near those of the model that drew them, as high as the exact gradient's."""
    weights = 1.3 * np.random.default_rng(9).normal(size=(6, 2))
    a = -weights.sum(axis=1) / 2
    true = vf.GaussianRBM(weights, a, -(a @ weights) - np.square(weights).sum(axis=0) / 2, np.ones(6))
    chains = vf.GibbsChains(true, 2000, rng=1)
    chains.step(300)
    data = chains.visible

    def likelihood(rbm):
        return float(rbm.log_likelihood(data, vf.free_energy.exact(rbm).log_z).mean())

    rbm = vf.GaussianRBM.from_data(data, n_hidden=2, rng=2)
    before = likelihood(rbm)
    vf.train(
        rbm, data, method=method, learn_sigma=True, n_epochs=60, batch_size=100, learning_rate=0.02, rng=3
    )
    assert likelihood(rbm) > before + 0.8 * (likelihood(true) - before)


def test_training_by_ratios():
    data, _ = vf.free_energy.exact_samples(random_rbm(8, 3, scale=3), 2000, rng=1)

    def gain(method, rate):
        rbm = vf.BernoulliRBM.from_data(data, n_hidden=3, rng=2)
        before = rbm.log_likelihood(data, vf.free_energy.exact(rbm).log_z).mean()
        vf.train(rbm, data, method=method, n_epochs=150, batch_size=100, learning_rate=rate, rng=3)
        return float(rbm.log_likelihood(data, vf.free_energy.exact(rbm).log_z).mean() - before)

    assert gain("ratio_matching", 1.0) > 0.8 * gain("exact", 0.3) > 0


def test_a_run_continues_bit_for_bit(tmp_path):
    """Noise depends on the seed and the number of the update alone."""
    data = np.random.default_rng(1).normal(size=(60, 4))

    def run(n_epochs, **how):
        rbm = vf.GaussianRBM.from_data(data, n_hidden=3, rng=0)
        vf.train(rbm, data, method="denoising", n_epochs=n_epochs, batch_size=20, rng=5, **how)
        return rbm

    run(2, checkpoint=tmp_path / "run.npz")
    resumed, whole = run(4, checkpoint=tmp_path / "run.npz", resume=True), run(4)
    for one, other in zip(resumed.parameters, whole.parameters, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda g, b, x: score_matching_objective(b, x), TypeError, "rbm: expected a GaussianRBM"),
        (lambda g, b, x: score_matching_objective(g, x[:, :2]), ValueError, "data"),
        (lambda g, b, x: score_matching_objective(g, x[:0]), ValueError, "data"),
        (lambda g, b, x: ratio_matching_objective(b, np.zeros((0, 3), np.uint8)), ValueError, "data"),
        (lambda g, b, x: score_matching_objective(g, np.full((1, 5), np.nan)), ValueError, "data"),
        (lambda g, b, x: score_matching_objective(g, x, noisy=x), ValueError, "noise"),
        (lambda g, b, x: score_matching_objective(g, x, noise=0.1), ValueError, "noise"),
        (lambda g, b, x: score_matching_objective(g, x, noisy=x[:3], noise=0.1), ValueError, "noisy"),
        (lambda g, b, x: score_matching_objective(g, x, noisy=x, noise=0.0), ValueError, "noise"),
        (lambda g, b, x: ratio_matching_objective(g, x), TypeError, "rbm: expected a BernoulliRBM"),
        (lambda g, b, x: ratio_matching_objective(b, x[:, :3]), ValueError, "data"),
        (lambda g, b, x: vf.train(b, np.ones((4, 3)), method="score_matching"), TypeError, "real units"),
        (
            lambda g, b, x: vf.train(vf.SpinRBM.from_bernoulli(b), np.ones((4, 3)), method="denoising"),
            TypeError,
            "real units for it, got one of binary units",
        ),
        (lambda g, b, x: vf.train(g, x, method="ratio_matching"), TypeError, "binary units"),
        (
            lambda g, b, x: vf.train(g, x, method=functools.partial(DenoisingScoreMatching, noise=-1.0)),
            ValueError,
            "noise",
        ),
    ],
)
def test_bad_input(gaussian, reals, call, error, message):
    with pytest.raises(error, match=message):
        call(gaussian, random_rbm(3, 2), reals)
