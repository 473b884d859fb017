"""The CUDA twin of `cumulants` against the CPU kernel and, where both might err, against mpmath."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import vfe_fast as vf
from test_cumulants import exact, largest_terms, skewed
from vfe_fast import _core
from vfe_fast.device import DeviceArray
from vfe_fast.statistics import CumulantAccumulator, cumulants


def hold(cpu: Any, cuda: Any, x: np.ndarray, share: float = 1e-12) -> None:
    """Rows of both within the contract's bound of each other; errors to what that leaves of them."""
    for row, samples in enumerate(x.astype(np.float64)):
        allowed = 2 * share * largest_terms(samples)[: cpu.order]
        assert (np.abs(cuda.values[row] - cpu.values[row]) <= allowed).all()
    np.testing.assert_allclose(cuda.stderr, cpu.stderr, rtol=1e6 * share)


def in_one_block(
    x: np.ndarray, order: int, device: str, weights: np.ndarray | None = None, unbiased: bool = True
) -> np.ndarray:
    shared = None if weights is None else np.broadcast_to(weights, x.shape)
    counts, cuda = np.array([x.shape[-1]], float), device == "cuda"
    values = _core.cumulants(x, shared, order=order, unbiased=unbiased, counts=counts, wanted="v", cuda=cuda)[
        0
    ]
    assert values is not None
    return values


# On both sides of where blocks have more lanes, and of where they are cut into segments.
@pytest.mark.parametrize("n", [8, 9, 130, 513, 3001])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("order", [3, 8])
@pytest.mark.parametrize("unbiased", [True, False])
def test_cumulants(both: Any, n: int, dtype: Any, order: int, unbiased: bool) -> None:
    x = skewed(3, n, seed=n).astype(dtype)
    cpu, cuda = both(lambda device: cumulants(x, order, unbiased=unbiased, device=device))
    hold(cpu, cuda, x)


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("n", [17, 1500])
def test_against_mpmath(both: Any, n: int, unbiased: bool) -> None:
    x = skewed(9, n, seed=n)
    expected, allowed = exact(x[3], unbiased=unbiased), 1e-12 * largest_terms(x[3])
    for layout, axis in ((x, 1), (np.ascontiguousarray(x.T), 0)):
        _, cuda = both(
            lambda device, x=layout, axis=axis: cumulants(x, axis=axis, unbiased=unbiased, device=device)
        )
        assert (np.abs(cuda.values[3] - expected) <= allowed).all()


@pytest.mark.parametrize("order", [4, 8])
@pytest.mark.parametrize("unbiased", [True, False])
def test_weights(both: Any, order: int, unbiased: bool) -> None:
    x, rng = skewed(2, 700), np.random.default_rng(1)
    w = rng.uniform(0.2, 3.0, x.shape) * rng.integers(0, 2, x.shape)
    share = 1e-12
    for weights in (w, w[0]):
        cpu, cuda = both(
            lambda device, w=weights: cumulants(x, order, weights=w, unbiased=unbiased, device=device)
        )
        hold(cpu, cuda, x, share)
    expected = exact(x[1], order, w[1], unbiased)
    _, cuda = both(lambda device: cumulants(x, order, weights=w, unbiased=unbiased, device=device))
    assert (np.abs(cuda.values[1] - expected) <= share * largest_terms(x[1], order)).all()


def test_numbers_without_weight_are_no_center(both: Any) -> None:
    """Far away, first or last, or with next to no weight: what has it is summed about its own mean."""
    x = skewed(1, 2000) + 1e8
    w = np.ones(2000)
    for k, (far, weight) in enumerate(((1e12, 0.0), (0.0, 1e-60), (-1e15, 0.0))):
        x[0, k * 500 : k * 500 + 300] = far
        w[k * 500 : k * 500 + 300] = weight
    kept = x[:, w == 1]
    cpu, cuda = both(lambda device: in_one_block(x, 4, device, w, unbiased=False))
    allowed = 1e-12 * largest_terms(kept[0], 4)
    assert (np.abs(cuda[0] - exact(kept[0], 4, unbiased=False)) <= allowed).all()
    assert (np.abs(cpu[0] - cuda[0]) <= 2 * allowed).all()


@pytest.mark.parametrize("shift", [1e8, -1e8])
def test_mean_far_from_zero(both: Any, shift: float) -> None:
    x = np.random.default_rng(1).normal(size=(1, 3000)) + shift
    cpu, cuda = both(lambda device: cumulants(x, device=device))
    allowed = 1e-12 * largest_terms(x[0])
    assert (np.abs(cuda.values[0] - exact(x[0])) <= allowed).all()
    assert (np.abs(cuda.values[0] - cpu.values[0]) <= 2 * allowed).all()


@pytest.mark.parametrize("name", ["sorted", "far first", "alternating", "one far", "two values"])
def test_uneven_data(both: Any, name: str) -> None:
    """In one block, so that each lane sees enough to move its center."""
    x = skewed(2500)
    x = {
        "sorted": np.sort(x),
        "far first": np.concatenate([np.full(300, 1e6), x[300:]]),
        "alternating": x + 1e7 * (np.arange(2500) // 600 % 2),
        "one far": np.where(np.arange(2500) == 0, 1e8, x),
        "two values": np.where(np.arange(2500) % 5 == 0, 1.0, -1.0),
    }[name]
    _, cuda = both(lambda device: in_one_block(x, 8, device))
    assert (np.abs(cuda - exact(x)) <= 1e-12 * largest_terms(x)).all()


def test_segments(both: Any) -> None:
    """Blocks of more than 8192 numbers: of one row, and of rows side by side (256)."""
    x = skewed(1, 20_000, seed=2) + 3e4
    whole = skewed(8, 20_000, seed=3).T
    for data, axis, counts in ((x, 1, [9000, 8193, 2807]), (whole, 0, [257, 12_000, 7743])):
        rows = np.moveaxis(data, axis, -1)
        cpu, cuda = both(
            lambda device, rows=rows, counts=counts: _core.cumulants(
                rows,
                None,
                order=8,
                unbiased=True,
                counts=np.array(counts, float),
                wanted="vers",
                cuda=device == "cuda",
            )
        )
        allowed = 2e-12 * np.array([largest_terms(row) for row in rows])
        assert (np.abs(cpu[0] - cuda[0]) <= allowed).all()
        np.testing.assert_allclose(cuda[1], cpu[1], rtol=1e-7)
        np.testing.assert_allclose(cuda[2], cpu[2], rtol=1e-7)
        np.testing.assert_allclose(cuda[3][..., 1], cpu[3][..., 1])
        means = [sums[..., 0] + sums[..., 2] / sums[..., 1] for sums in (cpu[3], cuda[3])]
        np.testing.assert_allclose(*means, rtol=1e-14)


def test_layouts(both: Any) -> None:
    x = skewed(3, 4, 40, 2)
    spread = np.zeros((3, 4, 40, 9))  # most of what lies between is not theirs
    spread[..., ::8] = x
    record = np.zeros(120, dtype=[("flag", np.uint8), ("x", np.float64)])
    record["x"] = x[0, :3, :, 0].ravel()
    for layout, axis in (
        (x, 2), (np.asfortranarray(x), 2), (x[::-1, :, ::-1], 2), (spread[..., ::8], 2), (x[:, ::3], 0),
        (x, 3), (np.broadcast_to(x[:1], (5, 4, 40, 2)), 2), (record["x"], 0), (np.swapaxes(x, 0, 2), 0),
        (np.ascontiguousarray(x.reshape(3, 4, 80)).transpose(1, 0, 2), 0), (x.reshape(24, 40).T, 0),
    ):  # fmt: skip
        cpu, cuda = both(lambda device, x=layout, axis=axis: cumulants(x, 2, axis=axis, device=device))
        np.testing.assert_allclose(cuda.values, cpu.values, rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(cuda.stderr, cpu.stderr, rtol=1e-8)
        w = np.random.default_rng(0).uniform(1, 2, layout.shape)
        for weights in (w, w[::-1][::-1], np.broadcast_to(w.max(axis=axis, keepdims=True), layout.shape)):
            cpu, cuda = both(
                lambda device, x=layout, axis=axis, w=weights: cumulants(
                    x, 1, axis=axis, weights=w, unbiased=False, device=device
                )
            )
            np.testing.assert_allclose(cuda.values, cpu.values, rtol=1e-11, atol=1e-13)


def test_same_bits_of_a_row_alone(both: Any) -> None:
    x = skewed(37, 300)
    _, of_all = both(lambda device: cumulants(x, device=device))
    _, alone = both(lambda device: cumulants(x[5], device=device))
    assert of_all.values[5].tobytes() == alone.values.tobytes()
    assert of_all.stderr[5].tobytes() == alone.stderr.tobytes()


def test_limits(both: Any) -> None:
    x = skewed(5, 100)
    x[1, 3], x[2, 5], x[3, 50] = np.nan, np.inf, -np.inf
    cpu, cuda = both(lambda device: cumulants(x, device=device))
    assert np.isnan(cuda.values[1:4]).all()
    np.testing.assert_allclose(cuda.values[[0, 4]], cpu.values[[0, 4]], rtol=1e-9)
    cpu, cuda = both(lambda device: cumulants(skewed(100) * 1e60, device=device))
    np.testing.assert_allclose(cuda.values[:5], cpu.values[:5], rtol=1e-10)
    assert not np.isfinite(cuda.values[7])
    _, cuda = both(lambda device: cumulants(np.full(1000, 0.1), device=device))
    assert (cuda.values[1:] == 0).all()
    for empty in (np.empty((0, 10)), np.empty((3, 0, 10))):
        cpu, cuda = both(lambda device, x=empty: cumulants(x, device=device))
        assert cuda.values.shape == cpu.values.shape
    _, few = both(lambda device: cumulants([1.0, 2.0, 4.0], order=3, device=device))
    np.testing.assert_allclose(few.values, [7 / 3, 7 / 3, 10 / 3], rtol=1e-14)
    assert np.isnan(few.stderr[2])


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_bad_weights(both: Any, bad: float) -> None:
    w = np.ones(300)
    w[123] = bad
    with pytest.raises(ValueError, match=r"^weights:"):
        both(lambda device: cumulants(skewed(300), weights=w, device=device if device == "cuda" else "cuda"))


def test_weights_in_one_block(both: Any) -> None:
    w = np.zeros(2000)
    w[:40] = 1
    _, cuda = both(lambda device: cumulants(skewed(2000), 2, weights=w, unbiased=False, device=device))
    assert np.isfinite(cuda.values).all()
    assert np.isnan(cuda.stderr).all()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("unbiased", [True, False])
def test_accumulator(both: Any, weighted: bool, unbiased: bool) -> None:
    x = skewed(2, 300)
    w = np.random.default_rng(0).uniform(0.5, 2.0, x.shape)

    def run(device: Any) -> Any:
        acc = CumulantAccumulator(2, weighted=weighted, unbiased=unbiased, device=device)
        for part in np.split(np.arange(300), [1, 50, 120]):
            acc.update(x[:, part], w[:, part] if weighted else None)
        return acc.result()

    cpu, cuda = both(run)
    hold(cpu, cuda, x, 1e-12)


def test_series(both: Any) -> None:
    V = np.random.default_rng(0).normal(1.0, 0.5, (2, 1000))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cpu, cuda = both(lambda device: vf.log_mean_exp_cumulants(V, order=6, device=device))
    np.testing.assert_allclose(cuda.partial_sums, cpu.partial_sums, rtol=1e-11)
    np.testing.assert_allclose(cuda.partial_sums_stderr, cpu.partial_sums_stderr, rtol=1e-8)


@pytest.mark.parametrize("order", [2, 4, 7])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_of_a_device(both: Any, dtype: Any, weighted: bool, order: int) -> None:
    """The same bits as of arrays that are moved there, and they stay."""
    x = skewed(3, 2, 700).astype(dtype)
    w = np.random.default_rng(1).uniform(0.2, 3.0, (2, 700)) if weighted else None

    def run(device: str) -> list[np.ndarray]:
        if device == "cpu":
            return []
        there = DeviceArray(x), None if w is None else DeviceArray(w)
        found, moved = (
            cumulants(there[0], order, weights=there[1]),
            cumulants(x, order, weights=w, device=device),
        )
        for name in ("values", "stderr", "stderr_independent"):
            of_device, of_host = getattr(found, name), getattr(moved, name)
            assert _core.on_device(of_device.array)
            assert isinstance(of_host, np.ndarray)
            assert np.array_equal(of_device.numpy(), of_host, equal_nan=weighted)
        mixed = cumulants(there[0], order, weights=w)
        assert np.array_equal(mixed.values.numpy(), moved.values)
        mixed = cumulants(x, order, weights=there[1], device=device)
        assert np.array_equal(mixed.values, moved.values)
        return []

    both(run)


def test_layouts_on_a_device(both: Any) -> None:
    """Samples along any axis of a view; nothing is copied."""
    x = skewed(4, 30, 5)

    def run(device: str) -> None:
        if device == "cpu":
            return
        for layout in (lambda a: a, lambda a: a.T, lambda a: a[::-1, 3:, ::2], lambda a: a[1]):
            view, there = layout(x), DeviceArray.of(layout(DeviceArray(x).array))
            for axis in range(view.ndim):
                found = cumulants(there, 2, axis=axis)
                expected = cumulants(view, 2, axis=axis)
                np.testing.assert_allclose(found.values.numpy(), expected.values, rtol=1e-11, atol=1e-13)
                np.testing.assert_allclose(found.stderr.numpy(), expected.stderr, rtol=1e-8)
        for empty in (np.empty((0, 10)), np.empty((3, 0, 10))):
            assert cumulants(DeviceArray(empty)).values.shape == (*empty.shape[:-1], 8)

    both(run)


def test_accumulator_of_a_device(both: Any) -> None:
    x = skewed(2, 300)

    def run(device: Any) -> Any:
        move: Any = DeviceArray if device == "cuda" else np.asarray
        acc = CumulantAccumulator(2, device=device)
        for part in np.split(np.arange(300), [1, 50, 120]):
            acc.update(move(x[:, part]))
        with pytest.raises(ValueError, match=r"x: expected \(2,\) and samples along axis, got \(7, 3\)"):
            acc.update(move(np.ones((7, 3))))
        return acc.result()

    hold(*both(run), x)


def test_what_a_device_refuses(both: Any) -> None:
    def run(device: str) -> None:
        if device == "cpu":
            return
        x, w = skewed(300), np.ones(300)
        w[200] = np.nan
        with pytest.raises(ValueError, match=r"^weights: expected finite numbers >= 0"):
            cumulants(DeviceArray(x), weights=DeviceArray(w))
        with pytest.raises(TypeError, match=r"^weights: expected float64 on a device, got float32"):
            cumulants(DeviceArray(x), weights=DeviceArray(w.astype("f4")))
        with pytest.raises(vf.TargetUnavailableError, match="weights: expected an array in host memory"):
            cumulants(x, weights=DeviceArray(w))
        with pytest.raises(vf.TargetUnavailableError, match="x: expected an array in host memory"):
            cumulants(DeviceArray(x), device="cpu")
        few = np.zeros(300)
        few[[5, 200]] = 1.0
        assert np.isnan(cumulants(DeviceArray(x), 3, weights=DeviceArray(few)).values.numpy()[2])

    both(run)
