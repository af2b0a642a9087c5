"""Conv1D: a product over windows of time. The padding arithmetic is functional's (Keras's)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import functional as F
from . import checks
from .base import Array, Layer, Shape
from .tokens import TokenGradient, Tokens
from .weights import OutputActivation, WeightSpec


def output_extent(time: int | None, span: int, stride: int, padding: str) -> int | None:
    """Windows of `span` steps, `stride` apart, in `time` steps."""
    if time is None:
        return None
    return max((time - span) // stride + 1, 0) if padding == "valid" else -(-time // stride)


class Conv1D(Layer):
    """x (B, T, C) -> (B, T', filters), kernel (kernel_size, C, filters).

    `padding` "valid", "same" or "causal" (output t sees no input after t); `strides`; `dilation_rate`; `groups` is 1.
    Options: `kernel_initializer="glorot_uniform"`, `bias_initializer="zeros"`, and for each of kernel and bias a
    `_regularizer` and a `_constraint`; `activity_regularizer`.
    """

    _input_words = "(batch, time, channels)"
    _input_rank = 3

    def __init__(
        self, filters: int, kernel_size: Any, strides: Any = 1, padding: str = "valid", data_format: Any = None,
        dilation_rate: Any = 1, groups: int = 1, activation: Any = None, use_bias: bool = True, **options: Any,
    ) -> None:  # fmt: skip
        op = "Conv1D"
        self.filters = checks.positive_int(op, "filters", filters)
        self.kernel_size = checks.single_int(op, "kernel_size", kernel_size)
        self.strides = checks.single_int(op, "strides", strides)
        self.dilation_rate = checks.single_int(op, "dilation_rate", dilation_rate)
        padding = padding.lower() if isinstance(padding, str) else padding
        self.padding = checks.one_of(op, "padding", padding, ("valid", "same", "causal"))
        checks.one_of(op, "data_format", data_format, (None, "channels_last"))
        if checks.positive_int(op, "groups", groups) != 1:
            raise ValueError(f"[{op}] groups: expected 1 (grouped convolutions are not implemented), got {groups}")
        if self.strides > 1 and self.dilation_rate > 1:
            raise ValueError(f"[{op}] strides: expected 1 with dilation_rate={self.dilation_rate}, got {self.strides}")
        self._kernel = WeightSpec.take(options, "kernel", "glorot_uniform")
        self._bias = WeightSpec.take(options, "bias", "zeros")
        super().__init__(**options)
        self.use_bias = checks.boolean(op, "use_bias", use_bias)
        self.activation = OutputActivation(activation)

    def _build(self, input_shape: Shape) -> None:
        channels = input_shape[-1]
        if channels is None:
            raise ValueError(f"[Conv1D] input_shape: expected a known number of channels, got {input_shape}")
        shape = (self.kernel_size, channels, self.filters)
        self.kernel = self.add_weight("kernel", shape, self._kernel.initializer, **self._kernel.rules)
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight("bias", (self.filters,), self._bias.initializer, **self._bias.rules)
        self._last_dim = channels

    def _check_shape(self, shape: Sequence[int | None]) -> None:
        super()._check_shape(shape)
        span = (self.kernel_size - 1) * self.dilation_rate + 1
        if self.padding == "valid" and shape[1] is not None and shape[1] < span:
            raise ValueError(
                f"[Conv1D] inputs: expected at least {span} steps for kernel_size={self.kernel_size} with "
                f"padding='valid', got {tuple(shape)}"
            )

    def _options(self) -> dict[str, Any]:
        return {
            "stride": self.strides, "padding": self.padding, "dilation": self.dilation_rate,
            "activation": self.activation.fused,
        }  # fmt: skip

    def _as_input(self, x: Any) -> Any:
        return x if isinstance(x, Tokens) and self._projects(x) else super()._as_input(x)

    def _projects(self, x: Tokens) -> bool:
        """Is it worth it to convolve `x` by its distinct tokens?"""
        reach = (self.kernel_size - 1) * self.dilation_rate
        if x.ndim != 3 or x.dtype != self.dtype or reach > x.shape[1]:
            return False
        outputs = output_extent(x.shape[1], reach + 1, self.strides, self.padding) or 0
        return x.worth_projecting(x.shape[0] * outputs, self.kernel_size * self.filters)

    def _forward(self, x: Array | Tokens, training: bool, mask: Array | None) -> Array:
        bias = None if self.bias is None else self.bias.value
        # (K, C, F) seen as (F, C, K)
        weight = self.kernel.value.transpose(2, 1, 0)
        if isinstance(x, Tokens):
            a = F.token_conv1d(x.index, x.table, weight, bias, **self._options())
        else:
            a = F.conv1d(x, weight, bias, **self._options())
        y = self.activation.forward(a)
        if training:
            self._cache = (x, a, y)
        return y

    def _backward(self, cache: Any, grad_y: Array) -> Any:
        x, a, y = cache
        weight, grad_a = self.kernel.value.transpose(2, 1, 0), self.activation.backward(a, y, grad_y)
        options = {"has_bias": self.bias is not None, **self._options()}
        grad_x: Any
        if isinstance(x, Tokens):
            grad_x, grad_weight, grad_bias = F.token_conv1d_backward(
                x.index, x.table, weight, a, grad_a, need_grad_embedding=self.need_grad_x, **options
            )
            grad_x = None if grad_x is None else TokenGradient(grad_x)
        else:
            grad_x, grad_weight, grad_bias = F.conv1d_backward(
                x, weight, a, grad_a, need_grad_x=self.need_grad_x, **options
            )
        self.kernel.grad = np.ascontiguousarray(grad_weight.transpose(2, 1, 0))
        if self.bias is not None:
            self.bias.grad = grad_bias
        return grad_x

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Shape:
        span = (self.kernel_size - 1) * self.dilation_rate + 1
        return (input_shape[0], output_extent(input_shape[1], span, self.strides, self.padding), self.filters)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(), "filters": self.filters, "kernel_size": self.kernel_size, "strides": self.strides,
            "padding": self.padding, "dilation_rate": self.dilation_rate, "groups": 1,
            "activation": self.activation.config, "use_bias": self.use_bias,
            **self._kernel.config(), **self._bias.config(),
        }  # fmt: skip
