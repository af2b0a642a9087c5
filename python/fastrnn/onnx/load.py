"""From an .onnx file to a Model: everything is checked before anything is run, and nothing in a file is executed."""

from __future__ import annotations

import os
from typing import Any

import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import AttributeProto, ModelProto, NodeProto

from . import neural, pointwise, recurrent, shaping  # noqa: F401 (they register their operators)
from .errors import Unsupported
from .model import Model, Step, Value, call
from .node import OPERATORS, Node, Runner
from .reader import Reader
from .tensors import dtype_of

Array = npt.NDArray[Any]

_LARGEST_FILE = (1 << 31) - 1  # bytes; larger models keep their weights in other files
OLDEST_OPSET = 7  # before it RNN, LSTM and GRU had other attributes, and broadcasting was one


def load(source: Any, *, max_bytes: int = 1 << 32) -> Model:
    """The model of an .onnx file, ready to run on NumPy arrays.

    Args:
        source: a path, the bytes of a file, or an onnx.ModelProto. External data is read only from files in the folder
            of the model (links followed before that is asked), hence only with a path.
        max_bytes: the largest array an operator may make, and the most that the results of a run may take together.

    Returns:
        Model: `model(x)`, `model.run({"name": x})`, `model.inputs`, `model.outputs`.

    Raises:
        Unsupported (a ValueError): an operator, attribute, element type or opset that is not implemented; the message
            names the node, its operator and its place.
        FileNotFoundError: no such file.
        ValueError, TypeError: a file that is not an ONNX model, or one whose sizes, names or attributes do not fit.
    """
    if isinstance(max_bytes, bool) or not isinstance(max_bytes, int) or max_bytes < 1:
        raise ValueError(f"[onnx.load] max_bytes: expected an integer >= 1, got {max_bytes!r}")
    model, folder = _read(source)
    return _Loader(model, folder, max_bytes).load()


def _read(source: Any) -> tuple[ModelProto, str | None]:
    if isinstance(source, ModelProto):
        return source, None
    folder = None
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
    elif isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        if isinstance(path, bytes) or "\0" in path:
            raise ValueError(f"[onnx.load] source: expected a path without null bytes, got {path!r}")
        try:
            with open(path, "rb") as file:
                if os.fstat(file.fileno()).st_size > _LARGEST_FILE:
                    raise ValueError(
                        "[onnx.load] source: expected a file of less than 2 GB (protobuf's limit), got a larger one"
                    )
                data = file.read()
        except FileNotFoundError:
            raise FileNotFoundError(f"[onnx] {path}: expected an ONNX file, got no such file") from None
        folder = os.path.dirname(os.path.abspath(path))
    else:
        raise TypeError(f"[onnx.load] source: expected a path, bytes or a ModelProto, got {type(source).__name__}")
    model = ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, RecursionError):
        raise ValueError("[onnx.load] source: expected an ONNX model, got something else or a damaged file") from None
    if not model.HasField("graph"):
        raise ValueError("[onnx.load] source: expected an ONNX model, got something without a graph")
    return model, folder


class _Loader:
    """The state of one load."""

    def __init__(self, model: ModelProto, folder: str | None, max_bytes: int) -> None:
        self.model, self.graph, self.max_bytes = model, model.graph, max_bytes
        self.opset = self._opset()
        self.constants: dict[str, Array] = {}
        self.defaults: set[str] = set()
        self.known: set[str] = set()
        self.read = Reader(model, folder, max_bytes)
        self.folded = 0

    def _opset(self) -> int:
        versions = [entry.version for entry in self.model.opset_import if entry.domain in ("", "ai.onnx")]
        if len(versions) != 1:
            raise ValueError(f"[onnx.load] opset_import: expected one version of the ONNX operators, got {versions}")
        newest = onnx.defs.onnx_opset_version()
        if not OLDEST_OPSET <= versions[0] <= newest:
            raise Unsupported(
                f"[onnx.load] opset_import: expected version {OLDEST_OPSET} to {newest} (the newest that the installed "
                f"onnx {onnx.__version__} knows), got {versions[0]}"
            )
        return int(versions[0])

    def load(self) -> Model:
        graph = self.graph
        if graph.sparse_initializer:
            raise Unsupported("[onnx.load] sparse_initializer: expected dense tensors, got sparse ones")
        for tensor in graph.initializer:
            self._define(tensor.name, f"initializer {tensor.name!r}")
            try:
                self.constants[tensor.name] = self.read(tensor)
            except ValueError as error:
                raise ValueError(f"[onnx.load] initializer {tensor.name!r}: {error}") from None
        inputs: dict[str, Value] = {}
        for entry in graph.input:
            if entry.name in inputs:
                raise ValueError(f"[onnx.load] input {entry.name!r}: expected a name of its own, got it twice")
            inputs[entry.name] = _value("input", entry)
            if entry.name in self.constants:
                self.defaults.add(entry.name)
            else:
                self._define(entry.name, f"input {entry.name!r}")
        steps: list[tuple[Node, Runner]] = []
        for index, proto in enumerate(graph.node):
            made = self._node(proto, f"node {proto.name!r} ({proto.op_type}, {index + 1} of {len(graph.node)})")
            if made is not None:
                steps.append(made)
        outputs = {entry.name: _value("output", entry) for entry in graph.output}
        if not outputs or len(outputs) != len(graph.output):
            raise ValueError("[onnx.load] output: expected at least one, each with a name of its own")
        for name in outputs:
            if name not in self.known:
                raise ValueError(f"[onnx.load] output {name!r}: expected the name of a result, got none of that name")
        return Model(
            graph.name, inputs, outputs, self._read_later(steps, outputs), self.defaults,
            _with_last(steps, set(outputs)), self.max_bytes,
            {entry.key: entry.value for entry in self.model.metadata_props},
        )  # fmt: skip

    def _define(self, name: str, place: str) -> None:
        if not name:
            raise ValueError(f"[onnx.load] {place}: expected a name, got none")
        if name in self.known:
            raise ValueError(f"[onnx.load] {place}: expected a name of its own, got {name!r}, which exists")
        self.known.add(name)

    def _node(self, proto: NodeProto, place: str) -> tuple[Node, Runner] | None:
        """What runs the node, or None if its results are known now."""
        if proto.domain not in ("", "ai.onnx") or proto.op_type not in OPERATORS:
            name = f"{proto.domain}.{proto.op_type}" if proto.domain not in ("", "ai.onnx") else proto.op_type
            raise Unsupported(
                f"[onnx] {place}: expected a supported operator ({', '.join(sorted(OPERATORS))}), got {name}"
            )
        for attribute in proto.attribute:
            if attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
                words = "expected numbers, strings or a tensor, got a graph"
                raise Unsupported(f"[onnx] {place}: attribute {attribute.name}: {words}")
        for name in proto.input:
            if name and name not in self.known:
                words = "the result of a node before it (cycles are not possible)"
                raise ValueError(f"[onnx] {place}: expected input {name!r} to be {words}")
        fixed = [self.constants.get(name) if name not in self.defaults else None for name in proto.input]
        try:
            node = Node(proto, place, self.opset, fixed, self.max_bytes, self.read)
        except onnx.defs.SchemaError:
            raise Unsupported(f"[onnx] {place}: expected an operator of opset {self.opset}") from None
        run = OPERATORS[node.op](node)
        for name in node.outputs:
            if name:
                self._define(name, place)
        if any(name and value is None for name, value in zip(node.inputs, fixed, strict=True)):
            return node, run
        results = call(node, run, fixed)
        size = sum(result.nbytes for result in results)
        self.folded += size
        if self.folded > self.max_bytes:
            raise node.error(f"expected at most {self.max_bytes} bytes of constants, got {self.folded}")
        self.constants.update((name, result) for name, result in zip(node.outputs, results, strict=False) if name)
        return None

    def _read_later(self, steps: list[tuple[Node, Runner]], outputs: dict[str, Value]) -> dict[str, Array]:
        """The constants that a run needs."""
        wanted = {name for node, _ in steps for name in node.inputs} | set(outputs)
        return {name: array for name, array in self.constants.items() if name in wanted and name}


def _with_last(steps: list[tuple[Node, Runner]], outputs: set[str]) -> list[Step]:
    """The steps, each with the results that can be forgotten after it."""
    made = {name for node, _ in steps for name in node.outputs if name}
    last: dict[str, int] = {name: index for index, (node, _) in enumerate(steps) for name in node.outputs if name}
    last.update({name: index for index, (node, _) in enumerate(steps) for name in node.inputs if name in made})
    ends: dict[int, list[str]] = {}
    for name, index in last.items():
        if name not in outputs:
            ends.setdefault(index, []).append(name)
    return [Step(node, run, tuple(ends.get(index, ()))) for index, (node, run) in enumerate(steps)]


def _value(what: str, entry: Any) -> Value:
    kind = entry.type.WhichOneof("value")
    if kind is None:
        return Value(None, None)
    if kind != "tensor_type":
        raise Unsupported(f"[onnx.load] {what} {entry.name!r}: expected a tensor, got {kind}")
    tensor = entry.type.tensor_type
    dtype = None
    if tensor.elem_type:
        try:
            dtype = dtype_of(tensor.elem_type)
        except ValueError as error:
            raise Unsupported(f"[onnx.load] {what} {entry.name!r}: {error}") from None
    if not tensor.HasField("shape"):
        return Value(dtype, None)
    # some writers say -1 for an extent that is open
    extents = [
        d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else (d.dim_param or None) for d in tensor.shape.dim
    ]
    return Value(dtype, tuple(extents))
