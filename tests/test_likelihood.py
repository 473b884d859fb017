"""ln p(x|z) of Bernoulli units and its gradient, against the formulas in long double."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import vfe_fast as vf
from vfe_fast import _core

DTYPES = [np.float32, np.float64]
SHAPES = [(0, 3, 2), (3, 0, 4), (2, 3, 0), (1, 1, 1), (3, 5, 15), (2, 7, 784), (5, 2, 513), (2, 1, 40_001)]


def problem(shape: tuple[int, int, int], dtype: Any, width: float = 4.0) -> tuple[np.ndarray, ...]:
    """Logits of either sign, binary units and means, a gradient."""
    rng = np.random.default_rng(shape[2])
    x = rng.random(shape[1:])
    x[: shape[1] // 2] = x[: shape[1] // 2] < 0.3
    logits, grad = width * rng.normal(size=shape), rng.normal(size=shape[:2])
    return tuple(a.astype(dtype) for a in (logits, x, grad))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("width", [0.01, 4.0, 200.0])
def test_against_the_formulas(target: str, shape: tuple[int, int, int], dtype: Any, width: float) -> None:
    """Within the bounds of the contract."""
    logits, x, grad = problem(shape, dtype, width)
    found = _core.log_likelihood(logits, x, 1)
    gradient = _core.log_likelihood_backward(logits, x, grad, 1)
    assert (found.dtype, found.shape, gradient.dtype, gradient.shape) == (dtype, shape[:2], dtype, shape)
    wide = logits.astype(np.longdouble)
    expected = (x * wide - np.logaddexp(0, wide)).sum(axis=-1)
    eps = np.finfo(dtype).eps / 2
    terms = (70 + shape[2] / 512) * (np.abs(x * wide) + np.abs(wide) + 1).sum(axis=-1)
    assert (np.abs(found - expected) <= eps * (np.abs(expected) + terms)).all()
    slope = grad[..., None] * (x - 1 / (1 + np.exp(-wide)))
    assert (np.abs(gradient - slope) <= 6 * eps * np.abs(grad[..., None])).all()


@pytest.mark.parametrize("logit", [0.0, 0.7])
def test_rounding_of_rows_that_are_all_alike(logit: float) -> None:
    """Which always goes the same way."""
    n = 512_000
    found = _core.log_likelihood(np.full((1, 1, n), logit), np.zeros((1, n)), 1)[0, 0]
    expected = -n * np.log1p(np.exp(np.longdouble(logit)))
    assert abs(found - expected) <= 2.0**-53 * (abs(expected) + (70 + n / 512) * n * (logit + 1))


def test_in_float32_as_good_as_its_rounding() -> None:
    """Of 784 units, as images have: far better than the bound."""
    logits, x, _ = problem((50, 20, 784), np.float32)
    wide = logits.astype(np.longdouble)
    expected = (x * wide - np.logaddexp(0, wide)).sum(axis=-1)
    off = (_core.log_likelihood(logits, x, 1) - expected) / expected
    assert np.sqrt(np.mean(off**2)) < 2.0**-24


@pytest.mark.parametrize("dtype", DTYPES)
def test_ends(dtype: Any) -> None:
    """Logits without end of units that are sure to be 0 or 1; nan stays in its row."""
    most = np.finfo(dtype).max
    logits = np.array([[[-np.inf, -most, 0.0], [1e4, 3.0, -1e4], [0.0, np.nan, 0.0]]], dtype)
    x = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], dtype)
    found = _core.log_likelihood(logits[:, 1:], x[1:], 1)
    assert found[0, 0] == pytest.approx(-np.logaddexp(0, 3.0), rel=1e-6)
    assert np.isnan(found[0, 1])
    assert _core.log_likelihood(logits[:, :1, 1:].copy(), x[:1, 1:].copy(), 1)[0, 0] == pytest.approx(
        -np.log(2)
    )
    gradient = _core.log_likelihood_backward(logits, x, np.ones((1, 3), dtype), 1)
    np.testing.assert_allclose(
        gradient[0], [[0, 0, 0.5], [0, -1 / (1 + np.exp(-3.0)), 0], [-0.5, np.nan, -0.5]], rtol=1e-6
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 7, 784), (40, 30, 100), (5, 2, 513), (2, 1, 40_001)])
def test_same_bits_everywhere(keep_target: None, shape: tuple[int, int, int], dtype: Any) -> None:
    given = problem(shape, dtype)
    found = set()
    for name in vf.show_config("dict")["usable_targets"]:
        _core.use_target(name)
        for num_threads in (1, 2, 5):
            values = _core.log_likelihood(*given[:2], num_threads)
            found.add(values.tobytes() + _core.log_likelihood_backward(*given, num_threads).tobytes())
    assert len(found) == 1


def test_bad_arguments() -> None:
    logits, x, grad = problem((2, 3, 4), np.float32)
    for wrong in (logits[0], np.asfortranarray(logits)):
        with pytest.raises(ValueError, match=r"^logits: expected a C-ordered array"):
            _core.log_likelihood(wrong, x, 1)
    with pytest.raises(TypeError, match=r"^logits: expected"):
        _core.log_likelihood(logits.astype(np.float16), x, 1)
    for wrong in (x[1:], x[:, 1:], np.asfortranarray(x), x.astype(np.float64)):
        with pytest.raises(ValueError, match=r"^x: expected a C-ordered array of \(3, 4\) numbers"):
            _core.log_likelihood(logits, wrong, 1)
    for wrong in (grad[1:], grad[:, 1:], np.asfortranarray(grad), grad.astype(np.float64)):
        with pytest.raises(ValueError, match=r"^grad: expected a C-ordered array"):
            _core.log_likelihood_backward(logits, x, wrong, 1)
    with pytest.raises(ValueError, match=r"^num_threads: expected"):
        _core.log_likelihood(logits, x, -1)
