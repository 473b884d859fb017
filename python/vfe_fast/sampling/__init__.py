"""Sampling: Gibbs chains, and reparameterized samples with their gradients."""

from .gibbs import ChainState, GibbsChains, gibbs
from .reparameterize import Reparameterized, reparameterize

__all__ = ["ChainState", "GibbsChains", "Reparameterized", "gibbs", "reparameterize"]
