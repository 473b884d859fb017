"""Cumulants of samples, whole or streamed, and the series of ln⟨exp(-βV)⟩ they make."""

from .cumulants import CumulantAccumulator, Cumulants, cumulants
from .series import CumulantSeries, SeriesWarning, log_mean_exp_cumulants

__all__ = [
    "CumulantAccumulator",
    "CumulantSeries",
    "Cumulants",
    "SeriesWarning",
    "cumulants",
    "log_mean_exp_cumulants",
]
