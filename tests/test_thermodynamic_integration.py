"""Thermodynamic integration: mean energies, the integral, its error, and what it says when it is not done."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

import vfe_fast as vf
from conftest import random_parameters
from oracles.rbm import enumerate_float64
from vfe_fast.free_energy import thermodynamic_integration
from vfe_fast.free_energy.kronrod import POINTS
from vfe_fast.free_energy.thermodynamic_integration import (
    _AT_START,
    IntegrationWarning,
    _energy_of_coins,
    _panels,
)


def test_rules_integrate_polynomials() -> None:
    """Kronrod's of 15 points up to degree 22, Gauss's of 7 up to 13, over two panels."""
    betas, kronrod, gauss = _panels(1.7, 2)
    assert len(betas) == 30
    for degree in range(23):
        expected = 1.7 ** (degree + 1) / (degree + 1)
        assert kronrod @ betas**degree == pytest.approx(expected, rel=1e-14)
        if degree <= 13:
            assert gauss @ betas**degree == pytest.approx(expected, rel=1e-14)
    x = 2 * _panels(2.0, 1)[0] / 2 - 1
    assert abs(_panels(2.0, 1)[1] @ x**24 - 2 / 25) > 1e-12


def test_mean_energies_are_the_exact_ones() -> None:
    """At all 15 temperatures, in standard errors; false alarm 1e-5."""
    w, a, b = random_parameters(6, 4, scale=0.6)
    found = thermodynamic_integration(vf.BernoulliRBM(w, a, b), beta=1.3, n_chains=400, rng=1)
    exact = [float(enumerate_float64(w, a, b, beta).energy) for beta in found.details["betas"]]
    z = (found.details["energies"] - exact) / found.details["energies_stderr"]
    assert np.abs(z).max() < 5.0
    assert found.details["energies_stderr"].max() < 0.01


@pytest.mark.filterwarnings("ignore::vfe_fast.free_energy.thermodynamic_integration.IntegrationWarning")
@pytest.mark.parametrize("kind", [vf.BernoulliRBM, vf.SpinRBM])
def test_standard_errors_cover(kind: type) -> None:
    """One standard error holds 68 % of 300 models; false alarm 1e-3 (3.3 errors of a binomial).

    Five of 15 pairs of chains are exceeded at one of 15 temperatures in less than 1 % of runs (Student's t).
    """
    within, converged = [], []
    for k in range(300):
        model = kind(*random_parameters(4, 3, scale=0.5, seed=k))
        found = thermodynamic_integration(model, n_chains=30, n_steps=10, n_warmup=10, rng=k)
        assert found.kind == "consistent"
        converged.append(found.converged)
        within.append(abs(found.log_z - vf.free_energy.exact(model).log_z) < found.stderr)
    assert abs(np.mean(within) - 0.683) < 3.3 * np.sqrt(0.683 * 0.317 / 300)
    assert np.mean(converged) > 0.97


def ising(n: int, bonds: str, seed: int) -> vf.Ising:
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.normal(0, 0.5, (n, n)), 1)
    if bonds == "two sublattices":
        upper[np.add.outer(np.arange(n), np.arange(n)) % 2 == 0] = 0
    return vf.Ising(upper + upper.T, rng.normal(0.2, 0.3, n))


def log_z_of_states(model: vf.Ising, beta: float) -> tuple[float, float]:
    """ln Z and <E> by the definition."""
    states = 1 - 2.0 * ((np.arange(2**model.n_spins)[:, None] >> np.arange(model.n_spins)) & 1)
    energy = -0.5 * np.einsum("si,ij,sj->s", states, model.couplings, states) - states @ model.fields
    log_z = float(np.logaddexp.reduce(-beta * energy))
    return log_z, float(np.exp(-beta * energy - log_z) @ energy)


@pytest.mark.parametrize("beta", [0.7, 1.4])
@pytest.mark.parametrize("bonds", ["two sublattices", "all"])
def test_ising_models(bonds: str, beta: float) -> None:
    """Read as machines of two layers, against the sum over states; false alarm 6e-5 each."""
    model = ising(7, bonds, seed=5)
    found = thermodynamic_integration(model, beta=beta, n_chains=400, rng=2)
    exact, _ = log_z_of_states(model, beta)
    assert abs(found.log_z - exact) < 4 * found.stderr < 0.1
    assert found.value == -found.log_z / beta
    assert found.converged
    assert exact - 1.0 < found.details["log_z_seen"] <= exact + 1e-9
    if bonds == "two sublattices":  # energies in units of the temperature, at t beta
        z = [
            (energy - beta * log_z_of_states(model, t * beta)[1]) / error
            for t, energy, error in zip(
                found.details["betas"],
                found.details["energies"],
                found.details["energies_stderr"],
                strict=True,
            )
        ]
        assert np.abs(z).max() < 5.0


def test_more_panels_for_strong_couplings() -> None:
    """One panel is too few at beta = 60, and says so; the two rules tell."""
    model = vf.BernoulliRBM(*random_parameters(5, 3, scale=1.0, seed=2))
    exact = vf.free_energy.exact(model, beta=60.0).log_z
    with pytest.warns(IntegrationWarning, match="n_panels"):
        few = thermodynamic_integration(model, beta=60.0, n_chains=200, rng=3)
    assert not few.converged
    many = thermodynamic_integration(model, beta=60.0, n_chains=200, n_panels=12, rng=3)
    assert abs(many.log_z - exact) < 4 * many.stderr + abs(many.details["quadrature"])
    assert abs(many.log_z - exact) < abs(few.log_z - exact)


def test_the_start_is_what_a_polynomial_says() -> None:
    x = POINTS
    assert _AT_START @ (2.0 + x - 3 * x**9 + 0.5 * x**14) == pytest.approx(2.0 - 1 + 3 + 0.5, rel=1e-12)


@pytest.mark.parametrize("kind", [vf.BernoulliRBM, vf.SpinRBM])
def test_energy_of_coins(kind: type) -> None:
    """Against the mean over all joint states."""
    model = kind(*random_parameters(3, 2, scale=1.0, seed=1))
    bits = (np.arange(32)[:, None] >> np.arange(5)) & 1
    states = bits if kind is vf.BernoulliRBM else 2 * bits - 1
    energies = model.energy(states[:, :3].astype(np.int8), states[:, 3:].astype(np.int8))
    assert _energy_of_coins(model) == pytest.approx(energies.mean(), rel=1e-12)


@pytest.mark.parametrize("kind", ["bits", "spins", "ising"])
def test_temperatures_that_are_all_cold_say_so(kind: str) -> None:
    """In the ground state everywhere: rules, halves and memories agree, ln Z is off by (n + m) ln 2."""
    model: vf.BernoulliRBM | vf.SpinRBM | vf.Ising = vf.BernoulliRBM([[-0.4]], [-0.3], [-0.5])
    if kind == "spins":
        model = vf.SpinRBM([[0.4]], [0.3], [0.5])
    if kind == "ising":
        model = vf.Ising([[0.0, 0.4], [0.4, 0.0]], [0.3, 0.5])
    with pytest.warns(IntegrationWarning, match="known energy at beta 0"):
        found = thermodynamic_integration(model, beta=1e6, rng=7)
    assert found.details["quadrature"] == pytest.approx(0.0, abs=1e-6)
    assert max(found.details["drift"], found.details["memory"]) < 5
    assert abs(found.log_z - vf.free_energy.exact(model, beta=1e6).log_z) > 1
    assert not found.converged


def test_chains_that_remember_say_so(reference_data: Path) -> None:
    """The published 784 x 500 machine: chains that have been cold know valleys that others do not find."""
    io = pytest.importorskip("scipy.io")
    found = io.loadmat(reference_data / "salakhutdinov_rbm" / "mnistvh_CD25.mat")
    model = vf.BernoulliRBM(found["vishid"], found["visbiases"].ravel(), found["hidbiases"].ravel())
    with pytest.warns(IntegrationWarning, match="have been cold"):
        result = thermodynamic_integration(model, n_chains=20, n_steps=4, n_warmup=200, rng=1)
    assert result.details["memory"] > 5
    assert not result.converged


def test_chains_that_have_not_arrived_say_so() -> None:
    """Two deep valleys behind a slow start."""
    n = 20
    model = vf.BernoulliRBM(np.full((n, n), 0.7), np.full(n, -4.0), np.full(n, -6.0))
    with pytest.warns(IntegrationWarning, match="drift"):
        found = thermodynamic_integration(model, n_chains=200, n_steps=40, n_warmup=0, rng=1)
    assert not found.converged
    assert found.details["drift"] > 5


@pytest.mark.parametrize("kind", ["bits", "spins"])
def test_a_valley_that_no_chain_found_is_reported(kind: str) -> None:
    """Halves, memories and rules agree, and all are wrong."""
    rng = np.random.default_rng(2)
    model = vf.BernoulliRBM(rng.normal(1.2, 0.1, (30, 6)), rng.normal(-2.5, 0.2, 30), rng.normal(-12, 0.5, 6))
    if kind == "spins":
        model = vf.SpinRBM.from_bernoulli(model)
    with pytest.warns(IntegrationWarning, match="states that Gibbs chains pass"):
        found = thermodynamic_integration(model, rng=1)
    assert not found.converged
    assert found.log_z + 4 * found.stderr < found.details["log_z_seen"]
    assert found.details["log_z_seen"] < vf.free_energy.exact(model).log_z


def test_chains_that_settle_where_they_please_say_so() -> None:
    """Each chain in one of several valleys: all else agrees, by shares that are not the model's."""
    rng = np.random.default_rng(30)
    model = vf.SpinRBM(rng.normal(size=(5, 7)), rng.normal(size=5) - 0.5, rng.normal(size=7))
    with pytest.warns(IntegrationWarning, match="statistical inefficiencies long"):
        found = thermodynamic_integration(model, beta=2.3, rng=1)
    assert not found.converged
    assert abs(found.log_z - vf.free_energy.exact(model, beta=2.3).log_z) > 5 * found.stderr
    assert max(found.details["drift"], found.details["memory"]) < 5


def test_length_of_a_run() -> None:
    """Against the variance of a time average, from the transition matrix of Gibbs steps."""
    n_steps, states = 60, np.array(list(itertools.product((0, 1), repeat=4)), np.int8)
    w, a, b = np.array([[4.0, 3.0], [3.5, 4.5]]), np.array([-4.0, -3.2]), np.array([-3.5, -4.2])
    model, lengths = vf.BernoulliRBM(w, a, b), []
    found = thermodynamic_integration(model, n_chains=2000, n_steps=n_steps, rng=3, beta=1.3)
    v, h = states[:, :2].astype(float), states[:, 2:].astype(float)
    energies = -(v @ a + h @ b + np.einsum("ni,ij,nj->n", v, w, h))
    for beta in found.details["betas"]:
        on_h, on_v = (1 / (1 + np.exp(-beta * x)) for x in (b + v @ w, a + h @ w.T))
        to_h = np.prod(np.where(h[None] > 0, on_h[:, None], 1 - on_h[:, None]), axis=2)
        to_v = np.prod(np.where(v > 0, on_v, 1 - on_v), axis=1)
        p = np.exp(-beta * energies)
        p /= p.sum()
        off = energies - p @ energies
        moved, covariances = off, []
        for _ in range(n_steps):
            covariances.append(p @ (off * moved))
            moved = (to_h * to_v) @ moved
        t = np.arange(1, n_steps)
        rho = np.array(covariances[1:]) / covariances[0]
        lengths.append(n_steps / (1 + 2 * ((1 - t / n_steps) @ rho)))
    assert min(lengths) < 40
    assert found.details["length"] == pytest.approx(min(lengths), rel=0.15)  # √(2 / 2000) is 0.03
    assert found.ess == pytest.approx(2000 * min(lengths), rel=0.15)


@pytest.mark.parametrize("kind", [vf.BernoulliRBM, vf.SpinRBM])
def test_independent_energies_all_count(kind: type) -> None:
    """Of units that do not couple; false alarm 1e-5, of χ² of 399 degrees of freedom at 15 temperatures."""
    _, a, b = random_parameters(6, 4, scale=0.6)
    found = thermodynamic_integration(kind(np.zeros((6, 4)), a, b), n_chains=400, n_steps=50, rng=4)
    assert 0.72 < found.ess / (400 * 50) <= 1.0


@pytest.mark.parametrize("n_steps", [200, 203])
@pytest.mark.parametrize("n_chains", [100, 128])
def test_frozen_temperatures_are_no_problem(n_chains: int, n_steps: int) -> None:
    """Energies that are all the same but for rounding, at the lowest temperatures or at all."""
    model = vf.SpinRBM([[0.413]], [0.331], [0.573])
    found = thermodynamic_integration(model, beta=20.0, n_chains=n_chains, n_steps=n_steps, n_panels=3, rng=7)
    assert found.details["energies_stderr"][-1] == 0.0
    assert found.converged
    assert n_chains * n_steps / 4 < found.ess <= n_chains * n_steps
    assert abs(found.log_z - vf.free_energy.exact(model, beta=20.0).log_z) < 4 * found.stderr
    still = vf.SpinRBM(np.zeros((3, 2)), np.zeros(3), np.zeros(2))
    assert thermodynamic_integration(still, n_chains=n_chains, n_steps=n_steps).ess == n_chains * n_steps


def test_seeds_and_threads() -> None:
    model = vf.BernoulliRBM(*random_parameters(20, 10, scale=0.2))
    first, second, third = (
        thermodynamic_integration(model, n_chains=10, n_steps=5, rng=seed, num_threads=threads).log_z
        for seed, threads in ((1, 1), (1, 2), (2, 1))
    )
    assert first == second != third


BAD = {
    "model": ({"model": np.zeros((2, 2))}, TypeError),
    "beta": ({"beta": 0.0}, ValueError),
    "n_chains": ({"n_chains": 3}, ValueError),
    "n_steps": ({"n_steps": 1}, ValueError),
    "n_warmup": ({"n_warmup": -1}, ValueError),
    "n_panels": ({"n_panels": 0}, ValueError),
    "rng": ({"rng": -1}, ValueError),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments(name: str) -> None:
    change, error = BAD[name]
    with pytest.raises(error, match=rf"^{name}: "):
        thermodynamic_integration(**{"model": vf.BernoulliRBM(*random_parameters(3, 2))} | change)
