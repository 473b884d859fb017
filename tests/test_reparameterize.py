"""Reparameterized samples against their definition, quadrature, central differences and torch's autograd."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import vfe_fast as vf
from oracles import reparam as oracle

LOCATION_SCALE = ("gaussian", "laplace", "logistic")
WITH_SPREAD = (*LOCATION_SCALE, "log_normal")
FAMILIES = (*WITH_SPREAD, "concrete", "gumbel_softmax")
DTYPES = (np.float32, np.float64)


def parameters(family: str, batch: int, n_latents: int, dtype: Any = np.float64, seed: int = 0) -> list[Any]:
    """mu and log_var, or logits and None: away from zero, no two alike."""
    rng = np.random.default_rng([seed, batch, n_latents])
    if family == "gumbel_softmax":
        return [(1.5 * rng.normal(size=(batch, n_latents, 5)) + 0.3).astype(dtype), None]
    mu = (rng.normal(size=(batch, n_latents)) - 0.4).astype(dtype)
    return [mu, None if family == "concrete" else (0.7 * rng.normal(size=mu.shape) - 0.5).astype(dtype)]


def options(family: str, given_prior: bool, dtype: Any = np.float64, n_latents: int = 7) -> dict[str, Any]:
    rng = np.random.default_rng(5)
    found: dict[str, Any] = {"family": family}
    if family not in WITH_SPREAD:
        found["temperature"] = 0.6
    if given_prior:
        row = (n_latents, 5) if family == "gumbel_softmax" else (n_latents,)
        prior = [rng.normal(size=row).astype(dtype), (0.5 * rng.normal(size=row) + 0.2).astype(dtype)]
        found["prior"] = prior if family in WITH_SPREAD else prior[0]
    return found


def exact_sample(family: str, mu: Any, log_var: Any, eps: Any, temperature: float = 1.0) -> Any:
    if family == "gumbel_softmax":
        y = (mu + eps) / temperature
        e = np.exp(y - y.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)
    if family == "concrete":
        return 1 / (1 + np.exp(-(mu + eps) / temperature))
    y = mu + np.exp(log_var / 2) * eps
    return np.exp(y) if family == "log_normal" else y


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shape", [(1, 1), (13, 7), (129, 20), (3, 1500)])
def test_sample_is_made_of_the_counter(target: str, shape: tuple[int, int], family: str, dtype: Any) -> None:
    """Element by element: noise of the element's own number, whole pieces and parts of them."""
    mu, log_var = parameters(family, *shape, dtype=dtype)
    z = vf.reparameterize(mu, log_var, 3, **options(family, False), rng=2**63 + 11, row_offset=5)
    assert z.sample.dtype == z.kl.dtype == z.log_q.dtype == dtype
    assert z.sample.shape == (3, *mu.shape)
    eps = oracle.noise(family, z.sample.shape, 2**63 + 11, dtype, row_offset=5)
    wide = [None if x is None else x.astype(np.float64) for x in (mu, log_var)]
    temperature = options(family, False).get("temperature", 1.0)
    expected = exact_sample(family, *wide, eps, temperature)
    # What rounding does to noise and location; the logistic oracle loses digits near 0.
    spread = np.abs(mu) + (1 + np.abs(eps)) * (1 if log_var is None else np.exp(log_var / 2))
    if family in ("log_normal", "gumbel_softmax", "concrete"):
        spread = np.abs(expected) * (1 + spread / temperature)
    assert (np.abs(z.sample - expected) <= 8 * np.finfo(dtype).eps * spread).all()


def results(family: str, mu: Any, log_var: Any, given_prior: bool, **more: Any) -> Any:
    chosen = options(family, given_prior, mu.dtype, mu.shape[1])
    return vf.reparameterize(mu, log_var, 2, **chosen, rng=3, **more)


@pytest.mark.parametrize("given_prior", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_central_differences(target: str, family: str, given_prior: bool) -> None:
    mu, log_var = parameters(family, 4, 7)
    z = results(family, mu, log_var, given_prior)
    rng = np.random.default_rng(9)
    to = [rng.normal(size=x.shape) for x in (z.sample, z.kl, z.log_q)]

    def loss(mu: Any, log_var: Any, used: tuple[int, ...]) -> float:
        found = results(family, mu, log_var, given_prior)
        every = (found.sample, found.kl, found.log_q)
        return float(sum((every[k] * to[k]).sum() for k in used))

    for used in [(0,), (1,), (2,), (0, 1, 2)]:
        found = z.backward(*(g if k in used else None for k, g in enumerate(to)))
        found = found if isinstance(found, tuple) else (found,)
        direction = [rng.normal(size=g.shape) for g in found]
        step = [1e-5 * d for d in direction] + [None]  # type: ignore[list-item]
        ahead, behind = (
            loss(mu + sign * step[0], None if log_var is None else log_var + sign * step[1], used)
            for sign in (1, -1)
        )
        analytic = sum(float((g * d).sum()) for g, d in zip(found, direction, strict=True))
        size = sum(float(np.abs(g * d).sum()) for g, d in zip(found, direction, strict=True))
        assert abs((ahead - behind) / 2e-5 - analytic) <= 1e-8 * size, used
