"""Gibbs sampling of real visible units: every draw against its definition, the law, the same bits always."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats

import vfe_fast as vf
from conftest import random_parameters
from oracles.philox import GAUSSIAN_VISIBLE, gibbs_uniforms, normals
from oracles.rbm import all_states
from vfe_fast import _core


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def model(n_visible: int, n_hidden: int, *, scale: float = 1.0, seed: int = 0, dtype=np.float64):
    w, a, b = random_parameters(n_visible, n_hidden, scale=scale, seed=seed)
    sigma = np.random.default_rng(seed).uniform(0.4, 1.6, n_visible)
    return vf.GaussianRBM(*(x.astype(dtype) for x in (w, a, b, sigma)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n_visible", "n_hidden"), [(1, 1), (63, 65), (130, 64), (300, 17)])
@pytest.mark.parametrize("n_chains", [1, 5, 37])
def test_every_draw_is_the_one_defined(target, n_visible, n_hidden, n_chains, dtype):
    """One step, unit by unit, from the random words that the contract names; errors within its bounds."""
    rbm = model(n_visible, n_hidden, scale=1 / np.sqrt(n_visible), dtype=dtype)
    w, a, b, sigma = (p.astype(np.float64) for p in rbm.parameters)
    beta, seed, step = 0.7, 0x9876543210FEDCBA, 2**40 + 3
    v0 = np.random.default_rng(1).normal(size=(n_chains, n_visible)).astype(dtype)
    v, h = vf.gibbs(rbm, v0, 1, beta=beta, rng=seed, step_offset=step)
    assert v.dtype == dtype
    assert h.dtype == np.uint8

    eps = np.finfo(dtype).eps / 2
    pulls = v0.astype(np.float64)[:, :, None] * w / (sigma**2)[:, None]
    field = b + pulls.sum(axis=1)
    error = beta * (
        (130 + n_visible / 128) * eps * (np.abs(b) + np.abs(pulls).sum(axis=1)) + 2.0**-23 * np.abs(field)
    )
    u = gibbs_uniforms(n_chains, n_hidden, seed=seed, layer="hidden", step=step)
    r = sigmoid(-np.abs(beta * field))
    unsure = np.abs(np.where(field >= 0, 1 - u, u) - r) < 5e-7 * r + error * r
    assert unsure.mean() < 0.01
    assert np.array_equal(h[~unsure], (u < sigmoid(beta * field))[~unsure])

    chain, unit = np.arange(n_chains)[:, None], np.arange(n_visible)
    noise = normals(unit, chain, step, GAUSSIAN_VISIBLE, seed, dtype) * sigma / np.sqrt(beta)
    total = np.abs(a) + np.abs(w).sum(axis=1)
    assert (
        np.abs(v - (a + h @ w.T + noise)) <= (n_hidden / 4 + 5) * eps * total + 12 * eps * np.abs(noise)
    ).all()


# --- law ----------------------------------------------------------------------------------------


def hidden_law(rbm: vf.GaussianRBM, beta: float) -> np.ndarray:
    """p(h): the integral of exp(-beta E) over v by completing the square, state by state."""
    w, a, b, sigma = rbm.parameters
    h = all_states(rbm.n_hidden)
    exponent = h @ b + (((a + h @ w.T) ** 2 - a**2) / (2 * sigma**2)).sum(axis=1)
    p = np.exp(beta * (exponent - exponent.max()))
    return p / p.sum()


PLANTED = {
    "the model itself": lambda w, a, b, s, beta: (w, a, b, s, beta),
    "hidden bias forgotten": lambda w, a, b, s, beta: (w, a, 0 * b, s, beta),
    "visible bias of the wrong sign": lambda w, a, b, s, beta: (w, -a, b, s, beta),
    "sigma forgotten": lambda w, a, b, s, beta: (w, a, b, 0 * s + 1, beta),
    "beta ignored": lambda w, a, b, s, beta: (w, a, b, s, 1.0),
    "one weight off by 0.2": lambda w, a, b, s, beta: (
        w + 0.2 * (np.arange(w.size) == 7).reshape(w.shape), a, b, s, beta,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def equilibrium():
    rbm = model(6, 4, scale=0.5, seed=3)
    v0 = np.zeros((200_000, 6))
    return rbm, *vf.gibbs(rbm, v0, 60, beta=0.8, rng=5)


@pytest.mark.parametrize("what", PLANTED)
def test_law_of_hidden_states(equilibrium, what):
    """Chi-square of all 16, false alarm 1e-6; a model that is not the sampled one is found."""
    rbm, _, h = equilibrium
    *parameters, beta = PLANTED[what](*rbm.parameters, 0.8)
    counts = np.bincount(h @ (1 << np.arange(4)), minlength=16)
    index = all_states(4).astype(int) @ (1 << np.arange(4))
    expected = np.zeros(16)
    expected[index] = hidden_law(vf.GaussianRBM(*parameters), beta) * counts.sum()
    p = stats.chisquare(counts, expected).pvalue
    assert p > 1e-6 if what == "the model itself" else p < 1e-6


def test_law_of_visible_units(equilibrium):
    """Given h, each is normal with mean a + Wh and variance sigma^2 / beta; false alarm 1e-6 each."""
    rbm, v, h = equilibrium
    w, a, _, sigma = rbm.parameters
    z = (v - a - h @ w.T) / (sigma / np.sqrt(0.8))
    assert stats.kstest(z.ravel(), "norm").pvalue > 1e-6
    covariance = z.T @ z / len(z) - np.eye(6)
    assert np.abs(covariance).max() < 6.5 / np.sqrt(len(z)) * np.sqrt(2)


def test_two_time_law():
    """p(h' | h) of one step, by quadrature over the one visible unit between; false alarm 1e-6."""
    rbm = vf.GaussianRBM([[0.8, -1.1]], [0.3], [0.2, -0.4], [0.7])
    beta, n_chains = 1.3, 400_000
    v, h = vf.gibbs(rbm, np.zeros((n_chains, 1)), 1, beta=beta, rng=1)
    _, after = vf.gibbs(rbm, v, 1, beta=beta, rng=1, step_offset=1)
    w, a, b, sigma = rbm.parameters
    for state in all_states(2):
        mean, spread = a[0] + w[0] @ state, sigma[0] / np.sqrt(beta)

        def density(x, to, mean=mean, spread=spread):
            on = sigmoid(beta * (b + x * w[0] / sigma[0] ** 2))
            return stats.norm.pdf(x, mean, spread) * np.prod(np.where(to, on, 1 - on))

        chosen = (h == state).all(axis=1)
        counts = [((after == to).all(axis=1) & chosen).sum() for to in all_states(2)]
        limits = mean - 12 * spread, mean + 12 * spread
        expected = [integrate.quad(density, *limits, args=(to,))[0] * chosen.sum() for to in all_states(2)]
        assert stats.chisquare(counts, np.array(expected) * chosen.sum() / np.sum(expected)).pvalue > 1e-6


def test_moments_against_the_exact_ones(equilibrium):
    rbm, v, h = equilibrium
    exact = vf.free_energy.exact(rbm, beta=0.8, moments=True).moments
    n = len(v)
    for got, expected in ((v, exact.visible), (h, exact.hidden)):
        assert (np.abs(got.mean(axis=0) - expected) < 5 * got.std(axis=0) / np.sqrt(n) + 1e-9).all()
    pairs = v[:, :, None] * h[:, None, :]
    assert (np.abs(pairs.mean(axis=0) - exact.visible_hidden) < 5 * pairs.std(axis=0) / np.sqrt(n)).all()


# --- the same bits --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_chains", [3, 40, 600])
def test_same_bits_for_any_threads_and_cuts(n_chains, dtype):
    rbm = model(200, 150, scale=0.1, dtype=dtype)
    v0 = np.random.default_rng(2).normal(size=(n_chains, 200)).astype(dtype)
    beta = np.linspace(0.5, 1.5, n_chains)
    whole = vf.gibbs(rbm, v0, 4, beta=beta, rng=9, num_threads=1)
    for threads in (2, 3, 7):
        for a, b in zip(whole, vf.gibbs(rbm, v0, 4, beta=beta, rng=9, num_threads=threads), strict=True):
            assert a.tobytes() == b.tobytes()
    cut = n_chains // 3
    parts = [
        vf.gibbs(rbm, v0[piece], 4, beta=beta[piece], rng=9, chain_offset=piece.start)
        for piece in (slice(0, cut), slice(cut, n_chains))
    ]
    for k in range(2):
        assert whole[k].tobytes() == np.concatenate([p[k] for p in parts]).tobytes()
    halfway, _ = vf.gibbs(rbm, v0, 1, beta=beta, rng=9)
    assert whole[0].tobytes() == vf.gibbs(rbm, halfway, 3, beta=beta, rng=9, step_offset=1)[0].tobytes()


@pytest.mark.usefixtures("keep_target")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_bits_on_every_target(dtype):
    rbm = model(150, 70, scale=0.2, dtype=dtype)
    v0 = np.random.default_rng(2).normal(size=(30, 150)).astype(dtype)
    found = []
    for name in vf.show_config("dict")["usable_targets"]:
        _core.use_target(name)
        v, h = vf.gibbs(rbm, v0, 5, rng=1)
        found.append(v.tobytes() + h.tobytes())
    assert len(set(found)) == 1


# --- chains, clamping, input ----------------------------------------------------------------------


def test_clamped_units():
    """They keep their values; the law of h is that given them: chi-square, false alarm 1e-6."""
    rbm = model(3, 3, scale=0.8, seed=8)
    kept = np.array([True, False, True])
    v0 = np.tile([0.7, 0.0, -1.2], (100_000, 1))
    v, h = vf.gibbs(rbm, v0, 30, clamped=kept, rng=2)
    assert np.array_equal(v[:, kept], v0[:, kept])
    w, a, b, sigma = rbm.parameters
    given = vf.GaussianRBM(w[1:2], a[1:2], b + (v0[0, kept] / sigma[kept] ** 2) @ w[kept], sigma[1:2])
    counts = np.bincount(h @ (1 << np.arange(3)), minlength=8)
    expected = np.zeros(8)
    expected[all_states(3).astype(int) @ (1 << np.arange(3))] = hidden_law(given, 1.0) * len(h)
    assert stats.chisquare(counts, expected).pvalue > 1e-6
    each = np.arange(len(v0)) % 2 == 0
    v, _ = vf.gibbs(rbm, v0, 3, clamped=np.where(each[:, None], kept, ~kept), rng=2)
    assert np.array_equal(v[each][:, kept], v0[each][:, kept])
    assert np.array_equal(v[~each][:, ~kept], v0[~each][:, ~kept])


def test_chains():
    rbm = model(20, 10, scale=0.3, dtype=np.float32)
    chains = vf.GibbsChains(rbm, 50, rng=3)
    first = chains.visible
    z = (first - rbm.visible_bias) / rbm.sigma
    assert stats.kstest(z.ravel(), "norm").pvalue > 1e-6
    chains.step(3)
    v, h = vf.gibbs(rbm, first, 3, rng=3)
    assert np.array_equal(chains.visible, v)
    assert np.array_equal(chains.hidden, h)
    snapshot = chains.state
    chains.step(2)
    after = chains.visible
    again = vf.GibbsChains(rbm, 50, start=np.zeros((50, 20), np.float32))
    again.state = snapshot
    again.step(2)
    assert np.array_equal(again.visible, after)
    mine = np.zeros((50, 20), np.float32)
    own = vf.GibbsChains(rbm, 50, start=mine)
    mine[:] = 7
    assert not own.visible.any()


def test_chains_of_spins():
    """The law of a ±1 machine: pair correlations against the exact ones at five standard errors."""
    w, a, b = random_parameters(5, 4, scale=0.4, seed=2)
    rbm = vf.SpinRBM(w, a, b)
    chains = vf.GibbsChains(rbm, 100_000, rng=1)
    chains.step(50)
    v, h = chains.visible, chains.hidden
    assert v.dtype == np.int8
    assert set(np.unique(v)) == {-1, 1}
    exact = vf.free_energy.exact(rbm, moments=True).moments
    pairs = v.astype(float).T @ h / len(v)
    assert (np.abs(pairs - exact.visible_hidden) < 5 * np.sqrt((1 - exact.visible_hidden**2) / len(v))).all()
    again, _ = vf.gibbs(rbm, v[:3], 1, rng=1)
    assert again.shape == (3, 5)
    kept, _ = vf.gibbs(rbm, v[:3], 5, clamped=[1, 0, 0, 0, 1])
    assert np.array_equal(kept[:, [0, 4]], v[:3, [0, 4]])


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"v0": np.zeros((2, 4))}, ValueError, "v0"),
        ({"v0": np.zeros((2, 3), np.float32)}, TypeError, "v0"),
        ({"v0": np.zeros((2, 3), int)}, TypeError, "v0"),
        ({"v0": np.full((2, 3), np.nan)}, ValueError, "v0"),
        ({"v0": "abc"}, (TypeError, ValueError), "v0"),
        ({"beta": 0.0}, ValueError, "beta"),
        ({"beta": -1.0}, ValueError, "beta"),
        ({"beta": [1.0, np.nan]}, ValueError, "beta"),
        ({"beta": np.ones(3)}, ValueError, "beta"),
        ({"clamped": np.ones(4)}, ValueError, "clamped"),
        ({"n_steps": 0}, ValueError, "n_steps"),
    ],
)
def test_bad_input(change, error, match):
    with pytest.raises(error, match=f"^{match}:"):
        vf.gibbs(**({"rbm": model(3, 2), "v0": np.zeros((2, 3)), "n_steps": 1} | change))


@pytest.mark.parametrize(("n_visible", "n_hidden"), [(1, 1), (3, 64), (64, 3), (17, 33), (100, 5), (5, 100)])
def test_infinite_fields_are_an_error(n_visible, n_hidden):
    weights = np.zeros((n_visible, n_hidden), np.float32)
    weights[0] = 1e25
    start = np.zeros((2, n_visible), np.float32)
    start[:, 0] = 1e20
    rbm = vf.GaussianRBM(weights, np.zeros(n_visible, np.float32), np.zeros(n_hidden, np.float32))
    with pytest.raises(ValueError, match="overflow"):
        vf.gibbs(rbm, start, 1, rng=0)


def test_other_biases_share_the_tables():
    """Of all kinds of machine: the sample is that of a machine made anew."""
    rng = np.random.default_rng(3)
    w, a, b = (rng.normal(size=s).astype(np.float32) for s in ((70, 40), 70, 40))
    c, d = (rng.normal(size=n).astype(np.float32) for n in (70, 40))
    for kind, start in (
        (vf.GaussianRBM, c[None]),
        (vf.SpinRBM, np.sign(c[None])),
        (vf.BernoulliRBM, c[None] > 0),
    ):
        rbm = kind(w, a, b)
        first = vf.gibbs(rbm, start, 3, rng=1)
        other = rbm.with_biases(c, d)
        assert other.weights is rbm.weights
        for found, expected in zip(
            vf.gibbs(other, start, 3, rng=1), vf.gibbs(kind(w, c, d), start, 3, rng=1), strict=True
        ):
            np.testing.assert_array_equal(found, expected)
        again = vf.gibbs(rbm, start, 3, rng=1)
        assert all((x == y).all() for x, y in zip(first, again, strict=True))
        assert np.array_equal(rbm.with_biases(hidden_bias=d).visible_bias, a)
        assert np.array_equal(rbm.with_biases(hidden_bias=d.tolist()).hidden_bias, d)
        with pytest.raises(TypeError, match=r"^(weights|sigma): "):
            rbm.set_parameters(w.astype(float), a.astype(float), b.astype(float))
        with pytest.raises(ValueError, match=r"^hidden_bias: "):
            rbm.with_biases(hidden_bias=d[1:])
        with pytest.raises(ValueError, match=r"^visible_bias: "):
            rbm.with_biases(np.full(70, np.nan, np.float32))


def test_chains_keep_their_units():
    """Another model may take the place of theirs if it has the same units, and no other."""
    rbm, other = model(5, 3), model(5, 3, scale=0.9)
    chains = vf.GibbsChains(rbm, 4, rng=0)
    chains.rbm = other
    chains.step()
    assert chains.rbm is other
    for wrong, error in (
        (model(4, 3), ValueError),
        (vf.SpinRBM(*rbm.parameters[:3]), ValueError),
        ("x", TypeError),
    ):
        with pytest.raises(error, match=r"^rbm: "):
            chains.rbm = wrong


def test_overflow_is_an_error():
    rbm = vf.GaussianRBM(
        np.full((2, 2), [[1e29, -1e29], [-1e29, 1e29]], np.float32), *np.zeros((2, 2), np.float32)
    )
    with pytest.raises(ValueError, match="overflow"):
        vf.gibbs(rbm, np.full((3, 2), 1e29, np.float32), 5, rng=0)
    for sigma in (1e-30, 1e30):
        with pytest.raises(ValueError, match="sigma"):
            vf.GaussianRBM(np.ones((1, 1), np.float32), *np.zeros((2, 1), np.float32), np.float32([sigma]))


def test_lists_are_converted_and_callers_arrays_untouched():
    rbm = model(3, 2, dtype=np.float32)
    v, _ = vf.gibbs(rbm, [[0, 1.5, 2]], 1, rng=0)
    assert v.dtype == np.float32
    v0 = np.ones((4, 3), np.float32)
    vf.gibbs(rbm, v0, 3, rng=0)
    assert (v0 == 1).all()
