"""Pooling over time: maxima and means, of windows or of the whole sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import functional as F
from . import checks
from .base import Array, Layer, Shape
from .convolution import output_extent


class _Pooling1D(Layer):
    """Windows of `pool_size` steps, `strides` apart (default `pool_size`): x (B, T, F) -> (B, T', F)."""

    _input_words = "(batch, time, features)"
    _input_rank = 3

    def __init__(
        self, pool_size: Any = 2, strides: Any = None, padding: str = "valid", data_format: Any = None, **options: Any
    ) -> None:
        op = type(self).__name__
        super().__init__(**options)
        self.pool_size = checks.single_int(op, "pool_size", pool_size)
        self.strides = self.pool_size if strides is None else checks.single_int(op, "strides", strides)
        padding = padding.lower() if isinstance(padding, str) else padding
        self.padding = checks.one_of(op, "padding", padding, ("valid", "same"))
        checks.one_of(op, "data_format", data_format, (None, "channels_last"))

    def _check_shape(self, shape: Sequence[int | None]) -> None:
        super()._check_shape(shape)
        if self.padding == "valid" and shape[1] is not None and shape[1] < self.pool_size:
            raise ValueError(
                f"[{type(self).__name__}] inputs: expected at least {self.pool_size} steps for "
                f"pool_size={self.pool_size} with padding='valid', got {tuple(shape)}"
            )

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Shape:
        extent = output_extent(input_shape[1], self.pool_size, self.strides, self.padding)
        return (input_shape[0], extent, input_shape[2])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(), "pool_size": self.pool_size, "strides": self.strides, "padding": self.padding,
        }  # fmt: skip


class MaxPooling1D(_Pooling1D):
    """The maximum of each window of `pool_size` steps, `strides` apart (None: `pool_size`): (B, T, F) -> (B, T', F).

    `padding`: "valid", or "same" (T' = ceil(T / strides)). Masks end here.
    """

    def _forward(self, x: Array, training: bool, mask: Array | None) -> Array:
        y: Array
        y, indices = F.max_pool1d(x, self.pool_size, self.strides, self.padding)
        if training:
            self._cache = (indices, x.shape[1])
        return y

    def _backward(self, cache: Any, grad_y: Array) -> Array | None:
        return F.max_pool1d_backward(cache[0], grad_y, cache[1]) if self.need_grad_x else None


class AveragePooling1D(_Pooling1D):
    """The mean of each window, over the steps that exist: (B, T, F) -> (B, T', F). Arguments: as `MaxPooling1D`."""

    def _forward(self, x: Array, training: bool, mask: Array | None) -> Array:
        if training:
            self._cache = x.shape[1]
        y: Array = F.avg_pool1d(x, self.pool_size, self.strides, self.padding)
        return y

    def _backward(self, cache: int, grad_y: Array) -> Array | None:
        if not self.need_grad_x:
            return None
        grad_x: Array = F.avg_pool1d_backward(grad_y, cache, self.pool_size, self.strides, self.padding)
        return grad_x


class _GlobalPooling1D(Layer):
    """The whole sequence: x (B, T, F) -> (B, F), or (B, 1, F) with `keepdims`. Masked steps do not count."""

    _input_words = "(batch, time, features)"
    _input_rank = 3

    def __init__(self, data_format: Any = None, keepdims: bool = False, **options: Any) -> None:
        super().__init__(**options)
        checks.one_of(type(self).__name__, "data_format", data_format, (None, "channels_last"))
        self.keepdims = checks.boolean(type(self).__name__, "keepdims", keepdims)

    def _shaped(self, y: Array) -> Array:
        return y[:, None, :] if self.keepdims else y

    def _flat(self, grad_y: Array) -> Array:
        return np.ascontiguousarray(grad_y[:, 0] if self.keepdims else grad_y)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Shape:
        batch, features = input_shape[0], input_shape[2]
        return (batch, 1, features) if self.keepdims else (batch, features)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "keepdims": self.keepdims}


class GlobalMaxPooling1D(_GlobalPooling1D):
    """The maximum over time: (B, T, F) -> (B, F), or (B, 1, F) with `keepdims`.

    Masked steps do not count (Keras, which drops the mask here, counts them); a row with no valid step gives zeros.
    """

    def _forward(self, x: Array, training: bool, mask: Array | None) -> Array:
        y, indices = F.global_max_pool1d(x, mask)
        if training:
            self._cache = (indices, x.shape[1])
        return self._shaped(y)

    def _backward(self, cache: Any, grad_y: Array) -> Array | None:
        return F.global_max_pool1d_backward(cache[0], self._flat(grad_y), cache[1]) if self.need_grad_x else None


class GlobalAveragePooling1D(_GlobalPooling1D):
    """The mean over time: (B, T, F) -> (B, F), or (B, 1, F) with `keepdims`.

    Masked steps do not count; a row with no valid step gives zeros.
    """

    def _forward(self, x: Array, training: bool, mask: Array | None) -> Array:
        if training:
            self._cache = (x.shape[1], mask)
        return self._shaped(F.global_avg_pool1d(x, mask))

    def _backward(self, cache: Any, grad_y: Array) -> Array | None:
        return F.global_avg_pool1d_backward(self._flat(grad_y), *cache) if self.need_grad_x else None


MaxPool1D = MaxPooling1D
AvgPool1D = AveragePooling1D
GlobalMaxPool1D = GlobalMaxPooling1D
GlobalAvgPool1D = GlobalAveragePooling1D
