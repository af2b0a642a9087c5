"""One library in a process of its own: `python -m bench.worker LIBRARY`. Started and told what to do by bench.pool.

A process per library and number of threads, because thread pools are set up once, at import, and because two of them
in one process would disturb each other. Requests (a function below and its arguments) and answers are pickled over
stdin and stdout; between them the process sleeps in a read.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import itertools
import os
import pickle
import sys
import time
import traceback
from typing import Any

import numpy as np

from bench.cases import Array, Layer, Problem
from bench.peers import LIBRARIES, Call

MOST_SAMPLES = 400  # of one turn
WARM_BELOW = 0.005  # seconds of a call below which the state of the caches matters: one call of a turn is not counted


class Worker:
    """What the parent may ask for. One problem at a time."""

    def __init__(self, library: str) -> None:
        self.needs = LIBRARIES[library].needs
        self.module = importlib.import_module(f"bench.peers.{LIBRARIES[library].module}")
        self.calls: list[Call] = []

    def versions(self) -> dict[str, str]:
        return {name: importlib.import_module(name).__version__ for name in self.needs}

    def info(self) -> Any:
        return self.module.info()

    def peak(self, threads: int) -> float:
        return float(self.module.peak(threads))

    def state(self, threads: int) -> tuple[float, float]:
        return self.peak(threads), float(self.module.meeting(threads))

    def bandwidth(self, threads: int) -> float:
        return float(self.module.bandwidth(threads))

    def prepare(self, problem: Problem, most: int | None = None) -> None:
        """Builds (and compiles) the ways to do it, or the first so many."""
        self.calls = []
        gc.collect()
        self.calls = list(itertools.islice(getattr(self.module, problem.kind)(problem), most))

    def errors(self, expected: list[Array]) -> list[float]:
        """Of each way, the worst difference from the reference, relative to the largest value (but at least to 1)."""
        found = []
        for call in self.calls:
            for _ in range(call.calls):
                result = call.run()
            found.append(_difference(call.answer(result), expected))
        return found

    def choose(self) -> tuple[str, float]:
        """Keeps the fastest of the ways: its name, and the seconds of a call."""
        if len(self.calls) > 1:
            self.calls.sort(key=lambda call: self._seconds(call))
            del self.calls[1:]
        return self.calls[0].name, self._seconds(self.calls[0])

    @staticmethod
    def _seconds(call: Call) -> float:
        """The least of a few calls, after one that may have to compile something."""
        call.run()
        best, begin = float("inf"), time.perf_counter()
        for _ in range(20):
            start = time.perf_counter()
            call.run()
            now = time.perf_counter()
            best = min(best, now - start)
            if now - begin > 0.01:
                break
        return best

    def turn(self, seconds: float, estimate: float) -> list[float]:
        """Times calls for about so many seconds, at least one."""
        run, samples, clock = self.calls[0].run, [], time.perf_counter
        gc.disable()
        if estimate < WARM_BELOW:
            run()
        end = clock() + seconds
        while True:
            start = clock()
            run()
            now = clock()
            samples.append(now - start)
            if now >= end or len(samples) == MOST_SAMPLES:
                break
        gc.enable()
        return samples

    def memory(self, problem: Layer, warm: Layer) -> float | None:
        """MB by which the process grows over its inputs while it computes: weights as the library keeps them, what
        it saves for backward, results, pools. None where Linux's /proc is missing. For a fresh process.

        `warm` is a tiny problem of the same kind that has code loaded and threads started before."""
        if not os.path.exists("/proc/self/clear_refs"):
            return None
        self.prepare(warm)
        for call in self.calls:
            call.answer(call.run())
        _ = problem.x, problem.weights, problem.grad_output
        _trim()
        before = _status("VmRSS")
        self.prepare(problem, 1)
        self.calls[0].run()  # compiles, where something is compiled; what that takes is not counted
        _trim()
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")  # the peak starts anew
        for _ in range(3):
            self.calls[0].run()
        return _status("VmHWM") - before


def _difference(answer: list[Array], expected: list[Array]) -> float:
    if [a.shape for a in answer] != [e.shape for e in expected]:
        raise ValueError(f"expected shapes {[e.shape for e in expected]}, got {[a.shape for a in answer]}")
    pairs = zip(answer, expected, strict=True)
    return max(float(np.abs(a - e).max() / max(1.0, np.abs(e).max())) for a, e in pairs)


def _trim() -> None:
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        pass  # another libc


def _status(name: str) -> float:
    with open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            if line.startswith(name):
                return int(line.split()[1]) / 1024
    raise KeyError(name)


def main() -> None:
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print goes to stderr
    worker: Worker | None = None
    while True:
        try:
            name, arguments = pickle.load(requests)
        except EOFError:
            return
        try:
            if worker is None:
                worker = Worker(sys.argv[1])
            result = (True, getattr(worker, name)(*arguments))
        except Exception:
            result = (False, traceback.format_exc())
        pickle.dump(result, answers, protocol=pickle.HIGHEST_PROTOCOL)
        answers.flush()


if __name__ == "__main__":
    main()
