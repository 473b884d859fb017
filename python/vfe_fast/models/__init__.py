"""Models: parameters, energies and conditionals, in the vocabulary of physics."""

from .bernoulli_rbm import BernoulliRBM
from .files import load

__all__ = ["BernoulliRBM", "load"]
