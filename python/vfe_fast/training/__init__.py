"""Training: gradients, the loop, schedules, callbacks and checkpoints."""

from .bias import GradientBias, gradient_bias
from .callbacks import Epoch, ExactLogLikelihood, StopTraining
from .gradients import METHODS, ContrastiveDivergence, Exact, PersistentCD
from .loop import History, train
from .schedules import ExponentialDecay, LinearDecay

__all__ = [
    "METHODS",
    "ContrastiveDivergence",
    "Epoch",
    "Exact",
    "ExactLogLikelihood",
    "ExponentialDecay",
    "GradientBias",
    "History",
    "LinearDecay",
    "PersistentCD",
    "StopTraining",
    "gradient_bias",
    "train",
]
