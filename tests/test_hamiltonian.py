"""The kernel of Hamiltonian dynamics: moves by their definition, energies in the bound, the same bits."""

from __future__ import annotations

import numpy as np
import pytest

import vfe_fast as vf
from conftest import random_parameters
from oracles.philox import HAMILTONIAN_MOMENTUM, HAMILTONIAN_TEST, normals, philox4x32
from vfe_fast import _core

SEED, FIRST = 0x9876543210FEDCBA, 2**40 + 3


def model(n_visible: int, n_hidden: int, scale: float = 1.0) -> tuple[np.ndarray, ...]:
    sigma = np.random.default_rng(1).uniform(0.4, 1.6, n_visible)
    return *random_parameters(n_visible, n_hidden, scale=scale, seed=2), sigma


def moved(parameters, x, n_steps, **options):
    given = {"beta": 0.7, "mass": np.linspace(0.5, 2, x.shape[1]), "step": 0.2, "tested": True, "every": 1}
    given |= {"seed": SEED, "move_offset": FIRST, "num_threads": 1} | options
    return _core.hamiltonian(*parameters, x, n_steps=np.asarray(n_steps, dtype=np.int64), **given)


def potential(parameters, x, beta):
    """U, its slope, and the contract's bound on the error of U."""
    w, a, b, sigma = parameters
    terms = x[:, :, None] * w / (sigma**2)[:, None]
    field, squares = b + terms.sum(axis=1), (x - a) ** 2 / sigma**2
    u = beta * squares.sum(axis=1) / 2 - np.logaddexp(0.0, beta * field).sum(axis=1)
    slope = beta * ((x - a) - (w @ (1 / (1 + np.exp(-beta * field))).T).T) / sigma**2
    bound = beta * 2.0**-53 * (
        (133 + len(a) / 128) * np.abs(terms).sum(axis=(1, 2))
        + (16 + len(b) / 8) * (np.abs(field) + 1 / beta).sum(axis=1)
        + (16 + len(a) / 8) * squares.sum(axis=1)
    )  # fmt: skip
    return u, slope, bound


@pytest.mark.parametrize(("n_visible", "n_hidden"), [(1, 1), (63, 65), (130, 64), (300, 17)])
@pytest.mark.parametrize("n_chains", [1, 5, 37])
def test_moves_are_those_defined(target, n_visible, n_hidden, n_chains):
    parameters = model(n_visible, n_hidden, scale=1 / np.sqrt(n_visible))
    beta, mass, step, n_steps = 0.7, np.linspace(0.5, 2, n_visible), 0.45, [1, 5, 3, 8]
    x = np.random.default_rng(3).normal(size=(n_chains, n_visible))
    found, energies, accepted, divergent = moved(parameters, x, n_steps, step=step)
    chain, unit = np.arange(n_chains)[:, None], np.arange(n_visible)
    total, refused = np.zeros(n_chains), 0
    for k, length in enumerate(n_steps):
        p = np.sqrt(mass) * normals(unit, chain, FIRST + k, HAMILTONIAN_MOMENTUM, SEED, np.float64)
        u, slope, _ = potential(parameters, x, beta)
        before, y = u + (p**2 / mass).sum(axis=1) / 2, x
        for _ in range(length):
            p = p - step / 2 * slope
            y = y + step * p / mass
            u, slope, _ = potential(parameters, y, beta)
            p = p - step / 2 * slope
        share = np.exp(np.minimum(before - u - (p**2 / mass).sum(axis=1) / 2, 0.0))
        total += share
        counter = [0, chain[:, 0], (FIRST + k) & 0xFFFFFFFF, HAMILTONIAN_TEST | ((FIRST + k) >> 32) << 8]
        low, high, _, _ = philox4x32(counter, SEED)
        uniform = ((high << np.uint64(32) | low) >> np.uint64(12)) * 2.0**-52 + 2.0**-53
        assert (np.abs(uniform - share) > 1e-9).all()  # no decision that rounding could turn
        taken = uniform < share
        refused += int((~taken).sum())
        x = np.where(taken[:, None], y, x)
        assert np.allclose(found[:, k], x, rtol=0, atol=1e-10 * np.abs(x).max())
        x = found[:, k]  # rounding does not add up
        u, _, bound = potential(parameters, x, beta)
        assert (np.abs(energies[:, k] - u) <= bound).all()
    assert np.allclose(accepted, total, rtol=1e-8)
    assert not divergent.any()
    assert n_chains < 37 or refused > 0


def test_moves_that_are_not_tested():
    parameters = model(20, 9)
    x = np.random.default_rng(3).normal(size=(6, 20))
    found = moved(parameters, x, [1], tested=False, step=0.9)[0][:, 0]
    mass = np.linspace(0.5, 2, 20)
    p = np.sqrt(mass) * normals(
        np.arange(20), np.arange(6)[:, None], FIRST, HAMILTONIAN_MOMENTUM, SEED, np.float64
    )
    _, slope, _ = potential(parameters, x, 0.7)
    assert np.allclose(found, x + 0.9 * (p - 0.45 * slope) / mass, rtol=1e-12)


def test_moves_that_run_away():
    """They end with no number or far above, are refused, and counted."""
    parameters = model(20, 9)
    x = np.random.default_rng(3).normal(size=(6, 20))
    found, energies, accepted, divergent = moved(parameters, x, [900, 5], step=50.0)
    assert np.array_equal(found[:, 1], x)
    assert np.isfinite(energies).all()
    assert not accepted.any()
    assert (divergent == 2).all()
    assert np.isnan(moved(parameters, x, [900], step=50.0, tested=False)[0]).all()


def test_the_same_bits(target):
    """However calls are cut and threads are many; chains are their own."""
    parameters = model(90, 70, scale=0.1)
    x = np.random.default_rng(4).normal(size=(70, 90))
    n_steps = [3, 1, 4, 1, 5, 9]
    whole = moved(parameters, x, n_steps)
    for n_threads in (2, 5):
        again = moved(parameters, x, n_steps, num_threads=n_threads)
        assert all(np.array_equal(a, b) for a, b in zip(whole, again, strict=True))
    first, u, some, _ = moved(parameters, x, n_steps[:4])
    rest, v, others, _ = moved(
        parameters, np.ascontiguousarray(first[:, -1]), n_steps[4:], move_offset=FIRST + 4
    )
    assert np.array_equal(whole[0], np.concatenate([first, rest], axis=1))
    assert np.array_equal(whole[1], np.concatenate([u, v], axis=1))
    assert np.allclose(whole[2], some + others, rtol=1e-14)
    assert np.array_equal(moved(parameters, x[:3].copy(), n_steps)[0], whole[0][:3])
    thinned = moved(parameters, x, n_steps, every=3)
    assert np.array_equal(thinned[0], whole[0][:, [2, 5]])
    assert np.array_equal(thinned[1], whole[1][:, [2, 5]])
    rbm = vf.GaussianRBM(*parameters)
    kept, prepared = rbm.prepared
    for _ in range(2):
        assert np.array_equal(moved(kept, x, n_steps, prepared=prepared)[0], whole[0])


@pytest.mark.usefixtures("keep_target")
def test_the_same_bits_on_every_target():
    parameters = model(90, 70, scale=0.1)
    x = np.random.default_rng(4).normal(size=(17, 90))
    found = []
    for name in vf.show_config("dict")["usable_targets"]:
        _core.use_target(name)
        found.append(b"".join(part.tobytes() for part in moved(parameters, x, [3, 4])))
    assert len(set(found)) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step": 0.0}, "step"),
        ({"step": np.inf}, "step"),
        ({"mass": np.zeros(5)}, "mass"),
        ({"mass": np.ones(4)}, "mass"),
        ({"every": 0}, "every"),
        ({"every": 2}, "every"),
        ({"n_steps": [1, 0, 1]}, "n_steps"),
        ({"n_steps": []}, "n_steps"),
        ({"beta": -1.0}, "beta"),
        ({"x": np.full((2, 5), np.nan)}, "start"),
        ({"x": np.zeros((2, 4))}, "start"),
        ({"move_offset": -1}, "step_offset"),
        ({"num_threads": -1}, "num_threads"),
    ],
)
def test_bad_input(options, message):
    given = {"x": np.zeros((2, 5)), "n_steps": [1, 1, 1]} | options
    with pytest.raises(ValueError, match=message):
        moved(model(5, 3), given.pop("x"), given.pop("n_steps"), **{"mass": np.ones(5)} | given)


def test_parameters_in_float32_are_refused():
    with pytest.raises(ValueError, match="weights"):
        moved([p.astype(np.float32) for p in model(5, 3)], np.zeros((2, 5)), [1])
