"""Sampling: Gibbs chains, alone and tempered; Langevin and Hamiltonian dynamics; reparameterized samples."""

from .gibbs import ChainState, GibbsChains, gibbs
from .hmc import hmc
from .langevin import langevin, sgld
from .reparameterize import Reparameterized, ReparameterizedArrays, reparameterize
from .samples import Samples, SamplingWarning
from .tempering import TemperedRun, TemperingWarning, parallel_tempering

__all__ = [
    "ChainState",
    "GibbsChains",
    "Reparameterized",
    "ReparameterizedArrays",
    "Samples",
    "SamplingWarning",
    "TemperedRun",
    "TemperingWarning",
    "gibbs",
    "hmc",
    "langevin",
    "parallel_tempering",
    "reparameterize",
    "sgld",
]
