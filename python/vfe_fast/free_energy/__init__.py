"""Free energies: one method a file, each returning a `FreeEnergy` that says what it is."""

from .cumulant_expansion import cumulant_expansion
from .exact import exact
from .mean_field import MeanFieldWarning, mean_field
from .result import FreeEnergy, Moments, SpinMoments
from .samples import exact_samples
from .spectrum import DensityOfStates, GroundState, density_of_states, ground_state
from .tap import tap
from .thermodynamic_integration import thermodynamic_integration

__all__ = [
    "DensityOfStates",
    "FreeEnergy",
    "GroundState",
    "MeanFieldWarning",
    "Moments",
    "SpinMoments",
    "cumulant_expansion",
    "density_of_states",
    "exact",
    "exact_samples",
    "ground_state",
    "mean_field",
    "tap",
    "thermodynamic_integration",
]
