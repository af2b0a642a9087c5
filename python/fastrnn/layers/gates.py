"""The one table between Keras's weight layouts and the kernels': which gate stands where. No other file permutes gates.

Keras:  gates i f c o, z r h; kernel (I, G*U), recurrent_kernel (U, G*U), bias (G*U,), a GRU with reset_after (2, G*U).
native: gates i f g o, r z n; weight_ih (G*U, I), weight_hh (G*U, U), bias_ih and bias_hh (G*U,).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# Native gate k is Keras's gate NATIVE_FROM_KERAS[cell][k]. Each entry is its own inverse (asserted by the tests).
NATIVE_FROM_KERAS: dict[str, tuple[int, ...]] = {"rnn": (0,), "lstm": (0, 1, 2, 3), "gru": (1, 0, 2)}


def _reorder(cell: str, w: Array) -> Array:
    """Permute blocks of the last axis; the array itself where there is nothing to do."""
    order = NATIVE_FROM_KERAS[cell]
    if order == tuple(range(len(order))):
        return w
    blocks = w.reshape(*w.shape[:-1], len(order), -1)
    return blocks[..., order, :].reshape(w.shape)


def to_native(
    cell: str, kernel: Array, recurrent_kernel: Array, bias: Array | None
) -> tuple[Array, Array, Array | None, Array | None]:
    """Keras's weights -> (weight_ih, weight_hh, bias_ih, bias_hh); the weights are transposed views."""
    bias_ih = bias_hh = None
    if bias is not None:
        rows = np.atleast_2d(_reorder(cell, bias))
        bias_ih = rows[0]
        bias_hh = rows[1] if len(rows) == 2 else None
    return _reorder(cell, kernel).T, _reorder(cell, recurrent_kernel).T, bias_ih, bias_hh


def to_keras(
    cell: str, weight_ih: Array, weight_hh: Array, bias_ih: Array | None, bias_hh: Array | None
) -> tuple[Array, Array, Array | None]:
    """The inverse, for weights and their gradients alike; contiguous arrays."""
    bias = None
    if bias_ih is not None:
        bias = np.ascontiguousarray(_reorder(cell, bias_ih if bias_hh is None else np.stack([bias_ih, bias_hh])))
    kernel, recurrent_kernel = _reorder(cell, weight_ih.T), _reorder(cell, weight_hh.T)
    return np.ascontiguousarray(kernel), np.ascontiguousarray(recurrent_kernel), bias
