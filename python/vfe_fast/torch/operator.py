"""Reparameterized samples as an operator of PyTorch: autograd, ``torch.compile``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from .. import _core
from ..arguments import count, real, threads
from ..random import seed
from ..sampling.reparameterize import Family, Reparameterized, prepared, split_prior

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
    key = seed(rng) if isinstance(rng, int) else _fresh(rng)
    key = key - (1 << 64) if key >= 1 << 63 else key  # integers of operators have a sign
    arguments = (
        mu, log_var, prior_mean, prior_log_var, family, count(n_samples, "n_samples"),
        None if temperature is None else real(temperature, "temperature"), key,
        count(row_offset, "row_offset", 0), threads(num_threads),
    )  # fmt: skip
    call = _Call.apply if _is_plain(mu) else _forward
    sample, kl, log_q = call(*arguments)
    return Reparameterized(sample, kl, log_q, family)


def _check(x: Any, name: str) -> None:
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(x).__name__}")
    if x.device.type not in ("cpu", "meta"):
        raise _core.TargetUnavailableError(
            f"{name}: expected a tensor in host memory, got one on {x.device}; "
            "the operator has no CUDA kernel, but vfe_fast.reparameterize takes arrays on a device"
        )
    if x.dtype != torch.float32 and x.dtype != torch.float64:
        raise TypeError(f"{name}: expected float32 or float64, got {x.dtype}")


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


@torch.compiler.disable(reason="rng: pass an int, for a seed drawn here would be a constant")
def _fresh(rng: Any) -> int:
    """Draw a key where it cannot become a constant of a compiled function."""
    return seed(rng)


_OPTIONS = "str family, SymInt n_samples, float? temperature, SymInt seed, SymInt row_offset, int num_threads"
_INPUTS = "Tensor mu, Tensor? log_var, Tensor? prior_mean, Tensor? prior_log_var"


def _arguments(inputs: tuple[Any, ...], options: tuple[Any, ...]) -> tuple[Any, ...]:
    """What both kernels take, as views of the tensors."""
    mu, log_var, *pair = (None if x is None else x.detach().numpy() for x in inputs)
    family, n_samples, temperature, key, row_offset, num_threads = options
    return prepared(
        mu, log_var, n_samples, family, (pair[0], pair[1]), temperature, key % (1 << 64), row_offset,
        num_threads or None,
    )[0]  # fmt: skip


def _draw(
    mu: Any, log_var: Any, prior_mean: Any, prior_log_var: Any, *options: Any
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    results = _core.reparameterize(*_arguments((mu, log_var, prior_mean, prior_log_var), options))
    sample, kl, log_q = map(torch.from_numpy, results[:3])
    return sample, kl, log_q


def _draw_shapes(mu: Any, log_var: Any, prior_mean: Any, prior_log_var: Any, *options: Any) -> Any:
    n_samples = options[1]
    shapes = (n_samples, *mu.shape), mu.shape[:1], (n_samples, mu.shape[0])
    return tuple(mu.new_empty(shape) for shape in shapes)


def _pull(
    grad_sample: Any, grad_kl: Any, grad_log_q: Any, mu: Any, log_var: Any, prior_mean: Any,
    prior_log_var: Any, *options: Any,
) -> list[torch.Tensor]:  # fmt: skip
    grads = (
        None if g is None else g.detach().contiguous().numpy() for g in (grad_sample, grad_kl, grad_log_q)
    )
    arguments = _arguments((mu, log_var, prior_mean, prior_log_var), options)
    return [torch.from_numpy(g) for g in _core.reparameterize_backward(*arguments, *grads) if g is not None]


def _pull_shapes(*arguments: Any) -> list[torch.Tensor]:
    return [x.new_empty(x.shape) for x in arguments[3:5] if x is not None]


_forward = torch.library.custom_op(
    "vfe_fast::reparameterize",
    _draw,
    mutates_args=(),
    device_types="cpu",
    schema=f"({_INPUTS}, {_OPTIONS}) -> (Tensor, Tensor, Tensor)",
)
_forward.register_fake(_draw_shapes)

_backward = torch.library.custom_op(
    "vfe_fast::reparameterize_backward",
    _pull,
    mutates_args=(),
    device_types="cpu",
    schema=f"(Tensor? grad_sample, Tensor? grad_kl, Tensor? grad_log_q, {_INPUTS}, {_OPTIONS}) -> Tensor[]",
)
_backward.register_fake(_pull_shapes)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.options = inputs[4:]
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, grad_sample: Any, grad_kl: Any, grad_log_q: Any) -> tuple[Any, ...]:
    grad_mu, *grad_log_var = _backward(grad_sample, grad_kl, grad_log_q, *ctx.saved_tensors, *ctx.options)
    return (grad_mu, grad_log_var[0] if grad_log_var else None, *(None,) * (2 + len(ctx.options)))


_forward.register_autograd(_differentiate, setup_context=_keep)


def _is_plain(mu: torch.Tensor) -> bool:
    """Whether nothing traces, compiles or transforms what is called."""
    return (
        type(mu) in (torch.Tensor, torch.nn.Parameter)
        and mu.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
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

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise RuntimeError(
            "samples, densities and bounds: expected to be differentiated by once, got a gradient's gradient"
        )


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
        results = tuple(map(torch.from_numpy, _core.reparameterize(*arguments, log_prior=True)))
        ctx.save_for_backward(mu, log_var, results[0])
        ctx.arguments = arguments
        ctx.set_materialize_grads(False)
        return results

    @staticmethod
    @once
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        *_, sample = ctx.saved_tensors  # refused if somebody has changed one
        *of_draw, of_log_prior = (None if g is None else g.detach().contiguous().numpy() for g in grads)
        found = _core.reparameterize_backward(
            *ctx.arguments, *of_draw, sample=sample.numpy(), grad_log_prior=of_log_prior
        )
        return (*map(torch.from_numpy, found), *(None,) * 6)


def draw_with_log_prior(
    mu: torch.Tensor, log_var: torch.Tensor, n_samples: int, rng: Any, row_offset: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor] | None:
    """Sample, KL, log q and the log density of the prior N(0, 1); None where only the operator will do."""
    if not _is_plain(mu):
        return None
    _check(mu, "mu")
    _check(log_var, "log_var")
    key = seed(rng)
    key = key - (1 << 64) if key >= 1 << 63 else key
    options = ("gaussian", count(n_samples, "n_samples"), None, key, count(row_offset, "row_offset", 0), 0)
    return _CallWithPrior.apply(mu, log_var, *options)
