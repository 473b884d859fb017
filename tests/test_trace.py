"""ln Tr e^(-beta H) of quantum systems by diagonalization."""

import json
import math
import re

import numpy as np
import pytest

import vfe_fast as vf

_X, _Y, _Z = np.array([[0, 1], [1, 0]]), np.array([[0, -1j], [1j, 0]]), np.diag([1, -1])


def _on(site, matrix, n):
    return np.kron(np.kron(np.eye(2**site), matrix), np.eye(2 ** (n - 1 - site)))


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.7, 40.0])
def test_free_spins_in_any_direction(beta):
    fields = np.array([[0.3, -0.4, 1.2], [-0.7, 0.1, 0.2], [0.0, 0.9, -0.5]])
    h = -sum(b * _on(i, m, 3) for i, row in enumerate(fields) for b, m in zip(row, (_X, _Y, _Z), strict=True))
    f = vf.free_energy.trace(h, beta=beta)
    expected = sum(np.logaddexp(beta * r, -beta * r) for r in np.linalg.norm(fields, axis=1))
    assert f.log_z == pytest.approx(expected, rel=1e-13)
    assert f.value == (pytest.approx(-expected / beta, rel=1e-13) if beta else -math.inf)
    assert (f.kind, f.stderr, f.converged, f.beta) == ("exact", 0.0, True, beta)


def test_power_series_of_an_asymmetric_hamiltonian():
    rng = np.random.default_rng(3)
    a = rng.normal(size=(7, 7)) + 1j * rng.normal(size=(7, 7))
    h, beta = (a + a.conj().T) / 4, 0.7
    term, total = np.eye(7, dtype=complex), 0.0
    for k in range(1, 60):
        total += np.trace(term).real
        term = term @ (-beta * h) / k
    assert vf.free_energy.trace(h, beta=beta).log_z == pytest.approx(math.log(total), abs=1e-12)


def test_a_diagonal_hamiltonian_is_the_classical_model():
    rng = np.random.default_rng(5)
    j = np.triu(rng.normal(size=(5, 5)), 1)
    model = vf.Ising(j + j.T, rng.normal(size=5))
    states = 1.0 - 2.0 * ((np.arange(32)[:, None] >> np.arange(5)) & 1)
    energies = -0.5 * np.einsum("ki,ij,kj->k", states, j + j.T, states) - states @ model.fields
    ours = vf.free_energy.trace(np.diag(energies), beta=1.3).log_z
    assert ours == pytest.approx(vf.free_energy.exact(model, beta=1.3).log_z, abs=1e-12)


def _bonds(n, matrix):
    return sum(_on(i, matrix, n) @ _on((i + 1) % n, matrix, n) for i in range(n))


def test_transverse_field_rings_by_free_fermions(reference_data):
    oracles = json.loads((reference_data / "oracles" / "oracles_dev.json").read_text())
    (rings,) = (value for name, value in oracles.items() if name.startswith("tfim_pbc_logZ"))
    checked = 0
    for name, log_z in rings.items():
        n, field, beta = map(float, re.fullmatch(r"N=(\d+),h=([\d.]+),beta=([\d.]+)", name).groups())
        if n > 8:
            continue
        n = int(n)
        h = -_bonds(n, _Z) - field * sum(_on(i, _X, n) for i in range(n))
        assert vf.free_energy.trace(h, beta=beta).log_z == pytest.approx(float(log_z), rel=1e-12)
        checked += 1
    assert checked > 0


@pytest.mark.parametrize("n", [4, 6, 8])
def test_heisenberg_rings(reference_data, n):
    oracles = json.loads((reference_data / "oracles" / "oracles_dev.json").read_text())
    h = sum(_bonds(n, m) for m in (_X, _Y, _Z)) / 4
    energies = vf.free_energy.trace(h).details["energies"]
    assert energies[0] == pytest.approx(float(oracles["heisenberg_pbc_E0"][str(n)]), rel=1e-12)


def test_large_beta_does_not_overflow():
    f = vf.free_energy.trace(np.diag([-1e3, 0.0, 1e3]), beta=1e6)
    assert f.log_z == 1e9
    assert f.value == -1e3


@pytest.mark.parametrize(
    ("h", "error"),
    [
        ([[0.0, 1.0], [2.0, 0.0]], ValueError),
        ([[0.0, 1j], [1j, 0.0]], ValueError),
        ([[math.nan]], ValueError),
        (np.zeros((2, 3)), ValueError),
        (np.zeros((0, 0)), ValueError),
        ("H", TypeError),
    ],
)
def test_bad_hamiltonians(h, error):
    with pytest.raises(error, match="hamiltonian"):
        vf.free_energy.trace(h)


def test_log_z_out_of_range():
    with pytest.raises(ValueError, match="beta"):
        vf.free_energy.trace(np.diag([-1e300, 1.0]), beta=1e20)


def test_bad_beta():
    with pytest.raises(ValueError, match="beta"):
        vf.free_energy.trace(np.eye(2), beta=-1.0)
