"""Recurrent layers as RNN, LSTM and GRU nodes, with masks; Bidirectional as one node where both directions allow it.

A mask may have gaps and stand at the start of a row, and ONNX knows lengths alone. But a masked step leaves the state
as it is, so a row is the same as its valid steps moved to the front: that is what the graph does (`_Mask.compact`),
and afterwards it moves the outputs back (`_Mask.spread`). With padding="post" the valid steps are in front already.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..layers import GRU, Bidirectional
from ..layers.recurrent import Recurrent
from . import activations, gates
from .writer import Writer

_OPS = {cell: op for op, cell in gates.CELLS.items()}


class Flow(NamedTuple):
    """What goes from layer to layer: the name of a result, its shape (None or a name where open), its dtype, and the
    name of its mask (B, T)."""

    name: str
    shape: tuple[int | str | None, ...]
    dtype: str
    mask: str | None = None


class _Mask:
    """The nodes around a recurrent node for a mask (B, T)."""

    def __init__(self, w: Writer, mask: str) -> None:
        self.w, self.mask = w, mask
        self.counts = w.once(("counts", mask), lambda: w.cast(mask, np.int64))

    def lengths(self) -> str:
        """(B,) int32, the number of valid steps."""
        return str(self.w.once(("lengths", self.mask), lambda: self.w.cast(self._total(0), np.int32)))

    def _total(self, keepdims: int) -> str:
        return self.w.op("ReduceSum", self.counts, self.w.constant([1]), keepdims=keepdims)

    def compact(self, x: str) -> str:
        """x (B, T, I) with the valid steps of each row in front, in their order."""
        w = self.w
        if w.padding == "post":
            return x

        def order() -> str:
            time = w.extents(self.mask, 1, 2)
            zero, one = w.constant(0), w.constant(1)
            steps = w.op("Range", zero, w.squeeze(time, 0), one)
            keys = w.op("Where", self.mask, steps, w.op("Add", steps, time))
            _, indices = w.ops("TopK", [keys, time], ["sorted", "order"], axis=1, largest=0, sorted=1)
            return w.unsqueeze(indices, 2)

        return w.op("GatherND", x, w.once(("order", self.mask), order), batch_dims=1)

    def spread(self, y: str, dtype: str, *, hold: bool, reverse: bool) -> str:
        """Outputs (B, T, H) of compacted steps, back at their places. A masked step has zeros, or with `hold` the
        output of the last step that was run before it (in the order of processing), zeros if there is none."""
        w = self.w
        position = w.op("CumSum", self.counts, w.constant(1), reverse=int(reverse))
        if reverse:
            index = w.op("Sub", self._total(1), position)
        else:
            index = w.op("Sub", position, w.constant(1))
        valid = w.op("Greater", position, w.constant(0)) if hold else self.mask
        index = w.op("Where", valid, index, w.constant(0))
        y = w.op("GatherND", y, w.unsqueeze(index, 2), batch_dims=1)
        return w.op("Where", w.unsqueeze(valid, 2), y, w.constant(0, dtype))


class _Result(NamedTuple):
    """Of one direction: outputs (B, T, H) at the places of the inputs as they were given to the node, states (B, H)."""

    y: str
    states: list[str]


def _weights(w: Writer, op: str, layers: list[Recurrent]) -> list[str]:
    """W, R and B of a node, "" without biases."""
    parts: list[list[Any]] = [[], [], []]
    biased = any(layer.use_bias for layer in layers)
    for layer in layers:
        weight_ih, weight_hh, *biases = layer._native_weights()
        parts[0].append(gates.to_onnx(op, weight_ih))
        parts[1].append(gates.to_onnx(op, weight_hh))
        zeros = np.zeros(layer.gate_count * layer.units, layer.dtype)
        parts[2].append(np.concatenate([gates.to_onnx(op, zeros if b is None else b) for b in biases]))
    names = [w.weight(hint, np.stack(part)) for hint, part in zip("WR", parts, strict=False)]
    return [*names, w.weight("B", np.stack(parts[2])) if biased else ""]


def _activations(w: Writer, layers: list[Recurrent]) -> dict[str, Any]:
    """The attributes for those that are not ONNX's defaults."""
    names: list[str] = []
    alphas: list[float] = []
    betas: list[float] = []
    for layer in layers:
        slots = [("activation", layer.activation)]
        if layer.cell != "rnn":
            gate = layer.recurrent_activation  # type: ignore[attr-defined]
            slots = [("recurrent_activation", gate), *slots * (2 if layer.cell == "lstm" else 1)]
        for slot, activation in slots:
            found = activations.name_of(activation)
            if found is None:
                known = ", ".join(sorted({"linear", *activations.TO_ONNX}))
                raise w.unsupported(f"{slot}: expected one of {known}, got {activation.name}")
            name, alpha, beta = found
            names.append(name)
            alphas += [] if alpha is None else [alpha]
            betas += [] if beta is None else [beta]
    usual = {"rnn": ["Tanh"], "lstm": ["Sigmoid", "Tanh", "Tanh"], "gru": ["Sigmoid", "Tanh"]}[layers[0].cell]
    if names == usual * len(layers):
        return {}
    given = {"activations": names, "activation_alpha": alphas, "activation_beta": betas}
    return {key: value for key, value in given.items() if value}


def _node(w: Writer, layers: list[Recurrent], x: str, lengths: str, sequences: bool) -> list[_Result]:
    """One node of one or two directions on x (B, T, I)."""
    first = layers[0]
    op = _OPS[first.cell]
    direction = "bidirectional" if len(layers) == 2 else "reverse" if first.go_backwards else "forward"
    attributes: dict[str, Any] = {"hidden_size": first.units, "direction": direction, **_activations(w, layers)}
    if isinstance(first, GRU):
        attributes["linear_before_reset"] = int(first.reset_after)
    inputs = [w.transpose(x, 1, 0, 2), *_weights(w, op, layers), lengths]
    while not inputs[-1]:
        inputs.pop()
    outputs = ["Y" if sequences else "", "Y_h", *(["Y_c"] if op == "LSTM" else [])]
    y, *states = w.ops(op, inputs, outputs, **attributes)
    results = []
    for d in range(len(layers)):
        index = w.constant(d)
        found = [w.op("Gather", state, index, axis=0) for state in states]
        whole = w.transpose(w.op("Gather", y, index, axis=1), 1, 0, 2) if sequences else ""
        results.append(_Result(whole, found))
    return results


def _check(w: Writer, layer: Any) -> None:
    if layer.stateful:
        raise w.unsupported("stateful: expected False (a graph keeps nothing from call to call), got True")


def _run(w: Writer, layers: list[Recurrent], flow: Flow) -> list[_Result]:
    """Both directions in one node, or one; outputs at the places of the inputs, masked steps as the layers say."""
    sequences = layers[0].return_sequences
    mask = None if flow.mask is None else _Mask(w, flow.mask)
    x = flow.name if mask is None else mask.compact(flow.name)
    results = _node(w, layers, x, "" if mask is None else mask.lengths(), sequences)
    if mask is None or not sequences:
        return results
    return [
        result._replace(
            y=mask.spread(result.y, layer.dtype, hold=not layer.zero_output_for_mask, reverse=layer.go_backwards)
        )
        for layer, result in zip(layers, results, strict=True)
    ]


def _output(w: Writer, layer: Recurrent, result: _Result, flow: Flow, flip: bool) -> str:
    """The layer's output: (B, T, H) in its order of processing (or turned round with `flip`), or the last (B, H)."""
    if layer.return_sequences:
        return w.flip(result.y) if layer.go_backwards != flip else result.y
    y = result.states[0]
    if flow.mask is not None and layer.zero_output_for_mask:
        last = w.op("Gather", flow.mask, w.constant([0 if layer.go_backwards else -1]), axis=1)
        y = w.op("Where", last, y, w.constant(0, layer.dtype))
    return y


def _mask_after(w: Writer, flow: Flow, first: Recurrent) -> str | None:
    if flow.mask is None or not first.return_sequences:
        return None
    return w.flip(flow.mask) if first.go_backwards else flow.mask


def recurrent(w: Writer, layer: Recurrent, flow: Flow) -> Flow | list[Flow]:
    _check(w, layer)
    (result,) = _run(w, [layer], flow)
    y = Flow(_output(w, layer, result, flow, False), (), layer.dtype, _mask_after(w, flow, layer))
    return [y, *(Flow(name, (), layer.dtype) for name in result.states)] if layer.return_state else y


def bidirectional(w: Writer, layer: Bidirectional, flow: Flow) -> Flow | list[Flow]:
    _check(w, layer)
    one, other = layer.forward_layer, layer.backward_layer
    for part in (one, other):
        if type(part).__name__ not in ("SimpleRNN", "LSTM", "GRU"):
            raise w.unsupported(f"layer: expected a SimpleRNN, LSTM or GRU, got {type(part).__name__}")
    together = (
        not one.go_backwards
        and type(one) is type(other)
        and one.units == other.units
        and getattr(one, "reset_after", None) == getattr(other, "reset_after", None)
    )
    results = _run(w, [one, other], flow) if together else [_run(w, [part], flow)[0] for part in (one, other)]
    y, y_back = (
        _output(w, part, result, flow, flip)
        for part, result, flip in zip((one, other), results, (False, True), strict=True)
    )
    mode = layer.merge_mode
    if mode is None:
        merged = [y, y_back]
    elif mode == "concat":
        merged = [w.op("Concat", y, y_back, axis=-1)]
    else:
        total = w.op("Mul" if mode == "mul" else "Add", y, y_back)
        merged = [w.op("Mul", total, w.constant(0.5, layer.dtype)) if mode == "ave" else total]
    mask = _mask_after(w, flow, one)
    outputs = [Flow(name, (), layer.dtype, mask) for name in merged]
    if layer.return_state:
        outputs += [Flow(name, (), layer.dtype) for result in results for name in result.states]
    return outputs if len(outputs) > 1 else outputs[0]
