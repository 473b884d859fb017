"""Stochastic Lanczos quadrature: against diagonalization, free fermions, and its own standard error."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
from scipy import sparse

import vfe_fast as vf
from vfe_fast.free_energy import TraceWarning, trace


def chain(n, seed=0, scale=1.0):
    draw = np.random.default_rng(seed)
    upper = np.triu(scale * draw.normal(size=(n, n)) / math.sqrt(n), 1)
    ising = vf.Ising(upper + upper.T, 0.5 * draw.normal(size=n))
    return vf.TransverseFieldIsing(ising, draw.uniform(0.2, 1.5, n))


def ring(n, field):
    couplings = np.zeros((n, n))
    for i in range(n):
        couplings[i, (i + 1) % n] = couplings[(i + 1) % n, i] = 1.0
    return vf.TransverseFieldIsing(vf.Ising(couplings), field)


def free_fermions(n, field, beta):
    """ln Z of a ring of J = 1: Jordan and Wigner, both parities (P. Pfeuty, Ann. Phys. 57 (1970) 79)."""

    def log_products(momenta):
        e = 2 * np.sqrt(1 + field**2 - 2 * field * np.cos(momenta))
        e = np.where(np.isclose(momenta, 0), 2 * (field - 1), e)
        half = beta * e / 2
        sign = np.prod(np.sign(half))
        even = np.logaddexp(half, -half).sum()
        odd = (np.abs(half) + np.log(-np.expm1(-2 * np.abs(half)) + 1e-300)).sum()
        return even, odd, sign

    k = 2 * np.pi * np.arange(n) / n
    c_anti, s_anti, sign_anti = log_products(k + np.pi / n)
    c, s, sign = log_products(k)
    top = max(c_anti, c)
    total = np.exp(c_anti - top) + sign_anti * np.exp(s_anti - top) + np.exp(c - top) - sign * np.exp(s - top)
    return top + math.log(total / 2)


def pauli(site, matrix, n):
    return functools.reduce(np.kron, [matrix if k == site else np.eye(2) for k in reversed(range(n))])


def test_the_model_is_its_matrix():
    H = chain(5)
    x, z = np.array([[0, 1], [1, 0]]), np.diag([-1.0, 1.0])  # bit 0 is -1
    dense = np.zeros((32, 32))
    for i in range(5):
        dense -= H.transverse[i] * pauli(i, x, 5) + H.ising.fields[i] * pauli(i, z, 5)
        for j in range(i):
            dense -= H.ising.couplings[i, j] * pauli(i, z, 5) @ pauli(j, z, 5)
    assert np.allclose(H.matrix(), dense, atol=1e-13)
    vector = np.random.default_rng(1).normal(size=32)
    assert np.allclose(H @ vector, dense @ vector, atol=1e-13)


@pytest.mark.parametrize("beta", [0.1, 1.0, 5.0, 200.0])
@pytest.mark.parametrize("kind", ["model", "sparse", "function", "complex"])
def test_against_diagonalization(kind, beta):
    """Within 4.5 standard errors: 16 cases, one false alarm in 9,000 sets of seeds."""
    H = chain(7, seed=3)
    dense = H.matrix()
    if kind == "complex":
        draw = np.random.default_rng(2)
        noise = draw.normal(size=dense.shape) + 1j * draw.normal(size=dense.shape)
        dense = dense + 0.05 * (noise + noise.conj().T)
    how = {
        "model": lambda: trace(H, beta=beta, rng=1),
        "sparse": lambda: trace(sparse.csr_array(dense), beta=beta, rng=2),
        "function": lambda: trace(lambda x: dense @ x, beta=beta, n_states=128, rng=3),
        "complex": lambda: trace(sparse.csr_array(dense), beta=beta, rng=4),
    }
    F, exact = how[kind](), trace(dense, beta=beta)
    assert F.kind == "consistent"
    assert F.converged
    assert F.stderr > 0
    assert abs(F.log_z - exact.log_z) < 4.5 * F.stderr
    assert F.details["lowest_energy"] == pytest.approx(exact.details["energies"][0], abs=1e-8)


def test_infinite_temperature():
    F = trace(chain(6), beta=0.0)
    assert F.log_z == pytest.approx(6 * math.log(2), abs=1e-12)
    assert F.value == -math.inf


def test_standard_errors_cover():
    """Of 300 Hamiltonians, one-sigma intervals hold 68 ± 7 %: one false alarm in 100 sets of seeds."""
    inside = 0
    for k in range(300):
        H = chain(5, seed=k, scale=0.7)
        F = trace(H, beta=1.2, n_probes=20, order=20, rng=k)
        inside += abs(F.log_z - trace(H.matrix(), beta=1.2).log_z) < F.stderr
    assert abs(inside / 300 - 0.683) < 2.6 * math.sqrt(0.683 * 0.317 / 300)


@pytest.mark.parametrize(("n", "field", "beta"), [(4, 0.5, 1.0), (6, 1.0, 2.0), (6, 1.7, 0.4), (8, 0.3, 3.0)])
def test_free_fermions_of_small_rings(n, field, beta):
    exact = trace(ring(n, field).matrix(), beta=beta).log_z
    assert free_fermions(n, field, beta) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize(
    ("n", "field", "beta"), [(10, 0.5, 1.0), (12, 1.0, 2.0), (14, 1.5, 0.5), (16, 1.0, 1.0)]
)
def test_rings_of_up_to_sixteen_spins(n, field, beta):
    F = trace(ring(n, field), beta=beta, n_probes=12, order=40, rng=n)
    assert F.converged
    assert F.stderr < 0.35
    assert abs(F.log_z - free_fermions(n, field, beta)) < 4.5 * F.stderr


def test_too_few_steps_are_reported():
    with pytest.warns(TraceWarning, match="raise order"):
        F = trace(ring(10, 1.0), beta=8.0, order=4, rng=1)
    assert not F.converged
    assert F.problem


def test_same_seed_same_value():
    assert trace(chain(5), rng=7, n_probes=3).log_z == trace(chain(5), rng=7, n_probes=3).log_z


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: trace(lambda x: x), ValueError, "n_states"),
        (lambda: trace(np.eye(3), n_states=3), ValueError, "n_states"),
        (lambda: trace(sparse.csr_array(np.ones((2, 3)))), ValueError, "hamiltonian"),
        (lambda: trace(lambda x: x[:1], n_states=4), ValueError, "hamiltonian"),
        (lambda: trace(lambda x: x * np.nan, n_states=4), ValueError, "hamiltonian"),
        (lambda: trace(chain(3), n_probes=1), ValueError, "n_probes"),
        (lambda: trace(chain(3), order=2), ValueError, "order"),
        (lambda: vf.TransverseFieldIsing(3, 1.0), TypeError, "ising"),
        (lambda: vf.TransverseFieldIsing(vf.Ising(np.zeros((3, 3))), [1.0, 2.0]), ValueError, "transverse"),
        (lambda: vf.TransverseFieldIsing(vf.Ising(np.zeros((3, 3))), np.nan), ValueError, "transverse"),
        (lambda: chain(3) @ np.ones(7), ValueError, "x"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
