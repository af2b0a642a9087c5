"""Bidirectional: one recurrent layer run both ways over the same input. Not the recurrence itself (recurrent.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..functional.pairs import backward_pair, forward_pair
from . import checks
from .base import Array, Layer, Shape
from .recurrent import Recurrent
from .tokens import TokenGradient, Tokens

_MODES = ("concat", "sum", "mul", "ave", None)


class Bidirectional(Layer):
    """Run `layer` forwards, a copy of it (or `backward_layer`) backwards, and merge.

    `merge_mode` "concat" (default), "sum", "mul", "ave", or None for a list of both outputs. Input (B, T, I), mask
    (B, T). As in Keras the given layer is only a pattern: both directions get their own weights, and masked steps
    give zeros.
    With return_state the result is [output, forward states ..., backward states ...].
    """

    _input_words = "(batch, time, features)"
    _input_rank = 3
    supports_masking = True

    def __init__(
        self, layer: Any, merge_mode: str | None = "concat", *, backward_layer: Any = None, **options: Any
    ) -> None:
        op = "Bidirectional"
        layer = _from_spec(op, "layer", layer)
        backward_layer = None if backward_layer is None else _from_spec(op, "backward_layer", backward_layer)
        checks.one_of(op, "merge_mode", merge_mode, _MODES)
        inner_shape = layer._batch_input_shape
        if inner_shape is not None and not {"input_shape", "batch_input_shape", "batch_shape"} & options.keys():
            options["batch_input_shape"] = inner_shape
        options.setdefault("dtype", layer.dtype)
        super().__init__(**options)
        self.merge_mode = merge_mode
        self.forward_layer = _copy(layer, "forward_")
        self.backward_layer = _copy(layer, "backward_", go_backwards=True) if backward_layer is None else backward_layer
        self._check_pair()
        self.return_sequences = self.forward_layer.return_sequences
        self.return_state = self.forward_layer.return_state
        self.stateful = self.forward_layer.stateful
        for direction in self._sublayers():
            # Otherwise masked steps would repeat one direction's output and not the other's; and the last output of a
            # masked row must be its final state.
            direction.zero_output_for_mask = self.return_sequences
        if not self._trainable:
            self.trainable = False

    def _check_pair(self) -> None:
        op, one, other = "Bidirectional", self.forward_layer, self.backward_layer
        if one.go_backwards == other.go_backwards:
            words = f"go_backwards={not one.go_backwards}, the opposite of layer's"
            raise ValueError(f"[{op}] backward_layer: expected {words}, got {other.go_backwards}")
        for name in ("return_sequences", "return_state", "stateful", "dtype"):
            if getattr(one, name) != getattr(other, name):
                raise ValueError(
                    f"[{op}] backward_layer: expected {name}={getattr(one, name)!r} as in layer, "
                    f"got {getattr(other, name)!r}"
                )
        if self.dtype != one.dtype:
            raise ValueError(f"[{op}] dtype: expected {one.dtype!r} as in layer, got {self.dtype!r}")
        if self.merge_mode in ("sum", "mul", "ave") and one.units != other.units:
            raise ValueError(f"[{op}] backward_layer: expected units={one.units} as in layer, got {other.units}")

    def _sublayers(self) -> tuple[Recurrent, Recurrent]:
        return self.forward_layer, self.backward_layer

    def _as_input(self, x: Any) -> Any:
        if isinstance(x, Tokens) and all(layer.projects(x) for layer in self._sublayers()):
            return x
        return super()._as_input(x)

    def _build(self, input_shape: Shape) -> None:
        for prefix, layer in zip(("forward", "backward"), self._sublayers(), strict=True):
            if layer.built:
                continue
            layer.build(input_shape)
            for variable in layer.weights:
                variable.name = f"{prefix}_{variable.name}"
        self._last_dim = input_shape[-1]

    # ---- running --------------------------------------------------------------------------------------------------

    def __call__(self, x: Any, initial_state: Any = None, *, mask: Any = None, training: bool = False) -> Any:
        """Run on `x` (B, T, I). `initial_state`: the forward layer's states, then the backward layer's, (B, U) each."""
        x = self._as_input(x)
        self._check_shape(x.shape)
        if not self.built:
            self.build(x.shape if self.stateful else (None, *x.shape[1:]))
        return self.forward(x, training=training, mask=mask, initial_state=initial_state)

    def forward(self, x: Array, *, training: bool = False, mask: Array | None = None, initial_state: Any = None) -> Any:
        self._given: list[list[Array] | None] = [None, None]
        if initial_state is not None:
            count = self.forward_layer.state_count
            initial_state = checks.arrays("Bidirectional", "initial_state", initial_state)
            if len(initial_state) != count + self.backward_layer.state_count:
                words = f"{count} states of layer, then {self.backward_layer.state_count} of backward_layer"
                raise ValueError(f"[Bidirectional] initial_state: expected {words}, got {len(initial_state)}")
            halves = (initial_state[:count], initial_state[count:])
            self._given = [d.check_state(list(h), len(x)) for d, h in zip(self._sublayers(), halves, strict=True)]
        return super().forward(x, training=training, mask=mask)

    def _forward(self, x: Array, training: bool, mask: Array | None) -> Any:
        one, other = self._sublayers()
        split, wide = one.units, one.units + other.units
        outs: list[Array | None] = [None, None]
        whole = None
        if self.merge_mode == "concat" and self.return_sequences:
            # both directions write into their half: no concatenation
            whole = np.empty((*x.shape[:2], wide), self.dtype)
            outs = [whole[..., :split], whole[..., split:]]
        run = one.begin(x, training, mask, self._given[0], out=outs[0])
        # Keras turns the second output round, whichever of the two goes backwards
        run_back = other.begin(x, training, mask, self._given[1], out=outs[1], flip=True)
        result, result_back = forward_pair(run.call, run_back.call)
        y, states, trace = one.end(run, result)
        y_back, states_back, trace_back = other.end(run_back, result_back)
        for layer, output in ((one, y), (other, y_back)):
            if layer.activity_regularizer is not None:
                layer._penalise(output, x.shape[0], training)
        merged = self._merge(y, y_back) if whole is None else whole
        if training:
            products = (y, y_back) if self.merge_mode == "mul" else None
            self._cache = (trace, trace_back, products)
        if not self.return_state:
            return merged
        return [*(merged if self.merge_mode is None else [merged]), *states, *states_back]

    def _merge(self, y: Array, y_back: Array) -> Any:
        if self.merge_mode == "concat":
            return np.concatenate([y, y_back], axis=-1)
        if self.merge_mode == "mul":
            return y * y_back
        if self.merge_mode is None:
            return [y, y_back]
        total = y + y_back
        if self.merge_mode == "ave":
            total *= total.dtype.type(0.5)
        return total

    def _backward(self, cache: Any, grad_y: Any) -> Any:
        trace, trace_back, products = cache
        one, other = self._sublayers()
        state_grads: list[Any] = []
        outputs = 2 if self.merge_mode is None else 1
        if self.return_state:
            grad_y, state_grads = list(grad_y), list(grad_y)[outputs:]
            grad_y = grad_y[:outputs] if self.merge_mode is None else grad_y[0]
        grad, grad_back = self._split(grad_y, products)
        grad, grad_back = one._penalty_gradient(grad), other._penalty_gradient(grad_back)
        one.need_grad_x = other.need_grad_x = self.need_grad_x
        call = one.begin_backward(trace, grad, state_grads[: one.state_count])
        call_back = other.begin_backward(trace_back, grad_back, state_grads[one.state_count :])
        gradients, gradients_back = backward_pair(call, call_back)
        grad_x = one.end_backward(trace, gradients)
        grad_x_back = other.end_backward(trace_back, gradients_back)
        if grad_x is None or grad_x_back is None:
            return None
        grad_x += grad_x_back
        return TokenGradient(grad_x) if trace.tokens else grad_x

    def _split(self, grad_y: Any, products: Any) -> tuple[Any, Any]:
        """The gradients of the two outputs for that of the merged one; the inverse of `_merge`."""
        if grad_y is None:
            return None, None
        if self.merge_mode is None:
            return grad_y[0], grad_y[1]
        if self.merge_mode == "concat":
            units = self.forward_layer.units
            return grad_y[..., :units], grad_y[..., units:]
        if self.merge_mode == "mul":
            return grad_y * products[1], grad_y * products[0]
        if self.merge_mode == "ave":
            grad_y = grad_y * grad_y.dtype.type(0.5)
        return grad_y, grad_y

    # ---- shapes, masks, states, configuration ---------------------------------------------------------------------

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Any:
        one, other = self._sublayers()
        head = tuple(input_shape[:2]) if self.return_sequences else (input_shape[0],)
        if self.merge_mode is None:
            outputs = [(*head, one.units), (*head, other.units)]
        else:
            outputs = [(*head, one.units + other.units if self.merge_mode == "concat" else one.units)]
        if self.return_state:
            for layer in (one, other):
                outputs += [(input_shape[0], layer.units)] * layer.state_count
        return outputs[0] if len(outputs) == 1 else outputs

    def compute_mask(self, mask: Array | None) -> Array | None:
        if mask is None or not self.return_sequences:
            return None
        # The result is in the order of processing of the first layer.
        return np.ascontiguousarray(mask[:, ::-1]) if self.forward_layer.go_backwards else mask

    @property
    def states(self) -> list[Array] | None:
        """The states of both directions, forwards first, or None."""
        one, other = self._sublayers()
        return None if one.states is None or other.states is None else [*one.states, *other.states]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "merge_mode": self.merge_mode,
            "layer": {"class_name": type(self.forward_layer).__name__, "config": self.forward_layer.get_config()},
            "backward_layer": {
                "class_name": type(self.backward_layer).__name__, "config": self.backward_layer.get_config(),
            },
        }  # fmt: skip


def _from_spec(op: str, arg: str, layer: Any) -> Recurrent:
    if isinstance(layer, dict):
        from . import deserialize

        layer = deserialize(layer)
    if not isinstance(layer, Recurrent):
        raise TypeError(f"[{op}] {arg}: expected a SimpleRNN, LSTM or GRU layer, got {layer!r}")
    return layer


def _copy(layer: Recurrent, prefix: str, **changes: Any) -> Recurrent:
    name = prefix + layer.name.removeprefix(prefix)
    copy = type(layer).from_config({**layer.get_config(), "name": name, **changes})
    assert isinstance(copy, Recurrent)
    return copy
