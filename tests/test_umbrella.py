"""Profiles by umbrella sampling against exact sums; false alarms below 1e-4."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import vfe_fast as vf
from conftest import random_parameters, random_rbm
from vfe_fast.free_energy import MbarWarning, umbrella

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("pymbar")


@pytest.mark.parametrize("kind", ["bits", "spins"])
def test_profile_of_an_order_parameter(kind: str) -> None:
    parameters, beta = random_parameters(6, 4, scale=0.6, seed=2), 0.8
    model: Any = vf.BernoulliRBM(*parameters)
    v = ((np.arange(64)[:, None] >> np.arange(6)) & 1).astype(np.int8)
    if kind == "spins":
        model, v = vf.SpinRBM(*(0.4 * p for p in parameters)), 2 * v - 1
    order = np.array([1.0, 1.0, 2.0, 1.0, 1.0, 2.0])
    centers, spring = ([0, 2, 4, 6, 8], 1.0) if kind == "bits" else ([-8, -4, 0, 4, 8], 0.25)
    found = umbrella(model, centers, spring, order=order, beta=beta, n_steps=1500, rng=1)
    weights, a, b = model.parameters
    x = beta * (b + v @ weights)
    of_v = np.exp(beta * v @ a + (np.logaddexp(0, x) if kind == "bits" else np.logaddexp(x, -x)).sum(axis=1))
    p = of_v / of_v.sum()
    expected = np.array([-np.log(p[np.isclose(v @ order, m)].sum()) / beta for m in found.rows["order"]])
    assert len(found.rows["order"]) == 9
    assert (np.abs(found.value - expected) < 4.5 * found.stderr / beta).all()
    assert found.stderr.max() < 0.25
    assert np.exp(-beta * found.value).sum() == pytest.approx(1.0)
    assert np.allclose(found.log_z, -beta * found.value, rtol=1e-14)
    assert (found.kind, found.beta) == ("consistent", beta)
    sampled = 5 * 16 * 1500 / found.details["inefficiencies"].max()
    assert sampled < found.ess.sum() < 5 * 16 * 1500
    of_model = found.details["model"]
    assert abs(of_model.log_z - np.log(of_v.sum())) < 4.5 * of_model.stderr
    assert (of_model.beta, of_model.ess) == (beta, pytest.approx(found.ess.sum()))
    assert found.converged.all()


@pytest.mark.parametrize("signs", [[1, 1, 1, 1, 1], [1, -1, 2, 1, -1]])
def test_ln_z_from_an_end_of_the_range(signs: list[int]) -> None:
    """One state has the least m, and one the largest; where several do ln Z stays unknown."""
    model, order = random_rbm(5, 4, scale=0.7, seed=3), np.array(signs, float)
    centers = np.linspace(np.minimum(order, 0).sum(), np.maximum(order, 0).sum(), 4)
    options: dict[str, Any] = {"n_steps": 1000, "n_units": 1, "rng": 1}
    F = umbrella(model, centers, 0.5, order=order, **options).details["model"]
    assert F.converged
    assert abs(F.log_z - vf.free_energy.exact(model).log_z) < 4 * F.stderr
    for nothing in (0.0, 1e-11):  # as two values of m that are that close are taken for the same
        order[3] = nothing
        assert umbrella(model, centers, 0.5, order=order, **options).details["model"] is None


def test_profile_with_windows_apart() -> None:
    with pytest.warns(MbarWarning, match="overlap too little"):
        found = umbrella(random_rbm(30, 5, scale=0.3), [0.1, 0.9], 4000.0, n_steps=200, rng=1)
    assert not found.converged.any()


def test_scale_of_the_order_parameter() -> None:
    """The same profile of m in whatever units."""
    model, order = random_rbm(5, 3, scale=0.5), np.array([1.0, 2.0, 1.0, 1.0, 1.0])
    options: dict[str, Any] = {"n_steps": 200, "rng": 1}
    one = umbrella(model, [1.0, 4.0], 0.5, order=order, **options)
    other = umbrella(model, [1e-12, 4e-12], 0.5e24, order=1e-12 * order, **options)
    assert len(one.rows["order"]) == 7
    assert other.rows["order"] == pytest.approx(1e-12 * one.rows["order"], rel=1e-9, abs=1e-22)
    assert other.value == pytest.approx(one.value)


def test_profile_that_ends_too_early_says_so() -> None:
    """Probabilities are of what was sampled: one stiff window sees a single value, of probability 1."""
    model = random_rbm(6, 3, scale=0.3)
    with pytest.warns(MbarWarning, match="no m beyond"):
        found = umbrella(model, [0.5], 1e6, n_steps=200, rng=1)
    assert not found.converged.any()


def test_coverage() -> None:
    """Of ln p of a value of m and of ln Z, 68 % ± 5 % of 300 models within one standard error."""
    v, off = ((np.arange(32)[:, None] >> np.arange(5)) & 1).astype(np.uint8), []
    for k in range(300):
        model = random_rbm(5, 3 + k % 4, scale=0.5, seed=k)
        options: dict[str, Any] = {"order": np.ones(5), "n_units": 3, "rng": k, "num_threads": 1}
        found = umbrella(model, [1.0, 4.0], 0.5, n_steps=200, **options)
        p = np.exp(-model.free_energy(v))
        at = int(np.flatnonzero(found.rows["order"] == 1 + k % 4)[0])
        expected = -np.log(p[v.sum(axis=1) == 1 + k % 4].sum() / p.sum())
        F = found.details["model"]
        off.append([(found.value[at] - expected) / found.stderr[at], (F.log_z - np.log(p.sum())) / F.stderr])
    assert (np.abs(np.mean(np.abs(off) < 1, axis=0) - 0.68) < 0.05).all()


@pytest.mark.parametrize(
    ("options", "error", "name"),
    [
        ({"model": vf.Ising(np.zeros((2, 2)))}, TypeError, "model"),
        ({"centers": []}, ValueError, "centers"),
        ({"centers": [1j]}, TypeError, "centers"),
        ({"spring": 0.0}, ValueError, "spring"),
        ({"order": [1.0]}, ValueError, "order"),
        ({"beta": 0.0}, ValueError, "beta"),
        ({"n_units": 5}, ValueError, "n_units"),
        ({"n_chains": 1}, ValueError, "n_chains"),
        ({"n_steps": 1}, ValueError, "n_steps"),
    ],
)
def test_bad_input(options: dict[str, Any], error: type[Exception], name: str) -> None:
    with pytest.raises(error, match=f"^{name}: "):
        umbrella(**{"model": random_rbm(4, 3), "centers": [0.5], "spring": 1.0, **options})
