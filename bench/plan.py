"""Is the cost model right? `python -m bench.plan` times every way of cutting up a call, and what the model chose.

The recurrence of a call is split by rows of the batch or by hidden units (cpp/src/plan.hpp). Over a grid of shapes this
forces each of the two with one thread and with all, in turn with the automatic choice, and prints the best of each, how
far the choice is from the best, and the worst of the grid. Least of several interleaved rounds, because a disturbance
only ever adds time.
"""

from __future__ import annotations

import argparse
import itertools
import time

import numpy as np

from bench.cases import Layer
from bench.peers import fastrnn_calls
from fastrnn import _core, runtime

SPLITS = {"automatic": 0, "rows": 1, "units": 2, "pipeline": 3}
BATCHES, HIDDEN = (1, 2, 4, 8, 16, 32, 64, 128), (16, 32, 64, 128, 256, 512)
SECONDS = 0.15  # for each way of each case


def least(cell: str, shape: tuple[int, int, int, int], train: bool, rounds_per_way: float) -> dict[str, float]:
    """Seconds of each way: "automatic", and "<split> <threads>"."""
    call = fastrnn_calls.layer(Layer(cell, shape, train))[0].run
    all_threads = runtime.get_num_threads()
    ways: dict[str, tuple[int, int]] = {"automatic": (0, all_threads)}
    for name, threads in itertools.product(("rows", "units", "pipeline"), sorted({1, all_threads})):
        ways[f"{name} {threads}"] = (SPLITS[name], threads)
    times = dict.fromkeys(ways, np.inf)
    stop = time.perf_counter() + rounds_per_way * len(ways)
    try:
        while time.perf_counter() < stop or np.isinf(min(times.values())):
            for way, (split, threads) in ways.items():
                _core.force_split(split)
                with runtime.set_num_threads(threads):
                    call()  # brings the weights of this way into the caches it uses
                    start = time.perf_counter()
                    call()
                    times[way] = min(times[way], time.perf_counter() - start)
    finally:
        _core.force_split(0)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", default=["rnn", "lstm", "gru"], choices=["rnn", "lstm", "gru"])
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES)
    parser.add_argument("--hidden", nargs="+", type=int, default=HIDDEN)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each way of each case")
    arguments = parser.parse_args()
    print(f"{runtime.isa()}, {runtime.get_num_threads()} threads; milliseconds; I = H, 50 steps")
    losses = []
    for cell, hidden, batch, train in itertools.product(arguments.cells, arguments.hidden, arguments.batches, (0, 1)):
        shape = (batch, 50, hidden, hidden)
        times = least(cell, shape, bool(train), arguments.seconds)
        chosen = times.pop("automatic")
        best = min(times, key=times.__getitem__)
        losses.append(max(0.0, chosen / times[best] - 1))
        ways = "  ".join(f"{way} {1e3 * t:8.3f}" for way, t in times.items())
        mark = f"  {best} is {100 * losses[-1]:.0f} % better" if losses[-1] > 0.1 else ""
        case = f"{cell:4} {'train  ' if train else 'forward'} B {batch:3} H {hidden:3}"
        print(f"{case}  chosen {1e3 * chosen:8.3f}  {ways}{mark}", flush=True)
    within = np.mean(np.array(losses) <= 0.1)
    print(f"{len(losses)} cases, within 10 % of the best: {100 * within:.0f} %; worst {100 * max(losses):.0f} %")


if __name__ == "__main__":
    main()
