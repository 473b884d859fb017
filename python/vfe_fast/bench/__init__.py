"""Benchmarks: the harness, and the short run against NumPy behind ``vfe-fast bench``.

The ``benchmarks`` folder of the source tree uses the same harness for more cases and more rivals.
"""

from .run import main

__all__ = ["main"]
