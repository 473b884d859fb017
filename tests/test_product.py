"""The matrix product: its numbers against float64, its order against its definition, the same bits always."""

from __future__ import annotations

import numpy as np
import pytest

import vfe_fast as vf
from vfe_fast import _core

SHAPES = [(1, 1, 1), (3, 130, 17), (9, 128, 64), (8, 257, 100), (20, 784, 33), (130, 5, 129)]


def case(n_rows: int, n_inputs: int, n_columns: int, dtype: type) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng([n_rows, n_inputs])
    shapes = (n_rows, n_inputs), (n_inputs, n_columns), (n_columns,)
    return tuple((rng.normal(size=shape) + 0.2).astype(dtype) for shape in shapes)


def in_order(a: np.ndarray, w: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """The sum as real_layer.hpp orders it, an operation at a time."""
    x = np.broadcast_to(bias, (len(a), w.shape[1])).copy()
    for first in range(0, len(w), 128):
        block = np.zeros_like(x)
        for i in range(first, min(first + 128, len(w))):
            block = block + a[:, i : i + 1] * w[i]
        x = x + block
    return x


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_order_and_error(target, shape, dtype):
    a, w, bias = case(*shape, dtype)
    x = _core.product(a, w, bias)
    assert x.tobytes() == in_order(a, w, bias).tobytes()
    wide = [m.astype(np.longdouble) for m in (a, w, bias)]
    bound = (
        (129 + len(w) / 128) * np.finfo(dtype).eps / 2 * (np.abs(wide[2]) + np.abs(wide[0]) @ np.abs(wide[1]))
    )
    assert (np.abs(x - (wide[2] + wide[0] @ wide[1])) <= bound).all()
    assert np.array_equal(_core.product(a, w), in_order(a, w, np.zeros_like(bias)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_layout_and_threads_do_not_matter(dtype):
    a, w, bias = case(400, 300, 200, dtype)
    x = _core.product(a, w, bias, num_threads=1)
    for threads in (2, 3, 7):
        assert x.tobytes() == _core.product(a, w, bias, num_threads=threads).tobytes()
    padded = np.zeros((800, 600), dtype)[::2, ::2]
    padded[:] = a
    for other in (np.asfortranarray(a), padded, a[::-1][::-1]):
        assert x.tobytes() == _core.product(other, np.asfortranarray(w), bias).tobytes()


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (lambda a, w, b: (a[0], w, b), ValueError, "a"),
        (lambda a, w, b: (a, w[0], b), ValueError, "w"),
        (lambda a, w, b: (a, np.repeat(w, 2, axis=1)[:, ::2], b), ValueError, "w"),
        (lambda a, w, b: (a, w[1:], b), ValueError, "w"),
        (lambda a, w, b: (a, w.astype(np.float32), b), TypeError, "w"),
        (lambda a, w, b: (a, w, b[1:]), ValueError, "bias"),
        (lambda a, w, b: (a.astype(int), w, b), TypeError, "a"),
    ],
)
def test_bad_input(change, error, match):
    with pytest.raises(error, match=f"^{match}:"):
        _core.product(*change(*case(3, 4, 5, np.float64)))


def test_energies_do_not_depend_on_the_instruction_set(keep_target):
    rng = np.random.default_rng(1)
    rbm = vf.BernoulliRBM(rng.normal(size=(90, 40)), rng.normal(size=90), rng.normal(size=40))
    v, h = rng.integers(0, 2, (50, 90)), rng.integers(0, 2, (50, 40))
    found = []
    for name in vf.show_config("dict")["usable_targets"]:
        _core.use_target(name)
        found.append(rbm.energy(v, h).tobytes())
    assert len(set(found)) == 1
