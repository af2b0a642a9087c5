"""The operators RNN, LSTM and GRU, every attribute, on the kernels; weights known at load time are packed then."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .. import functional as F
from . import activations, gates, recurrence
from .node import Node, Runner, maker
from .recurrence import Rules, Weights

Array = npt.NDArray[Any]

_SLOTS = {"RNN": ("Tanh",), "LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh")}
# names of the kernels' activation slots, in ONNX's order f g h
_ARGUMENTS = {
    "RNN": ("activation",),
    "LSTM": ("recurrent_activation", "activation", "output_activation"),
    "GRU": ("recurrent_activation", "activation"),
}
# where the optional inputs stand
_B, _LENGTHS, _H0, _C0, _P = 3, 4, 5, 6, 7


class _Direction(NamedTuple):
    rules: Rules
    reverse: bool
    on_kernels: bool


@maker("RNN", "LSTM", "GRU")
def _make(node: Node) -> Runner:
    return _Recurrent(node)


class _Recurrent:
    """One node. Shapes: X (T, B, I), or (B, T, I) with layout 1; W (D, G*H, I), R (D, G*H, H), B (D, 2*G*H)."""

    def __init__(self, node: Node) -> None:
        self.node, self.op = node, node.op
        attributes = node.attributes
        direction = attributes["direction"].lower()
        if direction not in ("forward", "reverse", "bidirectional"):
            raise node.error(f"direction: expected forward, reverse or bidirectional, got {attributes['direction']!r}")
        self.batch_first = bool(attributes.get("layout") or 0)
        if (attributes.get("layout") or 0) not in (0, 1):
            raise node.error(f"layout: expected 0 or 1, got {attributes['layout']}")
        self.hidden = attributes["hidden_size"]
        if self.hidden is not None and self.hidden < 1:
            raise node.error(f"hidden_size: expected an integer >= 1, got {self.hidden}")
        reverses = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[direction]
        peepholes = self.op == "LSTM" and len(node.inputs) > _P and bool(node.inputs[_P])
        self.directions = [
            self._direction(reverse, slots, peepholes)
            for reverse, slots in zip(reverses, self._activations(len(reverses)), strict=True)
        ]
        self.cell_options: dict[str, Any] = (
            {"reset_after": self._flag("linear_before_reset")} if self.op == "GRU" else {}
        )
        self.packed: list[Any] | None = None
        w, r = node.constant(1), node.constant(2)
        b_given = len(node.inputs) > _B and bool(node.inputs[_B])
        b = node.constant(_B)
        if w is not None and r is not None and (b is not None or not b_given):
            self.packed = self._weights(w, r, b)

    def _activations(self, count: int) -> list[list[Any]]:
        names, slots = self.node.attributes["activations"], _SLOTS[self.op]
        if not names or (
            self.op == "RNN" and names == ["Tanh", "Tanh"]
        ):  # the schema's default, whatever the direction
            names = list(slots) * count
        if len(names) != len(slots) * count:
            expected = f"{len(slots) * count} ({len(slots)} for each of {count} directions)"
            raise self.node.error(f"activations: expected {expected}, got {len(names)}: {', '.join(names)}")
        alphas = self.node.attributes["activation_alpha"] or []
        betas = self.node.attributes["activation_beta"] or []
        try:
            parsed = activations.parse(names, alphas, betas)
        except ValueError as error:
            raise self.node.error(str(error)) from None
        if not all(np.isfinite(a.alpha) and np.isfinite(a.beta) for a in parsed):
            raise self.node.error("activation_alpha, activation_beta: expected finite numbers")
        return [parsed[k * len(slots) : (k + 1) * len(slots)] for k in range(count)]

    def _flag(self, name: str) -> bool:
        value = self.node.attributes.get(name) or 0
        if value not in (0, 1):
            raise self.node.error(f"{name}: expected 0 or 1, got {value}")
        return bool(value)

    def _direction(self, reverse: bool, slots: list[Any], peepholes: bool) -> _Direction:
        clip = self.node.attributes["clip"]
        if clip is not None and not clip >= 0:
            raise self.node.error(f"clip: expected a number >= 0, got {clip}")
        rules = Rules(slots, clip, self._flag("input_forget"), self._flag("linear_before_reset"))
        negative_elu = any(a.name == "elu" and a.alpha < 0 for a in slots)
        return _Direction(rules, reverse, not (peepholes or rules.input_forget or clip is not None or negative_elu))

    # ---- weights --------------------------------------------------------------------------------------------------

    def _check(self, name: str, array: Array, shape: tuple[int, ...], dtype: Any) -> None:
        if array.shape != shape:
            raise self.node.error(f"{name}: expected shape {shape}, got {array.shape}")
        if array.dtype != dtype:
            raise self.node.error(f"{name}: expected {dtype} as X and W, got {array.dtype}")

    def _weights(self, w: Array, r: Array, b: Array | None) -> list[Any]:
        """For each direction PackedWeights, or Weights for the plain recurrence."""
        count, g = len(self.directions), gates.gate_count(self.op)
        if w.ndim != 3 or r.ndim != 3:
            raise self.node.error(f"W, R: expected three axes, got shapes {w.shape} and {r.shape}")
        if w.dtype.kind != "f":
            raise self.node.error(f"W: expected floating-point numbers, got {w.dtype}")
        hidden = r.shape[-1] if self.hidden is None else self.hidden
        self._check("W", w, (count, g * hidden, w.shape[-1]), w.dtype)
        self._check("R", r, (count, g * hidden, hidden), w.dtype)
        if b is not None:
            self._check("B", b, (count, 2 * g * hidden), w.dtype)
            b = _wide(b)
        w, r = _wide(w), _wide(r)
        result: list[Any] = []
        for d, direction in enumerate(self.directions):
            halves = None if b is None else np.split(b[d], 2)
            if not direction.on_kernels:
                wb, rb = halves or [np.zeros(g * hidden, w.dtype)] * 2
                result.append(Weights(w[d], r[d], wb, rb, None))
                continue
            native = [gates.to_native(self.op, part) for part in (w[d], r[d], *(halves or ()))]
            result.append(F.pack_weights(gates.CELLS[self.op], *native, **self.cell_options))
        return result

    # ---- running --------------------------------------------------------------------------------------------------

    def __call__(self, x: Array, w: Array, r: Array, *optional: Any) -> tuple[Any, ...]:
        b, lengths, h0, c0, p = ([w, w, w, *optional] + [None] * 5)[_B : _P + 1]
        if x.ndim != 3 or x.shape[-1] != w.shape[-1] or x.dtype != w.dtype:
            words = "(batch, time" if self.batch_first else "(time, batch"
            expected = f"{w.dtype} {words}, {w.shape[-1]})"
            raise self.node.error(f"X: expected {expected}, got {x.dtype} {x.shape}")
        if self.batch_first:
            x = x.transpose(1, 0, 2)
            h0, c0 = (s if s is None or s.ndim != 3 else s.transpose(1, 0, 2) for s in (h0, c0))
        steps, batch, _ = x.shape
        weights = self._weights(w, r, b) if self.packed is None else self.packed
        count, hidden = len(self.directions), r.shape[-1]
        given, dtype = x.dtype, np.float64 if x.dtype == np.float64 else np.float32
        for name, state in (("initial_h", h0), ("initial_c", c0)):
            if state is not None:
                self._check(name, state, (count, batch, hidden), given)
        if p is not None:
            self._check("P", p, (count, 3 * hidden), given)
        lengths = self._lengths(lengths, batch, steps)
        self.node.room(x.shape, dtype)  # float16 is copied
        y = np.empty(self.node.room((steps, count, batch, hidden), dtype), dtype)
        h_n, c_n = np.empty(self.node.room((2, count, batch, hidden), dtype), dtype)
        for d in range(count):
            states = [None if s is None else _wide(s[d]) for s in (h0, c0)]
            peepholes = None if p is None else _wide(p[d])
            h_n[d], c_n[d] = self._run(d, _wide(x), weights[d], peepholes, lengths, states, y[:, d])
        results = [y, h_n, c_n] if self.op == "LSTM" else [y, h_n]
        if self.batch_first:
            results = [y.transpose(2, 0, 1, 3), *(s.transpose(1, 0, 2) for s in results[1:])]
        return tuple(np.ascontiguousarray(a, dtype=given) for a in results[: len(self.node.outputs)])

    def _lengths(self, lengths: Array | None, batch: int, steps: int) -> Array | None:
        if lengths is None:
            return None
        if lengths.shape != (batch,) or lengths.dtype.kind not in "iu":
            raise self.node.error(f"sequence_lens: expected int32 ({batch},), got {lengths.dtype} {lengths.shape}")
        if lengths.size and not (0 <= lengths.min() and lengths.max() <= steps):
            raise self.node.error(f"sequence_lens: expected 0 to {steps}, got {lengths.min()} to {lengths.max()}")
        return lengths

    def _run(
        self, d: int, x: Array, weights: Any, p: Array | None, lengths: Array | None, states: list[Array | None],
        out: Array,
    ) -> tuple[Any, Any]:  # fmt: skip
        direction = self.directions[d]
        rules = direction.rules
        if not direction.on_kernels or not out.size:
            zeros = np.zeros(out.shape[1:], out.dtype)
            h, c = (zeros if s is None else s for s in states)
            if not out.size:  # no steps or no rows
                return h, c
            return recurrence.run(self.op, x, weights._replace(p=p), rules, lengths, h, c, direction.reverse, out)
        options: dict[str, Any] = {
            **dict(zip(_ARGUMENTS[self.op], rules.activations, strict=True)), **self.cell_options,
            "lengths": lengths, "reverse": direction.reverse, "batch_first": False, "out": out,
        }  # fmt: skip
        if self.op == "LSTM":
            return F.lstm(x, weights, None, None, None, *states, **options)[1]  # type: ignore[no-any-return]
        run = F.rnn if self.op == "RNN" else F.gru
        return run(x, weights, None, None, None, states[0], **options)[1], 0


def _wide(x: Array) -> Array:
    """float16 is computed in float32."""
    return x.astype(np.float32) if x.dtype == np.float16 else x
