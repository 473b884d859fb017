"""Free energies: one method a file, each returning a `FreeEnergy` that says what it is."""

from .ais import AisSandwich, ais, ais_sandwich, reverse_ais
from .clamped_tap import clamped_tap
from .compare import Comparison, compare
from .cumulant_expansion import cumulant_expansion
from .exact import exact
from .importance import importance
from .integral import integral
from .laplace import LaplaceWarning, laplace
from .log_weights import WeightsWarning
from .mbar import bar, mbar, mbar_from_potentials
from .mean_field import MeanFieldWarning, mean_field
from .result import FreeEnergies, FreeEnergy, FreeEnergyWarning, Moments, SpinMoments
from .samples import exact_samples
from .spectrum import DensityOfStates, GroundState, density_of_states, ground_state
from .tap import tap
from .thermodynamic_integration import thermodynamic_integration
from .trace import TraceWarning, trace
from .umbrella import umbrella
from .variational import variational
from .wang_landau import SampledDensityOfStates, WangLandauWarning, wang_landau
from .windows import MbarWarning

__all__ = [
    "AisSandwich",
    "Comparison",
    "DensityOfStates",
    "FreeEnergies",
    "FreeEnergy",
    "FreeEnergyWarning",
    "GroundState",
    "LaplaceWarning",
    "MbarWarning",
    "MeanFieldWarning",
    "Moments",
    "SampledDensityOfStates",
    "SpinMoments",
    "TraceWarning",
    "WangLandauWarning",
    "WeightsWarning",
    "ais",
    "ais_sandwich",
    "bar",
    "clamped_tap",
    "compare",
    "cumulant_expansion",
    "density_of_states",
    "exact",
    "exact_samples",
    "ground_state",
    "importance",
    "integral",
    "laplace",
    "mbar",
    "mbar_from_potentials",
    "mean_field",
    "reverse_ais",
    "tap",
    "thermodynamic_integration",
    "trace",
    "umbrella",
    "variational",
    "wang_landau",
]
