"""PyTorch, eager, where operations write to buffers made beforehand, or compiled where that is faster."""

import math

import numpy as np
import torch

from vfe_fast.bench.cumulants import k_statistics
from vfe_fast.bench.exact_ising import halves
from vfe_fast.bench.exact_rbm import Enumeration
from vfe_fast.bench.harness import fastest

CHUNK = 1 << 17  # fields at a time


def gibbs(weights, visible_bias, hidden_bias, start, *, n_steps, threads):
    weights, visible_bias, hidden_bias = map(torch.from_numpy, (weights, visible_bias, hidden_bias))
    visible = torch.from_numpy(start).to(torch.float32)
    hidden = torch.empty(len(start), len(hidden_bias))
    # sigmoid and a uniform number: faster here than torch.bernoulli
    layers = [
        (visible, weights, hidden_bias, hidden, torch.empty_like(hidden), torch.empty_like(hidden)),
        (
            hidden,
            weights.T.contiguous(),
            visible_bias,
            visible,
            torch.empty_like(visible),
            torch.empty_like(visible),
        ),
    ]

    @torch.inference_mode()
    def call():
        for _ in range(n_steps):
            for given, matrix, bias, out, field, uniform in layers:
                torch.addmm(bias, given, matrix, out=field).sigmoid_()
                torch.lt(uniform.uniform_(), field, out=out)
        return visible, hidden

    return call


def ais(weights, visible_bias, hidden_bias, base, pieces, *, threads):
    """Fields once for both weights and the draws; the passes over them eager or compiled, what is faster."""
    weights, visible_bias, hidden_bias, base = map(
        torch.from_numpy, (weights, visible_bias, hidden_bias, base)
    )
    transposed, slope = weights.T.contiguous(), visible_bias - base
    schedules = [torch.from_numpy(betas.astype(np.float32)) for betas, _ in pieces]
    of_visible = [base + betas[:, None] * slope for betas in schedules]
    starts = [torch.from_numpy(start).to(torch.float32) for _, start in pieces]
    visible = torch.empty_like(starts[0])
    field = torch.empty(len(visible), len(hidden_bias))
    hidden, uniform = torch.empty_like(field), torch.empty_like(field)
    visible_field, visible_uniform = torch.empty_like(visible), torch.empty_like(visible)

    def increment(x, before, after, linear):
        size = -x.abs()
        logs = torch.log1p(torch.exp(after * size)) - torch.log1p(torch.exp(before * size))
        return ((after - before) * x.clamp(min=0) + logs).sum(1) + (after - before) * linear

    def way(increment, draw):
        @torch.inference_mode()
        def call():
            log_weights = torch.zeros(len(visible))
            for betas, biases, start in zip(schedules, of_visible, starts, strict=True):
                visible.copy_(start)
                for k in range(len(betas) - 1):
                    torch.addmm(hidden_bias, visible, weights, out=field)
                    log_weights += increment(field, betas[k], betas[k + 1], visible @ slope)
                    if k + 2 == len(betas):
                        break
                    draw(field, betas[k + 1], uniform.uniform_(), hidden)
                    torch.mm(hidden, transposed, out=visible_field).mul_(betas[k + 1]).add_(biases[k + 1])
                    draw(visible_field, one, visible_uniform.uniform_(), visible)
            return log_weights

        return call

    one = torch.ones(())
    eager = lambda x, s, u, out: torch.lt(u, torch.sigmoid(x * s), out=out)  # noqa: E731
    fused = torch.compile(lambda x, s, u, out: out.copy_(u < torch.sigmoid(x * s)))
    return fastest(
        [way(increment, eager), way(torch.compile(increment), eager), way(torch.compile(increment), fused)], 3
    )


def gaussian_gibbs(weights, visible_bias, hidden_bias, start, *, n_steps, threads):
    weights, visible_bias, hidden_bias = map(torch.from_numpy, (weights, visible_bias, hidden_bias))
    visible = torch.from_numpy(start.copy())
    hidden = torch.empty(len(start), len(hidden_bias))
    field, uniform, noise = torch.empty_like(hidden), torch.empty_like(hidden), torch.empty_like(visible)
    transposed = weights.T.contiguous()

    @torch.inference_mode()
    def call():
        for _ in range(n_steps):
            torch.addmm(hidden_bias, visible, weights, out=field).sigmoid_()
            torch.lt(uniform.uniform_(), field, out=hidden)
            torch.addmm(visible_bias, hidden, transposed, out=visible).add_(noise.normal_())
        return visible, hidden

    return call


def hamiltonian(weights, visible_bias, hidden_bias, start, *, n_moves, n_steps, step, threads):
    weights, visible_bias, hidden_bias = map(torch.from_numpy, (weights, visible_bias, hidden_bias))
    transposed = weights.T.contiguous()
    field = torch.empty(len(start), len(hidden_bias), dtype=torch.float64)

    def gradient(x, out):
        torch.addmm(hidden_bias, x, weights, out=field)
        torch.addmm(x - visible_bias, torch.sigmoid(field), transposed, alpha=-1, out=out)

    def potential(x):  # of the field that `gradient` left
        softplus = torch.nn.functional.softplus(field, threshold=40)
        return 0.5 * (x - visible_bias).square().sum(1) - softplus.sum(1)

    x = torch.from_numpy(start.copy())
    slope = torch.empty_like(x)
    gradient(x, slope)
    state = [x, slope, potential(x)]

    @torch.inference_mode()
    def call():
        x, slope, u = state
        for _ in range(n_moves):
            p = torch.randn_like(x)
            before = u + 0.5 * p.square().sum(1)
            y, end = x.clone(), slope.clone()
            p.sub_(end, alpha=0.5 * step)
            for k in range(n_steps):
                y.add_(p, alpha=step)
                gradient(y, end)
                p.sub_(end, alpha=step if k + 1 < n_steps else 0.5 * step)
            there = potential(y)
            taken = torch.rand_like(u).log_() < before - there - 0.5 * p.square().sum(1)
            x = torch.where(taken[:, None], y, x)
            slope = torch.where(taken[:, None], end, slope)
            u = torch.where(taken, there, u)
        state[:] = x, slope, u
        return x

    return call


def free_energy(weights, visible_bias, hidden_bias, states, *, means, threads):
    weights, visible_bias, hidden_bias, states = map(
        torch.from_numpy, (weights, visible_bias, hidden_bias, states)
    )
    given = torch.empty(states.shape)
    field = torch.empty(len(states), len(hidden_bias))

    @torch.inference_mode()
    def call():
        given.copy_(states)
        torch.addmm(hidden_bias, given, weights, out=field)
        if means:
            return field.sigmoid_()
        return -(given @ visible_bias) - torch.nn.functional.softplus(field).sum(1)

    return call


def exact_rbm(weights, visible_bias, hidden_bias, *, moments, threads):
    @torch.inference_mode()
    def call():
        table = Enumeration.of(weights, visible_bias, hidden_bias, CHUNK)
        return _moments(table) if moments else (_log_z(table),)

    return call


def _log_z(table):
    low_fields, high_fields, low_bias = map(
        torch.from_numpy, (table.low_fields, table.high_fields, table.low_bias)
    )
    field = torch.empty_like(low_fields)
    log_weights = torch.empty(len(high_fields), len(low_fields), dtype=torch.float64)
    for row, high_field in enumerate(high_fields):
        torch.add(low_fields, high_field, out=field)
        # The default threshold of 20 would cost 2e-9 a unit.
        torch.sum(torch.nn.functional.softplus(field, threshold=40.0), 1, out=log_weights[row])
    log_weights += low_bias
    log_weights += torch.from_numpy(table.high_bias)[:, None]
    return torch.logsumexp(log_weights.view(-1), 0).item()


def _moments(table):
    low_fields, high_fields, low_bias = map(
        torch.from_numpy, (table.low_fields, table.high_fields, table.low_bias)
    )
    low = torch.cat([torch.ones(1, len(low_fields), dtype=torch.float64), torch.from_numpy(table.low_bits.T)])
    sums = torch.zeros(len(low) + table.high_bits.shape[1], 1 + low_fields.shape[1], dtype=torch.float64)
    mean, softplus = torch.empty_like(low_fields), torch.empty_like(low_fields)
    top = -math.inf
    for row, high_field in enumerate(high_fields):
        torch.add(low_fields, high_field, out=mean).exp_()
        torch.add(mean, 1, out=softplus)
        mean /= softplus
        log_weight = softplus.log_().sum(1) + low_bias + table.high_bias[row]
        highest = log_weight.max().item()
        if highest > top:
            sums *= math.exp(top - highest)
            top = highest
        weighted = low * log_weight.sub_(top).exp_()
        low_sums = torch.cat([weighted.sum(1, keepdim=True), weighted @ mean], 1)
        sums[: len(low)] += low_sums
        sums[len(low) :] += torch.from_numpy(table.high_bits[row])[:, None] * low_sums[0]
    return table.answer(top, sums.numpy())


def exact_ising(couplings, fields, *, threads):
    @torch.inference_mode()
    def call():
        between, first, states, second = map(torch.from_numpy, halves(couplings, fields))
        rows = max(1, CHUNK // len(second))
        logs = []
        for part, own in zip(between.split(rows), first.split(rows), strict=True):
            logs.append(torch.logsumexp(torch.addmm(second, part, states).add_(own[:, None]).view(-1), 0))
        return torch.logsumexp(torch.stack(logs), 0).item()

    return call


def train(data, weights, visible_bias, hidden_bias, *, batch_size, n_steps, learning_rate, threads):
    states = torch.from_numpy(data).to(torch.float32)
    w, a, b = (torch.from_numpy(x).clone() for x in (weights, visible_bias, hidden_bias))
    generator = torch.Generator().manual_seed(0)
    hidden = (torch.rand(batch_size, len(b), generator=generator) < 0.5).to(torch.float32)
    visible = torch.empty(batch_size, len(a))
    of_data, of_chains = torch.empty_like(hidden), torch.empty_like(hidden)
    of_visible, uniform = (
        torch.empty_like(visible),
        {len(a): torch.empty_like(visible), len(b): torch.empty_like(hidden)},
    )
    rate = learning_rate / batch_size

    def draw(p, out):
        torch.lt(uniform[p.shape[1]].uniform_(), p, out=out)

    @torch.inference_mode()
    def call():
        order = torch.randperm(len(states), generator=generator)
        for first in range(0, len(states), batch_size):
            batch = states[order[first : first + batch_size]]
            torch.addmm(b, batch, w, out=of_data).sigmoid_()
            for _ in range(n_steps):
                draw(torch.addmm(a, hidden, w.T, out=of_visible).sigmoid_(), visible)
                draw(torch.addmm(b, visible, w, out=of_chains).sigmoid_(), hidden)
            w.addmm_(batch.T, of_data, alpha=rate).addmm_(visible.T, of_chains, alpha=-rate)
            a.add_(batch.sum(0) - visible.sum(0), alpha=rate)
            b.add_(of_data.sum(0) - of_chains.sum(0), alpha=rate)
        return w.numpy(), a.numpy(), b.numpy()

    return call


def cumulants(x, *, order, threads):
    x = torch.from_numpy(x)
    n = x.shape[1]

    def statistics():
        mean = x.mean(dim=1, keepdim=True)
        d = x - mean
        moments = [(d**q).mean(dim=1) for q in range(2, order + 1)]
        return torch.stack(k_statistics(mean[:, 0], moments, n) if order == 4 else [mean[:, 0], *moments], -1)

    compiled = torch.compile(statistics)  # fuses the passes over d

    @torch.inference_mode()
    def call():
        return compiled()

    call()
    return call


def reparam(mu, log_var, grad_sample, grad_kl, *, work, threads):
    """The fastest of eager and compiled, with autograd and by hand, noise in a buffer or fused."""
    mu, log_var, grad_sample, grad_kl = map(torch.from_numpy, (mu, log_var, grad_sample, grad_kl))
    constant = mu.shape[1] * math.log(2 * math.pi)
    noise = torch.empty_like(mu)
    if work == "normals":
        eager = lambda: (noise.normal_(),)  # noqa: E731
        return fastest([eager, torch.compile(lambda: (torch.randn_like(mu),))])

    def results(mu, log_var, noise):
        scale = torch.exp(0.5 * log_var)
        kl = 0.5 * (mu * mu + scale * scale - 1 - log_var).sum(1)
        log_q = -0.5 * ((noise * noise + log_var).sum(1) + constant)
        return mu + scale * noise, kl, log_q

    def by_hand(noise):
        scale = torch.exp(0.5 * log_var)
        kl = 0.5 * (mu * mu + scale * scale - 1 - log_var).sum(1)
        log_q = -0.5 * ((noise * noise + log_var).sum(1) + constant)
        of_kl = grad_kl[:, None]
        by_log_var = 0.5 * (grad_sample * scale * noise + of_kl * (scale * scale - 1))
        return mu + scale * noise, kl, log_q, grad_sample + of_kl * mu, by_log_var

    if work == "forward":
        once = lambda: results(mu, log_var, torch.randn_like(mu))  # noqa: E731
        fused = torch.compile(results)
        calls = [
            lambda: results(mu, log_var, noise.normal_()),
            torch.compile(once),
            lambda: fused(mu, log_var, noise.normal_()),
        ]
        return fastest([torch.inference_mode()(call) for call in calls])

    fused = torch.compile(by_hand)
    calls = [
        torch.inference_mode()(call)
        for call in (
            lambda: by_hand(noise.normal_()),
            torch.compile(lambda: by_hand(torch.randn_like(mu))),
            lambda: fused(noise.normal_()),
        )
    ]
    leaves = mu.clone().requires_grad_(), log_var.clone().requires_grad_()

    def autograd(function):
        def call():
            found = function(*leaves, noise.normal_())
            grads = torch.autograd.grad(found[:2], leaves, (grad_sample, grad_kl))
            return *(x.detach() for x in found), *grads

        return call

    return fastest([*calls, autograd(results), autograd(torch.compile(results))])


def likelihood(x, logits, grad, *, gradient, threads):
    """The fastest of three formulas, eager and compiled."""
    functional = torch.nn.functional
    units, given, to = map(torch.from_numpy, (x, logits, grad))
    given.requires_grad_(gradient)

    def by_product(logits):
        return torch.linalg.vecdot(logits, units) - functional.softplus(logits, threshold=40).sum(-1)

    def by_entropy(logits):
        entropy = functional.binary_cross_entropy_with_logits
        return -entropy(logits, units.expand_as(logits), reduction="none").sum(-1)

    def by_sign(logits):  # of units that are 0 or 1
        return functional.logsigmoid(logits * (2 * units - 1)).sum(-1)

    def with_gradient(of):
        def call():
            found = of(given)
            return (found.detach(), *torch.autograd.grad(found, given, to)) if gradient else (found,)

        return call

    formulas = by_product, by_entropy, by_sign
    return fastest([with_gradient(f) for of in formulas for f in (of, torch.compile(of))])


def vae(*given, purpose, n_samples, threads, exact=False):
    """Plain PyTorch: the fastest of eager and compiled, subnormal numbers flushed to zero.

    They are in gradients, where one of 50 samples has the weight, and take four times as long.
    """
    torch.set_flush_denormal(True)
    from vfe_fast.bench.vae import SIZES, linear_likelihood

    def bound(mu, log_var, log_likelihood):
        scale = torch.exp(0.5 * log_var)
        noise = torch.randn(n_samples, *mu.shape)
        z = mu + scale * noise
        found = log_likelihood(z)
        if purpose == "elbo":
            return found.mean(0) - 0.5 * (mu * mu + scale * scale - 1 - log_var).sum(1)
        log_ratio = 0.5 * (noise * noise - z * z).sum(-1) + 0.5 * log_var.sum(-1)  # ln p(z) - ln q(z)
        return torch.logsumexp(found + log_ratio, 0) - math.log(n_samples)

    if len(given) == 1:
        (x,) = map(torch.from_numpy, given)
        n_visible, *hidden, n_latents = SIZES
        linear, tanh = torch.nn.Linear, torch.nn.Tanh
        encoder = torch.nn.Sequential(
            linear(n_visible, hidden[0]), tanh(), linear(*hidden), tanh(), linear(hidden[-1], 2 * n_latents)
        )
        decoder = torch.nn.Sequential(
            linear(n_latents, hidden[-1]), tanh(), linear(*hidden), tanh(), linear(hidden[0], n_visible)
        )
        parameters = [*encoder.parameters(), *decoder.parameters()]
        optimizer = torch.optim.Adam(parameters, lr=1e-3, fused=True)
        entropy = torch.nn.functional.binary_cross_entropy_with_logits

        def loss_of():
            mu, log_var = encoder(x).chunk(2, 1)

            def log_likelihood(z):
                logits = decoder(z)
                return -entropy(logits, x.expand_as(logits), reduction="none").sum(-1)

            return -bound(mu, log_var, log_likelihood).mean()

        def step(loss_of):
            def call():
                loss = loss_of()
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                return float(loss.detach())

            return call

        return fastest([step(loss_of), step(torch.compile(loss_of))])

    mu, log_var, _ = map(torch.from_numpy, given)
    leaves = mu.requires_grad_(), log_var.requires_grad_()
    likelihood = linear_likelihood(given[2], n_samples, exact)

    def part():
        return -bound(*leaves, likelihood).mean()

    def with_gradients(loss_of):
        def call():
            loss = loss_of()
            return loss.detach(), *torch.autograd.grad(loss, leaves)

        return call

    return fastest([with_gradients(part), with_gradients(torch.compile(part))])
