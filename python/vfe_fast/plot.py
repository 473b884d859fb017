"""Pictures, drawn with matplotlib (extra ``plot``) without a display."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .arrays import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .demo import DemoResult
    from .free_energy.compare import Comparison

__all__ = ["image_grid", "plot_comparison", "plot_demo"]

_KINDS = {  # what F is, and how its ln Z is drawn: an upper bound of F is a lower one of ln Z
    "exact": ("|", "black"),
    "upper_bound": (">", "tab:blue"),
    "lower_bound": ("<", "tab:orange"),
    "consistent": ("o", "tab:green"),
    "asymptotic": ("D", "tab:red"),
}


def image_grid(images: Array, n_columns: int, *, fill: float = np.nan) -> npt.NDArray[np.float64]:
    """Lay square images out in one, a pixel apart.

    Parameters
    ----------
    images : ndarray, (n_images, side * side)
        One image a row.
    n_columns : int
        Images side by side.
    fill : float
        Value of the gaps.

    Returns
    -------
    ndarray, (height, width)

    Raises
    ------
    ValueError
        If the images are not square.
    """
    side = round(images.shape[1] ** 0.5)
    if side * side != images.shape[1]:
        raise ValueError(f"images: expected (n_images, side * side), got {images.shape}")
    n_rows = -(-len(images) // n_columns)
    grid = np.full((n_rows * (side + 1) - 1, n_columns * (side + 1) - 1), fill)
    for k, image in enumerate(images):
        row, column = divmod(k, n_columns)
        top, left = row * (side + 1), column * (side + 1)
        grid[top : top + side, left : left + side] = image.reshape(side, side)
    return grid


def plot_demo(result: DemoResult, path: str | os.PathLike[str]) -> None:
    """Draw the demo's learning curve, weights, and samples beside real digits."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6.6), layout="constrained")
    curve, weights, samples, digits = figure.subplot_mosaic(
        [["curve", "weights"], ["samples", "digits"]], height_ratios=[1.15, 1]
    ).values()

    for name, color in (("train", "tab:gray"), ("test", "tab:red")):
        curve.plot(*result.history.metric(f"log_likelihood_{name}"), color=color, label=f"{name}, exact")
    curve.axhline(
        result.log_likelihood["independent pixels"], color="black", ls=":", label="independent pixels, test"
    )
    curve.set(xlabel="epoch", ylabel="log-likelihood (nats a digit)", title="Learning curve")
    curve.legend(frameon=False)

    w = result.rbm.weights
    limit = float(np.abs(w).max())
    grid = image_grid(w.T, 10)
    image = weights.imshow(grid, cmap="RdBu_r", vmin=-limit, vmax=limit)
    weights.set_title("Weights, one picture a hidden unit")
    weights.set_axis_off()
    figure.colorbar(image, ax=weights, shrink=0.8)

    _show_states(samples, result.samples, "Gibbs samples of the model")
    _show_states(digits, result.digits, "Real digits (test set)")
    figure.savefig(path, dpi=110)


def plot_comparison(comparison: Comparison) -> Figure:
    """Draw ln Z of each method less that of the reference, with bars of one standard error.

    Pale ones are what an error beside that of sampling is at most.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    results, reference = comparison.results, comparison.reference
    zero = results[reference].log_z if reference is not None else 0.0
    figure = Figure(figsize=(8.5, 1.4 + 0.34 * len(results)), layout="constrained")
    axes = figure.subplots()
    for row, F in enumerate(results.values()):
        marker, color = _KINDS[F.kind]
        filled = color if F.converged else "white"
        error = F.stderr if F.stderr > 0 else None
        axes.errorbar(F.log_z - zero, row, xerr=error, fmt=marker, color=color, capsize=3, mfc=filled)
        if F.error_bound > 0 and F.kind != "exact":
            axes.errorbar(
                F.log_z - zero, row, xerr=F.stderr + F.error_bound, color=color, alpha=0.4, capsize=5
            )
    distances = [abs(F.log_z - zero) for F in results.values() if F.log_z != zero]
    if reference is not None and distances:
        smallest = max(min(distances), 1e-9)
        axes.set_xscale("symlog", linthresh=10.0 ** np.floor(np.log10(smallest)), linscale=1.0)
        axes.axvline(0.0, color="black", lw=0.8, zorder=0)
    axes.set_yticks(range(len(results)), [name.replace("_", " ") for name in results])
    axes.invert_yaxis()
    axes.tick_params(axis="x", labelsize="small")
    axes.set_xlabel("ln Z" + (f" - ln Z ({reference})" if reference is not None else "") + ", nats")
    axes.set_title(comparison.model, loc="left", fontsize="medium")
    axes.margins(y=0.08)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.3)
    kinds = [kind for kind in _KINDS if kind in {F.kind for F in results.values()}]
    handles = [
        Line2D([], [], ls="", marker=_KINDS[kind][0], color=_KINDS[kind][1], label=kind.replace("_", " "))
        for kind in kinds
    ]
    handles.append(Line2D([], [], ls="", marker="o", color="gray", mfc="white", label="not converged"))
    figure.legend(handles=handles, loc="outside right center", frameon=False, title="F is")
    return figure


def _show_states(axes: Any, states: Array, title: str) -> None:
    axes.imshow(image_grid(1.0 - states, 10, fill=0.7), cmap="gray", vmin=0, vmax=1)
    axes.set_title(title)
    axes.set_axis_off()
