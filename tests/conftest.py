"""What the tests share: the targets the kernels run on, and asymmetric models."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
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


@pytest.fixture
def keep_target() -> Iterator[None]:
    """Put back the instruction set that the test run was started with."""
    before = vf.show_config("dict")["target"]
    yield
    _core.use_target(before)


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest, keep_target: None) -> str:
    """Run the test on each instruction set in turn; what the processor lacks is skipped with a reason."""
    name: str = request.param
    if name not in vf.show_config("dict")["usable_targets"]:
        pytest.skip(f"this processor lacks {name}")
    _core.use_target(name)
    assert vf.show_config("dict")["compiled_for"] == name  # the flags reached the compiler
    return name


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
