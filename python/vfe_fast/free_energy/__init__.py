"""Free energies: one method a file, each returning a `FreeEnergy` that says what it is."""

from .ais import AisSandwich, ais, ais_sandwich, reverse_ais
from .cumulant_expansion import cumulant_expansion
from .exact import exact
from .importance import importance
from .log_weights import WeightsWarning
from .mean_field import MeanFieldWarning, mean_field
from .result import FreeEnergy, Moments, SpinMoments
from .samples import exact_samples
from .spectrum import DensityOfStates, GroundState, density_of_states, ground_state
from .tap import tap
from .thermodynamic_integration import thermodynamic_integration
from .trace import trace

__all__ = [
    "AisSandwich",
    "DensityOfStates",
    "FreeEnergy",
    "GroundState",
    "MeanFieldWarning",
    "Moments",
    "SpinMoments",
    "WeightsWarning",
    "ais",
    "ais_sandwich",
    "cumulant_expansion",
    "density_of_states",
    "exact",
    "exact_samples",
    "ground_state",
    "importance",
    "mean_field",
    "reverse_ais",
    "tap",
    "thermodynamic_integration",
    "trace",
]
