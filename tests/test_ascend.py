"""Updates of parameters against the same in NumPy, in float64."""

from __future__ import annotations

import numpy as np
import pytest

import vfe_fast as vf
from vfe_fast import _core

SHAPES = [(7,), (1, 1), (3, 5), (70, 33), (300, 129)]
NUMBERS = {"rate": 0.05, "momentum": 0.9, "decay": 0.01}
ADAM = {"memory": 0.97, "epsilon": 1e-3}


def problem(shape, dtype):
    rng = np.random.default_rng(sum(shape))
    x, gradient, velocity = (rng.normal(size=shape).astype(dtype) for _ in range(3))
    squares = rng.random(shape).astype(dtype)
    rows, columns = shape if len(shape) == 2 else (1, *shape)
    offsets = [rng.normal(size=n).astype(dtype) for n in (rows, columns, rows, columns)]
    names = ("row_offset", "column_offset", "row_change", "column_change")
    return x, gradient, velocity, squares, dict(zip(names, offsets, strict=True))


def wide(*arrays):
    return (a.astype(np.float64) for a in arrays)


def assert_close(found, expected, dtype):
    tolerance = 1e-5 if dtype == np.float32 else 1e-13
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_updates(target, shape, dtype):
    x, gradient, velocity, squares, _ = problem(shape, dtype)
    wide_x, wide_gradient, wide_velocity, wide_squares = wide(x, gradient, velocity, squares)
    slope = wide_gradient - 0.01 * wide_x

    plain = _core.ascend(x, gradient, **NUMBERS, num_threads=1)
    assert_close(plain[0], wide_x + 0.05 * slope, dtype)
    assert plain[1:] == (None, None, None, None)

    new_x, new_velocity, *rest = _core.ascend(x, gradient, velocity=velocity, **NUMBERS, num_threads=1)
    expected = 0.9 * wide_velocity + 0.05 * slope
    assert_close(new_velocity, expected, dtype)
    assert_close(new_x, wide_x + expected, dtype)
    assert rest == [None, None, None]

    new_x, new_velocity, new_squares, *rest = _core.ascend(
        x, gradient, velocity=velocity, squares=squares, **NUMBERS, **ADAM, num_threads=1
    )
    expected = 0.9 * wide_velocity + 0.1 * slope
    expected_squares = 0.97 * wide_squares + 0.03 * slope**2
    assert_close(new_velocity, expected, dtype)
    assert_close(new_squares, expected_squares, dtype)
    assert_close(new_x, wide_x + 0.05 * expected / (np.sqrt(expected_squares) + 1e-3), dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES[1:])
def test_centered(target, shape, dtype):
    x, gradient, _, _, offsets = problem(shape, dtype)
    mu, la, dv, dh = wide(*offsets.values())
    wide_x, slope = wide(x, gradient)
    slope = slope - np.outer(mu, dh) - np.outer(dv, la)
    new_x, _, _, row_sums, column_sums = _core.ascend(x, gradient, **offsets, **NUMBERS, num_threads=1)
    assert_close(row_sums, slope @ la, dtype)
    assert_close(column_sums, slope.T @ mu, dtype)
    assert_close(new_x, wide_x + 0.05 * (slope - 0.01 * wide_x), dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_bits(keep_target, dtype):
    x, gradient, velocity, squares, offsets = problem((500, 300), dtype)
    found = set()
    for name in vf.show_config("dict")["usable_targets"]:
        _core.use_target(name)
        for num_threads in (1, 2, 3):
            results = _core.ascend(
                x, gradient, velocity=velocity, squares=squares, **offsets, **NUMBERS, **ADAM,
                num_threads=num_threads,
            )  # fmt: skip
            found.add(b"".join(r.tobytes() for r in results))
    assert len(found) == 1


def test_bad_arguments():
    x, gradient, velocity, squares, offsets = problem((3, 5), np.float32)
    bad = [
        ("gradient", {"gradient": gradient[1:]}),
        ("gradient", {"gradient": gradient.astype(np.float64)}),
        ("gradient", {"gradient": np.asfortranarray(gradient)}),
        ("velocity", {"velocity": velocity[1:]}),
        ("velocity", {"squares": squares}),
        ("squares", {"velocity": velocity, "squares": squares[1:]}),
        ("row_offset", {"row_offset": offsets["row_offset"]}),
        ("column_change", {**offsets, "column_change": x}),
        ("x", {"x": x[None]}),
    ]
    for name, arguments in bad:
        with pytest.raises(ValueError, match=f"^{name}: expected"):
            _core.ascend(**{"x": x, "gradient": gradient, **NUMBERS, **arguments}, num_threads=1)
