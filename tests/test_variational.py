"""Bounds by blocks and trees: between F and mean field, exact where q can be, divergences by definition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import vfe_fast as vf
from conftest import random_rbm
from vfe_fast.free_energy import MeanFieldWarning, mean_field, variational


def random_ising(n, seed, scale=0.5):
    draw = np.random.default_rng(seed)
    upper = np.triu(scale * draw.normal(size=(n, n)), 1)
    return vf.Ising(upper + upper.T, 0.3 * draw.normal(size=n))


def random_bit_rbm(seed):
    draw = np.random.default_rng(seed)
    return vf.BernoulliRBM(
        0.8 * draw.normal(size=(7, 5)), 0.8 * draw.normal(size=7), 0.8 * draw.normal(size=5)
    )


def random_spin_rbm(seed):
    draw = np.random.default_rng(seed)
    return vf.SpinRBM(0.4 * draw.normal(size=(6, 5)), 0.3 * draw.normal(size=6), 0.3 * draw.normal(size=5))


MODELS = {
    "bits": random_bit_rbm,
    "spins": random_spin_rbm,
    "ising": lambda seed: random_ising(11, seed),
}


def table(model):
    """States and energies of all units, by definition; those of an RBM visible first."""
    if isinstance(model, vf.Ising):
        n, low = model.n_spins, -1.0
    else:
        n, low = model.n_visible + model.n_hidden, 0.0 if isinstance(model, vf.BernoulliRBM) else -1.0
    x = np.where(np.arange(1 << n)[:, None] >> np.arange(n) & 1, 1.0, low)
    if isinstance(model, vf.Ising):
        return x, -0.5 * np.einsum("si,ij,sj->s", x, model.couplings, x) - x @ model.fields
    v, h = x[:, : model.n_visible], x[:, model.n_visible :]
    w, a, b = model.parameters
    return x, -(v @ a) - h @ b - np.einsum("si,ij,sj->s", v, w, h)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("beta", [0.4, 1.0, 1.7])
@pytest.mark.parametrize("seed", range(4))
def test_between_exact_and_mean_field(kind, beta, seed):
    model = MODELS[kind](seed)
    exact = vf.free_energy.exact(model, beta=beta).value
    before = mean_field(model, beta=beta, rng=seed).value
    for size in (1, 2, 4, 8):
        F = variational(model, size, beta=beta, rng=seed)
        assert F.kind == "upper_bound"
        assert exact - 1e-9 <= F.value <= before + 1e-9
        if size == 1:
            assert F.value == pytest.approx(before, abs=1e-8)
        else:
            assert F.value < before
        assert F.value == pytest.approx(F.details["energy"] - F.details["entropy"] / beta, rel=1e-12)


@pytest.mark.parametrize("kind", MODELS)
def test_one_block_is_exact(kind):
    model = MODELS[kind](1)
    n = len(table(model)[0][0])
    F = variational(model, n, beta=1.3, rng=0)
    assert F.log_z == pytest.approx(vf.free_energy.exact(model, beta=1.3).log_z, rel=1e-12)


def test_blocks_that_do_not_see_each_other_are_exact():
    couplings = np.zeros((7, 7))
    for i, j, value in ((0, 3, 1.0), (3, 5, -0.7), (1, 2, 0.9), (4, 6, 2.0)):
        couplings[i, j] = couplings[j, i] = value
    model = vf.Ising(couplings, np.linspace(-0.5, 0.6, 7))
    F = variational(model, [[0, 3, 5], [1, 2], [4, 6]], rng=0)
    assert F.log_z == pytest.approx(vf.free_energy.exact(model).log_z, rel=1e-12)


@pytest.mark.parametrize("kl", ["exclusive", "inclusive"])
@pytest.mark.parametrize("kind", MODELS)
def test_divergences_by_definition(kind, kl):
    beta, model = 0.9, MODELS[kind](2)
    x, energy = table(model)
    log_z = np.logaddexp.reduce(-beta * energy)
    p = np.exp(-beta * energy - log_z)
    F = variational(model, 3, kl=kl, beta=beta, rng=0)
    # q from the model's or the equations' tables, state by state
    q = np.ones(len(x))
    means = (
        F.details["spins"] if kind == "ising" else np.concatenate([F.details["visible"], F.details["hidden"]])
    )
    low = x.min()
    for part in F.details["blocks"]:
        keys = (x[:, part] == 1) @ (1 << np.arange(len(part)))
        if kl == "inclusive":
            of_block = np.bincount(keys, p, 1 << len(part))
        else:
            outside = np.setdiff1d(np.arange(x.shape[1]), part)
            mixed = np.tile(means, (1 << len(part), 1))
            mixed[:, part] = np.where(
                np.arange(1 << len(part))[:, None] >> np.arange(len(part)) & 1, 1.0, low
            )
            assert len(outside)
            of_block = np.exp(-beta * (e := pair_energy(model, mixed)) + beta * e.min())
            of_block /= of_block.sum()
        q *= of_block[keys]
    assert q.sum() == pytest.approx(1, rel=1e-10)
    exclusive, inclusive = float(q @ np.log(q / p)), float(p @ np.log(p / q))
    assert F.details["kl"]["exclusive"] == pytest.approx(exclusive, rel=1e-6)
    assert F.details["kl"]["inclusive"] == pytest.approx(inclusive, rel=1e-6)
    assert F.log_z == pytest.approx(log_z - exclusive, rel=1e-8)  # β (F_q - F) = KL(q || p)


def pair_energy(model, x):
    """E of real numbers: multilinear, so it is the mean of E under independent units of these means."""
    if isinstance(model, vf.Ising):
        return -0.5 * np.einsum("si,ij,sj->s", x, model.couplings, x) - x @ model.fields
    v, h = x[:, : model.n_visible], x[:, model.n_visible :]
    w, a, b = model.parameters
    return -(v @ a) - h @ b - np.einsum("si,ij,sj->s", v, w, h)


@pytest.mark.parametrize("kind", MODELS)
def test_each_divergence_is_least_where_it_is_minimized(kind):
    model = MODELS[kind](3)
    exclusive, inclusive = (variational(model, 2, kl=kl, rng=0) for kl in ("exclusive", "inclusive"))
    assert exclusive.details["kl"]["exclusive"] <= inclusive.details["kl"]["exclusive"]
    assert inclusive.details["kl"]["inclusive"] <= exclusive.details["kl"]["inclusive"]
    assert exclusive.value <= inclusive.value


@pytest.mark.parametrize("kl", ["exclusive", "inclusive"])
def test_divergences_of_probabilities_that_underflow(kl):
    """Two spins that agree but for e^-2000, which is no float64; its logarithm is one."""
    couplings = np.zeros((3, 3))
    couplings[0, 1] = couplings[1, 0] = 1000.0
    model = vf.Ising(couplings, [0.0, 0.0, 0.3])
    F = variational(model, 1, kl=kl, rng=0)
    exclusive = vf.free_energy.exact(model).log_z - F.log_z  # = KL(q || p)
    assert F.details["kl"]["exclusive"] == pytest.approx(exclusive, abs=1e-9)
    if kl == "inclusive":
        # q(+-) = 1/4 beside p = e^-2000 / 2; of half of q ln(q / p) = ln 1/2.
        assert exclusive == pytest.approx(1000.0 - np.log(2.0), rel=1e-12)
        assert F.details["kl"]["inclusive"] == pytest.approx(np.log(2.0), rel=1e-12)
    else:
        # Both spins up but for e^-2000: half of p has a ln q of -4000.
        assert F.details["kl"]["exclusive"] == pytest.approx(np.log(2.0), rel=1e-12)
        assert F.details["kl"]["inclusive"] == pytest.approx(2000.0 - np.log(2.0), rel=1e-9)


def on_a_tree(F, x):
    """ln q of all states, from the marginals of units and edges."""
    low = x.min()
    means = F.details.get("spins")
    if means is None:
        means = np.concatenate([F.details["visible"], F.details["hidden"]])
    up = (means - low) / (1 - low)
    ones = (x == 1).astype(int)
    alone = np.log(np.stack([1 - up, up], axis=1))
    log_q = alone[np.arange(len(means)), ones].sum(axis=1)
    for (i, j), product in zip(F.details["edges"], F.details["products"], strict=True):
        both = (product - low * (means[i] + means[j]) + low**2) / (1 - low) ** 2
        pair = np.log([[1 - up[i] - up[j] + both, up[j] - both], [up[i] - both, both]])
        pair -= alone[i][:, None] + alone[j]
        log_q += pair[ones[:, i], ones[:, j]]
    return log_q


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("beta", [0.4, 1.0, 1.7])
@pytest.mark.parametrize("seed", range(4))
def test_tree_by_enumeration(kind, beta, seed):
    model = MODELS[kind](seed)
    x, energy = table(model)
    F = variational(model, tree=True, beta=beta, rng=seed)
    assert F.converged
    assert F.kind == "upper_bound"
    log_q = on_a_tree(F, x)
    q = np.exp(log_q)
    assert q.sum() == pytest.approx(1, rel=1e-9)
    assert F.details["energy"] == pytest.approx(q @ energy, rel=1e-8)
    assert F.details["entropy"] == pytest.approx(-q @ log_q, rel=1e-7)
    log_p = -beta * energy - np.logaddexp.reduce(-beta * energy)
    assert F.details["kl"]["exclusive"] == pytest.approx(q @ (log_q - log_p), rel=1e-6)
    assert F.details["kl"]["inclusive"] == pytest.approx(np.exp(log_p) @ (log_p - log_q), rel=1e-6)
    assert F.value == pytest.approx(q @ energy + q @ log_q / beta, rel=1e-8)
    assert vf.free_energy.exact(model, beta=beta).value <= F.value < F.details["mean_field"]


@pytest.mark.parametrize("kind", MODELS)
def test_tree_is_a_minimum(kind):
    """dF_q = 0 for every change of q along the tree, q e^(t g) with g of one edge; here by enumeration."""
    beta, model = 0.9, MODELS[kind](2)
    x, energy = table(model)
    F = variational(model, tree=True, beta=beta, tolerance=1e-12, rng=0)
    log_q = on_a_tree(F, x)
    q, cost = np.exp(log_q), beta * energy + log_q
    for i, j in F.details["edges"]:
        for g in (x[:, i], x[:, j], x[:, i] * x[:, j]):
            assert q @ (g * cost) - (q @ g) * (q @ cost) == pytest.approx(0, abs=1e-7)
    i, j = next(
        pair
        for pair in itertools.combinations(range(x.shape[1]), 2)
        if set(pair) not in [set(edge) for edge in F.details["edges"].tolist()]
    )
    g = x[:, i] * x[:, j]  # off the tree there is something to gain
    assert abs(q @ (g * cost) - (q @ g) * (q @ cost)) > 1e-4


def test_trees_are_exact_on_trees():
    couplings = np.zeros((8, 8))
    edges = [(0, 3), (3, 5), (5, 1), (3, 2), (6, 4), (4, 7)]
    for (i, j), value in zip(edges, (1.0, -0.7, 0.9, 2.0, -1.5, 0.4), strict=True):
        couplings[i, j] = couplings[j, i] = value
    model = vf.Ising(couplings, np.linspace(-0.5, 0.6, 8))
    exact = vf.free_energy.exact(model, beta=1.2).log_z
    for tree in (True, edges, [(j, i) for i, j in edges[::-1]]):
        F = variational(model, tree=tree, beta=1.2, rng=0)
        assert F.log_z == pytest.approx(exact, rel=1e-12)
        assert F.details["n_sweeps"] == 2  # the first solves it, the second sees that
        assert {frozenset(edge) for edge in F.details["edges"].tolist()} == set(map(frozenset, edges))
    apart = variational(model, tree=edges[:4], beta=1.2, rng=0).log_z
    assert variational(model, [[0, 1, 2, 3, 5], [4], [6], [7]], beta=1.2, rng=0).log_z == pytest.approx(apart)
    assert variational(model, tree=[], beta=1.2, rng=0).value == pytest.approx(F.details["mean_field"])


def test_frustrated_chain_without_fields():
    """A ring whose means are all 0: the closing bond sees the product of the correlations on the chain."""
    n, j = 6, 0.6
    couplings = np.zeros((n, n))
    for i in range(n):
        couplings[i, (i + 1) % n] = couplings[(i + 1) % n, i] = -j if i == n - 1 else j
    F = variational(vf.Ising(couplings), tree=[(i, i + 1) for i in range(n - 1)], rng=0)
    # Each bond of the chain has ⟨xx⟩ = t; F_q = -(n-1) J t + J t^(n-1) - S(t), S = n ln 2 - (n-1) KL(t).
    t = np.linspace(0.3, 0.7, 400_001)
    up = (1 + t) / 2
    entropy = np.log(2) - (n - 1) * (up * np.log(up) + (1 - up) * np.log(1 - up))
    assert F.value == pytest.approx((-(n - 1) * j * t + j * t ** (n - 1) - entropy).min(), abs=1e-9)
    assert np.abs(F.details["spins"]).max() < 1e-6


@pytest.mark.parametrize("kind", ["bits", "ising"])
def test_chow_and_liu(kind):
    """Of all trees of five units, by brute force, none has a lower KL(p || q)."""
    if kind == "ising":
        model = random_ising(5, 3, scale=1.0)
    else:
        draw = np.random.default_rng(3)
        model = vf.BernoulliRBM(2 * draw.normal(size=(3, 2)), draw.normal(size=3), draw.normal(size=2))
    best = variational(model, tree=True, kl="inclusive", rng=0)
    found = []
    for edges in itertools.combinations(list(itertools.combinations(range(5), 2)), 4):
        try:
            F = variational(model, tree=edges, kl="inclusive", rng=0)
        except ValueError:
            continue
        found.append(F.details["kl"]["inclusive"])
    assert len(found) == 125  # Cayley's 5^3
    assert best.details["kl"]["inclusive"] == pytest.approx(min(found), rel=1e-10)
    x, energy = table(model)
    p = np.exp(-energy - np.logaddexp.reduce(-energy))
    assert best.details["products"] == pytest.approx(
        [p @ (x[:, i] * x[:, j]) for i, j in best.details["edges"]]
    )
    assert best.details["kl"]["inclusive"] == pytest.approx(p @ (np.log(p) - on_a_tree(best, x)), rel=1e-8)


def test_a_large_tree():
    """Of couplings that saturate: means are 0 or 1 within rounding."""
    rbm = random_rbm(90, 70, scale=2.0)
    F = variational(rbm, tree=True, rng=0)
    assert F.converged
    assert F.value <= F.details["mean_field"]
    assert F.details["edges"].shape == (159, 2)


def test_a_large_model():
    rbm = random_rbm(90, 70, scale=0.3)
    F = variational(rbm, 10, rng=0)
    assert F.converged
    assert F.value < F.details["mean_field"]
    assert sorted(np.concatenate(F.details["blocks"])) == list(range(160))


def test_not_converged():
    with pytest.warns(MeanFieldWarning, match="not converged after 1 sweeps"):
        F = variational(random_ising(10, 1), 2, max_sweeps=1, rng=0)
    assert not F.converged
    assert F.problem


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ({"model": 3}, TypeError, "model"),
        ({"blocks": 0}, ValueError, "blocks"),
        ({"blocks": 15}, ValueError, "blocks"),
        ({"blocks": [[0, 1], [1, 2, 3, 4]]}, ValueError, "blocks: expected each unit"),
        ({"blocks": [[0, 1, 2, 3, 4], []]}, ValueError, "blocks"),
        ({"blocks": [["a"]]}, TypeError, "blocks"),
        ({"blocks": [[0.7, 1.2], [2, 3, 4]]}, TypeError, "blocks"),
        ({"blocks": [[False, True], [2, 3, 4]]}, TypeError, "blocks"),
        ({"blocks": 2.0}, TypeError, "blocks"),
        ({"tree": [[0, 1], [1, 2], [2, 0]]}, ValueError, "tree: expected edges without a loop"),
        ({"tree": [[0, 1], [1, 0]]}, ValueError, "tree: expected edges without a loop"),
        ({"tree": [[0, 0]]}, ValueError, "tree: expected edges without a loop"),
        ({"tree": [[0, 5]]}, ValueError, "tree: expected"),
        ({"tree": [0, 1]}, ValueError, "tree: expected"),
        ({"tree": [[0.5, 1]]}, TypeError, "tree"),
        ({"tree": 2.0}, TypeError, "tree"),
        ({"tree": True, "blocks": 3}, ValueError, "blocks: expected none"),
        ({"kl": "both"}, ValueError, "kl"),
        ({"beta": 0.0}, ValueError, "beta"),
        ({"model": random_rbm(12, 9), "kl": "inclusive"}, ValueError, "kl"),
    ],
)
def test_bad_input(bad, error, message):
    with pytest.raises(error, match=message):
        variational(**{"model": random_ising(5, 0), "rng": 0, **bad})
