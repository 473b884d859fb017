"""Free energies: one method a file, each returning a `FreeEnergy` that says what it is."""

from .exact import exact
from .result import FreeEnergy, Moments, SpinMoments

__all__ = ["FreeEnergy", "Moments", "SpinMoments", "exact"]
