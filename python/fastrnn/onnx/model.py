"""A loaded graph: its steps in order, and how they are run. Not how it is read (load.py)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .node import Node, Runner
from .tensors import type_of

Array = npt.NDArray[Any]


class Value(NamedTuple):
    """An input or output: its dtype (None: not said) and its shape, None or a name where an extent is open."""

    dtype: np.dtype[Any] | None
    shape: tuple[int | str | None, ...] | None


class Step(NamedTuple):
    """A node and what runs it; `last` are the names nobody reads after it."""

    node: Node
    run: Runner
    last: tuple[str, ...]


def call(step_node: Node, run: Runner, arguments: list[Any]) -> list[Array]:
    """The outputs of one node, its place in every error."""
    try:
        with np.errstate(all="ignore"):
            result = run(*arguments)
    except (ValueError, TypeError, IndexError) as error:
        if str(error).startswith("[onnx]"):
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"[onnx] {step_node.place}: {error}") from error
    except MemoryError as error:
        raise ValueError(f"[onnx] {step_node.place}: expected results that fit in memory, got {error}") from None
    results = list(result) if isinstance(result, tuple) else [result]
    return [np.asarray(value) for value in results]


class Model:
    """What `load` returns: a graph of operators, callable on arrays.

    `inputs` and `outputs`: their names, each with dtype and shape. `model(x)` gives the output, or a list where there
    are several; `model.run({"name": x, ...})` gives a dictionary.
    """

    def __init__(
        self, name: str, inputs: dict[str, Value], outputs: dict[str, Value], constants: dict[str, Array],
        defaults: set[str], steps: list[Step], max_bytes: int, metadata: dict[str, str],
    ) -> None:  # fmt: skip
        self.name = name
        self.inputs, self.outputs = inputs, outputs
        self.metadata = metadata
        self._constants, self._defaults = constants, defaults
        self._steps, self._max_bytes = steps, max_bytes

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """The output for the inputs, in order or by name; a list where there are several."""
        names = [name for name in self.inputs if name not in self._defaults]
        if len(inputs) > len(names):
            raise TypeError(f"[onnx.run] inputs: expected {len(names)} ({', '.join(names)}), got {len(inputs)}")
        given = dict(zip(names, inputs, strict=False))
        if twice := given.keys() & named.keys():
            raise TypeError(f"[onnx.run] {min(twice)}: expected it once, got it twice")
        results = list(self.run({**given, **named}).values())
        return results[0] if len(results) == 1 else results

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        """All outputs by name, for inputs by name (arrays, or what NumPy makes one of).

        An array has the kind of its input (floating-point, integer, bool) and may be wider or narrower if its values
        fit; numbers of Python, and lists of such, may be integers where the input is floating-point.

        Raises:
            ValueError, TypeError: an input that is missing, unknown, or of the wrong kind, rank or extent, or whose
                values do not fit its type; an operator that cannot take what it gets, named with its place.
        """
        if not isinstance(inputs, Mapping):
            raise TypeError(f"[onnx.run] inputs: expected a dictionary of arrays, got {type(inputs).__name__}")
        for name in inputs:
            if name not in self.inputs:
                raise ValueError(f"[onnx.run] inputs: expected {', '.join(self.inputs)}, got {name!r}")
        values: dict[str, Array] = dict(self._constants)
        given: dict[str, Array] = {}
        for name, value in self.inputs.items():
            if name in inputs:
                values[name] = given[name] = _as_input(name, value, inputs[name])
            elif name not in self._defaults:
                raise ValueError(f"[onnx.run] {name}: expected an array, got none")
        held = 0
        for step in self._steps:
            arguments = [values[name] if name else None for name in step.node.inputs]
            results = call(step.node, step.run, arguments)
            for name, result in zip(step.node.outputs, results, strict=False):
                if name:
                    values[name] = result
                    held += result.nbytes
            if held > self._max_bytes:
                raise step.node.error(f"expected at most {self._max_bytes} bytes of results, got {held}")
            for name in step.last:
                gone = values.pop(name, None)
                held -= 0 if gone is None else gone.nbytes
        own: dict[str, Array] = {}
        for name in self.outputs:
            own[name] = _own(values[name], [*self._constants.values(), *given.values(), *own.values()])
        return own

    def __repr__(self) -> str:
        return f"<onnx.Model name={self.name} inputs={list(self.inputs)} outputs={list(self.outputs)}>"


def _own(result: Array, kept: list[Array]) -> Array:
    """A contiguous array that shares nothing with these: the model's constants, the caller's inputs, other results."""
    if any(np.may_share_memory(result, other) for other in kept):
        return result.copy()
    return np.ascontiguousarray(result).reshape(result.shape)


def _as_input(name: str, value: Value, given: Any) -> Array:
    try:
        x = np.asarray(given)
    except ValueError:
        raise ValueError(f"[onnx.run] {name}: expected an array, got nested lists of uneven length") from None
    if value.dtype is None or x.dtype != value.dtype:
        x = _converted(name, value.dtype, x, isinstance(given, (int, float, list, tuple)))
    if value.shape is not None and (
        x.ndim != len(value.shape)
        or any(isinstance(want, int) and want != got for want, got in zip(value.shape, x.shape, strict=True))
    ):
        shown = tuple("?" if e is None else e for e in value.shape)
        raise ValueError(f"[onnx.run] {name}: expected shape {shown}, got {x.shape}")
    return x


def _converted(name: str, dtype: np.dtype[Any] | None, x: Array, python: bool) -> Array:
    """x in the dtype of its input, if it is of that kind and every value fits. A float is rounded as usual.

    ONNX Runtime takes no other dtype than the declared one. An array of another kind is a mistake (ids where there
    should be vectors); Python's numbers have no dtype to be mistaken in.
    """
    if dtype is None:  # the model does not say
        try:
            type_of(x.dtype)
        except TypeError as error:
            raise TypeError(f"[onnx.run] {name}: {error}") from None
        return x.astype(x.dtype.newbyteorder("="), copy=False)
    kinds = {"f": "fiu" if python else "f", "i": "iu", "u": "iu", "b": "b"}[dtype.kind]
    if x.dtype.kind not in kinds:
        raise TypeError(f"[onnx.run] {name}: expected {dtype}, got {x.dtype}")
    with np.errstate(over="ignore"):
        cast = x.astype(dtype)
    if dtype.kind == "f":
        lost = np.isinf(cast) & np.isfinite(x)
        if lost.any():
            limit = np.finfo(dtype).max
            raise ValueError(f"[onnx.run] {name}: expected {dtype}, from {-limit} to {limit}, got {x[lost][0]}")
    elif not np.array_equal(cast, x):
        raise ValueError(f"[onnx.run] {name}: expected integers of {dtype}, got {x.min()} to {x.max()}")
    return cast
