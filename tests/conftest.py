"""What the tests share: the targets the kernels run on, and asymmetric models."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vfe_fast as vf
from vfe_fast import _core

# Started in the background by a shell, pytest ignores Ctrl-C, and so would its children, which tests stop.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

TARGETS = vf.show_config("dict")["built_targets"]
CUDA, CUDA_ON_HOST = "cuda", "cuda-on-host"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "twin(small=False): `target` includes the CUDA twins, on a GPU; if the cases are small, also on the "
        "processor that plays one (tests/cuda_on_host)",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "target" not in metafunc.fixturenames:
        return
    names = list(TARGETS)
    twin = metafunc.definition.get_closest_marker("twin")
    if twin is not None:
        names += [CUDA, CUDA_ON_HOST] if twin.kwargs.get("small", False) else [CUDA]
    metafunc.parametrize("target", names, indirect=True)


@pytest.fixture
def keep_target() -> Iterator[None]:
    """Put back the instruction set that the test run was started with."""
    before = vf.show_config("dict")["target"]
    yield
    _core.use_target(before)


@pytest.fixture
def target(request: pytest.FixtureRequest, keep_target: None) -> Iterator[str]:
    """Run the test on each instruction set in turn; what the machine lacks is skipped with a reason."""
    name: str = request.param
    if name == CUDA_ON_HOST:
        with cuda_on_host():
            before = vf.show_config("dict")["target"]
            _core.use_target(CUDA)
            try:
                yield name
            finally:
                _core.use_target(before)  # while the library is there
        return
    if name == CUDA:
        require_gpu()
    elif name not in vf.show_config("dict")["usable_targets"]:
        pytest.skip(f"this processor lacks {name}")
    _core.use_target(name)
    assert vf.show_config("dict")["compiled_for"] == name  # the flags reached the compiler
    yield name


def require_gpu() -> None:
    """Skip, or fail if VFE_REQUIRE_GPU is 1, where there is none."""
    problem = vf.show_config("dict")["cuda_problem"]
    if problem:
        lacking = pytest.fail if os.environ.get("VFE_REQUIRE_GPU") == "1" else pytest.skip
        lacking(f"no GPU to run it on: {problem}")


@contextlib.contextmanager
def cuda_on_host() -> Iterator[None]:
    """Let the CUDA twins compiled for this processor (cmake -DVFE_CUDA_ON_HOST=ON) be those of the device."""
    library = os.environ.get("VFE_CUDA_ON_HOST")
    if not library:
        pytest.skip("VFE_CUDA_ON_HOST does not name the library of CUDA twins for this processor")
    _core.use_cuda_library(library)
    try:
        yield
    finally:
        _core.use_cuda_library("")


@pytest.fixture(params=[CUDA, CUDA_ON_HOST])
def both(request: pytest.FixtureRequest) -> Iterator[Callable[[Callable[[Any], Any]], tuple[Any, Any]]]:
    """What a function of `device` gives on the CPU and by the twin."""
    name: str = request.param
    if name == CUDA_ON_HOST:
        before = vf.show_config("dict")["target"]
        with cuda_on_host():
            _core.use_target(before)  # so that device="cpu" is the kernel, not its twin once more
            yield lambda f: (f("cpu"), f("cuda"))
    else:
        require_gpu()
        yield lambda f: (f("cpu"), f("cuda"))


@pytest.fixture
def reference_data() -> Path:
    """Folder of published data that is not part of the repository."""
    folder = Path(os.environ.get("VFE_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no reference data: set VFE_DATA to its folder")
    return folder


def random_parameters(
    n_visible: int, n_hidden: int, *, scale: float = 1.0, seed: int = 0, dtype: Any = np.float64
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Asymmetric parameters with biases well away from zero, where a wrong sign or a transposition shows."""
    rng = np.random.default_rng([seed, n_visible, n_hidden])
    weights = scale * (rng.normal(size=(n_visible, n_hidden)) + 0.3)
    visible_bias = scale * (rng.normal(size=n_visible) - 0.5)
    hidden_bias = scale * (rng.normal(size=n_hidden) + 0.4)
    return weights.astype(dtype), visible_bias.astype(dtype), hidden_bias.astype(dtype)


def random_rbm(n_visible: int, n_hidden: int, **options: Any) -> vf.BernoulliRBM:
    """Make a model with `random_parameters`."""
    return vf.BernoulliRBM(*random_parameters(n_visible, n_hidden, **options))
