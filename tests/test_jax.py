"""Reparameterized samples in JAX: NumPy's numbers bit for bit, at once and compiled."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vfe_fast as vf
from test_reparameterize import DTYPES, FAMILIES, options, parameters

jax = pytest.importorskip("jax")
vfj = pytest.importorskip("vfe_fast.jax", exc_type=ImportError)

DOCS = Path(__file__).parents[1] / "docs"
KEY = (2**31 + 5) << 32 | 11
FRAMES = pytest.mark.parametrize("jit", [False, True], ids=["at once", "jit"])


@pytest.fixture(autouse=True)
def keep_precision() -> Iterator[None]:
    before = jax.config.jax_enable_x64
    yield
    jax.config.update("jax_enable_x64", before)


def use(dtype: Any) -> None:
    jax.config.update("jax_enable_x64", dtype is np.float64)


def results(z: Any) -> tuple[Any, Any, Any]:
    return z.sample, z.kl, z.log_q


def words(key: int) -> Any:
    return jax.numpy.array([key >> 32, key & 0xFFFFFFFF], dtype=np.uint32)


@FRAMES
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("given_prior", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_same_bits_as_numpy(family: str, given_prior: bool, dtype: Any, jit: bool) -> None:
    """Results, and gradients of each of them alone and of all."""
    use(dtype)
    given = [x for x in parameters(family, 4, 7, dtype) if x is not None]
    chosen = options(family, given_prior, dtype)
    z = vf.reparameterize(given[0], *given[1:] or [None], 3, **chosen, rng=KEY, row_offset=5)
    to = [np.random.default_rng(k).normal(size=x.shape).astype(dtype) for k, x in enumerate(results(z))]
    for used in [(0,), (1,), (2,), (0, 1, 2)]:

        def loss(given: Any, key: Any, used: tuple[int, ...] = used) -> Any:
            y = vfj.reparameterize(given[0], *given[1:] or [None], 3, **chosen, rng=key, row_offset=5)
            return sum((results(y)[k] * to[k]).sum() for k in used), y

        function = jax.value_and_grad(loss, has_aux=True)
        (_, found), gradients = (jax.jit(function) if jit else function)(given, words(KEY))
        assert found.kl_kind == z.kl_kind
        for mine, theirs in zip(results(found), results(z), strict=True):
            np.testing.assert_array_equal(np.asarray(mine), theirs, strict=True)
        expected = z.backward(*(to[k] if k in used else None for k in range(3)))
        expected = expected if isinstance(expected, tuple) else (expected,)
        for mine, theirs in zip(gradients, expected, strict=True):
            np.testing.assert_array_equal(np.asarray(mine), theirs, strict=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_central_differences(family: str) -> None:
    use(np.float64)
    given = [x for x in parameters(family, 3, 7) if x is not None]
    chosen = options(family, True)
    rng = np.random.default_rng(9)

    @jax.jit
    def loss(given: Any) -> Any:
        z = vfj.reparameterize(given[0], *given[1:] or [None], 2, **chosen, rng=7)
        first = z.sample.reshape(*z.log_q.shape, -1)[..., 0]
        return (z.sample**2).sum() + 0.3 * (z.kl**2).sum() - 0.7 * (z.log_q * first).sum()

    direction = [rng.normal(size=x.shape) for x in given]
    ahead, behind = (
        loss([x + sign * 1e-5 * d for x, d in zip(given, direction, strict=True)]) for sign in (1, -1)
    )
    pieces = [g * d for g, d in zip(jax.jit(jax.grad(loss))(given), direction, strict=True)]
    size = sum(float(np.abs(x).sum()) for x in pieces)
    assert abs(float(ahead - behind) / 2e-5 - sum(float(x.sum()) for x in pieces)) <= 1e-8 * size


def test_seeds() -> None:
    """An argument under jit, of every kind; ints and NumPy's generators outside of it."""
    mu, log_var = parameters("gaussian", 4, 7, np.float32)
    draw = jax.jit(lambda seed: vfj.reparameterize(mu, log_var, rng=seed).sample)

    def expected(seed: Any) -> Any:
        return vf.reparameterize(mu, log_var, rng=seed).sample

    for seed in (0, 3, 2**31 - 1):
        for given in (
            seed,
            np.int32(seed),
            np.uint32(seed),
            words(seed),
            jax.random.key(seed),
            jax.random.PRNGKey(seed),
        ):
            np.testing.assert_array_equal(draw(given), expected(seed))
    np.testing.assert_array_equal(draw(np.uint32(2**32 - 1)), expected(2**32 - 1))
    np.testing.assert_array_equal(draw(words(KEY)), expected(KEY))
    assert draw._cache_size() == 5  # kinds of seeds, not seeds
    np.testing.assert_array_equal(vfj.reparameterize(mu, log_var, rng=KEY).sample, expected(KEY))
    rngs = (np.random.default_rng(1), np.random.default_rng(1))
    np.testing.assert_array_equal(vfj.reparameterize(mu, log_var, rng=rngs[0]).sample, expected(rngs[1]))
    jax.config.update("jax_enable_x64", True)
    np.testing.assert_array_equal(draw(np.uint64(KEY)), expected(KEY))
    with pytest.raises(jax.errors.JaxRuntimeError, match="rng: expected 0 <= seed"):
        draw(-1).block_until_ready()


def test_transformations() -> None:
    """Under vmap, scan and checkpoint."""
    mu, log_var = parameters("gaussian", 4, 7, np.float32)
    both = np.stack([mu, mu + 1], axis=1)

    def draw(mu: Any, seed: Any) -> Any:
        return vfj.reparameterize(mu, log_var, rng=seed).sample

    def gradient(mu: Any, seed: Any) -> Any:
        return jax.grad(lambda mu: (draw(mu, seed) ** 2).sum())(mu)

    seeds = np.arange(2, dtype=np.uint32)
    for function in (draw, gradient):
        expected = [function(x, seed) for x, seed in zip((mu, mu + 1), seeds, strict=True)]
        for way in (lambda f: f, jax.jit):
            found = way(jax.vmap(function, in_axes=(1, 0)))(both, seeds)
            np.testing.assert_array_equal(found, np.stack(expected))
    expected = mu
    for seed in range(3):
        expected = expected - 0.1 * gradient(expected, seed)
    step = lambda mu, seed: (mu - 0.1 * gradient(mu, seed), None)  # noqa: E731
    found, _ = jax.lax.scan(step, jax.numpy.asarray(mu), np.arange(3))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    for way in (lambda f: f, jax.jit):
        kept = way(jax.grad(jax.checkpoint(lambda mu: (draw(mu, 1) ** 2).sum())))(mu)
        np.testing.assert_array_equal(kept, gradient(mu, 1))


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "words": (lambda mu, s: vfj.reparameterize("x", s), TypeError, "mu: expected an array"),
    "ints": (lambda mu, s: vfj.reparameterize([[1]], s), TypeError, "mu: expected float32 or"),
    "double": (lambda mu, s: vfj.reparameterize(mu.astype(float), s), TypeError, "mu:.*jax_enable_x64"),
    "half": (lambda mu, s: vfj.reparameterize(mu, s.astype("e")), TypeError, "log_var: expected float32"),
    "shape": (
        lambda mu, s: vfj.reparameterize(mu, s[:2], rng=0),
        ValueError,
        r"log_var: expected .*\(4, 7\)",
    ),
    "1-d": (lambda mu, s: vfj.reparameterize(mu[0], s[0]), ValueError, r"mu: expected \(batch, n_l"),
    "none": (lambda mu, s: vfj.reparameterize(mu, rng=0), TypeError, "log_var: expected"),
    "too many": (
        lambda mu, s: vfj.reparameterize(mu, s, family="concrete", rng=0),
        TypeError,
        "log_var: expected None",
    ),
    "family": (lambda mu, s: vfj.reparameterize(mu, s, family="x"), ValueError, "family: expected one"),
    "n_samples": (lambda mu, s: vfj.reparameterize(mu, s, 2.5), TypeError, "n_samples: expected"),
    "heat": (lambda mu, s: vfj.reparameterize(mu, s, temperature=2), ValueError, "temperature: expected"),
    "offset": (lambda mu, s: vfj.reparameterize(mu, s, row_offset=-1), ValueError, "row_offset: expected"),
    "rng": (lambda mu, s: vfj.reparameterize(mu, s, rng=-1), ValueError, "rng: expected"),
    "rng x": (lambda mu, s: vfj.reparameterize(mu, s, rng=s), TypeError, "rng: expected"),
    "rng 3": (
        lambda mu, s: vfj.reparameterize(mu, s, rng=jax.numpy.ones(3)),
        TypeError,
        "rng: expected an int",
    ),
    "prior": (lambda mu, s: vfj.reparameterize(mu, s, prior=3), TypeError, r"prior: expected \(mean"),
    "prior 3": (lambda mu, s: vfj.reparameterize(mu, s, prior=(mu[0, :3], 0)), ValueError, "prior: expected"),
}


@FRAMES
@pytest.mark.parametrize("name", REFUSED)
def test_errors_name_the_argument(name: str, jit: bool) -> None:
    """All but what depends on values is found when the function is traced."""
    call, kind, message = REFUSED[name]
    mu, log_var = parameters("gaussian", 4, 7, np.float32)
    with pytest.raises(kind, match=f"^{message}"):
        (jax.jit(lambda: call(mu, log_var)) if jit else lambda: call(mu, log_var))()


def test_lists_have_the_precision_of_mu() -> None:
    use(np.float64)
    z = vfj.reparameterize(np.float32([[1, 2]]), [[0.5, 0.0]], prior=([0.1, 0.2], 0.3), rng=0)
    expected = vf.reparameterize(np.float32([[1, 2]]), [[0.5, 0.0]], prior=([0.1, 0.2], 0.3), rng=0)
    np.testing.assert_array_equal(np.asarray(z.kl), expected.kl, strict=True)


def test_numbers_that_are_not_finite() -> None:
    mu, log_var = parameters("gaussian", 4, 7, np.float32)
    mu[2, 3] = np.nan
    with pytest.raises(ValueError, match=r"^mu: expected finite numbers"):
        vfj.reparameterize(mu, log_var, rng=0)
    with pytest.raises(jax.errors.JaxRuntimeError, match=r"mu: expected finite numbers, got nan at \(2, 3\)"):
        jax.jit(lambda mu: vfj.reparameterize(mu, log_var, rng=0).kl)(mu).block_until_ready()


def test_what_jax_refuses() -> None:
    mu, log_var = parameters("gaussian", 4, 7, np.float32)
    for way in (lambda f: f, jax.jit):
        with pytest.raises(TypeError, match=r"^prior: expected an array without gradient"):
            way(jax.grad(lambda m: vfj.reparameterize(mu, log_var, prior=(m, 0.0), rng=0).kl.sum()))(0.5)
        for rng in (None, np.random.default_rng(0)):
            with pytest.raises(TypeError, match=r"^rng: expected an int or an array of JAX under jit"):
                jax.jit(lambda mu, rng=rng: vfj.reparameterize(mu, log_var, rng=rng).kl)(mu)
        with pytest.raises(TypeError, match="forward-mode"):
            jax.jvp(way(lambda mu: vfj.reparameterize(mu, log_var, rng=0).kl), (mu,), (mu,))
    a, b = (jax.grad(lambda mu: (vfj.reparameterize(mu, log_var).sample ** 2).sum())(mu) for _ in range(2))
    assert (np.asarray(a) != np.asarray(b)).all()  # a seed of its own outside jit


def test_one_processor() -> None:
    """Where `jax.pure_callback` waits for ever: arrays of some size, and one thread."""
    code = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import jax
import jax.numpy as jnp
import vfe_fast.jax
step = jax.jit(jax.grad(lambda mu, seed: vfe_fast.jax.reparameterize(jnp.sin(mu), mu, rng=seed).kl.sum()))
mu = jnp.ones((2000, 256))
for seed in range(5):
    mu = mu - 0.1 * step(mu, seed)
mu.block_until_ready()
"""
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("needs sched_setaffinity")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_without_jax() -> None:
    code = "import sys; sys.modules['jax'] = None; import vfe_fast.jax"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ModuleNotFoundError: vfe_fast.jax needs JAX" in done.stderr
    assert 'pip install "vfe_fast[jax]"' in done.stderr
    code = "import sys, vfe_fast; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def example(page: str) -> dict[str, Any]:
    """What the example of a page leaves."""
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
    (code,) = (block for block in blocks if "vfe_fast.jax" in block)
    names: dict[str, Any] = {}
    exec(compile(code, page, "exec"), names)
    return names


def test_documented_example() -> None:
    """What docs/reparameterize.md shows runs, and learns."""
    names = example("reparameterize.md")
    loss, x, w, v = (names[name] for name in ("loss", "x", "w", "v"))
    assert loss(w, v, x, 1000) < 0.65 * loss(0 * w, 0 * v, x, 1000)  # what they have in common is learned


def test_documented_autoencoder() -> None:
    """That of docs/vae.md learns, and stays near -ln p(x), a normal law's, of the decoder it has learned."""
    names = example("vae.md")
    x, decoder = (np.asarray(a, np.float64) for a in (names["x"], names["weights"]["decoder"]))
    covariance = decoder.T @ decoder + np.eye(20)
    truth = 0.5 * ((x @ np.linalg.inv(covariance) * x).sum(1).mean() + np.linalg.slogdet(covariance)[1])
    losses = np.array(names["losses"]) + 1.5 * np.log(2 * np.pi)  # left out of ln p(z), 20 of ln p(x|z)
    assert losses[:10].mean() - losses[-10:].mean() > 2
    assert truth < losses[-10:].mean() < truth + 0.3


@FRAMES
@pytest.mark.parametrize("unbiased", [False, True])
def test_cumulants(unbiased: bool, jit: bool) -> None:
    """NumPy's numbers; gradients by central differences; under vmap; float32 in float32."""
    use(np.float64)
    x = np.random.default_rng(0).gamma(2.0, size=(12, 3))
    call = lambda y: vfj.cumulants(y, 8, unbiased=unbiased)  # noqa: E731
    call = jax.jit(call) if jit else call
    np.testing.assert_array_equal(call(x), vf.cumulants(x, order=8, axis=0, unbiased=unbiased).values)
    to = np.random.default_rng(1).normal(size=(3, 8)) / x.std(axis=0)[:, None] ** np.arange(1, 9)
    gradient = jax.grad(lambda y: (call(y) * to).sum())(x)
    for at in ((0, 0), (7, 2)):
        ends = []
        for sign in (1, -1):
            moved = x.copy()
            moved[at] += sign * 1e-5
            ends.append(float((np.asarray(call(moved)) * to).sum()))
        assert gradient[at] == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6)
    one_by_one = jax.vmap(call, in_axes=1)(x)
    np.testing.assert_array_equal(one_by_one, call(x))
    assert call(x.astype(np.float32)).dtype == np.float32


def test_cumulants_of_what_has_none() -> None:
    with pytest.raises(ValueError, match=r"^x: expected \(n, \.\.\.\), n >= 4, got \(3, 2\)"):
        vfj.cumulants(np.zeros((3, 2), np.float32), 4)
    with pytest.raises(ValueError, match=r"^x: expected \(n, \.\.\.\), n >= 1, got \(0, 2\)"):
        vfj.cumulants(np.zeros((0, 2), np.float32), 4, unbiased=False)
    with pytest.raises(ValueError, match="order"):
        vfj.cumulants(np.zeros((30, 2), np.float32), 9)
