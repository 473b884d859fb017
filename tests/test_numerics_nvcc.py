"""numerics/ compiled by nvcc, whose host code runs here: the same table of errors, and the same bits."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from test_numerics import EXACT, KNOWN_ANSWERS, accuracy_table, arguments_for, ulps
from vfe_fast import _core

FUNCTIONS = list(EXACT)  # in the order of the enumeration in kernels/elementwise.hpp
CORNERS = [0, 1, 2, 3, 2**31 - 1, 2**31, 2**32 - 4, 2**32 - 1]


@pytest.fixture(scope="module")
def nvcc() -> ctypes.CDLL:
    on_host = os.environ.get("VFE_CUDA_ON_HOST")
    if not on_host:
        pytest.skip("VFE_CUDA_ON_HOST does not name the library beside which this one lies")
    path = Path(on_host).with_name("libvfe_numerics_nvcc.so")
    if not path.is_file():
        pytest.skip("numerics/ was not compiled by nvcc: there was none when VFE_CUDA_ON_HOST was built")
    library = ctypes.CDLL(str(path.resolve()))
    library.fixed_point.restype = ctypes.c_double
    return library


def pointer(array: np.ndarray) -> ctypes.c_void_p:
    assert array.flags.c_contiguous
    return array.ctypes.data_as(ctypes.c_void_p)


def elementwise(library: ctypes.CDLL, name: str, x: np.ndarray) -> np.ndarray:
    y = np.full_like(x, np.nan)
    library.elementwise(
        FUNCTIONS.index(name),
        ctypes.c_bool(x.dtype == np.float64),
        ctypes.c_int64(x.size),
        pointer(x),
        pointer(y),
    )
    return y


def some_words() -> np.ndarray:
    rng = np.random.default_rng(8)
    rows = rng.integers(0, 2**32, (3000, 4), dtype=np.uint32)
    rows[:1000] = rng.choice(np.array(CORNERS, np.uint32), (1000, 4))
    return rows


def same(a: Any, b: Any, dtype: Any) -> bool:
    return np.asarray(a, dtype).tobytes() == np.asarray(b, dtype).tobytes()


@pytest.mark.parametrize("row", accuracy_table(), ids=lambda row: f"{row[0]}-{row[1]}-{row[2]:g}-{row[3]:g}")
def test_accuracy_table(nvcc, row):
    name, dtype, low, high, bound = row
    x = arguments_for(dtype, low, high)
    found = elementwise(nvcc, name, x)
    assert ulps(found, x, EXACT[name]) <= bound
    assert same(found, getattr(_core, name)(x), dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_extreme_arguments_have_the_same_bits(nvcc, name, dtype):
    tiny, largest = np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max
    sizes = np.array([0.0, tiny, 1e-30, 1e-3, 1.0, 88.0, 104.0, 709.0, 746.0, 1e5, largest, np.inf], dtype)
    x = sizes if name.startswith("log") else np.concatenate([-sizes, sizes])
    assert same(elementwise(nvcc, name, x), getattr(_core, name)(x), dtype)


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_philox_known_answers(nvcc, counter, key, answer):
    block = np.array(counter, np.uint32)
    nvcc.philox(ctypes.c_int64(1), ctypes.c_uint64(key[0] | key[1] << 32), pointer(block))
    assert tuple(block.tolist()) == answer


def test_draws_have_the_same_bits(nvcc):
    rows = some_words()
    found = np.full((len(rows), 8), np.nan)
    nvcc.draws(ctypes.c_int64(len(rows)), pointer(rows), pointer(found))
    for words, row in zip(rows.tolist(), found, strict=True):
        assert same(row[:2], _core.normal_pair(words), np.float64)
        assert same(row[2:5], _core.noise(*words[:2]), np.float64)
        assert row[5] == (((words[1] << 32 | words[0]) >> 12) + 0.5) * 2.0**-52
        assert same(row[6:], _core.normal_pair_float32(words[0], words[3]), np.float64)


def test_float32_draws_have_the_same_bits(nvcc):
    words = np.ascontiguousarray(some_words()[:, 0])
    found = np.full((words.size, 4), np.nan, np.float32)
    nvcc.draws_float32(ctypes.c_int64(words.size), pointer(words), pointer(found))
    for word, row in zip(words.tolist(), found, strict=True):
        assert same(row[:3], _core.noise_float32(word), np.float32)
        assert row[3] == np.float32(((word >> 9) + 0.5) * 2.0**-23)


def test_bernoulli_decides_the_same(nvcc):
    """Random and tied leading bits, and fields from 0 to where one outcome is all but sure."""
    rng = np.random.default_rng(4)
    x = np.concatenate([rng.normal(size=4000) * 4, rng.uniform(-50, 50, 4000), [-0.0, 0.0]]).astype(
        np.float32
    )
    share = 1 / (1 + np.exp(np.abs(x.astype(np.float64))))
    tied = np.where(x < 0, share * 2**16, 2**16 - 1 - np.floor(share * 2**16)).astype(np.uint32)
    leading = np.where(rng.random(x.size) < 0.5, tied, rng.integers(0, 2**16, x.size)).astype(np.uint32)
    further = rng.integers(0, 2**64, x.size, dtype=np.uint64)
    found = np.full(x.size, 2, np.uint8)
    nvcc.bernoulli(ctypes.c_int64(x.size), pointer(x), pointer(leading), pointer(further), pointer(found))
    expected = [
        _core.bernoulli(float(at), int(bits), int(more))
        for at, bits, more in zip(x, leading, further, strict=True)
    ]
    assert found.tolist() == expected
    assert 0 < found.mean() < 1


@pytest.mark.parametrize("size", [1e-300, 1e-5, 1.0, 3e7])
def test_fixed_point(nvcc, size):
    x = size * np.random.default_rng(6).normal(size=1001)
    found = np.zeros(x.size, np.int32)
    total = float(np.abs(x).sum())
    scale = nvcc.fixed_point(ctypes.c_int64(x.size), ctypes.c_double(total), pointer(x), pointer(found))
    assert scale == min((2.0**30 - x.size / 2) / total, 2.0**1000)
    assert found.tolist() == np.rint(x * scale).tolist()  # halves to the even one, as adding 1.5 2^52 does
