"""Pooling over time in NumPy, local and global, forward and backward. No masks in local pooling (nor has Keras)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .ops import conv_extent

Array = npt.NDArray[Any]


def _windows(T: int, pool_size: int, stride: int | None, padding: str) -> list[tuple[int, int]]:
    """[start, stop) of each window, cut to the T steps there are."""
    stride = pool_size if stride is None else stride
    To, left, _ = conv_extent(T, pool_size, stride, padding)
    starts = [t * stride - left for t in range(To)]
    return [(max(s, 0), min(s + pool_size, T)) for s in starts]


def max_pool1d(
    x: Array, pool_size: int, stride: int | None = None, padding: str = "valid"
) -> tuple[Array, npt.NDArray[np.int32]]:
    """x (B, T, F) -> y (B, To, F), indices (B, To, F) the time each maximum came from (the first of equals)."""
    B, T, F = x.shape
    windows = _windows(T, pool_size, stride, padding)
    indices = np.empty((B, len(windows), F), np.int32)
    for to, (start, stop) in enumerate(windows):
        indices[:, to] = start + np.argmax(x[:, start:stop], axis=1)
    return np.take_along_axis(x, indices, axis=1), indices


def max_pool1d_backward(indices: npt.NDArray[np.int32], grad_y: Array, T: int) -> Array:
    """indices, grad_y (B, To, F) -> grad_x (B, T, F)."""
    B, _, F = grad_y.shape
    grad_x = np.zeros((B, T, F), grad_y.dtype)
    np.add.at(grad_x, (np.arange(B)[:, None, None], indices, np.arange(F)), grad_y)
    return grad_x


def avg_pool1d(x: Array, pool_size: int, stride: int | None = None, padding: str = "valid") -> Array:
    """x (B, T, F) -> y (B, To, F); padding does not count in the average."""
    B, T, F = x.shape
    windows = _windows(T, pool_size, stride, padding)
    y = np.empty((B, len(windows), F), x.dtype)
    for to, (start, stop) in enumerate(windows):
        y[:, to] = x[:, start:stop].mean(axis=1)
    return y


def avg_pool1d_backward(
    grad_y: Array, T: int, pool_size: int, stride: int | None = None, padding: str = "valid"
) -> Array:
    """grad_y (B, To, F) -> grad_x (B, T, F)."""
    B, _, F = grad_y.shape
    grad_x = np.zeros((B, T, F), grad_y.dtype)
    for to, (start, stop) in enumerate(_windows(T, pool_size, stride, padding)):
        grad_x[:, start:stop] += grad_y[:, to : to + 1] / (stop - start)
    return grad_x


def global_max_pool1d(x: Array, mask: Array | None = None) -> tuple[Array, npt.NDArray[np.int32]]:
    """x (B, T, F), mask (B, T) bool -> y (B, F), indices (B, F). A row with no valid step gives 0 and index -1."""
    B, T, F = x.shape
    keep = np.ones((B, T), np.bool_) if mask is None else mask
    if T == 0:
        return np.zeros((B, F), x.dtype), np.full((B, F), -1, np.int32)
    # not where(keep, x, -inf): a valid -inf must win over a masked step
    candidates: Array = np.where(keep[:, :, None], x, -np.inf)
    first = np.argmax(keep, axis=1)
    indices = np.argmax(candidates, axis=1)
    indices = np.where(np.take_along_axis(keep, indices, axis=1), indices, first[:, None])
    y = np.take_along_axis(x, indices[:, None, :], axis=1)[:, 0]
    some: Array = np.any(keep, axis=1, keepdims=True)
    return np.where(some, y, x.dtype.type(0)), np.where(some, indices, -1).astype(np.int32)


def global_max_pool1d_backward(indices: npt.NDArray[np.int32], grad_y: Array, T: int) -> Array:
    """indices, grad_y (B, F) -> grad_x (B, T, F)."""
    B, F = grad_y.shape
    grad_x = np.zeros((B, T, F), grad_y.dtype)
    b, f = np.nonzero(indices >= 0)
    grad_x[b, indices[b, f], f] = grad_y[b, f]
    return grad_x


def global_avg_pool1d(x: Array, mask: Array | None = None) -> Array:
    """x (B, T, F), mask (B, T) bool -> y (B, F), the mean over valid steps; zeros for a row with none."""
    B, T, _ = x.shape
    keep = np.ones((B, T), np.bool_) if mask is None else mask
    y: Array = np.where(keep[:, :, None], x, x.dtype.type(0)).sum(axis=1)
    y /= np.maximum(keep.sum(axis=1), 1).astype(x.dtype)[:, None]
    return y


def global_avg_pool1d_backward(grad_y: Array, T: int, mask: Array | None = None) -> Array:
    """grad_y (B, F) -> grad_x (B, T, F)."""
    keep = np.ones((grad_y.shape[0], T), np.bool_) if mask is None else mask
    share: Array = grad_y / np.maximum(keep.sum(axis=1), 1).astype(grad_y.dtype)[:, None]
    grad_x: Array = np.where(keep[:, :, None], share[:, None, :], grad_y.dtype.type(0))
    return grad_x
