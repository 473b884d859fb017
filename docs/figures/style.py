"""What the figures of the docs have in common: ``python docs/figures/<page>.py`` draws <page>.png."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

__all__ = ["panels", "save"]


def panels(n_panels: int = 1, *, rows: int = 1, height: float = 3.4) -> tuple[Figure, list[Any]]:
    """A figure with axes side by side, in rows of a height, and nothing around them that says nothing."""
    columns = -(-n_panels // rows)
    figure = Figure(figsize=(1.2 + 4.2 * columns, rows * height), layout="constrained")
    axes = [figure.add_subplot(rows, columns, k + 1) for k in range(n_panels)]
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save(figure: Figure, script: str) -> None:
    """Write the picture beside the script that drew it."""
    path = Path(script).with_suffix(".png")
    figure.savefig(path, dpi=100)
    with Image.open(path) as picture:
        few = picture.convert("RGB").quantize(256)  # colors: a third of the size, and looks the same
    few.save(path, optimize=True)
    print(f"{path} ({path.stat().st_size / 1000:.0f} kB)")
