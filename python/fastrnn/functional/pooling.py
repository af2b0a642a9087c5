"""Reductions over time: pooling, attention, held outputs, with their gradients."""

from __future__ import annotations

import math

from .. import _core
from .checks import Array, integer, same_padding, three_axes


def _pool_arguments(op: str, time: int, pool_size: int, stride: int | None, padding: str) -> tuple[int, int, int, int]:
    """size, stride, zeros before the sequence, number of windows."""
    size = integer(op, "pool_size", pool_size, 1)
    stride = size if stride is None else integer(op, "stride", stride, 1)
    if padding == "valid":
        return size, stride, 0, max(0, (time - size) // stride + 1)
    if padding == "same":
        return size, stride, same_padding(time, size, stride)[0], math.ceil(time / stride)
    error = ValueError if isinstance(padding, str) else TypeError
    raise error(f"[{op}] padding: expected valid or same, got {padding!r}")


def max_pool1d(x: Array, pool_size: int, stride: int | None = None, padding: str = "valid") -> tuple[Array, Array]:
    """Maxima over windows of time: x (B, T, F) -> (y (B, To, F), indices (B, To, F) int32, the time of each maximum).

    stride None means pool_size; padding "valid" or "same" as in Keras.
    """
    x = three_axes("max_pool1d", "x", x)
    return _core.max_pool1d(x, *_pool_arguments("max_pool1d", x.shape[1], pool_size, stride, padding))


def max_pool1d_backward(indices: Array, grad_y: Array, T: int) -> Array:
    """Gradient (B, T, F) of the input of `max_pool1d` or `global_max_pool1d` with T steps, from its indices."""
    return _core.max_pool1d_backward(indices, grad_y, integer("max_pool1d_backward", "T", T, 0))


def avg_pool1d(x: Array, pool_size: int, stride: int | None = None, padding: str = "valid") -> Array:
    """Means over windows of time: x (B, T, F) -> (B, To, F); padding does not count, as in Keras."""
    x = three_axes("avg_pool1d", "x", x)
    return _core.avg_pool1d(x, *_pool_arguments("avg_pool1d", x.shape[1], pool_size, stride, padding))


def avg_pool1d_backward(
    grad_y: Array, T: int, pool_size: int, stride: int | None = None, padding: str = "valid"
) -> Array:
    """Gradient (B, T, F) of the input of `avg_pool1d` with T steps."""
    grad_y = three_axes("avg_pool1d_backward", "grad_y", grad_y)
    T = integer("avg_pool1d_backward", "T", T, 0)
    size, stride, left, out_time = _pool_arguments("avg_pool1d_backward", T, pool_size, stride, padding)
    if grad_y.shape[1] != out_time:
        raise ValueError(f"[avg_pool1d_backward] grad_y: expected {out_time} windows, got {grad_y.shape[1]}")
    return _core.avg_pool1d_backward(grad_y, T, size, stride, left)


def global_max_pool1d(x: Array, mask: Array | None = None) -> tuple[Array, Array]:
    """Maximum over valid time: x (B, T, F) -> (y (B, F), indices (B, F) int32). A row of nothing gives 0, index -1."""
    return _core.global_max_pool1d(x, mask)


def global_max_pool1d_backward(indices: Array, grad_y: Array, T: int) -> Array:
    """Gradient (B, T, F) of the input of `global_max_pool1d` with T steps."""
    return _core.max_pool1d_backward(indices, grad_y, integer("global_max_pool1d_backward", "T", T, 0))


def global_avg_pool1d(x: Array, mask: Array | None = None) -> Array:
    """Mean over valid time: x (B, T, F), mask (B, T) bool -> (B, F). A row of nothing gives 0."""
    return _core.global_avg_pool1d(x, mask)


def global_avg_pool1d_backward(grad_y: Array, T: int, mask: Array | None = None) -> Array:
    """Gradient (B, T, F) of the input of `global_avg_pool1d` with T steps."""
    return _core.global_avg_pool1d_backward(grad_y, integer("global_avg_pool1d_backward", "T", T, 0), mask)


def attention_pool(x: Array, scores: Array, mask: Array | None = None) -> tuple[Array, Array]:
    """Weighted mean over time: weights (B, T) = softmax of scores (B, T) over valid time; y (B, F) = sum of weights x.

    Returns (y, weights); a row of nothing gives zeros.
    """
    return _core.attention_pool(x, scores, mask)


def attention_pool_backward(x: Array, weights: Array, grad_y: Array) -> tuple[Array, Array]:
    """Gradients (B, T, F) of x and (B, T) of the scores of `attention_pool`."""
    return _core.attention_pool_backward(x, weights, grad_y)


def hold_last(y: Array, mask: Array) -> Array:
    """y (B, T, F) with each masked step repeating the last valid one (zeros before the first), as Keras's RNN does."""
    return _core.hold_last(y, mask)


def hold_last_backward(grad_y: Array, mask: Array) -> Array:
    """Gradient of the input of `hold_last`."""
    return _core.hold_last_backward(grad_y, mask)
