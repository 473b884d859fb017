"""What the text says, C. Martin, "Free Energies and Variational Inference" (2017), held against numbers."""

from __future__ import annotations

import math
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

import vfe_fast as vf
from conftest import random_rbm
from oracles.ising import all_spins
from vfe_fast.free_energy.methods import METHODS

FIGURES = Path(__file__).parents[1] / "docs" / "figures"
STEP = 1e-4  # of differences, whose error is its square


@pytest.fixture
def script(monkeypatch):
    """The names in a script that draws a figure of the docs."""
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(sys, "path", [str(FIGURES), *sys.path])
    return lambda name: runpy.run_path(str(FIGURES / f"{name}.py"))


def log_z(rbm, beta=1.0):
    return vf.free_energy.exact(rbm, beta=beta).log_z


def test_the_derivative_by_temperature_is_the_mean_energy():
    """-∂ ln Z / ∂β = ⟨E⟩: by differences, as a moment, of Gibbs chains, all at one β."""
    rbm, beta = random_rbm(8, 5, scale=0.6), 0.9
    difference = -(log_z(rbm, beta + STEP) - log_z(rbm, beta - STEP)) / (2 * STEP)
    moment = vf.free_energy.exact(rbm, beta=beta, moments=True).moments.energy
    assert difference == pytest.approx(moment, rel=1e-7)
    chains = vf.GibbsChains(rbm, 20_000, rng=5)
    chains.step(200, beta=beta)
    energy = rbm.energy(chains.visible, chains.hidden)
    # 4 standard errors: one false alarm in 16,000 seeds.
    assert abs(energy.mean() - moment) < 4 * energy.std() / math.sqrt(len(energy))


def test_weight_gradients_are_expected_energies():
    """∂ ln Z / ∂W_ij = β ⟨v_i h_j⟩, and of the clamped free energy the mean given v."""
    rbm, beta = random_rbm(5, 4, scale=0.8), 1.3
    moments = vf.free_energy.exact(rbm, beta=beta, moments=True).moments
    v = np.array([[1, 0, 1, 1, 0]], np.uint8)
    mean = rbm.mean_hidden(v)[0]
    for i, j in ((0, 0), (4, 3), (2, 1)):
        free, clamped = [], []
        for sign in (1, -1):
            weights = rbm.weights.copy()
            weights[i, j] += sign * STEP
            moved = vf.BernoulliRBM(weights, rbm.visible_bias, rbm.hidden_bias)
            free.append(log_z(moved, beta))
            clamped.append(-float(moved.free_energy(v)[0]))
        assert (free[0] - free[1]) / (2 * STEP) == pytest.approx(
            beta * moments.visible_hidden[i, j], abs=1e-7
        )
        assert (clamped[0] - clamped[1]) / (2 * STEP) == pytest.approx(v[0, i] * mean[j], abs=1e-7)


def test_the_norm_of_the_weights_is_an_inverse_temperature(script):
    """Without biases ln Z is a function of β W: 1 / |W| is an effective temperature."""
    machine = script("derivatives")["machine"]
    assert log_z(machine(12.0), 0.5) == pytest.approx(log_z(machine(6.0), 1.0), rel=1e-13)
    # With biases it is not.
    rbm = random_rbm(6, 4)
    double = vf.BernoulliRBM(2 * rbm.weights, rbm.visible_bias, rbm.hidden_bias)
    assert abs(log_z(double, 0.5) - log_z(rbm)) > 0.01


def test_derivatives(script):
    found = script("derivatives")["compute"](small=True)
    assert np.allclose(found["differences"], found["moments"], rtol=1e-6, atol=1e-6)
    mean, stderr = found["sampled"].T
    assert (np.abs(mean - found["moments"]) < 4.5 * stderr).all()  # one false alarm in 40,000 seeds
    of = found["pairs"]
    for name in ("free", "clamped"):
        assert np.allclose(of[f"{name} differences"], of[name], rtol=0, atol=1e-8), name
    # Of 117 weights: one false alarm in 1,000 seeds.
    assert (np.abs(of["chains"] - of["free"]) < 4.5 * of["stderr"]).all()
    for bias in found["bias"].values():
        assert bias[0] > 2 * bias[-1]  # more steps, less bias
    # The colder the machine, the more CD-1 leaves out.
    at_one = [bias[0] for bias in found["bias"].values()]
    assert at_one == sorted(at_one)


def test_corrections_to_the_bound_as_the_coupling_grows(script):
    """Each order's error has its own power of the coupling, and at strong coupling none of them holds."""
    found = script("breakdown")["compute"](small=True)
    strengths, off = found["strengths"], found["off"]
    weak = slice(0, 2)
    powers = {
        name: np.diff(np.log(errors[weak]))[0] / np.diff(np.log(strengths[weak]))[0]
        for name, errors in off.items()
    }
    for order in (1, 2, 3, 4):
        # Fields are weak: terms of odd orders are small, so an order errs by the next even one or the next.
        assert order + 0.5 < powers[f"cumulants {order}"] < order + 2.5
    assert powers["TAP 1"] < powers["TAP 2"] < powers["TAP 3"] + 0.5
    for method in ("cumulants", "TAP"):
        assert off[f"{method} 3"][0] < off[f"{method} 2"][0] < off[f"{method} 1"][0]
        assert off[f"{method} 3"][-1] > 0.03
    assert found["holds"][0] == 1
    assert found["holds"][-1] == 0


@pytest.mark.filterwarnings("ignore:tap. beyond Plefka")
def test_size_extensivity(script):
    """Two copies have twice the free energy: to rounding where a method is a function of the model alone."""
    copies = script("extensivity")["copies"]
    one, two = copies(1), copies(2)
    assert log_z(two) == pytest.approx(2 * log_z(one), rel=1e-13)
    for call in (
        lambda model: vf.free_energy.mean_field(model, rng=0).log_z,
        lambda model: vf.free_energy.tap(model, order=2, rng=0).log_z,
        lambda model: vf.free_energy.tap(model, order=3, rng=0).log_z,
    ):
        assert call(two) == pytest.approx(2 * call(one), rel=1e-7)
    sums = [vf.free_energy.cumulant_expansion(m, 5).details["series"].partial_sums for m in (one, two)]
    assert np.allclose(sums[1], 2 * sums[0], rtol=1e-10)
    found = script("extensivity")["compute"](small=True)
    for name in ("mean field", "TAP 2", "trees", "laplace"):
        off = found[name][:, 1]
        assert np.ptp(off) < 1e-6
    # Where they can be: mbar and umbrella where pymbar is, most of the others of one copy alone.
    few = {"umbrella", "density_of_states", "wang_landau", "trace", "integral"}
    for name in ({"integration", "mbar"} | few) & set(found):
        _, off, stderr = found[name].T
        assert (np.abs(off) < 4.5 * stderr + 1e-9).all()  # of ten numbers: one false alarm in 15,000 seeds
    blocks = found["blocks"][:, 1]
    assert abs(blocks[0]) < 1e-6
    assert blocks[1] < -0.005  # not additive: a block of eight is one copy and half of another


def side_by_side(one, other):
    """Two machines that do not see each other, as one."""
    weights = np.zeros(np.add(one.weights.shape, other.weights.shape))
    weights[: one.n_visible, : one.n_hidden] = one.weights
    weights[one.n_visible :, one.n_hidden :] = other.weights
    return type(one)(
        weights, *map(np.concatenate, zip(one.parameters[1:], other.parameters[1:], strict=True))
    )


def machines_of(name):
    """Two that differ: of real units for the methods that take no others."""
    if name not in ("laplace", "integral"):
        return random_rbm(3, 4, scale=0.5, seed=1), random_rbm(5, 2, scale=0.6, seed=2)
    draw = np.random.default_rng(8)
    return tuple(
        vf.GaussianRBM(
            0.4 * draw.normal(size=(n, m)), draw.normal(size=n), draw.normal(size=m), np.full(n, 0.9)
        )
        for n, m in ((1, 3), (2, 2))
    )


# Not blocks, which cross between machines, nor cumulants to whatever order is best: fixed ones are above.
@pytest.mark.parametrize("name", sorted(set(METHODS) - {"variational", "cumulant_expansion"}))
def test_free_energies_of_different_machines_add(name):
    """F(A + B) = F(A) + F(B): to rounding, or within errors; no two runs share random numbers."""
    if name in ("mbar", "bar", "umbrella"):
        pytest.importorskip("pymbar")
    one, other = machines_of(name)
    models = (one, other, side_by_side(one, other))
    of = [vf.free_energy.compare(model, name, beta=0.9, rng=seed)[name] for seed, model in enumerate(models)]
    assert all(F.converged for F in of)
    apart = of[2].log_z - of[0].log_z - of[1].log_z
    # 4.5 standard errors: one false alarm in 150,000 seeds of a method.
    error = 4.5 * math.hypot(*(F.stderr for F in of)) + sum(F.error_bound for F in of)
    assert abs(apart) < error + 1e-9
    assert error < (0.4 if name == "umbrella" else 0.1)


def test_importance_sampling_is_not_size_extensive(script):
    """Its weights spread exponentially with N: samples enough for a small model miss F of a large one."""
    copies = script("extensivity")["copies"]
    exact = log_z(copies(1))
    with pytest.warns(vf.free_energy.FreeEnergyWarning):
        found = vf.free_energy.importance(copies(100), n_samples=10_000, rng=0)
    assert found.log_z / 100 - exact < -0.1


def test_nishimori_line_energy_exactly():
    """[⟨E⟩] = -N_b tanh β where tanh β = 1 - 2 p: all signs of the 9 bonds of a prism, all states."""
    p = 0.2
    beta = math.atanh(1 - 2 * p)
    ends = [(0, 1), (2, 3), (4, 5), (0, 2), (2, 4), (1, 3), (3, 5), (4, 0), (5, 1)]
    s = all_spins(6).astype(float)
    products = np.stack([s[:, i] * s[:, j] for i, j in ends], axis=1)
    energy, m2, q2 = 0.0, 0.0, 0.0
    for number in range(1 << len(ends)):
        signs = 1 - 2 * (number >> np.arange(len(ends)) & 1)
        share = np.prod(np.where(signs < 0, p, 1 - p))
        e = -products @ signs
        weight = np.exp(-beta * (e - e.min()))
        weight /= weight.sum()
        energy += share * float(weight @ e)
        pairs = (s * weight[:, None]).T @ s
        m2 += share * float(pairs.mean())
        q2 += share * float(np.square(pairs).mean())
    assert energy == pytest.approx(-len(ends) * math.tanh(beta), rel=1e-12)
    assert m2 == pytest.approx(q2, rel=1e-12)  # Bayes-optimal: magnetization and overlap are alike


def test_nishimori_line_by_sampling(script):
    """On a 2-D lattice, by Gibbs chains, within four standard errors of the average over bonds."""
    names = script("nishimori")
    found = names["compute"](small=True)
    for p, (mean, stderr) in zip(found["along"], found["on_line"], strict=True):
        assert abs(mean[0] + found["n_bonds"] * (1 - 2 * p)) < 4 * stderr[0]
        assert abs(mean[3]) < 4 * stderr[3]  # ⟨m²⟩ - ⟨q²⟩
    hot, _, cold = found["off_line"][:, 0, 3]
    assert hot > 0 > cold  # off the line they differ


def test_five_expressions_of_one_free_energy(script):
    found = script("expressions")["compute"](small=True)
    for name in ("density of states", "integral", "trace"):
        assert np.allclose(found[name], found["sum"], rtol=0, atol=1e-10), name
    mean, stderr = found["mean"].T
    assert (np.abs(mean - found["sum"]) < 4.5 * stderr).all()
    s = all_spins(12)
    energy = -((s.sum(axis=1) ** 2 - 12) / 24) - 0.25 * s.sum(axis=1)
    by_hand = [float(np.logaddexp.reduce(-beta * energy)) for beta in found["betas"]]
    assert np.allclose(found["sum"], by_hand, rtol=1e-13)
