"""TAP free energies: stationary points of the expansion as written out here, term by term."""

from __future__ import annotations

import itertools
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vfe_fast as vf
from conftest import random_parameters
from test_mean_field import KINDS, means_of, random_model
from vfe_fast import _core
from vfe_fast.free_energy import MeanFieldWarning, clamped_tap, exact, mean_field, tap
from vfe_fast.statistics import SeriesWarning
from vfe_fast.training import METHODS, ThoulessAndersonPalmer
from vfe_fast.training.gradients import SamplerSettings

ORDERS = (1, 2, 3)


def couplings_of(model: Any) -> tuple[np.ndarray, np.ndarray, int]:
    """J and f of all units, and the lower value of one."""
    if isinstance(model, vf.Ising):
        return *model.parameters, -1
    weights, *biases = model.parameters
    n, m = weights.shape
    joined = np.zeros((n + m, n + m))
    joined[:n, n:], joined[n:, :n] = weights, weights.T
    return joined, np.concatenate(biases), 0 if isinstance(model, vf.BernoulliRBM) else -1


def expansion(model: Any, means: np.ndarray, order: int, beta: float) -> float:
    """-beta F at given means, by loops over pairs and triples; cumulants from the two values of a unit."""
    couplings, fields, low = couplings_of(model)
    n = len(fields)
    up = [(m - low) / (1 - low) for m in means]
    second = [u * (1 - m) ** 2 + (1 - u) * (low - m) ** 2 for u, m in zip(up, means, strict=True)]
    third = [u * (1 - m) ** 3 + (1 - u) * (low - m) ** 3 for u, m in zip(up, means, strict=True)]
    total = sum(-u * math.log(u) - (1 - u) * math.log(1 - u) for u in up) + beta * float(fields @ means)
    for i, j in itertools.combinations(range(n), 2):
        x = beta * couplings[i, j]
        total += x * means[i] * means[j]
        if order >= 2:
            total += x**2 / 2 * second[i] * second[j]
        if order >= 3:
            total += x**3 / 6 * third[i] * third[j]
    if order >= 3:
        for i, j, k in itertools.combinations(range(n), 3):
            ring = beta**3 * couplings[i, j] * couplings[j, k] * couplings[k, i]
            total += ring * second[i] * second[j] * second[k]
    return total


def quietly(model: Any, **options: Any) -> vf.FreeEnergy:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MeanFieldWarning)
        return tap(model, **options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("beta", [1.0, 0.6])
def test_stationary_point_of_its_own_free_energy(kind: str, order: int, beta: float) -> None:
    for seed in range(8):
        model = random_model(kind, seed, 0.35)
        found = quietly(model, order=order, beta=beta, rng=seed, n_starts=3)
        assert found.details["gradient"] <= 1e-9
        means = means_of(found)
        assert found.log_z == pytest.approx(expansion(model, means, order, beta), rel=1e-12, abs=1e-12)
        for unit in range(len(means)):
            step = np.zeros(len(means))
            step[unit] = 1e-4
            up, down = (expansion(model, means + s, order, beta) for s in (step, -step))
            assert abs(up - down) / 2e-4 < 2e-6, (seed, unit)


@pytest.mark.parametrize("kind", KINDS)
def test_order_1_is_mean_field(kind: str) -> None:
    for seed in range(6):
        model = random_model(kind, seed, 0.8)
        first, bound = tap(model, order=1, beta=1.2, rng=seed), mean_field(model, beta=1.2, rng=seed)
        assert first.kind == "upper_bound"
        assert first.value == bound.value
        assert np.array_equal(means_of(first), means_of(bound))
        assert tap(model, order=2, beta=0.3, rng=seed).kind == "asymptotic"


@pytest.mark.parametrize("kind", KINDS)
def test_error_falls_as_the_power_that_is_left_out(kind: str) -> None:
    """Halving all couplings divides the error of order n by 2^(n+1), about."""
    for seed in (1, 3, 5):
        model = random_model(kind, seed, 1.0)
        first, *biases = model.parameters
        for order in ORDERS:
            errors = []
            for size in (0.016, 0.008):
                weak = type(model)(size * first, *biases)
                found = tap(weak, order=order, rng=0, n_starts=1, tolerance=1e-12)
                errors.append(abs(found.log_z - exact(weak).log_z))
            assert math.log2(errors[0] / errors[1]) == pytest.approx(order + 1, abs=0.5), (
                seed,
                order,
                errors,
            )


def test_two_spins_by_hand() -> None:
    """Without fields m = 0 and -beta F = 2 ln 2 + x²/2; the exact ln cosh x = x²/2 - x⁴/12."""
    x = 0.3
    pair = vf.Ising(np.array([[0.0, x], [x, 0.0]]))
    for order in (2, 3):
        assert tap(pair, order=order, rng=0).log_z == pytest.approx(2 * math.log(2) + x**2 / 2, rel=1e-12)
    ring = vf.Ising(x * (np.ones((3, 3)) - np.eye(3)))
    assert tap(ring, order=3, rng=0).log_z == pytest.approx(3 * math.log(2) + 3 * x**2 / 2 + x**3, rel=1e-12)


@pytest.mark.parametrize("order", ORDERS)
def test_units_read_otherwise_give_the_same(order: int) -> None:
    """An RBM in units 0/1, in units ±1, and as an Ising model of all its units."""
    for seed in range(4):
        spins = vf.SpinRBM(*random_parameters(4, 3, scale=0.2, seed=seed))
        bits, constant = spins.to_bernoulli()
        couplings, fields, _ = couplings_of(spins)
        ising = vf.Ising(couplings, fields)
        found = [tap(m, order=order, beta=0.8, rng=1) for m in (spins, bits, ising)]
        assert found[1].value + constant == pytest.approx(found[0].value, rel=1e-11)
        assert found[2].value == pytest.approx(found[0].value, rel=1e-11)
        np.testing.assert_allclose(2 * means_of(found[1]) - 1, means_of(found[0]), atol=1e-8)
        np.testing.assert_allclose(means_of(found[2]), means_of(found[0]), atol=1e-8)


@pytest.mark.parametrize("kind", ["bits", "spins"])
@pytest.mark.parametrize("order", ORDERS)
def test_pairs_are_derivatives_by_the_weights(kind: str, order: int) -> None:
    beta, step = 0.8, 1e-4
    model = random_model(kind, 4, 0.4)
    weights, *biases = model.parameters
    pairs = tap(model, order=order, beta=beta, rng=0).details["visible_hidden"]
    for i, j in itertools.product(range(2), range(2)):
        change = np.zeros_like(weights)
        change[i, j] = step
        up, down = (
            tap(type(model)(weights + s, *biases), order=order, beta=beta, rng=0, n_starts=1).value
            for s in (change, -change)
        )
        assert -(up - down) / (2 * step) == pytest.approx(pairs[i, j], abs=1e-6)


@pytest.mark.parametrize("order", [2, 3])
def test_better_than_mean_field_where_coupling_is_weak(order: int) -> None:
    for kind, seed in itertools.product(KINDS, range(8)):
        model = random_model(kind, seed, 0.25)
        value = exact(model).value
        first, higher = mean_field(model, rng=0), tap(model, order=order, rng=0)
        assert higher.converged
        assert abs(higher.value - value) < 0.5 * abs(first.value - value)


def glass(n: int, seed: int) -> vf.Ising:
    """Sherrington and Kirkpatrick's model in weak random fields; its transition is at beta = 1."""
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.normal(size=(n, n)), 1) / math.sqrt(n)
    return vf.Ising(upper + upper.T, 0.05 * rng.normal(size=n))


def test_spin_glass_at_high_temperature() -> None:
    model = glass(60, 0)
    found = tap(model, beta=0.5, rng=0, n_starts=3)
    assert found.converged
    assert found.details["plefka"] < 0.5
    assert found.log_z / 60 == pytest.approx(math.log(2) + 0.25**2, abs=0.02)


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("beta", [1.3, 3.0])
def test_spin_glass_phase_is_reported(order: int, beta: float) -> None:
    with pytest.warns(MeanFieldWarning, match=r"^tap: (not converged after|beyond Plefka's condition)"):
        found = tap(glass(16, 1), order=order, beta=beta, rng=0, n_starts=2, max_sweeps=60)
    assert not found.converged
    assert found.details["problem"]
    assert "not converged" in str(found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", [2, 3])
def test_no_result_below_the_bound_has_converged(kind: str, order: int) -> None:
    """Frozen units have no variance, so Plefka's condition holds at states of any energy."""
    n_below = 0
    for seed in range(12):
        model = random_model("spins" if kind == "bits" else kind, seed, 4.0)
        model = model.to_bernoulli()[0] if kind == "bits" else model
        bound = mean_field(model, beta=1.3, rng=seed).log_z
        found = quietly(model, order=order, beta=1.3, rng=seed)
        if found.log_z < bound - 1e-8 * abs(bound):
            n_below += "below the bound" in found.problem
            assert not found.converged
    assert n_below > 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", [2, 3])
def test_weak_couplings_are_not_below_the_bound(kind: str, order: int) -> None:
    """By rounding they might be, were nothing left for it."""
    for seed, scale in itertools.product(range(6), (0.0, 1e-9, 1e-4, 0.1)):
        model = random_model(kind, seed, 1.0)
        first, *biases = model.parameters
        assert tap(type(model)(scale * first, *biases), order=order, rng=seed).converged


def test_plefka_eigenvalue() -> None:
    for kind in KINDS:
        model = random_model(kind, 5, 0.5)
        found = quietly(model, beta=1.1, rng=0)
        couplings, _, low = couplings_of(model)
        up = (means_of(found) - low) / (1 - low)
        deviation = (1 - low) * np.sqrt(up * (1 - up))
        matrix = (1.1 * couplings) ** 2 * np.outer(deviation, deviation)
        assert found.details["plefka"] == pytest.approx(np.linalg.eigvalsh(matrix).max(), rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_bits(kind: str) -> None:
    model = random_model(kind, 5, 0.4)
    found = [tap(model, order=3, rng=3, num_threads=k) for k in (1, 2)]
    assert found[0].value == found[1].value
    assert np.array_equal(means_of(found[0]), means_of(found[1]))


def test_beta_zero_and_no_weights() -> None:
    for kind in KINDS:
        model = random_model(kind, 4, 1.0)
        assert tap(model, beta=0.0, rng=0).log_z == pytest.approx(exact(model, beta=0.0).log_z, rel=1e-13)
        first, *biases = model.parameters
        free = type(model)(np.zeros_like(first), *biases)
        for order in ORDERS:
            assert tap(free, order=order, rng=0).value == pytest.approx(exact(free).value, rel=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": 0}, "order"),
        ({"order": 4}, "order"),
        ({"damping": 1.0}, "damping"),
        ({"damping": -0.1}, "damping"),
    ],
)
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        tap(random_model("bits", 3, 1.0), **options)


def test_weights_whose_powers_overflow() -> None:
    for size in (1e200, 1e49):
        rbm = vf.BernoulliRBM(np.full((2, 2), size), np.full(2, -size), np.full(2, -size))
        with pytest.raises(ValueError, match=r"^model: expected beta \|J\| <= "):
            tap(rbm)
        with pytest.raises(ValueError, match=r"^model: expected beta \|J\| <= "):
            clamped_tap(rbm, np.zeros((1, 2), np.uint8), [True, False])
    rbm = vf.BernoulliRBM(np.full((2, 2), 1e200), np.zeros(2), np.zeros(2))
    assert mean_field(rbm, rng=0).value == pytest.approx(-4e200)
    assert tap(rbm, order=1, rng=0).details["plefka"] == math.inf


def test_what_one_update_of_the_texts_author_gives(reference_data: Path) -> None:
    """Numbers that C. Martin's EMF-RBM gives after one minibatch of digits (shared/data/README.md)."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(reference_data / "emf_rbm" / "xdigits.h5") as file:
        digits = np.array(file["X"])
    p = np.maximum(digits.mean(axis=0), 1e-8)
    rbm = vf.BernoulliRBM(np.zeros((64, 64)), np.log(p / (1 - p)), np.zeros(64))
    batch = _core.pack_states(digits[:100], 64, "data")
    gradient = ThoulessAndersonPalmer(rbm, SamplerSettings(n_steps=3)).contrast(batch, 0).gradient
    assert 100 * np.linalg.norm(gradient.visible_hidden) == pytest.approx(152.57651136882203, rel=1e-13)
    vf.train(
        rbm, digits[:100], method="tap", n_gibbs_steps=3, n_epochs=1, learning_rate=0.005, momentum=0.5,
        centered=False, rng=0,
    )  # fmt: skip
    assert np.linalg.norm(rbm.weights) == pytest.approx(0.007628825568441182, rel=1e-12)
    assert np.linalg.norm(rbm.visible_bias) == pytest.approx(38.97452180357592, rel=1e-14)
    mean = ThoulessAndersonPalmer(rbm, SamplerSettings(n_steps=3)).means(batch).mean
    m = np.clip(mean, 1e-8, 1 - 1e-8)  # as the author does
    v, h = m[:, :64], m[:, 64:]
    entropy = -(m * np.log(m) + (1 - m) * np.log(1 - m)).sum(axis=1)
    naive = -v @ rbm.visible_bias - h @ rbm.hidden_bias - np.einsum("si,ij,sj->s", v, rbm.weights, h)
    assert entropy.mean() == pytest.approx(68.52758766764, rel=1e-12)
    assert naive.mean() == pytest.approx(-48.5436547091488, rel=1e-12)


@pytest.mark.parametrize("order", ORDERS)
def test_many_sweeps_of_training_reach_the_same_means(order: int) -> None:
    rbm = random_model("bits", 4, 0.4)
    batch = _core.pack_states(
        np.random.default_rng(0).integers(0, 2, (5, rbm.n_visible)), rbm.n_visible, "data"
    )
    method = ThoulessAndersonPalmer(rbm, SamplerSettings(n_steps=200), order=order)
    found = tap(rbm, order=order, rng=0)
    np.testing.assert_allclose(method.means(batch).mean, np.tile(means_of(found), (5, 1)), atol=1e-8)
    contrast = method.contrast(batch, 0)
    np.testing.assert_allclose(contrast.model_visible, found.details["visible"], atol=1e-8)
    np.testing.assert_allclose(contrast.model_hidden, found.details["hidden"], atol=1e-8)
    data = METHODS["exact"](rbm, SamplerSettings()).contrast(batch, 0)
    model = data.pairs - contrast.pairs + exact(rbm, moments=True).moments.visible_hidden
    np.testing.assert_allclose(model, found.details["visible_hidden"], atol=1e-8)


def test_sweeps_go_from_the_data_visible_units_first() -> None:
    """One damped sweep of order 3, unit by unit, from the definition."""
    rbm = random_model("bits", 3, 0.7)
    weights, a, b = rbm.parameters
    states = np.random.default_rng(1).integers(0, 2, (3, rbm.n_visible))
    batch = _core.pack_states(states, rbm.n_visible, "data")
    found = ThoulessAndersonPalmer(rbm, SamplerSettings(n_steps=2), order=3, damping=0.3).means(batch).mean

    def step(old: float, bias: float, w: np.ndarray, others: np.ndarray) -> float:
        field, var = bias + w @ others, others * (1 - others)
        field += (0.5 - old) * (w**2 @ var)
        slope = (1 - 2 * old) ** 2 - 2 * old * (1 - old)
        field += slope * (w**3 @ (var * (1 - 2 * others))) / 6
        return 0.3 * old + 0.7 / (1 + math.exp(-field))

    for row, state in enumerate(states):
        v = state.astype(float)
        h = 1 / (1 + np.exp(-(b + v @ weights)))
        for _ in range(2):
            v = np.array([step(v[i], a[i], weights[i], h) for i in range(len(v))])
            h = np.array([step(h[j], b[j], weights[:, j], v) for j in range(len(h))])
        np.testing.assert_allclose(found[row], np.concatenate((v, h)), rtol=1e-12)


def test_training_takes_binary_units_only() -> None:
    rbm = vf.GaussianRBM(np.ones((2, 1)), np.zeros(2), np.zeros(1), np.ones(2))
    with pytest.raises(TypeError, match=r"^method: expected a model of binary units"):
        vf.train(rbm, np.zeros((3, 2)), method="tap")


@pytest.mark.parametrize("field", [0.0, 0.02, 0.1])
def test_solutions_beside_the_best_are_told(field: float) -> None:
    """Twelve spins that align have two valleys: what one of them lacks of ln Z is what the other adds."""
    model = vf.Ising(0.3 * (1 - np.eye(12)), np.full(12, field))
    truth = vf.free_energy.exact(model).log_z
    with pytest.warns(MeanFieldWarning, match="starts came to"):
        found = tap(model, order=2, rng=0)
    assert not found.converged
    assert found.details["others"] == pytest.approx(truth - found.log_z, abs=1e-3)
    bound = vf.free_energy.mean_field(model, rng=0)
    assert bound.converged  # it is a bound, whatever it misses
    assert bound.details["others"] == pytest.approx(truth - bound.log_z, abs=1e-3)
    with pytest.warns(SeriesWarning, match="starts came to"):
        sampled = vf.free_energy.cumulant_expansion(model, means="mean_field", n_samples=20_000, rng=0)
    assert not sampled.converged
    weak = vf.Ising(0.05 * (1 - np.eye(12)), np.full(12, field))
    assert tap(weak, order=2, rng=0).converged
    assert tap(weak, order=2, rng=0).details["valleys"] == 1
