"""The CUDA twin of `reparam` against the CPU kernel, in small cases: the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import vfe_fast as vf
from oracles import reparam as oracle
from vfe_fast import _core
from vfe_fast.device import DeviceArray

WITH_SPREAD = ("gaussian", "laplace", "logistic", "log_normal")
FAMILIES = (*WITH_SPREAD, "concrete", "gumbel_softmax")


def arguments(family: str, shape: tuple[int, ...], dtype: Any, prior_rows: int | None) -> dict[str, Any]:
    """No two rows or columns alike."""
    rng = np.random.default_rng([3, *shape])
    if family == "gumbel_softmax":
        shape = (*shape, 5)
    draw = lambda *sizes: (rng.normal(size=sizes) - 0.4).astype(dtype)  # noqa: E731
    found: dict[str, Any] = {"family": family, "mu": draw(*shape)}
    prior = None if prior_rows is None else [draw(*(shape if prior_rows else shape[1:])) for _ in range(2)]
    if family in WITH_SPREAD:
        return found | {"log_var": draw(*shape), "prior": prior}
    return found | {"temperature": 0.6, "prior": None if prior is None else prior[0]}


def every_result(z: Any, given: tuple[Any, ...]) -> list[Any]:
    gradients = z.backward(*given)
    return [z.sample, z.kl, z.log_q, *(gradients if isinstance(gradients, tuple) else (gradients,))]


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1), (70, 3), (9, 127), (5, 128), (3, 333)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("family", FAMILIES)
def test_reparameterize(both: Any, family: str, dtype: Any, shape: tuple[int, int]) -> None:
    for prior_rows, n_samples, row_offset in ((None, 1, 0), (0, 3, 7), (1, 2, 2**33 + 1)):
        chosen = arguments(family, shape, dtype, prior_rows) | {"n_samples": n_samples, "rng": 2**40 + 3}

        def run(device: Any, chosen: Any = chosen, row_offset: int = row_offset) -> Any:
            z = vf.reparameterize(**chosen, row_offset=row_offset, device=device)
            whole = tuple(
                np.cos(np.arange(x.size)).reshape(x.shape).astype(dtype) for x in (z.sample, z.kl, z.log_q)
            )
            found = every_result(z, whole)
            for k in range(3):
                part = tuple(x if i == k else None for i, x in enumerate(whole))
                found += every_result(z, part)[3:]
            return found

        cpu, cuda = both(run)
        for a, b in zip(cpu, cuda, strict=True):
            assert a.dtype == b.dtype
            assert np.array_equal(a, b)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(13, 7), (2, 150)])
def test_noise_is_that_of_the_oracle(both: Any, shape: tuple[int, int], dtype: Any) -> None:
    zeros = np.zeros(shape, dtype)
    for family in ("gaussian", "laplace", "logistic"):
        _, cuda = both(
            lambda device, family=family: (
                vf.reparameterize(zeros, zeros, 3, family=family, rng=5, row_offset=9, device=device).sample
            )
        )
        expected = oracle.noise(family, cuda.shape, 5, dtype, row_offset=9)
        assert np.abs(cuda - expected).max() <= 1e3 * np.finfo(dtype).eps


@pytest.mark.parametrize("family", WITH_SPREAD)
@pytest.mark.parametrize("width", [5, 140])
def test_extremes(both: Any, family: str, width: int) -> None:
    mu = np.full((2, width), 1e30, np.float32)
    log_var = np.linspace(-200, 200, 2 * width, dtype=np.float32).reshape(2, width)
    cpu, cuda = both(
        lambda device: every_result(
            vf.reparameterize(mu, log_var, family=family, rng=1, device=device),
            (None, np.ones(2, np.float32)),
        )
    )
    for a, b in zip(cpu, cuda, strict=True):
        assert np.array_equal(a, b, equal_nan=True)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("width", [5, 140])
def test_what_is_not_finite_is_found(both: Any, family: str, width: int) -> None:
    chosen = arguments(family, (3, width), np.float64, None)
    good = both(lambda device: vf.reparameterize(**chosen, rng=1, device=device))[1]
    with pytest.raises(ValueError, match=r"grad_kl: .* got nan at \(2,\)"):
        good.backward(grad_kl=[0.0, 1.0, np.nan])
    chosen["mu"][1, 3] = np.nan
    with pytest.raises(ValueError, match=r"mu: .* got nan at \(1, 3"):
        vf.reparameterize(**chosen, rng=1, device="cuda")


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (9, 5), (3, 140)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("family", FAMILIES)
def test_arrays_of_a_device(both: Any, family: str, dtype: Any, shape: tuple[int, int]) -> None:
    """The results are there, too, backward as well; of the prior, as much as the kernel reads."""

    def run(device: str) -> list[Any]:
        found = []
        move: Any = DeviceArray if device == "cuda" else np.asarray
        for prior_rows in (None, 0, 1):
            chosen = arguments(family, shape, dtype, prior_rows)
            mu, prior = chosen.pop("mu"), chosen.pop("prior")
            if prior is not None:
                prior = tuple(map(move, prior)) if isinstance(prior, list) else move(prior)
            chosen |= {name: move(chosen[name]) for name in ("log_var",) if name in chosen}
            z = vf.reparameterize(move(mu), **chosen, prior=prior, n_samples=2, rng=3)
            given = [np.cos(np.arange(x.size)).astype(dtype) for x in map(in_host, (z.sample, z.kl, z.log_q))]
            whole = tuple(g.reshape(x.shape) for g, x in zip(given, (z.sample, z.kl, z.log_q), strict=True))
            results = every_result(z, tuple(map(move, whole)))
            assert device == "cpu" or all(_core.on_device(x.array) for x in results)
            found += map(in_host, results)
        return found

    cpu, cuda = both(run)
    for a, b in zip(cpu, cuda, strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert np.array_equal(a, b)


def in_host(x: Any) -> np.ndarray:
    return x.numpy() if isinstance(x, DeviceArray) else x


def test_arrays_of_here_and_there(both: Any) -> None:
    """Results are where mu is."""
    mu, log_var = (np.linspace(a, 1, 12, dtype=np.float32).reshape(3, 4) for a in (-1, 0.3))
    expected = vf.reparameterize(mu, log_var, rng=2, prior=(0.2, 0.1)).sample

    def run(device: str) -> Any:
        if device == "cuda":
            there = vf.reparameterize(DeviceArray(mu), log_var, rng=2, prior=(0.2, 0.1))
            assert np.array_equal(there.sample.numpy(), expected)
            (grad, _) = there.backward(grad_kl=np.ones(3, np.float32))
            assert isinstance(grad, DeviceArray)
            here = vf.reparameterize(mu, DeviceArray(log_var), rng=2, prior=(0.2, 0.1), device="cuda")
            assert np.array_equal(here.sample, expected)

    both(run)


def test_what_a_device_refuses(both: Any) -> None:
    def run(device: str) -> None:
        if device == "cpu":
            return
        mu = np.zeros((3, 4), np.float32)
        there, bad = DeviceArray(mu), mu.copy()
        across = DeviceArray.of(there.array.T)
        bad[2, 1] = np.inf
        with pytest.raises(ValueError, match="mu: expected an array in C order"):
            vf.reparameterize(across, DeviceArray(mu.T))
        with pytest.raises(ValueError, match="log_var: expected an array in C order"):
            vf.reparameterize(DeviceArray(mu.T), DeviceArray.of(there.array.T))
        with pytest.raises(ValueError, match="prior: expected an array in C order"):
            vf.reparameterize(there, there, prior=(DeviceArray(np.zeros(1, np.float32)), 0.0))
        with pytest.raises(ValueError, match="prior: expected an array in C order"):
            vf.reparameterize(there, there, prior=(there, DeviceArray(np.zeros(4, np.float32))))
        with pytest.raises(ValueError, match=r"log_var: expected finite numbers, got inf at \(2, 1\)"):
            vf.reparameterize(there, DeviceArray(bad))
        with pytest.raises(ValueError, match=r"grad_log_q: expected finite numbers, got nan at \(0, 1\)"):
            vf.reparameterize(there, there).backward(grad_log_q=DeviceArray(np.array([[0, np.nan, 0]], "f4")))
        with pytest.raises(vf.TargetUnavailableError, match="mu: expected an array in host memory"):
            vf.reparameterize(there, there, device="cpu")

    both(run)
