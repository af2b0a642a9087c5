"""Calls that are large enough for several threads, and scripts in a process of their own. Shared; no tests."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from fastrnn import _core as core
from fastrnn import functional
from rnn_cases import CELLS, Case, draw, run  # noqa: F401 - scripts use CELLS

SPLITS = {"automatic": 0, "rows": 1, "units": 2, "pipeline": 3}
core.assume_meeting(80)  # in scripts; conftest.py does it for tests
PROCESSORS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def case(cell: str = "lstm", B: int = 16, T: int = 24, I: int = 64, H: int = 96, seed: int = 0, **options: Any) -> Case:
    """Forward and backward of the default are worth more threads than most machines have."""
    return draw(cell, np.random.default_rng(seed), B=B, T=T, I=I, H=H, dtype=np.float32, **options)


def digest(case: Case) -> str:
    """Of every bit of what forward and backward return."""
    results = run(functional, case)
    code = hashlib.sha256()
    for name in sorted(results):
        if results[name] is not None:
            code.update(name.encode() + results[name].tobytes())
    return code.hexdigest()


def on_one_thread(cases: Iterable[Case]) -> list[str]:
    threads = core.num_threads()
    core.set_num_threads(1)
    codes = [digest(case) for case in cases]
    core.set_num_threads(threads)
    return codes


def split(name: str) -> None:
    core.force_split(SPLITS[name])


def tasks() -> int:
    """Threads of this process."""
    return len(os.listdir("/proc/self/task"))


def in_child(check: Callable[[], bool], seconds: int = 20) -> int:
    """The id of a forked process that exits with 0 where `check` holds; a hanging one is killed by its alarm."""
    child = os.fork()
    if child == 0:
        signal.alarm(seconds)
        code = 1
        try:
            code = 0 if check() else 2
        finally:
            os._exit(code)
    return child


def exit_code(child: int) -> int:
    """0, or minus the signal that ended it: -14 is the alarm, it hung."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def script(code: str, *, timeout: float = 60, **environment: str | None) -> str:
    """The output of `code` in a new interpreter, after `from thread_tools import *`; fails where it fails or hangs."""
    paths = [str(Path(__file__).parent), str(Path(functional.__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    changes = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONWARNINGS": "ignore", **environment}
    env = {name: value for name, value in {**os.environ, **changes}.items() if value is not None}
    command = [sys.executable, "-c", "from thread_tools import *\n" + code]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
