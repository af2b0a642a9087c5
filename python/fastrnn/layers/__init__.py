"""The layers, with Keras's names, arguments, defaults and weights, and the way between a layer and its configuration.

A layer is called with an array, batch first (B batch, T time, F features, U units; masks are (B, T) bool, True where a
step is valid), and returns a new one, of its dtype: float32, or float64 where `dtype` or `fastrnn.backend.set_floatx`
says so. Arguments of the wrong value or shape raise ValueError, of the wrong type TypeError,
`[Layer] argument: expected ..., got ...`. Options that all layers take are those of `Layer`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .attention import Attention
from .base import Layer, Variable
from .bidirectional import Bidirectional
from .convolution import Conv1D
from .core import (
    Activation,
    Dense,
    Dropout,
    Embedding,
    Input,
    InputLayer,
    Masking,
    SpatialDropout1D,
    TimeDistributed,
)
from .pooling import (
    AveragePooling1D,
    AvgPool1D,
    GlobalAveragePooling1D,
    GlobalAvgPool1D,
    GlobalMaxPool1D,
    GlobalMaxPooling1D,
    MaxPool1D,
    MaxPooling1D,
)
from .recurrent import GRU, LSTM, SimpleRNN
from .reshaping import Flatten, Permute, RepeatVector, Reshape

__all__ = [
    "GRU", "LSTM", "Activation", "Attention", "AveragePooling1D", "AvgPool1D", "Bidirectional", "Conv1D",
    "Convolution1D", "Dense", "Dropout", "Embedding", "Flatten", "GlobalAveragePooling1D", "GlobalAvgPool1D",
    "GlobalMaxPool1D", "GlobalMaxPooling1D", "Input", "InputLayer", "Layer", "Masking", "MaxPool1D", "MaxPooling1D",
    "Permute", "RepeatVector", "Reshape", "SimpleRNN", "SpatialDropout1D", "TimeDistributed", "Variable", "deserialize",
    "serialize",
]  # fmt: skip

Convolution1D = Conv1D

_LAYERS: dict[str, type[Layer]] = {
    layer.__name__: layer
    for layer in (
        Activation, Attention, AveragePooling1D, Bidirectional, Conv1D, Dense, Dropout, Embedding, Flatten, GRU,
        GlobalAveragePooling1D, GlobalMaxPooling1D, InputLayer, LSTM, Masking, MaxPooling1D, Permute, RepeatVector,
        Reshape, SimpleRNN, SpatialDropout1D, TimeDistributed,
    )
}  # fmt: skip


def serialize(layer: Layer) -> dict[str, Any]:
    """`{"class_name": ..., "config": {...}}`, all JSON values."""
    if not isinstance(layer, Layer):
        raise TypeError(f"[serialize] layer: expected a layer, got {layer!r}")
    return {"class_name": type(layer).__name__, "config": layer.get_config()}


def deserialize(spec: Any, custom_objects: Mapping[str, type[Layer]] | None = None) -> Layer:
    """A new layer from what `serialize` gave. `custom_objects`: the user's own layer classes by name."""
    if not isinstance(spec, Mapping) or not isinstance(spec.get("class_name"), str):
        raise TypeError(f"[deserialize] spec: expected {{'class_name': ..., 'config': ...}}, got {spec!r}")
    config = spec.get("config")
    if not isinstance(config, Mapping):
        raise TypeError(f"[deserialize] config: expected a dictionary, got {config!r}")
    known = {**_LAYERS, **(custom_objects or {})}
    name = spec["class_name"]
    if name not in known:
        raise ValueError(f"[deserialize] class_name: expected one of {', '.join(sorted(known))}, got {name!r}")
    return known[name].from_config(dict(config))
