"""Pictures of a variational autoencoder, drawn with matplotlib (extra ``plot``) without a display."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
import torch

from ..arrays import Array
from ..files import write_atomically
from ..plot import image_grid
from ..training import History
from .vae import VAE

__all__ = ["plot_images", "plot_vae"]

_AT_MOST = 100  # images in a grid


def plot_images(images: Array, path: str | os.PathLike[str]) -> None:
    """Draw square images side by side.

    Parameters
    ----------
    images : ndarray, (n_images, side * side)
        The first 100 are drawn.
    path : path
        Of the .png file.

    Raises
    ------
    ValueError
        If the images are not square.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 6), layout="constrained")
    _show(figure.subplots(), images[:_AT_MOST], 10, "")
    _save(figure, path)


@torch.no_grad()
def plot_vae(
    vae: VAE, data: torch.Tensor, history: History, path: str | os.PathLike[str], *, rng: Any = None
) -> None:
    """Draw learning curves, samples, data beside their reconstructions, and the plane of two latents.

    Parameters
    ----------
    vae : VAE
        A trained model, of at least two latents.
    data : Tensor, (n_data, n_visible)
        Rows to reconstruct. Drawn as images if n_visible is a square.
    history : History
        What `fit` returned.
    path : path
        Of the .png file.
    rng : int, numpy.random.Generator, numpy.random.SeedSequence or None
        See `vfe_fast.random.seed`.
    """
    from matplotlib.figure import Figure

    square = math.isqrt(data.shape[1]) ** 2 == data.shape[1]
    figure = Figure(figsize=(12, 9 if square else 4), layout="constrained")
    panels: Any = [["curve", "plane"], ["samples", "pairs"]][: 2 if square else 1]
    axes = figure.subplot_mosaic(panels)
    for name, label in (("objective", "training"), ("valid", "held out")):
        epochs, values = history.metric(name)
        if len(epochs):
            axes["curve"].plot(epochs, values, label=label)
    axes["curve"].set(xlabel="epoch", ylabel="objective, nats", title="Learning curve")
    if history.records:
        axes["curve"].legend(frameon=False)
    mu = vae.encode(data[:2000])[0]
    spread = mu.var(0)
    two = torch.argsort(spread, descending=True)[:2].tolist()
    axes["plane"].plot(*mu[:, two].T.numpy(), ".", ms=3, alpha=0.5)
    axes["plane"].set_title("Means of q(z | x), the two latents that vary most")
    axes["plane"].set(xlabel=f"z {two[0]}", ylabel=f"z {two[-1]}")
    if square:
        drawn = _one_number(vae.decode(vae.sample_prior(50, mu.shape[-1], rng=rng)), data).numpy()
        _show(axes["samples"], drawn, 10, "Samples: means of x given z from the prior")
        x = data[:25]
        again = _one_number(vae.decode(vae.draw(x, 1, rng=rng).z)[0], data).to(x.dtype)
        pairs = torch.stack([x, again], 1).reshape(-1, x.shape[1]).numpy()
        _show(axes["pairs"], pairs, 10, "Data, each with its reconstruction beside it")
    _save(figure, path)


def _one_number(means: torch.Tensor, data: torch.Tensor) -> torch.Tensor:
    """Means of pixels as they are; of categories the most likely one."""
    return means if means.ndim == data.ndim else means.argmax(-1)


def _show(axes: Any, images: Array, n_columns: int, title: str) -> None:
    low, high = float(np.min(images)), float(np.max(images))
    axes.imshow(image_grid(images, n_columns, fill=(low + high) / 2), cmap="gray_r", vmin=low, vmax=high)
    axes.set_title(title)
    axes.set_axis_off()


def _save(figure: Any, path: str | os.PathLike[str]) -> None:
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=100))
