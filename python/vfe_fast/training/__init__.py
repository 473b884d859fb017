"""Training: gradients, the loop, schedules, callbacks and checkpoints."""

from .bias import GradientBias, gradient_bias
from .callbacks import (
    AisLogLikelihood,
    ChainAutocorrelation,
    Epoch,
    ExactLogLikelihood,
    FreeEnergyGap,
    PseudoLogLikelihood,
    StopTraining,
)
from .gradients import (
    METHODS,
    ContrastiveDivergence,
    Exact,
    FastPersistentCD,
    ParallelTempering,
    PersistentCD,
    ThoulessAndersonPalmer,
)
from .loop import History, train
from .schedules import ExponentialDecay, LinearDecay
from .updates import OPTIMIZERS

__all__ = [
    "METHODS",
    "OPTIMIZERS",
    "AisLogLikelihood",
    "ChainAutocorrelation",
    "ContrastiveDivergence",
    "Epoch",
    "Exact",
    "ExactLogLikelihood",
    "ExponentialDecay",
    "FastPersistentCD",
    "FreeEnergyGap",
    "GradientBias",
    "History",
    "LinearDecay",
    "ParallelTempering",
    "PersistentCD",
    "PseudoLogLikelihood",
    "StopTraining",
    "ThoulessAndersonPalmer",
    "gradient_bias",
    "train",
]
