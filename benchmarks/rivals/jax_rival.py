"""JAX: everything under one jit, so that XLA fuses what it can."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from vfe_fast.bench.cumulants import k_statistics
from vfe_fast.bench.exact_ising import halves
from vfe_fast.bench.exact_rbm import Enumeration

jax.config.update("jax_enable_x64", True)

CHUNK = 1 << 20  # fields at a time: fused, they are never stored
CHUNK_MOMENTS = 1 << 17  # here the matrix product wants them stored


def gibbs(weights, visible_bias, hidden_bias, start, *, n_steps, threads):
    weights, visible_bias, hidden_bias = map(jnp.asarray, (weights, visible_bias, hidden_bias))
    state = [jnp.asarray(start, dtype=jnp.float32), jax.random.key(0)]

    def call():
        visible, hidden, key = _sweeps(*state, weights, visible_bias, hidden_bias, n_steps)
        jax.block_until_ready(visible)
        state[:] = visible, key
        return visible, hidden

    return call


@functools.partial(jax.jit, static_argnums=5, donate_argnums=(0, 1))
def _sweeps(visible, key, weights, visible_bias, hidden_bias, n_steps):
    def sample(key, field):
        uniform = jax.random.uniform(key, field.shape, jnp.float32)
        return (uniform < jax.nn.sigmoid(field)).astype(jnp.float32)

    def sweep(_, state):
        visible, _, key = state
        key, for_hidden, for_visible = jax.random.split(key, 3)
        hidden = sample(for_hidden, visible @ weights + hidden_bias)
        visible = sample(for_visible, hidden @ weights.T + visible_bias)
        return visible, hidden, key

    hidden = jnp.zeros((len(visible), len(hidden_bias)), jnp.float32)
    return jax.lax.fori_loop(0, n_steps, sweep, (visible, hidden, key))


def ais(weights, visible_bias, hidden_bias, base, pieces, *, threads):
    model = tuple(map(jnp.asarray, (weights, visible_bias, hidden_bias, base)))
    schedules = [jnp.asarray(betas, jnp.float32) for betas, _ in pieces]
    starts = [jnp.asarray(start, jnp.float32) for _, start in pieces]
    state = [jax.random.key(0)]

    def call():
        total = 0.0
        for betas, start in zip(schedules, starts, strict=True):
            found, state[0] = _annealed(*model, betas, start, state[0])
            total = total + found
        return jax.block_until_ready(total)

    return call


@jax.jit
def _annealed(weights, visible_bias, hidden_bias, base, betas, visible, key):
    slope = visible_bias - base

    def draw(key, field):
        return (jax.random.uniform(key, field.shape, jnp.float32) < jax.nn.sigmoid(field)).astype(jnp.float32)

    def increment(field, visible, before, after):
        size = -jnp.abs(field)
        logs = jnp.log1p(jnp.exp(after * size)) - jnp.log1p(jnp.exp(before * size))
        return ((after - before) * jnp.maximum(field, 0) + logs).sum(axis=1) + (after - before) * (
            visible @ slope
        )

    def temperature(carry, s):
        visible, log_weights, key = carry
        before, after = s
        field = visible @ weights + hidden_bias
        log_weights = log_weights + increment(field, visible, before, after)
        key, for_hidden, for_visible = jax.random.split(key, 3)
        hidden = draw(for_hidden, after * field)
        visible = draw(for_visible, after * (hidden @ weights.T + slope) + base)
        return (visible, log_weights, key), None

    carry = visible, jnp.zeros(len(visible), jnp.float32), key
    (visible, log_weights, key), _ = jax.lax.scan(temperature, carry, (betas[:-2], betas[1:-1]))
    return log_weights + increment(visible @ weights + hidden_bias, visible, betas[-2], betas[-1]), key


def gaussian_gibbs(weights, visible_bias, hidden_bias, start, *, n_steps, threads):
    weights, visible_bias, hidden_bias = map(jnp.asarray, (weights, visible_bias, hidden_bias))
    state = [jnp.asarray(start), jax.random.key(0)]

    def call():
        visible, hidden, key = _gaussian_sweeps(*state, weights, visible_bias, hidden_bias, n_steps)
        jax.block_until_ready(visible)
        state[:] = visible, key
        return visible, hidden

    return call


@functools.partial(jax.jit, static_argnums=5, donate_argnums=(0, 1))
def _gaussian_sweeps(visible, key, weights, visible_bias, hidden_bias, n_steps):
    def sweep(_, state):
        visible, _, key = state
        key, for_hidden, for_visible = jax.random.split(key, 3)
        field = visible @ weights + hidden_bias
        uniform = jax.random.uniform(for_hidden, field.shape, jnp.float32)
        hidden = (uniform < jax.nn.sigmoid(field)).astype(jnp.float32)
        noise = jax.random.normal(for_visible, visible.shape, jnp.float32)
        return hidden @ weights.T + visible_bias + noise, hidden, key

    hidden = jnp.zeros((len(visible), len(hidden_bias)), jnp.float32)
    return jax.lax.fori_loop(0, n_steps, sweep, (visible, hidden, key))


def hamiltonian(weights, visible_bias, hidden_bias, start, *, n_moves, n_steps, step, threads):
    model = tuple(map(jnp.asarray, (weights, visible_bias, hidden_bias)))
    state = [jnp.asarray(start), jax.random.key(0)]

    def call():
        state[:] = _moves(*state, *model, step, n_moves, n_steps)
        return jax.block_until_ready(state[0])

    return call


@functools.partial(jax.jit, static_argnums=(6, 7), donate_argnums=(0, 1))
def _moves(x, key, weights, visible_bias, hidden_bias, step, n_moves, n_steps):
    def slope(x):
        return x - visible_bias - jax.nn.sigmoid(x @ weights + hidden_bias) @ weights.T

    def potential(x):
        field = x @ weights + hidden_bias
        return 0.5 * ((x - visible_bias) ** 2).sum(axis=1) - jax.nn.softplus(field).sum(axis=1)

    def leap(_, state):
        y, p, _ = state
        y = y + step * p
        end = slope(y)
        return y, p - step * end, end

    def move(_, state):
        x, u, at, key = state
        key, for_momentum, for_test = jax.random.split(key, 3)
        p = jax.random.normal(for_momentum, x.shape)
        before = u + 0.5 * (p * p).sum(axis=1)
        y, p, end = jax.lax.fori_loop(0, n_steps, leap, (x, p - 0.5 * step * at, at))
        p = p + 0.5 * step * end  # the last push is half of one
        there = potential(y)
        gain = before - there - 0.5 * (p * p).sum(axis=1)
        taken = jnp.log(jax.random.uniform(for_test, gain.shape)) < gain
        return (
            jnp.where(taken[:, None], y, x),
            jnp.where(taken, there, u),
            jnp.where(taken[:, None], end, at),
            key,
        )

    x, _, _, key = jax.lax.fori_loop(0, n_moves, move, (x, potential(x), slope(x), key))
    return x, key


def free_energy(weights, visible_bias, hidden_bias, states, *, means, threads):
    model = tuple(map(jnp.asarray, (weights, visible_bias, hidden_bias)))

    def call():
        return jax.block_until_ready(_clamped(*model, states, means))

    return call


@functools.partial(jax.jit, static_argnums=4)
def _clamped(weights, visible_bias, hidden_bias, states, means):
    given = states.astype(jnp.float32)
    field = given @ weights + hidden_bias
    if means:
        return jax.nn.sigmoid(field)
    softplus = jnp.maximum(field, 0) + jnp.log1p(jnp.exp(-jnp.abs(field)))
    return -(given @ visible_bias) - softplus.sum(axis=1)


def exact_rbm(weights, visible_bias, hidden_bias, *, moments, threads):
    def call():
        table = Enumeration.of(weights, visible_bias, hidden_bias, CHUNK_MOMENTS if moments else CHUNK)
        arrays = (table.low_fields, table.low_bias, table.high_fields, table.high_bias)
        if not moments:
            return (float(_log_z(*arrays)),)
        top, sums = _moments(*arrays, table.low_bits, table.high_bits)
        return table.answer(float(top), np.asarray(sums))

    return call


# Fields stay far below 700, so ln(1 + e^x) needs no care; jax.nn.softplus takes three times as long.


@jax.jit
def _log_z(low_fields, low_bias, high_fields, high_bias):
    def chunk(high):
        field, bias = high
        return jnp.log1p(jnp.exp(low_fields + field)).sum(axis=1) + low_bias + bias

    return jax.nn.logsumexp(jax.lax.map(chunk, (high_fields, high_bias)))


@jax.jit
def _moments(low_fields, low_bias, high_fields, high_bias, low_bits, high_bits):
    low = jnp.concatenate([jnp.ones((1, len(low_bias))), low_bits.T])

    def chunk(carry, high):
        top, low_sums, high_sums = carry
        field, bias, bits = high
        weight = jnp.exp(low_fields + field)
        log_weight = jnp.log1p(weight).sum(axis=1) + low_bias + bias
        highest = jnp.maximum(top, log_weight.max())
        weighted = low * jnp.exp(log_weight - highest)
        sums = jnp.concatenate([weighted.sum(axis=1)[:, None], weighted @ (weight / (1 + weight))], axis=1)
        shrink = jnp.exp(top - highest)
        return (highest, low_sums * shrink + sums, high_sums * shrink + bits[:, None] * sums[0]), None

    columns = 1 + low_fields.shape[1]
    start = (-jnp.inf, jnp.zeros((len(low), columns)), jnp.zeros((high_bits.shape[1], columns)))
    (top, low_sums, high_sums), _ = jax.lax.scan(chunk, start, (high_fields, high_bias, high_bits))
    return top, jnp.concatenate([low_sums, high_sums])


def exact_ising(couplings, fields, *, threads):
    def call():
        between, first, states, second = halves(couplings, fields)
        rows = min(len(first), max(1, CHUNK_MOMENTS // len(second)))
        return float(
            _sum_of_halves(between.reshape(-1, rows, len(states)), first.reshape(-1, rows), states, second)
        )

    return call


@jax.jit
def _sum_of_halves(between, first, states, second):
    def chunk(part):
        rows, own = part
        return jax.nn.logsumexp(rows @ states + second + own[:, None])

    return jax.nn.logsumexp(jax.lax.map(chunk, (between, first)))


def train(data, weights, visible_bias, hidden_bias, *, batch_size, n_steps, learning_rate, threads):
    states = jnp.asarray(data, dtype=jnp.float32)
    hidden = jnp.zeros((batch_size, len(hidden_bias)), jnp.float32)
    state = [tuple(map(jnp.array, (weights, visible_bias, hidden_bias))), hidden, jax.random.key(0)]

    def call():
        state[:] = _epoch(*state, states, batch_size, n_steps, learning_rate / batch_size)
        return jax.block_until_ready(state[0])

    return call


@functools.partial(jax.jit, static_argnums=(4, 5, 6), donate_argnums=(0, 1))
def _epoch(model, hidden, key, states, batch_size, n_steps, rate):
    def draw(key, p):
        return (jax.random.uniform(key, p.shape, jnp.float32) < p).astype(jnp.float32)

    def update(carry, rows):
        (w, a, b), hidden, key = carry
        batch = states[rows]
        of_data = jax.nn.sigmoid(batch @ w + b)

        def step(_, chains):
            _, _, hidden, key = chains
            key, for_visible, for_hidden = jax.random.split(key, 3)
            visible = draw(for_visible, jax.nn.sigmoid(hidden @ w.T + a))
            of_chains = jax.nn.sigmoid(visible @ w + b)
            return visible, of_chains, draw(for_hidden, of_chains), key

        chains = jnp.zeros_like(batch), hidden, hidden, key
        visible, of_chains, hidden, key = jax.lax.fori_loop(0, n_steps, step, chains)
        w = w + rate * (batch.T @ of_data - visible.T @ of_chains)
        a = a + rate * (batch.sum(0) - visible.sum(0))
        b = b + rate * (of_data.sum(0) - of_chains.sum(0))
        return ((w, a, b), hidden, key), None

    key, for_order = jax.random.split(key)
    order = jax.random.permutation(for_order, len(states)).reshape(-1, batch_size)
    return jax.lax.scan(update, (model, hidden, key), order)[0]


def cumulants(x, *, order, threads):
    x = jnp.asarray(x)
    n = x.shape[1]

    @jax.jit
    def statistics(x):
        mean = x.mean(axis=1)
        d = x - mean[:, None]
        powers = [d]
        for _ in range(2, order + 1):
            powers.append(powers[-1] * d)
        moments = [power.mean(axis=1) for power in powers[1:]]
        return jnp.stack(k_statistics(mean, moments, n) if order == 4 else [mean, *moments], axis=-1)

    return lambda: jax.block_until_ready(statistics(x))


def reparam(mu, log_var, grad_sample, grad_kl, *, work, threads):
    mu, log_var, grad_sample, grad_kl = map(jnp.asarray, (mu, log_var, grad_sample, grad_kl))
    state = [jax.random.key(0)]

    def results(mu, log_var, noise):
        scale = jnp.exp(0.5 * log_var)
        kl = 0.5 * (mu * mu + scale * scale - 1 - log_var).sum(axis=1)
        log_q = -0.5 * (noise * noise + log_var + math.log(2 * math.pi)).sum(axis=1)
        return mu + scale * noise, kl, log_q

    @jax.jit
    def step(key, mu, log_var, grad_sample, grad_kl):
        key, of_noise = jax.random.split(key)
        noise = jax.random.normal(of_noise, mu.shape, jnp.float32)
        if work == "normals":
            return key, (noise,)
        if work == "forward":
            return key, results(mu, log_var, noise)
        found, back = jax.vjp(functools.partial(results, noise=noise), mu, log_var)
        return key, (*found, *back((grad_sample, grad_kl, jnp.zeros_like(found[2]))))

    def call():
        state[0], found = step(state[0], mu, log_var, grad_sample, grad_kl)
        return jax.block_until_ready(found)

    return call


def likelihood(x, logits, grad, *, gradient, threads):
    x, logits, grad = map(jnp.asarray, (x, logits, grad))

    @jax.jit
    def both(x, logits, grad):
        def of(logits):
            return (x * logits - jax.nn.softplus(logits)).sum(-1)

        if not gradient:
            return (of(logits),)
        found, pull = jax.vjp(of, logits)
        return found, *pull(grad)

    return lambda: jax.block_until_ready(both(x, logits, grad))


def flat_histogram(couplings, log_g, *, offset, n_walkers, n_sweeps, threads):
    couplings, log_g, n = jnp.asarray(couplings), jnp.asarray(log_g), len(couplings)
    key = jax.random.key(0)
    spins = 2.0 * jax.random.randint(key, (n_walkers, n), 0, 2) - 1.0
    fields = spins @ couplings
    state = [key, spins, fields, -0.5 * (fields * spins).sum(axis=1)]

    def call():
        *state[:], visits = _walk(*state, couplings, log_g, offset, n_sweeps)
        return jax.block_until_ready(visits)

    return call


@functools.partial(jax.jit, static_argnums=7, donate_argnums=(0, 1, 2, 3))
def _walk(key, spins, fields, energy, couplings, log_g, offset, n_sweeps):
    n_walkers, n = spins.shape
    key, for_sites, for_bars = jax.random.split(key, 3)
    sites = jax.random.randint(for_sites, (n_sweeps * n, n_walkers), 0, n)
    bars = jnp.log(jax.random.uniform(for_bars, sites.shape))
    walkers = jnp.arange(n_walkers)

    def level_of(energy):
        return jnp.floor(energy + offset).astype(jnp.int32)

    def trial(k, state):
        spins, fields, energy, visits = state
        site = sites[k]
        spin = spins[walkers, site]
        after = energy + 2.0 * spin * fields[walkers, site]
        taken = bars[k] < log_g[level_of(energy)] - log_g[level_of(after)]
        energy = jnp.where(taken, after, energy)
        turn = jnp.where(taken, -2.0 * spin, 0.0)
        return (
            spins.at[walkers, site].add(turn),
            fields + turn[:, None] * couplings[site],
            energy,
            visits.at[walkers, level_of(energy)].add(1),
        )

    visits = jnp.zeros((n_walkers, len(log_g)), jnp.int64)
    return key, *jax.lax.fori_loop(0, n_sweeps * n, trial, (spins, fields, energy, visits))
