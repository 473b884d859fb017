"""Langevin and Hamiltonian dynamics: laws against exact ones, diagnostics on chains whose answer is known."""

from __future__ import annotations

import json
import math
import zipfile

import numpy as np
import pytest
from scipy import integrate, stats

import vfe_fast as vf
from vfe_fast.sampling import SamplingWarning, hmc, langevin, sgld
from vfe_fast.sampling.diagnostics import ess_bulk, ess_tail, r_hat
from vfe_fast.sampling.energies import potential
from vfe_fast.sampling.samples import finished

COVARIANCE = np.array([[2.0, 0.9, 0.0], [0.9, 1.0, -0.2], [0.0, -0.2, 30.0]])
PRECISION = np.linalg.inv(COVARIANCE)
MEAN = np.array([1.0, -2.0, 5.0])


def normal_energy(x):
    return 0.5 * ((x - MEAN) @ PRECISION * (x - MEAN)).sum(axis=1)


def normal_gradient(x):
    return (x - MEAN) @ PRECISION


def far_apart(n, d=3, seed=0):
    return 3 * np.random.default_rng(seed).normal(size=(n, d))


def random_rbm():
    draw = np.random.default_rng(8)
    return vf.GaussianRBM(
        draw.normal(size=(4, 3)), draw.normal(size=4), draw.normal(size=3), draw.uniform(0.6, 1.4, 4)
    )


def rbm_moments(rbm, beta):
    """Mean and variance of v: a mixture of normals over the states of h."""
    w, a, b, sigma = rbm.parameters
    h = (np.arange(1 << rbm.n_hidden)[:, None] >> np.arange(rbm.n_hidden) & 1).astype(float)
    centers = a + h @ w.T
    exponent = beta * (h @ b + ((centers**2 - a**2) / (2 * sigma**2)).sum(axis=1))
    share = np.exp(exponent - exponent.max())
    share /= share.sum()
    mean = share @ centers
    return mean, share @ centers**2 + sigma**2 / beta - mean**2


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_gradient_of_an_rbm(beta):
    rbm, x, step = random_rbm(), far_apart(5, 4), 1e-6
    values, slopes = potential(rbm, None, beta, 4)(x)
    assert np.allclose(values, beta * rbm.free_energy(x, beta=beta), rtol=1e-12)
    for i in range(4):
        shift = step * np.eye(4)[i]
        up, down = (beta * rbm.free_energy(x + sign * shift, beta=beta) for sign in (1, -1))
        assert np.allclose(slopes[:, i], (up - down) / (2 * step), atol=1e-7)


SAMPLERS = {
    "hmc": lambda energy, start, **how: hmc(energy, start, 1500, n_warmup=600, **how),
    "mala": lambda energy, start, **how: langevin(energy, start, 1500, n_steps=20, n_warmup=2000, **how),
}


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_moments_of_an_rbm(sampler, beta):
    """Means and second moments within 4.5 standard errors: 8 numbers, one false alarm in 18,000 seeds."""
    rbm = random_rbm()
    found = SAMPLERS[sampler](rbm, far_apart(8, 4), beta=beta, rng=3)
    assert found.converged
    assert found.is_exact
    mean, variance = rbm_moments(rbm, beta)
    assert (np.abs(found.mean - mean) < 4.5 * found.stderr).all()
    squares = (found.samples - mean) ** 2
    for i in range(4):
        stderr = squares[:, :, i].std() / math.sqrt(ess_bulk(squares[:, :, i]))
        assert abs(squares[:, :, i].mean() - variance[i]) < 4.5 * stderr
    assert np.allclose(found.energies[2], rbm.free_energy(found.samples[2], beta=beta), rtol=1e-10)


def test_mass_and_step_are_adapted():
    found = hmc(normal_energy, far_apart(4), 2000, gradient=normal_gradient, rng=1)
    assert found.converged
    assert np.allclose(1 / found.mass, np.diag(COVARIANCE), rtol=0.35)
    assert 0.6 < found.acceptance < 0.95
    assert (np.abs(found.mean - MEAN) < 4.5 * found.stderr).all()
    covariance = np.cov(found.samples.reshape(-1, 3).T)
    assert np.allclose(covariance, COVARIANCE, atol=0.15 * np.sqrt(np.outer(*2 * [np.diag(COVARIANCE)])))


@pytest.mark.filterwarnings("ignore::vfe_fast.sampling.SamplingWarning")
def test_leapfrog_keeps_the_energy_to_second_order():
    """On a harmonic well H is off by ε² (x² - x'²) / 8 a dimension, however long the path."""
    refused = []
    for step in (0.4, 0.2):
        found = hmc(
            lambda x: (x**2).sum(axis=1) / 2, far_apart(50, 3), 400, gradient=lambda x: x, step_size=step,
            n_warmup=50, path_length=3.0, rng=1,
        )  # fmt: skip
        refused.append(1 - found.acceptance)
    assert refused[1] < 0.01
    assert 3 < refused[0] / refused[1] < 5


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_law_of_a_quartic(sampler):
    """Kolmogorov and Smirnov on a thinned run, e^(-x^4 + x): p > 1e-4, one false alarm in 10,000 seeds."""
    steps = {"acceptance": 0.99} if sampler == "hmc" else {}  # the tails are steep
    found = SAMPLERS[sampler](
        lambda x: (x**4 - x).sum(axis=1),
        far_apart(20, 1) / 3,
        gradient=lambda x: 4 * x**3 - 1,
        rng=5,
        **steps,
    )
    total = integrate.quad(lambda x: math.exp(-(x**4) + x), -4, 4)[0]
    grid = np.linspace(-3, 3, 4001)
    density = np.exp(-(grid**4) + grid) / total
    cdf = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(grid))])
    thinned = found.samples[:, :: max(1, math.ceil(found.samples[..., 0].size / found.ess[0])), 0].ravel()
    assert stats.kstest(thinned, lambda x: np.interp(x, grid, cdf)).pvalue > 1e-4


def test_untested_steps_are_off_by_their_size():
    """ULA of a normal law: the variance is 1 / (1 - ε²/4)."""
    for step in (0.4, 1.0):
        found = langevin(
            lambda x: (x**2).sum(axis=1) / 2, far_apart(50, 1), 4000, gradient=lambda x: x, adjusted=False,
            step_size=step, n_warmup=200, n_steps=5, rng=2,
        )  # fmt: skip
        assert not found.is_exact
        assert found.method == "ula"
        expected = 1 / (1 - step**2 / 4)
        stderr = expected * math.sqrt(2 / ess_bulk(found.samples[:, :, 0] ** 2))
        assert abs((found.samples**2).mean() - expected) < 4.5 * stderr


def test_stochastic_gradients():
    """A posterior mean by minibatches: the mean is right, the law is said to be off."""
    data = np.random.default_rng(3).normal(1.5, 1.0, 200)

    def gradient(x, step):
        batch = np.random.default_rng(step).choice(data, 20)
        return 10 * (20 * x - batch.sum())  # of Σ (x - d)² / 2 over all data, scaled up

    found = sgld(gradient, far_apart(20, 1), 2000, step_size=0.02, rng=4)
    assert found.method == "sgld"
    assert not found.is_exact
    assert np.isnan(found.energies).all()
    assert abs(found.mean[0] - data.mean()) < 4.5 * found.stderr[0] + 0.01
    assert found.samples.std() > 1 / math.sqrt(200)


def test_stochastic_gradients_know_the_temperature():
    """With the whole gradient of a normal law they are ULA: variance ε² / (1 - (1 - ε² β / 2)²)."""
    found = sgld(lambda x, k: x, far_apart(50, 1), 2000, step_size=0.3, beta=4.0, n_warmup=100, rng=2)
    expected = 0.09 / (1 - (1 - 0.09 * 2) ** 2)
    stderr = expected * math.sqrt(2 / ess_bulk(found.samples[:, :, 0] ** 2))
    assert abs((found.samples**2).mean() - expected) < 4.5 * stderr < 0.02


def test_posterior_of_kidiq(reference_data):
    """score ~ N(β1 + β2 iq, σ), σ ~ half-Cauchy(0, 2.5), within 4 Monte Carlo errors of posteriordb's."""
    folder = reference_data / "posteriordb"
    with zipfile.ZipFile(folder / "kidiq.data.json.zip") as file:
        data = json.loads(file.read(file.namelist()[0]))
    with zipfile.ZipFile(folder / "kidiq-kidscore_momiq.draws.json.zip") as file:
        chains = json.loads(file.read(file.namelist()[0]))
    score, iq = np.array(data["kid_score"], float), np.array(data["mom_iq"], float)
    center = iq.mean()

    def energy(x):  # x: the line's height at the mean IQ, its slope, ln σ (whose density has a factor σ)
        rest = score - x[:, :1] - x[:, 1:2] * (iq - center)
        prior = np.log1p((np.exp(x[:, 2]) / 2.5) ** 2)
        return len(score) * x[:, 2] + 0.5 * (rest**2).sum(axis=1) * np.exp(-2 * x[:, 2]) + prior - x[:, 2]

    def gradient(x):
        rest = score - x[:, :1] - x[:, 1:2] * (iq - center)
        unit = np.exp(-2 * x[:, 2])
        scaled = (np.exp(x[:, 2]) / 2.5) ** 2
        return np.column_stack([
            -rest.sum(axis=1) * unit,
            -(rest * (iq - center)).sum(axis=1) * unit,
            len(score) - (rest**2).sum(axis=1) * unit + 2 * scaled / (1 + scaled) - 1,
        ])  # fmt: skip

    start = np.array([80.0, 0.0, 3.0]) + np.random.default_rng(0).normal(size=(4, 3)) * [10, 0.5, 0.5]
    found = hmc(energy, start, 2500, gradient=gradient, rng=6)
    assert found.converged
    height, slope, log_sigma = np.moveaxis(found.samples, 2, 0)
    ours = {"beta[1]": height - slope * center, "beta[2]": slope, "sigma": np.exp(log_sigma)}
    for name, of_chains in ours.items():
        theirs = np.array([chain[name] for chain in chains])
        for power in (1, 2):
            reference = theirs.mean()
            mine, yours = (of_chains - reference) ** power, (theirs - reference) ** power
            error = math.hypot(mine.std() / math.sqrt(ess_bulk(mine)), yours.std() / math.sqrt(yours.size))
            assert abs(mine.mean() - yours.mean()) < 4 * error, (name, power)


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_gradients_by_autograd(library):
    pytest.importorskip(library)
    if library == "torch":
        import torch

        def energy(x):
            return 0.5 * ((x - torch.tensor(MEAN)) @ torch.tensor(PRECISION) * (x - torch.tensor(MEAN))).sum(
                1
            )
    else:

        def energy(x):
            return 0.5 * ((x - MEAN) @ PRECISION * (x - MEAN)).sum(axis=1)

    values, slopes = potential(energy, library, 2.0, 3)(far_apart(6))
    assert np.allclose(values, 2 * normal_energy(far_apart(6)), rtol=1e-12)
    assert np.allclose(slopes, 2 * normal_gradient(far_apart(6)), rtol=1e-12, atol=1e-12)


def test_torch_needs_a_tensor_of_x():
    torch = pytest.importorskip("torch")
    for energy in (lambda x: torch.zeros(len(x)), lambda x: np.zeros(len(x))):
        with pytest.raises(TypeError, match=r"^energy: expected a tensor"):
            hmc(energy, far_apart(2), gradient="torch")


def test_energies_may_be_ints_and_lists():
    of = potential(lambda x: [1, 2, 3], lambda x: np.ones(x.shape, int).tolist(), 2.0, 3)
    values, slopes = of(far_apart(3))
    assert values.dtype == slopes.dtype == np.float64
    assert values.tolist() == [2.0, 4.0, 6.0]
    assert (slopes == 2.0).all()


@pytest.mark.filterwarnings("ignore::vfe_fast.sampling.SamplingWarning")
def test_same_seed_same_samples():
    one, other = (hmc(random_rbm(), far_apart(3, 4), 20, n_warmup=150, rng=9).samples for _ in range(2))
    assert np.array_equal(one, other)


def test_diagnostics_of_independent_chains():
    x = np.random.default_rng(1).normal(size=(4, 2000))
    assert 0.999 < r_hat(x) < 1.005
    assert 6500 < ess_bulk(x) < 9500
    assert 5500 < ess_tail(x) < 9500


@pytest.mark.parametrize("rho", [0.5, 0.9, -0.4])
def test_effective_size_of_an_autoregression(rho):
    """n (1 - ρ) / (1 + ρ)."""
    draw = np.random.default_rng(2)
    x = np.empty((4, 20_000))
    x[:, 0] = draw.normal(size=4)
    for k in range(1, x.shape[1]):
        x[:, k] = rho * x[:, k - 1] + math.sqrt(1 - rho**2) * draw.normal(size=4)
    assert ess_bulk(x) == pytest.approx(x.size * (1 - rho) / (1 + rho), rel=0.1)


@pytest.mark.filterwarnings("ignore::vfe_fast.sampling.SamplingWarning")
def test_standard_errors_of_means():
    """Of 400 autoregressions of mean 0 they are as large as said: false alarm 1e-5 (4.4 √(2/n))."""
    draw, rho = np.random.default_rng(5), 0.7
    x = draw.normal(size=(4, 500, 400))
    for k in range(1, 500):
        x[:, k] = rho * x[:, k - 1] + math.sqrt(1 - rho**2) * x[:, k]
    found = finished(
        x,
        x[..., 0],
        method="hmc",
        is_exact=True,
        acceptance=1.0,
        step_size=1.0,
        mass=np.ones(400),
        n_divergent=0,
    )
    assert np.mean((found.mean / found.stderr) ** 2) == pytest.approx(1.0, abs=0.31)


def test_tails_may_be_slower_than_the_bulk():
    """Sizes that change slowly under signs that do not: means are known well, tails are not."""
    draw = np.random.default_rng(6)
    x = draw.normal(size=(4, 4000))
    for k in range(1, 4000):
        x[:, k] = 0.97 * x[:, k - 1] + math.sqrt(1 - 0.97**2) * x[:, k]
    x = np.exp(x) * np.where(draw.random(x.shape) < 0.5, -1, 1)
    assert ess_tail(x) < 0.2 * ess_bulk(x)
    assert ess_tail(-x) == pytest.approx(ess_tail(x), rel=1e-9)  # of both tails
    assert ess_bulk(x) > 0.7 * x.size


def test_r_hat_sees_what_is_wrong():
    draw = np.random.default_rng(3)
    x = draw.normal(size=(4, 1000))
    shifted, wide, drifting, heavy = (
        x.copy(),
        x.copy(),
        x + np.linspace(0, 2, 1000),
        draw.standard_cauchy((4, 1000)),
    )
    shifted[0] += 1
    wide[0] *= 3
    assert min(r_hat(shifted), r_hat(wide), r_hat(drifting)) > 1.03
    assert r_hat(heavy) < 1.01
    assert math.isnan(r_hat(np.ones((2, 8))))
    assert math.isnan(r_hat(np.full((2, 8), np.inf)))


def test_two_modes_are_not_passed_over():
    """Wells far apart: chains stay where they start, and say so."""
    with pytest.warns(SamplingWarning, match="R-hat"):
        found = hmc(
            lambda x: 50 * ((x**2 - 1) ** 2).sum(axis=1), np.array([[-1.0], [1.0], [1.0], [-1.0]]), 200,
            gradient=lambda x: 200 * x * (x**2 - 1), rng=1,
        )  # fmt: skip
    assert not found.converged
    assert "R-hat" in found.problem


def test_divergences_are_counted():
    with pytest.warns(SamplingWarning, match="diverged"):
        found = hmc(
            lambda x: (np.exp(np.minimum(x**2, 600))).sum(axis=1), np.zeros((4, 1)) + 0.1, 50, n_warmup=0,
            gradient=lambda x: 2 * x * np.exp(np.minimum(x**2, 600)), step_size=2.5, rng=1,
        )  # fmt: skip
    assert found.n_divergent > 0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda f, g, x: hmc(f, x), TypeError, "gradient"),
        (lambda f, g, x: hmc(3, x), TypeError, "energy"),
        (lambda f, g, x: hmc(f, x[0], gradient=g), ValueError, "start"),
        (lambda f, g, x: hmc(f, x + np.inf, gradient=g), ValueError, "start"),
        (lambda f, g, x: hmc(f, [["a"]], gradient=g), TypeError, "start"),
        (lambda f, g, x: hmc(lambda x: x, x, gradient=g), ValueError, "energy: expected"),
        (lambda f, g, x: hmc(f, x, gradient=lambda x: x[:, 0]), ValueError, "gradient: expected"),
        (lambda f, g, x: hmc(lambda x: f(x) * np.nan, x, gradient=g), ValueError, "start: expected a finite"),
        (lambda f, g, x: hmc(f, x, 3, gradient=g), ValueError, "n_samples"),
        (lambda f, g, x: hmc(f, x + 1j, gradient=g), TypeError, "^start"),
        (lambda f, g, x: hmc(lambda x: f(x) + 1j, x, gradient=g), TypeError, "^energy"),
        (lambda f, g, x: hmc(lambda x: None, x, gradient=g), TypeError, "^energy"),
        (lambda f, g, x: hmc(f, x, gradient=lambda x: [[1.0], [1.0, 2.0]]), ValueError, "^gradient"),
        (lambda f, g, x: langevin(f, x, gradient=lambda x: x.astype(str)), TypeError, "^gradient"),
        (lambda f, g, x: hmc(lambda x: x.sort() or f(x), x, gradient=g), ValueError, "read-only"),
        (lambda f, g, x: sgld(lambda x, k: x.sort() or x, x, step_size=0.1), ValueError, "read-only"),
        (lambda f, g, x: sgld(lambda x, k: "a", x, step_size=0.1), TypeError, "^gradient"),
        (lambda f, g, x: hmc(f, x, gradient=g, acceptance=0.0), ValueError, "^acceptance"),
        (lambda f, g, x: hmc(f, x, gradient=g, beta=0.0), ValueError, "beta"),
        (lambda f, g, x: hmc(f, x, gradient=g, step_size=0.0), ValueError, "step_size"),
        (lambda f, g, x: hmc(f, x, gradient=g, acceptance=1.5), ValueError, "acceptance"),
        (lambda f, g, x: hmc(random_rbm(), x), ValueError, "start: expected"),
        (lambda f, g, x: hmc(random_rbm(), far_apart(2, 4), gradient=g), ValueError, "gradient"),
        (lambda f, g, x: langevin(f, x, gradient=g, adjusted=False), ValueError, "step_size"),
        (
            lambda f, g, x: langevin(f, x, gradient=g, adjusted=False, step_size=50.0),
            ValueError,
            "step_size: expected steps",
        ),
        (lambda f, g, x: sgld(lambda x, k: x[0], x, step_size=0.1), ValueError, "gradient"),
        (lambda f, g, x: sgld(3, x, step_size=0.1), TypeError, "gradient"),
        (lambda f, g, x: sgld(lambda x, k: -x, x, step_size=9.0), ValueError, "step_size"),
        (lambda f, g, x: r_hat([1.0, 2.0]), ValueError, "samples"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call(normal_energy, normal_gradient, far_apart(4))


def test_printed_samples_say_that_their_law_is_biased():
    rbm = vf.GaussianRBM(np.ones((2, 1)), np.zeros(2), np.zeros(1), np.ones(2))
    found = [langevin(rbm, np.zeros((8, 2)), 2000, step_size=0.3, adjusted=a, rng=0) for a in (True, False)]
    assert ["biased" in str(f) for f in found] == [False, True]
