"""scikit-learn: BernoulliRBM.gibbs, a sweep a call. It has no ln Z."""

import numpy as np
from sklearn.neural_network import BernoulliRBM


def gibbs(weights, visible_bias, hidden_bias, start, *, n_steps, threads):
    rbm = BernoulliRBM(n_components=len(hidden_bias))
    rbm.components_ = np.ascontiguousarray(weights.T)
    rbm.intercept_visible_ = visible_bias
    rbm.intercept_hidden_ = hidden_bias
    rbm.random_state_ = np.random.RandomState(0)
    state = [start]

    def call():
        for _ in range(n_steps):
            state[0] = rbm.gibbs(state[0])
        return state[0], None  # the hidden states stay inside

    return call
