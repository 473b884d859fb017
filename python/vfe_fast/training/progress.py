"""A progress bar: tqdm's if it is installed, a line an epoch if not."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

from .state import Record

__all__ = ["ProgressBar"]


class ProgressBar:
    """Counts epochs on standard error and shows the latest metrics; does nothing if not enabled."""

    def __init__(self, n_epochs: int, done: int, *, enabled: bool) -> None:
        self.n_epochs = n_epochs
        self.metrics: Record = {}
        self.bar: Any = None
        self.enabled = enabled
        if enabled:
            try:
                from tqdm import tqdm
            except ModuleNotFoundError:
                return
            self.bar = tqdm(total=n_epochs, initial=done, unit="epoch", dynamic_ncols=True)

    def __enter__(self) -> ProgressBar:
        return self

    def update(self, record: Record) -> None:
        """Show one more finished epoch."""
        self.metrics |= {k: v for k, v in record.items() if k not in ("epoch", "seconds", "learning_rate")}
        shown = {name: f"{value:.3f}" for name, value in self.metrics.items()}
        if self.bar is not None:
            self.bar.set_postfix(shown, refresh=False)
            self.bar.update()
        elif self.enabled:
            text = "  ".join(f"{name} {value}" for name, value in shown.items())
            print(f"epoch {record['epoch']:.0f}/{self.n_epochs}  {text}", file=sys.stderr)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.close()
