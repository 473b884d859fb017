"""How far a long piece of work has come."""

from __future__ import annotations

import sys
import time
from typing import Any

__all__ = ["Bar"]


class Bar:
    """Steps done: tqdm's bar if it is installed, else a line every few seconds; nothing if not enabled."""

    def __init__(self, n_steps: int, unit: str, done: int = 0, *, enabled: bool) -> None:
        self.n_steps, self.unit, self.done, self.enabled = n_steps, unit, done, enabled
        self.shown = time.monotonic()
        self.bar: Any = None
        if enabled:
            try:
                from tqdm import tqdm
            except ModuleNotFoundError:
                return
            self.bar = tqdm(total=n_steps, initial=done, unit=f" {unit}", dynamic_ncols=True)

    def update(self, done: int) -> None:
        """Show that so many are done, of all."""
        if self.bar is not None:
            self.bar.update(done - self.done)
        elif self.enabled and time.monotonic() - self.shown > 5.0:
            self.shown = time.monotonic()
            print(f"{done} of {self.n_steps} {self.unit}", file=sys.stderr)
        self.done = done

    def close(self) -> None:
        """End the line."""
        if self.bar is not None:
            self.bar.close()
