"""Recurrent modules of PyTorch to the layers of `fastrnn.layers` and back, with their weights.

PyTorch: gates i f g o and r z n, weight_ih (G*H, I), two biases. Keras and so the layers: gates i f c o and z r h,
kernel (I, G*U), one bias but for a GRU with reset_after. layers/gates.py has the table; here are the biases and the
structure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import layers as L
from ..layers import gates
from ..layers.recurrent import Recurrent
from .autograd import array
from .modules import GRU, LSTM, RNN, Kernels

_LAYERS: dict[type, type[Recurrent]] = {nn.RNN: L.SimpleRNN, nn.LSTM: L.LSTM, nn.GRU: L.GRU}
_MODULES: dict[str, type[Kernels]] = {"rnn": RNN, "lstm": LSTM, "gru": GRU}


def to_layers(module: nn.Module, *, return_sequences: bool = True) -> list[L.Layer]:
    """The layers of `fastrnn.layers` that compute what `module` does, with copies of its weights.

    A SimpleRNN, LSTM or GRU for each layer of the module, in a Bidirectional where it has two directions, with Dropout
    between them where it has dropout; for a `Sequential`, or alone. They are batch-first, whatever the module is.

    An LSTM or RNN of PyTorch has two biases that are only ever added; the layer gets their sum.

    Args:
        module: a torch.nn.RNN, LSTM or GRU, accelerated or not.
        return_sequences: of the last layer; False gives its final h (of both directions, concatenated).

    Raises:
        TypeError: another module. ValueError: projections, a dtype other than float32 and float64, or no values (meta).
    """
    op = "to_layers"
    kind = next((plain for plain in _LAYERS if isinstance(module, plain)), None)
    if kind is None:
        raise TypeError(f"[{op}] module: expected a torch.nn.RNN, LSTM or GRU, got {type(module).__name__}")
    assert isinstance(module, nn.RNNBase)
    if module.proj_size:
        raise ValueError(f"[{op}] module: expected proj_size=0, got {module.proj_size}")
    weights = module.all_weights
    dtype = str(weights[0][0].dtype).removeprefix("torch.")
    if dtype not in ("float32", "float64"):
        raise ValueError(f"[{op}] module: expected float32 or float64 weights, got {dtype}")
    if any(w.is_meta for given in weights for w in given):
        raise ValueError(f"[{op}] module: expected weights with values, got weights on the device meta")
    options = {"activation": module.nonlinearity} if isinstance(module, nn.RNN) else {}
    directions = 2 if module.bidirectional else 1
    result: list[L.Layer] = []
    layer_class: Any = _LAYERS[kind]
    for index in range(module.num_layers):
        sequences = return_sequences or index < module.num_layers - 1
        layer: L.Layer = layer_class(
            module.hidden_size, use_bias=module.bias, return_sequences=sequences, dtype=dtype, **options
        )
        if module.bidirectional:
            layer = L.Bidirectional(layer)
        layer.build((None, None, module.input_size if index == 0 else directions * module.hidden_size))
        given = weights[index * directions : (index + 1) * directions]
        layer.set_weights([w for one in given for w in _keras_weights(layer_class.cell, one)])
        if index and module.dropout:
            result.append(L.Dropout(module.dropout))
        result.append(layer)
    return result


def from_layers(layers: L.Layer | Iterable[L.Layer]) -> RNN | LSTM | GRU:
    """The `fastrnn.torch.RNN`, `LSTM` or `GRU` that computes what `layers` do one after another, with copies of their
    weights: the inverse of `to_layers`. It has batch_first=True; `restore` makes it a module of torch.nn.

    Bias of an LSTM or SimpleRNN: bias_ih is the layer's, bias_hh zero. Regularizers, constraints and initializers have
    no counterpart in the module and are left behind.

    Args:
        layers: built layers of the same kind and size (SimpleRNN, LSTM, GRU, or each in a Bidirectional), with Dropout
            of one rate between them or none.

    Raises:
        TypeError, ValueError: layers that PyTorch's module cannot express, named with the reason.
    """
    parts, rate = _parts([layers] if isinstance(layers, L.Layer) else list(layers))
    first = parts[0][0]
    kind = _MODULES[first.cell]
    options: dict[str, Any] = {"nonlinearity": first.activation.name} if first.cell == "rnn" else {}
    kernel = first.get_weights()[0]
    module = kind(
        kernel.shape[0], first.units, num_layers=len(parts), bias=first.use_bias, batch_first=True, dropout=rate,
        bidirectional=len(parts[0]) == 2, dtype=torch.float64 if first.dtype == "float64" else torch.float32,
        device="cpu",  # whatever the default device is: on "meta" the weights would be lost
        **options,
    )  # fmt: skip
    with torch.no_grad():
        directions = [direction for part in parts for direction in part]
        for direction, given in zip(directions, module.all_weights, strict=True):
            for parameter, value in zip(given, _torch_weights(direction), strict=True):
                parameter.copy_(torch.from_numpy(np.ascontiguousarray(value)))
    assert isinstance(module, (RNN, LSTM, GRU))
    return module


def _keras_weights(cell: str, weights: Sequence[Tensor]) -> list[Any]:
    arrays = [array(w) for w in weights]
    weight_ih, weight_hh, *biases = arrays
    bias_ih, bias_hh = biases if biases else (None, None)
    if cell != "gru" and bias_ih is not None and bias_hh is not None:
        bias_ih, bias_hh = bias_ih + bias_hh, None
    kernel, recurrent, bias = gates.to_keras(cell, weight_ih, weight_hh, bias_ih, bias_hh)
    return [kernel, recurrent] if bias is None else [kernel, recurrent, bias]


def _torch_weights(layer: Recurrent) -> list[Any]:
    kernel, recurrent, *bias = layer.get_weights()
    weight_ih, weight_hh, bias_ih, bias_hh = gates.to_native(layer.cell, kernel, recurrent, bias[0] if bias else None)
    if bias_ih is None:
        return [weight_ih, weight_hh]
    return [weight_ih, weight_hh, bias_ih, np.zeros_like(bias_ih) if bias_hh is None else bias_hh]


def _parts(layers: Sequence[Any]) -> tuple[list[tuple[Recurrent, ...]], float]:
    """The directions of each recurrent layer, and the rate of the dropout between them."""
    parts: list[tuple[Recurrent, ...]] = []
    rates: list[float] = []
    last = len(layers) - 1
    for i, layer in enumerate(layers):
        where = f"[from_layers] layers[{i}] ({getattr(layer, 'name', type(layer).__name__)})"
        if type(layer) is L.Dropout:  # what derives from it drops other things
            if layer.noise_shape is not None:
                raise ValueError(f"{where}: expected noise_shape=None, got {layer.noise_shape!r}")
            if len(rates) + 1 != len(parts) or i == last:
                raise ValueError(f"{where}: expected dropout between two recurrent layers, got it elsewhere")
            rates.append(layer.rate)
            continue
        if parts and len(rates) < len(parts):
            rates.append(0.0)
        both = (layer.forward_layer, layer.backward_layer) if isinstance(layer, L.Bidirectional) else (layer,)
        for direction, part in enumerate(both):
            if not isinstance(part, Recurrent):
                kind = type(part).__name__
                raise TypeError(f"{where}: expected SimpleRNN, LSTM, GRU or Bidirectional of one, got {kind}")
            _check(where, part, direction, None if not parts else parts[0][0], sequences=i != last)
        if isinstance(layer, L.Bidirectional) and layer.merge_mode != "concat":
            raise ValueError(f"{where}: expected merge_mode='concat', got {layer.merge_mode!r}")
        if parts and len(both) != len(parts[0]):
            raise ValueError(f"{where}: expected {len(parts[0])} direction(s) as in the first layer, got {len(both)}")
        parts.append(both)
    if not parts:
        raise ValueError("[from_layers] layers: expected at least one recurrent layer, got none")
    if len(set(rates)) > 1:
        raise ValueError(f"[from_layers] layers: expected one rate of dropout between layers, got {rates}")
    return parts, rates[0] if rates else 0.0


def _check(where: str, layer: Recurrent, direction: int, first: Recurrent | None, *, sequences: bool) -> None:
    if not layer.built:
        raise ValueError(f"{where}: expected a built layer, got one without weights")
    gate = getattr(layer, "recurrent_activation", None)
    activations = ("tanh", "relu") if layer.cell == "rnn" else ("tanh",)
    wanted: list[tuple[str, Any, tuple[Any, ...]]] = [
        ("activation", layer.activation.name, activations),
        ("recurrent_activation", "sigmoid" if gate is None else gate.name, ("sigmoid",)),
        ("reset_after", getattr(layer, "reset_after", True), (True,)),
        ("go_backwards", layer.go_backwards, (direction == 1,)),
        ("stateful", layer.stateful, (False,)),
        ("return_state", layer.return_state, (False,)),
        ("dropout", layer.dropout, (0,)),
        ("recurrent_dropout", layer.recurrent_dropout, (0,)),
    ]
    if sequences:
        wanted.append(("return_sequences", layer.return_sequences, (True,)))
    if first is not None:
        names = ("cell", "units", "use_bias", "dtype", "activation")
        wanted += [(name, getattr(layer, name), (getattr(first, name),)) for name in names]
    for name, got, allowed in wanted:
        if got not in allowed:
            raise ValueError(f"{where}: expected {name}={' or '.join(map(repr, allowed))}, got {got!r}")
