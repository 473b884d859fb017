"""The CUDA twin of `random` against the CPU kernel, in small cases."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import vfe_fast as vf


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 3000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("draw", [vf.random.uniform, vf.random.normal])
def test_random(both: Any, draw: Any, dtype: Any, size: int) -> None:
    cpu, cuda = both(lambda device: draw(size, rng=3, dtype=dtype, device=device))
    assert cuda.dtype == dtype
    assert np.array_equal(cpu, cuda.numpy())
