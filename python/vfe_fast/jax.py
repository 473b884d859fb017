"""Reparameterized samples and cumulants for JAX: under ``jit``, ``grad`` and ``vmap`` (extra ``jax``).

Not by ``jax.pure_callback``, which hands over arrays of JAX: where there is one thread, reading them waits
for the thread that is busy with the callback. The primitive below is lowered to the same call of jaxlib's
FFI, but reads the buffers of XLA as they are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from . import _core
from .arguments import count
from .random import seed
from .sampling.reparameterize import (
    RELAXED,
    Family,
    KernelArguments,
    Reparameterized,
    prepared,
    split_prior,
)
from .statistics.cumulants import MOST_ORDERS
from .statistics.cumulants import cumulants as cumulants_of
from .statistics.gradients import cumulants_backward

try:
    import jax
    from jax.extend.core import Primitive
    from jax.interpreters import batching, mlir
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f'vfe_fast.jax needs JAX >= 0.5: pip install "vfe_fast[jax]" ({error})', name=error.name
    ) from error

__all__ = ["Reparameterized", "cumulants", "reparameterize"]


jax.tree_util.register_pytree_node(
    Reparameterized,
    lambda z: ((z.sample, z.kl, z.log_q), z.family),
    lambda family, arrays: Reparameterized(arrays[0], arrays[1], arrays[2], family),
)


def reparameterize(
    mu: Any,
    log_var: Any = None,
    n_samples: int = 1,
    *,
    family: Family = "gaussian",
    prior: Any = None,
    temperature: float | None = None,
    rng: Any = None,
    row_offset: int = 0,
    num_threads: int | None = None,
) -> Reparameterized:
    """Draw samples with KL and log q, differentiable in `mu` and `log_var`.

    Families, equations and numbers are those of `vfe_fast.reparameterize`, bit for bit.

    Parameters
    ----------
    mu : array_like, (batch, n_latents)
        Locations, float32, or float64 if ``jax_enable_x64`` is on; for relaxed families the logits, and for
        ``gumbel_softmax`` of shape (batch, n_latents, n_categories).
    log_var : array_like, (batch, n_latents)
        Twice the logarithm of the scale. None for relaxed families.
    n_samples : int
        Samples of each row.
    family : str
        See `vfe_fast.reparameterize`.
    prior : tuple of array_like, or array_like
        (mean, log variance) of the normal prior; for relaxed families its logits. Not differentiated.
    temperature : float
        Of the relaxed families; 1 by default.
    rng : Array, int, numpy.random.Generator, numpy.random.SeedSequence or None
        An array of JAX: an integer, or a key of `jax.random` of two words, whose 64 bits are the seed. Under
        ``jit`` pass it as an argument: an int gives the same noise in every call, a Generator or None is an
        error. Otherwise see `vfe_fast.random.seed`.
    row_offset : int
        Rows that come before these in a batch that is cut into several calls.
    num_threads : int, optional
        Threads to use; the result does not depend on it.

    Returns
    -------
    Reparameterized
        Arrays of the dtype of `mu`, and a pytree. They can be differentiated once, in reverse mode.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or not finite. Under ``jit``, numbers that are not finite raise
        ``jax.errors.JaxRuntimeError`` with the same text when the result is waited for.
    TargetUnavailableError
        If the computation is not on the CPU.

    Examples
    --------
    >>> import jax
    >>> def loss(mu, log_var, seed):
    ...     return reparameterize(mu, log_var, n_samples=3, rng=seed).kl.sum()
    >>> step = jax.jit(jax.grad(loss))
    >>> step(np.float32([[0.5, -1.0]]), np.float32([[0.0, 0.2]]), np.uint32(7)).tolist()
    [[0.5, -1.0]]
    """
    location = _reals(mu, "mu")
    spread = None if log_var is None else _reals(log_var, "log_var", location.dtype)
    pair = [None if x is None else _reals(x, "prior", location.dtype) for x in split_prior(prior, family)]
    options = (family, n_samples, temperature, row_offset, num_threads)
    _refuse_early(location, spread, pair, options)
    sample, kl, log_q = _differentiable(location, spread, *pair, _words(rng), options)
    return Reparameterized(sample, kl, log_q, family)


def _reals(x: Any, name: str, dtype: Any = None) -> Any:
    """Turn it into an array of JAX, of its own precision; Python's numbers have that of the dtype given."""
    try:
        array = jax.numpy.asarray(x, None if hasattr(x, "dtype") else dtype)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: expected an array of numbers: {error}") from error
    if getattr(x, "dtype", array.dtype) != array.dtype:
        raise TypeError(f"{name}: expected {array.dtype}, got {x.dtype}, for which JAX needs jax_enable_x64")
    if array.dtype not in (np.float32, np.float64):
        raise TypeError(f"{name}: expected float32 or float64, got {array.dtype}")
    return array


def _words(rng: Any) -> Any:
    """The seed as an array: an integer, or its two words, since JAX may have no 64 bits."""
    if isinstance(rng, jax.Array):
        if jax.numpy.issubdtype(rng.dtype, jax.dtypes.prng_key):
            rng = jax.random.key_data(rng)
        if (rng.shape == () and rng.dtype.kind in "iu") or (rng.shape == (2,) and rng.dtype == np.uint32):
            return rng
        raise TypeError(f"rng: expected an integer or a key of two uint32, got {rng.dtype} of {rng.shape}")
    if not isinstance(rng, (int, np.integer)) and isinstance(jax.numpy.zeros(()), jax.core.Tracer):
        raise TypeError(f"rng: expected an int or an array of JAX under jit, got {type(rng).__name__}")
    key = seed(rng)
    return np.array([key >> 32, key & 0xFFFFFFFF], np.uint32)


def _refuse_early(location: Any, spread: Any, pair: Any, options: tuple[Any, ...]) -> None:
    """Check all but values, while the arguments' names are at hand and JAX adds nothing to the error."""
    expected = "(batch, n_latents, n_categories)" if options[0] == "gumbel_softmax" else "(batch, n_latents)"
    if location.ndim != expected.count(",") + 1:
        raise ValueError(f"mu: expected {expected}, got {location.shape}")
    given = [None if x is None else np.empty(x.shape, x.dtype) for x in (location, spread, *pair)]
    _prepared(given, 0, options)
    if (spread is not None) == (options[0] in RELAXED):
        raise TypeError(
            "log_var: expected (batch, n_latents), got None"
            if spread is None
            else "log_var: expected None, since relaxed families have logits alone"
        )
    if spread is not None and (spread.shape, spread.dtype) != (location.shape, location.dtype):
        expected, got = (f"{x.dtype} of {x.shape}" for x in (location, spread))
        raise ValueError(f"log_var: expected {expected}, got {got}")


def _prepared(arrays: Any, key: int, options: tuple[Any, ...]) -> KernelArguments:
    location, spread, mean, log_var = arrays
    family, n_samples, temperature, row_offset, num_threads = options
    return prepared(
        location, spread, n_samples, family, (mean, log_var), temperature, key, row_offset, num_threads
    )[0]


def _run(backward: bool, options: tuple[Any, ...], given: tuple[bool, ...], arrays: Any) -> tuple[Any, ...]:
    """Call a kernel with NumPy's views; of the arrays that may be missing, those that are `given`."""
    rest: Iterator[Any] = iter(arrays)
    every: list[Any] = [next(rest) if there else None for there in given]
    words, *inputs = every
    key = int(words[0]) << 32 | int(words[1]) if words.shape else seed(words[()])
    arguments = _prepared(inputs[:4], key, options)
    if not backward:
        return _core.reparameterize(*arguments)[:3]
    return tuple(g for g in _core.reparameterize_backward(*arguments, *inputs[4:]) if g is not None)


def _shapes(*arrays: Any, backward: bool, options: tuple[Any, ...], given: tuple[bool, ...]) -> Any:
    location = arrays[1]
    if backward:
        shapes = [location.shape] * (2 if given[2] else 1)
    else:
        shapes = [(options[1], *location.shape), location.shape[:1], (options[1], location.shape[0])]
    return [jax.core.ShapedArray(shape, location.dtype) for shape in shapes]


_ELSEWHERE = "{}: expected a computation on the CPU, got one on {}, for which this primitive has no kernel"


def _primitive(name: str, argument: str, run: Callable[..., Any], shapes: Callable[..., Any]) -> Any:
    """Make a primitive of JAX of a function of NumPy's arrays, whose first argument is called so."""
    call = Primitive(f"vfe_fast_{name}")
    call.multiple_results = True

    def at_once(*arrays: Any, **how: Any) -> list[Any]:
        for x in arrays:
            devices = x.devices() if isinstance(x, jax.Array) else ()  # constants of jax.checkpoint: NumPy's
            if any(device.platform != "cpu" for device in devices):
                raise _core.TargetUnavailableError(_ELSEWHERE.format(argument, devices))
        return [jax.numpy.asarray(x) for x in run(**how, arrays=[np.asarray(x) for x in arrays])]

    def lowered(ctx: Any, *operands: Any, **how: Any) -> Any:
        platforms = ctx.module_context.platforms
        if tuple(platforms) != ("cpu",):
            raise _core.TargetUnavailableError(_ELSEWHERE.format(argument, ", ".join(platforms)))
        return mlir.emit_python_callback(
            ctx, lambda *arrays: run(**how, arrays=arrays), None, operands, ctx.avals_in, ctx.avals_out,
            has_side_effect=False,
        )[0]  # fmt: skip

    def mapped(arrays: Any, axes: Any, **how: Any) -> Any:
        """Under vmap, one call after another."""
        moved = [
            x if axis is None else jax.numpy.moveaxis(x, axis, 0)
            for x, axis in zip(arrays, axes, strict=True)
        ]
        which = [k for k, axis in enumerate(axes) if axis is not None]

        def one(slices: Any) -> Any:
            these = dict(zip(which, slices, strict=True))
            return call.bind(*(these.get(k, x) for k, x in enumerate(moved)), **how)

        results = jax.lax.map(one, [moved[k] for k in which])
        return results, [0] * len(results)

    call.def_impl(at_once)
    call.def_abstract_eval(shapes)
    mlir.register_lowering(call, lowered)
    batching.primitive_batchers[call] = mapped
    return call


_call = _primitive("reparameterize", "mu", _run, _shapes)


def _bind(backward: bool, options: tuple[Any, ...], *inputs: Any) -> Any:
    given = tuple(x is not None for x in inputs)
    return _call.bind(
        *(jax.numpy.asarray(x) for x in inputs if x is not None),
        backward=backward, options=options, given=given,
    )  # fmt: skip


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def _differentiable(location: Any, spread: Any, mean: Any, log_var: Any, words: Any, options: Any) -> Any:
    return tuple(_bind(False, options, words, location, spread, mean, log_var))


def _ahead(location: Any, spread: Any, mean: Any, log_var: Any, words: Any, options: Any) -> Any:
    if any(x is not None and x.perturbed for x in (mean, log_var)):
        raise TypeError("prior: expected an array without gradient, got one that is differentiated by")
    inputs = [None if x is None else x.value for x in (words, location, spread, mean, log_var)]
    return tuple(_bind(False, options, *inputs)), inputs


def _back(options: Any, inputs: Any, grads: Any) -> Any:
    given = [None if isinstance(g, jax.custom_derivatives.SymbolicZero) else g for g in grads]
    grad_location, *grad_spread = _bind(True, options, *inputs, *given)
    return grad_location, *(grad_spread or [None]), None, None, None


_differentiable.defvjp(_ahead, _back, symbolic_zeros=True)


def cumulants(x: Any, order: int = 4, *, unbiased: bool = True) -> Any:
    """Cumulants along the first axis, differentiable.

    Estimates are those of `vfe_fast.cumulants`, without their errors.

    Parameters
    ----------
    x : array_like, (n, ...)
        Samples, float32, or float64 if ``jax_enable_x64`` is on.
    order : int
        Highest order, 1 to 8.
    unbiased : bool
        k-statistics, which need n >= order; otherwise the cumulants of the samples as they are.

    Returns
    -------
    Array, (..., order)
        Of the dtype of `x`. They can be differentiated once, in reverse mode.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.
    TargetUnavailableError
        If the computation is not on the CPU.

    Examples
    --------
    >>> import jax
    >>> V = jax.numpy.array([1.0, 2.0, 4.0, 9.0])
    >>> second_order = lambda V: -cumulants(V, 2)[0] + cumulants(V, 2)[1] / 2  # of ln <exp(-V)>
    >>> [round(g, 3) for g in jax.jit(jax.grad(second_order))(V).tolist()]
    [-1.25, -0.917, -0.25, 1.417]
    """
    samples = _reals(x, "x")
    n_orders = count(order, "order", 1, MOST_ORDERS + 1)
    least = n_orders if unbiased else 1
    if samples.ndim < 1 or len(samples) < least:
        raise ValueError(f"x: expected (n, ...), n >= {least}, got {samples.shape}")
    return _differentiable_cumulants(samples, n_orders, bool(unbiased))


def _run_cumulants(backward: bool, order: int, unbiased: bool, arrays: Any) -> tuple[Any, ...]:
    samples = np.asarray(arrays[0])
    if backward:
        found = cumulants_backward(samples, np.asarray(arrays[1]), unbiased=unbiased)
    else:
        found = cumulants_of(samples, order=order, axis=0, unbiased=unbiased).values
    return (np.asarray(found, samples.dtype),)


def _shapes_of_cumulants(*arrays: Any, backward: bool, order: int, unbiased: bool) -> Any:
    x = arrays[0]
    return [jax.core.ShapedArray(x.shape if backward else (*x.shape[1:], order), x.dtype)]


_call_cumulants = _primitive("cumulants", "x", _run_cumulants, _shapes_of_cumulants)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _differentiable_cumulants(x: Any, order: int, unbiased: bool) -> Any:
    return _call_cumulants.bind(x, backward=False, order=order, unbiased=unbiased)[0]


def _ahead_of_cumulants(x: Any, order: int, unbiased: bool) -> Any:
    return _differentiable_cumulants(x, order, unbiased), x


def _back_from_cumulants(order: int, unbiased: bool, x: Any, gradient: Any) -> Any:
    return tuple(_call_cumulants.bind(x, gradient, backward=True, order=order, unbiased=unbiased))


_differentiable_cumulants.defvjp(_ahead_of_cumulants, _back_from_cumulants)
