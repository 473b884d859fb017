"""SciPy: its k-statistics, an order at a time, and its central moments."""

import numpy as np
from scipy import stats


def cumulants(x, *, order, threads):
    if order == 4:
        return lambda: np.stack([stats.kstat(x, r, axis=1) for r in (1, 2, 3, 4)], axis=-1)
    orders = list(range(1, order + 1))

    def call():
        return np.moveaxis(stats.moment(x, orders, axis=1), 0, -1)

    return call
