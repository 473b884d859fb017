"""The sum over the states of an RBM's smaller layer."""

from __future__ import annotations

import functools
import math
import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .. import _core
from ..arrays import Array
from .ranges import sum_ranges
from .result import Moments

__all__ = ["Enumeration", "log2_seconds"]

_SURELY_SHORT = 30  # log2 of the states times units below which no time is estimated
_MAX_COUNTED = 62  # units whose states the kernel counts
_PROBE = 26  # log2 of those enumerated to measure this machine's rate
_CUDA_SURELY_SHORT, _CUDA_PROBE = 38, 34  # the same on a GPU, which needs some work to show its rate
_CUDA_AT_ONCE = 38  # log2 of those that keep a GPU busy for a while


@dataclass(frozen=True)
class Enumeration:
    """The sum over the states of an RBM's smaller layer.

    Attributes
    ----------
    parameters : tuple of ndarray
        Weights, visible bias, hidden bias.
    beta : float
        Inverse temperature.
    what : {"log_z", "moments", "variance"}
        Besides Z: nothing, the first moments, or ⟨(E - energy)²⟩.
    energy : float
        For the variance.
    products : {"double", "single", "none"}
        What may be used where its range allows: products in float64, those of ln Z in float32, or none.
    cuda : bool
        Whether the CUDA twin of the kernel adds up. It sums in another order, so its rows differ in the last
        bits, and a checkpoint begun on one side is none of the other's.
    """

    parameters: tuple[Array, Array, Array]
    beta: float
    what: str = "log_z"
    energy: float = 0.0
    products: str = "double"
    cuda: bool = False
    found: dict[str, bool] = field(default_factory=dict, compare=False)

    @property
    def product_form(self) -> bool:
        """Whether the sums are found in product form."""
        return self._how("product_form")

    @property
    def single_precision(self) -> bool:
        """Whether in float32."""
        return self._how("single")

    def _how(self, name: str) -> bool:
        if not self.found:  # they were computed elsewhere, or not yet
            self.rows(0, 0, 1)
        return self.found[name]

    @property
    def layers(self) -> tuple[int, int]:
        """Units of the smaller and of the larger layer."""
        n, m = sorted(self.parameters[0].shape)
        return n, m

    @property
    def n_ranges(self) -> int:
        """Ranges that the states are cut in."""
        return _core.exact_rbm_ranges(*self.layers)

    @property
    def n_states(self) -> int:
        """States of the smaller layer."""
        return int(2 ** self.layers[0])

    @property
    def row_size(self) -> int:
        """Numbers in a row: exponent, sum, and the sums of the moments."""
        n, m = self.layers
        return 2 + {"log_z": 0, "moments": n + m + n * m, "variance": 1}[self.what]

    @property
    def ranges_at_once(self) -> int:
        """Ranges of a call that are worth it: on a GPU, enough to fill it."""
        if not self.cuda:
            return 1
        of_range = self.n_states // self.n_ranges * self.layers[1]
        return int(max(1, min(self.n_ranges, 2**_CUDA_AT_ONCE // of_range)))

    def rows(self, first: int, count: int, num_threads: int) -> Array:
        """Sums of some ranges."""
        # What a network delivers may lie anywhere in memory.
        parameters = [p if p.flags.aligned else p.copy() for p in self.parameters]
        sums, self.found["product_form"], self.found["single"] = _core.exact_rbm(
            *parameters,
            beta=self.beta,
            what=_core.RbmSums[self.what],
            energy=self.energy,
            first_range=first,
            n_ranges=count,
            products=_core.RbmProducts[self.products],
            num_threads=num_threads,
            cuda=self.cuda,
        )
        return sums

    def identity(self) -> tuple[Any, ...]:
        """What the sums depend on."""
        return (*self.parameters, self.beta, self.what, self.energy, self.products, *["cuda"] * self.cuda)

    def moments_of(self, sums: Array, num_threads: int | None) -> Moments:
        """Turn the sums of all ranges into averages, in the order of the model."""
        n, m = self.layers
        units, others, pairs = np.split(sums[2:] / sums[1], [n, n + m])
        pairs = pairs.reshape(n, m)
        weights, visible_bias, hidden_bias = (p.astype(np.float64) for p in self.parameters)
        if weights.shape[0] <= weights.shape[1]:
            visible, hidden = units, others
        else:
            visible, hidden, pairs = others, units, np.ascontiguousarray(pairs.T)
        terms = ((visible_bias * visible), (hidden_bias * hidden), (weights * pairs).ravel())
        energy = -math.fsum(np.concatenate(terms))
        of_energy = replace(self, what="variance", energy=energy, found={})
        variance = functools.partial(energy_variance, of_energy, num_threads)
        return Moments(energy, variance, visible, hidden, pairs)

    def variance_of_free_units(self) -> float:
        """Var E at beta = 0, where all units are fair coins: a sum of squares in the units ±1."""
        weights, visible_bias, hidden_bias = (p.astype(np.float64) for p in self.parameters)
        visible = visible_bias / 2 + weights.sum(axis=1) / 4
        hidden = hidden_bias / 2 + weights.sum(axis=0) / 4
        return float(np.sum(visible**2) + np.sum(hidden**2) + np.sum((weights / 4) ** 2))


def energy_variance(enumeration: Enumeration, num_threads: int | None) -> float:
    """Var E, given ⟨E⟩: an enumeration of its own."""
    if enumeration.beta == 0:
        return enumeration.variance_of_free_units()
    sums = sum_ranges(enumeration, num_threads=num_threads)
    return float(sums[2] / sums[1])


def log2_seconds(enumeration: Enumeration, n_threads: int) -> float:
    """log2 of the seconds an enumeration would take here, from one of the first units; -inf if few."""
    weights, visible_bias, hidden_bias = enumeration.parameters
    n, m = sorted(weights.shape)
    log2_cost = n + math.log2(m)
    if log2_cost <= (_CUDA_SURELY_SHORT if enumeration.cuda else _SURELY_SHORT):
        return -math.inf
    n_probe: int = max(1, n - math.ceil(log2_cost - (_CUDA_PROBE if enumeration.cuda else _PROBE)))
    if weights.shape[0] <= weights.shape[1]:
        part = weights[:n_probe], visible_bias[:n_probe], hidden_bias
    else:
        part = weights[:, :n_probe], visible_bias, hidden_bias[:n_probe]
    # Fewer units may fit the product form where all do not.
    products = n > _MAX_COUNTED or enumeration.product_form
    probe = replace(
        enumeration, parameters=part, products=enumeration.products if products else "none", found={}
    )
    begin = time.perf_counter()
    probe.rows(0, probe.n_ranges, n_threads)
    return math.log2(time.perf_counter() - begin) + float(n - n_probe)
