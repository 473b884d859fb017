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
