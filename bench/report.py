"""Tables and plots from pytest-benchmark's JSON: `python -m bench.report results.json [more.json ...]`.

Also reads what `python -m bench.imdb_epochs --json` wrote. Times are medians (of epochs, too). A ratio is the time of
the fastest peer (the NumPy reference is none) over fastrnn's: above 1 fastrnn is faster. The percentage is of the FMA
peak on all threads measured in the same run. `--write FILE.md` replaces what stands between the markers in FILE.md
and draws the plots into FILE/.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.peers import LIBRARIES

BEGIN, END = "<!-- results: written by bench.report -->", "<!-- end of results -->"


@dataclass
class Row:
    """One case: the median milliseconds of each library."""

    suite: str
    name: str
    kind: str
    cell: str
    train: bool
    shape: tuple[int, ...]
    gflop: float
    megabytes: float
    ms: dict[str, float] = field(default_factory=dict)
    threads: dict[str, int] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    unusual: int = 0  # rounds

    @property
    def peer(self) -> str | None:
        """The fastest peer."""
        peers = [name for name in self.ms if name not in ("fastrnn", "numpy")]
        return min(peers, key=self.ms.__getitem__) if peers else None

    @property
    def ratio(self) -> float:
        return self.ms[self.peer] / self.ms["fastrnn"] if self.peer and "fastrnn" in self.ms else np.nan

    @property
    def gflops(self) -> float:
        """fastrnn's GFLOP/s."""
        return self.gflop / self.ms["fastrnn"] * 1e3 if "fastrnn" in self.ms else np.nan

    @property
    def short(self) -> str:
        """The shape, and what the name says in brackets."""
        note = self.name[self.name.index(" (") :] if " (" in self.name else ""
        return ",".join(map(str, self.shape)) + note


@dataclass
class Record:
    """Everything the files say."""

    rows: list[Row] = field(default_factory=list)
    epochs: list[dict[str, Any]] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    peaks: dict[str, list[float]] = field(default_factory=lambda: {"1": [], "all": []})

    bandwidth: float = 0.0  # GB/s

    @property
    def libraries(self) -> list[str]:
        return [name for name in LIBRARIES if any(name in row.ms for row in self.rows)]

    @property
    def peak(self) -> float:
        """GFLOP/s on all threads: the best that was seen during the run."""
        return max(self.peaks["all"], default=np.nan)

    def of(self, suites: Iterable[str], train: bool | None = None, kind: str = "layer") -> list[Row]:
        wanted = [row for row in self.rows if row.suite in suites and row.kind == kind]
        return [row for row in wanted if train is None or row.train == train]


def read(files: Iterable[str], statistic: str = "median") -> Record:
    record = Record()
    for name in files:
        content = json.loads(Path(name).read_text(encoding="utf-8"))
        if "results" in content:
            record.epochs += content["results"]
            for versions in content["versions"].values():
                record.versions.update(versions)
            continue
        record.machine = {**content["machine_info"]["fastrnn"], "cpus": content["machine_info"]["cpu"]["count"]}
        rows: dict[tuple[str, str], Row] = {}
        for entry in content["benchmarks"]:
            info = entry["extra_info"]
            key = info["suite"], info["case"]
            if key not in rows:
                rows[key] = Row(*key, info["kind"], info["cell"], info["train"], tuple(info["shape"]), info["gflop"],
                                info["megabytes"])  # fmt: skip
            row, library = rows[key], info["library"]
            row.ms[library] = entry["stats"][statistic] * 1e3
            row.threads[library] = info["threads"]
            row.unusual = info.get("unusual_rounds", 0)
            if info.get("memory_mb") is not None:
                row.memory[library] = info["memory_mb"]
            record.versions.update(info["versions"])
            record.bandwidth = max(record.bandwidth, info.get("bandwidth_gbs", 0.0))
            for threads, peak in info["peak_gflops"].items():
                record.peaks[threads].append(peak)
        record.rows += rows.values()
    return record


def mean(values: Iterable[float]) -> float:
    """Geometric."""
    kept = [value for value in values if np.isfinite(value)]
    return float(np.exp(np.mean(np.log(kept)))) if kept else float("nan")


def number(value: float) -> str:
    """Three digits."""
    if not np.isfinite(value):
        return "–"
    return (
        f"{value:.0f}"
        if value >= 100
        else f"{value:.1f}"
        if value >= 10
        else f"{value:.2f}"
        if value >= 1
        else f"{value:.3f}"
    )


def table(head: list[str], rows: Iterable[Iterable[str]]) -> list[str]:
    line = "|" + "---|" * len(head)
    return ["| " + " | ".join(head) + " |", line, *("| " + " | ".join(row) + " |" for row in rows), ""]


def case_table(record: Record, rows: list[Row]) -> list[str]:
    """One line per case: milliseconds of everybody, fastrnn's share of the peak, the ratio."""
    libraries = [name for name in record.libraries if any(name in row.ms for row in rows)]
    head = ["case", *libraries, "GFLOP/s", "% of peak", "ratio"]
    if not any(row.gflop for row in rows):
        head[-3:-1] = []
    lines = []
    for row in rows:
        times = []
        for name in libraries:
            text = number(row.ms.get(name, np.nan))
            times.append(f"**{text}**" if name == row.peer else text)
        label = f"{row.cell.upper()} {row.short}" if row.kind == "layer" else row.name
        speed = [number(row.gflops), f"{100 * row.gflops / record.peak:.0f}"] if row.gflop else ["", ""]
        lines.append([label, *times, *(speed if "GFLOP/s" in head else []), f"{row.ratio:.2f}"])
    return table(head, lines)


def summary(record: Record) -> list[str]:
    lines = []
    for suite in dict.fromkeys(row.suite for row in record.rows):
        for train in (False, True):
            rows = [row for row in record.rows if row.suite == suite and row.train == train and np.isfinite(row.ratio)]
            if not rows:
                continue
            cells = [mean(r.ratio for r in rows if r.cell == cell) for cell in ("rnn", "lstm", "gru")]
            least = min(rows, key=lambda row: row.ratio)
            lines.append([
                suite, "forward+backward" if train else "forward", str(len(rows)),
                *("–" if np.isnan(value) else f"{value:.2f}" for value in cells),
                f"**{mean(r.ratio for r in rows):.2f}**", f"{least.ratio:.2f} ({least.name})",
                str(sum(row.ratio < 1 for row in rows)),
            ])  # fmt: skip
    head = ["set", "pass", "cases", "RNN", "LSTM", "GRU", "all", "least", "slower than a peer"]
    return ["Geometric means of the ratio to the fastest peer of each case:", "", *table(head, lines)]


def epoch_table(record: Record) -> list[str]:
    names = list(dict.fromkeys(name for r in record.epochs for name in r["epoch_seconds"]))
    names.sort(key=lambda name: name == "padding skipped")
    lines = [
        [r["model"], r["cell"].upper(), *(number(r["epoch_seconds"].get(name, np.nan)) for name in names),
         f"{r['ratio']:.2f}" if r["ratio"] else "–"]
        for r in record.epochs
    ]  # fmt: skip
    ratios = [r["ratio"] for r in record.epochs if r["ratio"]]
    end = [f"Least ratio {min(ratios):.2f}, geometric mean {mean(ratios):.2f}.", ""] if ratios else []
    return [*table(["model", "cell", *names, "ratio"], lines), *end]


def setting(record: Record) -> list[str]:
    if not record.machine:
        return []
    m, unusual = record.machine, [f"{row.name} ({row.unusual})" for row in record.rows if row.unusual]
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    return [
        f"Measured on {m['date']}: {m['cpu_model']}, {m['cpus']} processors, fastrnn on {m['isa']} ({m['compiler']}), "
        f"1 and {m['threads_compared'][-1]} threads; {versions}. FMA peak in the same run: "
        f"{max(record.peaks['1']):.0f} GFLOP/s on one thread, {record.peak:.0f} on all."
        + (f" Rounds in an unusual state of the machine, of at most 7: {', '.join(unusual)}." if unusual else ""),
        "",
    ]


TITLES = {"small": "One layer", "grid": "One layer, the grid", "scaling": "One LSTM over batch, steps and units",
          "DeepBench": "DeepBench's shapes", "oneDNN": "oneDNN's benchdnn shapes"}  # fmt: skip


def report(record: Record) -> str:
    """Markdown."""
    lines = setting(record)
    if record.rows:
        lines += summary(record)
    for suite, title in TITLES.items():
        for train in (False, True):
            rows = record.of([suite], train)
            if rows:
                lines += [f"### {title}: {'forward and backward' if train else 'forward'}", ""]
                lines += ["Milliseconds; the fastest peer in bold. Shapes are B,T,I,H.", "", *case_table(record, rows)]
    ops = [row for row in record.rows if row.suite == "ops"]
    if ops:
        lines += ["### The other operations", "", "Milliseconds.", "", *case_table(record, ops)]
    batches = [row for row in record.rows if row.kind == "epoch"]
    if batches:
        lines += ["### Training batches of the IMDb models", "", "Milliseconds.", "", *case_table(record, batches)]
    if record.epochs:
        lines += ["### Training epochs on IMDb", "", "Seconds per epoch.", "", *epoch_table(record)]
    memory = [row for row in record.rows if row.memory]
    if memory:
        names = [name for name in record.libraries if any(name in row.memory for row in memory)]
        lines += ["### Peak memory", "", "MB by which the process grows over its inputs.", ""]
        lines += table(
            ["case", *names], [[row.name, *(number(row.memory.get(n, np.nan)) for n in names)] for row in memory]
        )
    return "\n".join(lines)


def write(path: Path, text: str, plots: list[Path], markers: tuple[str, str] = (BEGIN, END)) -> None:
    """Between the markers of the file, which must be there."""
    content = path.read_text(encoding="utf-8")
    before, begin, rest = content.partition(markers[0])
    _, end, after = rest.partition(markers[1])
    if not begin or not end:
        raise SystemExit(f"{path}: expected the markers {markers[0]} and {markers[1]}")
    pictures = "".join(f"![{plot.stem}]({plot.parent.name}/{plot.name})\n\n" for plot in plots)
    path.write_text(f"{before}{begin}\n\n{pictures}{text}\n{end}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--write", type=Path, metavar="FILE.md", help="put tables and plots into this document")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="draw the plots here")
    parser.add_argument(
        "--statistic", default="median", choices=("median", "min"), help="min where others use the machine meanwhile"
    )
    arguments = parser.parse_args()
    record = read(arguments.files, arguments.statistic)
    text = report(record)
    folder = arguments.plots or (arguments.write.with_suffix("") if arguments.write else None)
    plots: list[Path] = []
    if folder:
        from bench.plots import draw

        plots = draw(record, folder)
    if arguments.write:
        write(arguments.write, text, plots)
    else:
        print(text)


if __name__ == "__main__":
    main()
