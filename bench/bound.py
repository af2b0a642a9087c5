"""What bounds each case of the grid, by measurement: `python -m bench.bound results.json`.

The bound of a case is the least time in which its arithmetic could be done on this machine, if every part of it went
at the best rate measured here, on all threads, and nothing else took any time. It is the sum of

  products  their floating-point operations at the FMA peak.
  reading   Every step but the first, whose h is zero, needs all recurrent weights, each thread its share of them;
            backward reads them once more. What all of that takes longer than all products (it does with one row) is
            counted here: while a step waits for its weights, products can be made that no step waits for, those of
            x and of the gradients. The rate is that of one core for a block of the share's size: of memchr (the C
            library's, through bytes.find), which does nothing but read and is not ours, or of our kernel with one row,
            which walks the weights to and fro and so finds part of them in a cache that does not hold all; the faster
            one.
  gates     All else that a unit of a row needs at a step: activations, cell update, loads and stores, and in training
            what is kept for backward and the derivatives. This is a rate of our kernels, not a law of nature: what a
            step of a small layer takes longer on one thread than its products at the peak; the least of five layers.

Nothing is counted for units padded to whole vectors, packing, threads that start, meet or wait, uneven shares, or
arrays that leave the cache. A better implementation could remove some of that and nobody all of it: what the bound
excludes is out of reach of these kernels, what it allows need not be within reach. Two more columns stand around it:

  at the peak  The products alone. No rate of our kernels is in it: what it excludes, it excludes for every float32
               implementation that multiplies as the formulas do.
  with waits   The bound, a call of the smallest layer (one step and row), and in training the packing of the weights,
               which are arrays there, into the forms that forward and backward read (as two packings for inference,
               of which the second reads the weights again; a call makes both forms at once). With one row also, at
               every step, what a step of the smallest layer takes longer than its products and gates, which is the
               latency of product, gates and the next product, for which one row has no other work but its own; and a
               meeting of the threads, or as long as the step if that is less, because one thread alone needs none.
               An estimate and no bound: parts of a step could overlap with the next one.

The rates are measured in this process, in less than a minute, and then scaled by the FMA peak of the run in
results.json over that of now, because clocks differ from day to day. The machine has to be that of the results, and
idle.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.cases import GATES, Layer, Shape
from bench.conftest import cpu_model
from bench.peers import fastrnn_calls
from bench.report import Record, Row, mean, number, read, table, write
from fastrnn import functional, runtime

MARKERS = "<!-- bound: written by bench.bound -->", "<!-- end of bound -->"
WIDEST = 16  # floats of the widest vectors: these units are whole vectors on every instruction set
ROWS, STEPS, UNITS = 48, 24, (2 * WIDEST, 3 * WIDEST, 4 * WIDEST, 6 * WIDEST, 8 * WIDEST)  # of the layers for gates
READERS = (64, 128, 192, 256, 384, 512, 768, 1024)  # units of the LSTMs for reading: 64 kB to 16 MB
FIRST_CACHE = 2**15  # bytes; from there a core loads a vector per multiply-add: never longer than the product
SECONDS = 0.15  # for each layer


@dataclass(frozen=True)
class Machine:
    """The rates of a machine."""

    threads: int
    peak_one: float  # FLOP/s
    peak: float  # of all threads
    gates: dict[tuple[str, bool], float]  # seconds per unit, row and step on one thread, by cell and training
    reading: dict[float, float]  # bytes per second of one core, by the bytes it reads over and over
    call: dict[tuple[str, bool], float]  # seconds
    wait: dict[tuple[str, bool], float]  # seconds per step of one row
    packing: dict[float, float]  # seconds for weights of so many bytes, on all threads, into one form
    meeting: float  # seconds

    def scaled(self, factor: float) -> Machine:
        """The same machine at another clock."""
        gates, call, wait = ({k: t / factor for k, t in times.items()} for times in (self.gates, self.call, self.wait))
        reading = {size: rate * factor for size, rate in self.reading.items()}
        packing = {size: seconds / factor for size, seconds in self.packing.items()}
        return Machine(self.threads, self.peak_one * factor, self.peak * factor, gates, reading, call, wait, packing,
                       self.meeting / factor)  # fmt: skip

    def read_rate(self, size: float) -> float:
        return np.inf if size <= FIRST_CACHE else _between(self.reading, size)

    def packing_seconds(self, size: float) -> float:
        return size * _between({s: seconds / s for s, seconds in self.packing.items()}, size)


def _between(points: dict[float, float], size: float) -> float:
    sizes = sorted(points)
    return float(np.interp(np.log(size), np.log(sizes), [points[s] for s in sizes]))


@dataclass(frozen=True)
class Bound:
    """Seconds."""

    products: float
    reading: float  # beyond the products
    gates: float
    waits: float  # not in the total

    @property
    def total(self) -> float:
        return self.products + self.reading + self.gates


def bound(machine: Machine, cell: str, shape: Shape, train: bool) -> Bound:
    B, T, I, H = shape
    weights = GATES[cell] * H * H
    share = 4 * weights / machine.threads  # bytes
    passes = 2 if train else 1
    products = Layer(cell, shape, train).gflop * 1e9 / machine.peak
    reading = max(0.0, passes * (T - 1) * share / machine.read_rate(share) - products)
    gates = B * T * H * machine.gates[cell, train] * machine.peak_one / machine.peak
    waits = machine.call[cell, train]
    if train:
        waits += 2 * machine.packing_seconds(4 * GATES[cell] * H * (I + H))
    if B == 1:
        waits += T * machine.wait[cell, train] + min(passes * T * machine.meeting, products + reading + gates)
    return Bound(products, reading, gates, waits)


def least(call: Callable[[], Any], seconds: float = SECONDS) -> float:
    """The shortest of many calls, because a disturbance only ever adds time."""
    call()
    best, stop = np.inf, time.perf_counter() + seconds
    while time.perf_counter() < stop:
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return float(best)


def step_seconds(cell: str, shape: Shape, train: bool) -> float:
    """Of each step after the first, which takes along what a call costs once."""
    B, T, I, H = shape
    long, short = (least(fastrnn_calls.layer(Layer(cell, (B, t, I, H), train))[0].run) for t in (T, 1))
    return (long - short) / (T - 1)


def gate_seconds(cell: str, train: bool, peak: float) -> float:
    """Per unit and row, on one thread."""
    rests = []
    for H in UNITS:
        products = Layer(cell, (ROWS, 1, WIDEST, H), train).step_gflop * 1e9 / peak
        rests.append((step_seconds(cell, (ROWS, STEPS, WIDEST, H), train) - products) / (ROWS * H))
    return max(0.0, min(rests))


def wait_seconds(cell: str, train: bool, peak: float, gates: float) -> float:
    """Per step of one row."""
    step = step_seconds(cell, (1, 200, 1, WIDEST), train)
    return max(0.0, step - Layer(cell, (1, 1, 1, WIDEST), train).step_gflop * 1e9 / peak - gates * WIDEST)


def reading_rates(gates: float) -> dict[float, float]:
    rates = {}
    for H in READERS:
        size = 4 * GATES["lstm"] * H * H
        block = b"\1" * size  # written: untouched zeros would all be one page of the system's
        repeats = range(max(1, 2**20 // size))
        stream = least(lambda block=block, repeats=repeats: [block.find(b"\2") for _ in repeats]) / len(repeats)  # type: ignore[misc]
        kernel = step_seconds("lstm", (1, max(20, 2**23 // size), 1, H), False) - gates * H
        rates[float(size)] = size / min(stream, kernel)
    return rates


def packing_seconds() -> dict[float, float]:
    """Of both weights of an LSTM, by their bytes."""
    seconds = {}
    for H in READERS:
        layer = Layer("lstm", (1, 1, H, H), False)
        seconds[2.0 * 4 * GATES["lstm"] * H * H] = least(lambda w=layer.weights: functional.pack_weights("lstm", *w))  # type: ignore[misc]
    return seconds


def measure(cells: Iterable[str] = GATES) -> Machine:
    threads = runtime.get_num_threads()
    peaks = {n: peak(n) for n in (1, threads)}
    kinds = [(cell, train) for cell in dict.fromkeys((*cells, "lstm")) for train in (False, True)]
    with runtime.set_num_threads(1):
        own = max(runtime.measure_peak(1) for _ in range(10))  # of the instruction set in use, as its kernels' products
        gates = {kind: gate_seconds(*kind, own) for kind in kinds}
        reading = reading_rates(gates["lstm", False])
        wait = {kind: wait_seconds(*kind, own, gates[kind]) for kind in kinds}
        smallest = {(c, train): fastrnn_calls.layer(Layer(c, (1, 1, 1, 1), train))[0] for c, train in kinds}
        call = {kind: least(smallest[kind].run) for kind in kinds}
    packing, meeting = packing_seconds(), min(runtime.measure_meeting() for _ in range(10))
    peaks = {n: max(before, peak(n)) for n, before in peaks.items()}
    return Machine(threads, peaks[1], peaks[threads], gates, reading, call, wait, packing, meeting)


def peak(threads: int) -> float:
    """FLOP/s, of the widest vectors as in the report."""
    return max(fastrnn_calls.peak(threads) * 1e9 for _ in range(10))


Pairs = list[tuple[Row, Bound]]
RATIOS = ["fastrnn / bound", "ratio", "with waits", "at the bound", "at the peak"]


def against_the_bound(row: Row, b: Bound) -> tuple[float, ...]:
    """RATIOS: but for the first, the time of the fastest peer over that of fastrnn, or over one of the least times."""
    own, peer = row.ms["fastrnn"] * 1e-3, row.ms[row.peer or ""] * 1e-3
    return own / b.total, peer / own, peer / (b.total + b.waits), peer / b.total, peer / b.products


def case_table(pairs: Pairs) -> list[str]:
    lines = [
        [f"{row.cell.upper()} {row.short}", number(row.ms["fastrnn"]), number(1e3 * b.total),
         *(f"{100 * part / b.total:.0f}" for part in (b.products, b.reading, b.gates)),
         *(f"{value:.2f}" for value in against_the_bound(row, b))]
        for row, b in pairs
    ]  # fmt: skip
    return table(["case", "fastrnn", "bound", "products %", "reading %", "gates %", *RATIOS], lines)


def summary(pairs: Pairs) -> list[str]:
    """Geometric means."""
    lines = []
    for train in (False, True):
        of_pass = [(row, b) for row, b in pairs if row.train == train]
        one = [(row, b) for row, b in of_pass if row.shape[0] == 1]
        batches = [(row, b) for row, b in of_pass if row.shape[0] > 1]
        for name, chosen in (("one row", one), ("batches", batches), ("all", of_pass)):
            means = [mean(column) for column in zip(*(against_the_bound(*pair) for pair in chosen), strict=True)]
            if means:
                cells = "forward+backward" if train else "forward", name, str(len(chosen))
                lines.append([*cells, *(f"{value:.2f}" for value in means)])
    return table(["pass", "rows", "cases", *RATIOS], lines)


def rates(machine: Machine) -> list[str]:
    """What was measured."""
    lines = []
    for (cell, train), gates in machine.gates.items():
        times = WIDEST * gates, machine.wait[cell, train], machine.call[cell, train]
        name = f"{cell.upper()} {'forward+backward' if train else 'forward'}"
        lines.append([name, *(number(1e9 * seconds) for seconds in times)])
    reading = ", ".join(f"{size / 1024:.0f} kB {rate * 1e-9:.0f}" for size, rate in sorted(machine.reading.items()))
    packing = ", ".join(f"{size / 1024:.0f} kB {1e6 * s:.0f}" for size, s in sorted(machine.packing.items()))
    return [
        f"FMA peak {machine.peak_one * 1e-9:.0f} GFLOP/s on one thread, {machine.peak * 1e-9:.0f} on "
        f"{machine.threads}. Reading on one core, GB/s: {reading}. Packing on all threads, microseconds: {packing}. "
        f"A meeting: {1e9 * machine.meeting:.0f} nanoseconds. Nanoseconds on one thread:", "",
        *table(["", f"gates of {WIDEST} units of a row", "wait of a step of one row", "call"], lines),
    ]  # fmt: skip


def report(record: Record, machine: Machine, cells: Iterable[str] = GATES) -> str:
    """Markdown."""
    machine = machine.scaled(record.peak * 1e9 / machine.peak)
    rows = [row for row in record.of(["grid"]) if row.cell in cells and np.isfinite(row.ratio)]
    pairs = [(row, bound(machine, row.cell, row.shape, row.train)) for row in rows]  # type: ignore[arg-type]
    lines = rates(machine)
    for train, title in ((False, "forward"), (True, "forward and backward")):
        chosen = [(row, b) for row, b in pairs if row.train == train]
        if chosen:
            lines += [f"Milliseconds, {title}:", "", *case_table(chosen)]
    return "\n".join([*lines, "Geometric means:", "", *summary(pairs)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--cells", nargs="+", default=list(GATES), choices=list(GATES))
    parser.add_argument("--write", type=Path, metavar="FILE.md", help="put the tables into this document")
    arguments = parser.parse_args()
    record = read(arguments.files)
    if not record.of(["grid"]):
        raise SystemExit("expected results of the grid (pytest bench/ --grid --benchmark-json=results.json)")
    there, threads = record.machine, record.machine["threads_compared"][-1]
    if there["isa"] == "amx":
        raise SystemExit("expected results of FASTRNN_ISA=avx512: AMX multiplies faster than the peak counted here")
    here = cpu_model(), runtime.isa(), runtime.get_num_threads()
    if here != (there["cpu_model"], there["isa"], threads):
        raise SystemExit(
            f"expected the machine of the results: {there['cpu_model']}, {there['isa']}, {threads} threads; "
            f"this is {here[0]}, {here[1]}, {here[2]} threads"
        )
    text = report(record, measure(arguments.cells), arguments.cells)
    if arguments.write:
        write(arguments.write, text, [], MARKERS)
    else:
        print(text)


if __name__ == "__main__":
    main()
