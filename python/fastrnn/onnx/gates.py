"""The one table between ONNX's gate order and the kernels': which gate stands where.

ONNX:   gates i o f c, z r h; W (D, G*H, I), R (D, G*H, H), B (D, 2*G*H) = [Wb, Rb], P (D, 3*H) in the order i o f.
native: gates i f g o, r z n; weight_ih (G*H, I), weight_hh (G*H, H), bias_ih and bias_hh (G*H,).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

CELLS: dict[str, str] = {"RNN": "rnn", "LSTM": "lstm", "GRU": "gru"}

# Native gate k is ONNX's gate NATIVE_FROM_ONNX[op][k].
NATIVE_FROM_ONNX: dict[str, tuple[int, ...]] = {"RNN": (0,), "LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2)}
ONNX_FROM_NATIVE: dict[str, tuple[int, ...]] = {
    op: tuple(order.index(gate) for gate in range(len(order))) for op, order in NATIVE_FROM_ONNX.items()
}


def gate_count(op: str) -> int:
    return len(NATIVE_FROM_ONNX[op])


def _reorder(w: Array, order: tuple[int, ...]) -> Array:
    """Permute the blocks of the first axis."""
    blocks = w.reshape(len(order), -1, *w.shape[1:])
    return np.ascontiguousarray(blocks[list(order)]).reshape(w.shape)


def to_native(op: str, w: Array) -> Array:
    """One direction's W, R, Wb or Rb -> the kernels' order."""
    return _reorder(w, NATIVE_FROM_ONNX[op])


def to_onnx(op: str, w: Array) -> Array:
    """The kernels' weight_ih, weight_hh, bias_ih or bias_hh -> ONNX's order."""
    return _reorder(w, ONNX_FROM_NATIVE[op])
