"""Layers without recurrence as ONNX nodes. Recurrent ones are in export_recurrent.py, the model in export.py."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import layers as L
from ..activations import Activation
from ..layers.weights import OutputActivation
from ..reference.pointwise import SELU_ALPHA, SELU_SCALE
from .export_recurrent import Flow, bidirectional, recurrent
from .writer import Writer

Emitter = Callable[[Writer, Any, Flow], "Flow | list[Flow]"]


def activation(w: Writer, spec: Activation, x: str, dtype: str) -> str:
    def number(value: float) -> str:
        return w.constant(value, dtype)

    name, a, b = spec
    match name:
        case "linear":
            return x
        case "tanh" | "sigmoid" | "relu" | "softsign" | "softplus":
            return w.op(name.capitalize(), x)
        case "exponential":
            return w.op("Exp", x)
        case "hard_sigmoid":
            return w.op("HardSigmoid", x, alpha=a, beta=b)
        case "elu":
            return w.op("Elu", x, alpha=a)
        case "leaky_relu":
            return w.op("LeakyRelu", x, alpha=a)
        case "thresholded_relu":
            return w.op("ThresholdedRelu", x, alpha=a)
        case "selu":
            return w.op("Selu", x, alpha=SELU_ALPHA, gamma=SELU_SCALE)
        case "silu":
            return w.op("Mul", x, w.op("Sigmoid", x))
        case "affine":
            return w.op("Add", w.op("Mul", x, number(a)), number(b))
        case "scaled_tanh":
            return w.op("Mul", w.op("Tanh", w.op("Mul", x, number(b))), number(a))
        case "gelu":
            cdf = w.op("Add", w.op("Erf", w.op("Mul", x, number(1 / math.sqrt(2)))), number(1))
            return w.op("Mul", w.op("Mul", x, number(0.5)), cdf)
    raise w.unsupported(f"activation: expected a known one, got {name}")


def _activated(w: Writer, spec: OutputActivation, x: str, dtype: str) -> str:
    return w.op("Softmax", x, axis=-1) if spec.softmax else activation(w, spec.spec, x, dtype)


def _dense(w: Writer, layer: Any, flow: Flow) -> Flow:
    kernel = w.weight("kernel", layer.kernel.value)
    bias = None if layer.bias is None else w.weight("bias", layer.bias.value)
    if len(flow.shape) == 2:
        y = w.op("Gemm", flow.name, kernel, *([bias] if bias else []))
    else:
        y = w.op("MatMul", flow.name, kernel)
        y = w.op("Add", y, bias) if bias else y
    return flow._replace(name=_activated(w, layer.activation, y, layer.dtype))


def _embedding(w: Writer, layer: Any, flow: Flow) -> Flow:
    ids = flow.name if flow.dtype in ("int32", "int64") else w.cast(flow.name, np.int64)
    kind = flow.dtype if ids == flow.name else "int64"
    mask = w.op("Not", w.op("Equal", ids, w.constant(0, kind)), hint="mask") if layer.mask_zero else None
    y = w.op("Gather", w.weight("embeddings", layer.embeddings.value), ids, axis=0)
    return Flow(y, (), layer.dtype, mask)


def _activation_layer(w: Writer, layer: Any, flow: Flow) -> Flow:
    return flow._replace(name=_activated(w, layer.activation, flow.name, layer.dtype))


def _nothing(w: Writer, layer: Any, flow: Flow) -> Flow:
    """Dropout layers, which only training knows."""
    return flow


def _masking(w: Writer, layer: Any, flow: Flow) -> Flow:
    differs = w.op("Not", w.op("Equal", flow.name, w.constant(layer.mask_value, layer.dtype)))
    some = w.op("ReduceMax", w.cast(differs, np.int32), axes=[-1], keepdims=1)
    mask = w.cast(some, np.bool_)
    y = w.op("Where", mask, flow.name, w.constant(0, layer.dtype))
    return flow._replace(name=y, mask=w.squeeze(mask, 2))


def _flatten(w: Writer, layer: Any, flow: Flow) -> Flow:
    return flow._replace(name=w.op("Flatten", flow.name, axis=1), mask=None)


def _reshape(w: Writer, layer: Any, flow: Flow) -> Flow:
    shape = w.constant([0, *layer.target_shape])
    return flow._replace(name=w.op("Reshape", flow.name, shape), mask=None)


def _permute(w: Writer, layer: Any, flow: Flow) -> Flow:
    return flow._replace(name=w.transpose(flow.name, 0, *layer.dims), mask=None)


def _repeat(w: Writer, layer: Any, flow: Flow) -> Flow:
    y = w.op("Expand", w.unsqueeze(flow.name, 1), w.constant([1, layer.n, 1]))
    return flow._replace(name=y, mask=None)


# ---- convolution and pooling: time last inside ----------------------------------------------------------------------


def _conv(w: Writer, layer: Any, flow: Flow) -> Flow:
    reach = (layer.kernel_size - 1) * layer.dilation_rate
    options: dict[str, Any] = {"kernel_shape": [layer.kernel_size], "strides": [layer.strides]}
    options["dilations"] = [layer.dilation_rate]
    if layer.padding == "same" and layer.strides > 1:  # the zeros depend on the number of steps
        options["auto_pad"] = "SAME_UPPER"
    else:
        options["pads"] = {"valid": [0, 0], "causal": [reach, 0], "same": [reach // 2, reach - reach // 2]}[
            layer.padding
        ]
    inputs = [w.transpose(flow.name, 0, 2, 1), w.weight("kernel", layer.kernel.value.transpose(2, 1, 0))]
    if layer.bias is not None:
        inputs.append(w.weight("bias", layer.bias.value))
    y = w.transpose(w.op("Conv", *inputs, **options), 0, 2, 1)
    return flow._replace(name=_activated(w, layer.activation, y, layer.dtype), mask=None)


def _pool(w: Writer, layer: Any, flow: Flow) -> Flow:
    kind = "MaxPool" if type(layer) is L.MaxPooling1D else "AveragePool"
    same = "SAME_UPPER" if layer.padding == "same" else "VALID"
    x = w.transpose(flow.name, 0, 2, 1)
    y = w.op(kind, x, kernel_shape=[layer.pool_size], strides=[layer.strides], auto_pad=same)
    return flow._replace(name=w.transpose(y, 0, 2, 1), mask=None)


def _global_pool(w: Writer, layer: Any, flow: Flow) -> Flow:
    largest, zero = type(layer) is L.GlobalMaxPooling1D, w.constant(0, layer.dtype)
    axes = w.constant([1])
    if flow.mask is None:
        y = w.op("ReduceMax" if largest else "ReduceMean", flow.name, axes=[1], keepdims=int(layer.keepdims))
        return flow._replace(name=y)
    valid = w.unsqueeze(flow.mask, 2)
    count = w.op("ReduceSum", w.cast(valid, layer.dtype), axes, keepdims=1)
    if largest:
        x = w.op("Where", valid, flow.name, w.constant(-np.inf, layer.dtype))
        y = w.op("Where", w.op("Greater", count, zero), w.op("ReduceMax", x, axes=[1], keepdims=1), zero)
    else:
        total = w.op("ReduceSum", w.op("Where", valid, flow.name, zero), axes, keepdims=1)
        y = w.op("Div", total, w.op("Max", count, w.constant(1, layer.dtype)))
    return flow._replace(name=y if layer.keepdims else w.squeeze(y, 1), mask=None)


def _attention(w: Writer, layer: Any, flow: Flow) -> Flow:
    keys = flow.name
    if layer.kernel is not None:
        keys = w.op("MatMul", keys, w.weight("kernel", layer.kernel.value))
        keys = keys if layer.bias is None else w.op("Add", keys, w.weight("bias", layer.bias.value))
        keys = w.op("Tanh", keys)
    query = (layer.query.value * layer.query.value.dtype.type(layer._scale))[:, None]
    scores = w.op("MatMul", keys, w.weight("query", query))
    zero = w.constant(0, layer.dtype)
    if flow.mask is not None:  # a number rather than -inf: a row of nothing must not become NaN on the way to 0
        valid = w.unsqueeze(flow.mask, 2)
        scores = w.op("Where", valid, scores, w.constant(np.finfo(layer.dtype).min, layer.dtype))
    weights = w.op("Softmax", scores, axis=1)
    if flow.mask is not None:
        weights = w.op("Where", valid, weights, zero)
    y = w.op("MatMul", w.transpose(weights, 0, 2, 1), flow.name)
    return flow._replace(name=w.squeeze(y, 1), mask=None)


def _time_distributed(w: Writer, layer: Any, flow: Flow) -> Flow:
    """The steps of all rows as one batch, and back."""
    inner = flow.shape[2:]
    if any(not isinstance(extent, int) for extent in inner):
        raise w.unsupported(f"inputs: expected known extents after (batch, time), got {flow.shape}")
    rows = w.op("Reshape", flow.name, w.constant([-1, *inner]))
    part = emit(w, layer.layer, Flow(rows, (None, *inner), flow.dtype))
    assert isinstance(part, Flow)
    if any(not isinstance(extent, int) for extent in part.shape[1:]):
        raise w.unsupported(f"layer: expected one whose output has known extents, got {part.shape}")
    shape = w.op("Concat", w.extents(flow.name, 0, 2), w.constant(list(part.shape[1:])), axis=0)
    return flow._replace(name=w.op("Reshape", part.name, shape), dtype=part.dtype)


_EMITTERS: dict[type[L.Layer], Emitter] = {
    L.Activation: _activation_layer, L.Attention: _attention, L.AveragePooling1D: _pool,
    L.Bidirectional: bidirectional, L.Conv1D: _conv, L.Dense: _dense, L.Dropout: _nothing, L.Embedding: _embedding,
    L.Flatten: _flatten, L.GRU: recurrent, L.GlobalAveragePooling1D: _global_pool,
    L.GlobalMaxPooling1D: _global_pool, L.InputLayer: _nothing, L.LSTM: recurrent, L.Masking: _masking,
    L.MaxPooling1D: _pool, L.Permute: _permute, L.RepeatVector: _repeat, L.Reshape: _reshape, L.SimpleRNN: recurrent,
    L.SpatialDropout1D: _nothing, L.TimeDistributed: _time_distributed,
}  # fmt: skip
# layers with one output step per input step
_KEEP_TIME = (
    L.Activation, L.Bidirectional, L.Dense, L.Dropout, L.Embedding, L.GRU, L.InputLayer, L.LSTM, L.Masking, L.SimpleRNN,
    L.SpatialDropout1D, L.TimeDistributed,
)  # fmt: skip


def emit(w: Writer, layer: L.Layer, flow: Flow) -> Flow | list[Flow]:
    """Write one layer; only the classes themselves: an heir may compute something else."""
    emitter = _EMITTERS.get(type(layer))
    if emitter is None:
        known = ", ".join(sorted(kind.__name__ for kind in _EMITTERS))
        raise w.unsupported(f"expected one of {known}, got {type(layer).__name__}")
    if layer._input_kind == "float" and flow.dtype != layer.dtype:
        flow = flow._replace(name=w.cast(flow.name, layer.dtype), dtype=layer.dtype)
    shapes = layer.compute_output_shape(tuple(e if isinstance(e, int) else None for e in flow.shape))
    result = emitter(w, layer, flow)
    if isinstance(result, Flow):
        return result._replace(shape=_named(layer, flow, shapes))
    return [f._replace(shape=_named(layer, flow, s)) for f, s in zip(result, shapes, strict=True)]


def _named(layer: Any, flow: Flow, shape: Any) -> tuple[int | str | None, ...]:
    """`shape` with names where it is open."""
    named: list[int | str | None] = ["batch", *shape[1:]]
    for axis, extent in enumerate(shape):
        if axis and extent is None:
            same = isinstance(layer, L.Conv1D) and layer.padding != "valid" and layer.strides == 1
            keeps = axis == 1 and (same or isinstance(layer, _KEEP_TIME))
            named[axis] = flow.shape[1] if keeps else f"{layer.name}_{axis}"
    return tuple(named)
