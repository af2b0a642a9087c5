"""What bfloat16 and int8 do to a recurrent product, in NumPy: the specification of `functional.pack_weights`.

`reduce` turns weights into matrices that take the place of arrays in `x @ W.T` of recurrent.py: they round their
operand as the kernels do. All else stays float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def to_bfloat16(x: Array) -> Array:
    """float32 values rounded to 8 significant bits, to nearest, ties to even; NaN stays NaN. As float32."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) & np.uint32(0xFFFF0000)
    return np.where(np.isnan(x), np.float32(np.nan), rounded.view(np.float32))


def quantise_weights(weight: Array) -> tuple[Array, Array]:
    """(N, K) float32 -> integers q (N, K) from -127 to 127 and scale (N,): weight is about q * scale."""
    largest = np.abs(weight).max(axis=1, initial=0).astype(np.float32)
    with np.errstate(divide="ignore", over="ignore"):
        per_one = np.float32(127) / largest
    per_one[np.isinf(per_one)] = 0  # rows of zeros, or next to it
    return np.rint(weight * per_one[:, None]).astype(np.int32), largest / np.float32(127)


def quantise_state(h: Array, bound: Array) -> tuple[Array, Array]:
    """(B, H) float32 -> integers q (B, H) from -127 to 127 and size (B,): h is about q * size; bound (B,) of |h|."""
    per_one = np.float32(127) / bound
    return np.rint(np.clip(h * per_one[:, None], -127, 127)).astype(np.int32), bound / np.float32(127)


def bounds(B: int, h0: Array | None, recurrent_mask: Array | None) -> Array:
    """(B,) of what the recurrent product reads: |h| is at most max(1, |h0|)."""
    bound = np.ones(B, np.float32)
    if h0 is not None:
        bound = np.maximum(bound, np.abs(h0).max(axis=1))
    if recurrent_mask is not None:
        most = np.abs(recurrent_mask).max(axis=1)
        bound = bound * np.where(most > 0, most, np.float32(1))
    return bound


class Bfloat16Matrix:
    """(N, K) weights, of which `x @ W.T` is a product of values rounded to bfloat16."""

    __array_ufunc__ = None  # NumPy leaves x @ W.T to __rmatmul__

    def __init__(self, weight: Array) -> None:
        self.weight = to_bfloat16(weight)
        self.shape = weight.shape

    @property
    def T(self) -> Bfloat16Matrix:
        return self

    def __getitem__(self, rows: slice) -> Bfloat16Matrix:
        return Bfloat16Matrix(self.weight[rows])

    def __rmatmul__(self, x: Array) -> Array:
        return (to_bfloat16(x).astype(np.float64) @ self.weight.T.astype(np.float64)).astype(np.float32)


class Int8Matrix:
    """(N, K) weights, of which `h @ W.T` is a product of integers; bound (B,) of the rows of h."""

    __array_ufunc__ = None

    def __init__(self, weight: Array, bound: Array) -> None:
        self.weight, self.bound = weight, bound
        self.q, self.scale = quantise_weights(weight)
        self.shape = weight.shape

    @property
    def T(self) -> Int8Matrix:
        return self

    def __getitem__(self, rows: slice) -> Int8Matrix:
        return Int8Matrix(self.weight[rows], self.bound)

    def __rmatmul__(self, h: Array) -> Array:
        q, size = quantise_state(h, self.bound)
        product: Array = (q @ self.q.T).astype(np.float32) * (self.scale * size[:, None])
        return product


def reduce(
    precision: str, weight_ih: Array, weight_hh: Array, B: int, h0: Array | None = None,
    recurrent_mask: Array | None = None,
) -> tuple[Any, Any]:  # fmt: skip
    """(weight_ih, weight_hh) to pass to rnn, lstm or gru of this package, for B rows with these h0 and mask."""
    if precision == "bfloat16":
        return Bfloat16Matrix(weight_ih), Bfloat16Matrix(weight_hh)
    return Bfloat16Matrix(weight_ih), Int8Matrix(weight_hh, bounds(B, h0, recurrent_mask))
