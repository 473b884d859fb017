"""ln Tr e^(-beta H) of quantum systems, by diagonalization and by stochastic Lanczos quadrature."""

import json
import math
import re

import numpy as np
import pytest

import vfe_fast as vf
from oracles.transverse_ring import chain_log_z, ring_log_z
from vfe_fast.free_energy import TraceWarning, trace

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


def test_ground_state_of_an_open_chain(reference_data):
    """Ten spins at the critical field, cold: -ln Z / beta is the published energy."""
    oracles = json.loads((reference_data / "oracles" / "oracles_dev.json").read_text())
    chain = np.diag(np.ones(9), 1)
    model = vf.TransverseFieldIsing(vf.Ising(chain + chain.T), 1.0)
    for F in (trace(model, beta=100.0, rng=0), trace(model.matrix(), beta=100.0)):
        assert F.value == pytest.approx(float(oracles["tfim_obc_N10_h1_E0"]), abs=1e-10)


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
        (lambda x: x, TypeError),
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


def _ring(n, field):
    j = np.roll(np.eye(n), 1, 0)
    return vf.TransverseFieldIsing(vf.Ising(j + j.T), field)


def _asymmetric(n, seed):
    rng = np.random.default_rng(seed)
    j = np.triu(rng.normal(size=(n, n)) / math.sqrt(n), 1)
    return vf.TransverseFieldIsing(vf.Ising(j + j.T, rng.normal(size=n)), rng.normal(size=n))


@pytest.mark.parametrize("n", [1, 2, 5])
def test_transverse_field_ising_is_a_sum_of_kronecker_products(n):
    h = _asymmetric(n, n)
    j, fields = h.ising.parameters
    expected = -sum(fields[i] * _on(i, _Z, n) + h.transverse[i] * _on(i, _X, n) for i in range(n)) - sum(
        j[i, k] * _on(i, _Z, n) @ _on(k, _Z, n) for i in range(n) for k in range(i)
    )
    assert np.allclose(h.matrix(), expected, rtol=0, atol=1e-13)
    x = np.random.default_rng(0).normal(size=(2**n, 3)) + 1j
    assert np.allclose(h @ x, expected @ x, rtol=0, atol=1e-12)
    assert np.allclose(h @ x[:, 1], expected @ x[:, 1], rtol=0, atol=1e-12)


def test_the_oracle_of_rings_against_the_file(reference_data):
    oracles = json.loads((reference_data / "oracles" / "oracles_dev.json").read_text())
    (rings,) = (value for name, value in oracles.items() if name.startswith("tfim_pbc_logZ"))
    for name, log_z in rings.items():
        n, field, beta = map(float, re.fullmatch(r"N=(\d+),h=([\d.]+),beta=([\d.]+)", name).groups())
        assert ring_log_z(int(n), field, beta) == pytest.approx(float(log_z), rel=1e-13)


def _chain(n):
    """Couplings of both signs and transverse fields, no two alike, of spins in a row."""
    rng = np.random.default_rng(n)
    return rng.normal(size=n - 1), np.linspace(0.2, 1.8, n) * rng.choice([-1, 1], n)


@pytest.mark.parametrize("field", [0.6, 1.0, 1.7])
def test_the_oracle_of_rings_against_1024_states(field):
    """Beyond the file, which ends at 8 spins: H by Kronecker products, all its eigenvalues; `trace` of it."""
    h = -_bonds(10, _Z) - field * sum(_on(i, _X, 10) for i in range(10))
    energies = np.linalg.eigvalsh(h)
    for beta in (0.4, 2.0, 15.0):
        expected = np.logaddexp.reduce(-beta * energies)
        assert ring_log_z(10, field, beta) == pytest.approx(expected, rel=1e-12)
    for f in trace(h, beta=[0.4, 2.0, 15.0]):
        assert f.kind == "exact"
        assert f.log_z == pytest.approx(ring_log_z(10, field, f.beta), rel=1e-12)


def test_the_oracle_of_chains_against_1024_states():
    couplings, fields = _chain(10)
    h = -sum(j * _on(i, _Z, 10) @ _on(i + 1, _Z, 10) for i, j in enumerate(couplings))
    h -= sum(g * _on(i, _X, 10) for i, g in enumerate(fields))
    energies = np.linalg.eigvalsh(h)
    for beta in (0.4, 2.0, 15.0):
        expected = np.logaddexp.reduce(-beta * energies)
        assert chain_log_z(couplings, fields, beta) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("field", [0.6, 1.3])
@pytest.mark.parametrize(("n", "n_probes"), [(10, 32), (12, 16), (14, 10), (16, 10)])
def test_rings_up_to_16_spins(n, n_probes, field):
    """Fixed seeds; five standard errors, of a few probes."""
    betas = [0.0, 0.5, 2.0]
    for f in trace(_ring(n, field), beta=betas, n_probes=n_probes, n_deflated=4, rng=n):
        expected = ring_log_z(n, field, f.beta) if f.beta else n * math.log(2)
        assert f.log_z == pytest.approx(expected, abs=5 * f.stderr + 1e-12)
        assert f.stderr < 0.1
        assert (f.kind, f.converged, f.problem) == ("consistent", True, "")


@pytest.mark.parametrize(("n", "n_probes"), [(12, 16), (14, 10), (16, 10)])
def test_chains_up_to_16_spins(n, n_probes):
    """Each spin with a coupling and a field of its own; fixed seeds, five standard errors as above."""
    couplings, fields = _chain(n)
    bonds = np.diag(couplings, 1)
    h = vf.TransverseFieldIsing(vf.Ising(bonds + bonds.T), fields)
    for f in trace(h, beta=[0.5, 2.0], n_probes=n_probes, n_deflated=4, rng=n):
        assert f.log_z == pytest.approx(chain_log_z(couplings, fields, f.beta), abs=5 * f.stderr)
        assert f.stderr < 0.05
        assert f.converged


def test_at_low_temperature_the_low_states_are_all_there_is():
    h = _asymmetric(9, 3)
    exact = trace(h.matrix(), beta=[20.0, 1e6])
    for f, e in zip(trace(h, beta=[20.0, 1e6], rng=1), exact, strict=True):
        assert f.log_z == pytest.approx(e.log_z, rel=1e-12)
        assert f.stderr < 1e-5
    with pytest.warns(TraceWarning, match="n_probes"):
        rough = trace(h, beta=20.0, n_deflated=0, n_probes=8, rng=1)
    assert not rough.converged
    assert abs(rough.log_z - exact[0].log_z) > 0.01


def test_degenerate_low_states_are_all_found():
    f = trace(_ring(8, 0.3), beta=10.0, rng=2)  # two nearly equal ones, 1e-4 apart
    assert f.log_z == pytest.approx(ring_log_z(8, 0.3, 10.0), abs=1e-9)
    low = trace(_ring(8, 0.3).matrix()).details["energies"]
    found = f.details["low_energies"]
    assert found[:2] == pytest.approx(low[:2], abs=1e-10)


def test_one_run_for_several_temperatures_is_what_each_one_gives():
    h = _asymmetric(7, 1)
    several = trace(h, beta=[0.5, 2.0], rng=5, order=16)
    assert several[1].log_z == trace(h, beta=2.0, rng=5, order=16).log_z
    assert trace(h, beta=0.5, rng=6).log_z != trace(h, beta=0.5, rng=5).log_z


def test_too_few_steps():
    h = _ring(10, 1.0)
    with pytest.warns(TraceWarning, match="order"):
        f = trace(h, beta=20.0, order=4, n_deflated=0, rng=0)
    assert not f.converged
    assert "order" in f.problem
    assert f.details["order_bias"] > 0


def test_sparse_matrices_operators_and_callables():
    sparse = pytest.importorskip("scipy.sparse")
    linalg = pytest.importorskip("scipy.sparse.linalg")
    h = _asymmetric(7, 2)
    ours = trace(h, rng=1, order=20).log_z
    matrix = sparse.csr_matrix(h.matrix())
    for other in (matrix, sparse.csr_array(h.matrix()), linalg.aslinearoperator(matrix)):
        assert trace(other, rng=1, order=20).log_z == pytest.approx(ours, abs=1e-10)
    assert trace(lambda x: matrix @ x, n_states=128, rng=1, order=20).log_z == pytest.approx(ours, abs=1e-10)


def test_a_complex_operator():
    rng = np.random.default_rng(4)
    a = rng.normal(size=(200, 200)) + 1j * rng.normal(size=(200, 200))
    h = (a + a.conj().T) / 20
    f, e = trace(lambda x: h @ x, n_states=200, beta=0.7, rng=0), trace(h, beta=0.7)
    assert 0 < f.stderr < 0.05
    assert f.log_z == pytest.approx(e.log_z, abs=4 * f.stderr)


@pytest.mark.parametrize("n", [1, 2, 3, 9])
def test_small_spaces(n):
    h = np.diag(np.arange(n) - 0.3)
    f = trace(lambda x: h @ x, n_states=n, beta=1.5, rng=0)
    assert f.log_z == pytest.approx(trace(h, beta=1.5).log_z, abs=1e-12)  # each probe sees a diagonal H whole


def test_nothing_but_zero():
    f = trace(lambda x: 0 * x, n_states=32, rng=0)
    assert f.log_z == pytest.approx(math.log(32), abs=4 * f.stderr)
    f = trace(lambda x: 0 * x, n_states=32, n_deflated=0, rng=0)
    assert f.log_z == pytest.approx(math.log(32), abs=1e-13)


@pytest.mark.parametrize(
    ("operator", "message"),
    [
        (lambda x: np.roll(x, 1), "Hermitian"),
        (lambda x: 1j * x, "Hermitian"),
        (lambda x: x * math.nan, "finite"),
        (lambda x: x[:-1], "product of 32"),
    ],
)
def test_bad_operators(operator, message):
    with pytest.raises(ValueError, match=f"hamiltonian.*{message}"):
        trace(operator, n_states=32)


def test_bad_arguments_of_the_stochastic_trace():
    for arguments, name in (
        ({"n_probes": 1}, "n_probes"),
        ({"order": 3}, "order"),
        ({"n_deflated": -1}, "n_deflated"),
        ({"n_states": 4}, "n_states"),
        ({"beta": [1.0, -1.0]}, "beta"),
    ):
        with pytest.raises(ValueError, match=name):
            trace(_ring(4, 1.0), **arguments)
    with pytest.raises(ValueError, match="n_states"):
        trace(np.eye(2), n_states=2)
    with pytest.raises(ValueError, match="hamiltonian"):
        trace(lambda x: 1e300 * x, n_states=32, beta=1e20)
    for transverse, error in ((np.ones(3), ValueError), ([math.nan] * 4, ValueError), ("x", TypeError)):
        with pytest.raises(error, match="transverse"):
            vf.TransverseFieldIsing(vf.Ising(np.zeros((4, 4))), transverse)
    with pytest.raises(TypeError, match="ising"):
        vf.TransverseFieldIsing(np.zeros((4, 4)), 1.0)
    with pytest.raises(ValueError, match="matrix"):
        _ring(15, 1.0).matrix()


@pytest.mark.parametrize("beta", [8.0, [8.0]])
def test_a_warning_is_about_the_line_that_asked(beta):
    couplings = np.triu(2 * np.random.default_rng(0).normal(size=(8, 8)), 1)
    ising = vf.Ising(couplings + couplings.T)
    h = vf.TransverseFieldIsing(ising, 0.7)
    with pytest.warns(TraceWarning) as found:
        trace(h, beta=beta, n_probes=2, order=4, n_deflated=0, rng=0)
    assert [w.filename for w in found] == [__file__]


def test_few_probes_have_not_converged():
    """Nine of them show too little of their spread, ten enough; at beta = 0 none are needed."""
    bonds = np.triu(np.random.default_rng(3).normal(size=(8, 8)), 1)
    spins = vf.TransverseFieldIsing(vf.Ising(bonds + bonds.T, np.linspace(-1, 1, 8)), 0.7)
    with pytest.warns(TraceWarning, match="9 probes show little"):
        assert not trace(spins, n_probes=9, rng=1).converged
    assert trace(spins, n_probes=10, rng=1).converged
    assert trace(spins, beta=0.0, n_probes=2, rng=1).converged
