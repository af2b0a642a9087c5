"""Results as rows, JSON and a picture. No rich and no click: how rows look on a terminal is cli.py's business."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from .experiment import Result

COLUMNS = ("model", "parameters", "s/epoch", "reviews/s", "train", "valid.", "test", "gap")
GAP_NOTE = "gap = train - validation accuracy, in percentage points: the larger, the more overfitted"
PLOT_HINT = "matplotlib is not installed: pip install 'fastrnn[plot]' to get the learning curves."


def row(result: Result) -> tuple[str, ...]:
    """One line of the comparison, in the order of COLUMNS."""
    seconds = result.seconds_per_epoch
    return (
        result.model,
        f"{result.parameters:,}",
        f"{seconds:.1f}" if seconds >= 10 else f"{seconds:.2f}",
        f"{result.reviews_per_second:,.0f}",
        f"{result.train_accuracy:.4f}",
        f"{result.validation_accuracy:.4f}",
        f"{result.test_accuracy:.4f}",
        f"{100 * result.gap:+.1f}",
    )


def title(results: Sequence[Result]) -> str:
    """What was compared, on what: it stands above the table and the picture."""
    first = results[0]
    names = first.model if len(results) == 1 else "models"
    return f"{first.cell.upper()} {names} on {first.dataset_title}"


def can_write(path: str | os.PathLike[str], name: str) -> Path:
    """The path, if a file can be written there; ValueError before any work is done for it otherwise."""
    target = Path(path)
    if target.is_dir():
        raise ValueError(f"[{name}] path: expected a file, got the folder {str(path)!r}")
    if not target.parent.is_dir():
        raise ValueError(f"[{name}] path: expected an existing folder, got {str(target.parent)!r}")
    if not os.access(target.parent, os.W_OK):
        raise ValueError(f"[{name}] path: expected a folder that can be written to, got {str(target.parent)!r}")
    return target


def _write(path: Path, fill: Callable[[IO[bytes]], object]) -> None:
    """Whole or not at all."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            fill(file)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)  # mkstemp's private mode is not what a user expects of a result
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def write_json(path: str | os.PathLike[str], figures: dict[str, Any]) -> None:
    """The figures of a command, for programs; strict JSON."""
    text = json.dumps(figures, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    _write(Path(path), lambda file: file.write(text.encode("utf-8")))


def can_plot() -> bool:
    """Is matplotlib here? (Not imported yet.)"""
    from importlib.util import find_spec

    return find_spec("matplotlib") is not None


def plot(results: Sequence[Result], path: str | os.PathLike[str]) -> None:
    """Learning curves as a PNG: loss and accuracy per epoch, validation drawn through, training dashed.

    Raises ImportError with a hint where matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.lines import Line2D
        from matplotlib.ticker import MaxNLocator
    except ImportError:
        raise ImportError(PLOT_HINT) from None
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    figure.suptitle(title(results))
    for axes, key in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for i, result in enumerate(results):
            for name, style in ((f"val_{key}", "-"), (key, "--")):
                values = result.history.get(name, [])
                axes.plot(range(1, len(values) + 1), values, style, color=f"C{i}", marker="o", markersize=3)
        for i, result in enumerate(results):
            if key == "accuracy":
                best = result.history["val_accuracy"][result.best_epoch - 1]
                axes.plot(result.best_epoch, best, "o", color=f"C{i}", markerfacecolor="none", markersize=10)
        axes.set(xlabel="epoch", ylabel=key)
        axes.set_xlim(0.7, max(len(result.epoch_seconds) for result in results) + 0.3)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
    handles = [Line2D([], [], color=f"C{i}", label=result.model) for i, result in enumerate(results)]
    handles += [
        Line2D([], [], color="0.3", linestyle="-", label="validation"),
        Line2D([], [], color="0.3", linestyle="--", label="training (with dropout)"),
        Line2D([], [], color="0.3", linestyle="", marker="o", markerfacecolor="none", label="epoch kept"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    _write(Path(path), lambda file: figure.savefig(file, format="png", dpi=120))
