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
    ContrastiveDivergence,
    Exact,
    FastPersistentCD,
    ParallelTempering,
    PersistentCD,
    ThoulessAndersonPalmer,
)
from .loop import History, train
from .methods import METHODS
from .schedules import ExponentialDecay, LinearDecay
from .score_matching import (
    DenoisingScoreMatching,
    RatioMatching,
    ScoreMatching,
    SlicedScoreMatching,
    ratio_matching_objective,
    score_matching_objective,
)
from .updates import OPTIMIZERS

__all__ = [
    "METHODS",
    "OPTIMIZERS",
    "AisLogLikelihood",
    "ChainAutocorrelation",
    "ContrastiveDivergence",
    "DenoisingScoreMatching",
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
    "RatioMatching",
    "ScoreMatching",
    "SlicedScoreMatching",
    "StopTraining",
    "ThoulessAndersonPalmer",
    "gradient_bias",
    "ratio_matching_objective",
    "score_matching_objective",
    "train",
]
