"""A Sequential as an ONNX model: inputs and outputs, the layers in order, the file."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, helper

from .. import layers as L
from .. import saving
from ..models import Sequential
from .export_layers import emit
from .export_recurrent import Flow
from .writer import IR_VERSION, OPSET, Writer

_LIMIT = (1 << 31) - (1 << 20)  # protobuf's, less what is not weights
# layers whose output depends on how long a sequence is: with them the time axis keeps the extent the model has
_FIXED_TIME = (L.Flatten, L.Reshape, L.Permute)


def export(model: Any, filepath: str | os.PathLike[str], *, padding: str = "any") -> None:
    """Write a Sequential to an .onnx file; see `Sequential.export`."""
    path = saving._as_path("export", "filepath", filepath)
    saving.replace_file("export", path, to_proto(model, padding=padding).SerializeToString())


def to_proto(model: Any, *, padding: str = "any") -> ModelProto:
    """A Sequential as an onnx.ModelProto, checked. Arguments and errors: those of `Sequential.export`."""
    if padding not in ("any", "post"):
        raise ValueError(f"[export] padding: expected 'any' or 'post', got {padding!r}")
    if not isinstance(model, Sequential):
        raise TypeError(f"[export] model: expected a Sequential, got {type(model).__name__}")
    if not model.built:
        raise ValueError("[export] model: expected a built model, got one without weights")
    size = sum(v.value.nbytes for v in model.weights)
    if size > _LIMIT:
        raise ValueError(f"[export] model: expected weights of less than 2 GB (protobuf's limit), got {size} bytes")
    w = Writer(padding)
    flow: Flow | list[Flow] = _input(model)
    assert isinstance(flow, Flow)
    graph_input = helper.make_tensor_value_info("input", _kind(flow.dtype), flow.shape)
    for index, layer in enumerate(model.layers):
        assert isinstance(flow, Flow)
        w.scope, w.place = (
            layer.name,
            f"layer {layer.name!r} ({type(layer).__name__}, {index + 1} of {len(model.layers)})",
        )
        flow = emit(w, layer, flow)
    w.scope = ""
    flows = flow if isinstance(flow, list) else [flow]
    outputs = []
    for index, part in enumerate(flows):
        name = "output" if len(flows) == 1 else f"output_{index}"
        w.nodes.append(helper.make_node("Identity", [part.name], [name], name=w.name("Identity")))
        outputs.append(helper.make_tensor_value_info(name, _kind(part.dtype), part.shape))
    graph = helper.make_graph(w.nodes, model.name, [graph_input], outputs, w.initializers)
    proto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="fastrnn"
    )
    if model.extra:
        helper.set_model_props(proto, model.extra)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def _kind(dtype: str) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _input(model: Any) -> Flow:
    """The model's input, batch and time open where the layers allow it."""
    first = model.layers[0]
    shape = list(model._input_shape or first.input_shape or ())
    if not shape:
        raise ValueError(
            "[export] model: expected one that knows the shape of its input, got one that was never given any"
        )
    dtype = first.dtype
    inner = first.layer if isinstance(first, L.TimeDistributed) else first
    if type(inner) is L.Embedding:
        given = None if model._input is None else model._input.input_dtype
        dtype = given if given in ("int32", "int64") else "int64"
    named: list[int | str | None] = ["batch", *shape[1:]]
    timed = len(shape) > 2 or (len(shape) == 2 and type(first) is L.Embedding)
    if timed and (shape[1] is None or not any(isinstance(layer, _FIXED_TIME) for layer in model.layers)):
        named[1] = "time"
    for axis, extent in enumerate(named):
        if extent is None:
            named[axis] = f"axis_{axis}"
    return Flow("input", tuple(named), dtype)
