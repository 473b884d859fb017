"""Kronrod's extension of Gauss's rule with 7 points, on [-1, 1], to 20 digits.

Gauss's weights are 0 at the points that are Kronrod's. R. Piessens et al., QUADPACK, 1983, qk15.
"""

from __future__ import annotations

import numpy as np

__all__ = ["GAUSS_WEIGHTS", "POINTS", "WEIGHTS"]

# Symmetric: half of them, and Gauss's of every second point.
_HALF_POINTS = np.array([
    0.99145537112081263920, 0.94910791234275852452, 0.86486442335976907278,
    0.74153118559939443986, 0.58608723546769113029, 0.40584515137739716690,
    0.20778495500789846760, 0.0,
])  # fmt: skip
_HALF_WEIGHTS = np.array([
    0.02293532201052922496, 0.06309209262997855329, 0.10479001032225018383,
    0.14065325971552591874, 0.16900472663926790282, 0.19035057806478540991,
    0.20443294007529889241, 0.20948214108472782801,
])  # fmt: skip
_HALF_GAUSS = np.array([
    0.12948496616886969327, 0.27970539148927666790,
    0.38183005050511894495, 0.41795918367346938775,
])  # fmt: skip

POINTS = np.concatenate([-_HALF_POINTS, _HALF_POINTS[-2::-1]])
WEIGHTS = np.concatenate([_HALF_WEIGHTS, _HALF_WEIGHTS[-2::-1]])
GAUSS_WEIGHTS = np.zeros_like(WEIGHTS)
GAUSS_WEIGHTS[1::2] = np.concatenate([_HALF_GAUSS, _HALF_GAUSS[-2::-1]])
