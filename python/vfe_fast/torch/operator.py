"""Reparameterized samples as an operator of PyTorch: autograd, ``torch.compile``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import forward_ad

from .. import _core
from ..arguments import count, real, threads
from ..random import seed
from ..sampling.reparameterize import Family, KernelArguments, Reparameterized, prepared, split_prior
from .densities import standard_normal_log_density

__all__ = ["reparameterize"]


def reparameterize(
    mu: torch.Tensor,
    log_var: torch.Tensor | None = None,
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

    Families, equations and numbers are those of `vfe_fast.reparameterize`, bit for bit. Tensors that are
    contiguous are read where they are; others, such as the gradient of a sum, are copied first.

    Parameters
    ----------
    mu : Tensor, (batch, n_latents)
        Locations, float32 or float64, in host memory; for relaxed families the logits, and for
        ``gumbel_softmax`` of shape (batch, n_latents, n_categories).
    log_var : Tensor, (batch, n_latents)
        Twice the logarithm of the scale. None for relaxed families.
    n_samples : int
        Samples of each row.
    family : str
        See `vfe_fast.reparameterize`.
    prior : tuple of tensors or numbers, or tensor or number
        (mean, log variance) of the normal prior; for relaxed families its logits. Not differentiated.
    temperature : float
        Of the relaxed families; 1 by default.
    rng : int, numpy.random.Generator, numpy.random.SeedSequence or None
        See `vfe_fast.random.seed`. A compiled function takes the int as an argument: of a Generator or None,
        `torch.compile` breaks the graph, so that no seed is compiled in.
    row_offset : int
        Rows that come before these in a batch that is cut into several calls.
    num_threads : int, optional
        Threads to use; the result does not depend on it.

    Returns
    -------
    Reparameterized
        Tensors of the dtype of `mu`. They can be differentiated once.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or not finite.
    TargetUnavailableError
        If a tensor lives on a device for which there is no kernel.

    Examples
    --------
    >>> mu, log_var = torch.tensor([[0.5, -1.0]], requires_grad=True), torch.tensor([[0.0, 0.2]])
    >>> z = reparameterize(mu, log_var, n_samples=3, rng=0)
    >>> z.kl.sum().backward()
    >>> mu.grad
    tensor([[ 0.5000, -1.0000]])
    """
    _check(mu, "mu")
    if log_var is not None:
        _check(log_var, "log_var")
    if not isinstance(family, str):
        raise TypeError(f"family: expected a str, got {type(family).__name__}")
    prior_mean, prior_log_var = (_constant(x, mu) for x in split_prior(prior, family))
    arguments = (
        mu, log_var, prior_mean, prior_log_var, family, count(n_samples, "n_samples"),
        None if temperature is None else real(temperature, "temperature"), _signed(rng),
        count(row_offset, "row_offset", 0), threads(num_threads),
    )  # fmt: skip
    plain = is_plain(mu)
    if not (plain or torch.compiler.is_compiling()):
        _refuse_tangents(mu, log_var)
    sample, kl, log_q = _Call.apply(*arguments) if plain else _forward(*arguments)
    return Reparameterized(sample, kl, log_q, family)


def _check(x: Any, name: str) -> None:
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(x).__name__}")
    if x.device.type not in ("cpu", "meta"):
        raise _core.TargetUnavailableError(
            f"{name}: expected a tensor in host memory, got one on {x.device}; "
            "the operator has no CUDA kernel, but vfe_fast.reparameterize takes arrays on a device"
        )
    if x.layout != torch.strided:
        raise TypeError(f"{name}: expected a dense tensor, got one of {x.layout}")
    if x.dtype != torch.float32 and x.dtype != torch.float64:
        raise TypeError(f"{name}: expected float32 or float64, got {x.dtype}")


def has_tangent(x: torch.Tensor) -> bool:
    """Whether a forward derivative goes with it."""
    return forward_ad.unpack_dual(x).tangent is not None


def _refuse_tangents(*tensors: torch.Tensor | None) -> None:
    """Of forward mode, for which PyTorch would take an operator's derivative for 0."""
    for x in tensors:
        if x is not None and has_tangent(x):
            raise RuntimeError("mu, log_var: expected tensors without tangents, got a forward derivative")


def _constant(x: Any, mu: torch.Tensor) -> torch.Tensor | None:
    """Part of a prior as a tensor; the kernel does not differentiate by it, and this says so."""
    if x is None:
        return None
    if not isinstance(x, torch.Tensor):
        try:
            return torch.as_tensor(x, dtype=mu.dtype, device=mu.device)
        except (RuntimeError, TypeError, ValueError) as error:
            raise TypeError(f"prior: expected tensors or numbers: {error}") from error
    _check(x, "prior")
    if x.requires_grad and torch.is_grad_enabled():
        raise TypeError("prior: expected a tensor without gradient, got one that requires it")
    return x


def _signed(rng: Any) -> int:
    """The key as operators take it: their integers have a sign."""
    key = seed(rng) if isinstance(rng, int) else _fresh(rng)
    return key - (1 << 64) if key >= 1 << 63 else key


@torch.compiler.disable(reason="rng: pass an int, for a seed drawn here would be a constant")
def _fresh(rng: Any) -> int:
    """Draw a key where it cannot become a constant of a compiled function."""
    return seed(rng)


_OPTIONS = "str family, SymInt n_samples, float? temperature, SymInt seed, SymInt row_offset, int num_threads"
_INPUTS = "Tensor mu, Tensor? log_var, Tensor? prior_mean, Tensor? prior_log_var"
_GRADIENTS = "Tensor? grad_sample, Tensor? grad_kl, Tensor? grad_log_q"


def _arguments(inputs: tuple[Any, ...], options: tuple[Any, ...]) -> KernelArguments:
    """What both kernels take, as views of the tensors."""
    mu, log_var, prior_mean, prior_log_var = map(_array, inputs)
    family, n_samples, temperature, key, row_offset, num_threads = options
    return prepared(
        mu, log_var, n_samples, family, (prior_mean, prior_log_var), temperature, key % (1 << 64), row_offset,
        num_threads or None,
    )[0]  # fmt: skip


def _array(x: torch.Tensor | None) -> Any:
    return None if x is None else x.detach().contiguous().numpy()


def _draw(
    mu: Any, log_var: Any, prior_mean: Any, prior_log_var: Any, *options: Any
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    results = _core.reparameterize(*_arguments((mu, log_var, prior_mean, prior_log_var), options))
    sample, kl, log_q = map(torch.from_numpy, results[:3])
    return sample, kl, log_q


def _shapes(mu: torch.Tensor, n_samples: int) -> tuple[torch.Tensor, ...]:
    """Of samples, KL and log q."""
    shapes = (n_samples, *mu.shape), mu.shape[:1], (n_samples, mu.shape[0])
    return tuple(mu.new_empty(shape) for shape in shapes)


def _pull(
    grad_sample: Any, grad_kl: Any, grad_log_q: Any, mu: Any, log_var: Any, prior_mean: Any,
    prior_log_var: Any, *options: Any,
) -> list[torch.Tensor]:  # fmt: skip
    arguments = _arguments((mu, log_var, prior_mean, prior_log_var), options)
    found = _core.reparameterize_backward(*arguments, *map(_array, (grad_sample, grad_kl, grad_log_q)))
    return [torch.from_numpy(g) for g in found if g is not None]


def _pull_shapes(*arguments: Any) -> list[torch.Tensor]:
    return [x.new_empty(x.shape) for x in arguments[3:5] if x is not None]


# Not by `custom_op`, which calls each function through five of its own.
_library = torch.library.Library("vfe_fast", "DEF")


def _operator(name: str, schema: str, kernel: Callable[..., Any], shapes: Callable[..., Any]) -> Any:
    _library.define(name + schema, tags=torch.Tag.pt2_compliant_tag)
    _library.impl(name, kernel, "CPU")
    torch.library.register_fake(f"vfe_fast::{name}", shapes, lib=_library)
    return getattr(torch.ops.vfe_fast, name).default


_forward = _operator(
    "reparameterize",
    f"({_INPUTS}, {_OPTIONS}) -> (Tensor, Tensor, Tensor)",
    _draw,
    lambda *inputs: _shapes(inputs[0], inputs[5]),
)
_backward = _operator(
    "reparameterize_backward", f"({_GRADIENTS}, {_INPUTS}, {_OPTIONS}) -> Tensor[]", _pull, _pull_shapes
)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.options = inputs[4:]
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, grad_sample: Any, grad_kl: Any, grad_log_q: Any) -> tuple[Any, ...]:
    grad_mu, *grad_log_var = _backward(grad_sample, grad_kl, grad_log_q, *ctx.saved_tensors, *ctx.options)
    return (grad_mu, grad_log_var[0] if grad_log_var else None, *(None,) * (2 + len(ctx.options)))


def _refuse(ctx: Any, *grads: Any) -> Any:
    raise RuntimeError(
        "samples, densities and bounds: expected to be differentiated by once, got a gradient's gradient"
    )


torch.library.register_autograd("vfe_fast::reparameterize", _differentiate, setup_context=_keep, lib=_library)
torch.library.register_autograd("vfe_fast::reparameterize_backward", _refuse, lib=_library)


def is_plain(mu: torch.Tensor) -> bool:
    """Whether nothing traces, compiles or transforms what is called."""
    return (
        type(mu) in (torch.Tensor, torch.nn.Parameter)
        and mu.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
        and not torch._C._len_torch_dispatch_stack()
        and not torch._C._functorch.is_legacy_batchedtensor(mu)
    )


def once(backward: Callable[..., tuple[Any, ...]]) -> Callable[..., tuple[Any, ...]]:
    """As PyTorch's `once_differentiable`, which takes gradients for constants if those they come from are."""

    @functools.wraps(backward)
    def checked(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        with torch.no_grad():
            found = backward(ctx, *grads)
        if torch.is_grad_enabled():
            found = tuple(None if g is None else _NotTwice.apply(g, *ctx.saved_tensors) for g in found)
        return found

    return checked


class _NotTwice(torch.autograd.Function):
    """A gradient as a function of the parameters, which has no derivatives."""

    @staticmethod
    def forward(ctx: Any, gradient: torch.Tensor, *parameters: Any) -> torch.Tensor:
        return gradient.view_as(gradient)

    backward = staticmethod(_refuse)


class _Call(torch.autograd.Function):
    """The same where nothing is compiled, in a fraction of what PyTorch spends on a call of an operator."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Any:
        _keep(ctx, inputs, None)
        return _draw(*inputs)

    @staticmethod
    @once
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        grad_mu, *grad_log_var = _pull(*grads, *ctx.saved_tensors, *ctx.options)
        return (grad_mu, grad_log_var[0] if grad_log_var else None, *(None,) * (2 + len(ctx.options)))


class _CallWithPrior(torch.autograd.Function):
    """Samples, KL, log q and ln N(z; 0, 1) of a Gaussian q, whose gradient needs no noise but the samples.

    Without PyTorch's loops: its threads would go on waiting, spinning, on the cores that the kernel needs.
    """

    @staticmethod
    def forward(ctx: Any, mu: Any, log_var: Any, *options: Any) -> Any:
        arguments = _arguments((mu, log_var, None, None), options)
        results = tuple(map(torch.from_numpy, _core.reparameterize(*arguments, True)))
        ctx.save_for_backward(mu, log_var, results[0])
        ctx.arguments = arguments
        ctx.set_materialize_grads(False)
        return results

    @staticmethod
    @once
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        *_, sample = ctx.saved_tensors  # refused if somebody has changed one
        of_sample, of_kl, of_log_q, of_log_prior = map(_array, grads)
        arguments: KernelArguments = ctx.arguments
        found = _core.reparameterize_backward(
            *arguments, of_sample, of_kl, of_log_q, sample.numpy(), of_log_prior
        )
        return (*map(torch.from_numpy, found), *(None,) * 6)


def _draw_in_graph(
    mu: torch.Tensor, log_var: torch.Tensor, n_samples: int, key: int, row_offset: int
) -> tuple[torch.Tensor, ...]:
    arrays = _array(mu), _array(log_var), None, None
    results = _core.reparameterize(
        _core.Family.gaussian, *arrays, n_samples, 1.0, key % (1 << 64), row_offset, 0
    )
    return tuple(map(torch.from_numpy, results[:3]))


# The same of a Gaussian q in a function that is compiled, with a gradient that is compiled with it.
_draw_gaussian = _operator(
    "draw_gaussian",
    "(Tensor mu, Tensor log_var, SymInt n_samples, SymInt seed, SymInt row_offset)"
    " -> (Tensor, Tensor, Tensor)",
    _draw_in_graph,
    lambda mu, log_var, n_samples, *_: _shapes(mu, n_samples),
)


def _keep_samples(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs[:2], output[0])
    ctx.set_materialize_grads(False)


def _follow(ctx: Any, grad_sample: Any, grad_kl: Any, grad_log_q: Any) -> tuple[Any, ...]:
    """From the samples: s ε is z - μ. The compiler makes one loop of it, with what comes before and after."""
    mu, log_var, z = ctx.saved_tensors
    by_mu = by_log_scale = torch.zeros_like(mu)
    if grad_sample is not None:
        by_mu, by_log_scale = grad_sample.sum(0), (grad_sample * (z - mu)).sum(0)
    if grad_kl is not None:
        by_mu = by_mu + grad_kl[:, None] * mu
        by_log_scale = by_log_scale + grad_kl[:, None] * torch.expm1(log_var)
    if grad_log_q is not None:
        by_log_scale = by_log_scale - grad_log_q.sum(0)[:, None]
    return by_mu, 0.5 * by_log_scale, None, None, None


torch.library.register_autograd("vfe_fast::draw_gaussian", _follow, setup_context=_keep_samples, lib=_library)


def draw_with_log_prior(
    mu: torch.Tensor, log_var: torch.Tensor, n_samples: int, rng: Any, row_offset: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor] | None:
    """Sample, KL, log q and the log density of the prior N(0, 1); None where only the operator will do."""
    compiling = torch.compiler.is_compiling()
    if not (compiling or is_plain(mu)):
        return None
    _check(mu, "mu")
    _check(log_var, "log_var")
    n_samples, row_offset = count(n_samples, "n_samples"), count(row_offset, "row_offset", 0)
    key = _signed(rng)
    if compiling:
        inputs = mu.contiguous(), log_var.contiguous()  # in the compiled loop before, if they are slices
        sample, kl, log_q = _draw_gaussian(*inputs, n_samples, key, row_offset)
        return sample, kl, log_q, standard_normal_log_density(sample)
    return _CallWithPrior.apply(mu, log_var, "gaussian", n_samples, None, key, row_offset, 0)
