"""Which instruction set and how many threads the core uses. Nothing is computed here."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import numpy as np

from . import _core


class _Restore:
    """What a setting returns: usable as a context manager that puts the old value back."""

    def __init__(self, setter: Any, old: Any) -> None:
        self._setter, self._old = setter, old

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._setter(self._old)


def available_isas() -> list[str]:
    """Instruction sets that this build has and this CPU supports, best first."""
    return list(_core.available_isas())


def isa() -> str:
    """The instruction set in use: the best available, or what FASTRNN_ISA or `use_isa` asked for."""
    return str(_core.current_isa())


def use_isa(name: str) -> _Restore:
    """Use the kernels of the instruction set `name` from now on, or inside a `with` block.

    Raises:
        ValueError: an unknown name, or one this CPU does not support.
        TypeError: not a string.
    """
    if not isinstance(name, str):
        raise TypeError(f"[use_isa] name: expected one of {', '.join(available_isas())}, got {type(name).__name__}")
    old = isa()
    _core.use_isa(name)
    return _Restore(_core.use_isa, old)


def _checked(op: str, threads: int) -> int:
    if isinstance(threads, bool) or not isinstance(threads, (int, np.integer)):
        raise TypeError(f"[{op}] threads: expected a positive integer, got {type(threads).__name__}")
    if not 1 <= threads <= 4096:
        raise ValueError(f"[{op}] threads: expected an integer from 1 to 4096, got {threads}")
    return int(threads)


def native_precisions() -> list[str]:
    """Of "bfloat16" and "int8" (see `functional.pack_weights`), those that the CPU has instructions for, beside the
    instruction set in use. The others run as well, more slowly."""
    return list(_core.native_precisions())


def get_num_threads() -> int:
    """The most threads one call uses. Starts at OMP_NUM_THREADS, or the number of processors."""
    return int(_core.num_threads())


def set_num_threads(threads: int) -> _Restore:
    """Use at most `threads` threads per call, from now on or inside a `with` block; never more than this process has
    processors. Results do not depend on it.

    Raises:
        ValueError: fewer than one, or more than 4096.
        TypeError: not an integer.
    """
    count = _checked("set_num_threads", threads)
    old = get_num_threads()
    _core.set_num_threads(count)
    return _Restore(_core.set_num_threads, old)


num_threads = set_num_threads  # reads better in a `with` statement


def cached_memory() -> int:
    """Bytes that the core keeps for later calls."""
    return int(_core.cached_memory())


def release_memory() -> None:
    """Give the kept memory back to the system."""
    _core.release_memory()


def measure_peak(threads: int | None = None) -> float:
    """Floating-point operations per second of float32 multiply-adds in registers on `threads` threads (default
    `get_num_threads()`) with the instruction set in use. Takes about 10 ms.

    Raises:
        ValueError: fewer than one, or more than 4096.
        TypeError: not an integer.
    """
    return float(_core.measure_peak(get_num_threads() if threads is None else _checked("measure_peak", threads)))


def measure_meeting(threads: int | None = None) -> float:
    """Seconds that `threads` threads (default `get_num_threads()`) take to meet once, as they do at every step of a
    layer whose units they share: each says that it has come and waits for the others. Around 1e-7 where they share a
    cache; several times that where they do not. 0.0 for one thread. Takes about a millisecond.

    Raises:
        ValueError: fewer than one, or more than 4096.
        TypeError: not an integer.
    """
    return float(_core.measure_meeting(get_num_threads() if threads is None else _checked("measure_meeting", threads)))


def info() -> dict[str, Any]:
    """Version, instruction sets, threads, compiler: what `fastrnn info` prints and a bug report needs."""
    return {
        "version": _core.version(),
        "isa": isa(),
        "available_isas": available_isas(),
        "native_precisions": native_precisions(),
        "threads": get_num_threads(),
        "thread_source": str(_core.thread_source()),
        "compiler": _core.compiler(),
        "numpy": np.__version__,
    }
