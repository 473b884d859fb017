"""Models: parameters, energies and conditionals, in the vocabulary of physics."""

from .bernoulli_rbm import BernoulliRBM
from .ising import Ising
from .loader import load

__all__ = ["BernoulliRBM", "Ising", "load"]
