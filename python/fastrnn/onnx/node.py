"""A node of a loaded graph: its attributes, checked against the operator's schema, and its place for messages."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import AttributeProto, NodeProto, TensorProto

from .errors import Unsupported

Array = npt.NDArray[Any]
Inputs = Sequence[Any]  # arrays, or None where an optional input is left out

_FIELDS: dict[int, str] = {
    AttributeProto.FLOAT: "f",
    AttributeProto.INT: "i",
    AttributeProto.STRING: "s",
    AttributeProto.TENSOR: "t",
    AttributeProto.FLOATS: "floats",
    AttributeProto.INTS: "ints",
    AttributeProto.STRINGS: "strings",
}


class Node:
    """One node at load time.

    inputs, outputs: names, "" for an optional one left out. attributes: by name, defaults filled in, None where there
    is none. version: the opset in which this form of the operator came. constants: the values of inputs that are known
    when the model is loaded, else None. max_bytes: the largest array an operator may make. read: makes the array of a
    tensor among the attributes.
    """

    def __init__(
        self, proto: NodeProto, place: str, opset: int, constants: Sequence[Array | None], max_bytes: int,
        read: Callable[[TensorProto], Array],
    ) -> None:  # fmt: skip
        self.op = proto.op_type
        self.place = place
        self.inputs = list(proto.input)
        self.outputs = list(proto.output)
        self.constants = list(constants)
        self.max_bytes = max_bytes
        schema = onnx.defs.get_schema(self.op, opset, "")
        self.version = schema.since_version
        for what, names, low, high in (
            ("inputs", self.inputs, schema.min_input, schema.max_input),
            ("outputs", self.outputs, schema.min_output, schema.max_output),
        ):
            if not low <= len(names) <= high:
                raise self.error(f"{what}: expected {low} to {high}, got {len(names)}")
        formals = list(schema.inputs)
        if formals and formals[-1].option == onnx.defs.OpSchema.FormalParameterOption.Variadic:
            formals += [formals[-1]] * len(self.inputs)
        for name, formal in zip(self.inputs, formals, strict=False):
            if not name and formal.option != onnx.defs.OpSchema.FormalParameterOption.Optional:
                raise self.error(f"{formal.name}: expected an input (it is not optional), got none")
        self.attributes = self._attributes(proto, schema, read)

    def _attributes(self, proto: NodeProto, schema: Any, read: Callable[[TensorProto], Array]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, formal in schema.attributes.items():
            default = formal.default_value
            values[name] = self._value(default, read) if default.type in _FIELDS else None
        seen = set()
        for attribute in proto.attribute:
            name = attribute.name
            if name not in schema.attributes:
                known = ", ".join(sorted(schema.attributes)) or "none"
                raise self.unsupported(f"attribute {name}: expected one of {known} (opset {self.version})")
            if name in seen:
                raise self.error(f"attribute {name}: expected it once, got it again")
            seen.add(name)
            wanted = schema.attributes[name].type
            if int(attribute.type) != int(wanted.value if hasattr(wanted, "value") else wanted):
                raise self.error(f"attribute {name}: expected type {wanted}, got type {attribute.type}")
            if attribute.type not in _FIELDS:
                raise self.unsupported(f"attribute {name}: expected numbers, strings or a tensor")
            values[name] = self._value(attribute, read)
        for name, formal in schema.attributes.items():
            if formal.required and name not in seen:
                raise self.error(f"attribute {name}: expected it (it is required), got none")
        return values

    def _value(self, attribute: AttributeProto, read: Callable[[TensorProto], Array]) -> Any:
        value = getattr(attribute, _FIELDS[attribute.type])
        if attribute.type == AttributeProto.TENSOR:
            try:
                return read(value)
            except ValueError as error:
                raise self.error(f"attribute {attribute.name}: {error}") from None
        if attribute.type == AttributeProto.STRING:
            return value.decode("utf-8", "replace")
        if attribute.type == AttributeProto.STRINGS:
            return [item.decode("utf-8", "replace") for item in value]
        return list(value) if attribute.type in (AttributeProto.FLOATS, AttributeProto.INTS) else value

    def error(self, text: str) -> ValueError:
        return ValueError(f"[onnx] {self.place}: {text}")

    def unsupported(self, text: str) -> Unsupported:
        return Unsupported(f"[onnx] {self.place}: {text}")

    def constant(self, index: int) -> Array | None:
        """The value of an input that is known at load time."""
        return self.constants[index] if index < len(self.constants) else None

    def room(self, shape: Sequence[int], dtype: Any) -> tuple[int, ...]:
        """`shape`, if an array of it may be made."""
        if any(extent < 0 for extent in shape):
            raise self.error(f"expected a result of extents >= 0, got {tuple(shape)}")
        if math.prod(int(extent) for extent in shape) * np.dtype(dtype).itemsize > self.max_bytes:
            raise self.error(f"expected a result of at most {self.max_bytes} bytes, got {dtype} {tuple(shape)}")
        return tuple(int(extent) for extent in shape)

    def same_type(self, *arrays: Array) -> None:
        """Refuse inputs of different element types."""
        if any(a.dtype != arrays[0].dtype for a in arrays):
            raise self.error(f"inputs: expected one type, got {', '.join(str(a.dtype) for a in arrays)}")


# what runs a node: its inputs (None where left out) -> its output or outputs
Runner = Callable[..., Any]
# made once, when the model is loaded
Maker = Callable[[Node], Runner]

OPERATORS: dict[str, Maker] = {}


def maker(*names: str) -> Callable[[Maker], Maker]:
    """Register what makes a Runner of a Node, and may raise for what it does not support."""

    def register(function: Maker) -> Maker:
        for name in names:
            OPERATORS[name] = function
        return function

    return register


def operator(*names: str) -> Callable[[Runner], Runner]:
    """Register `function(node, *inputs)`, an operator with nothing to prepare."""

    def register(function: Runner) -> Runner:
        for name in names:
            OPERATORS[name] = lambda node: lambda *inputs: function(node, *inputs)
        return function

    return register
