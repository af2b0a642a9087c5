"""Attention as pooling over time: a weighted mean of the steps, with learned weights. Not query-key-value attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import functional as F
from . import checks
from .base import Array, Layer, Shape
from .weights import WeightSpec


class Attention(Layer):
    """x (B, T, F), mask (B, T) -> (B, F), the mean of the steps weighted by softmax(score) over the valid ones.

    `score="additive"`: query . tanh(x kernel + bias) with kernel (F, units), query (units,); `units` is F by default
    (Bahdanau 2014, as pooling in Yang 2016). `score="dot"`: x . query / sqrt(F) with query (F,) (Luong 2015, a learned
    query). A row with no valid step gives zeros. Options: `kernel_initializer="glorot_uniform"`,
    `bias_initializer="zeros"`, `query_initializer="glorot_uniform"`, and for each a `_regularizer` and a `_constraint`.
    """

    _input_words = "(batch, time, features)"
    _input_rank = 3

    def __init__(
        self, units: int | None = None, score: str = "additive", use_bias: bool = True, **options: Any
    ) -> None:
        op = "Attention"
        self.score = checks.one_of(op, "score", score, ("additive", "dot"))
        self.units = None if units is None else checks.positive_int(op, "units", units)
        if score == "dot" and units is not None:
            raise ValueError(f"[{op}] units: expected None with score='dot', got {units}")
        self._kernel = WeightSpec.take(options, "kernel", "glorot_uniform")
        self._bias = WeightSpec.take(options, "bias", "zeros")
        self._query = WeightSpec.take(options, "query", "glorot_uniform")
        super().__init__(**options)
        self.use_bias = checks.boolean(op, "use_bias", use_bias)

    def _build(self, input_shape: Shape) -> None:
        features = input_shape[-1]
        if features is None:
            raise ValueError(f"[Attention] input_shape: expected a known number of features, got {input_shape}")
        self.kernel = self.bias = None
        width = features
        if self.score == "additive":
            width = self.units or features
            self.kernel = self.add_weight("kernel", (features, width), self._kernel.initializer, **self._kernel.rules)
            if self.use_bias:
                self.bias = self.add_weight("bias", (width,), self._bias.initializer, **self._bias.rules)
        self.query = self.add_weight("query", (width,), self._query.initializer, **self._query.rules)
        self._scale = 1.0 if self.score == "additive" else 1.0 / math.sqrt(features)
        self._last_dim = features

    def _scores(self, x: Array) -> tuple[Array, Array, Array]:
        """What the query meets (B, T, width), the row (1, width) it is met by, and the scores (B, T)."""
        keys = x
        if self.kernel is not None:
            bias = None if self.bias is None else self.bias.value
            keys = F.linear(x, self.kernel.value.T, bias, activation="tanh")
        row = (self.query.value * x.dtype.type(self._scale))[None, :]
        return keys, row, F.linear(keys, row)[..., 0]

    def attention_weights(self, x: Any, mask: Any = None) -> Array:
        """The weights (B, T) given to the steps of x (B, T, F): what the layer looks at."""
        x = self._as_input(x)
        self._check_shape(x.shape)
        weights: Array = F.attention_pool(x, self._scores(x)[2], self._as_mask(mask, x))[1]
        return weights

    def _forward(self, x: Array, training: bool, mask: Array | None) -> Array:
        keys, row, scores = self._scores(x)
        y: Array
        y, weights = F.attention_pool(x, scores, mask)
        if training:
            self._cache = (x, keys, row, scores, weights)
        return y

    def _backward(self, cache: Any, grad_y: Array) -> Array | None:
        x, keys, row, scores, weights = cache
        grad_x, grad_scores = F.attention_pool_backward(x, weights, grad_y)
        additive = self.kernel is not None
        grad_keys, grad_row, _ = F.linear_backward(
            keys, row, scores[..., None], grad_scores[..., None], has_bias=False,
            need_grad_x=additive or self.need_grad_x,
        )  # fmt: skip
        self.query.grad = grad_row[0] * grad_row.dtype.type(self._scale)
        if self.kernel is not None and grad_keys is not None:
            grad_keys, grad_weight, grad_bias = F.linear_backward(
                x, self.kernel.value.T, keys, grad_keys, activation="tanh", need_grad_x=self.need_grad_x,
                has_bias=self.bias is not None,
            )  # fmt: skip
            self.kernel.grad = np.ascontiguousarray(grad_weight.T)
            if self.bias is not None:
                self.bias.grad = grad_bias
        if not self.need_grad_x:
            return None
        grad_x += grad_keys
        result: Array = grad_x
        return result

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Shape:
        return (input_shape[0], input_shape[2])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(), "units": self.units, "score": self.score, "use_bias": self.use_bias,
            **self._kernel.config(), **self._bias.config(), **self._query.config(),
        }  # fmt: skip
