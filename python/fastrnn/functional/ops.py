"""Products, element-wise functions, softmax, embedding and dropout, with their gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _core
from ..activations import FUSED, NAMES, Spec, parse
from .checks import Array, activation_id, as_array, flags, integer, is_integer, number, same_padding, shared, three_axes

# The zeros around a sequence are really there: a window of more steps than this and the sequence is a mistake, and
# would ask for all the memory.
_MOST_REACH = 2**20
_FUSED_IDS = frozenset(NAMES[name] for name in FUSED)


def fused(op: str, spec: Spec) -> tuple[int, float, float]:
    act = activation_id(op, "activation", spec)
    if act[0] not in _FUSED_IDS:
        raise ValueError(f"[{op}] activation: expected one of {', '.join(sorted(FUSED))}, got {parse(spec).name}")
    return act


def linear(
    x: Array, weight: Array, bias: Array | None = None, *, activation: Spec = None, out: Array | None = None
) -> Array:
    """activation(x . weight^T + bias): x (..., I), weight (O, I), bias (O,) or None -> (..., O).

    `activation` is one whose derivative follows from its output (`fastrnn.activations.FUSED`). out: a C-contiguous
    array for the result, of its shape and dtype, apart from the arguments.
    """
    return _core.linear(x, weight, bias, fused("linear", activation), out)


def linear_backward(
    x: Array,
    weight: Array,
    y: Array,
    grad_y: Array,
    *,
    activation: Spec = None,
    need_grad_x: bool = True,
    has_bias: bool = True,
) -> tuple[Array | None, Array, Array | None]:
    """Gradients of `linear` (x, weight, bias), from its output y (..., O) and grad_y of the same shape."""
    flags("linear_backward", need_grad_x=need_grad_x, has_bias=has_bias)
    return _core.linear_backward(x, weight, y, grad_y, fused("linear_backward", activation), need_grad_x, has_bias)


def conv_arguments(
    op: str, time: int, weight: Array, stride: int, padding: str, dilation: int
) -> tuple[int, int, int, int]:
    """stride, dilation, and the zeros put before and after a sequence of `time` steps."""
    stride, dilation = integer(op, "stride", stride, 1), integer(op, "dilation", dilation, 1)
    if getattr(weight, "ndim", 0) != 3:
        got = getattr(weight, "shape", type(weight).__name__)
        raise ValueError(f"[{op}] weight: expected shape (F, C, K), got {got}")
    reach = (weight.shape[2] - 1) * dilation
    if reach > max(time, _MOST_REACH):
        expected = f"a window of at most max(T, {_MOST_REACH}) steps"
        raise ValueError(f"[{op}] dilation: expected {expected}, got {reach + 1} of dilation {dilation}")
    if padding == "valid":
        return stride, dilation, 0, 0
    if padding == "causal":
        return stride, dilation, reach, 0
    if padding == "same":
        return stride, dilation, *same_padding(time, reach + 1, stride)
    error = ValueError if isinstance(padding, str) else TypeError
    raise error(f"[{op}] padding: expected valid, same or causal, got {padding!r}")


def conv1d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: int = 1,
    padding: str = "valid",
    dilation: int = 1,
    activation: Spec = None,
    out: Array | None = None,
) -> Array:
    """Convolution over time of x (B, T, C) with weight (F, C, K) and bias (F,) or None -> (B, To, F).

    padding: "valid" (To = floor((T - (K-1) dilation - 1) / stride) + 1), "same" (To = ceil(T / stride), the odd zero
    goes to the end) or "causal" (zeros before the start only), as in Keras. `activation` and `out` as in `linear`.
    """
    x = three_axes("conv1d", "x", x)
    arguments = conv_arguments("conv1d", x.shape[1], weight, stride, padding, dilation)
    return _core.conv1d(x, weight, bias, *arguments, fused("conv1d", activation), out)


def conv1d_backward(
    x: Array,
    weight: Array,
    y: Array,
    grad_y: Array,
    *,
    stride: int = 1,
    padding: str = "valid",
    dilation: int = 1,
    activation: Spec = None,
    need_grad_x: bool = True,
    has_bias: bool = True,
) -> tuple[Array | None, Array, Array | None]:
    """Gradients of `conv1d` (x, weight, bias), from its output y (B, To, F) and grad_y of the same shape."""
    x = three_axes("conv1d_backward", "x", x)
    arguments = conv_arguments("conv1d_backward", x.shape[1], weight, stride, padding, dilation)
    act = fused("conv1d_backward", activation)
    flags("conv1d_backward", need_grad_x=need_grad_x, has_bias=has_bias)
    return _core.conv1d_backward(x, weight, y, grad_y, *arguments, act, need_grad_x, has_bias)


def activation(x: Array, spec: Spec) -> Array:
    """The activation `spec` of every element of x."""
    return _core.activation(x, activation_id("activation", "spec", spec))


def activation_backward(x: Array, grad_y: Array, spec: Spec) -> Array:
    """grad_y times the derivative of the activation at x."""
    return _core.activation_backward(x, grad_y, activation_id("activation_backward", "spec", spec))


def softmax(x: Array, mask: Array | None = None) -> Array:
    """Softmax over the last axis; where mask (bool, shape of x) is False the result is 0. A row of nothing gives 0."""
    return _core.softmax(x, mask)


def softmax_backward(y: Array, grad_y: Array) -> Array:
    """Gradient of `softmax` from its output y."""
    return _core.softmax_backward(y, grad_y)


def embedding(ids: npt.ArrayLike, weight: Array, *, out: Array | None = None) -> Array:
    """Rows of weight (V, E): ids (...) integers in 0..V-1 -> (..., E). An id out of range raises ValueError.

    `out` as in `linear`.
    """
    return _core.embedding(as_array("embedding", "ids", ids), weight, out)


def embedding_backward(ids: npt.ArrayLike, grad_y: Array, num_embeddings: int) -> Array:
    """Gradient (V, E) of the weight of `embedding`, V = num_embeddings."""
    op = "embedding_backward"
    size = integer(op, "num_embeddings", num_embeddings, 0)
    return _core.embedding_backward(as_array(op, "ids", ids), grad_y, size)


def _seed(op: str, seed: int) -> int:
    if not is_integer(seed):
        raise TypeError(f"[{op}] seed: expected an integer, got {type(seed).__name__} {seed!r}")
    return int(seed) & (2**64 - 1)


def dropout(x: Array, rate: float, seed: int, *, broadcast_axes: Sequence[int] = ()) -> Array:
    """x with each element zeroed with probability `rate` and the others divided by 1 - rate.

    The draw depends on the seed and the position alone: the gradient is `dropout(grad_y, rate, seed)`. It is constant
    along `broadcast_axes`, which must be neighbours.
    """
    x = shared("dropout", "x", x)
    rate, seed, shape = number("dropout", "rate", rate, 0, 1), _seed("dropout", seed), x.shape
    if not isinstance(broadcast_axes, (tuple, list)) or not all(is_integer(axis) for axis in broadcast_axes):
        raise TypeError(f"[dropout] broadcast_axes: expected a tuple of integers, got {broadcast_axes!r}")
    if not broadcast_axes:
        return _core.dropout(x, rate, seed, 1, 1, math.prod(shape))
    if not all(-len(shape) <= axis < len(shape) for axis in broadcast_axes):
        raise ValueError(f"[dropout] broadcast_axes: expected axes of shape {shape}, got {tuple(broadcast_axes)}")
    axes = sorted({axis % len(shape) for axis in broadcast_axes})
    if axes != list(range(axes[0], axes[-1] + 1)):
        raise ValueError(f"[dropout] broadcast_axes: expected neighbouring axes, got {tuple(broadcast_axes)}")
    split = math.prod(shape[: axes[0]]), math.prod(shape[axes[0] : axes[-1] + 1]), math.prod(shape[axes[-1] + 1 :])
    return _core.dropout(x, rate, seed, *split)


def dropout_mask(shape: Sequence[int], rate: float, seed: int, dtype: npt.DTypeLike = np.float32) -> Array:
    """What `dropout` multiplies an array of this shape by: 0 or 1/(1 - rate)."""
    try:
        kind: np.dtype[Any] | None = np.dtype(dtype)
    except TypeError:
        kind = None
    if kind not in (np.float32, np.float64):
        raise TypeError(f"[dropout_mask] dtype: expected float32 or float64, got {dtype!r}")
    if not isinstance(shape, (tuple, list)) or not all(is_integer(extent) for extent in shape):
        raise TypeError(f"[dropout_mask] shape: expected a tuple of integers, got {shape!r}")
    if any(extent < 0 for extent in shape) or math.prod(shape) >= 2**62:
        raise ValueError(f"[dropout_mask] shape: expected extents >= 0 of an array that fits in memory, got {shape}")
    rate, seed = number("dropout_mask", "rate", rate, 0, 1), _seed("dropout_mask", seed)
    mask: Array = _core.dropout_mask(math.prod(shape), rate, seed, kind == np.float64)
    return mask.reshape(tuple(shape))
