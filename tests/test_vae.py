"""Variational autoencoders: a linear one whose ln p(x) is known, and the parts that all are made of.

Statistical checks have fixed seeds; a false alarm of each would have a probability below 1e-5.
"""

from __future__ import annotations

import itertools
import math
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import vfe_fast as vf

torch = pytest.importorskip("torch")
vft = pytest.importorskip("vfe_fast.torch", exc_type=ImportError)

from vfe_fast.torch.densities import log_density  # noqa: E402
from vfe_fast.torch.log_mean_exp import cumulant_terms, log_mean_exp  # noqa: E402

SIGMAS = 4.5
F64 = torch.float64


def linear(n_visible: int = 6, n_latents: int = 3, spread: float = 0.6, seed: int = 3) -> Any:
    """An asymmetric linear VAE whose q is somewhat off the posterior."""
    rng = np.random.default_rng(seed)
    vae = vft.LinearVAE(n_visible, n_latents).double()
    with torch.no_grad():
        vae.decoder.weight.copy_(torch.from_numpy(spread * rng.normal(size=(n_visible, n_latents))))
        vae.decoder.bias.copy_(torch.from_numpy(rng.normal(size=n_visible)))
        vae.likelihood.log_var.fill_(0.3)
        vae.set_best_posterior()
        vae.encoder.mu.bias += 0.15
        vae.encoder.log_var += 0.1
    return vae


def rows(n: int = 4, n_visible: int = 6) -> Any:
    return torch.from_numpy(np.random.default_rng(9).normal(size=(n, n_visible)))


def known_cumulants(vae: Any, x: Any, order: int) -> np.ndarray:
    """Of V = ln q - ln p(x, z): a quadratic form of normal numbers, from matrices alone (n_rows, order).

    V = c + b.e + e'Ae / 2 has cumulants c + tr A / 2 and (r - 1)! (tr A^r + r b'A^(r-2) b) / 2.
    """
    with torch.no_grad():
        W, m = vae.decoder.weight.numpy(), vae.decoder.bias.numpy()
        variance = math.exp(vae.likelihood.log_var.item())
        mu, log_var = (t.numpy() for t in vae.encode(x))
    D, d = W.shape
    found = []
    for row in range(len(x)):
        s = np.diag(np.exp(log_var[row] / 2))
        off = x[row].numpy() - m - W @ mu[row]
        A = s @ (np.eye(d) + W.T @ W / variance) @ s - np.eye(d)
        b = s @ (mu[row] - W.T @ off / variance)
        c = 0.5 * (off @ off / variance + D * math.log(2 * math.pi * variance) + mu[row] @ mu[row])
        c -= 0.5 * log_var[row].sum()
        kappa = [c + np.trace(A) / 2]
        for r in range(2, order + 1):
            power = np.linalg.matrix_power
            kappa.append(math.factorial(r - 1) / 2 * (np.trace(power(A, r)) + r * b @ power(A, r - 2) @ b))
        found.append(kappa)
    return np.array(found)


def partial_sums(vae: Any, x: Any, order: int) -> np.ndarray:
    factors = [(-1) ** r / math.factorial(r) for r in range(1, order + 1)]
    return (known_cumulants(vae, x, order) * factors).cumsum(axis=1)


def mean_and_error(values: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    stacked = np.stack([v.detach().numpy() for v in values])
    return stacked.mean(axis=0), stacked.std(axis=0, ddof=1) / math.sqrt(len(stacked))


# The linear VAE.


def test_log_prob_is_that_of_the_normal_law() -> None:
    vae, x = linear(), rows()
    W, m = vae.decoder.weight, vae.decoder.bias
    covariance = W @ W.T + vae.likelihood.log_var.exp() * torch.eye(6, dtype=F64)
    expected = torch.distributions.MultivariateNormal(m, covariance).log_prob(x)
    torch.testing.assert_close(vae.log_prob(x), expected, rtol=1e-12, atol=1e-12)


def test_series_of_the_linear_vae_converges_to_log_prob() -> None:
    """Order by order; the oracle's own check."""
    vae, x = linear(), rows()
    off = np.abs(partial_sums(vae, x, 40) - vae.log_prob(x).detach().numpy()[:, None])
    assert (off[:, -1] < 1e-8).all()
    assert (off[:, 7] < off[:, 3]).all()
    assert (off[:, 3] < off[:, 0]).all()


def test_posterior_makes_all_weights_the_same() -> None:
    """One latent: the best diagonal q is the posterior, and ln w is ln p(x) whatever the sample."""
    vae, x = linear(n_latents=1), rows()
    vae.set_best_posterior()
    draw = vae.draw(x, 20, rng=0)
    torch.testing.assert_close(draw.log_weights, vae.log_prob(x).expand(20, -1), rtol=0, atol=1e-11)
    mean, covariance = vae.posterior_of(x)
    mu, log_var = vae.encode(x)
    torch.testing.assert_close(mu, mean, rtol=0, atol=1e-12)
    torch.testing.assert_close(log_var.exp()[0, 0], covariance[0, 0], rtol=1e-12, atol=0)


def test_most_likely_linear_vae_is_principal_components() -> None:
    """No other loadings, mean or noise nearby are likelier."""
    data = torch.from_numpy(np.random.default_rng(1).normal(size=(200, 5)) @ np.diag([3, 2, 1, 0.5, 0.4]))
    vae = vft.LinearVAE(5, 2).double()
    vae.set_most_likely(data)
    best = vae.log_prob(data).mean()
    gradients = torch.autograd.grad(best, [vae.decoder.weight, vae.decoder.bias, vae.likelihood.log_var])
    assert all(g.abs().max() < 1e-10 for g in gradients)


def test_posterior_is_that_of_the_joint_normal_law() -> None:
    """By conditioning (z, x), and the best diagonal q is where the closed form of the bound is stationary."""
    vae, x = linear(), rows()
    W, m, variance = (
        t.detach() for t in (vae.decoder.weight, vae.decoder.bias, vae.likelihood.log_var.exp())
    )
    gain = W.T @ torch.linalg.inv(W @ W.T + variance * torch.eye(6, dtype=F64))
    mean, covariance = vae.posterior_of(x)
    torch.testing.assert_close(mean, (x - m) @ gain.T, rtol=0, atol=1e-12)
    torch.testing.assert_close(covariance, torch.eye(3, dtype=F64) - gain @ W, rtol=0, atol=1e-12)
    vae.set_best_posterior()
    best = partial_sums(vae, x, 1)
    for parameter in vae.encoder.parameters():
        for k in range(parameter.numel()):
            for step in (1e-3, -1e-3):
                with torch.no_grad():
                    parameter.view(-1)[k] += step
                    assert (partial_sums(vae, x, 1) < best + 1e-13).all()
                    parameter.view(-1)[k] -= step


OBJECTIVES = {
    "elbo": (vft.ELBO(3), 1),
    "elbo by sample": (vft.ELBO(3, analytic_kl=False), 1),
    "first cumulant": (vft.CumulantELBO(1, 3, stop=False), 1),
    "second": (vft.CumulantELBO(2, 5, stop=False), 2),
    "third": (vft.CumulantELBO(3, 8, stop=False), 3),
    "fourth": (vft.CumulantELBO(4, 12, stop=False), 4),
    "alpha 1": (vft.Renyi(1.0, 3), 1),
    "beta 1": (vft.BetaELBO(1.0, 3), 1),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objectives_are_unbiased(name: str) -> None:
    objective, order = OBJECTIVES[name]
    vae, x = linear(), rows()
    mean, error = mean_and_error([objective(vae, x, rng=k).value for k in range(3000)])
    np.testing.assert_array_less(np.abs(mean - partial_sums(vae, x, order)[:, -1]), SIGMAS * error)


@pytest.mark.parametrize("beta", [0.3, 4.0])
def test_beta_counts_the_divergence_that_often(beta: float) -> None:
    """From the closed form of the divergence of two normal laws."""
    vae, x = linear(), rows()
    mu, log_var = vae.encode(x)
    divergence = (mu**2 + torch.exp(log_var) - 1 - log_var).sum(1) / 2
    plain, bound = (objective(vae, x, rng=2) for objective in (vft.ELBO(3), vft.BetaELBO(beta, 3)))
    torch.testing.assert_close(bound.value - plain.value, (1 - beta) * divergence)
    assert bound.kind == ("upper_bound" if beta >= 1 else None)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 2.0])
def test_bounds_grow_with_samples_and_stay_below(alpha: float) -> None:
    """IWAE is alpha 0. Every mean is below ln p(x), and nearer with more samples for alpha < 1."""
    vae, x = linear(), rows()
    truth = vae.log_prob(x).detach().numpy()
    means = []
    for n in (1, 4, 32):
        mean, error = mean_and_error([vft.Renyi(alpha, n)(vae, x, rng=k).value for k in range(600)])
        assert (mean < truth + SIGMAS * error).all()
        means.append(mean.mean())
    assert (means[0] < means[1] < means[2]) == (alpha < 1)
    if alpha == 0:
        same = vft.IWAE(32)(vae, x, rng=5).value
        torch.testing.assert_close(same, vft.Renyi(0.0, 32)(vae, x, rng=5).value)
        assert abs(means[2] - truth.mean()) < 0.05


def test_renyi_with_many_samples_is_its_closed_form() -> None:
    """ln <w^(1 - alpha)> / (1 - alpha) of a quadratic ln w, from its cumulants at strength 1 - alpha."""
    vae, x = linear(), rows()
    kappa = known_cumulants(vae, x, 60)
    for alpha in (0.3, 1.7):
        factors = [(alpha - 1) ** r / math.factorial(r) for r in range(1, 61)]
        expected = (kappa * factors).sum(axis=1) / (1 - alpha)
        found = vft.Renyi(alpha, 200_000)(vae, x, rng=1).value.detach().numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=0.02)


def test_renyi_near_one_is_the_elbo_in_float32_too() -> None:
    """ln <w^p> / p is mean + p / 2 variance + ..., and rounding must not be divided by p."""
    log_w = torch.from_numpy(np.random.default_rng(0).normal(-200, 3, size=(50, 7))).float()
    zero = torch.zeros(7)
    draw = vft.Draw(zero, zero, zero, log_w, zero, "sample", 1.0)
    for power in (1e-4, 1e-6, -1e-6):
        expected = log_w.double().mean(0) + power / 2 * log_w.double().var(0, correction=0)
        found = vft.Renyi(1 - power, 50).of(draw).value
        torch.testing.assert_close(found.double(), expected, rtol=2e-7, atol=0)


DIFFERENTIABLE = {
    **{name: objective for name, (objective, _) in OBJECTIVES.items()},
    "eighth": vft.CumulantELBO(8, 12, stop=False),
    "stopped": vft.CumulantELBO(4, 12),
    "iwae": vft.IWAE(4),
    "renyi": vft.Renyi(0.4, 4),
    "beta": vft.BetaELBO(2.5, 2),
}


def test_ln_of_a_mean_of_products() -> None:
    """Against PyTorch's logsumexp of the sum, gradients by every factor included."""
    torch.manual_seed(3)
    factors = [torch.randn(6, 2, dtype=F64, requires_grad=True) for _ in range(4)]
    a, b, c, d = factors
    to = torch.randn(2, dtype=F64)
    found = log_mean_exp(a, b, c, less=d)
    expected = torch.logsumexp(a + b + c - d, 0) - math.log(6)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)
    for x, y in zip(*(torch.autograd.grad(f @ to, factors) for f in (found, expected)), strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=1e-14)


def test_small_weights_count_in_float64() -> None:
    x = torch.tensor([[0.0], [math.log(1e-20)], [-80.0]], dtype=F64, requires_grad=True)
    (found,) = torch.autograd.grad(log_mean_exp(x).sum(), x)
    assert float(found[1, 0]) == pytest.approx(1e-20, rel=1e-9, abs=0.0)
    assert found[2, 0] == 0


@pytest.mark.parametrize("name", ["iwae", "doubly reparameterized", "renyi"])
def test_gradients_of_weights_that_do_not_count_are_zero(name: str) -> None:
    """Not subnormal, as e^-90 is in float32: products of networks with such take four times as long."""
    z = torch.linspace(-120.0, 0.0, 61)[:, None, None].requires_grad_()
    zero, log_likelihood = torch.zeros(61, 1), z.sum(-1)
    draw = vft.Draw(z, zero, zero, log_likelihood, torch.zeros(1), "sample", 1.0)
    objective = vft.Renyi(0.5, 61) if name == "renyi" else vft.IWAE(61, name != "iwae")
    (found,) = torch.autograd.grad(objective.of(draw).value.sum(), z)
    power = 0.5 if name == "renyi" else 1.0
    share = torch.softmax(power * log_likelihood.detach().double(), 0)[..., None]
    expected = share**2 if name == "doubly reparameterized" else share
    counted = share > 2.0**-46
    assert 0 < counted.sum() < 40
    assert not found[~counted].any()
    torch.testing.assert_close(found[counted].double(), expected[counted], rtol=3e-6, atol=0.0)


def bernoulli_logits() -> tuple[torch.Tensor, torch.Tensor]:
    """Means of units, and logits of three samples of two rows."""
    torch.manual_seed(5)
    return torch.rand(2, 7, dtype=F64), (3 * torch.randn(3, 2, 7, dtype=F64)).requires_grad_()


def test_bernoulli_units_by_the_kernel() -> None:
    """Values, first and second derivatives; kept in the dtype of the logits."""
    x, logits = bernoulli_logits()
    log_prob = vft.Bernoulli().log_prob
    expected = -torch.nn.functional.binary_cross_entropy_with_logits(
        logits, x.expand_as(logits), reduction="none"
    ).sum(-1)
    torch.testing.assert_close(log_prob(x, logits), expected, rtol=1e-14, atol=0.0)
    assert "BernoulliLogProb" in type(log_prob(x, logits).grad_fn).__name__
    assert torch.autograd.gradcheck(lambda y: log_prob(x, y), logits)
    assert torch.autograd.gradgradcheck(lambda y: log_prob(x, y), logits)
    assert log_prob(x.float(), logits.float()).dtype == torch.float32
    with torch.no_grad():
        assert not log_prob(x, logits).requires_grad


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # PyTorch's own, in forward mode
def test_bernoulli_units_of_which_more_is_asked() -> None:
    """Derivatives by x, forward ones, maps, other layouts and dtypes: PyTorch's loops, the same numbers."""
    x, logits = bernoulli_logits()
    log_prob = vft.Bernoulli().log_prob
    expected = log_prob(x, logits)
    moved = x.clone().requires_grad_()
    (by_x,) = torch.autograd.grad(log_prob(moved, logits).sum(), moved)
    torch.testing.assert_close(by_x, logits.sum(0))
    apart = torch.stack([logits, logits], -1)[..., 0]
    rest = [log_prob(x, apart), torch.func.vmap(lambda y: log_prob(x, y[None])[0])(logits)]
    for found in rest:
        torch.testing.assert_close(found, expected, rtol=1e-14, atol=0.0)
    _, slope = torch.func.jvp(lambda y: log_prob(x, y), (logits,), (torch.ones_like(logits),))
    torch.testing.assert_close(slope, (x - torch.sigmoid(logits)).sum(-1))
    forward = torch.autograd.forward_ad
    with forward.dual_level():
        dual = forward.make_dual(logits.detach(), torch.ones_like(logits))
        torch.testing.assert_close(forward.unpack_dual(log_prob(x, dual)).tangent, slope)
        dual = forward.make_dual(x, torch.ones_like(x))
        torch.testing.assert_close(
            forward.unpack_dual(log_prob(dual, logits.detach())).tangent, logits.sum(-1).detach()
        )
    rows = torch.autograd.functional.jacobian(lambda y: log_prob(x, y).sum(0), logits, vectorize=True)
    expected = torch.autograd.functional.jacobian(lambda y: log_prob(x, y).sum(0), logits)
    torch.testing.assert_close(rows, expected)
    traced = torch.fx.experimental.proxy_tensor.make_fx(lambda y: log_prob(x, y))(0 * logits.detach())
    torch.testing.assert_close(traced(logits.detach()), log_prob(x, logits.detach()))
    assert log_prob(x.bfloat16(), logits.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize(
    "function",
    [
        log_mean_exp,
        lambda x: log_mean_exp(torch.ones(6, 2, dtype=F64), x),
        lambda x: log_mean_exp(torch.ones(6, 2, dtype=F64), less=x),
        lambda x: cumulant_terms(x, 3),
    ],
)
def test_second_derivatives_of_bounds_are_refused(function: Any) -> None:
    """Also of a penalty on the gradient: it must not be a constant."""
    x = torch.linspace(-1, 2, 12, dtype=torch.float64).reshape(6, 2).requires_grad_()
    (gradient,) = torch.autograd.grad(function(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiated by once"):
        (function(x).sum() + gradient.square().sum()).backward()


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_are_those_of_the_values(name: str) -> None:
    """Central differences in every parameter of model and encoder, with the same noise."""
    vae, x = linear(), rows(2)
    parameters = list(vae.parameters())
    gradients = torch.autograd.grad(-DIFFERENTIABLE[name](vae, x, rng=7).loss, parameters)
    step = 1e-6
    for p, gradient in zip(parameters, gradients, strict=True):
        for k in range(p.numel()):
            ends = []
            for sign in (1, -1):
                with torch.no_grad():
                    p.view(-1)[k] += sign * step
                    ends.append(DIFFERENTIABLE[name](vae, x, rng=7).value.mean().item())
                    p.view(-1)[k] -= sign * step
            assert gradient.reshape(-1)[k].item() == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=2e-6)


@pytest.mark.parametrize("flow", [False, True])
def test_doubly_reparameterized_gradient_has_the_same_mean_and_less_noise(flow: bool) -> None:
    """Behind a flow, too, which gets the gradient that the decoder gets."""
    vae, x = linear(), rows(2)
    if flow:
        torch.manual_seed(2)
        vae.flow = vft.PlanarFlow(3, 2).double()
        with torch.no_grad():
            for p in vae.flow.parameters():
                p.mul_(3)
    encoder = [vae.encoder.mu.bias, vae.encoder.log_var]
    found = {}
    for double in (False, True):
        draws = []
        for key in range(300):
            loss = vft.IWAE(16, doubly_reparameterized=double)(vae, x, rng=key).loss
            draws.append(torch.cat(torch.autograd.grad(loss, encoder)))
        found[double] = mean_and_error(draws)
    (plain, plain_error), (double, double_error) = found[False], found[True]
    np.testing.assert_array_less(np.abs(plain - double), SIGMAS * np.hypot(plain_error, double_error))
    assert (double_error < 0.6 * plain_error).all()
    # The decoder's gradient is the same one, and the flow's.
    decoder = [vae.decoder.weight, vae.likelihood.log_var, *(vae.flow.parameters() if flow else ())]
    of = [
        torch.autograd.grad(vft.IWAE(4, doubly_reparameterized=d)(vae, x, rng=1).loss, decoder)
        for d in (False, True)
    ]
    for a, b in zip(*of, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_path_only_is_unbiased_and_quiet_at_the_posterior() -> None:
    vae, x = linear(n_latents=1), rows(2)
    vae.set_best_posterior()
    draw = vae.draw(x, 3, rng=0, path_only=True)
    gradients = torch.autograd.grad(draw.log_weights.mean(), list(vae.encoder.parameters()))
    assert all(g.abs().max() < 1e-12 for g in gradients)


@pytest.mark.parametrize("order", [1, 2, 4, 8])
def test_cumulant_terms_by_autograd(order: int) -> None:
    x = torch.from_numpy(np.random.default_rng(0).gamma(2.0, size=(12, 3))).requires_grad_()
    assert torch.autograd.gradcheck(lambda y: cumulant_terms(y, order), x)


def test_stopping_keeps_what_diverges_at_bay() -> None:
    """Rows whose series diverges are cut off; those of a q near the posterior are not."""
    near, far = linear(), linear(spread=3.0)
    with torch.no_grad():
        far.encoder.log_var += 4.0
    x = rows(20)
    plain, stopped = (vft.CumulantELBO(4, 50, stop=s)(far, x, rng=0) for s in (False, True))
    truth = far.log_prob(x)
    assert stopped.details["mean_order"] < 3
    assert plain.details["not_decreasing"] > 0.5
    assert (stopped.value - truth).abs().mean() < 0.1 * (plain.value - truth).abs().mean()
    assert vft.CumulantELBO(4, 400)(near, x, rng=0).details["mean_order"] > 1.5
    kinds = [vft.CumulantELBO(n)(near, x, rng=0).kind for n in (1, 2)]
    assert kinds == ["upper_bound", "asymptotic"]


def test_stopped_series_is_that_of_the_statistics() -> None:
    """Row by row: the order of `log_mean_exp_cumulants`, or before a sum a nat from the mean weight."""
    log_w = np.random.default_rng(1).normal(-50, np.geomspace(0.1, 3, 40), size=(30, 40))
    zero = torch.zeros(40, dtype=F64)
    draw = vft.Draw(zero, zero, zero, torch.from_numpy(log_w), zero, "sample", 1.0)
    for order in (2, 4):
        kappa = vf.cumulants(log_w, order=order, axis=0).values
        terms = kappa / [math.factorial(r) for r in range(1, order + 1)]
        series = vf.log_mean_exp_cumulants(-log_w, order=order, axis=0)
        direct = np.log(np.exp(log_w + 50).mean(axis=0)) - 50
        expected, orders = [], []
        for row in range(40):
            n = int(series.best_order[row])
            far = [r for r in range(2, n + 1) if abs(terms[row, :r].sum() - direct[row]) > 1]
            orders.append(far[0] - 1 if far else n)
            expected.append(terms[row, : orders[-1]].sum())
        bound = vft.CumulantELBO(order, 30).of(draw)
        np.testing.assert_allclose(bound.value.numpy(), expected, rtol=1e-12)
        assert bound.details["mean_order"] == np.mean(orders)
        assert len(set(orders)) > 1
        if order > 2:
            sizes = np.abs(terms)
            not_decreasing = np.mean([any(s[r] >= s[r - 1] for r in range(2, len(s))) for s in sizes])
            assert bound.details["not_decreasing"] == not_decreasing
            assert 0 < not_decreasing < 1


def test_evaluation_leaves_each_module_in_its_mode() -> None:
    encoder = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Dropout(0.3), torch.nn.BatchNorm1d(5))
    vae = vft.VAE(vft.Heads(encoder, 5, 2), torch.nn.Linear(2, 6))
    vae.train()
    encoder[2].eval()  # frozen
    modes = [module.training for module in vae.modules()]
    vft.evaluate(vae, torch.bernoulli(torch.full((7, 6), 0.4)), n_samples=60, rng=1)
    assert [module.training for module in vae.modules()] == modes
    assert len(set(modes)) == 2


def test_of_order_two_the_next_term_is_looked_at() -> None:
    log_w = -np.random.default_rng(1).gamma(0.5, np.geomspace(0.1, 10, 40), size=(30, 40))
    zero = torch.zeros(40, dtype=F64)
    bound = vft.CumulantELBO(2, 30).of(
        vft.Draw(zero, zero, zero, torch.from_numpy(log_w), zero, "sample", 1.0)
    )
    kappa = stats.kstat(log_w, 2, axis=0), stats.kstat(log_w, 3, axis=0)
    not_decreasing = np.mean(np.abs(kappa[1]) / 6 >= kappa[0] / 2)
    assert bound.details["not_decreasing"] == not_decreasing
    assert 0 < not_decreasing < 1


def test_few_samples_are_not_believed_beyond_a_nat() -> None:
    """Of five samples no series is seen to diverge; what they say directly bounds what is believed."""
    far, x = linear(spread=3.0), rows(50)
    with torch.no_grad():
        far.encoder.log_var += 2.0
    draw = far.draw(x, 5, rng=0)
    direct = vft.IWAE(5).of(draw).value
    for order in (2, 3):
        plain, stopped = (vft.CumulantELBO(order, 5, stop=s).of(draw).value for s in (False, True))
        assert (plain - direct).abs().max() > 10
        bound = draw.log_weights.mean(0)
        assert ((stopped - direct).abs() <= 1 + 1e-9).logical_or((stopped - bound).abs() <= 1e-9).all()


# Temperature.


def test_temperature_is_that_of_the_free_energy() -> None:
    """-T ln of the integral of exp(-E / T), a normal integral; and E at mu for T = 0."""
    vae, x = linear(), rows()
    with torch.no_grad():
        W, m = vae.decoder.weight.numpy(), vae.decoder.bias.numpy()
        variance = math.exp(vae.likelihood.log_var.item())
    for t in (0.5, 2.0):
        vae.temperature = t
        with torch.no_grad():
            vae.encoder.log_var += math.log(t) + 0.5  # wide enough for what is averaged
        precision = (np.eye(3) + W.T @ W / variance) / t
        expected = []
        for row in x.numpy():
            off = row - m
            b = W.T @ off / variance / t
            c = (
                (off @ off / variance + 6 * math.log(2 * math.pi * variance) + 3 * math.log(2 * math.pi))
                / 2
                / t
            )
            log_integral = -c + b @ np.linalg.solve(precision, b) / 2
            log_integral += 1.5 * math.log(2 * math.pi) - np.linalg.slogdet(precision)[1] / 2
            expected.append(t * log_integral)
        found = vft.IWAE(200_000)(vae, x, rng=0).value.detach().numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=0.05)
        mean, error = mean_and_error([vft.ELBO(3)(vae, x, rng=k).value for k in range(2000)])
        both, other = mean_and_error(
            [vft.ELBO(3, analytic_kl=False)(vae, x, rng=-k % 2**63).value for k in range(1, 2000)]
        )
        np.testing.assert_array_less(np.abs(mean - both), SIGMAS * np.hypot(error, other))
        assert (mean < np.array(expected) + SIGMAS * error).all()
    vae.temperature = 0.0
    bound = vft.IWAE(5)(vae, x, rng=0)
    mu, _ = vae.encode(x)
    energy = -(
        vae.likelihood.log_prob(x, vae.decoder(mu)) - 0.5 * mu.square().sum(1) - 1.5 * math.log(2 * math.pi)
    )
    torch.testing.assert_close(bound.value, -energy)
    assert bound.kind is None
    with pytest.raises(ValueError, match="temperature"):
        vft.evaluate(vae, x, n_samples=10)


@pytest.mark.parametrize("family", ["gaussian", "laplace", "logistic", "log_normal", "concrete"])
def test_at_temperature_zero_z_is_where_the_noise_is_none(family: str) -> None:
    """What the samples tend to as the scale, or the relaxation of saturated logits, goes to 0."""
    torch.manual_seed(0)
    vae = vft.VAE.mlp(5, 3, hidden=(4,), posterior=family).double()
    x = torch.rand(4, 5, dtype=F64)
    with torch.no_grad():
        if family == "concrete":
            vae.encoder.linear.bias += 60
        else:
            vae.encoder.linear.weight[3:] = 0
            vae.encoder.linear.bias[3:] = -40
        near = vae.draw(x, 3, rng=0).z
        vae.temperature = 0.0
        found = vae.draw(x, 3, rng=0).z
    torch.testing.assert_close(found.expand(3, -1, -1), near, rtol=0, atol=1e-6)


# Evaluation.


def test_evaluation_of_the_linear_vae() -> None:
    vae, x = linear(), rows(40)
    result = vft.evaluate(vae, x, n_samples=4000, iwae=(5, 50), order=4, rng=0)
    truth, sums = -vae.log_prob(x).detach().numpy(), -partial_sums(vae, x, 4)
    # Standard errors cover: of 40 rows, 27 +- 3 are within one.
    off = np.abs(result.nll - truth)
    assert 14 <= (off < result.nll_stderr).sum() <= 39
    assert (off < 6 * result.nll_stderr).all()
    spread = np.sqrt(known_cumulants(vae, x, 2)[:, 1])  # of V, known too
    assert (np.abs(result.elbo - sums[:, 0]) < SIGMAS * spread / math.sqrt(4000)).all()
    np.testing.assert_allclose(result.corrected[:, 0], result.elbo, rtol=0, atol=1e-10)
    # The second order adds half the variance, of which 4,000 samples know 1 / sqrt(8000) if V is normal; V's
    # tails double that.
    error = spread / math.sqrt(4000) + spread**2 / math.sqrt(4000)
    assert (np.abs(result.corrected[:, 1] - sums[:, 1]) < SIGMAS * error).all()
    assert (error < 0.2 * (sums[:, 0] - sums[:, 1])).all()  # so that a correction left out would show
    np.testing.assert_allclose(result.energy - result.entropy, result.elbo, rtol=0, atol=1e-9)
    assert result.elbo.mean() > result.iwae[5].mean() > result.iwae[50].mean() > result.nll.mean()
    free = result.free_energy
    assert (free.kind, free.converged) == ("upper_bound", True)
    assert free.value == pytest.approx(result.nll.mean())
    assert free.stderr == pytest.approx(result.nll.std(ddof=1) / math.sqrt(40))
    assert result.active.tolist() == [True] * 3
    assert "4000 samples" in str(result)


def test_what_a_positive_posterior_does_not_reach_is_said() -> None:
    """q of z > 0 and a normal prior: half of the prior's mass is never looked at."""
    torch.manual_seed(1)
    vae = vft.VAE.mlp(8, 2, hidden=(6,), posterior="log_normal")
    x = (torch.rand(30, 8) < 0.4).float()
    found = vft.evaluate(vae, x, n_samples=500, iwae=(), order=3, rng=0).free_energy
    assert not found.converged
    assert "positive" in found.problem


def test_terms_that_do_not_decrease_are_counted_in_evaluations() -> None:
    result = vft.evaluate(linear(spread=1.2), rows(40), n_samples=500, order=6, rng=0)
    sizes = np.abs(np.diff(result.corrected, axis=1))
    share = np.mean([any(s[r] >= s[r - 1] for r in range(1, 5)) for s in sizes])
    assert result.not_decreasing == pytest.approx(share)
    assert np.mean(sizes[:, -1] >= sizes[:, -2]) < share < 1
    assert f"decrease in {100 * share:.0f} %" in str(result)


def test_prior_and_likelihood_by_place() -> None:
    encoder, decoder = torch.nn.Linear(3, 4), torch.nn.Linear(2, 6)
    vae = vft.VAE(encoder, decoder, (0.5, 0.1), "gaussian")
    assert isinstance(vae.likelihood, type(vft.VAE(encoder, decoder, likelihood="gaussian").likelihood))
    assert float(vae.prior_mean) == pytest.approx(0.5)


def test_evaluation_does_not_depend_on_memory() -> None:
    """A megabyte is that of 95 of these rows, of float64 with six units and 120 samples."""
    vae, x = linear(), rows(700)
    one, other = (vft.evaluate(vae, x, n_samples=120, rng=3, max_megabytes=m) for m in (1, 100))
    np.testing.assert_allclose(one.nll, other.nll, rtol=1e-9)
    again = vft.evaluate(vae, x, n_samples=120, rng=3)
    np.testing.assert_array_equal(again.nll, other.nll)


def test_memory_of_an_evaluation_is_bounded() -> None:
    """Of many samples of few units ln w takes the memory; NumPy's share of it is measured."""
    import tracemalloc

    torch.manual_seed(0)
    vae, x = vft.VAE.mlp(3, 2, hidden=(4,)), np.zeros((4000, 3), np.float32)
    tracemalloc.start()
    try:
        result = vft.evaluate(vae, x, n_samples=1000, iwae=(5, 50), rng=0, max_megabytes=2)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * 2**20  # of 32 for ln w of all rows
    assert result.nll.shape == (4000,)


def test_evaluation_leaves_the_mode_and_torch_alone() -> None:
    vae, x = linear(), rows()
    before = torch.get_rng_state()
    for training in (True, False):
        vae.train(training)
        vft.evaluate(vae, x, n_samples=60, rng=0)
        assert vae.training == vae.decoder.training == training
    with pytest.raises(ValueError, match="n_samples"):
        vft.evaluate(vae.train(), x, n_samples=3)
    assert vae.training
    vft.fit(vae, x, n_epochs=2, rng=0)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    "change",
    [lambda x: x[::-1], lambda x: x.astype(">f4"), lambda x: x.astype(np.int16), lambda x: x > 0, list,
     np.asfortranarray, lambda x: np.repeat(x, 2, axis=1)[:, ::2], torch.from_numpy,
     lambda x: torch.tensor(x, requires_grad=True)],
    ids=["backwards", "big-endian", "int16", "bool", "list", "fortran", "strided", "tensor", "gradients"],
)  # fmt: skip
def test_data_of_all_kinds(change: Any) -> None:
    x = (np.random.default_rng(0).random((20, 16)) < 0.3).astype(np.float32)
    given = change(x)
    plain = given.detach() if isinstance(given, torch.Tensor) else np.asarray(given)
    plain = np.asarray(plain).astype(np.float32, order="C")
    if isinstance(given, np.ndarray):
        given.setflags(write=False)
    torch.manual_seed(0)
    vae = vft.VAE.mlp(16, 2, hidden=(8,))
    found, expected = (vft.evaluate(vae, data, n_samples=60, rng=0) for data in (given, plain))
    np.testing.assert_array_equal(found.nll, expected.nll)
    one = vft.evaluate(vae, plain[:1], n_samples=60, iwae=(5, 5), rng=0)
    assert one.nll[0] == pytest.approx(expected.nll[0], rel=1e-5)
    vft.fit(vae, given, n_epochs=1, rng=0)


def test_evaluation_is_that_of_its_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every number by hand, of 103 samples in groups of 5 that follow each other."""
    vae, x = linear(), rows()
    seen: list[Any] = []
    draw = vae.draw

    def look(*given: Any, **how: Any) -> Any:
        seen.append(draw(*given, **how))
        return seen[-1]

    monkeypatch.setattr(vae, "draw", look)
    result = vft.evaluate(vae, x, n_samples=103, iwae=(5,), order=3, rng=0)
    log_w, energy, log_q = (
        torch.cat([getattr(d, name).detach() for d in seen]).numpy()
        for name in ("log_weights", "energy", "log_q")
    )
    assert log_w.shape == (103, 4)
    assert len(np.unique(log_w)) == 412
    w = np.exp(log_w)
    np.testing.assert_allclose(result.nll, -np.log(w.mean(axis=0)), rtol=1e-12)
    np.testing.assert_allclose(result.nll_stderr, w.std(axis=0, ddof=1) / w.mean(axis=0) / math.sqrt(103))
    np.testing.assert_allclose(result.ess, w.sum(axis=0) ** 2 / (w * w).sum(axis=0))
    np.testing.assert_allclose(result.energy, energy.mean(axis=0))
    np.testing.assert_allclose(result.entropy, -log_q.mean(axis=0))
    groups = [np.log(w[k : k + 5].mean(axis=0)) for k in range(0, 100, 5)]
    np.testing.assert_allclose(result.iwae[5], -np.mean(groups, axis=0))


def test_inactive_latents_and_poor_samples_are_seen() -> None:
    vae, x = linear(), rows(40)
    with torch.no_grad():
        vae.encoder.mu.weight[1] = 0
    assert vft.evaluate(vae, x, n_samples=50, iwae=(), rng=0).active.tolist() == [True, False, True]
    with torch.no_grad():  # on both sides of what counts, 0.01
        vae.encoder.mu.weight.copy_(0.5 * torch.eye(3, 6, dtype=F64))
        vae.encoder.mu.weight /= x[:, :3].std(0, correction=0)[:, None]
        vae.encoder.mu.weight *= 2 * torch.tensor([0.011, 0.009, 0.5], dtype=F64).sqrt()[:, None]
    assert vft.evaluate(vae, x, n_samples=50, iwae=(), rng=0).active.tolist() == [True, False, True]
    with torch.no_grad():
        vae.encoder.log_var -= 9
    poor = vft.evaluate(vae, x, n_samples=200, iwae=(), rng=0).free_energy
    assert not poor.converged
    assert "effective samples" in poor.problem


# Families, flows, likelihoods.

FAMILIES = ["gaussian", "laplace", "logistic", "log_normal", "concrete"]


@pytest.mark.parametrize("family", FAMILIES)
def test_densities_are_those_of_the_kernel(family: str) -> None:
    rng = np.random.default_rng(2)
    mu, log_var = (torch.from_numpy(rng.normal(size=(4, 3))) for _ in range(2))
    given = (mu,) if family == "concrete" else (mu, log_var)
    t = 0.7 if family == "concrete" else None
    z = vft.reparameterize(*given, n_samples=5, family=family, temperature=t, rng=0)
    found = log_density(family, z.sample, mu, log_var, t)
    torch.testing.assert_close(found, z.log_q, rtol=0, atol=1e-9)


@pytest.mark.parametrize("given_prior", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_kl_is_the_mean_of_the_log_ratio(family: str, given_prior: bool) -> None:
    torch.manual_seed(1)
    prior = None
    if given_prior:
        prior = 0.4 if family == "concrete" else (torch.tensor([0.3, -0.2]), torch.tensor([0.1, 0.4]))
    vae = vft.VAE.mlp(5, 2, hidden=(4,), posterior=family, prior=prior).double()
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 5)))
    with torch.no_grad():
        draw = vae.draw(x, 200_000, rng=0)
    ratio = draw.log_q - draw.log_prior
    error = ratio.std(0) / math.sqrt(len(ratio))
    assert draw.kl_kind == "analytic"
    assert ((ratio.mean(0) - draw.kl).abs() < SIGMAS * error).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_priors_are_those_that_were_asked_for(family: str) -> None:
    """Density against torch.distributions; 40,000 samples against the law's mean and spread."""
    mean, log_var = np.array([0.3, -1.2]), np.array([0.5, -0.7])
    relaxed = family == "concrete"
    prior = mean if relaxed else (mean, log_var)
    vae = vft.VAE.mlp(4, 2, hidden=(3,), posterior=family, prior=prior).double()
    if relaxed:
        law = torch.distributions.RelaxedBernoulli(torch.tensor(2 / 3, dtype=F64), logits=torch.tensor(mean))
    else:
        law = torch.distributions.Normal(*(torch.from_numpy(v) for v in (mean, np.exp(log_var / 2))))
    z = vae.sample_prior(40_000, rng=1)
    torch.testing.assert_close(vae.log_prior(z), law.log_prob(z).sum(-1), rtol=1e-12, atol=1e-12)
    assert not torch.equal(z, vae.sample_prior(40_000, rng=2))
    assert torch.equal(z, vae.sample_prior(40_000, rng=1))
    if relaxed:
        z = z.logit() * (2 / 3)  # logistic about the logits
        width = np.full(2, math.pi / math.sqrt(3))
    else:
        width = np.exp(log_var / 2)
    np.testing.assert_array_less(np.abs(z.mean(0).numpy() - mean), SIGMAS * width / 200)
    # A logistic law's fourth moment makes the error of its variance 3.2 / n, a normal one's 2 / n.
    np.testing.assert_array_less(np.abs(z.var(0).numpy() / width**2 - 1), SIGMAS * math.sqrt(3.2) / 200)


def test_prior_enters_the_divergence() -> None:
    """Against torch.distributions, for a prior that is not the standard one."""
    prior = (torch.tensor([0.3, -1.2]), torch.tensor([0.5, -0.7]))
    torch.manual_seed(0)
    vae, x = vft.VAE.mlp(4, 2, hidden=(3,), prior=prior).double(), torch.rand(3, 4, dtype=F64)
    mu, log_var = vae.encode(x)
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(
        normal(mu, torch.exp(log_var / 2)), normal(prior[0].double(), torch.exp(prior[1].double() / 2))
    )
    torch.testing.assert_close(vae.draw(x, rng=0).kl, expected.sum(-1), rtol=1e-12, atol=1e-12)


def test_planar_flow() -> None:
    """ln det against autograd's Jacobian, and the change of variables against a histogram's worth of mass."""
    torch.manual_seed(0)
    flow = vft.PlanarFlow(3, 5).double()
    with torch.no_grad():
        for p in flow.parameters():
            p.mul_(4)
    z = torch.randn(6, 3, dtype=F64)
    _, log_det = flow(z)
    for row, found in zip(z, log_det, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda r: flow(r[None])[0][0], row)
        assert found.item() == pytest.approx(torch.linalg.slogdet(jacobian)[1].item(), abs=1e-10)
        assert torch.linalg.slogdet(jacobian)[0] > 0
    with torch.no_grad():  # u.w far below -1, where the map as it is folds over
        flow.u.copy_(-5 * flow.w)
    line = torch.linspace(-3, 3, 400, dtype=F64)[:, None] * flow.w[0]
    moved = vft.PlanarFlow(3, 1).double()
    moved.load_state_dict({name: p[:1] for name, p in flow.state_dict().items()})
    along = moved(line)[0] @ flow.w[0]
    assert (along.diff() > 0).all()
    assert torch.isfinite(moved(line)[1]).all()


def test_flow_behind_the_posterior_still_gives_log_prob() -> None:
    plain, x = linear(), rows()
    torch.manual_seed(2)
    vae = vft.VAE(
        plain.encoder, plain.decoder, likelihood=plain.likelihood, flow=vft.PlanarFlow(3, 2).double()
    )
    value = vft.IWAE(20_000)(vae, x, rng=0).value
    assert (value - plain.log_prob(x)).abs().max() < 0.1
    assert vae.draw(x, 2, rng=0).kl_kind == "sample"
    loss = vft.ELBO(2)(vae, x, rng=0).loss
    assert all(g is not None for g in torch.autograd.grad(loss, list(vae.parameters())))


class Mixture(torch.nn.Module):
    """A prior that is learned."""

    def __init__(self) -> None:
        super().__init__()
        self.means = torch.nn.Parameter(torch.tensor([[-2.0, 0.0], [2.0, 1.0]], dtype=F64))

    def _law(self) -> Any:
        each = torch.distributions.Independent(torch.distributions.Normal(self.means, 0.7), 1)
        return torch.distributions.MixtureSameFamily(
            torch.distributions.Categorical(torch.ones(2, dtype=F64)), each
        )

    def log_prob(self, z: Any) -> Any:
        return self._law().log_prob(z)

    def sample(self, n: int) -> Any:
        return self._law().sample((n,))


def test_learned_prior() -> None:
    torch.manual_seed(0)
    vae = vft.VAE.mlp(5, 2, hidden=(4,), prior=Mixture()).double()
    x = torch.rand(3, 5, dtype=F64)
    bound = vft.ELBO(4)(vae, x, rng=0)
    (gradient,) = torch.autograd.grad(bound.loss, vae.prior.means)
    assert gradient.abs().max() > 0
    assert vae.sample_prior(7, 2).shape == (7, 2)


def test_likelihoods() -> None:
    rng = np.random.default_rng(0)
    output, x = torch.from_numpy(rng.normal(size=(3, 4, 5))), torch.from_numpy(rng.normal(size=(4, 5)))
    bits = (x > 0).double()
    law = torch.distributions.Bernoulli(logits=output)
    torch.testing.assert_close(
        vft.Bernoulli().log_prob(bits, output), law.log_prob(bits.expand_as(output)).sum(-1)
    )
    fixed = vft.Gaussian(0.3).double()
    expected = torch.distributions.Normal(output, math.sqrt(0.3)).log_prob(x).sum(-1)
    torch.testing.assert_close(fixed.log_prob(x, output), expected, rtol=1e-6, atol=0)
    assert not list(fixed.parameters())
    both = torch.cat([output, output.flip(0)], -1)
    expected = torch.distributions.Normal(output, torch.exp(output.flip(0) / 2)).log_prob(x).sum(-1)
    torch.testing.assert_close(vft.Gaussian("decoder").log_prob(x, both), expected)
    best = vft.Gaussian("optimal").double()
    mse = (x - output).square().mean()
    expected = torch.distributions.Normal(output, mse.sqrt()).log_prob(x).sum(-1)
    torch.testing.assert_close(best.log_prob(x, output), expected)
    assert best.log_var.item() == pytest.approx(mse.log().item())
    three = vft.Categorical(3)
    logits, chosen = (
        torch.from_numpy(rng.normal(size=(2, 4, 15))),
        torch.from_numpy(rng.integers(0, 3, (4, 5))),
    )
    law = torch.distributions.Categorical(logits=logits.unflatten(-1, (5, 3)))
    torch.testing.assert_close(three.log_prob(chosen, logits), law.log_prob(chosen.expand(2, 4, 5)).sum(-1))
    for likelihood, n in ((vft.Bernoulli(), 5), (fixed, 5), (vft.Gaussian("decoder"), 10), (three, 15)):
        assert likelihood.n_outputs(5) == n
        drawn = likelihood.sample(torch.zeros(6, n, dtype=F64))
        assert drawn.shape == (6, 5)


class Shape(torch.nn.Module):
    """A network that gives numbers of a shape."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.numbers = torch.nn.Parameter(torch.zeros(shape))

    def forward(self, x: Any) -> Any:
        return self.numbers

    def log_prob(self, z: Any) -> Any:
        return self.numbers


@pytest.mark.parametrize("likelihood", [vft.Bernoulli(), vft.Gaussian(1.0), vft.Gaussian("optimal")])
@pytest.mark.parametrize("shape", [(1, 3, 1), (3, 4), (2, 3, 4)])
def test_outputs_that_would_be_stretched_are_refused(likelihood: Any, shape: tuple[int, ...]) -> None:
    vae = vft.VAE(torch.nn.Linear(4, 4), Shape(*shape), likelihood=likelihood)
    with pytest.raises(ValueError, match=r"^decoder: expected \(n_samples, batch, "):
        vae.draw(torch.zeros(3, 4))


def test_priors_that_are_not_summed_are_refused() -> None:
    vae = vft.VAE(torch.nn.Linear(4, 4), torch.nn.Linear(2, 4), prior=Shape(1, 3, 2))
    with pytest.raises(ValueError, match=r"^prior: expected ln p of \(1, 3\), got \(1, 3, 2\)"):
        vae.draw(torch.zeros(3, 4))


def test_draws_of_likelihoods() -> None:
    """40,000 draws of each, against means and variances of torch.distributions."""
    rng = np.random.default_rng(3)
    output = torch.from_numpy(rng.normal(size=6))
    distributions = torch.distributions
    learned = vft.Gaussian("learned").double()
    with torch.no_grad():
        learned.log_var.fill_(-1.1)
    mean, log_var = output.chunk(2)
    for likelihood, law in (
        (vft.Bernoulli(), distributions.Bernoulli(logits=output)),
        (vft.Gaussian(0.3).double(), distributions.Normal(output, math.sqrt(0.3))),
        (learned, distributions.Normal(output, math.exp(-0.55))),
        (vft.Gaussian("decoder"), distributions.Normal(mean, torch.exp(log_var / 2))),
    ):
        many = output.expand(40_000, -1)
        drawn = likelihood.sample(many, torch.Generator().manual_seed(5)).detach()
        again = likelihood.sample(many, torch.Generator().manual_seed(5)).detach()
        assert torch.equal(drawn, again)
        error = (law.variance / 40_000).sqrt()
        assert ((drawn.mean(0) - law.mean).abs() < SIGMAS * error).all()
        torch.testing.assert_close(drawn.var(0), law.variance, rtol=0.05, atol=0)
        torch.testing.assert_close(likelihood.mean(output).detach(), law.mean)
    three = vft.Categorical(3)
    drawn = three.sample(output.expand(40_000, -1), torch.Generator().manual_seed(5)).long()
    for unit, p in enumerate(distributions.Categorical(logits=output.reshape(2, 3)).probs):
        share = torch.bincount(drawn[:, unit], minlength=3) / 40_000
        assert ((share - p).abs() < SIGMAS * (p * (1 - p) / 40_000).sqrt()).all()
        torch.testing.assert_close(three.mean(output)[unit], p)


def test_optimal_variance_outside_training_is_the_running_mean() -> None:
    best = vft.Gaussian("optimal").double()
    x = rows(5)
    outputs = [x + 0.1 * k * rows(5).flip(0) for k in (1, 2, 5)]
    logs = []
    for output in outputs:
        best.log_prob(x, output)
        logs.append(math.log((x - output).square().mean().item()))
    best.eval()
    found = best.log_prob(x, outputs[0])
    expected = torch.distributions.Normal(outputs[0], math.exp(np.mean(logs) / 2)).log_prob(x).sum(-1)
    torch.testing.assert_close(found, expected)
    assert best.n_seen.item() == 3


def test_parameters_that_are_slices_are_trained() -> None:
    """The fused Adam takes their memory for contiguous, writes beside them, and says nothing."""

    def trained(optimizer: Any) -> tuple[Any, Any]:
        torch.manual_seed(3)
        vae = vft.VAE.mlp(12, 2, hidden=(8,))
        whole = torch.zeros(8, 20)
        whole[:, :12] = vae.encoder.body[0].weight.detach()
        vae.encoder.body[0].weight = torch.nn.Parameter(whole[:, :12])
        vft.fit(vae, torch.eye(12), n_epochs=3, batch_size=4, rng=1, optimizer=optimizer)
        return whole, [p.detach() for p in vae.parameters()]

    whole, parameters = trained(None)
    expected, others = trained(lambda parameters: torch.optim.Adam(parameters, lr=1e-3))
    assert not whole[:, 12:].any()
    assert torch.equal(whole, expected)
    assert all(torch.equal(a, b) for a, b in zip(parameters, others, strict=True))


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # which the compiler looks at
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_compiled_networks_are_called_and_give_the_same(likelihood: str) -> None:
    """The objective and its gradients, by a compiler that compiles nothing; both parts go through it."""
    torch.manual_seed(3)
    vae = vft.VAE.mlp(30, 4, hidden=(20,), likelihood=likelihood)
    x = torch.bernoulli(torch.full((7, 30), 0.4))
    parts = []

    def compiler(graph: Any, inputs: Any) -> Any:
        parts.append(graph)
        return graph.forward

    def look() -> list[Any]:
        bound = vft.IWAE(5, doubly_reparameterized=True)(vae, x, rng=3)
        vae.zero_grad()
        bound.loss.backward()
        return [bound.value.detach(), *(p.grad.clone() for p in vae.parameters())]

    plain = look()
    vae.compile(backend=compiler)
    for a, b in zip(plain, look(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)
    assert len(parts) == 2


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # which the compiler looks at
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own
@pytest.mark.parametrize(
    "objective",
    [
        vft.ELBO(1), vft.ELBO(3, analytic_kl=False), vft.IWAE(5), vft.CumulantELBO(2, 5),
        vft.IWAE(5, doubly_reparameterized=True),
    ],
)  # fmt: skip
def test_compiled_objectives_give_the_same(objective: Any) -> None:
    """Value and gradients; compiled, those of a sample come from it, not from its noise drawn again."""
    torch.manual_seed(3)
    vae = vft.VAE.mlp(30, 4, hidden=(20,)).double()
    x = torch.bernoulli(torch.full((7, 30), 0.4, dtype=torch.float64))

    def loss_of(key: int) -> Any:
        return objective(vae, x, rng=key).loss

    def look(loss_of: Any, key: int) -> list[Any]:
        vae.zero_grad()
        loss = loss_of(key)
        loss.backward()
        return [loss.detach(), *(p.grad.clone() for p in vae.parameters())]

    torch._dynamo.reset()
    compiled = torch.compile(loss_of, backend="aot_eager")
    for key in (3, 4, 2**63 + 5):
        for a, b in zip(look(loss_of, key), look(compiled, key), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"data": 255 * np.eye(16)}, r"^data: expected numbers in \[0, 1\], got 255 at \(0, 0\)"),
        ({"data": np.eye(16), "valid": -np.eye(16)}, r"^valid: expected numbers in \[0, 1\], got -1 at"),
        ({"data": np.ones((4, 7))}, r"^data: expected n_visible = 16, got \(4, 7\)"),
        ({"data": np.full((4, 16), np.nan)}, "^data: expected finite numbers"),
        ({"data": np.ones(16)}, r"^data: expected \(n_data, n_visible\)"),
        ({"data": "pixels"}, r"^data: expected \(n_data, n_visible\) numbers"),
        ({"data": torch.eye(16, device="meta")}, "^data: .* on the CPU, dense and real, got .* on meta"),
        ({"data": torch.eye(16).to_sparse()}, "^data: .* dense and real, got .*sparse"),
        ({"data": torch.eye(16) + 0j}, "^data: .* real, got torch.complex64"),
        ({"data": np.eye(16) + 0j}, "^data: .* real, got complex ones"),
        ({"data": np.eye(16), "objective": "elbo"}, "^objective: expected one such as"),
        ({"data": np.eye(16), "max_seconds": "a"}, "^max_seconds: expected a real number"),
        ({"data": np.eye(16), "vae": 3}, "^vae: expected a VAE, got int"),
    ],
)
def test_bad_arguments_of_training(how: Any, message: str) -> None:
    given = {"vae": vft.VAE.mlp(16, 2, hidden=(8,)), "n_epochs": 1} | how
    with pytest.raises((TypeError, ValueError), match=message):
        vft.fit(given.pop("vae"), given.pop("data"), **given)


@pytest.mark.parametrize("bad", [3.0, -1.0, 0.5])
def test_categories_are_whole_numbers_below_their_count(bad: float) -> None:
    vae = vft.VAE.mlp(4, 2, hidden=(8,), likelihood=vft.Categorical(3))
    x = np.array([[0.0, 1.0, 2.0, 1.0], [0.0, 0.0, bad, 0.0]])
    with pytest.raises(ValueError, match=rf"^data: expected categories 0, ..., 2, got {bad:g} at \(1, 2\)"):
        vft.evaluate(vae, x, n_samples=10, iwae=())
    x[1, 2] = 2
    assert np.isfinite(vft.evaluate(vae, x, n_samples=10, iwae=()).nll).all()


@pytest.mark.parametrize("name", ["tanh", "relu", "elu", "silu"])
def test_activations_are_those_of_their_names(name: str) -> None:
    encoder, decoder = vft.mlp(4, 2, 4, hidden=(3,), activation=name)
    x = torch.linspace(-2, 2, 9)
    expected = getattr(torch.nn.functional if name in ("elu", "silu") else torch, name)(x)
    assert torch.equal(encoder.body[1](x), expected)
    assert torch.equal(decoder[1](x), expected)


@pytest.mark.parametrize("side", [8, 7])
def test_convolutional_networks_have_the_shapes_of_images(side: int) -> None:
    torch.manual_seed(0)
    vae = vft.VAE.convolutional(side * side, 3, channels=(4, 6))
    draw = vae.draw(torch.rand(5, side * side), 2, rng=0)
    assert draw.log_likelihood.shape == (2, 5)
    assert vae.decode(draw.z).shape == (2, 5, side * side)


def test_convolutional_decoder_gives_means_then_log_variances() -> None:
    """One plane after the other: a bias of the last layer moves one of them."""
    torch.manual_seed(0)
    vae = vft.VAE.convolutional(49, 3, channels=(4,), likelihood=vft.Gaussian("decoder"))
    z = torch.zeros(2, 5, 3)
    before = vae.decoder(z)
    with torch.no_grad():
        vae.decoder.network[-2].bias[1] += 1
    mean, log_var = (vae.decoder(z) - before).unflatten(-1, (2, 49)).unbind(-2)
    assert not mean.any()
    torch.testing.assert_close(log_var, torch.ones(2, 5, 49))


def test_categorical_images() -> None:
    torch.manual_seed(0)
    vae = vft.VAE.mlp(6, 2, hidden=(8,), likelihood=vft.Categorical(4))
    x = torch.from_numpy(np.random.default_rng(0).binomial(3, 0.2, (200, 6))).float()
    history = vft.fit(vae, x, n_epochs=3, batch_size=20, learning_rate=0.01, rng=0)
    assert history.records[-1]["objective"] > history.records[0]["objective"]


@pytest.mark.parametrize("categories", [False, True])
def test_pictures_of_any_model(tmp_path: Path, categories: bool) -> None:
    """Of modules of one's own, which say nowhere how many latents there are, and of categories."""
    pytest.importorskip("matplotlib")
    from vfe_fast.torch.plot import plot_vae

    torch.manual_seed(0)
    x = torch.from_numpy(np.random.default_rng(0).integers(0, 3, (60, 9)).astype(np.float32))
    likelihood: Any = vft.Categorical(3) if categories else "bernoulli"
    made = vft.VAE.mlp(9, 2, hidden=(8,), likelihood=likelihood)
    vae = made if categories else vft.VAE(made.encoder, made.decoder)
    data = x if categories else (x > 0).float()
    history = vft.fit(vae, data, n_epochs=1, rng=0)
    plot_vae(vae, data, history, tmp_path / "vae.png", rng=0)
    assert (tmp_path / "vae.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def figure(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What docs/figures/vae.py defines."""
    pytest.importorskip("matplotlib")
    figures = Path(__file__).parents[1] / "docs" / "figures"
    monkeypatch.syspath_prepend(str(figures))
    return runpy.run_path(str(figures / "vae.py"))


def test_corrections_where_the_truth_is_known(figure: dict[str, Any]) -> None:
    """RBMs whose ln Z is known: weak couplings gain a power an order, strong ones no more than some factors.

    And the median of two errors, by cumulants of V = -E - ln q of all states in float64.
    """
    found = figure["compute"](small=True)
    weak, strong = np.transpose(
        [found["errors"][name] for name in ("bound", "order 2", "order 4", "order 6")]
    )
    assert (weak[:-1] > 10 * weak[1:]).all()
    assert (strong[:-1] > strong[1:]).all()
    assert strong[3] > strong[0] / 100
    assert found["errors"]["IWAE-50"][0] < weak[0] / 5

    states = np.array(list(itertools.product([0, 1], repeat=14)))
    v, h = states[:, :8], states[:, 8:]
    expected = []
    for seed in range(2):
        rng = np.random.default_rng(seed)
        w, b, c = rng.normal(size=(8, 6)), rng.normal(size=8) - 0.5, rng.normal(size=6)
        rbm = vf.BernoulliRBM(w, b, c)
        minus_energy = ((v @ w) * h).sum(axis=1) + v @ b + h @ c
        q = vf.free_energy.mean_field(rbm, rng=seed).details
        m = np.concatenate([q["visible"], q["hidden"]])
        share = np.where(states == 1, m, 1 - m).prod(axis=1)
        log_w = minus_energy - np.log(share)
        mean = share @ log_w
        second, third, fourth = (share @ (log_w - mean) ** p for p in (2, 3, 4))
        order_4 = mean + second / 2 + third / 6 + (fourth - 3 * second**2) / 24
        truth = np.logaddexp.reduce(minus_energy)
        expected.append([abs(s - truth) for s in (mean, mean + second / 2, order_4)])
    np.testing.assert_allclose(strong[:3], np.median(expected, axis=0), rtol=1e-6)


def test_both_directions_of_a_divergence(figure: dict[str, Any]) -> None:
    """The figure's numbers against sums in units of each law, and the normal law of the target's moments."""
    x = np.linspace(-14, 14, 7001)
    fits = figure["directions"](x)
    weights, means, widths = np.array([0.6, 0.4]), np.array([-2.0, 1.5]), np.array([0.5, 0.8])
    points = np.linspace(-12, 12, 20_001)
    share = np.exp(-(points**2) / 2)
    share /= share.sum()

    def log_normal(x: Any, m: Any, s: Any) -> Any:
        return -0.5 * ((x - m) / s) ** 2 - np.log(s * math.sqrt(2 * math.pi))

    def log_p(x: Any) -> Any:
        return np.logaddexp(
            *(math.log(w) + log_normal(x, m, s) for w, m, s in zip(weights, means, widths, strict=True))
        )

    def reverse(m: float, s: float) -> float:
        z = m + s * points
        return float(share @ (log_normal(z, m, s) - log_p(z)))

    for mean, width, of_q, of_p in fits.values():
        forward = sum(
            w * share @ (log_p(m + s * points) - log_normal(m + s * points, mean, width))
            for w, m, s in zip(weights, means, widths, strict=True)
        )
        assert of_q == pytest.approx(reverse(mean, width), abs=1e-6)
        assert of_p == pytest.approx(forward, abs=1e-6)
    mean, width = fits["q || p"][:2]
    ends = [reverse(mean + a, width + b) for a in (-0.01, 0, 0.01) for b in (-0.01, 0, 0.01)]
    assert min(ends) == ends[4]
    m = weights @ means
    assert fits["p || q"][:2] == pytest.approx((m, math.sqrt(weights @ (widths**2 + means**2) - m * m)))


# Training.


def digits() -> np.ndarray:
    datasets = pytest.importorskip("sklearn.datasets")
    return (datasets.load_digits().data > 8).astype(np.float32)


def independent(train: np.ndarray, test: np.ndarray) -> float:
    p = (train.mean(axis=0) * len(train) + 1) / (len(train) + 2)
    return float(-(test * np.log(p) + (1 - test) * np.log1p(-p)).sum(axis=1).mean())


@pytest.mark.parametrize(
    "objective", [vft.ELBO(), vft.CumulantELBO(3, 8), vft.IWAE(8, True)], ids=lambda o: o.name
)
def test_training_on_digits(objective: Any) -> None:
    """In miniature: better than independent pixels, and better with each epoch on held-out data."""
    x = digits()
    torch.manual_seed(0)
    vae = vft.VAE.mlp(64, 6, hidden=(32,))
    history = vft.fit(
        vae,
        x[:1500],
        objective=objective,
        n_epochs=6,
        batch_size=25,
        learning_rate=5e-3,
        valid=x[1500:],
        rng=0,
    )
    _, valid = history.metric("valid")
    assert valid[-1] > valid[0]
    result = vft.evaluate(vae, x[1500:], n_samples=200, iwae=(), rng=1)
    assert result.nll.mean() < independent(x[:1500], x[1500:]) - 2


def models_equal(a: Any, b: Any) -> bool:
    return all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("rate", [1e-3, vf.training.LinearDecay(1e-2, 1e-4, 4)], ids=["constant", "falling"])
def test_checkpoint_goes_on_to_the_bit(tmp_path: Path, rate: Any) -> None:
    x = (np.random.default_rng(0).random((60, 16)) < 0.3).astype(np.float32)

    def run(n_epochs: int, checkpoint: Path | None) -> tuple[Any, Any]:
        torch.manual_seed(0)
        vae = vft.VAE.mlp(16, 2, hidden=(8,))
        how = {"objective": vft.IWAE(3), "batch_size": 25, "valid": x[:10], "checkpoint": checkpoint}
        how["learning_rate"] = rate
        return vae, vft.fit(vae, x, n_epochs=n_epochs, rng=5, **how)

    whole, history = run(4, None)
    run(2, tmp_path / "run.npz")
    rest, continued = run(4, tmp_path / "run.npz")
    assert models_equal(whole, rest)
    for a, b in zip(history.records, continued.records, strict=True):
        assert {k: v for k, v in a.items() if k != "seconds"} == {
            k: v for k, v in b.items() if k != "seconds"
        }
    with pytest.raises(ValueError, match="batch_size = 10"):
        vft.fit(
            whole,
            x,
            objective=vft.IWAE(3),
            batch_size=10,
            learning_rate=rate,
            checkpoint=tmp_path / "run.npz",
        )
    (tmp_path / "run.npz").write_bytes(b"PK\x03\x04nothing")
    with pytest.raises(ValueError, match="truncated or foreign"):
        vft.fit(whole, x, checkpoint=tmp_path / "run.npz")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"posterior": "laplace"}, "posterior = laplace"),
        ({"temperature": 0.5}, "temperature = 0.5"),
        ({"likelihood": vft.Gaussian(1.0)}, "likelihood = Gaussian"),
        ({"hidden": (9,)}, "another model, with encoder"),
        ({"optimizer": torch.optim.SGD}, "optimizer = SGD"),
        ({"objective": vft.ELBO(2)}, "objective = ELBO"),
        ({"data": "others"}, "data = "),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_checkpoint_of_another_run_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    x = (np.random.default_rng(0).random((60, 16)) < 0.3).astype(np.float32)

    def run(data: Any = x, objective: Any = None, optimizer: Any = None, **model: Any) -> None:
        vae = vft.VAE.mlp(16, 2, **({"hidden": (8,)} | model))
        before = [p.detach().clone() for p in vae.parameters()]
        try:
            vft.fit(
                vae, data, n_epochs=1, objective=objective, optimizer=optimizer, rng=0,
                checkpoint=tmp_path / "run.npz", callback=lambda vae, record: {"one": np.float32(1)},
            )  # fmt: skip
        except ValueError:
            assert all(torch.equal(a, b) for a, b in zip(before, vae.parameters(), strict=True))
            raise

    run()
    run()
    if "data" in change:
        change = {"data": 1 - x}
    if "optimizer" in change:
        change = {"optimizer": lambda p: torch.optim.SGD(p, lr=0.1)}
    with pytest.raises(ValueError, match=message):
        run(**change)


def test_objectives_of_other_kinds_are_refused() -> None:
    vae = vft.VAE.mlp(16, 2, hidden=(8,))
    with pytest.raises(TypeError, match=r"^objective: expected one that returns a Bound, got Tensor"):
        vft.fit(vae, np.eye(16), objective=lambda vae, x, rng: vft.ELBO()(vae, x, rng=rng).value)


def test_checkpoint_where_time_is_up(tmp_path: Path) -> None:
    """Between two that are due; and it goes on to the bit."""
    x = (np.random.default_rng(0).random((60, 16)) < 0.3).astype(np.float32)
    how = {"rng": 3, "checkpoint": tmp_path / "run.npz", "checkpoint_every": 5}
    models = []
    for seconds in ((1e-9, None), (None,)):
        torch.manual_seed(0)
        vae = vft.VAE.mlp(16, 2, hidden=(8,))
        for limit in seconds:
            history = vft.fit(vae, x, n_epochs=3, max_seconds=limit, **how)
            assert len(history.records) == (3 if limit is None else 1)
            assert (tmp_path / "run.npz").exists()
        (tmp_path / "run.npz").unlink()
        models.append(vae)
    assert models_equal(*models)


def test_learning_rate_is_that_of_the_epoch() -> None:
    """The first update by Adam moves each parameter by the rate, whatever the gradient; 0 moves none."""
    x = (np.random.default_rng(0).random((30, 16)) < 0.3).astype(np.float32)
    torch.manual_seed(0)
    vae = vft.VAE.mlp(16, 2, hidden=(8,))
    before = [p.detach().clone() for p in vae.parameters()]
    moved = []

    def look(vae: Any, record: Any) -> None:
        moved.append(
            max(float((p.detach() - b).abs().max()) for p, b in zip(vae.parameters(), before, strict=True))
        )

    def rate(epoch: float) -> float:
        return [0.01, 0.0, 0.02][int(epoch)]

    vft.fit(vae, x, n_epochs=3, batch_size=30, learning_rate=rate, callback=look, rng=0)
    assert moved[0] == pytest.approx(0.01, rel=1e-3)
    assert moved[1] == moved[0]
    assert moved[2] > moved[0] + 0.01


def test_each_epoch_sees_every_row_once_in_another_order() -> None:
    x = np.eye(16, dtype=np.float32)
    seen: list[int] = []
    noise: list[int] = []

    def objective(vae: Any, rows: Any, *, rng: int) -> Any:
        seen.extend(rows.argmax(1).tolist())
        noise.append(rng)
        return vft.ELBO()(vae, rows, rng=rng)

    torch.manual_seed(0)
    vft.fit(vft.VAE.mlp(16, 2, hidden=(4,)), x, objective=objective, n_epochs=2, batch_size=5, rng=0)
    first, second = seen[:16], seen[16:]
    assert sorted(first) == sorted(second) == list(range(16))
    assert first != second
    assert len(set(noise)) == len(noise) == 8


def test_record_of_an_epoch_is_the_mean_over_rows() -> None:
    """With a last batch that is smaller, of numbers that training does not move."""
    x = np.linspace(0, 1, 60 * 16, dtype=np.float32).reshape(60, 16) ** 2

    def first_unit(vae: Any, rows: Any, rng: Any) -> Any:
        return vft.Bound(
            rows[:, 0] + 0 * next(vae.parameters()).sum(), None, {"first": float(rows[:, 0].mean())}
        )

    vae = vft.VAE.mlp(16, 2, hidden=(8,))
    (record,) = vft.fit(vae, x, objective=first_unit, n_epochs=1, batch_size=25, rng=0).records
    assert record["objective"] == pytest.approx(x[:, 0].mean(), rel=1e-6)
    assert record["first"] == pytest.approx(x[:, 0].mean(), rel=1e-6)


def test_validation_has_noise_that_does_not_change() -> None:
    """A model that is not moved is found as good each time; networks are in training mode, but not after."""
    modes: list[bool] = []
    valid: list[int] = []

    def objective(vae: Any, rows: Any, *, rng: int) -> Any:
        modes.append(vae.training)
        if not vae.training:
            valid.append(rng)
        return vft.ELBO()(vae, rows, rng=rng)

    x = np.eye(16, dtype=np.float32)
    vae = vft.VAE.mlp(16, 2, hidden=(4,))
    how = {"objective": objective, "n_epochs": 2, "batch_size": 10, "learning_rate": 0.0, "valid": x}
    first, second = vft.fit(vae, x, rng=0, **how).records
    assert first["valid"] == second["valid"] != first["objective"]
    assert modes == [True, True, False, False] * 2
    assert valid[:2] == valid[2:]
    assert valid[0] != valid[1]
    assert not vae.training
    with torch.no_grad():
        bounds = [vft.ELBO()(vae, torch.from_numpy(x[k : k + 10]), rng=valid[k // 10]).value for k in (0, 10)]
    assert first["valid"] == pytest.approx(torch.cat(bounds).mean().item(), rel=1e-6)


def test_interrupt_keeps_whole_updates() -> None:
    x = np.zeros((50, 16), np.float32)
    torch.manual_seed(0)
    vae = vft.VAE.mlp(16, 2, hidden=(8,))

    def stop(model: Any, record: dict[str, float]) -> None:
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    history = vft.fit(vae, x, n_epochs=9, rng=0, callback=stop)
    assert history.interrupted
    assert len(history.records) == 1
    assert not vft.fit(vae, x, n_epochs=1, max_seconds=0.0).records


def test_divergence_is_an_error() -> None:
    x = np.full((50, 16), 1e30, np.float32)
    torch.manual_seed(0)
    vae = vft.VAE.mlp(16, 2, hidden=(8,), likelihood=vft.Gaussian(1.0))
    before = [p.detach().clone() for p in vae.parameters()]
    with pytest.raises((FloatingPointError, ValueError), match=r"learning_rate|finite"):
        vft.fit(vae, x, rng=0)
    assert all(torch.equal(a, b) for a, b in zip(before, vae.parameters(), strict=True))


@pytest.mark.parametrize(
    "how",
    [
        {"hidden": (7, 5), "activation": "relu"},
        {"posterior": "concrete", "relaxation": 0.5},
        {"likelihood": vft.Gaussian("optimal")},
        {"likelihood": vft.Categorical(3)},
        {"hidden": np.array([7]), "temperature": np.float32(0.5), "likelihood": vft.Gaussian(np.float32(2))},
    ],
    ids=["mlp", "concrete", "gaussian", "categorical", "NumPy's numbers"],
)
def test_saved_models_come_back(tmp_path: Path, how: dict[str, Any]) -> None:
    torch.manual_seed(0)
    vae = vft.VAE.mlp(9, 2, **how)
    vft.save(vae, tmp_path / "vae.npz")
    other = vft.load(tmp_path / "vae.npz")
    assert models_equal(vae, other)
    x = torch.from_numpy(np.random.default_rng(0).integers(0, 2, (4, 9))).float()
    vae.eval()
    assert not other.training
    assert torch.equal(vft.ELBO()(vae, x, rng=0).value, vft.ELBO()(other, x, rng=0).value)


def test_saved_is_what_the_model_has_become(tmp_path: Path) -> None:
    """A temperature that was changed on the way; a dtype; and what Python copies."""
    import copy
    import pickle

    torch.manual_seed(0)
    vae = vft.VAE.mlp(9, 2, hidden=(5,), likelihood="gaussian").double()
    vae.temperature = 0.25
    vft.save(vae, tmp_path / "vae.npz")
    x = torch.ones(4, 9, dtype=F64)
    for other in (vft.load(tmp_path / "vae.npz"), copy.deepcopy(vae), pickle.loads(pickle.dumps(vae))):
        assert torch.equal(vft.IWAE(3)(other, x, rng=0).value, vft.IWAE(3)(vae, x, rng=0).value)


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="VAE of vfe_fast"):
        vft.load(tmp_path / "a.npz")
    with pytest.raises(FileNotFoundError):
        vft.load(tmp_path / "b.npz")
    with pytest.raises(ValueError, match="state_dict"):
        vft.save(linear(), tmp_path / "c.npz")


BAD = {
    "posterior": (ValueError, lambda: vft.VAE.mlp(4, 2, posterior="cauchy")),
    "likelihood": (ValueError, lambda: vft.VAE.mlp(4, 2, likelihood="poisson")),
    "encoder": (TypeError, lambda: vft.VAE(None, torch.nn.Linear(2, 4))),
    "temperature": (ValueError, lambda: vft.VAE.mlp(4, 2, temperature=-1.0)),
    "flow": (ValueError, lambda: vft.VAE.mlp(4, 2, posterior="concrete", flow=vft.PlanarFlow(2))),
    "activation": (ValueError, lambda: vft.VAE.mlp(4, 2, activation="step")),
    "n_visible": (ValueError, lambda: vft.VAE.convolutional(5, 2)),
    "variance": (ValueError, lambda: vft.Gaussian(0.0)),
    "n_samples": (ValueError, lambda: vft.IWAE(0)),
    "order": (ValueError, lambda: vft.CumulantELBO(9)),
    "alpha": (ValueError, lambda: vft.Renyi(math.inf)),
    "beta": (ValueError, lambda: vft.BetaELBO(-1.0)),
    "x": (ValueError, lambda: vft.VAE.mlp(4, 2).draw(torch.zeros(4))),
    "hidden": (TypeError, lambda: vft.VAE.mlp(4, 2, hidden=8)),
    "relaxation": (ValueError, lambda: vft.VAE.mlp(4, 2, posterior="concrete", relaxation=0.0)),
    "n_latents": (ValueError, lambda: vft.LinearVAE(3, 3).set_most_likely(torch.randn(9, 3))),
    "data": (ValueError, lambda: vft.fit(vft.VAE.mlp(4, 2), np.full((3, 4), np.nan))),
    "iwae": (ValueError, lambda: vft.evaluate(vft.VAE.mlp(4, 2), np.zeros((3, 4)), n_samples=10, iwae=(20,))),
}


@pytest.mark.parametrize("name", BAD)
def test_errors_name_the_argument(name: str) -> None:
    kind, call = BAD[name]
    with pytest.raises(kind, match=f"^{name}: expected"):
        call()


def test_importing_without_torch_says_which_extra() -> None:
    code = "import sys; sys.modules['torch'] = None; import vfe_fast.torch"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert 'pip install "vfe_fast[torch]"' in found.stderr


@pytest.mark.parametrize("n_samples", [1, 5])
def test_means_over_samples(n_samples: int) -> None:
    """Of the draw at hand; with one sample it is that sample."""
    vae = vft.VAE.mlp(6, 3, hidden=(8,))
    x = torch.from_numpy((np.random.default_rng(1).random((4, 6)) < 0.5).astype(np.float32))
    draw = vae.draw(x, n_samples, rng=2)
    mean = sum(draw.log_likelihood[k] for k in range(n_samples)) / n_samples
    torch.testing.assert_close(vft.ELBO(n_samples).of(draw).value, mean - draw.kl)
    torch.testing.assert_close(vft.BetaELBO(3.0, n_samples).of(draw).value, mean - 3 * draw.kl)
    by_sample = vft.ELBO(n_samples, analytic_kl=False).of(draw).value
    torch.testing.assert_close(by_sample, sum(draw.log_weights[k] for k in range(n_samples)) / n_samples)
