"""Layers that only move or repeat values: Flatten, Reshape, Permute, RepeatVector. As in Keras they end a mask."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import checks
from .base import Array, Layer, Shape


class Flatten(Layer):
    """(B, ...) -> (B, product of the rest)."""

    _input_kind = "any"

    def _forward(self, x: Array, training: bool, mask: Array | None) -> Array:
        if training:
            self._cache = x.shape
        return x.reshape(len(x), math.prod(x.shape[1:]))

    def _backward(self, cache: tuple[int, ...], grad_y: Array) -> Array:
        return grad_y.reshape(cache)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Shape:
        extents = [e for e in input_shape[1:] if e is not None]
        known = len(extents) == len(input_shape) - 1
        return (input_shape[0], math.prod(extents) if known else None)


class Reshape(Layer):
    """(B, ...) -> (B, ...) with the extents of `target_shape` behind B; one -1 in `target_shape` takes what is left."""

    _input_kind = "any"

    def __init__(self, target_shape: Any, **options: Any) -> None:
        op = "Reshape"
        super().__init__(**options)
        if not isinstance(target_shape, (tuple, list)):
            raise TypeError(f"[{op}] target_shape: expected a tuple of integers, got {target_shape!r}")
        if sum(1 for e in target_shape if e == -1) > 1:
            raise ValueError(f"[{op}] target_shape: expected at most one -1, got {tuple(target_shape)}")
        self.target_shape = tuple(-1 if e == -1 else checks.positive_int(op, "target_shape", e) for e in target_shape)

    def _fit(self, shape: Sequence[int | None]) -> Shape:
        extents = [e for e in shape if e is not None]
        rest = math.prod(e for e in self.target_shape if e != -1)
        if len(extents) < len(shape):
            return tuple(None if e == -1 else e for e in self.target_shape)
        total = math.prod(extents)
        if (total % rest) if -1 in self.target_shape else (total != rest):
            raise ValueError(f"[Reshape] inputs: expected extents that make {self.target_shape}, got {tuple(shape)}")
        return tuple(total // rest if e == -1 else e for e in self.target_shape)

    def _forward(self, x: Array, training: bool, mask: Array | None) -> Array:
        if training:
            self._cache = x.shape
        return x.reshape(len(x), *(e or 0 for e in self._fit(x.shape[1:])))

    def _backward(self, cache: tuple[int, ...], grad_y: Array) -> Array:
        return grad_y.reshape(cache)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Shape:
        return (input_shape[0], *self._fit(input_shape[1:]))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "target_shape": list(self.target_shape)}


class Permute(Layer):
    """Reorder the axes after the batch: `dims` counts from 1, so `Permute((2, 1))` swaps time and features."""

    _input_kind = "any"

    def __init__(self, dims: Any, **options: Any) -> None:
        super().__init__(**options)
        self.dims = tuple(checks.positive_int("Permute", "dims", d) for d in dims)
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise ValueError(f"[Permute] dims: expected each of 1 to {len(self.dims)} once, got {self.dims}")

    def _check_shape(self, shape: Sequence[int | None]) -> None:
        if len(shape) != len(self.dims) + 1:
            raise ValueError(f"[Permute] inputs: expected {len(self.dims) + 1} axes, got shape {tuple(shape)}")

    def _forward(self, x: Array, training: bool, mask: Array | None) -> Array:
        self._cache = ()
        return np.ascontiguousarray(x.transpose(0, *self.dims))

    def _backward(self, cache: Any, grad_y: Array) -> Array:
        return np.ascontiguousarray(grad_y.transpose(np.argsort((0, *self.dims))))

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Shape:
        return (input_shape[0], *(input_shape[d] for d in self.dims))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "dims": list(self.dims)}


class RepeatVector(Layer):
    """(B, F) -> (B, n, F)."""

    _input_words = "(batch, features)"
    _input_rank = 2

    def __init__(self, n: int, **options: Any) -> None:
        super().__init__(**options)
        self.n = checks.positive_int("RepeatVector", "n", n)

    def _forward(self, x: Array, training: bool, mask: Array | None) -> Array:
        self._cache = ()
        return np.repeat(x[:, None, :], self.n, axis=1)

    def _backward(self, cache: Any, grad_y: Array) -> Array:
        grad_x: Array = grad_y.sum(axis=1)
        return grad_x

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Shape:
        return (input_shape[0], self.n, input_shape[1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "n": self.n}
