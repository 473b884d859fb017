r"""A lower bound of ln Z by the states that chains pass, to hold estimates against.

.. math:: \ln Z \geq \ln \sum_{h \in S} \sum_v e^{-E(v, h)}

for whatever set S of different states of the smaller layer: terms of Z are positive. It is close where few
states carry Z, as those of a few tens of trained hidden units do. The errors of chains that all missed such
states know nothing of it.
"""

from __future__ import annotations

import numpy as np

from ..arrays import Array
from ..models import BernoulliRBM
from ..random import generator
from ..sampling.gibbs import gibbs

__all__ = ["log_z_seen", "missed"]

_CHAINS = 32  # from the states given, and as many from fair coins
_STEPS, _LAST = 100, 80  # of which the last are looked at
_STREAM = 3  # after those of `ais`
_MOST_ERRORS = 4.0
_SLACK, _ROUNDING = 1e-3, 1e-6  # in nats, and of ln Z: float32 models are rounded on their way


def log_z_seen(rbm: BernoulliRBM, start: Array, key: int, num_threads: int) -> float:
    """Lower bound of ln Z at beta 1.

    Parameters
    ----------
    rbm : BernoulliRBM
        The machine.
    start : ndarray of uint8, (n, n_visible)
        Where chains start: from the first 32, and as many from fair coins.
    key : int
        Of the estimate; these chains have one that is derived from it.
    num_threads : int
        0 for the default.

    Returns
    -------
    float
    """
    weights, a, b = (part.astype(np.float64) for part in rbm.parameters)
    draws = generator(key, "annealing", _STREAM)
    key = int(draws.integers(0, 1 << 64, dtype=np.uint64))
    v = np.concatenate([start[:_CHAINS], draws.integers(0, 2, (_CHAINS, rbm.n_visible), dtype=np.uint8)])
    threads = num_threads or None
    v, h = gibbs(rbm, v, _STEPS - _LAST, rng=key, num_threads=threads)
    passed = []
    for step in range(_STEPS - _LAST, _STEPS):
        v, h = gibbs(rbm, v, 1, rng=key, step_offset=step, num_threads=threads)
        passed.append(h if rbm.n_hidden < rbm.n_visible else v)
    wide = BernoulliRBM(weights, a, b)
    if rbm.n_hidden < rbm.n_visible:
        wide = BernoulliRBM(np.ascontiguousarray(weights.T), b, a)
    different = np.unique(np.packbits(np.concatenate(passed), axis=1), axis=0)
    states = np.unpackbits(different, axis=1, count=wide.n_visible)
    return float(np.logaddexp.reduce(-wide.free_energy(states, num_threads=threads)))


def missed(log_z: float, stderr: float, seen: float) -> str:
    """What speaks against ln Z that is below this bound; empty if it is not."""
    if seen - log_z <= _MOST_ERRORS * stderr + _SLACK + _ROUNDING * abs(log_z):
        return ""
    return f"the states that Gibbs chains pass add up to ln Z = {seen:.6g}"
