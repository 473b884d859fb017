"""Ising models as machines of two layers: law and ln Z; false alarms below 1e-5."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

import vfe_fast as vf
from oracles.ising import all_spins, enumerate_ising, spin_energies
from vfe_fast.free_energy import exact


def asymmetric(n: int, *, bipartite: bool, seed: int = 0, dtype: type = np.float64) -> vf.Ising:
    """Couplings of both signs with some missing, fields that differ; sublattices in no order."""
    rng = np.random.default_rng([seed, n])
    couplings = 0.25 * (rng.normal(size=(n, n)) + 0.2)
    if bipartite:
        sides = rng.permutation(np.arange(n) % 3 > 0)
        couplings[sides[:, None] == sides] = 0
    couplings[0, n - 1] = 0
    couplings = np.triu(couplings, 1)
    fields = 0.25 * (rng.normal(size=n) + 0.5)
    return vf.Ising((couplings + couplings.T).astype(dtype), fields.astype(dtype))


@pytest.mark.parametrize("beta", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("bipartite", [False, True])
def test_log_z(bipartite: bool, beta: float) -> None:
    model = asymmetric(7, bipartite=bipartite)
    layers = model.to_spin_rbm(beta=beta)
    assert layers.bipartite == bipartite or beta == 0
    expected = enumerate_ising(model.couplings, model.fields, beta).log_z
    assert exact(layers.rbm).log_z + layers.constant == pytest.approx(expected, rel=1e-13)
    if bipartite and beta == 1:  # at any temperature
        expected = enumerate_ising(model.couplings, model.fields, 0.3).log_z
        assert exact(layers.rbm, beta=0.3).log_z == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("beta", [0.7, 1.0])
@pytest.mark.parametrize("bipartite", [False, True])
def test_law_of_gibbs_samples(bipartite: bool, beta: float) -> None:
    """Against the probabilities of all 64 states."""
    model, n_chains = asymmetric(6, bipartite=bipartite, seed=3), 40_000
    layers = model.to_spin_rbm(beta=beta)
    start = np.ones((n_chains, model.n_spins), np.int8)
    s = layers.spins(*vf.gibbs(layers.rbm, layers.visible(start), 60, rng=5))
    p = np.exp(-beta * spin_energies(model.couplings, model.fields))
    expected = n_chains * p / p.sum()
    counts = np.bincount((s > 0) @ (1 << np.arange(6)), minlength=64)
    assert expected.min() > 4
    assert np.sum((counts - expected) ** 2 / expected) < stats.chi2.isf(1e-6, 63)


@pytest.mark.parametrize("bipartite", [False, True])
def test_energies_and_the_way_back(bipartite: bool) -> None:
    model = asymmetric(7, bipartite=bipartite)
    layers, s = model.to_spin_rbm(), all_spins(7)
    v = layers.visible(s)
    if bipartite:
        h = s[:, np.argsort(layers.order)[layers.rbm.n_visible :]]
        assert layers.rbm.energy(v, h) == pytest.approx(model.energy(s), abs=1e-12)
        assert np.array_equal(layers.spins(v, h), s)
    else:
        assert np.array_equal(layers.spins(v, np.ones((128, layers.rbm.n_hidden))), s)
        clamped = layers.rbm.free_energy(v) - layers.constant
        assert clamped == pytest.approx(model.energy(s), abs=1e-12)


def test_lattices_with_even_sides_need_no_more_units() -> None:
    lattice = np.arange(24).reshape(4, 6)
    couplings = np.zeros((24, 24))
    for axis in (0, 1):
        for i, j in zip(lattice.ravel(), np.roll(lattice, 1, axis).ravel(), strict=True):
            couplings[i, j] = couplings[j, i] = 1.0
    layers = vf.Ising(couplings).to_spin_rbm()
    assert (layers.rbm.n_visible, layers.rbm.n_hidden, layers.constant) == (12, 12, 0.0)
    assert np.array_equal(np.sort(layers.order), np.arange(24))


@pytest.mark.parametrize("n", [1, 2, 5])
def test_independent_spins(n: int) -> None:
    fields = np.arange(n) - 0.3
    layers = vf.Ising(np.zeros((n, n)), fields).to_spin_rbm()
    expected = np.log(2 * np.cosh(fields)).sum()
    assert exact(layers.rbm).log_z + layers.constant == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("j", [1e-9, 1e-3, 1.0, 300.0, 1e6])
def test_bonds_of_any_size(j: float) -> None:
    """A triangle: ln Z = ln(2 e^3J + 6 e^-J), of either sign."""
    frustrated = exact_of(-j)
    assert exact_of(j) == pytest.approx(3 * j + math.log(2 + 6 * math.exp(-4 * j)), rel=1e-13)
    assert frustrated == pytest.approx(j + math.log(6 + 2 * math.exp(-4 * j)), rel=1e-13)


def exact_of(j: float) -> float:
    layers = vf.Ising(j * (np.ones((3, 3)) - np.eye(3))).to_spin_rbm()
    return exact(layers.rbm).log_z + layers.constant


def test_dtype_and_bad_input() -> None:
    assert asymmetric(5, bipartite=False, dtype=np.float32).to_spin_rbm().rbm.dtype == np.float32
    with pytest.raises(ValueError, match=r"^beta: "):
        asymmetric(5, bipartite=True).to_spin_rbm(beta=-1.0)
