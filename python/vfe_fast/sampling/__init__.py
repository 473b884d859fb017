"""Sampling: Gibbs chains, alone and tempered, and reparameterized samples with their gradients."""

from .gibbs import ChainState, GibbsChains, gibbs
from .reparameterize import Reparameterized, ReparameterizedArrays, reparameterize
from .tempering import TemperedRun, TemperingWarning, parallel_tempering

__all__ = [
    "ChainState",
    "GibbsChains",
    "Reparameterized",
    "ReparameterizedArrays",
    "TemperedRun",
    "TemperingWarning",
    "gibbs",
    "parallel_tempering",
    "reparameterize",
]
