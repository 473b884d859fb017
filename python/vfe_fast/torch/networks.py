"""Ready-made encoders and decoders; any other modules of the same shapes will do."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..arguments import count

__all__ = ["Heads", "convolutional", "mlp", "sizes"]

_ACTIVATIONS: dict[str, Any] = {"tanh": nn.Tanh, "relu": nn.ReLU, "elu": nn.ELU, "silu": nn.SiLU}


class Heads(nn.Module):
    """The parameters of q, side by side, by a linear map of common features.

    Parameters
    ----------
    body : Module
        Maps x to features, (batch, n_features).
    n_features, n_latents : int
        Sizes.
    spread : bool
        Whether there is a log variance beside mu; relaxed families have none.
    """

    def __init__(self, body: nn.Module, n_features: int, n_latents: int, spread: bool = True) -> None:
        super().__init__()
        self.body = body
        self.spread = spread
        self.linear = nn.Linear(n_features, n_latents * (1 + spread))

    def forward(self, x: torch.Tensor) -> Any:
        """Return mu, or mu and log_var, (batch, n_latents)."""
        found = self.linear(self.body(x))
        return found.chunk(2, dim=-1) if self.spread else found


def mlp(
    n_visible: int, n_latents: int, n_outputs: int, *, hidden: Sequence[int] = (200, 200),
    activation: str = "tanh", spread: bool = True,
) -> tuple[nn.Module, nn.Module]:  # fmt: skip
    """Fully connected encoder and decoder, mirror images of each other.

    Parameters
    ----------
    n_visible, n_latents : int
        Units of x and of z.
    n_outputs : int
        Numbers that the decoder gives; `likelihood.n_outputs(n_visible)`.
    hidden : sequence of int
        Sizes of the hidden layers from x to z; the default is that of Y. Burda, R. Grosse, R. Salakhutdinov
        (2016) with one stochastic layer.
    activation : {"tanh", "relu", "elu", "silu"}
        Between layers.
    spread : bool
        Whether q has a log variance; relaxed families have none.

    Returns
    -------
    encoder, decoder : Module

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.
    """
    act, layers = _activation(activation), sizes(hidden, "hidden")
    n_visible, n_latents = count(n_visible, "n_visible"), count(n_latents, "n_latents")
    up = [n_visible, *layers]
    body = [layer for a, b in itertools.pairwise(up) for layer in (nn.Linear(a, b), act())]
    down = [n_latents, *reversed(layers)]
    decoder = [layer for a, b in itertools.pairwise(down) for layer in (nn.Linear(a, b), act())]
    encoder = Heads(nn.Sequential(*body), up[-1], n_latents, spread)
    return encoder, nn.Sequential(*decoder, nn.Linear(down[-1], count(n_outputs, "n_outputs")))


class _Image(nn.Module):
    """Rows of numbers as images."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.shape = (channels, side, side)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(-1, *self.shape)


class _Samples(nn.Module):
    """Lets a network of two-dimensional input read (n_samples, batch, n_latents)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.network(z.flatten(0, -2)).reshape(*z.shape[:-1], -1)


def convolutional(
    n_visible: int, n_latents: int, n_outputs: int, *, channels: Sequence[int] = (16, 32),
    activation: str = "relu", spread: bool = True,
) -> tuple[nn.Module, nn.Module]:  # fmt: skip
    """Convolutional encoder and decoder of square images with one channel.

    Each layer halves the side, rounded up, by 3 x 3 filters; the decoder doubles it again.

    Parameters
    ----------
    n_visible, n_latents : int
        Units of x, a square number, and of z.
    n_outputs : int
        Numbers that the decoder gives: n_visible times as many as a pixel needs, one image after the other.
    channels : sequence of int
        Of each layer.
    activation : {"tanh", "relu", "elu", "silu"}
        Between layers.
    spread : bool
        Whether q has a log variance.

    Returns
    -------
    encoder, decoder : Module

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.
    """
    act, n_visible = _activation(activation), count(n_visible, "n_visible")
    side = round(n_visible**0.5)
    if side * side != n_visible:
        raise ValueError(f"n_visible: expected a square number, got {n_visible}")
    if count(n_outputs, "n_outputs") % n_visible:
        raise ValueError(f"n_outputs: expected a multiple of n_visible = {n_visible}, got {n_outputs}")
    sides, planes = [side], [1, *sizes(channels, "channels")]
    encoder: list[nn.Module] = [_Image(1, side)]
    for a, b in itertools.pairwise(planes):
        encoder += [nn.Conv2d(a, b, 3, stride=2, padding=1), act()]
        sides.append((sides[-1] + 1) // 2)
    n_features = planes[-1] * sides[-1] ** 2
    decoder: list[nn.Module] = [nn.Linear(n_latents, n_features), act()]
    decoder.append(nn.Unflatten(1, (planes[-1], sides[-1], sides[-1])))
    planes[0] = n_outputs // n_visible
    for k in range(len(planes) - 1, 0, -1):
        odd = 1 - sides[k - 1] % 2
        decoder.append(
            nn.ConvTranspose2d(planes[k], planes[k - 1], 3, stride=2, padding=1, output_padding=odd)
        )
        if k > 1:
            decoder.append(act())
    body = nn.Sequential(*encoder, nn.Flatten())
    return Heads(body, n_features, n_latents, spread), _Samples(nn.Sequential(*decoder, nn.Flatten()))


def sizes(found: Any, name: str) -> list[int]:
    """Numbers of units, one a layer, as plain ones."""
    if isinstance(found, (str, int)) or not hasattr(found, "__iter__"):
        raise TypeError(f"{name}: expected a sequence of int, got {type(found).__name__}")
    return [count(n, name) for n in found]


def _activation(name: str) -> Any:
    if name not in _ACTIVATIONS:
        raise ValueError(f"activation: expected one of {', '.join(_ACTIVATIONS)}, got {name!r}")
    return _ACTIVATIONS[name]
