"""The examples in the docstrings run, and every public callable says what it takes and returns."""

from __future__ import annotations

import dataclasses
import doctest
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import pytest

import vfe_fast as vf

MODULES = sorted(
    name for _, name, _ in pkgutil.walk_packages(vf.__path__, "vfe_fast.") if not name.endswith("__main__")
)
NAMESPACES = (vf, vf.free_energy, vf.training, vf.sampling, vf.random)


def test_modules_are_found() -> None:
    assert {"vfe_fast.models.bernoulli_rbm", "vfe_fast.sampling.gibbs", "vfe_fast._core"} <= set(MODULES)
    examples = doctest.DocTestFinder().find(vf.BernoulliRBM)
    assert any(test.examples for test in examples)


@pytest.mark.parametrize("name", ["vfe_fast", *MODULES])
def test_examples(name: str) -> None:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        pytest.skip(f"needs {error.name}")
    assert doctest.testmod(module).failed == 0


def public_callables() -> Iterator[Any]:
    """All functions and classes of the public namespaces, and the methods of the classes."""
    seen = set()
    for space in NAMESPACES:
        for name in space.__all__:
            thing = getattr(space, name)
            if not callable(thing) or id(thing) in seen:
                continue
            seen.add(id(thing))
            label = f"{space.__name__}.{name}"
            yield pytest.param(thing, id=label)
            if not inspect.isclass(thing):
                continue
            for member, value in vars(thing).items():
                function = getattr(value, "__func__", value)
                if not member.startswith("_") and inspect.isfunction(function):
                    yield pytest.param(function, id=f"{label}.{member}")


def sections(thing: Any) -> dict[str, str]:
    """Split a numpydoc docstring into its sections; the summary has the key ""."""
    parts = re.split(r"^(\w[\w ]*)\n-{3,}$", inspect.getdoc(thing) or "", flags=re.MULTILINE)
    return dict(zip(["", *parts[1::2]], parts[::2], strict=True))


def described(section: str) -> set[str]:
    """Collect the names in the lines ``name, name : type`` of a section."""
    lines = re.findall(r"^(\*{0,2}\w[\w, *]*?) ?(?::.*)?$", section, flags=re.MULTILINE)
    return {name.strip(" *") for line in lines for name in line.split(",")}


def arguments(thing: Any) -> set[str]:
    try:
        signature = inspect.signature(thing)
    except ValueError:  # an exception made in C++
        return set()
    if inspect.isclass(thing) and issubclass(thing, Exception):
        return set()
    return set(signature.parameters) - {"self", "cls"}


def gives_something(thing: Any) -> bool:
    """Say whether it is a function of arguments with a result."""
    if inspect.isclass(thing) or not arguments(thing):
        return False
    return inspect.signature(thing).return_annotation not in (None, "None")


def raises_something(thing: Any) -> bool:
    """Say whether its own body, for a class that of its constructor, raises an error."""
    code = vars(thing).get("__init__") if inspect.isclass(thing) else thing
    generated = inspect.isclass(thing) and dataclasses.is_dataclass(thing)
    return inspect.isfunction(code) and not generated and "raise " in inspect.getsource(code)


CALLABLES = list(public_callables())


@pytest.mark.parametrize("thing", CALLABLES)
def test_every_argument_is_described(thing: Any) -> None:
    found = sections(thing)
    assert found[""].strip(), "no summary"
    text = found.get("Parameters", "")
    if inspect.isclass(thing):
        text += found.get("Attributes", "")
    assert {name for name in arguments(thing) if not name.startswith("_")} <= described(text)


@pytest.mark.parametrize("thing", [p for p in CALLABLES if gives_something(p.values[0])])
def test_every_result_is_described(thing: Any) -> None:
    assert sections(thing).get("Returns", "").strip()


@pytest.mark.parametrize("thing", [p for p in CALLABLES if raises_something(p.values[0])])
def test_every_error_is_announced(thing: Any) -> None:
    assert sections(thing).get("Raises", "").strip()
