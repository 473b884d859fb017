"""The other libraries, a file each: ``<library>_rival.py`` with one function for each bench it can run."""

import functools
import importlib
import importlib.metadata
import pkgutil
from types import ModuleType

from vfe_fast.bench.harness import NOT_OFFERED, Maker, reason


@functools.cache
def _load() -> dict[str, ModuleType | str]:
    """Import every rival; a string says why one cannot be."""
    rivals: dict[str, ModuleType | str] = {}
    for found in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        name = found.name.removesuffix("_rival")
        try:
            rivals[name] = importlib.import_module(f".{found.name}", __package__)
        except ModuleNotFoundError as error:
            missing = (error.name or name).partition(".")[0]
            rivals[name] = "not installed" if missing == name else f"not installed: needs {missing}"
        except Exception as error:
            rivals[name] = reason(error)
    return rivals


def installed() -> dict[str, str]:
    """The version of each rival, or why it cannot be run."""
    distributions = importlib.metadata.packages_distributions()
    return {
        name: module if isinstance(module, str) else importlib.metadata.version(distributions[name][0])
        for name, module in _load().items()
    }


def makers(bench: str) -> dict[str, Maker | str]:
    """For each rival the function named like the bench, or why there is none."""
    return {
        name: module if isinstance(module, str) else getattr(module, bench, NOT_OFFERED)
        for name, module in _load().items()
    }
