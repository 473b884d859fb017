"""Sampling: Gibbs chains, and reparameterized samples with their gradients."""

from .gibbs import ChainState, GibbsChains, gibbs
from .reparameterize import Reparameterized, ReparameterizedArrays, reparameterize

__all__ = [
    "ChainState",
    "GibbsChains",
    "Reparameterized",
    "ReparameterizedArrays",
    "gibbs",
    "reparameterize",
]
