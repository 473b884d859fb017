"""Kronrod's extension of Gauss's rule with 7 points, on [-1, 1]."""

from __future__ import annotations

import numpy as np

__all__ = ["GAUSS_WEIGHTS", "POINTS", "WEIGHTS"]

# Half of the points, from the largest to 0, their weights, and Gauss's weights of every second one, to 20
# digits: R. Piessens et al., QUADPACK, 1983, qk15.
_POINTS = np.array([
    0.99145537112081263920, 0.94910791234275852452, 0.86486442335976907278,
    0.74153118559939443986, 0.58608723546769113029, 0.40584515137739716690,
    0.20778495500789846760, 0.0,
])  # fmt: skip
_WEIGHTS = np.array([
    0.02293532201052922496, 0.06309209262997855329, 0.10479001032225018383,
    0.14065325971552591874, 0.16900472663926790282, 0.19035057806478540991,
    0.20443294007529889241, 0.20948214108472782801,
])  # fmt: skip
_GAUSS_WEIGHTS = np.array([
    0.12948496616886969327, 0.27970539148927666790,
    0.38183005050511894495, 0.41795918367346938775,
])  # fmt: skip

#: The 15 points, from the lowest up, their weights, and Gauss's (0 where he has no point).
POINTS = np.concatenate([-_POINTS, _POINTS[-2::-1]])
WEIGHTS = np.concatenate([_WEIGHTS, _WEIGHTS[-2::-1]])
GAUSS_WEIGHTS = np.zeros_like(WEIGHTS)
GAUSS_WEIGHTS[1::2] = np.concatenate([_GAUSS_WEIGHTS, _GAUSS_WEIGHTS[-2::-1]])
