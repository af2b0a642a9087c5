"""One short module per library: how it computes each kind of problem at its best documented setting.

A module has one function per `kind` of bench.cases that its library can compute: `layer(problem)` and so on. It
returns or yields the ways to do it, of which the fastest is timed: usually one. Modules are imported only in a worker
process, whose number of threads is fixed before the import.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from bench.cases import Array, Problem


@dataclass(frozen=True)
class Call:
    """`run` is timed: from arrays the library is at home with to results that are complete. `answer` turns the result
    of call number `calls` into NumPy arrays in the order of Problem.expected, outside the timing."""

    run: Callable[[], Any]
    answer: Callable[[Any], list[Array]]
    name: str = ""
    calls: int = 1


@dataclass(frozen=True)
class Library:
    module: str  # in this package
    needs: tuple[str, ...]  # what has to be importable, and is recorded with its version
    trains: bool = True
    kinds: tuple[str, ...] = ("layer", "stream", "conv1d", "dense", "embedding", "adam", "epoch")

    @property
    def available(self) -> bool:
        return all(find_spec(need) for need in self.needs)

    def can(self, problem: Problem) -> bool:
        return problem.kind in self.kinds and (self.trains or not problem.train)


_OPS = ("layer", "stream", "conv1d", "dense", "embedding")
LIBRARIES = {
    "fastrnn": Library("fastrnn_calls", ("fastrnn",)),
    "numpy": Library("numpy_calls", ("numpy",), kinds=(*_OPS, "adam")),
    "torch": Library("torch_calls", ("torch",)),
    "onnxruntime": Library("onnxruntime_calls", ("onnxruntime", "onnx"), trains=False, kinds=_OPS),
    "openvino": Library("openvino_calls", ("openvino",), trains=False, kinds=_OPS),
    "jax": Library("jax_calls", ("jax",), kinds=(*_OPS, "adam")),
    "keras-tf": Library("keras_calls", ("keras", "tensorflow")),
}
NUMPY_MOST_GFLOP = 3.0  # above this a call of the reference takes a second or so: it is checked against, not timed


def able(problem: Problem) -> list[str]:
    """The libraries that are installed here and can compute the problem, fastrnn first."""
    names = [name for name, library in LIBRARIES.items() if library.available and library.can(problem)]
    return [name for name in names if name != "numpy" or problem.gflop <= NUMPY_MOST_GFLOP]
