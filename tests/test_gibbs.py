"""Gibbs sampling: every draw against its definition, the law against the exact one, the same bits always."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import vfe_fast as vf
from conftest import random_parameters, random_rbm
from oracles.philox import gibbs_uniforms
from oracles.rbm import all_states, joint
from vfe_fast import _core


def sigmoid(x):
    with np.errstate(over="ignore"):
        return 1.0 / (1.0 + np.exp(-x))


def draw(u, x):
    """The kernel's decision with P(1) = sigmoid(x), and where u is too near the limit to tell."""
    return u < sigmoid(x), np.abs(u - sigmoid(x)) < 3e-7 + 1e-9


@pytest.mark.twin(small=True)
@pytest.mark.parametrize(("n_visible", "n_hidden"), [(1, 1), (63, 65), (64, 128), (150, 31), (300, 257)])
@pytest.mark.parametrize("n_chains", [1, 5, 300])
def test_every_draw_is_the_one_defined(target, n_visible, n_hidden, n_chains):
    """One step, unit by unit, from the random words that the contract names."""
    w, a, b = random_parameters(n_visible, n_hidden, scale=2 / np.sqrt(n_visible))
    beta, seed, step = 0.7, 0x9876543210FEDCBA, 2**40 + 3
    v0 = np.random.default_rng(1).integers(0, 2, (n_chains, n_visible), dtype=np.uint8)
    v, h = vf.gibbs(vf.BernoulliRBM(w, a, b), v0, 1, beta=beta, rng=seed, step_offset=step)

    u = gibbs_uniforms(n_chains, n_hidden, seed=seed, layer="hidden", step=step)
    expected, unsure = draw(u, beta * (b + v0 @ w))
    assert np.array_equal(h[~unsure], expected[~unsure])
    u = gibbs_uniforms(n_chains, n_visible, seed=seed, layer="visible", step=step)
    expected, unsure = draw(u, beta * (a + h @ w.T))
    assert np.array_equal(v[~unsure], expected[~unsure])


def test_draws_that_are_settled_once_more(target):
    """Four million draws with fields known exactly: what is decided roughly is far enough from a tie."""
    b = np.linspace(-1.5, 1.5, 64)
    model, n_chains = vf.BernoulliRBM(np.zeros((1, 64)), np.zeros(1), b), 65_536
    _, h = vf.gibbs(model, np.zeros((n_chains, 1), np.uint8), 1, rng=9)
    expected, unsure = draw(gibbs_uniforms(n_chains, 64, seed=9, layer="hidden", step=0), b)
    assert np.array_equal(h[~unsure], expected[~unsure])


@pytest.mark.parametrize("spread", [1e-3, 1.0, 1e3])
def test_field_error_is_within_the_contract(spread):
    """Weights over nine decades: no draw is off unless the field is within the contract's error of a tie."""
    n_visible, n_hidden, n_chains = 500, 100, 400
    rng = np.random.default_rng(5)
    w = rng.normal(size=(n_visible, n_hidden)) * 10.0 ** rng.uniform(-9, 0, (n_visible, n_hidden)) * spread
    a, b = rng.normal(size=n_visible), rng.normal(size=n_hidden)
    v0 = rng.integers(0, 2, (n_chains, n_visible), dtype=np.uint8)
    _, h = vf.gibbs(vf.BernoulliRBM(w, a, b), v0, 1, rng=1)
    x = b + v0 @ w
    total = np.abs(w).sum(axis=0)
    error = n_visible * 2.0**-31 * total + 2.0**-22 * (np.abs(v0 @ w) + np.abs(b))
    u = gibbs_uniforms(n_chains, n_hidden, seed=1, layer="hidden", step=0)
    u = np.where(x >= 0, 1 - u, u)
    above = u < sigmoid(-np.abs(x) - error) * (1 - 5e-7)
    below = u > sigmoid(-np.abs(x) + error) * (1 + 5e-7)
    minority = h != (x >= 0)
    assert minority[above].all()
    assert not minority[below].any()
    assert (above | below).mean() > 0.99


@pytest.mark.parametrize("scale", [0.0, 0.1, 1.0, 10.0, 1e30])
@pytest.mark.parametrize(("n_visible", "n_hidden"), [(784, 500), (65, 130), (1100, 33), (2100, 40), (40, 16)])
def test_many_chains_are_drawn_as_few(target, n_visible, n_hidden, scale):
    """Sums of 16 bits decide for many chains, exact sums for few: the same bits."""
    w, a, b = random_parameters(n_visible, n_hidden, scale=scale / np.sqrt(n_visible))
    w[:, ::7] -= 0.2 * scale / np.sqrt(n_visible)
    w[3, 1::5] *= 30
    w -= w.mean(axis=0)
    w[:, 5] = w[7] = 0.0  # units without weights
    rbm = vf.BernoulliRBM(w, a, b)
    v0 = np.random.default_rng(2).integers(0, 2, (200, n_visible), dtype=np.uint8)
    v0[:70] = np.arange(n_visible) % 3 == 0  # blocks of zeros and states that agree
    beta = np.linspace(0.0, 1.5, 200)
    v, h = vf.gibbs(rbm, v0, 3, beta=beta, rng=3, num_threads=1)  # in one block
    for first in range(0, 200, 50):
        part = slice(first, first + 50)
        few = vf.gibbs(rbm, v0[part], 3, beta=beta[part], rng=3, chain_offset=first)
        assert np.array_equal(few[0], v[part])
        assert np.array_equal(few[1], h[part])


@pytest.mark.parametrize(
    ("n_visible", "n_hidden", "scale"), [(784, 70, 4.0), (150, 131, 4.0), (450, 390, 1.2)]
)
@pytest.mark.parametrize("n_chains", [16, 300])
def test_fields_that_are_kept(target, n_visible, n_hidden, scale, n_chains):
    """Units of a cold model seldom flip: steps of one call start from fields of the step before.

    Threads that share the units of the largest model share what is kept, too.
    """
    w, a, b = random_parameters(n_visible, n_hidden, scale=scale / np.sqrt(n_hidden))
    rbm = vf.BernoulliRBM(w, a - 1, b)
    beta = np.random.default_rng(4).uniform(0.3, 2.0, n_chains)
    v, _ = vf.gibbs(rbm, np.zeros((n_chains, n_visible), np.uint8), 30, beta=beta, rng=1)
    one_by_one = v
    for step in range(30, 38):
        one_by_one, h = vf.gibbs(rbm, one_by_one, 1, beta=beta, rng=1, step_offset=step)
        flips = np.mean(one_by_one != v)
    assert 0 < flips < 0.2  # in eight steps
    for threads in (1, 2, 3):
        at_once = vf.gibbs(rbm, v, 8, beta=beta, rng=1, step_offset=30, num_threads=threads)
        assert np.array_equal(at_once[0], one_by_one)
        assert np.array_equal(at_once[1], h)


@pytest.mark.parametrize(("n_visible", "total"), [(514, 12.0), (545, 22.0)])
def test_draws_at_the_bound_of_coarse_sums(target, n_visible, total):
    """Equal weights, whose lower parts are at their limit, of one sign: coarse sums are off by their bound.

    Fields near 0 make one draw in a hundred depend on it: a slack 15 % too small is found.
    """
    rng = np.random.default_rng(5)
    w = np.full((n_visible, 64), total / n_visible) * rng.choice([-1.0, 1.0], 64)
    a, b = rng.normal(size=n_visible), rng.normal(scale=0.1, size=64) - w.sum(axis=0)
    rbm = vf.BernoulliRBM(w, a, b)
    v0 = np.ones((2000, n_visible), dtype=np.uint8)
    _, h = vf.gibbs(rbm, v0, 1, rng=3, num_threads=1)
    for first in range(0, 2000, 15):  # of so few chains sums are exact
        part = slice(first, first + 15)
        assert np.array_equal(vf.gibbs(rbm, v0[part], 1, rng=3, chain_offset=first)[1], h[part])


# --- law ----------------------------------------------------------------------------------------

N_VISIBLE, N_HIDDEN = 5, 4
BETA = 0.8


def chi_square_p(counts: np.ndarray, probabilities: np.ndarray) -> float:
    """P-value of counts under probabilities, cells of small expectation joined."""
    expected = probabilities * counts.sum()
    order = np.argsort(expected)
    small = np.cumsum(expected[order]) < 10
    rare, rest = order[small], order[~small]
    observed = np.append(counts[rest], counts[rare].sum())
    wanted = np.append(expected[rest], expected[rare].sum())
    keep = wanted > 0
    return float(
        stats.chisquare(observed[keep], wanted[keep] * observed[keep].sum() / wanted[keep].sum()).pvalue
    )


def joint_counts(v: np.ndarray, h: np.ndarray) -> np.ndarray:
    index = v @ (1 << np.arange(N_VISIBLE)) * 2**N_HIDDEN + h @ (1 << np.arange(N_HIDDEN))
    return np.bincount(index, minlength=2 ** (N_VISIBLE + N_HIDDEN))


PLANTED = {
    "the model itself": lambda w, a, b, beta: (w, a, b, beta),
    "hidden bias forgotten": lambda w, a, b, beta: (w, a, 0 * b, beta),
    "visible bias of the wrong sign": lambda w, a, b, beta: (w, -a, b, beta),
    "weights reversed": lambda w, a, b, beta: (w[::-1, ::-1], a, b, beta),
    "beta ignored": lambda w, a, b, beta: (w, a, b, 1.0),
    "one weight off by 0.3": lambda w, a, b, beta: (
        w + 0.3 * (np.arange(w.size) == 7).reshape(w.shape),
        a,
        b,
        beta,
    ),
}


@pytest.fixture(scope="module")
def parameters():
    return random_parameters(N_VISIBLE, N_HIDDEN, scale=0.9, seed=4)


@pytest.fixture(scope="module")
def equilibrium(parameters):
    """Joint states of 400,000 chains after 100 steps."""
    v0 = np.zeros((400_000, N_VISIBLE), dtype=np.uint8)
    return joint_counts(*vf.gibbs(vf.BernoulliRBM(*parameters), v0, 100, beta=BETA, rng=11))


@pytest.mark.parametrize("what", PLANTED)
def test_joint_law(parameters, equilibrium, what):
    """Chi-square of all 512 joint states, false alarm 1e-6; a model that is not the sampled one is found."""
    w, a, b, beta = PLANTED[what](*parameters, BETA)
    p = chi_square_p(equilibrium, joint(w, a, b, beta).ravel())
    assert p > 1e-6 if what == "the model itself" else p < 1e-9


@pytest.mark.parametrize("what", PLANTED)
@pytest.mark.parametrize("start", [0, 13, 31])
def test_two_time_law(parameters, what, start):
    """One step from a fixed v0: p(h, v | v0) = p(h | v0) p(v | h); false alarm 1e-6."""
    w, a, b, beta = PLANTED[what](*parameters, BETA)
    v0 = all_states(N_VISIBLE)[start]
    counts = joint_counts(
        *vf.gibbs(vf.BernoulliRBM(*parameters), np.tile(v0, (300_000, 1)), 1, beta=BETA, rng=start)
    )
    v, h = all_states(N_VISIBLE), all_states(N_HIDDEN)
    on_h = sigmoid(beta * (b + v0 @ w))
    p_h = np.where(h == 1, on_h, 1 - on_h).prod(axis=1)
    on_v = sigmoid(beta * (a + h @ w.T))
    p_v = np.where(v[:, None, :] == 1, on_v, 1 - on_v).prod(axis=2)
    p = chi_square_p(counts, (p_v * p_h).ravel())
    if what == "the model itself":
        assert p > 1e-6
    else:
        assert p < 1e-9


@pytest.mark.parametrize("beta", [BETA, "each its own"])
def test_law_given_clamped_units(parameters, beta):
    """Chi-square of the other units given two, whose values differ from chain to chain; false alarm 1e-6."""
    rbm, n_chains = vf.BernoulliRBM(*parameters), 400_000
    v0 = np.random.default_rng(1).integers(0, 2, (n_chains, N_VISIBLE), dtype=np.uint8)
    betas = np.where(np.arange(n_chains) % 3 == 0, BETA, 0.3) if beta == "each its own" else beta
    kept = np.array([False, True, False, False, True])
    v, h = vf.gibbs(rbm, v0, 100, beta=betas, clamped=kept, rng=12)
    assert np.array_equal(v[:, kept], v0[:, kept])
    states = all_states(N_VISIBLE)
    for value in ([0, 0], [0, 1], [1, 1]):
        for b in np.unique(betas):
            seen = (v0[:, kept] == value).all(axis=1) & (betas == b)
            law = joint(*parameters, b) * (states[:, kept] == value).all(axis=1)[:, None]
            assert chi_square_p(joint_counts(v[seen], h[seen]), (law / law.sum()).ravel()) > 1e-6
            assert chi_square_p(joint_counts(v[seen], h[seen]), joint(*parameters, b).ravel()) < 1e-9


def test_beta_of_each_chain(target):
    """The same bits as chain by chain, each with a mask of its own; persistent chains too."""
    rbm, n_chains = random_rbm(130, 70, scale=0.3), 21
    rng = np.random.default_rng(3)
    v0, kept = rng.integers(0, 2, (n_chains, 130)), rng.random((n_chains, 130)) < 0.3
    betas = rng.uniform(0, 2, n_chains).astype(np.float32)
    v, h = vf.gibbs(rbm, v0, 4, beta=betas, clamped=kept, rng=6)
    for c in range(n_chains):
        one = vf.gibbs(rbm, v0[[c]], 4, beta=float(betas[c]), clamped=kept[c], rng=6, chain_offset=c)
        assert np.array_equal(one[0][0], v[c])
        assert np.array_equal(one[1][0], h[c])
    chains = vf.GibbsChains(rbm, n_chains, start=v0, clamped=kept, rng=6)
    chains.step(3, beta=betas)
    chains.step(beta=betas)
    assert np.array_equal(chains.visible, v)
    assert np.array_equal(chains.hidden, h)


@pytest.mark.parametrize(
    ("name", "bad", "error"),
    [
        ("beta", np.ones(2), ValueError),
        ("beta", np.ones((3, 1)), TypeError),
        ("beta", [1.0, -1.0, 1.0], ValueError),
        ("beta", [1.0, np.nan, 1.0], ValueError),
        ("beta", np.ones(3, dtype=bool), TypeError),
        ("clamped", np.zeros(4, dtype=bool), ValueError),
        ("clamped", np.zeros((2, 5), dtype=bool), ValueError),
        ("clamped", np.full(5, 2), ValueError),
        ("clamped", "all", TypeError),
    ],
)
def test_bad_betas_and_masks(parameters, name, bad, error):
    rbm, v0 = vf.BernoulliRBM(*parameters), np.zeros((3, N_VISIBLE), np.uint8)
    with pytest.raises(error, match=f"^{name}: expected"):
        vf.gibbs(rbm, v0, **{name: bad})

    def persistent() -> None:
        vf.GibbsChains(rbm, 3, start=v0, **({} if name == "beta" else {name: bad})).step(
            **({name: bad} if name == "beta" else {})
        )

    with pytest.raises(error, match=f"^{name}: expected"):
        persistent()


def test_state_of_clamped_chains_has_a_row_each(parameters):
    rbm, start = vf.BernoulliRBM(*parameters), np.eye(5, dtype=np.uint8)
    chains = vf.GibbsChains(rbm, 5, start=start, clamped=start, rng=0)
    with pytest.raises(ValueError, match=r"^state: expected n_chains = 5"):
        chains.state = vf.GibbsChains(rbm, 3, rng=0).state
    chains.step()
    assert (chains.visible[start == 1] == 1).all()


def test_clamped_chains_need_a_start(parameters):
    with pytest.raises(ValueError, match=r"^clamped: expected `start`"):
        vf.GibbsChains(vf.BernoulliRBM(*parameters), 3, clamped=np.ones(5, dtype=bool))


def test_marginals_of_a_large_layer_against_the_exact_kernel():
    """784 x 20, a million states: every mean within 5.5 standard errors; false alarm below 1e-4 in all."""
    rbm = random_rbm(784, 20, scale=0.05)
    n_chains, n_records = 20_000, 50
    chains = vf.GibbsChains(rbm, n_chains, rng=3)
    chains.step(60)
    sums = [np.zeros((n_chains, n), np.float32) for n in (784, 20)]
    for _ in range(n_records):
        chains.step()
        sums[0] += chains.visible
        sums[1] += chains.hidden
    moments = vf.free_energy.exact(rbm, moments=True).moments
    for of_chains, mean in zip(sums, (moments.visible, moments.hidden), strict=True):
        averages = of_chains.astype(np.float64) / n_records
        z = (averages.mean(axis=0) - mean) / (averages.std(axis=0) / np.sqrt(n_chains))
        assert np.abs(z).max() < 5.5


def test_beta_zero_is_uniform():
    """Chi-square over 512 states; false alarm 1e-6."""
    v, h = vf.gibbs(
        random_rbm(N_VISIBLE, N_HIDDEN), np.zeros((100_000, N_VISIBLE), np.uint8), 1, beta=0, rng=0
    )
    assert chi_square_p(joint_counts(v, h), np.full(512, 1 / 512)) > 1e-6


def test_saturated_weights_are_deterministic():
    w = np.array([[60.0, -60.0], [-60.0, 60.0], [60.0, 60.0]])
    v, h = vf.gibbs(vf.BernoulliRBM(w, [-30.0, -30.0, -90.0], [-90.0, -30.0]), np.eye(3), 1, rng=0)
    assert h.tolist() == [[0, 0], [0, 1], [0, 1]]
    assert v.tolist() == [[0, 0, 0], [0, 1, 0], [0, 1, 0]]


# --- the same bits ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    return random_rbm(130, 70, scale=0.1, dtype=np.float32)


@pytest.fixture(scope="module")
def v0():
    return np.random.default_rng(2).integers(0, 2, (600, 130), dtype=np.uint8)


@pytest.fixture(scope="module")
def whole(model, v0):
    return vf.gibbs(model, v0, 5, rng=8)


@pytest.mark.parametrize("n_chains", [1, 3, 4, 15, 16, 90])
def test_same_bits_for_threads_that_share_units(target, n_chains):
    """Rows, pairs and groups of inputs; few chains, so that threads meet after each half step."""
    model = random_rbm(500, 300, scale=0.1)
    v0 = np.random.default_rng(0).integers(0, 2, (n_chains, 500))
    n_steps = -(-300 // n_chains)
    whole = vf.gibbs(model, v0, n_steps, rng=5, num_threads=1)
    for num_threads in (2, 3):
        for got, expected in zip(
            vf.gibbs(model, v0, n_steps, rng=5, num_threads=num_threads), whole, strict=True
        ):
            np.testing.assert_array_equal(got, expected)
    one_by_one = [vf.gibbs(model, v0[c : c + 1], n_steps, rng=5, chain_offset=c)[0] for c in range(n_chains)]
    np.testing.assert_array_equal(np.concatenate(one_by_one), whole[0])


@pytest.mark.parametrize("num_threads", [1, 2, 7])
def test_same_bits_for_any_threads(target, model, v0, whole, num_threads):
    v, h = vf.gibbs(model, v0, 5, rng=8, num_threads=num_threads)
    assert np.array_equal(v, whole[0])
    assert np.array_equal(h, whole[1])


@pytest.mark.parametrize("cuts", [[1, 2, 9, 20], [256], [300, 599]])
def test_same_bits_for_any_cut_of_the_batch(target, model, v0, whole, cuts):
    """Pieces of few chains add rows, large ones use tables: the states are the same."""
    pieces = []
    for begin, end in zip([0, *cuts], [*cuts, 600], strict=True):
        pieces.append(vf.gibbs(model, v0[begin:end], 5, rng=8, chain_offset=begin))
    assert np.array_equal(np.concatenate([v for v, _ in pieces]), whole[0])
    assert np.array_equal(np.concatenate([h for _, h in pieces]), whole[1])


def test_same_bits_for_any_cut_of_the_run(model, v0, whole):
    v, _ = vf.gibbs(model, v0, 2, rng=8)
    v, h = vf.gibbs(model, v, 3, rng=8, step_offset=2)
    assert np.array_equal(v, whole[0])
    assert np.array_equal(h, whole[1])


def test_dtype_of_the_weights_does_not_matter_to_equal_weights(model, v0, whole):
    double = vf.BernoulliRBM(*(p.astype(np.float64) for p in model.parameters))
    assert np.array_equal(vf.gibbs(double, v0, 5, rng=8)[0], whole[0])


def test_other_seed_other_sample(model, v0, whole):
    assert not np.array_equal(vf.gibbs(model, v0, 5, rng=9)[0], whole[0])


# --- chains -------------------------------------------------------------------------------------


def test_chains_are_gibbs_in_parts(model, v0, whole):
    chains = vf.GibbsChains(model, 600, rng=8, start=v0)
    chains.step(1)
    chains.step(4)
    assert chains.n_steps == 5
    assert np.array_equal(chains.visible, whole[0])
    assert np.array_equal(chains.hidden, whole[1])


def test_chains_advance():
    chains = vf.GibbsChains(random_rbm(40, 30, scale=0.1), 50, rng=0)
    chains.step()
    first = chains.visible
    chains.step()
    assert not np.array_equal(first, chains.visible)


def test_chains_take_a_bit_a_unit(model):
    chains = vf.GibbsChains(model, 1000, rng=0)
    chains.step()
    assert chains.state.visible.nbytes == 1000 * 3 * 8  # 130 units in three words
    assert chains.state.hidden.nbytes == 1000 * 2 * 8


def test_chain_state_is_restored_bitwise(model):
    chains = vf.GibbsChains(model, 64, rng=5)
    chains.step(3)
    snapshot = chains.state
    with pytest.raises(ValueError, match="read-only"):
        snapshot.visible[0] = 0
    chains.step(4)
    ended = chains.visible, chains.hidden
    other = vf.GibbsChains(model, 64, rng=77)
    other.state = snapshot
    other.step(4)
    assert np.array_equal(other.visible, ended[0])
    assert np.array_equal(other.hidden, ended[1])


@pytest.mark.parametrize("kind", [vf.BernoulliRBM, vf.SpinRBM, vf.GaussianRBM])
def test_chains_on_disk(tmp_path, kind):
    """Saved in the middle of a run, half of the units clamped: the end is bitwise that of the whole run."""
    rng = np.random.default_rng(0)
    rbm = kind(*(rng.normal(size=s).astype(np.float32) for s in ((70, 20), 70, 20)))
    start = np.where(rng.random((8, 70)) < 0.5, -1 if kind is vf.SpinRBM else 0, 1)
    start = start.astype(np.float32 if kind is vf.GaussianRBM else np.int8)
    chains = vf.GibbsChains(rbm, 8, rng=5, start=start, clamped=np.arange(70) < 35)
    chains.step(3)
    chains.save(tmp_path / "chains.npz")
    chains.step(4)
    again = vf.GibbsChains.load(tmp_path / "chains.npz", rbm)
    assert again.n_steps == 3
    again.step(4)
    assert again.visible.tobytes() == chains.visible.tobytes()
    assert again.hidden.tobytes() == chains.hidden.tobytes()
    with np.load(tmp_path / "chains.npz") as file:
        arrays = dict(file)
    np.savez(tmp_path / "rows.npz", **arrays | {"clamped": np.repeat(arrays["clamped"], 3, axis=0)})
    with pytest.raises(ValueError, match=r"rows\.npz.*clamped: expected 1 or 8 rows"):
        vf.GibbsChains.load(tmp_path / "rows.npz", rbm)
    other = kind(*(np.zeros(s, np.float32) for s in ((70, 21), 70, 21)))
    with pytest.raises(ValueError, match="70 20"):
        vf.GibbsChains.load(tmp_path / "chains.npz", other)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "chains.npz").read_bytes()[:300])
    with pytest.raises(ValueError, match=r"cut\.npz"):
        vf.GibbsChains.load(tmp_path / "cut.npz", rbm)
    rbm.save(tmp_path / "model.npz")
    with pytest.raises(ValueError, match=r"model\.npz"):
        vf.GibbsChains.load(tmp_path / "model.npz", rbm)


def test_first_states_follow_the_visible_biases():
    """Means of 20,000 starts within 5.5 standard errors; false alarm below 1e-5 in all."""
    rbm = random_rbm(70, 3)
    mean = sigmoid(rbm.visible_bias)
    v = vf.GibbsChains(rbm, 20_000, rng=1).visible
    assert np.abs((v.mean(axis=0) - mean) / np.sqrt(mean * (1 - mean) / 20_000)).max() < 5.5


def test_first_states_of_real_units():
    """Means and variances of 20,000 starts within 5.5 standard errors; false alarm below 1e-5 in all."""
    a, sigma = np.linspace(-3, 5, 9), np.linspace(0.2, 2, 9)
    v = vf.GibbsChains(vf.GaussianRBM(np.ones((9, 3)), a, np.ones(3), sigma), 20_000, rng=1).visible
    assert np.abs((v.mean(axis=0) - a) / sigma).max() < 5.5 / np.sqrt(20_000)
    assert np.abs(v.var(axis=0) / sigma**2 - 1).max() < 5.5 * np.sqrt(2 / 20_000)


@pytest.mark.parametrize("kind", [vf.BernoulliRBM, vf.SpinRBM, vf.GaussianRBM])
def test_starts_share_no_numbers_with_the_first_step(kind):
    """Without weights the two are independent; false alarm below 1e-6."""
    chains = vf.GibbsChains(kind(np.zeros((64, 2)), np.zeros(64), np.zeros(2)), 1000, rng=3)
    start = chains.visible
    chains.step()
    assert abs(np.corrcoef(start.ravel(), chains.visible.ravel())[0, 1]) < 5 / np.sqrt(64_000)


def test_starts_share_no_numbers_with_uniform():
    """The same seed for two purposes: no more agreement than chance; false alarm below 1e-6."""
    rbm = vf.BernoulliRBM(np.zeros((64, 2)), np.zeros(64), np.zeros(2))
    start = vf.GibbsChains(rbm, 1000, rng=3).visible
    other = vf.random.uniform((1000, 64), rng=3, dtype=np.float32) < 0.5
    assert abs((start == other).mean() - 0.5) < 5 * 0.5 / np.sqrt(64_000)


def test_hidden_before_the_first_step(model):
    with pytest.raises(ValueError, match="hidden"):
        _ = vf.GibbsChains(model, 2, rng=0).hidden


def test_packing_round_trip():
    rng = np.random.default_rng(0)
    for n_units in (1, 7, 8, 63, 64, 65, 200):
        states = rng.integers(0, 2, (11, n_units), dtype=np.uint8)
        words = _core.pack_states(states, n_units, "states")
        assert words.shape == (11, (n_units + 63) // 64)
        for unit in range(n_units):
            bit = (words[:, unit // 64] >> np.uint64(unit % 64)) & np.uint64(1)
            assert np.array_equal(bit, states[:, unit])
        assert np.array_equal(_core.unpack_states(words, n_units), states)


# --- other biases -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_other_biases_same_weights(dtype):
    """The machine that shares weights draws what a fresh one does; the first is left as it was."""
    w, a, b = random_parameters(150, 70, scale=0.2, dtype=dtype)
    rbm = vf.BernoulliRBM(w, a, b)
    v0 = np.random.default_rng(2).integers(0, 2, (40, 150))
    before = vf.gibbs(rbm, v0, 3, rng=1)
    energies = rbm.free_energy(v0)
    for changes in (
        {"visible_bias": 2 * a},
        {"hidden_bias": b - 1},
        {"visible_bias": -a, "hidden_bias": 3 * b},
    ):
        other = rbm.with_biases(**changes)
        fresh = vf.BernoulliRBM(w, changes.get("visible_bias", a), changes.get("hidden_bias", b))
        assert other.weights is rbm.weights
        for mine, expected in zip(vf.gibbs(other, v0, 3, rng=1), vf.gibbs(fresh, v0, 3, rng=1), strict=True):
            assert np.array_equal(mine, expected)
        assert np.array_equal(other.free_energy(v0), fresh.free_energy(v0))
    assert np.array_equal(rbm.free_energy(v0), energies)
    rbm.set_parameters(rbm.weights, -a, 3 * b)
    assert np.array_equal(vf.gibbs(rbm, v0, 3, rng=1)[0], vf.gibbs(other, v0, 3, rng=1)[0])
    assert not np.array_equal(vf.gibbs(rbm, v0, 3, rng=1)[0], before[0])
    with pytest.raises(ValueError, match=r"^weights: expected|^hidden_bias"):
        rbm.with_biases(hidden_bias=b[1:])
    with pytest.raises(TypeError, match=r"^hidden_bias"):
        rbm.with_biases(hidden_bias=b.astype(np.float16))


@pytest.mark.parametrize("beta", [1.0, 2.0**90])
@pytest.mark.parametrize("size", [1e-30, 1.0, 1e25])
def test_biases_beyond_the_weights(target, size, beta):
    """Fields far out of a float32's range, to either side: the sign of the field decides."""
    rng = np.random.default_rng(3)
    w = size * rng.normal(size=(30, 20))
    b = size * np.where(np.arange(20) % 2, 1e6, -1e6) * (np.arange(20) % 3 > 0)
    v0 = rng.integers(0, 2, (50, 30))
    _, h = vf.gibbs(vf.BernoulliRBM(w, np.zeros(30), b), v0, 1, beta=beta, rng=1)
    x = beta * (b + v0 @ w)
    clear = np.abs(x) > 60 + beta * size * 1e6 * 2.0**-22
    assert np.array_equal(h[clear], (x > 0)[clear])
    if beta * size > 1e3:
        assert clear.mean() > 0.9
    elif beta * size < 1e-10:
        assert abs(h.mean() - 0.5) < 5 * 0.5 / np.sqrt(h.size)
