"""The rows as a picture. The only file here that needs matplotlib."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from vfe_fast.bench.harness import Row


def bar_chart(rows: list[Row], path: str) -> None:
    """Time of every rival over ours, a group of bars a case; the line is ours."""
    rivals = sorted({name for row in rows for name in row.rivals_s})
    height = 0.8 / max(1, len(rivals))
    figure, axes = plt.subplots(figsize=(8, 1 + 0.25 * len(rows) * (len(rivals) + 1)), layout="constrained")
    for k, name in enumerate(rivals):
        timed = [(y, row.rivals_s[name] / row.ours_s) for y, row in enumerate(rows) if name in row.rivals_s]
        bars = axes.barh(
            [y + (k - (len(rivals) - 1) / 2) * height for y, _ in timed], [x for _, x in timed], height
        )
        axes.bar_label(bars, fmt="%.3g", padding=2, fontsize=7)
        bars.set_label(name)
    axes.axvline(1.0, color="black", label="vfe_fast")
    axes.set(xscale="log", xlabel="time over that of vfe_fast (above 1: vfe_fast is faster)")
    axes.set_yticks(np.arange(len(rows)), [f"{row.bench}\n{row.case}" for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.set_title(f"threads: {rows[0].threads}", fontsize=9)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=150)
    plt.close(figure)
