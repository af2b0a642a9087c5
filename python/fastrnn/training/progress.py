"""What `fit`, `evaluate` and `predict` show while they run: a bar on a terminal (through rich), or a line per epoch."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

_REFRESH = 0.1  # seconds between two drawings of the bar


def resolve_verbose(op: str, verbose: Any) -> int:
    """0 silent, 1 bar, 2 lines; "auto" is 1 on a terminal and 2 elsewhere."""
    if verbose == "auto":
        return 1 if _is_terminal() else 2
    if verbose in (0, 1, 2):
        return int(verbose)
    raise ValueError(f"[{op}] verbose: expected 0, 1, 2 or 'auto', got {verbose!r}")


def _is_terminal() -> bool:
    return bool(getattr(sys.stdout, "isatty", lambda: False)())


def format_logs(logs: dict[str, Any]) -> str:
    return " - ".join(f"{key}: {_figure(value)}" for key, value in logs.items())


def _figure(value: Any) -> str:
    value = float(np.mean(value))
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e5 or value != value else f"{value:.3e}"


class Progress:
    """One bar or line at a time: `begin`, then `step` per batch, then `end`."""

    def __init__(self, verbose: int) -> None:
        self.lines = verbose > 0
        self._rich = verbose == 1 and _is_terminal() and _load_rich()
        self._bar: Any = None

    def begin(self, title: str, steps: int | None, samples: int | None) -> None:
        self._title = title
        self._steps = steps
        self._samples = samples
        self._done = 0
        self._seen = 0
        self._start = self._drawn = time.perf_counter()
        if self._rich:
            self._bar = _make_bar()
            self._bar.start()
            self._task = self._bar.add_task(title, total=steps, rate="", logs="")

    def step(self, samples: int, logs: Callable[[], dict[str, Any]]) -> None:
        self._done += 1
        self._seen += samples
        if self._bar is None:
            return
        now = time.perf_counter()
        if now - self._drawn < _REFRESH:
            return
        self._drawn = now
        rate = self._seen / max(now - self._start, 1e-9)
        self._bar.update(self._task, completed=self._done, rate=f"{rate:,.0f} samples/s", logs=format_logs(logs()))
        self._bar.refresh()

    def end(self, logs: dict[str, Any], stopped: float | None = None) -> None:
        """Replace the bar by the line of the epoch. `stopped`: when training ended and validation began."""
        now = time.perf_counter()
        rate = self._seen / max((stopped or now) - self._start, 1e-9)
        self.close()
        if self.lines:
            parts = [self._title, f"{self._done} steps", f"{now - self._start:.1f}s", f"{rate:,.0f} samples/s"]
            print(" - ".join([*parts, *([format_logs(logs)] if logs else [])]), flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _load_rich() -> bool:
    try:
        import rich.progress  # noqa: F401
    except ImportError:
        return False
    return True


def _make_bar() -> Any:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    # drawn only from `step`: a refreshing thread would take the interpreter from the training
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[logs]}"),
        auto_refresh=False,
        transient=True,
    )
