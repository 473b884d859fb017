"""scikit-learn: BernoulliRBM.gibbs, a sweep a call, and transform. It has no ln Z and no public F_c."""

import numpy as np
from sklearn.neural_network import BernoulliRBM

from vfe_fast.bench.harness import NotOfferedError


def gibbs(weights, visible_bias, hidden_bias, start, *, n_steps, threads):
    rbm = _model(weights, visible_bias, hidden_bias)
    state = [start]

    def call():
        for _ in range(n_steps):
            state[0] = rbm.gibbs(state[0])
        return state[0], None  # the hidden states stay inside

    return call


def free_energy(weights, visible_bias, hidden_bias, states, *, means, threads):
    if not means:
        raise NotOfferedError
    rbm = _model(weights, visible_bias, hidden_bias)
    given = states.astype(np.float32)  # else it would compute in float64
    return lambda: rbm.transform(given)


def _model(weights, visible_bias, hidden_bias):
    rbm = BernoulliRBM(n_components=len(hidden_bias))
    rbm.components_ = np.ascontiguousarray(weights.T)
    rbm.intercept_visible_ = visible_bias
    rbm.intercept_hidden_ = hidden_bias
    rbm.random_state_ = np.random.RandomState(0)
    return rbm


def train(data, weights, visible_bias, hidden_bias, *, batch_size, n_steps, learning_rate, threads):
    if n_steps != 1:
        raise NotOfferedError
    rbm = _model(weights.copy(), visible_bias.copy(), hidden_bias.copy())
    rbm.learning_rate = learning_rate
    rbm.h_samples_ = np.zeros((batch_size, len(hidden_bias)), np.float32)
    states = data.astype(np.float32)

    def call():
        order = rbm.random_state_.permutation(len(states))
        for first in range(0, len(states), batch_size):
            # what `fit` does; `partial_fit` would compute in float64
            rbm._fit(states[order[first : first + batch_size]], rbm.random_state_)
        return rbm.components_.T, rbm.intercept_visible_, rbm.intercept_hidden_

    return call
