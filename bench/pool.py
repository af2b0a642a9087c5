"""Worker processes, and the turns they take: every figure of the benchmark comes from `interleave`.

Fairness: all libraries of a case are timed in one go, in turns of a few calls (torch, jax, fastrnn, torch, ...;
whoever began begins later next time), so that a noisy second of the machine hits all alike. Between two turns is a
pause in which the threads of the last library stop spinning. Each library runs with one thread and with all, and the
better counts. A round of turns beside which the machine was not in its usual state (bench/watch.py) is repeated.
"""

from __future__ import annotations

import atexit
import os
import pickle
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.cases import Problem
from bench.watch import PATIENCE, Watch
from fastrnn import runtime

TURNS, FEWEST_TURNS = 7, 3
PAUSE = 0.004  # seconds between turns; longer than OpenMP's and XLA's threads spin
HOPELESS = 2.0  # a number of threads that is so much slower than the library's other one takes no turns
ROOT = Path(__file__).parents[1]


class WorkerFailed(RuntimeError):
    """The library raised; the message is its traceback."""


class Process:
    """A worker: requests go out with `send` and come back with `receive`, so that several can prepare at once."""

    def __init__(self, library: str, threads: int) -> None:
        self.library, self.threads = library, threads
        n = str(threads)
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])),
            "OMP_NUM_THREADS": n,
            "OPENBLAS_NUM_THREADS": n,
            "MKL_NUM_THREADS": n,
            "NPROC": n,  # XLA's pool in JAX
            "JAX_PLATFORMS": "cpu",
            "KERAS_BACKEND": "tensorflow",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker", library],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, env=environment,
        )  # fmt: skip

    def send(self, request: str, *arguments: Any) -> None:
        assert self.process.stdin is not None
        pickle.dump((request, arguments), self.process.stdin, protocol=pickle.HIGHEST_PROTOCOL)
        self.process.stdin.flush()

    def receive(self) -> Any:
        assert self.process.stdout is not None
        try:
            good, result = pickle.load(self.process.stdout)
        except EOFError:
            self.log.seek(0)
            tail = self.log.read()[-2000:].decode(errors="replace")
            raise WorkerFailed(f"the process of {self.library} ended (status {self.process.wait()}): {tail}") from None
        if not good:
            raise WorkerFailed(f"{self.library}, {self.threads} threads:\n{result}")
        return result

    def ask(self, request: str, *arguments: Any) -> Any:
        self.send(request, *arguments)
        return self.receive()

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()
        self.log.close()


class Pool:
    """The workers of a session, started when they are first needed and kept, because importing takes seconds."""

    def __init__(self) -> None:
        self._processes: dict[tuple[str, int], Process] = {}
        self._watch: Watch | None = None
        atexit.register(self.close)

    def get(self, library: str, threads: int) -> Process:
        key = library, threads
        if key not in self._processes:
            self._processes[key] = Process(library, threads)
        return self._processes[key]

    @property
    def watch(self) -> Watch:
        if self._watch is None:
            most = thread_counts()[-1]
            worker = self.get("fastrnn", most)
            self._watch = Watch(lambda: worker.ask("state", most))
        return self._watch

    def close(self) -> None:
        for process in self._processes.values():
            process.close()
        self._processes.clear()
        self._watch = None


@dataclass
class Result:
    """What one library did on one problem."""

    error: float  # the worst of all its ways and numbers of threads, relative to the reference's answer
    samples: list[float] = field(default_factory=list)  # seconds, of the better number of threads
    threads: int = 0
    way: str = ""
    medians: dict[int, float] = field(default_factory=dict)  # by number of threads, where more than one was timed
    unusual: int = 0  # rounds that count although the machine was not in its usual state, all there were to be had


@dataclass
class _Entry:
    process: Process
    error: float
    way: str = ""
    estimate: float = 0.0
    samples: list[float] = field(default_factory=list)


def thread_counts() -> tuple[int, ...]:
    """One, and what fastrnn takes by default: all, or OMP_NUM_THREADS."""
    return tuple(dict.fromkeys((1, runtime.get_num_threads())))


def interleave(pool: Pool, problem: Problem, libraries: list[str], budget: float) -> dict[str, Result]:
    """How far each library's answer is from the reference's and, unless the budget (seconds, of all libraries
    together) is 0, its times."""
    threads = thread_counts() if budget else thread_counts()[-1:]
    processes = [pool.get(library, n) for library in libraries for n in threads]
    for process in processes:  # side by side: compiling takes longer than anything else here
        process.send("prepare", problem, None if budget else 1)
    expected = problem.expected()
    for process in processes:
        process.receive()
    for process in processes:
        process.send("errors", expected)
    entries = [_Entry(process, max(process.receive())) for process in processes]
    error = {name: max(e.error for e in entries if e.process.library == name) for name in libraries}
    unusual = 0
    if budget:
        pool.watch.wait(PATIENCE)
        entries = _worth_a_turn(entries)
        unusual = _take_turns(entries, budget / len(entries), pool.watch)
    return {name: _best(error[name], [e for e in entries if e.process.library == name], unusual) for name in libraries}


def _worth_a_turn(entries: list[_Entry]) -> list[_Entry]:
    for entry in entries:
        entry.way, entry.estimate = entry.process.ask("choose")
        time.sleep(PAUSE)
    best: dict[str, float] = {}
    for entry in entries:
        best[entry.process.library] = min(entry.estimate, best.get(entry.process.library, entry.estimate))
    return [entry for entry in entries if entry.estimate <= HOPELESS * best[entry.process.library]]


def _take_turns(entries: list[_Entry], share: float, watch: Watch, patience: float = PATIENCE) -> int:
    """How many of the rounds that count are unusual."""
    unusual = 0
    for turn in range(TURNS):
        # the slow ones, which one call takes over their share, stop after a few turns
        due = [e for e in entries if turn < FEWEST_TURNS or sum(e.samples) < share]
        if not due:
            break
        first = turn % len(due)
        due = due[first:] + due[:first]
        samples, usual, patience = watch.steady(lambda due=due: _round(due, share), patience)  # type: ignore[misc]
        for entry, more in zip(due, samples, strict=True):
            entry.samples += more
        unusual += not usual
    return unusual


def _round(due: list[_Entry], share: float) -> list[list[float]]:
    samples = []
    for entry in due:
        samples.append(entry.process.ask("turn", share / TURNS, entry.estimate))
        time.sleep(PAUSE)
    return samples


def _best(error: float, entries: list[_Entry], unusual: int) -> Result:
    medians = {entry.process.threads: float(np.median(entry.samples or [0.0])) for entry in entries}
    best = min(entries, key=lambda entry: medians[entry.process.threads])
    return Result(error, best.samples, best.process.threads, best.way, medians, unusual)
