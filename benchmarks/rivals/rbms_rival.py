"""rbms (PyTorch): its own sampler and its own exact ln Z. It has no exact moments.

Its `compute_partition_function_ais` knows even distances and the model's own visible biases only, so its
two parts, `interpolate_ebm` and `update_weights_ais`, are called as it calls them.
"""

import math

import numpy as np
import torch
from rbms.bernoulli_bernoulli.classes import BBRBM
from rbms.partition_function.ais import interpolate_ebm, update_weights_ais
from rbms.partition_function.exact import compute_partition_function_rbm

from vfe_fast.bench.harness import NotOfferedError

CHUNK = 1 << 18  # fields at a time: it keeps several arrays of them


def gibbs(weights, visible_bias, hidden_bias, start, *, n_steps, threads):
    rbm = BBRBM(*map(torch.from_numpy, (weights, visible_bias, hidden_bias)))
    chains = rbm.init_chains(len(start), start_v=torch.from_numpy(start).to(torch.float32))

    @torch.inference_mode()
    def call():
        for _ in range(n_steps):  # not `sample_state`, which draws the hidden layer once more
            rbm.sample_hiddens(chains)
            rbm.sample_visibles(chains)
        return chains["visible"], chains["hidden"]

    return call


def ais(weights, visible_bias, hidden_bias, base, pieces, *, threads):
    rbm = BBRBM(*map(torch.from_numpy, (weights, visible_bias, hidden_bias)))
    first = BBRBM(torch.zeros_like(rbm.weight_matrix), torch.from_numpy(base), torch.zeros_like(rbm.hbias))
    schedules = [torch.from_numpy(betas.astype(np.float32)) for betas, _ in pieces]
    starts = [torch.from_numpy(start).to(torch.float32) for _, start in pieces]

    @torch.inference_mode()
    def call():
        log_weights = torch.zeros(len(starts[0]))
        for betas, start in zip(schedules, starts, strict=True):
            chains = rbm.init_chains(len(start), start_v=start)
            models = interpolate_ebm(first, rbm, betas)
            after = next(models)
            for _ in range(len(betas) - 1):
                before, after = after.clone(), next(models)
                log_weights, chains = update_weights_ais(before, after, chains, log_weights)
        return log_weights

    return call


def exact_rbm(weights, visible_bias, hidden_bias, *, moments, threads):
    if moments:
        raise NotOfferedError
    rbm = BBRBM(*map(torch.from_numpy, (weights, visible_bias, hidden_bias)))
    n, m = sorted(weights.shape)
    low = min(n, max(0, int(math.log2(CHUNK / m))))

    @torch.inference_mode()
    def call():
        parts = []
        for begin in range(0, 1 << n, 1 << low):
            numbers = torch.arange(begin, begin + (1 << low))[:, None]
            states = (numbers >> torch.arange(n) & 1).to(torch.float64)
            parts.append(compute_partition_function_rbm(rbm, states))
        return (float(np.logaddexp.reduce(parts)),)

    return call


def train(data, weights, visible_bias, hidden_bias, *, batch_size, n_steps, learning_rate, threads):
    # As its `fit_batch_pcd`, but for the normalization of the gradient, which others have not.
    rbm = BBRBM(*(torch.from_numpy(x).clone() for x in (weights, visible_bias, hidden_bias)))
    rbm.init_grad()
    states = torch.from_numpy(data).to(torch.float32)
    ones = torch.ones(len(states), 1)
    chains = rbm.init_chains(batch_size)
    optimizer = torch.optim.SGD(rbm.parameters(), lr=learning_rate, maximize=True)

    @torch.no_grad()
    def call():
        nonlocal chains
        order = torch.randperm(len(states))
        for first in range(0, len(states), batch_size):
            rows = order[first : first + batch_size]
            batch = rbm.init_chains(batch_size, weights=ones[rows], start_v=states[rows])
            chains = rbm.sample_state(chains=chains, n_steps=n_steps)
            rbm.compute_gradient(data=batch, chains=chains, centered=False)
            optimizer.step()
        return rbm.weight_matrix.numpy(), rbm.vbias.numpy(), rbm.hbias.numpy()

    return call
