"""Mean field and TAP with clamped units: the equations of the model that is left, row by row."""

from __future__ import annotations

import numpy as np
import pytest

import vfe_fast as vf
from conftest import random_rbm
from vfe_fast.free_energy import MeanFieldWarning, clamped_tap, tap

MASK = np.array([True, False, True, True, False, False, True])


@pytest.fixture
def states():
    return np.random.default_rng(2).integers(0, 2, (6, 7), dtype=np.uint8)


def left_over(rbm, v, mask):
    """The machine of the units that are not clamped, and the energy of those that are."""
    w, a, b = rbm.parameters
    return vf.BernoulliRBM(w[~mask], a[~mask], b + v[mask] @ w[mask]), -float(v[mask] @ a[mask])


@pytest.mark.parametrize("order", [1, 2, 3])
def test_each_row_is_its_own_model(states, order):
    """Against `tap` of the machine that is left, for a mask a row."""
    rbm, beta = random_rbm(7, 5, scale=0.4), 1.2
    masks = np.array([np.roll(MASK, k) for k in range(6)])
    found = clamped_tap(rbm, states, masks, order=order, beta=beta)
    assert found.converged.all()
    for row, (v, mask) in enumerate(zip(states, masks, strict=True)):
        model, energy = left_over(rbm, v, mask)
        alone = tap(model, order=order, beta=beta, n_starts=1, rng=0)
        assert found.value[row] == pytest.approx(alone.value + energy, abs=1e-9)
        assert np.allclose(found.rows["visible"][row, ~mask], alone.details["visible"], atol=1e-7)
        assert np.allclose(found.rows["hidden"][row], alone.details["hidden"], atol=1e-7)
        assert np.array_equal(found.rows["visible"][row, mask], v[mask])


@pytest.mark.parametrize("order", [1, 2, 3])
def test_all_visible_units_clamped_is_the_clamped_free_energy(states, order):
    rbm = random_rbm(7, 5, scale=3.0)
    found = clamped_tap(rbm, states, order=order, beta=0.7)
    softplus = np.logaddexp(0, 0.7 * (rbm.hidden_bias + states @ rbm.weights))
    assert np.allclose(found.value, -(states @ rbm.visible_bias) - softplus.sum(axis=1) / 0.7, rtol=1e-12)
    assert np.allclose(found.rows["hidden"], rbm.mean_hidden(states, beta=0.7), rtol=1e-9)


def test_orders_improve_on_the_sum_over_states(states):
    rbm = random_rbm(7, 5, scale=0.2)
    exact = np.array([
        vf.free_energy.exact((left := left_over(rbm, v, MASK))[0]).value + left[1] for v in states
    ])  # fmt: skip
    off = [np.abs(clamped_tap(rbm, states, MASK, order=order).value - exact).max() for order in (1, 2)]
    assert off[1] < off[0] / 20
    assert (clamped_tap(rbm, states, MASK, order=1).value >= exact).all()


def test_spins_and_ising_models_agree():
    draw = np.random.default_rng(3)
    w, a, b = 0.3 * draw.normal(size=(5, 4)), draw.normal(size=5), draw.normal(size=4)
    spins = draw.choice([-1, 1], (3, 9)).astype(np.int8)
    couplings = np.zeros((9, 9))
    couplings[:5, 5:] = w
    ising = vf.Ising(couplings + couplings.T, np.concatenate([a, b]))
    mask = np.array([1, 0, 1, 0, 0])
    one = clamped_tap(vf.SpinRBM(w, a, b), spins[:, :5], mask)
    other = clamped_tap(ising, spins, np.append(mask, [0, 0, 0, 0]))
    assert np.allclose(one.value, other.value, atol=1e-8)
    assert np.allclose(np.hstack([one.rows["visible"], one.rows["hidden"]]), other.rows["spins"], atol=1e-6)


def test_rows_that_do_not_hold_are_named():
    strong = random_rbm(7, 5, scale=6.0)
    with pytest.warns(MeanFieldWarning, match="clamped_tap: "):
        found = clamped_tap(strong, np.zeros((4, 7), np.uint8), MASK)
    assert not found.converged.all()
    assert found.problem
    assert [F.problem for F in found] == ["" if good else found.problem for good in found.converged]


def test_each_row_is_a_free_energy(states):
    found = clamped_tap(random_rbm(7, 5, scale=0.4), states, MASK, beta=1.2)
    assert len(found) == 6
    for k, F in enumerate(found):
        assert isinstance(F, vf.free_energy.FreeEnergy)
        assert (F.value, F.log_z, F.kind, F.beta) == (found.value[k], found.log_z[k], "asymptotic", 1.2)
        assert (F.stderr, F.ess, F.converged, F.problem) == (0.0, np.inf, True, "")
        assert np.array_equal(F.details["hidden"], found.rows["hidden"][k])
        assert F.value == pytest.approx(-F.log_z / 1.2)
    assert found[-1].log_z == found.log_z[5]
    assert [F.log_z for F in found[1:3]] == list(found.log_z[1:3])
    with pytest.raises(IndexError):
        found[6]


@pytest.mark.parametrize("order", [2, 3])
def test_rows_below_their_bound_have_not_converged(states, order):
    """Where units freeze Plefka's condition holds, whatever the energy of the state."""
    frozen = random_rbm(7, 5, scale=40.0)
    with pytest.warns(MeanFieldWarning, match="[1-9] below the bound of order 1"):
        found = clamped_tap(frozen, states, MASK, order=order)
    bound = clamped_tap(frozen, states, MASK, order=1).log_z
    assert not found.converged[found.log_z < bound - 1e-6].any()
    assert (found.log_z < bound - 1e-6)[found.rows["plefka"] < 1].any()


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ({"model": 1}, TypeError, "model"),
        ({"states": np.full((2, 7), 2)}, ValueError, "states"),
        ({"states": np.zeros((2, 6), int)}, ValueError, "states"),
        ({"clamped": np.ones(6, bool)}, ValueError, "clamped"),
        ({"clamped": 0.5}, TypeError, "clamped"),
        ({"order": 4}, ValueError, "order"),
        ({"beta": 0.0}, ValueError, "beta"),
        ({"damping": 1.0}, ValueError, "damping"),
    ],
)
def test_bad_input(states, bad, error, message):
    with pytest.raises(error, match=message):
        clamped_tap(**{"model": random_rbm(7, 5), "states": states, **bad})
