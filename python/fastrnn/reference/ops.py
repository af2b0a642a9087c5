"""The other operations in NumPy: linear, conv1d, embedding, softmax, attention, dropout, hold_last. Pooling is in
pooling.py, activations in pointwise.py, optimiser updates in optim.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..activations import Spec
from .pointwise import d_f_of_y, f, fused

Array = npt.NDArray[Any]
Padding = Literal["valid", "same", "causal"]


def linear(x: Array, weight: Array, bias: Array | None = None, *, activation: Spec = None) -> Array:
    """x (..., I), weight (O, I), bias (O,) -> y (..., O) = act(x W^T + b)."""
    a = x @ weight.T
    return f(a if bias is None else a + bias, fused("linear", activation))


def linear_backward(
    x: Array, weight: Array, y: Array, grad_y: Array, *, activation: Spec = None, need_grad_x: bool = True,
    has_bias: bool = True,
) -> tuple[Array | None, Array, Array | None]:  # fmt: skip
    """y (..., O) the activated result -> grad_x (..., I) | None, grad_weight (O, I), grad_bias (O,) | None."""
    da = (grad_y * d_f_of_y(y, fused("linear_backward", activation))).reshape(-1, weight.shape[0])
    grad_x = (da @ weight).reshape(x.shape) if need_grad_x else None
    return grad_x, da.T @ x.reshape(-1, weight.shape[1]), da.sum(axis=0) if has_bias else None


def conv_extent(T: int, span: int, stride: int, padding: str) -> tuple[int, int, int]:
    """Steps out, zeros on the left and on the right, for a window over `span` steps (Keras's arithmetic)."""
    if padding == "valid":
        return max((T - span) // stride + 1, 0), 0, 0
    To = -(-T // stride)
    if padding == "causal":
        return To, span - 1, 0
    total = max((To - 1) * stride + span - T, 0)
    return To, total // 2, total - total // 2


def conv1d(
    x: Array, weight: Array, bias: Array | None = None, *, stride: int = 1, padding: Padding = "valid",
    dilation: int = 1, activation: Spec = None,
) -> Array:  # fmt: skip
    """x (B, T, C), weight (F, C, K), bias (F,) -> y (B, To, F): a cross-correlation, one product per tap k."""
    B, T, _ = x.shape
    F, _, K = weight.shape
    To, left, right = conv_extent(T, (K - 1) * dilation + 1, stride, padding)
    xp = np.pad(x, ((0, 0), (left, right), (0, 0)))
    a = np.zeros((B, To, F), x.dtype)
    for k in range(K):
        a += xp[:, k * dilation :: stride][:, :To] @ weight[:, :, k].T
    return f(a if bias is None else a + bias, fused("conv1d", activation))


def conv1d_backward(
    x: Array, weight: Array, y: Array, grad_y: Array, *, stride: int = 1, padding: Padding = "valid",
    dilation: int = 1, activation: Spec = None, need_grad_x: bool = True, has_bias: bool = True,
) -> tuple[Array | None, Array, Array | None]:  # fmt: skip
    """y (B, To, F) the activated result -> grad_x (B, T, C) | None, grad_weight (F, C, K), grad_bias (F,) | None."""
    T = x.shape[1]
    K = weight.shape[2]
    To, left, right = conv_extent(T, (K - 1) * dilation + 1, stride, padding)
    xp = np.pad(x, ((0, 0), (left, right), (0, 0)))
    da = grad_y * d_f_of_y(y, fused("conv1d_backward", activation))
    grad_weight = np.zeros(weight.shape, weight.dtype)
    grad_xp = np.zeros_like(xp)
    for k in range(K):
        window = (slice(None), slice(k * dilation, k * dilation + (To - 1) * stride + 1 if To else 0, stride))
        grad_weight[:, :, k] = np.tensordot(da, xp[window], axes=([0, 1], [0, 1]))
        grad_xp[window] += da @ weight[:, :, k]
    grad_x = grad_xp[:, left : left + T].copy() if need_grad_x else None
    return grad_x, grad_weight, da.sum(axis=(0, 1)) if has_bias else None


def embedding(ids: Array, weight: Array) -> Array:
    """ids (...) int in [0, V), weight (V, E) -> (..., E)."""
    _check_ids("embedding", ids, weight.shape[0])
    return weight[ids]


def embedding_backward(ids: Array, grad_y: Array, num_embeddings: int) -> Array:
    """ids (...), grad_y (..., E) -> grad_weight (V, E); a repeated id collects all its rows."""
    _check_ids("embedding_backward", ids, num_embeddings)
    grad_weight = np.zeros((num_embeddings, grad_y.shape[-1]), grad_y.dtype)
    np.add.at(grad_weight, ids, grad_y)
    return grad_weight


def _check_ids(op: str, ids: Array, V: int) -> None:
    if ids.size and (ids.min() < 0 or ids.max() >= V):
        raise ValueError(f"[{op}] ids: expected values in [0, {V}), got {ids.min()} to {ids.max()}")


def softmax(x: Array, mask: Array | None = None) -> Array:
    """x (..., N), mask (..., N) bool -> softmax over the last axis; masked places, or a wholly masked row, give 0."""
    keep = np.ones(x.shape, np.bool_) if mask is None else np.broadcast_to(mask, x.shape)
    top = np.max(x, axis=-1, keepdims=True, where=keep, initial=-np.inf)
    with np.errstate(invalid="ignore"):  # a wholly masked row has top = -inf
        e = np.where(keep, np.exp(np.where(keep, x - top, 0)), 0)
    total = e.sum(axis=-1, keepdims=True)
    return (e / np.where(total == 0, 1, total)).astype(x.dtype, copy=False)


def softmax_backward(y: Array, grad_y: Array) -> Array:
    """y (..., N) the softmax, grad_y (..., N) -> grad_x (..., N)."""
    grad_x: Array = y * (grad_y - (y * grad_y).sum(axis=-1, keepdims=True))
    return grad_x


def attention_pool(x: Array, scores: Array, mask: Array | None = None) -> tuple[Array, Array]:
    """x (B, T, F), scores (B, T), mask (B, T) bool -> y (B, F), weights (B, T) = softmax of scores over valid time."""
    weights = softmax(scores, mask)
    used = np.where(weights[:, :, None] == 0, x.dtype.type(0), x)  # whatever stands in the padding is never used
    return np.einsum("bt,btf->bf", weights, used), weights


def attention_pool_backward(x: Array, weights: Array, grad_y: Array) -> tuple[Array, Array]:
    """x (B, T, F), weights (B, T), grad_y (B, F) -> grad_x (B, T, F), grad_scores (B, T)."""
    used = np.where(weights[:, :, None] == 0, x.dtype.type(0), x)
    grad_x = weights[:, :, None] * grad_y[:, None, :]
    return grad_x, softmax_backward(weights, np.einsum("bf,btf->bt", grad_y, used))


def dropout_mask(shape: Sequence[int], rate: float, seed: int, dtype: npt.DTypeLike = np.float32) -> Array:
    """Array of 0 (with probability rate) or 1 / (1 - rate). The same seed and shape give the same array."""
    uniform = np.random.Generator(np.random.Philox(key=seed & (2**64 - 1))).random(tuple(shape))
    return np.where(uniform < rate, 0.0, 1.0 / (1.0 - rate)).astype(dtype)


def dropout(x: Array, rate: float, seed: int, *, broadcast_axes: Sequence[int] = ()) -> Array:
    """x times a mask that is constant along broadcast_axes. Its own backward: dropout(grad_y, the same rest)."""
    axes = {axis % x.ndim for axis in broadcast_axes}
    return x * dropout_mask([1 if a in axes else n for a, n in enumerate(x.shape)], rate, seed, x.dtype)


def _last_valid(mask: Array) -> npt.NDArray[np.int64]:
    """mask (B, T) -> (B, T) time of the last valid step up to and including t, or -1."""
    T = mask.shape[1]
    return np.maximum.accumulate(np.where(mask, np.arange(T), -1), axis=1) if T else np.zeros(mask.shape, np.int64)


def hold_last(y: Array, mask: Array) -> Array:
    """y (B, T, F), mask (B, T) bool -> a masked step repeats the previous valid step; zeros before the first."""
    last = _last_valid(mask)[:, :, None]
    return np.where(last < 0, y.dtype.type(0), np.take_along_axis(y, np.maximum(last, 0), axis=1))


def hold_last_backward(grad_y: Array, mask: Array) -> Array:
    """grad_y (B, T, F), mask (B, T) bool -> grad of y: each valid step collects the steps that repeat it."""
    last = _last_valid(mask)
    grad = np.zeros_like(grad_y)
    b, t = np.nonzero(last >= 0)
    np.add.at(grad, (b, last[b, t]), grad_y[b, t])
    return grad
