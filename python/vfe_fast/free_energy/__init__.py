"""Free energies: one method a file, each returning a `FreeEnergy` that says what it is."""

from .ais import AisSandwich, ais, ais_sandwich, reverse_ais
from .exact import exact
from .importance import importance
from .log_weights import WeightsWarning
from .result import FreeEnergy, Moments, SpinMoments
from .samples import exact_samples
from .spectrum import DensityOfStates, GroundState, density_of_states, ground_state

__all__ = [
    "AisSandwich",
    "DensityOfStates",
    "FreeEnergy",
    "GroundState",
    "Moments",
    "SpinMoments",
    "WeightsWarning",
    "ais",
    "ais_sandwich",
    "density_of_states",
    "exact",
    "exact_samples",
    "ground_state",
    "importance",
    "reverse_ais",
]
