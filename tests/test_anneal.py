"""The kernel of annealed chains: steps of gibbs, and increments against float64 sums, in the bounds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import vfe_fast as vf
from conftest import random_parameters
from vfe_fast import _core
from vfe_fast.free_energy.annealing import Path


def path_of(n_visible: int, n_hidden: int, scale: float, seed: int = 3) -> Path:
    parameters = (
        p.astype(np.float32) for p in random_parameters(n_visible, n_hidden, scale=scale, seed=seed)
    )
    return Path(vf.BernoulliRBM(*parameters), np.random.default_rng(seed).normal(size=n_visible))


def annealed(path: Path, words: np.ndarray, betas: np.ndarray, **options) -> tuple[np.ndarray, ...]:
    parameters, prepared = path.bent.prepared
    given = {"stay": True, "chain_offset": 3, "step_offset": 7, "seed": 2**60 + 1, "num_threads": 1} | options
    given.setdefault("log_weights", np.zeros(len(words)))
    return _core.anneal(*parameters, path.base, words, betas=betas, prepared=prepared, **given)


def log_f(path: Path, s: float, v: np.ndarray) -> np.ndarray:
    weights, c, b = (p.astype(np.float64) for p in path.bent.parameters)
    return s * (v @ c) + np.logaddexp(0.0, s * (b + v @ weights)).sum(axis=1)


SCHEDULES = {
    "coarse": np.array([0.0, 2.0**-40, 0.3, 0.35, 1.0]),
    "near": np.array([0.5, 0.51, 0.53, 0.57, 0.65]),
    "fine": 0.9 + np.arange(6) * 1e-5,
    "down": np.array([1.0, 0.6, 0.59999, 1e-9, 0.0]),
}


@pytest.mark.parametrize("betas", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize(
    ("n_visible", "n_hidden", "n_chains", "scale"),
    [(1, 1, 1, 1.0), (65, 63, 5, 0.5), (70, 600, 37, 0.2), (130, 64, 20, 30.0)],
)
def test_steps_and_increments(target, n_visible, n_hidden, n_chains, scale, betas):
    """States are those of `gibbs`, called a step at a time; increments those of their definition."""
    path = path_of(n_visible, n_hidden, scale)
    words = path.start(1, 0, n_chains, 1)
    visible, log_weights, increments = annealed(path, words, betas)
    weights, c, b = (p.astype(np.float64) for p in path.bent.parameters)
    total = np.abs(weights).sum(axis=0)
    error_of_x = n_visible * 2.0**-31 * total + 2.0**-22 * (total + np.abs(b))
    for k, (before, after) in enumerate(itertools.pairwise(betas)):
        v = _core.unpack_states(words, n_visible).astype(np.float64)
        size, distance = np.abs(b + v @ weights).sum(axis=1), abs(after - before)
        bound = distance * (2.0**-21 * size + error_of_x.sum()) + 2.0**-50 * (
            n_hidden + distance * np.abs(c).sum()
        )
        exact = log_f(path, after, v) - log_f(path, before, v)
        of_oracle = 2.0**-51 * (n_hidden + (np.abs(v @ c) + size + total.sum()))  # it cancels
        assert (np.abs(increments[k] - exact) <= bound + of_oracle).all()
        if k + 2 < len(betas):
            words = path.move(after, words, 2**60 + 1, 3, 7 + k, 1)
    assert np.array_equal(visible, words)
    assert np.allclose(log_weights, increments.sum(axis=0), rtol=1e-13)


def test_small_increments_are_accurate(target):
    """A distance of 1e-12 leaves nothing of a difference of float32 free energies; here it is right."""
    path = path_of(90, 40, 0.3)
    words = path.start(1, 0, 10, 1)
    v = _core.unpack_states(words, 90).astype(np.float64)
    weights, c, b = (p.astype(np.float64) for p in path.bent.parameters)
    x = b + v @ weights
    betas = np.array([0.5, 0.5 + 2.0**-40])
    slope = v @ c + (x / (1.0 + np.exp(-0.5 * x))).sum(axis=1)
    sizes = np.abs(x).sum(axis=1) + np.abs(v @ c)
    assert (
        np.abs(annealed(path, words, betas)[2][0] - 2.0**-40 * slope) < 2.0**-40 * 1e-5 * sizes + 1e-13
    ).all()


@pytest.mark.parametrize(
    ("n_visible", "n_hidden", "scale"),
    [(150, 80, 0.2), (450, 600, 0.04), (450, 390, 0.4)],
    ids=["chains apart", "units shared", "and kept"],
)
def test_same_bits_for_any_cut_and_target(keep_target, n_visible, n_hidden, scale):
    """Also for any number of threads, which share chains, or the units of larger models."""
    path, betas = path_of(n_visible, n_hidden, scale), np.linspace(0.0, 1.0, 12)
    words = path.start(1, 0, 130, 1)
    expected = annealed(path, words, betas, chain_offset=0)
    ways = [annealed(path, words, betas, chain_offset=0, num_threads=n) for n in (2, 3)]
    parts = [annealed(path, words[i:j], betas, chain_offset=i) for i, j in ((0, 7), (7, 40), (40, 130))]
    ways.append(tuple(np.concatenate([p[k] for p in parts], axis=k // 2) for k in range(3)))
    first = annealed(path, words, betas[:5], chain_offset=0, stay=False)
    second = annealed(path, first[0], betas[4:], chain_offset=0, step_offset=11, log_weights=first[1])
    ways.append((second[0], second[1], np.concatenate((first[2], second[2]))))
    for name in vf.show_config("dict")["usable_targets"]:
        _core.use_target(name)
        ways.append(annealed(path, words, betas, chain_offset=0))
    for way in ways:
        assert all(a.tobytes() == b.tobytes() for a, b in zip(way, expected, strict=True))


def test_draws_at_the_bound_of_coarse_sums(target):
    """As in test_gibbs, towards the visible units: what coarse sums leave out changes no draw."""
    rng = np.random.default_rng(5)
    w = np.full((64, 514), 12.0 / 514) * rng.choice([-1.0, 1.0], (64, 1))
    a, base = rng.normal(scale=0.1, size=64) - w.sum(axis=1), rng.normal(scale=0.1, size=64)
    path = Path(vf.BernoulliRBM(*(p.astype(np.float32) for p in (w, a, np.full(514, 20.0)))), base)
    words, betas = path.start(1, 0, 2000, 1), np.array([0.9, 1.0])
    visible = annealed(path, words, betas, chain_offset=0, stay=False)[0]
    for first in range(0, 2000, 15):  # of so few chains sums are exact
        part = slice(first, first + 15)
        exact = annealed(path, words[part], betas, chain_offset=first, stay=False)[0]
        assert np.array_equal(exact, visible[part])


def test_bad_input():
    path = path_of(6, 4, 1.0)
    words, betas = path.start(1, 0, 3, 1), np.array([0.0, 0.5, 1.0])
    double = Path(vf.BernoulliRBM(*random_parameters(6, 4)), path.base)
    for name, call in {
        "weights": lambda: annealed(double, words, betas),
        "betas": lambda: annealed(path, words, betas[:1]),
        "beta": lambda: annealed(path, words, np.array([0.0, np.nan, 1.0])),
        "betas: expected >=": lambda: annealed(path, words, np.array([0.5, 0.0, 1.0])),
        "start": lambda: annealed(path, np.zeros((3, 2), np.uint64), betas),
        "log_weights": lambda: annealed(path, words, betas, log_weights=np.zeros(2)),
    }.items():
        with pytest.raises(ValueError, match=f"^{name}"):
            call()
