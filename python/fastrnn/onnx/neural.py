"""Operators of layers without recurrence: products, softmax, and convolution and pooling over one axis of time."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .. import functional as F
from .node import Node, Runner, maker, operator
from .pointwise import broadcast

Array = npt.NDArray[Any]


@operator("MatMul")
def _matmul(node: Node, a: Array, b: Array) -> Any:
    if a.ndim < 1 or b.ndim < 1 or a.shape[-1] != b.shape[-2 if b.ndim > 1 else -1] or a.dtype != b.dtype:
        expected = "(..., I) and (..., I, O) of one type"
        raise node.error(f"A, B: expected {expected}, got {a.dtype} {a.shape}, {b.dtype} {b.shape}")
    try:
        leading = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        raise node.error(f"A, B: expected leading axes that broadcast, got {a.shape} and {b.shape}") from None
    node.room((*leading, *a.shape[-2:-1], *(b.shape[-1:] if b.ndim > 1 else ())), a.dtype)
    return np.asarray(np.matmul(a, b))


@operator("Gemm")
def _gemm(node: Node, a: Array, b: Array, c: Array | None = None) -> Any:
    if a.ndim != 2 or b.ndim != 2 or a.dtype != b.dtype:
        raise node.error(f"A, B: expected two matrices of one type, got {a.dtype} {a.shape}, {b.dtype} {b.shape}")
    if c is not None and c.dtype != a.dtype:
        raise node.error(f"C: expected {a.dtype} as A and B, got {c.dtype}")
    a, b = (a.T if node.attributes["transA"] else a), (b.T if node.attributes["transB"] else b)
    if a.shape[1] != b.shape[0]:
        raise node.error(f"A, B: expected (M, K) and (K, N), got {a.shape} and {b.shape}")
    shape = node.room((a.shape[0], b.shape[1]), a.dtype)
    product = np.matmul(a, b)
    alpha, beta = node.attributes["alpha"], node.attributes["beta"]
    result = product if alpha == 1 else product * product.dtype.type(alpha)
    if c is None or beta == 0:
        return result
    if broadcast(node, a.dtype, result, c) != shape:
        raise node.error(f"C: expected a shape that broadcasts to {shape}, got {c.shape}")
    return result + (c if beta == 1 else c * c.dtype.type(beta))


@operator("Softmax", "LogSoftmax")
def _softmax(node: Node, x: Array) -> Any:
    axis, shape = node.attributes["axis"], x.shape
    if not -x.ndim <= axis < x.ndim:
        raise node.error(f"axis: expected {-x.ndim} to {x.ndim - 1}, got {axis}")
    axis %= x.ndim
    if node.version < 13:  # the axes from `axis` on are taken together
        x, axis = x.reshape(int(np.prod(shape[:axis])), int(np.prod(shape[axis:]))), 1
    node.room(shape, x.dtype)
    if not x.size:
        return x.reshape(shape)
    shifted = x - x.max(axis=axis, keepdims=True)
    e = np.exp(shifted)
    total = e.sum(axis=axis, keepdims=True)
    return (e / total if node.op == "Softmax" else shifted - np.log(total)).reshape(shape)


@operator("GlobalMaxPool", "GlobalAveragePool")
def _global_pool(node: Node, x: Array) -> Any:
    axes = tuple(range(2, x.ndim))
    if 0 in x.shape[2:]:
        raise node.error(f"X: expected at least one step, got {x.shape}")
    node.room(x.shape[:2], x.dtype)
    if node.op == "GlobalMaxPool":
        return x.max(axis=axes, keepdims=True)
    return x.mean(axis=axes, keepdims=True, dtype=x.dtype)


class Windows:
    """kernel_shape, strides, dilations and pads of a node over one axis of time."""

    def __init__(self, node: Node, size: int | None) -> None:
        self.node = node
        shape = node.attributes["kernel_shape"]
        if shape is not None and len(shape) != 1:
            raise node.unsupported(f"kernel_shape: expected one axis (x of shape (batch, channels, time)), got {shape}")
        if shape is not None and size is not None and shape[0] != size:
            raise node.error(f"kernel_shape: expected [{size}] as W, got {shape}")
        self.size = self._one("size", size if shape is None else shape[0], 1)
        self.stride = self._one("strides", node.attributes["strides"], 1)
        self.dilation = self._one("dilations", node.attributes.get("dilations"), 1)
        pads = node.attributes["pads"] or [0, 0]
        if len(pads) != 2 or min(pads) < 0:
            raise node.error(f"pads: expected two integers >= 0, got {pads}")
        self.pads, self.auto = tuple(pads), node.attributes["auto_pad"]
        if self.auto not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
            raise node.error(f"auto_pad: expected NOTSET, VALID, SAME_UPPER or SAME_LOWER, got {self.auto!r}")
        self.reach = (self.size - 1) * self.dilation + 1
        self.ceil = bool(node.attributes.get("ceil_mode"))

    def _one(self, name: str, value: Any, default: int) -> int:
        numbers = [default] if value is None else value if isinstance(value, list) else [value]
        if len(numbers) != 1:
            raise self.node.unsupported(f"{name}: expected one axis (time), got {numbers}")
        if not 1 <= numbers[0] < 2**31:
            raise self.node.error(f"{name}: expected an integer >= 1, got {numbers[0]}")
        return int(numbers[0])

    def padding(self, time: int) -> tuple[int, int]:
        """Steps put before and after a sequence of `time` steps, what rounding up needs not counted."""
        if self.auto == "VALID":
            return 0, 0
        if self.auto == "NOTSET":
            return self.pads
        total = max((-(-time // self.stride) - 1) * self.stride + self.reach - time, 0)
        small = total // 2
        return (small, total - small) if self.auto == "SAME_UPPER" else (total - small, small)

    def count(self, padded: int, before: int, time: int) -> int:
        span = padded - self.reach
        if not self.ceil or span < 0:
            return max(0, span // self.stride + 1)
        windows = -(-span // self.stride) + 1
        # a window that starts behind the sequence and what stands before it is left out
        return windows - 1 if (windows - 1) * self.stride >= before + time else windows

    def pad(self, x: Array, value: Any) -> tuple[Array, int]:
        """x (B, C, T) with `value` around it, enough for every window; and how many windows there are."""
        if x.ndim != 3:
            raise self.node.unsupported(f"X: expected shape (batch, channels, time), got {x.shape}")
        time = x.shape[2]
        before, after = self.padding(time)
        count = self.count(before + time + after, before, time)
        if count:
            after = max(after, (count - 1) * self.stride + self.reach - before - time)
        if before or after:
            self.node.room((*x.shape[:2], before + time + after), x.dtype)
            x = np.pad(x, ((0, 0), (0, 0), (before, after)), constant_values=value)
        self.node.room((*x.shape[:2], count), x.dtype)
        return x, count

    def view(self, x: Array, count: int) -> Array:
        """The windows of a padded x (B, C, T), shape (B, C, count, size)."""
        if not count:
            return np.empty((*x.shape[:2], 0, self.size), x.dtype)
        windows = np.lib.stride_tricks.sliding_window_view(x, self.reach, axis=2)
        return windows[:, :, :: self.stride, :: self.dilation][:, :, :count]


@maker("Conv")
def _conv(node: Node) -> Runner:
    weight, groups = node.constant(1), node.attributes["group"]
    if weight is not None and weight.ndim != 3:
        raise node.unsupported(f"W: expected shape (filters, channels, kernel), got {weight.shape}")
    if groups < 1:
        raise node.error(f"group: expected an integer >= 1, got {groups}")
    if node.attributes["kernel_shape"] is not None or weight is not None:
        Windows(node, None if weight is None else weight.shape[2])  # its errors now rather than at the first run

    def run(x: Array, w: Array, b: Array | None = None) -> Any:
        if w.ndim != 3 or w.dtype != x.dtype or x.ndim != 3 or x.shape[1] != w.shape[1] * groups:
            expected = f"(batch, channels, time) and (filters, channels / {groups}, kernel) of one type"
            raise node.error(f"X, W: expected {expected}, got {x.dtype} {x.shape} and {w.dtype} {w.shape}")
        if w.shape[0] % groups:
            raise node.error(f"group: expected a divisor of {w.shape[0]} filters, got {groups}")
        if b is not None and (b.shape != w.shape[:1] or b.dtype != x.dtype):
            raise node.error(f"B: expected {x.dtype} ({w.shape[0]},), one for each filter, got {b.dtype} {b.shape}")
        wide = np.float64 if x.dtype == np.float64 else np.float32
        windows = Windows(node, w.shape[2])
        padded, count = windows.pad(x, 0)
        node.room(padded.shape, wide)
        node.room((x.shape[0], w.shape[0], count), wide)
        if not count:
            raise node.error(f"X: expected at least {windows.reach} steps with padding, got {padded.shape[2]}")
        steps = padded.transpose(0, 2, 1).astype(wide, copy=False)
        parts = [
            F.conv1d(
                np.ascontiguousarray(s), np.ascontiguousarray(k), bias, stride=windows.stride,
                dilation=windows.dilation,
            )
            for s, k, bias in zip(
                np.split(steps, groups, axis=2),
                np.split(w.astype(wide, copy=False), groups),
                [None] * groups if b is None else np.split(b.astype(wide, copy=False), groups),
                strict=True,
            )
        ]  # fmt: skip
        y = parts[0] if groups == 1 else np.concatenate(parts, axis=2)
        return y.transpose(0, 2, 1).astype(x.dtype, copy=False)

    return run


@maker("MaxPool")
def _max_pool(node: Node) -> Runner:
    if len(node.outputs) > 1 and node.outputs[1]:
        raise node.unsupported("Indices: expected the output Y alone")
    windows = Windows(node, None)

    def run(x: Array) -> Any:
        lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
        padded, count = windows.pad(x, lowest)
        return windows.view(padded, count).max(axis=-1)

    return run


@maker("AveragePool")
def _average_pool(node: Node) -> Runner:
    windows = Windows(node, None)

    def run(x: Array) -> Any:
        padded, count = windows.pad(x, 0)
        time = x.shape[2]
        before, after = windows.padding(time)
        counted = np.zeros(node.room((1, 1, padded.shape[2]), x.dtype), x.dtype)  # long, though x may be empty
        low, high = (0, before + time + after) if node.attributes["count_include_pad"] else (before, before + time)
        counted[..., low:high] = 1
        sums = windows.view(padded, count).sum(axis=-1, dtype=x.dtype)
        return sums / np.maximum(windows.view(counted, count).sum(axis=-1), 1)

    return run
