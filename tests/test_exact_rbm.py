"""Exact ln Z and moments against brute force, mpmath and finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest

import vfe_fast as vf
from conftest import random_parameters, random_rbm
from oracles.rbm import all_states, energies, enumerate_float64, enumerate_mpmath, joint, marginal_mpmath
from vfe_fast import _core

BOUND = 1e-12  # the contract of exact_rbm.hpp

MOMENTS = ("visible", "hidden", "visible_hidden", "energy")


def relative_errors(result, expected, weights_scale=0.0):
    """Largest relative error of ln Z and of each moment; <E> relative to the size of its terms."""
    errors = {"log_z": abs(result.log_z - expected.log_z) / abs(expected.log_z)}
    for name in MOMENTS[:3]:
        errors[name] = np.max(np.abs(getattr(result.moments, name) / getattr(expected, name) - 1))
    errors["energy"] = abs(result.moments.energy - expected.energy) / max(abs(expected.energy), weights_scale)
    return errors


@pytest.mark.twin
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 3), (9, 5), (5, 9), (10, 10), (12, 8)])
@pytest.mark.parametrize("beta", [0.3, 1.0, 2.5])
def test_against_brute_force(target, shape, beta):
    parameters = random_parameters(*shape)
    result = vf.free_energy.exact(vf.BernoulliRBM(*parameters), beta=beta, moments=True)
    expected = enumerate_float64(*parameters, beta)
    assert result.kind == "exact"
    assert result.value == pytest.approx(-result.log_z / beta, rel=1e-15)
    assert max(relative_errors(result, expected, 1.0).values()) < BOUND


@pytest.mark.twin
@pytest.mark.parametrize("shape", [(4, 4), (6, 3), (3, 7)])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 60.0])
def test_against_mpmath(target, shape, scale):
    """From nearly free to saturated: weights of both signs up to `scale`."""
    rng = np.random.default_rng(shape[0])
    weights = rng.uniform(-scale, scale, shape)
    weights.flat[:2] = scale, -scale
    parameters = (weights, rng.uniform(-1, 0.3, shape[0]) * scale, rng.uniform(-0.3, 1, shape[1]) * scale)
    result = vf.free_energy.exact(vf.BernoulliRBM(*parameters), moments=True)
    assert max(relative_errors(result, enumerate_mpmath(*parameters)).values()) < BOUND


@pytest.mark.twin
@pytest.mark.parametrize("shape", [(7, 9), (9, 8), (8, 40)])
@pytest.mark.parametrize("scale", [1e-3, 0.3, 3.0, 20.0, 60.0, 2000.0])
def test_products_against_mpmath(target, shape, scale):
    """Seven units and more are enumerated in product form, as long as its range allows."""
    rng = np.random.default_rng(shape[1])
    weights = rng.uniform(-scale, scale, shape)
    visible_bias, hidden_bias = rng.uniform(-1, 0.3, shape[0]) * scale, rng.uniform(-0.3, 1, shape[1]) * scale
    for w, a, b in ((weights, visible_bias, hidden_bias), (weights.T.copy(), hidden_bias, visible_bias)):
        expected = marginal_mpmath(w, a, b)
        rbm = vf.BernoulliRBM(w, a, b)
        result = vf.free_energy.exact(rbm)
        assert result.log_z == pytest.approx(expected.log_z, rel=BOUND)
        assert result.details["product_form"] == (scale < 1000)
        result = vf.free_energy.exact(rbm, moments=True)
        # Four factors, to either side of e^300; the twin takes fewer at a time.
        fits = scale < 60 or (scale == 60 and (shape != (8, 40) or target == "cuda"))
        assert result.details["product_form"] == fits
        assert result.log_z == pytest.approx(expected.log_z, rel=BOUND)
        assert result.moments.energy == pytest.approx(expected.energy, rel=BOUND)
        for name in MOMENTS[:3]:
            got, right = getattr(result.moments, name), getattr(expected, name)
            seen = right > 1e-150  # what is said of relative errors ends there
            np.testing.assert_allclose(got[seen], right[seen], rtol=BOUND)
            np.testing.assert_allclose(got, right, atol=1e-150, rtol=BOUND)


@pytest.mark.twin
@pytest.mark.parametrize("total", [5.0, 50.0, 200.0, 2000.0])
def test_wide_ranges_of_the_product(target, total):
    """784 units whose |weights| add up to `total` each: chunks, balancing, and the way out where they end."""
    rng = np.random.default_rng(3)
    weights = rng.normal(size=(784, 10)) + 0.2
    weights *= total / np.abs(weights).sum(axis=1, keepdims=True)
    weights[::7] *= 1e-3
    visible_bias, hidden_bias = 3 * rng.normal(size=784) + 0.5, 20 * rng.normal(size=10)
    states = all_states(10)
    fields = visible_bias + states @ weights.T
    exponent = np.array(
        [
            math.fsum([*row, bias])
            for row, bias in zip(
                np.maximum(fields, 0) + np.log1p(np.exp(-np.abs(fields))), states @ hidden_bias, strict=True
            )
        ]
    )
    expected = exponent.max() + np.log(np.exp(exponent - exponent.max()).sum())
    result = vf.free_energy.exact(vf.BernoulliRBM(weights, visible_bias, hidden_bias))
    assert result.log_z == pytest.approx(expected, rel=1e-14)
    assert result.details["product_form"] == (total < 1000)


def test_single_precision_parameters_are_enumerated_in_double():
    parameters = random_parameters(6, 5, dtype=np.float32)
    result = vf.free_energy.exact(vf.BernoulliRBM(*parameters), moments=True)
    assert max(relative_errors(result, enumerate_float64(*parameters), 1.0).values()) < BOUND


@pytest.mark.twin
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("scale", [0.05, 1.0])
def test_long_layer(target, transposed, scale):
    """1100 units in the other layer: several chunks of the running product, fields up to a thousand."""
    weights, visible_bias, hidden_bias = random_parameters(9, 1100, scale=scale)
    states = all_states(9)
    fields = hidden_bias + states @ weights
    exponent = states @ visible_bias + np.logaddexp(0, fields).sum(axis=1)
    w = np.exp(exponent - exponent.max())
    w /= w.sum()
    with np.errstate(over="ignore"):
        means = 1 / (1 + np.exp(-fields))
    log_z = exponent.max() + np.log(np.exp(exponent - exponent.max()).sum())
    if transposed:
        rbm = vf.BernoulliRBM(np.ascontiguousarray(weights.T), hidden_bias, visible_bias)
    else:
        rbm = vf.BernoulliRBM(weights, visible_bias, hidden_bias)
    result = vf.free_energy.exact(rbm, moments=True)
    short, long = ("hidden", "visible") if transposed else ("visible", "hidden")
    pairs = result.moments.visible_hidden.T if transposed else result.moments.visible_hidden
    assert result.log_z == pytest.approx(log_z, rel=BOUND)
    # exponents of 1e4 carry rounding of 1e-12, in the oracle as well
    tolerance = 1e-15 * np.abs(exponent).max() * 10
    np.testing.assert_allclose(getattr(result.moments, short), w @ states, rtol=tolerance)
    np.testing.assert_allclose(getattr(result.moments, long), w @ means, rtol=tolerance)
    np.testing.assert_allclose(pairs, states.T @ (w[:, None] * means), rtol=tolerance)


@pytest.mark.twin
@pytest.mark.parametrize("shape", [(9, 9), (10, 784), (300, 12), (13, 64)])
@pytest.mark.parametrize("scale", [1e-3, 0.1, 1.0, 5.0, 60.0, 500.0])
def test_single_precision(target, shape, scale):
    """ln Z of these to 1e-6, of all to m 2^-22, and the way back to float64 where float32 has no room."""
    w, a, b = random_parameters(*shape, scale=scale)
    rbm = vf.BernoulliRBM(w / np.sqrt(max(shape)), a, b)
    expected = vf.free_energy.exact(rbm)
    found = vf.free_energy.exact(rbm, precision="single")
    assert found.log_z == pytest.approx(expected.log_z, abs=1e-6, rel=0)
    assert expected.details["precision"] == "double"
    if scale <= 1.0:
        assert found.details["precision"] == "single"
        assert found.log_z != expected.log_z
    if found.details["precision"] == "double":
        assert found.log_z == expected.log_z
    moments = vf.free_energy.exact(rbm, precision="single", moments=True)
    assert moments.details["precision"] == "double"


@pytest.mark.twin
@pytest.mark.parametrize("transposed", [False, True])
def test_a_million_states(target, transposed):
    """2^20 states in chunks of NumPy float64, layers of unequal size, several ranges."""
    weights, visible_bias, hidden_bias = random_parameters(20, 30, scale=0.3)
    total, units, others, pairs = 0.0, np.zeros(20), np.zeros(30), np.zeros((20, 30))
    for chunk in range(0, 2**20, 2**15):
        states = ((np.arange(chunk, chunk + 2**15)[:, None] >> np.arange(20)) & 1).astype(np.float64)
        fields = hidden_bias + states @ weights
        w = np.exp(states @ visible_bias + np.logaddexp(0, fields).sum(1) - 40)
        means = w[:, None] / (1 + np.exp(-fields))
        total += w.sum()
        units += w @ states
        others += means.sum(0)
        pairs += states.T @ means
    assert _core.exact_rbm_ranges(20, 30) == 4
    if transposed:
        rbm = vf.BernoulliRBM(weights.T.copy(), hidden_bias, visible_bias)
        units, others, pairs = others, units, pairs.T
    else:
        rbm = vf.BernoulliRBM(weights, visible_bias, hidden_bias)
    result = vf.free_energy.exact(rbm, moments=True)
    assert result.details["product_form"]
    for log_z in (result.log_z, vf.free_energy.exact(rbm).log_z):
        assert log_z == pytest.approx(40 + np.log(total), rel=BOUND)
    np.testing.assert_allclose(result.moments.visible, units / total, rtol=BOUND)
    np.testing.assert_allclose(result.moments.hidden, others / total, rtol=BOUND)
    np.testing.assert_allclose(result.moments.visible_hidden, pairs / total, rtol=BOUND)


def test_the_largest_term_may_come_late():
    """Weights that only the last states reach: the reference of the running sum moves by thousands."""
    n = 14
    weights, visible_bias, hidden_bias = random_parameters(n, 20)
    visible_bias = 200.0 * (np.arange(n) + 1) / n + visible_bias
    rbm = vf.BernoulliRBM(weights, visible_bias, hidden_bias)
    states = all_states(n)
    exponent = states @ visible_bias + np.logaddexp(0, hidden_bias + states @ weights).sum(axis=1)
    w = np.exp(exponent - exponent.max())
    result = vf.free_energy.exact(rbm, moments=True)
    assert result.log_z == pytest.approx(exponent.max() + np.log(w.sum()), rel=BOUND)
    np.testing.assert_allclose(result.moments.visible, w @ states / w.sum(), rtol=1e-11)


def test_beta_zero_counts_states():
    result = vf.free_energy.exact(random_rbm(7, 5), beta=0.0, moments=True)
    assert result.log_z == pytest.approx(12 * np.log(2), rel=1e-15)
    assert result.value == -np.inf
    np.testing.assert_allclose(result.moments.visible_hidden, 0.25, rtol=1e-15)


def test_mean_energy_is_the_derivative_in_beta():
    rbm, step = random_rbm(6, 8), 1e-5
    up, down = (vf.free_energy.exact(rbm, beta=1 + s).log_z for s in (step, -step))
    energy = vf.free_energy.exact(rbm, moments=True).moments.energy
    assert energy == pytest.approx(-(up - down) / (2 * step), rel=1e-8)


def test_moments_are_the_gradient_of_log_z():
    weights, visible_bias, hidden_bias = random_parameters(4, 3)
    moments = vf.free_energy.exact(vf.BernoulliRBM(weights, visible_bias, hidden_bias), moments=True).moments
    step = 1e-5
    parameters = [weights, visible_bias, hidden_bias]
    for k, moment in enumerate((moments.visible_hidden, moments.visible, moments.hidden)):
        for index in np.ndindex(moment.shape):
            log_z = []
            for sign in (1, -1):
                moved = [p.copy() for p in parameters]
                moved[k][index] += sign * step
                log_z.append(vf.free_energy.exact(vf.BernoulliRBM(*moved)).log_z)
            assert moment[index] == pytest.approx((log_z[0] - log_z[1]) / (2 * step), rel=1e-7)


@pytest.mark.usefixtures("keep_target")
def test_same_bits_for_any_threads_and_target():
    rbm = random_rbm(16, 180)  # two ranges
    assert _core.exact_rbm_ranges(16, 180) == 2
    answers = []
    for name in vf.show_config("dict")["usable_targets"]:
        _core.use_target(name)
        for num_threads in (1, 2, 7):
            result = vf.free_energy.exact(rbm, moments=True, num_threads=num_threads)
            moments = [np.asarray(getattr(result.moments, m)).tobytes() for m in MOMENTS]
            answers.append((result.log_z, *moments))
    assert all(answer == answers[0] for answer in answers)


def test_moments_do_not_change_log_z():
    """But for rounding: the products are formed in another order."""
    rbm = random_rbm(11, 90)
    expected = vf.free_energy.exact(rbm).log_z
    assert vf.free_energy.exact(rbm, moments=True).log_z == pytest.approx(expected, rel=1e-15)


@pytest.mark.usefixtures("keep_target")
def test_single_precision_has_the_same_bits():
    rbm, found = random_rbm(16, 180, scale=0.1), set()
    for name in vf.show_config("dict")["usable_targets"]:
        _core.use_target(name)
        for num_threads in (1, 2, 7):
            found.add(vf.free_energy.exact(rbm, precision="single", num_threads=num_threads).log_z)
    assert len(found) == 1


def test_several_betas():
    rbm, betas = random_rbm(9, 12), [0.0, 0.3, 1.0, 2.0]
    curve = vf.free_energy.exact(rbm, beta=betas, moments=True)
    for beta, result in zip(betas, curve, strict=True):
        alone = vf.free_energy.exact(rbm, beta=beta, moments=True)
        assert (result.beta, result.log_z) == (beta, alone.log_z)
        assert result.moments.energy == alone.moments.energy
    assert vf.free_energy.exact(rbm, beta=[]) == []


def test_result_says_what_it_is():
    result = vf.free_energy.exact(random_rbm(3, 12))
    assert (result.kind, result.stderr, result.converged, result.ess) == ("exact", 0.0, True, np.inf)
    assert result.moments is None
    assert result.details["n_states"] == 8
    assert result.details["enumerated_layer"] == "visible"
    assert "exact" in str(result)


@pytest.mark.parametrize("shape", [(55, 60), (60, 55), (784, 500)])
def test_too_many_states(shape):
    with pytest.raises(ValueError, match=r"would take about .* (years|days).*GibbsChains"):
        vf.free_energy.exact(random_rbm(*shape, scale=0.01))


def test_more_states_than_can_be_counted():
    with pytest.raises(ValueError, match="weights: expected min"):
        vf.free_energy.exact(random_rbm(63, 64, scale=0.01), max_seconds=1e300)


@pytest.mark.twin
@pytest.mark.parametrize("shape", [(1, 1), (3, 9), (9, 5), (8, 8)])
@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0, 2.0])
def test_energy_variance(target, shape, beta):
    parameters = random_parameters(*shape)
    moments = vf.free_energy.exact(vf.BernoulliRBM(*parameters), beta=beta, moments=True).moments
    energy, p = energies(*parameters), joint(*parameters, beta)
    expected = (p * (energy - (p * energy).sum()) ** 2).sum()
    assert moments.energy_variance == pytest.approx(expected, rel=BOUND)
    assert moments.energy_variance is moments.energy_variance  # summed once


@pytest.mark.twin
@pytest.mark.parametrize("shape", [(9, 13), (10, 90), (200, 11), (7, 8), (17, 130)])
@pytest.mark.parametrize("scale", [0.02, 0.3, 2.0, 15.0, 400.0])
def test_energy_variance_given_one_layer(target, shape, scale):
    """The law of total variance, in NumPy: products, their limits, exponentials; one range and two."""
    if scale > 0.3 and shape == (17, 130):
        pytest.skip("one scale is enough for the second range")
    w, a, b = random_parameters(*shape, scale=scale)
    w, beta = w / np.sqrt(max(shape)), 0.7
    moments = vf.free_energy.exact(vf.BernoulliRBM(w, a, b), beta=beta, moments=True).moments
    if shape[0] > shape[1]:
        w, a, b = w.T, b, a
    states = ((np.arange(2 ** len(a))[:, None] >> np.arange(len(a))) & 1).astype(np.float64)
    fields = b + states @ w
    exponent = beta * (states @ a) + np.logaddexp(0, beta * fields).sum(axis=1)
    p = np.exp(exponent - exponent.max())
    p /= p.sum()
    decay = np.exp(-beta * np.abs(fields))
    on = np.where(fields > 0, 1.0, decay) / (1 + decay)
    given = -(states @ a) - (fields * on).sum(axis=1)
    mean = p @ given
    within = (fields**2 * (decay / (1 + decay) ** 2)).sum(axis=1)
    expected = p @ ((given - mean) ** 2 + within)
    assert moments.energy == pytest.approx(mean, rel=1e-11)
    # the mean is known to some 1e-15 of the energies, which a narrow law feels
    assert moments.energy_variance == pytest.approx(expected, rel=1e-10, abs=1e-24 * mean**2)


@pytest.mark.usefixtures("keep_target")
def test_energy_variance_has_the_same_bits():
    found = set()
    for name in vf.show_config("dict")["usable_targets"]:
        _core.use_target(name)
        moments = vf.free_energy.exact(random_rbm(16, 180, scale=0.1), moments=True).moments
        found.add(moments.energy_variance)
    assert len(found) == 1


@pytest.mark.parametrize("size", [1e5, 1e12, 1e15, 1e19, 1e30, 1e100, 1e250])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("layer", ["visible", "hidden"])
def test_biases_of_any_size(size, sign, layer):
    """A unit that is held on or off by its bias, in either layer."""
    w, a, b = random_parameters(9, 30, scale=0.3)
    (a if layer == "visible" else b)[3] = sign * size
    held = 3 if layer == "visible" else None
    kept = np.arange(9) != 3
    states = all_states(9)
    if layer == "visible":
        states = states[(states[:, held] == 1) == (sign > 0)]
        fields, own = b + states @ w, states[:, kept] @ a[kept]
    else:
        fields, own = np.delete(b + states @ w, 3, axis=1), states @ a + (sign > 0) * (states @ w[:, 3])
    exponent = own + np.logaddexp(0, fields).sum(axis=1)
    rest = exponent.max() + np.log(np.exp(exponent - exponent.max()).sum())
    expected = rest + size * (sign > 0)
    for rbm in (vf.BernoulliRBM(w, a, b), vf.BernoulliRBM(w.T.copy(), b, a)):
        for moments in (False, True):
            result = vf.free_energy.exact(rbm, moments=moments)
            assert result.log_z == pytest.approx(expected, rel=BOUND)
        # The moments of all units, of which the held one's are certain.
        p = np.exp(exponent - rest)
        means = 1 / (1 + np.exp(-fields))
        if layer == "hidden":
            means = np.insert(means, 3, float(sign > 0), axis=1)
        nine, thirty, pairs = p @ states, p @ means, states.T @ (p[:, None] * means)
        moments = result.moments
        if rbm.n_visible == 9:
            found = moments.visible, moments.hidden, moments.visible_hidden
        else:
            found = moments.hidden, moments.visible, moments.visible_hidden.T
        for got, right in zip(found, (nine, thirty, pairs), strict=True):
            np.testing.assert_allclose(got, right, rtol=BOUND, atol=1e-300)


def test_the_estimate_knows_the_way_taken():
    """Fields beyond the product form: the time is that of exponentials."""
    rng = np.random.default_rng(0)
    rbm = vf.BernoulliRBM(rng.normal(size=(300, 36)), rng.normal(size=300), rng.normal(size=36))
    texts = []
    for beta in (0.01, 300.0):
        with pytest.raises(ValueError, match="would take about") as error:
            vf.free_energy.exact(rbm, beta=beta, max_seconds=1.0)
        texts.append(str(error.value))
    units = {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86400}
    times = []
    for text in texts:
        number, unit = text.split("about ")[1].split()[:2]
        times.append(float(number) * units[unit])
    assert times[1] > 5 * times[0]
