"""Spectra, ground states and exact samples against brute force."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import vfe_fast as vf
from conftest import random_parameters
from oracles.ising import all_spins, spin_energies, torus
from oracles.rbm import joint
from test_exact_ising import random_ising

FALSE_ALARM = 1e-5  # of each chi-square test, at a fixed seed


def density(model: vf.Ising, **options: Any) -> vf.free_energy.DensityOfStates:
    """What `density_of_states` sums over."""
    F = vf.free_energy.density_of_states(model, **options)
    found: vf.free_energy.DensityOfStates = F.details["density"]
    return found


def integer_ising(n: int, unit: float = 1.0) -> vf.Ising:
    rng = np.random.default_rng(n)
    upper = np.triu(rng.integers(-3, 4, (n, n)), 1) * unit
    return vf.Ising(upper + upper.T, rng.integers(-2, 3, n) * unit)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 9, 11])
@pytest.mark.parametrize("unit", [1.0, 0.25])
def test_integer_couplings_are_counted_exactly(n: int, unit: float) -> None:
    model = integer_ising(n, unit)
    energies, counts = np.unique(spin_energies(model.couplings, model.fields), return_counts=True)
    found = density(model)
    assert found.bin_width == 0
    assert found.energies.tolist() == energies.tolist()
    assert found.counts.tolist() == counts.tolist()
    for beta in (0.0, 0.3, 2.0):
        result = vf.free_energy.density_of_states(model, beta=beta)
        assert found.log_z(beta) == result.log_z
        assert (result.kind, result.beta, result.stderr, result.converged) == ("exact", beta, 0, True)
        terms = -beta * spin_energies(model.couplings, model.fields)
        assert result.log_z == pytest.approx(float(np.logaddexp.reduce(terms)), rel=1e-13)


@pytest.mark.parametrize("n", range(1, 9))
@pytest.mark.parametrize("coupling", [0.1, 0.3, 1e6, 1 / 3])
def test_equal_couplings_are_counted_exactly(n: int, coupling: float) -> None:
    """A ferromagnet, whose lowest energy is the lowest possible, in units of its coupling."""
    model = vf.Ising(coupling * (np.ones((n, n)) - np.eye(n)), np.full(n, 3 * coupling))
    energies, counts = np.unique(
        np.rint(spin_energies(model.couplings, model.fields) / coupling), return_counts=True
    )
    found = density(model)
    assert found.bin_width == 0
    np.testing.assert_allclose(found.energies, energies * coupling, rtol=1e-13, atol=1e-13 * coupling)
    assert found.counts.tolist() == counts.tolist()


@pytest.mark.parametrize("n", range(1, 11))
def test_unfrustrated_models_are_binned(n: int) -> None:
    """Their lowest energy is the bound of all, up to rounding."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        signs = rng.choice([-1, 1], n)
        upper = np.triu(rng.random((n, n)), 1) * np.outer(signs, signs)
        model = vf.Ising(upper + upper.T, rng.random(n) * signs)
        found = density(model, n_bins=50)
        assert found.counts.sum() == 2**n
        result = found.free_energy(0.7)
        assert "at most" in str(result) or result.kind == "exact"
        error = abs(result.log_z - vf.free_energy.exact(model, beta=0.7).log_z)
        assert error <= result.details["error_bound"] + 1e-12


def test_curie_weiss(reference_data: Path) -> None:
    """E = -M^2 / 2N of 20 spins: the constant 1/2 apart, couplings 1/20."""
    table = json.loads((reference_data / "oracles" / "oracles_dev.json").read_text())
    n = 20
    model = vf.Ising((np.ones((n, n)) - np.eye(n)) / n)
    for beta in (0.5, 1.0, 1.5):
        expected = float(table["curie_weiss_logZ (E=-M^2/2N)"][f"N=20,beta={beta}"])
        assert vf.free_energy.exact(model, beta=beta).log_z + beta / 2 == pytest.approx(expected, rel=1e-12)


def test_square_lattice_spectrum() -> None:
    """4 x 4: two ground states at -2 a spin, a gap of 8, a symmetric spectrum."""
    model = vf.Ising(torus(4, 1.0))
    found = density(model)
    assert (found.energies[0], found.counts[0]) == (-32.0, 2)
    assert (found.energies[1], found.counts[1]) == (-24.0, 32)
    assert found.counts.tolist() == found.counts[::-1].tolist()
    ground = vf.free_energy.ground_state(model)
    assert (ground.energy, ground.degeneracy, ground.gap) == (-32.0, 2, 8.0)
    assert sorted(ground.states.sum(axis=1).tolist()) == [-16, 16]


def test_real_couplings_are_binned() -> None:
    model = random_ising(12, 0.3)
    energies = spin_energies(model.couplings, model.fields)
    found = density(model, n_bins=5000)
    assert found.counts.sum() == 2**12
    edges = found.energies + np.array([[-0.5], [0.5]]) * found.bin_width
    inside = [((energies >= low) & (energies < high)).sum() for low, high in edges.T]
    np.testing.assert_allclose(found.counts, inside, atol=1)
    result = found.free_energy(1.0)
    assert result.kind == "consistent"
    error = abs(result.log_z - vf.free_energy.exact(model).log_z)
    assert error < result.details["error_bound"] == 0.5 * found.bin_width
    assert found.free_energy(0.3).error_bound == pytest.approx(0.15 * found.bin_width)


@pytest.mark.parametrize("model", [integer_ising(10), random_ising(9), random_ising(1), random_ising(4)])
def test_ground_state(model: vf.Ising) -> None:
    energies = spin_energies(model.couplings, model.fields)
    levels = np.unique(np.round(energies, 9))
    found = vf.free_energy.ground_state(model)
    assert found.energy == pytest.approx(energies.min(), rel=1e-13)
    assert found.degeneracy == (np.round(energies, 9) == levels[0]).sum() == len(found.states)
    assert found.gap == pytest.approx(levels[1] - levels[0], abs=1e-8)
    np.testing.assert_allclose(model.energy(found.states), energies.min(), rtol=1e-13)
    assert len(np.unique(found.states, axis=0)) == found.degeneracy


def test_the_ground_state_is_the_least() -> None:
    """Of energies that differ by rounding alone, whichever comes first."""
    model = vf.Ising(np.zeros((9, 9)), np.full(9, 0.1) + 1e-14 * np.arange(9))
    found = vf.free_energy.ground_state(vf.Ising(np.zeros((9, 9)), np.full(9, 1e-14) + np.eye(9)[0]))
    assert found.energy == -(1.0 + 9e-14)
    assert vf.free_energy.ground_state(model).energy == -model.fields.sum()


def test_frustration() -> None:
    """Three spins that all want to differ: six ground states; and without couplings no gap."""
    found = vf.free_energy.ground_state(vf.Ising(np.eye(3) - 1.0), max_states=4)
    assert (found.energy, found.degeneracy, found.gap, len(found.states)) == (-1.0, 6, 4.0, 4)
    free = vf.free_energy.ground_state(vf.Ising(np.zeros((4, 4))))
    assert (free.energy, free.degeneracy, free.gap) == (0.0, 16, np.inf)


@pytest.mark.parametrize("swapped", [False, True])
def test_rbm_samples(swapped: bool) -> None:
    w, a, b = random_parameters(3, 5, scale=0.7)
    if swapped:
        w, a, b = w.T.copy(), b, a
    rbm, n = vf.BernoulliRBM(w, a, b), 40_000
    v, h = vf.free_energy.exact_samples(rbm, n, beta=0.8, rng=1)
    numbers = v @ (1 << np.arange(v.shape[1])), h @ (1 << np.arange(h.shape[1]))
    p = joint(w, a, b, 0.8)
    observed = np.zeros_like(p)
    np.add.at(observed, numbers, 1)
    assert_same_law(observed.ravel(), p.ravel())
    again, _ = vf.free_energy.exact_samples(rbm, n, beta=0.8, rng=1)
    assert np.array_equal(v, again)


def test_spin_rbm_samples() -> None:
    w, a, b = random_parameters(4, 3, scale=0.4)
    v, h = vf.free_energy.exact_samples(vf.SpinRBM(w, a, b), 40_000, beta=0.8, rng=4)
    vs, hs = all_spins(4), all_spins(3)
    exponent = 0.8 * ((vs @ a)[:, None] + hs @ b + vs @ w @ hs.T)
    p = np.exp(exponent) / np.exp(exponent).sum()
    observed = np.zeros_like(p)
    rows = [np.argmax((x[:, None] == all_x).all(axis=2), axis=1) for x, all_x in ((v, vs), (h, hs))]
    np.add.at(observed, tuple(rows), 1)
    assert_same_law(observed.ravel(), p.ravel())


def test_gaussian_rbm_samples() -> None:
    """Means and pairs against the exact moments, the spread of v given h; false alarm below 1e-4."""
    w, a, b = random_parameters(5, 3, scale=0.5)
    rbm, n, beta = vf.GaussianRBM(w, a, b, sigma=[0.5, 1.0, 2.0, 1.5, 0.7]), 40_000, 0.8
    v, h = vf.free_energy.exact_samples(rbm, n, beta=beta, rng=5)
    moments = vf.free_energy.exact(rbm, beta=beta, moments=True).moments
    pairs = v[:, :, None] * h[:, None, :]
    for sample, mean in ((v, moments.visible), (h, moments.hidden), (pairs, moments.visible_hidden)):
        z = (sample.mean(axis=0) - mean) / (sample.std(axis=0) / np.sqrt(n))
        assert np.abs(z).max() < 5.5
    spread = (v - a - h @ w.T).std(axis=0) / (rbm.sigma / np.sqrt(beta))
    assert np.abs(spread - 1).max() < 5.5 / np.sqrt(2 * n)


def test_rbm_samples_over_several_ranges() -> None:
    w, a, b = random_parameters(16, 180, scale=0.05)
    rbm, n = vf.BernoulliRBM(w, a, b), 20_000
    states = ((np.arange(2**16)[:, None] >> np.arange(16)) & 1).astype(np.float64)
    fields = b + states @ w
    exponent = states @ a + np.logaddexp(0, fields).sum(axis=1)
    p = np.exp(exponent - exponent.max())
    p /= p.sum()
    on = 1 / (1 + np.exp(-fields))
    v, h = vf.free_energy.exact_samples(rbm, n, rng=2)
    found = v.mean(axis=0), h.mean(axis=0), v.T.astype(np.float64) @ h / n
    for average, mean in zip(found, (p @ states, p @ on, states.T @ (p[:, None] * on)), strict=True):
        z = (average - mean) / np.sqrt(mean * (1 - mean) / n)
        assert np.abs(z).max() < 6  # 3,076 numbers: false alarms below 1e-5


@pytest.mark.parametrize("n", [1, 2, 7])
def test_ising_samples(n: int) -> None:
    model = random_ising(n, 0.5)
    s = vf.free_energy.exact_samples(model, 40_000, beta=0.9, rng=3)
    assert s.dtype == np.int8
    weights = np.exp(-0.9 * spin_energies(model.couplings, model.fields))
    numbers = ((s > 0) @ (1 << np.arange(n))).astype(int)
    assert all_spins(n)[numbers].tolist() == s.tolist()
    assert_same_law(np.bincount(numbers, minlength=2**n), weights / weights.sum())


def assert_same_law(observed: Any, p: Any) -> None:
    """Chi-square, cells of fewer than five expected put together."""
    expected = p * observed.sum()
    rare = expected < 5
    observed = np.append(observed[~rare], observed[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    keep = expected > 0
    assert observed[~keep].sum() == 0
    if keep.sum() > 1:
        assert stats.chisquare(observed[keep], expected[keep]).pvalue > FALSE_ALARM


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: vf.free_energy.density_of_states(3), TypeError, "model"),
        (lambda: vf.free_energy.density_of_states(random_ising(3), n_bins=0), ValueError, "n_bins"),
        (lambda: vf.free_energy.density_of_states(vf.Ising(np.zeros((37, 37)))), ValueError, "model"),
        (lambda: vf.free_energy.ground_state(random_ising(3), max_states=-1), ValueError, "max_states"),
        (lambda: vf.free_energy.exact_samples(3, 5), TypeError, "model"),
        (lambda: vf.free_energy.exact_samples(random_ising(3), -1), ValueError, "n_samples"),
        (lambda: vf.free_energy.exact_samples(random_ising(3), 1, beta=1e-40), ValueError, "beta"),
        (
            lambda: vf.free_energy.exact_samples(vf.GaussianRBM(*random_parameters(2, 1)), 1, beta=0),
            ValueError,
            "beta",
        ),
        (lambda: vf.free_energy.exact_samples(vf.Ising(np.zeros((37, 37))), 1), ValueError, "model"),
        (
            lambda: vf.free_energy.exact_samples(vf.BernoulliRBM(*random_parameters(30, 30)), 1),
            ValueError,
            "model",
        ),
        (lambda: vf.free_energy.density_of_states(random_ising(3), beta=-1.0), ValueError, "beta"),
        (lambda: vf.free_energy.density_of_states(random_ising(3), beta=1e308), ValueError, "beta"),
        (lambda: density(random_ising(3)).free_energy(1e-310), ValueError, "beta"),
        (lambda: density(random_ising(3)).log_z(-1.0), ValueError, "beta"),
    ],
)
def test_bad_arguments(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{message}: expected"):
        call()
