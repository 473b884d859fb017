"""Reparameterized samples against their definition, quadrature, central differences and torch's autograd."""

from __future__ import annotations

import itertools
import math
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from scipy import stats

import vfe_fast as vf
from oracles import reparam as oracle
from vfe_fast import _core

WITH_SPREAD = ("gaussian", "laplace", "logistic", "log_normal")
FAMILIES = (*WITH_SPREAD, "concrete", "gumbel_softmax")
DTYPES = (np.float32, np.float64)


def parameters(family: str, batch: int, n_latents: int, dtype: Any = np.float64, seed: int = 0) -> list[Any]:
    """mu and log_var, or logits and None: away from zero, no two alike."""
    rng = np.random.default_rng([seed, batch, n_latents])
    if family == "gumbel_softmax":
        return [(1.5 * rng.normal(size=(batch, n_latents, 5)) + 0.3).astype(dtype), None]
    mu = (rng.normal(size=(batch, n_latents)) - 0.4).astype(dtype)
    return [mu, None if family == "concrete" else (0.7 * rng.normal(size=mu.shape) - 0.5).astype(dtype)]


def options(family: str, given_prior: bool, dtype: Any = np.float64, n_latents: int = 7) -> dict[str, Any]:
    rng = np.random.default_rng(5)
    found: dict[str, Any] = {"family": family}
    if family not in WITH_SPREAD:
        found["temperature"] = 0.6
    if given_prior:
        row = (n_latents, 5) if family == "gumbel_softmax" else (n_latents,)
        prior = [rng.normal(size=row).astype(dtype), (0.5 * rng.normal(size=row) + 0.2).astype(dtype)]
        found["prior"] = prior if family in WITH_SPREAD else prior[0]
    return found


def exact_sample(family: str, mu: Any, log_var: Any, eps: Any, temperature: float = 1.0) -> Any:
    if family == "gumbel_softmax":
        y = (mu + eps) / temperature
        e = np.exp(y - y.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)
    if family == "concrete":
        return 1 / (1 + np.exp(-(mu + eps) / temperature))
    y = mu + np.exp(log_var / 2) * eps
    return np.exp(y) if family == "log_normal" else y


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shape", [(1, 1), (13, 7), (129, 20), (3, 1500)])
def test_sample_is_made_of_the_counter(target: str, shape: tuple[int, int], family: str, dtype: Any) -> None:
    """Element by element: noise of the element's own number, whole pieces and parts of them."""
    mu, log_var = parameters(family, *shape, dtype=dtype)
    z = vf.reparameterize(mu, log_var, 3, **options(family, False), rng=2**63 + 11, row_offset=5)
    assert z.sample.dtype == z.kl.dtype == z.log_q.dtype == dtype
    assert z.sample.shape == (3, *mu.shape)
    eps = oracle.noise(family, z.sample.shape, 2**63 + 11, dtype, row_offset=5)
    wide = [None if x is None else x.astype(np.float64) for x in (mu, log_var)]
    temperature = options(family, False).get("temperature", 1.0)
    expected = exact_sample(family, *wide, eps, temperature)
    # What rounding does to noise and location; the logistic oracle loses digits near 0.
    spread = np.abs(mu) + (1 + np.abs(eps)) * (1 if log_var is None else np.exp(log_var / 2))
    if family in ("log_normal", "gumbel_softmax", "concrete"):
        spread = np.abs(expected) * (1 + spread / temperature)
    assert (np.abs(z.sample - expected) <= 8 * np.finfo(dtype).eps * spread).all()


def results(family: str, mu: Any, log_var: Any, given_prior: bool, **more: Any) -> Any:
    chosen = options(family, given_prior, mu.dtype, mu.shape[1])
    return vf.reparameterize(mu, log_var, 2, **chosen, rng=3, **more)


@pytest.mark.parametrize("given_prior", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_central_differences(target: str, family: str, given_prior: bool) -> None:
    mu, log_var = parameters(family, 4, 7)
    z = results(family, mu, log_var, given_prior)
    rng = np.random.default_rng(9)
    to = [rng.normal(size=x.shape) for x in (z.sample, z.kl, z.log_q)]

    def loss(mu: Any, log_var: Any, used: tuple[int, ...]) -> float:
        found = results(family, mu, log_var, given_prior)
        every = (found.sample, found.kl, found.log_q)
        return float(sum((every[k] * to[k]).sum() for k in used))

    for used in [(0,), (1,), (2,), (0, 1, 2)]:
        found = z.backward(*(g if k in used else None for k, g in enumerate(to)))
        found = found if isinstance(found, tuple) else (found,)
        direction = [rng.normal(size=g.shape) for g in found]
        step = [1e-5 * d for d in direction] + [None]  # type: ignore[list-item]
        ahead, behind = (
            loss(mu + sign * step[0], None if log_var is None else log_var + sign * step[1], used)
            for sign in (1, -1)
        )
        analytic = sum(float((g * d).sum()) for g, d in zip(found, direction, strict=True))
        size = sum(float(np.abs(g * d).sum()) for g, d in zip(found, direction, strict=True))
        assert abs((ahead - behind) / 2e-5 - analytic) <= 1e-8 * size, used


@pytest.mark.parametrize("n_samples", [1, 3])
@pytest.mark.parametrize("shape", [(50, 7), (2, 1500)])
@pytest.mark.parametrize("family", ["gaussian", "laplace", "logistic"])
def test_gradients_from_samples(target: str, family: str, shape: tuple[int, int], n_samples: int) -> None:
    """Without drawing noise again, that of ln N(z; 0, 1) too: central differences; float32 beside float64."""
    mu, log_var = parameters(family, *shape)
    rng = np.random.default_rng(19)
    chosen = _core.Family[family]

    def draw(mu: Any, log_var: Any) -> tuple[Any, ...]:
        return chosen, mu, log_var, None, None, n_samples, 1.0, 5, 0, 2

    sample, kl, log_q, _ = _core.reparameterize(*draw(mu, log_var))
    to = [rng.normal(size=x.shape) for x in (sample, kl, log_q, log_q)]

    def loss(mu: Any, log_var: Any, used: tuple[int, ...]) -> float:
        z, kl, log_q, _ = _core.reparameterize(*draw(mu, log_var))
        every = z, kl, log_q, -(z**2).sum(-1) / 2
        return float(sum((every[k] * to[k]).sum() for k in used))

    for used in [(0,), (3,), (0, 1, 2, 3)]:
        grads = [g if k in used else None for k, g in enumerate(to)]
        found = _core.reparameterize_backward(
            *draw(mu, log_var), *grads[:3], sample=sample, grad_log_prior=grads[3]
        )
        direction = [rng.normal(size=g.shape) for g in found]
        ahead, behind = (
            loss(mu + sign * direction[0], log_var + sign * direction[1], used) for sign in (1e-5, -1e-5)
        )
        size = sum(float(np.abs(g * d).sum()) for g, d in zip(found, direction, strict=True))
        analytic = sum(float((g * d).sum()) for g, d in zip(found, direction, strict=True))
        assert abs((ahead - behind) / 2e-5 - analytic) <= 1e-8 * size, used

        narrow = [None if x is None else x.astype(np.float32) for x in (mu, log_var, sample, *grads)]
        singles = _core.reparameterize_backward(
            *draw(*narrow[:2]), *narrow[3:6], sample=narrow[2], grad_log_prior=narrow[6]
        )
        for a, b in zip(found, singles, strict=True):
            assert np.abs(a - b).max() <= 1e-5 * np.abs(a).max()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(3, 1), (40, 7), (9, 130), (1, 9000), (5, 2500)])
@pytest.mark.parametrize("family", ["gaussian", "laplace", "logistic"])
def test_log_prior(target: str, family: str, shape: tuple[int, int], dtype: type) -> None:
    """ln N(z; 0, 1) summed over latents, of the samples themselves; the same bits for any threads."""
    mu, log_var = (p.astype(dtype) for p in parameters(family, *shape))
    found = [
        _core.reparameterize(_core.Family[family], mu, log_var, None, None, 3, 1.0, 5, 0, n, log_prior=True)
        for n in (1, 2)
    ]
    z = found[0][0].astype(np.float64)
    expected = -0.5 * (z**2 + np.log(2 * np.pi)).sum(axis=-1)
    np.testing.assert_allclose(found[0][3], expected, rtol=4 * np.finfo(dtype).eps)
    assert found[0][3].tobytes() == found[1][3].tobytes()


def test_samples_are_taken_back_where_they_say_all() -> None:
    mu, _ = parameters("concrete", 3, 4)
    z = vf.reparameterize(mu, None, family="concrete", rng=0)
    call = _core.Family.concrete, mu, None, None, None, 1, 1.0, 5, 0, 1
    with pytest.raises(ValueError, match=r"^sample: expected none but of the families"):
        _core.reparameterize_backward(*call, None, None, None, sample=z.sample)
    with pytest.raises(ValueError, match=r"^log_prior: expected none but of the families"):
        _core.reparameterize(*call, log_prior=True)
    call = _core.Family.gaussian, mu, mu, None, None, 1, 1.0, 5, 0, 1
    with pytest.raises(ValueError, match=r"^grad_log_prior: expected none but with samples"):
        _core.reparameterize_backward(*call, None, None, None, grad_log_prior=np.ones((1, 3)))


def torch_results(family: str, tensors: list[Any], eps: Any, prior: Any, temperature: float) -> Any:
    """sample, kl, log_q of torch.distributions, where the sample is the noise moved by hand."""
    torch = pytest.importorskip("torch")
    d = torch.distributions
    mu, log_var = (*tensors, None)[:2]
    eps = torch.from_numpy(eps)
    if family == "gumbel_softmax":
        y = torch.log_softmax((mu + eps) / temperature, dim=-1)
        relaxed = d.relaxed_categorical.ExpRelaxedCategorical(
            torch.tensor(temperature, dtype=mu.dtype), logits=mu
        )
        base = d.relaxed_categorical.ExpRelaxedCategorical(
            torch.tensor(temperature, dtype=mu.dtype), logits=prior[0]
        )
        log_q = relaxed.log_prob(y)
        kl = (log_q - base.log_prob(y)).mean(dim=0)
        # from the density of y to that of the first k - 1 of z: dz = prod z dy
        return y.exp(), kl.sum(-1), (log_q - y.sum(-1)).sum(-1)
    if family == "concrete":
        z = torch.sigmoid((mu + eps) / temperature)
        a = mu - prior[0]
        kl = a / torch.tanh(a / 2) - 2
        law = d.RelaxedBernoulli(torch.tensor(temperature, dtype=mu.dtype), logits=mu)
        return z, kl.sum(-1), law.log_prob(z).sum(-1)
    s = torch.exp(log_var / 2)
    m, w = prior
    z = mu + s * eps
    base = d.Normal(m, torch.exp(w / 2))
    if family == "gaussian":
        law = d.Normal(mu, s)
        kl = d.kl_divergence(law, base)
    elif family == "laplace":
        law = d.Laplace(mu, s)
        kl = d.kl_divergence(law, base)
    elif family == "logistic":
        base_law = d.TransformedDistribution(
            d.Uniform(torch.zeros_like(mu), torch.ones_like(mu)),
            [d.transforms.SigmoidTransform().inv, d.transforms.AffineTransform(mu, s)],
        )
        law = base_law
        kl = -2 - log_var / 2 + (np.log(2 * np.pi) + w) / 2
        kl = kl + (np.pi**2 / 3 * s**2 + (mu - m) ** 2) / (2 * torch.exp(w))
    else:
        z = torch.exp(z)
        law = d.LogNormal(mu, s)
        second = torch.exp(2 * mu + 2 * s**2) - 2 * m * torch.exp(mu + s**2 / 2) + m**2
        kl = -law.entropy() + (np.log(2 * np.pi) + w) / 2 + second / (2 * torch.exp(w))
    return z, kl.sum(-1), law.log_prob(z).sum(-1)


@pytest.mark.parametrize("given_prior", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_torch_finds_the_same(family: str, given_prior: bool) -> None:
    """Values and gradients in float64, densities of torch.distributions, gradients by autograd."""
    torch = pytest.importorskip("torch")
    parameter = [x for x in parameters(family, 4, 7) if x is not None]
    mu, log_var = (*parameter, None)[:2]
    z = results(family, mu, log_var, given_prior)
    chosen = options(family, given_prior)
    prior = chosen.get("prior", [0.0 * mu[0], 0.0 * mu[0]] if family in WITH_SPREAD else 0.0 * mu[0])
    prior = [torch.from_numpy(x) for x in (prior if isinstance(prior, list) else [prior])]
    tensors = [torch.from_numpy(x.copy()).requires_grad_() for x in parameter]
    eps = oracle.noise(family, z.sample.shape, 3, np.float64)
    found = torch_results(family, tensors, eps, prior, chosen.get("temperature", 1.0))
    for mine, theirs in zip((z.sample, z.kl, z.log_q), found, strict=True):
        np.testing.assert_allclose(mine, theirs.detach().numpy(), rtol=1e-12, atol=1e-12)
    to = [np.random.default_rng(k).normal(size=x.shape) for k, x in enumerate(found)]
    sum((torch.from_numpy(g) * x).sum() for g, x in zip(to, found, strict=True)).backward()
    mine = z.backward(*to)
    for a, b in zip(mine if isinstance(mine, tuple) else (mine,), tensors, strict=True):
        np.testing.assert_allclose(a, b.grad.numpy(), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("at", [(0.7, -0.9, 0.0, 0.0), (-1.3, 0.8, 0.4, -0.6), (0.2, -3.0, -0.5, 1.1)])
@pytest.mark.parametrize("family", WITH_SPREAD)
def test_kl_is_the_integral(target: str, family: str, at: tuple[float, ...]) -> None:
    mu, log_var, mean, prior_log_var = at
    with mp.workdps(25):
        expected = float(oracle.quadrature(family, *at))
    given = [np.array([[x]]) for x in (mu, log_var)]
    z = vf.reparameterize(*given, family=family, prior=(mean, prior_log_var), rng=0)
    assert z.kl_kind == "analytic"
    assert z.kl[0] == pytest.approx(expected, rel=2e-15, abs=4e-15)
    single = vf.reparameterize(
        *(x.astype(np.float32) for x in given), family=family, prior=(mean, prior_log_var), rng=0
    )
    assert single.kl[0] == pytest.approx(expected, rel=2e-6)


@pytest.mark.parametrize(
    ("logit", "prior", "temperature"), [(0.7, 0.0, 0.5), (-1.2, 0.8, 1.3), (4.5, -0.6, 0.7)]
)
def test_kl_of_relaxed_units_is_the_integral(logit: float, prior: float, temperature: float) -> None:
    with mp.workdps(25):
        expected = float(oracle.concrete_quadrature(logit, prior, temperature))
    z = vf.reparameterize(np.array([[logit]]), family="concrete", prior=prior, temperature=temperature, rng=0)
    assert z.kl_kind == "analytic"
    assert z.kl[0] == pytest.approx(expected, rel=1e-13)


def test_kl_by_sample_has_the_right_mean() -> None:
    """Two categories are a relaxed Bernoulli unit, whose KL is known; false alarm: 1e-6."""
    logits = np.array([[[0.9, -0.4]]])
    z = vf.reparameterize(
        np.broadcast_to(logits, (200_000, 1, 2)).copy(), family="gumbel_softmax", prior=[[0.3, 0.5]], rng=1
    )
    assert z.kl_kind == "sample"
    a = (0.9 - -0.4) - (0.3 - 0.5)
    error = z.kl.std() / np.sqrt(z.kl.size)
    assert abs(z.kl.mean() - (a / np.tanh(a / 2) - 2)) < 4.9 * error


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1e-1, 1e-3, 1e-6, 1e-12])
@pytest.mark.parametrize("family", ["gaussian", "concrete"])
def test_kl_keeps_its_digits_where_it_vanishes(target: str, family: str, size: float, dtype: Any) -> None:
    rng = np.random.default_rng(2)
    mu, log_var = (size * rng.normal(size=(5, 33)).astype(dtype) for _ in range(2))
    with mp.workdps(40):
        if family == "gaussian":
            expected = [
                sum(
                    (mp.mpf(float(m)) ** 2 + mp.expm1(mp.mpf(float(v))) - mp.mpf(float(v))) / 2
                    for m, v in zip(*rows, strict=True)
                )
                for rows in zip(mu, log_var, strict=True)
            ]
        else:
            expected = [sum(mp.mpf(float(m)) * mp.coth(mp.mpf(float(m)) / 2) - 2 for m in row) for row in mu]
    found = vf.reparameterize(mu, log_var if family == "gaussian" else None, family=family, rng=0).kl
    for value, truth in zip(found, expected, strict=True):
        assert abs(mp.mpf(float(value)) - truth) <= 4 * np.finfo(dtype).eps * truth


@pytest.mark.usefixtures("keep_target")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(4001, 20), (40, 130), (5, 3001), (3, 70_001)])
@pytest.mark.parametrize("family", FAMILIES)
def test_same_bits(family: str, shape: tuple[int, int], dtype: Any) -> None:
    """Whatever the threads, the cut of the batch and the instruction set: samples, sums and gradients.

    The first shape and the last are worth several threads; the last has fewer rows than these.
    """
    if family == "gumbel_softmax":
        shape = (shape[0], shape[1] // 2)
    parameter = [x for x in parameters(family, *shape, dtype=dtype) if x is not None]
    chosen = options(family, True, dtype, shape[1])
    rng = np.random.default_rng(1)

    def run(rows: slice, threads: int) -> list[Any]:
        given = [x[rows] for x in parameter]
        z = vf.reparameterize(
            given[0], given[1] if len(given) > 1 else None, 2, **chosen, rng=8, row_offset=rows.start,
            num_threads=threads,
        )  # fmt: skip
        to = [g[:, rows] if g.ndim != 1 else g[rows] for g in gradients]
        found = z.backward(*map(np.ascontiguousarray, to))
        return [z.sample, z.log_q, z.kl, *(found if isinstance(found, tuple) else (found,))]

    batch = shape[0]
    gradients = [rng.normal(size=s).astype(dtype) for s in ((2, *parameter[0].shape), (batch,), (2, batch))]
    whole = run(slice(0, batch), 1)
    for threads in (2, 7):
        for a, b in zip(whole, run(slice(0, batch), threads), strict=True):
            assert a.tobytes() == b.tobytes()
    cut = batch // 3
    parts = [run(slice(0, cut), 1), run(slice(cut, cut + 1), 1), run(slice(cut + 1, batch), 2)]
    for k, a in enumerate(whole):
        joined = np.concatenate([part[k] for part in parts], axis=1 if k < 2 else 0)
        assert a.tobytes() == joined.tobytes(), k
    for name in vf.show_config("dict")["usable_targets"]:
        _core.use_target(name)
        for a, b in zip(whole, run(slice(0, batch), 2), strict=True):
            assert a.tobytes() == b.tobytes(), name


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_law_of_the_noise(family: str, dtype: Any) -> None:
    """Kolmogorov-Smirnov and the correlation of neighbors and samples; false alarm 1e-6 each."""
    shape = (600, 500)
    mu = np.zeros((*shape, 2) if family == "gumbel_softmax" else shape, dtype)
    z = vf.reparameterize(mu, mu if family in WITH_SPREAD else None, 2, family=family, rng=4)
    x = z.sample.astype(np.float64)
    if family == "log_normal":
        x = np.log(x)
    elif family == "concrete":
        x = np.log(x) - np.log1p(-x)
    elif family == "gumbel_softmax":
        x = np.log(x[..., 0]) - np.log(x[..., 1])  # logistic
    law = {"gaussian": "norm", "log_normal": "norm", "laplace": "laplace"}.get(family, "logistic")
    assert stats.kstest(x.ravel(), law).pvalue > 1e-6
    x = x / x.std()
    n = x[0].size
    assert abs((x[0] * x[1]).mean()) < 4.9 / np.sqrt(n)
    for lag in (1, 15, 16, 17, 32, 64, 500):
        row = x[0].ravel()
        assert abs((row[lag:] * row[:-lag]).mean()) < 4.9 / np.sqrt(n), lag


def test_families_and_seeds_share_no_noise() -> None:
    """Correlations of signs between streams, and of seeds 0 and 1; false alarm 1e-6 each."""
    zeros = np.zeros((400, 500))
    noise = [
        np.sign(vf.reparameterize(zeros, zeros, family=family, rng=seed).sample)
        for family, seed in [("gaussian", 0), ("gaussian", 1), ("laplace", 0), ("logistic", 0)]
    ]
    for a, b in itertools.combinations(noise, 2):
        assert abs((a * b).mean()) < 4.9 / np.sqrt(a.size)


def named(error: Any, name: str) -> Any:
    """Expect an error whose message begins with the argument's name."""
    return pytest.raises(error, match=rf"^{name}: ")


class TestExtremes:
    """The limit, or a clear error; never nan."""

    @pytest.mark.parametrize("given_prior", [False, True])
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("family", FAMILIES)
    def test_nothing_is_nan(self, target: str, family: str, dtype: Any, given_prior: bool) -> None:
        tiny = float(np.finfo(dtype).smallest_subnormal)
        large = float(np.finfo(dtype).max)
        values = [0.0, tiny, -tiny, 1e-20, 0.5, -3.0, 80.0, -80.0, 200.0, -200.0, 1e30, -1e30]
        if family not in ("gumbel_softmax", "concrete"):
            values += [2000.0, -2000.0, large, -large]
        mu, log_var = (np.array(x, dtype) for x in zip(*itertools.product(values, values), strict=True))
        if family == "gumbel_softmax":
            parameter: list[Any] = [np.stack([mu, log_var, 0 * mu], axis=-1)[:, None, :]]
        else:
            parameter = [x[:, None] for x in (mu, log_var)][: 1 + (family in WITH_SPREAD)]
        prior: Any = None
        if given_prior:
            prior = (0.7, -0.3) if family in WITH_SPREAD else 0.7
        z = vf.reparameterize(*parameter, n_samples=3, family=family, prior=prior, rng=0)
        for x in (z.sample, z.kl, z.log_q):
            assert not np.isnan(x).any()
        assert (z.kl >= -1e-3 * (1 + np.abs(z.kl))).all() or family == "gumbel_softmax"
        grad_sample = np.random.default_rng(0).normal(size=z.sample.shape).astype(dtype)
        for given in ((None, np.ones_like(z.kl), None), (0 * grad_sample, None, None)):
            found = z.backward(*given)
            for g in found if isinstance(found, tuple) else (found,):
                assert not np.isnan(g).any()

    @pytest.mark.parametrize(
        ("mu", "log_var", "mean", "prior_log_var"),
        [
            (2000, 0, 0, 2000),
            (500, 0, 0, 800),
            (-500, -2, 0.3, -30),
            (300, 1, 7.0, 590),
            (-40, 3, 1e-15, -70),
        ],
    )
    def test_log_normal_of_extreme_priors(
        self, mu: float, log_var: float, mean: float, prior_log_var: float
    ) -> None:
        """E (z - m)^2 and what it is divided by may each be out of range where the quotient is not."""
        z = vf.reparameterize(
            [[float(mu)]], [[float(log_var)]], family="log_normal", prior=(mean, float(prior_log_var)), rng=0
        )
        with mp.workdps(60):
            v, m = mp.exp(log_var), mp.mpf(mean)
            square = mp.exp(2 * mu + v) * mp.expm1(v) + (mp.exp(mu + v / 2) - m) ** 2
            of_prior = square * mp.exp(-prior_log_var)
            expected = (of_prior - (log_var - prior_log_var) - 1) / 2 - mu
            by_mu = (square - m * m + m * mp.exp(mu + v / 2)) * mp.exp(-prior_log_var) - 1
        assert z.kl[0] == pytest.approx(float(expected) if expected < 1e308 else np.inf, rel=1e-12)
        found = z.backward(grad_kl=np.ones(1))[0][0, 0]
        assert found == pytest.approx(float(by_mu) if by_mu < 1e308 else np.inf, rel=1e-12)

    def test_the_largest_kl_is_no_infinity(self, target: str) -> None:
        mu, zero = np.full((1, 1), 80.0, np.float32), np.zeros((1, 1), np.float32)
        kl = vf.reparameterize(mu, zero, prior=(np.float32(0), np.float32(-80)), rng=0).kl
        assert kl[0] == pytest.approx(3200.5 * math.exp(80.0), rel=1e-5)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_limits_of_the_gaussian(self, target: str, dtype: Any) -> None:
        mu = np.array([[1.5], [1.5], [1e30], [1e-40 if dtype == np.float32 else 1e-310]], dtype)
        log_var = np.array([[-80.0], [80.0], [0.0], [-2000.0]], dtype)
        z = vf.reparameterize(mu, log_var, rng=1)
        eps = vf.reparameterize(0 * mu, 0 * log_var, rng=1).sample
        assert z.sample[0, 0, 0] == pytest.approx(1.5, rel=1e-6)
        assert z.sample[0, 1, 0] == pytest.approx(float(eps[0, 1, 0]) * np.exp(40.0), rel=1e-6)
        assert z.sample[0, 2, 0] == dtype(1e30)
        assert z.sample[0, 3, 0] == mu[3, 0]  # subnormal, and no noise
        assert z.kl[0] == pytest.approx((1.5**2 + 79) / 2, rel=1e-6)
        assert z.kl[1] == pytest.approx(np.exp(80.0) / 2, rel=1e-6)
        assert z.kl[2] == (np.inf if dtype == np.float32 else pytest.approx(5e59))
        assert z.kl[3] == pytest.approx(999.5)
        grad_mu, grad_log_var = z.backward(grad_kl=np.ones(4, dtype))
        assert grad_mu.tolist() == mu.tolist()
        assert grad_log_var[0, 0] == pytest.approx(-0.5)
        assert grad_log_var[1, 0] == pytest.approx(np.exp(80.0) / 2, rel=1e-6)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("family", FAMILIES)
    def test_numbers_that_are_not_finite(self, target: str, family: str, dtype: Any, bad: float) -> None:
        """Everywhere: in parameters, prior and gradients, in the first piece and later ones."""
        parameter = [x for x in parameters(family, 300, 20, dtype) if x is not None]
        for k, name in enumerate(["mu", "log_var"][: len(parameter)]):
            for at in [(0, 0), (299, 19), (150, 7)]:
                given = [x.copy() for x in parameter]
                place = (*at, 2) if family == "gumbel_softmax" else at
                given[k][place] = bad
                with pytest.raises(ValueError, match=rf"^{name}: .*got {bad} at \({place[0]}, {place[1]}"):
                    vf.reparameterize(*given, family=family, rng=0)
        for prior in ((bad, 0.0), (0.0, bad)) if family in WITH_SPREAD else (bad,):
            with named(ValueError, "prior"):
                vf.reparameterize(*parameter, family=family, prior=prior, rng=0)
        z = vf.reparameterize(*parameter, family=family, rng=0)
        for k, name in enumerate(("grad_sample", "grad_kl", "grad_log_q")):
            given = [np.ones(x.shape, dtype) for x in (z.sample, z.kl, z.log_q)]
            given[k].flat[given[k].size - 1] = bad
            with named(ValueError, name):
                z.backward(*given)


def test_what_all_logits_share_cancels() -> None:
    """To the last digits of what is left: 2^24 beside logits of order 1."""
    logits = np.random.default_rng(3).integers(-2048, 2048, (40, 6, 5)) / 1024
    prior = np.random.default_rng(4).integers(-2048, 2048, (6, 5)) / 1024
    for of_prior in (None, prior):
        kl = vf.reparameterize(logits, family="gumbel_softmax", prior=of_prior, rng=1).kl
        shifted = vf.reparameterize(logits + 2.0**24, family="gumbel_softmax", prior=of_prior, rng=1).kl
        np.testing.assert_allclose(shifted, kl, rtol=1e-13)


BAD_CALLS: dict[str, tuple[dict[str, Any], Any, str]] = {
    "1-d": ({"mu": np.zeros(3)}, ValueError, "mu"),
    "3-d": ({"mu": np.zeros((1, 2, 3))}, ValueError, "mu"),
    "float16": ({"mu": np.zeros((2, 3), np.float16)}, TypeError, "mu"),
    "integers": ({"mu": np.zeros((2, 3), int)}, TypeError, "mu"),
    "text": ({"mu": "text"}, TypeError, "mu"),
    "other shape": ({"log_var": np.zeros((3, 2))}, ValueError, "log_var"),
    "other dtype": ({"log_var": np.zeros((2, 3), np.float32)}, TypeError, "log_var"),
    "no log_var": ({"log_var": None}, TypeError, "log_var"),
    "needless log_var": ({"family": "concrete"}, TypeError, "log_var"),
    "family": ({"family": "cauchy"}, ValueError, "family"),
    "family of another kind": ({"family": 3}, ValueError, "family"),
    "two dimensions for choices": ({"family": "gumbel_softmax", "log_var": None}, ValueError, "mu"),
    "no categories": (
        {"family": "gumbel_softmax", "mu": np.zeros((2, 3, 0)), "log_var": None}, ValueError, "mu",
    ),
    "no samples": ({"n_samples": 0}, ValueError, "n_samples"),
    "half a sample": ({"n_samples": 0.5}, TypeError, "n_samples"),
    "offset": ({"row_offset": -1}, ValueError, "row_offset"),
    "large offset": ({"row_offset": 2**61}, ValueError, "row_offset"),
    "needless temperature": ({"temperature": 0.5}, ValueError, "temperature"),
    "no temperature": (
        {"family": "concrete", "log_var": None, "temperature": 0.0}, ValueError, "temperature",
    ),
    "temperature nan": (
        {"family": "concrete", "log_var": None, "temperature": np.nan}, ValueError, "temperature",
    ),
    "half a prior": ({"prior": (None, 0.5)}, TypeError, "prior"),
    "prior of one": ({"prior": 0.5}, TypeError, "prior"),
    "prior of another shape": ({"prior": (np.zeros(2), np.zeros(3))}, ValueError, "prior"),
    "prior of another dtype": ({"prior": (np.zeros(3, np.float32), np.zeros(3))}, TypeError, "prior"),
    "seed": ({"rng": -1}, ValueError, "rng"),
    "threads": ({"num_threads": 0}, ValueError, "num_threads"),
}  # fmt: skip


@pytest.mark.parametrize("label", BAD_CALLS)
def test_bad_calls_are_refused(label: str) -> None:
    change, error, name = BAD_CALLS[label]
    with named(error, name):
        vf.reparameterize(**{"mu": np.zeros((2, 3)), "log_var": np.zeros((2, 3)), "rng": 0} | change)


def test_bad_gradients_are_refused() -> None:
    z = vf.reparameterize(np.zeros((2, 3)), np.zeros((2, 3)), rng=0)
    with named(ValueError, "grad_sample"):
        z.backward(np.zeros((2, 3)))
    with named(TypeError, "grad_kl"):
        z.backward(grad_kl=np.zeros(2, np.float32))
    with named(ValueError, "grad_log_q"):
        z.backward(None, None, np.zeros(2))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_nothing_to_sample(shape: tuple[int, int]) -> None:
    z = vf.reparameterize(np.zeros(shape), np.zeros(shape), 2, rng=0)
    assert z.sample.shape == (2, *shape)
    assert z.kl.tolist() == [0.0] * shape[0]
    assert z.log_q.tolist() == [[0.0] * shape[0]] * 2
    assert z.backward()[0].shape == shape


def test_layouts_and_kinds_of_arrays() -> None:
    """Views, sequences and tensors mean the same numbers; nothing is written to; results are of that kind."""
    mu, log_var = parameters("gaussian", 5, 7)
    whole = vf.reparameterize(mu, log_var, 2, rng=5)
    for x, y in [
        (np.asfortranarray(mu), log_var[::-1].copy()[::-1]),
        (mu.tolist(), log_var.tolist()),
        (mu, log_var.tolist()),
    ]:
        z = vf.reparameterize(x, y, 2, rng=5)
        assert z.sample.tobytes() == whole.sample.tobytes()
        assert z.kl.tobytes() == whole.kl.tobytes()
    torch = pytest.importorskip("torch")
    z = vf.reparameterize(torch.from_numpy(mu), torch.from_numpy(log_var), 2, rng=5)
    found = z.backward(torch.ones(2, 5, 7, dtype=torch.float64))
    for a, b in zip(
        (z.sample, z.kl, z.log_q, *found),
        (whole.sample, whole.kl, whole.log_q, *whole.backward(np.ones((2, 5, 7)))),
        strict=True,
    ):
        assert isinstance(a, torch.Tensor)
        assert a.numpy().tobytes() == b.tobytes()


def test_prior_in_all_its_forms() -> None:
    mu, log_var = parameters("gaussian", 5, 7)
    expected = vf.reparameterize(mu, log_var, prior=(0.25, -0.5), rng=0)
    forms = [np.float64, lambda v: np.full(7, v), lambda v: np.full((5, 7), v), lambda v: [v] * 7]
    for first, second in itertools.product(forms, forms):
        z = vf.reparameterize(mu, log_var, prior=(first(0.25), second(-0.5)), rng=0)
        assert z.kl.tobytes() == expected.kl.tobytes()
    other = vf.reparameterize(mu, log_var, prior=(0.0, 0.0), rng=0)
    np.testing.assert_allclose(other.kl, vf.reparameterize(mu, log_var, rng=0).kl, rtol=1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_prior_of_each_row(target: str, family: str, dtype: Any) -> None:
    """Rows with priors of their own are those of a call a row, whose prior is a row; gradients, too."""
    mu, log_var = parameters(family, 5, 7, dtype)
    rng = np.random.default_rng(8)
    mean, spread = (rng.normal(size=mu.shape).astype(dtype) for _ in range(2))
    relaxed = family not in WITH_SPREAD
    whole = mean if relaxed else (mean, spread)
    forms = [whole] if relaxed else [whole, (mean, spread[1]), (mean[1], spread), (mean, 0.4), (0.4, spread)]
    for form in forms:
        z = vf.reparameterize(mu, log_var, 2, family=family, prior=form, rng=6)
        found = z.backward(None, np.arange(1, 6, dtype=dtype), None)
        for k in range(5):
            row = slice(k, k + 1)
            of_row = [x[k] if np.shape(x) == mu.shape else x for x in ([form] if relaxed else form)]
            one = vf.reparameterize(
                mu[row], None if relaxed else log_var[row], 2, family=family,
                prior=of_row[0] if relaxed else of_row, rng=6, row_offset=k,
            )  # fmt: skip
            assert one.kl[0] == z.kl[k]
            alone = one.backward(None, np.array([k + 1], dtype), None)
            for a, b in zip(*(x if isinstance(x, tuple) else (x,) for x in (alone, found)), strict=True):
                np.testing.assert_array_equal(a[0], b[k])


def test_the_generator_advances() -> None:
    generator = np.random.default_rng(0)
    first, second = (vf.reparameterize(np.zeros((2, 3)), np.zeros((2, 3)), rng=generator) for _ in range(2))
    assert (first.sample != second.sample).any()
    assert "gaussian" in repr(first)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", ["gaussian", "laplace", "logistic"])
def test_samples_are_within_four_ulp(target: str, family: str, dtype: Any) -> None:
    """Of |mu| + |s eps|, given the noise, which is the sample of location 0 and scale 1."""
    rng = np.random.default_rng(3)
    mu = rng.normal(size=(20, 50)).astype(dtype)
    log_var = rng.uniform(-140, 140, size=mu.shape).astype(dtype)
    log_var[::2] = rng.normal(size=log_var[::2].shape)
    z, noise = (
        vf.reparameterize(x, y, family=family, rng=6).sample[0] for x, y in ((mu, log_var), (0 * mu, 0 * mu))
    )
    with mp.workdps(40):
        for m, v, eps, got in zip(mu.flat, log_var.flat, noise.flat, z.flat, strict=True):
            spread = mp.exp(mp.mpf(float(v)) / 2) * mp.mpf(float(eps))
            step = np.spacing(dtype(abs(float(m)) + abs(float(spread))))
            assert abs(mp.mpf(float(got)) - mp.mpf(float(m)) - spread) <= 4 * mp.mpf(float(step))
