"""The report's pictures. Nothing is computed here that the tables do not say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from bench.cases import BASE

if TYPE_CHECKING:
    from bench.report import Record, Row

COLOURS = {
    "fastrnn": "#d62728", "numpy": "#7f7f7f", "torch": "#ff7f0e", "onnxruntime": "#1f77b4", "openvino": "#17becf",
    "jax": "#2ca02c", "keras-tf": "#9467bd",
}  # fmt: skip
MARKERS = {"rnn": "o", "lstm": "s", "gru": "^"}
PASSES = ((False, "forward"), (True, "forward and backward"))


def draw(record: Record, folder: Path) -> list[Path]:
    """Those for which there are figures; the files."""
    folder.mkdir(parents=True, exist_ok=True)
    plt.rcParams.update({"font.size": 9, "svg.fonttype": "path", "axes.spines.top": False, "axes.spines.right": False})
    made = []
    for name, function in (("ratio", ratio), ("roofline", roofline), ("scaling", scaling), ("memory", memory)):
        figure = function(record)
        if figure is not None:
            path = folder / f"{name}.png"
            figure.savefig(path, dpi=110, bbox_inches="tight")
            plt.close(figure)
            made.append(path)
    return made


def _plain(axis: Any, ticks: list[float] | None = None) -> None:
    """1, 2, 5 instead of powers of ten, or these ticks."""
    axis.set_major_locator(FixedLocator(ticks) if ticks else LogLocator(subs=(1, 2, 5), numticks=30))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _main_rows(record: Record, train: bool) -> list[Row]:
    """The grid, or the small set where the grid was not run."""
    return record.of(["grid"], train) or record.of(["small"], train)


def ratio(record: Record) -> Any:
    """How many times faster than the fastest peer, per case."""
    panels = [(rows, title) for train, title in PASSES if (rows := _main_rows(record, train))]
    if not panels:
        return None
    shapes = list(dict.fromkeys(row.short for rows, _ in panels for row in rows))[::-1]
    height = 1.2 + 0.33 * len(shapes)
    figure, axes = plt.subplots(1, len(panels), figsize=(9, height), sharey=True, squeeze=False)
    for axis, (rows, title) in zip(axes[0], panels, strict=True):
        for offset, cell in zip((0.22, 0.0, -0.22), MARKERS, strict=True):
            chosen = [row for row in rows if row.cell == cell and row.ratio > 0]
            y = [shapes.index(row.short) + offset for row in chosen]
            x = [row.ratio for row in chosen]
            colours = [COLOURS[row.peer or "numpy"] for row in chosen]
            axis.hlines(y, 1, x, colors=colours, linewidth=1.2, alpha=0.6)
            axis.scatter(x, y, c=colours, marker=MARKERS[cell], s=26, zorder=3)
        axis.axvline(1, color="black", linewidth=1)
        axis.set_xscale("log")
        low, high = min(0.8, *(r.ratio for r in rows)) * 0.9, max(2.0, *(r.ratio for r in rows)) * 1.15
        ticks = [t for t in (0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 7, 10, 15, 20) if low <= t <= high]
        axis.set_xlim(low, high)
        _plain(axis.xaxis, ticks)
        axis.grid(axis="x", alpha=0.3)
        axis.set_title(title)
        axis.set_xlabel("time of the fastest peer / time of fastrnn")
    axes[0][0].set_yticks(range(len(shapes)), shapes)
    axes[0][0].set_ylabel("B,T,I,H")
    peers = dict.fromkeys(row.peer for rows, _ in panels for row in rows if row.peer)
    handles = [Line2D([], [], color="black", marker=m, linestyle="", label=c.upper()) for c, m in MARKERS.items()]
    handles += [Line2D([], [], color=COLOURS[p], linewidth=3, label=f"{p} is the fastest peer") for p in peers]
    figure.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncol=4, frameon=False)
    figure.tight_layout()
    return figure


def roofline(record: Record) -> Any:
    """GFLOP/s of fastrnn and of the fastest peer over arithmetic intensity, under the measured peak."""
    panels = [(rows, title) for train, title in PASSES if (rows := _main_rows(record, train))]
    if not panels or not record.peaks["all"]:
        return None
    figure, axes = plt.subplots(1, len(panels), figsize=(9, 3.6), sharey=True, squeeze=False)
    for axis, (rows, title) in zip(axes[0], panels, strict=True):
        for row in rows:
            x = row.gflop * 1e3 / row.megabytes
            peer = row.gflop / row.ms[row.peer] * 1e3 if row.peer else row.gflops
            axis.plot([x, x], [peer, row.gflops], color="#bbbbbb", linewidth=0.8, zorder=1)
            axis.scatter(x, row.gflops, c=COLOURS["fastrnn"], marker=MARKERS[row.cell], s=24, zorder=3)
            axis.scatter(x, peer, facecolors="none", edgecolors="#555555", marker=MARKERS[row.cell], s=20, zorder=2)
        for name, label in (("1", "FMA peak, one thread"), ("all", "FMA peak, all threads")):
            peak = max(record.peaks[name])
            axis.axhline(peak, color="black", linestyle="--" if name == "1" else "-", linewidth=1)
            axis.text(
                0.01, peak * 1.04, f"{label}: {peak:.0f}", transform=axis.get_yaxis_transform(), va="bottom", fontsize=8
            )
        if record.bandwidth:
            ridge = record.peak / record.bandwidth
            axis.plot([ridge / 8, ridge], [record.peak / 8, record.peak], color="black", linewidth=1)
            axis.text(ridge / 8, record.peak / 9, f"memory:\n{record.bandwidth:.0f} GB/s", va="top", fontsize=8)
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_ylim(min(row.gflops / max(1, row.ratio) for r, _ in panels for row in r) / 1.5, record.peak * 1.6)
        _plain(axis.xaxis)
        _plain(axis.yaxis)
        axis.grid(alpha=0.3)
        axis.set_title(title)
        axis.set_xlabel("FLOP per byte of arguments and results")
    axes[0][0].set_ylabel("GFLOP/s")
    handles = [Line2D([], [], color=COLOURS["fastrnn"], marker=m, linestyle="", label=f"fastrnn {c.upper()}")
               for c, m in MARKERS.items()]  # fmt: skip
    handles.append(
        Line2D([], [], color="#555555", marker="o", markerfacecolor="none", linestyle="", label="fastest peer")
    )
    figure.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncol=4, frameon=False)
    figure.tight_layout()
    return figure


def _extent(axis: int) -> Callable[[Row], int]:
    return lambda row: row.shape[axis]


def scaling(record: Record) -> Any:
    """Milliseconds of an LSTM over batch, steps and units."""
    B, T, I, H = BASE
    lines = (
        (f"batch (T={T}, I=H={H})", 0, {(row.shape[0], T, I, H) for row in record.rows if len(row.shape) == 4}),
        (f"steps (B={B}, I=H={H})", 1, {(B, row.shape[1], I, H) for row in record.rows if len(row.shape) == 4}),
        (f"inputs and units (B={B}, T={T})", 3, {(B, T, row.shape[-1], row.shape[-1]) for row in record.rows}),
    )
    panels = [(rows, title) for train, title in PASSES if (rows := record.of(["scaling"], train))]
    if not panels:
        return None
    figure, axes = plt.subplots(len(panels), 3, figsize=(10, 3 * len(panels)), sharey="row", squeeze=False)
    for line, (rows, title) in zip(axes, panels, strict=True):
        for axis, (label, extent, wanted) in zip(line, lines, strict=True):
            chosen = sorted((row for row in rows if row.shape in wanted), key=_extent(extent))
            for name in record.libraries:
                points = [(row.shape[extent], row.ms[name]) for row in chosen if name in row.ms]
                if points:
                    x, y = zip(*points, strict=True)
                    width = 2.2 if name == "fastrnn" else 1.1
                    axis.plot(x, y, color=COLOURS[name], marker="o", markersize=3, linewidth=width, label=name)
            axis.set_xscale("log", base=2 if extent != 1 else 10)
            axis.set_yscale("log")
            _plain(axis.xaxis, [row.shape[extent] for row in chosen])
            _plain(axis.yaxis)
            axis.grid(alpha=0.3)
            axis.set_xlabel(label)
        line[0].set_ylabel(f"LSTM {title}, ms")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncol=7, frameon=False)
    figure.tight_layout()
    return figure


def memory(record: Record) -> Any:
    rows = [row for row in record.rows if row.memory]
    if not rows:
        return None
    names = [name for name in record.libraries if any(name in row.memory for row in rows)]
    figure, axis = plt.subplots(figsize=(9, 0.9 + 0.17 * len(names) * len(rows)))
    labels, y = [], 0.0
    for row in rows[::-1]:
        present = [name for name in names if name in row.memory][::-1]
        for name in present:
            axis.barh(y, row.memory[name], color=COLOURS[name], height=0.8)
            axis.text(row.memory[name], y, f" {row.memory[name]:.0f}", va="center", fontsize=7)
            y += 1
        labels.append((y - len(present) / 2 - 0.5, row.name))
        y += 1
    axis.set_yticks(*zip(*labels, strict=True))
    axis.set_xlabel("MB by which the process grows over its inputs")
    axis.grid(axis="x", alpha=0.3)
    handles = [Rectangle((0, 0), 1, 1, color=COLOURS[name], label=name) for name in names]
    axis.legend(handles=handles, frameon=False, fontsize=8)
    figure.tight_layout()
    return figure
