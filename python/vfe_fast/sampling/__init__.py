"""Sampling: Gibbs chains."""

from .gibbs import ChainState, GibbsChains, gibbs

__all__ = ["ChainState", "GibbsChains", "gibbs"]
