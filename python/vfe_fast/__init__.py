"""Free energies you can trust, with compiled kernels.

The face of the package; every name here is documented where it is defined:

======================  ====================================================
`BernoulliRBM`          a restricted Boltzmann machine of 0/1 units
`GaussianRBM`           one with real visible units
`SpinRBM`               one with units ±1
`Ising`                 spins ±1 with couplings between all pairs; `TransverseFieldIsing`, quantum ones
`gibbs`, `GibbsChains`  block Gibbs sampling, once or with persistent chains
`cumulants`             cumulants of samples with errors, whole or streamed (`CumulantAccumulator`),
                        and the series of ln⟨exp(-βV)⟩ (`log_mean_exp_cumulants`)
`reparameterize`        samples that are functions of their parameters, with KL and gradients
`train`                 contrastive divergence, persistent CD, exact gradient
`free_energy`           methods that return a `FreeEnergy`: value, error, kind; `compare`, all of them
`sampling`              parallel tempering, Hamiltonian and Langevin dynamics
`device`                arrays on a CUDA device (`DeviceArray`), streams
`random`                seeds, and random numbers that no thread count changes
`load`                  a saved model
`show_config`           what was compiled, found and is in use
======================  ====================================================
"""

from . import device, free_energy, random, sampling, training
from ._core import TargetUnavailableError, version
from .config import show_config
from .models import BernoulliRBM, GaussianRBM, Ising, SpinRBM, TransverseFieldIsing, load
from .sampling import GibbsChains, gibbs, reparameterize
from .statistics import CumulantAccumulator, cumulants, log_mean_exp_cumulants
from .training import train

__version__ = version()

__all__ = [
    "BernoulliRBM",
    "CumulantAccumulator",
    "GaussianRBM",
    "GibbsChains",
    "Ising",
    "SpinRBM",
    "TargetUnavailableError",
    "TransverseFieldIsing",
    "__version__",
    "cumulants",
    "device",
    "free_energy",
    "gibbs",
    "load",
    "log_mean_exp_cumulants",
    "random",
    "reparameterize",
    "sampling",
    "show_config",
    "train",
    "training",
]
