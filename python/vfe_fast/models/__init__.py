"""Models: parameters, energies and conditionals, in the vocabulary of physics."""

from .bernoulli_rbm import BernoulliRBM
from .gaussian_rbm import GaussianRBM
from .ising import Ising
from .loader import Model, load
from .spin_layers import SpinLayers
from .spin_rbm import SpinRBM
from .transverse_field_ising import TransverseFieldIsing

__all__ = [
    "BernoulliRBM",
    "GaussianRBM",
    "Ising",
    "Model",
    "SpinLayers",
    "SpinRBM",
    "TransverseFieldIsing",
    "load",
]
