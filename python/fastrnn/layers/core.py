"""Layers without time of their own: Input, Dense, Embedding, Activation, Dropout, Masking, TimeDistributed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import functional as F
from .. import initializers
from . import checks
from .base import Array, Layer, Shape
from .tokens import TokenGradient, Tokens
from .weights import OutputActivation, WeightSpec


class InputLayer(Layer):
    """The shape and dtype of a model's input; it does nothing else. `Input(shape=(10, 1))` makes one."""

    _input_kind = "any"
    supports_masking = True

    def __init__(self, shape: Any = None, *, batch_size: int | None = None, dtype: Any = None, **options: Any) -> None:
        if shape is not None:
            if options.get("input_shape") is not None:
                raise ValueError("[InputLayer] shape: expected either shape or input_shape, got both")
            options["input_shape"] = shape
        super().__init__(batch_size=batch_size, **options)
        if self._batch_input_shape is None:
            raise ValueError("[InputLayer] shape: expected a tuple of positive integers and None, got None")
        # Of the data, e.g. "int32" for ids; the layers after it have their own.
        self.input_dtype = None if dtype is None else np.dtype(dtype).name

    def _forward(self, x: Array, training: bool, mask: Array | None) -> Array:
        self._cache = ()
        return x

    def _backward(self, cache: Any, grad_y: Array) -> Array:
        return grad_y

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "dtype": self.input_dtype}


def Input(
    shape: Any = None, batch_size: int | None = None, dtype: Any = None, *, batch_shape: Any = None,
    name: str | None = None,
) -> InputLayer:  # fmt: skip
    """The first entry of a Sequential: `shape` without the batch, or `batch_shape` with it."""
    return InputLayer(shape, batch_size=batch_size, dtype=dtype, batch_shape=batch_shape, name=name)


class Dense(Layer):
    """activation(x kernel + bias) on the last axis of x (B, ..., I) -> (B, ..., U).

    Options as in Keras: `kernel_initializer="glorot_uniform"`, `bias_initializer="zeros"`, and for each of kernel and
    bias a `_regularizer` and a `_constraint`; `activity_regularizer`.
    """

    _input_words = "(batch, ..., features)"
    supports_masking = True

    def __init__(self, units: int, activation: Any = None, use_bias: bool = True, **options: Any) -> None:
        units = checks.positive_int("Dense", "units", units)
        self._kernel = WeightSpec.take(options, "kernel", "glorot_uniform")
        self._bias = WeightSpec.take(options, "bias", "zeros")
        super().__init__(**options)
        self.units = units
        self.use_bias = checks.boolean("Dense", "use_bias", use_bias)
        self.activation = OutputActivation(activation)

    def _build(self, input_shape: Shape) -> None:
        if len(input_shape) < 2 or input_shape[-1] is None:
            words = f"expected shape {self._input_words} with a known last extent"
            raise ValueError(f"[Dense] input_shape: {words}, got {input_shape}")
        shape = (input_shape[-1], self.units)
        self.kernel = self.add_weight("kernel", shape, self._kernel.initializer, **self._kernel.rules)
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight("bias", (self.units,), self._bias.initializer, **self._bias.rules)
        self._last_dim = input_shape[-1]

    def _forward(self, x: Array, training: bool, mask: Array | None) -> Array:
        bias = None if self.bias is None else self.bias.value
        a = F.linear(x, self.kernel.value.T, bias, activation=self.activation.fused)
        y = self.activation.forward(a)
        if training:
            self._cache = (x, a, y)
        return y

    def _backward(self, cache: Any, grad_y: Array) -> Array | None:
        x, a, y = cache
        return self._product_backward(x, a, self.activation.backward(a, y, grad_y), self.activation.fused)

    def backward_logits(self, grad_a: Array) -> Array | None:
        """As `backward`, for the gradient of what goes into the activation: losses on a sigmoid or a softmax have a
        simpler and more exact one (y - target)."""
        if self.activity_regularizer is not None:
            raise RuntimeError("[Dense] backward_logits: expected a layer without activity_regularizer")
        if self._cache is None:
            raise RuntimeError("[Dense] backward_logits: expected a forward with training=True before it")
        self._check_gradient(grad_a)
        (x, a, _), self._cache = self._cache, None
        return self._product_backward(x, a, grad_a, None)

    def _product_backward(self, x: Array, a: Array, grad: Array, activation: Any) -> Array | None:
        grad_x, grad_weight, grad_bias = F.linear_backward(
            x, self.kernel.value.T, a, grad, activation=activation, need_grad_x=self.need_grad_x,
            has_bias=self.bias is not None,
        )  # fmt: skip
        self.kernel.grad = np.ascontiguousarray(grad_weight.T)
        if self.bias is not None:
            self.bias.grad = grad_bias
        return grad_x

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Shape:
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(), "units": self.units, "activation": self.activation.config,
            "use_bias": self.use_bias, **self._kernel.config(), **self._bias.config(),
        }  # fmt: skip


class Embedding(Layer):
    """Row `id` of a table (V, E) for each id: ids (B, ...) -> (B, ..., E). Input dtype any integers, or whole floats.

    `mask_zero`: id 0 is padding, and the layers after skip it. `input_length`: the number of ids, for the shape.
    `weights`: the table's values. Options: `embeddings_initializer="uniform"`, `embeddings_regularizer`,
    `embeddings_constraint`.
    """

    _input_words = "(batch, time)"
    _input_kind = "any"

    def __init__(
        self, input_dim: int, output_dim: int, *, mask_zero: bool = False, input_length: Any = None,
        weights: Any = None, **options: Any,
    ) -> None:  # fmt: skip
        op = "Embedding"
        self.input_dim = checks.positive_int(op, "input_dim", input_dim)
        self.output_dim = checks.positive_int(op, "output_dim", output_dim)
        self._embeddings = WeightSpec.take(options, "embeddings", "uniform")
        self.input_length = input_length
        if input_length is not None:
            extents = checks.shape(op, "input_length", input_length)
            if not {"input_shape", "batch_input_shape", "batch_shape"} & options.keys():
                options["input_shape"] = extents
        super().__init__(**options)
        self.mask_zero = self.supports_masking = checks.boolean(op, "mask_zero", mask_zero)
        self._mask: Array | None = None
        if weights is not None:
            self.build((None, None))
            self.set_weights(weights if isinstance(weights, list) and len(weights) == 1 else [weights])

    def _build(self, input_shape: Shape) -> None:
        shape = (self.input_dim, self.output_dim)
        self.embeddings = self.add_weight("embeddings", shape, self._embeddings.initializer, **self._embeddings.rules)

    def _as_input(self, x: Any) -> Array:
        x = super()._as_input(x)
        if x.dtype in (np.int32, np.int64):
            return np.asarray(x)
        if x.dtype.kind == "f" and not (np.isfinite(x).all() and (x == np.rint(x)).all()):
            raise ValueError(f"[Embedding] inputs: expected integer ids, got fractions in an array of {x.dtype}")
        if x.dtype.kind == "b":
            raise TypeError("[Embedding] inputs: expected integer ids, got dtype bool")
        # beyond int64 nothing is a legal id, and the cast must not turn it into one
        if x.size and (x.dtype.kind == "f" or x.dtype == np.uint64) and np.abs(x).max() >= self.input_dim:
            raise ValueError(
                f"[Embedding] inputs: expected ids in [0, {self.input_dim}), got {x.min():g} to {x.max():g}"
            )
        ids: Array = x.astype(np.int64, copy=False)
        return ids

    def forward_tokens(self, x: Array, *, training: bool = False, mask: Array | None = None) -> Tokens:
        """As `forward`, for a layer that takes `Tokens` in place of the array."""
        tokens: Tokens = self._run(self._forward_tokens, x, training, mask)
        return tokens

    def _forward_tokens(self, x: Array, training: bool, mask: Array | None) -> Tokens:
        self._mask = x != 0 if self.mask_zero else None
        if training:
            self._cache = x
        return Tokens(x, self.embeddings.value)

    def _forward(self, x: Array, training: bool, mask: Array | None) -> Array:
        return np.asarray(self._forward_tokens(x, training, mask))

    def _check_gradient(self, grad_y: Any) -> None:
        if not isinstance(grad_y, TokenGradient):
            super()._check_gradient(grad_y)

    def _backward(self, cache: Array, grad_y: Array | TokenGradient) -> None:
        if isinstance(grad_y, TokenGradient):
            self.embeddings.grad = grad_y.table
        else:
            self.embeddings.grad = F.embedding_backward(cache, grad_y, self.input_dim)

    def compute_mask(self, mask: Array | None) -> Array | None:
        """Where the ids of the last forward are not zero, with `mask_zero`; else None."""
        return self._mask

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Shape:
        return (*input_shape, self.output_dim)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(), "input_dim": self.input_dim, "output_dim": self.output_dim,
            "mask_zero": self.mask_zero, "input_length": self.input_length, **self._embeddings.config(),
        }  # fmt: skip


class Activation(Layer):
    """An activation as a layer: `Activation("relu")`; softmax is over the last axis."""

    supports_masking = True

    def __init__(self, activation: Any, **options: Any) -> None:
        super().__init__(**options)
        self.activation = OutputActivation(activation)

    def _forward(self, x: Array, training: bool, mask: Array | None) -> Array:
        y: Array = F.softmax(x) if self.activation.softmax else F.activation(x, self.activation.spec)
        if training:
            self._cache = (x, y)
        return y

    def _backward(self, cache: Any, grad_y: Array) -> Array | None:
        x, y = cache
        if not self.need_grad_x:
            return None
        grad_x: Array
        if self.activation.softmax:
            grad_x = F.softmax_backward(y, grad_y)
        else:
            grad_x = F.activation_backward(x, grad_y, self.activation.spec)
        return grad_x

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "activation": self.activation.config}


class Dropout(Layer):
    """In training, zero a fraction `rate` of the input and scale the rest by 1 / (1 - rate).

    `noise_shape`: 1 at an axis makes the mask constant along it, None or the extent does not. `seed` of the masks.
    """

    supports_masking = True

    def __init__(self, rate: float, *, noise_shape: Any = None, seed: int | None = None, **options: Any) -> None:
        op = type(self).__name__
        super().__init__(**options)
        self.rate = checks.rate(op, "rate", rate)
        self.noise_shape = None if noise_shape is None else checks.shape(op, "noise_shape", noise_shape)
        self.seed = checks.seed(op, "seed", seed)
        self._source = None if seed is None else np.random.default_rng(seed)

    def _constant_axes(self, shape: Shape) -> tuple[int, ...]:
        if self.noise_shape is None:
            return ()
        noise = self.noise_shape
        if len(noise) != len(shape) or any(n not in (1, None, e) for n, e in zip(noise, shape, strict=True)):
            raise ValueError(f"[{type(self).__name__}] noise_shape: expected extents of {shape} or 1, got {noise}")
        return tuple(axis for axis, extent in enumerate(noise) if extent == 1)

    def _forward(self, x: Array, training: bool, mask: Array | None) -> Array:
        axes = self._constant_axes(x.shape)
        if not training:
            return x
        seed = initializers.draw_seed(self._source) if self.rate else None
        self._cache = (seed, axes)
        return x if seed is None else F.dropout(x, self.rate, seed, broadcast_axes=axes)

    def _backward(self, cache: Any, grad_y: Array) -> Array | None:
        seed, axes = cache
        if not self.need_grad_x or seed is None:
            return grad_y if self.need_grad_x else None
        grad_x: Array = F.dropout(grad_y, self.rate, seed, broadcast_axes=axes)
        return grad_x

    def get_config(self) -> dict[str, Any]:
        noise = None if self.noise_shape is None else list(self.noise_shape)
        return {**super().get_config(), "rate": self.rate, "noise_shape": noise, "seed": self.seed}


class SpatialDropout1D(Dropout):
    """Dropout of whole features: the mask is constant over time. x (B, T, F)."""

    _input_words = "(batch, time, features)"
    _input_rank = 3

    def __init__(self, rate: float, *, seed: int | None = None, **options: Any) -> None:
        super().__init__(rate, seed=seed, **options)

    def _constant_axes(self, shape: Shape) -> tuple[int, ...]:
        return (1,)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["noise_shape"]
        return config


class Masking(Layer):
    """Mask the steps of x (B, T, F) all whose features equal `mask_value`: they become 0, later layers skip them."""

    _input_words = "(batch, time, features)"
    _input_rank = 3
    supports_masking = True

    def __init__(self, mask_value: float = 0.0, **options: Any) -> None:
        super().__init__(**options)
        self.mask_value = checks.finite("Masking", "mask_value", mask_value)
        self._mask: Array | None = None

    def _forward(self, x: Array, training: bool, mask: Array | None) -> Array:
        self._mask = (x != x.dtype.type(self.mask_value)).any(axis=-1)
        if training:
            self._cache = self._mask
        return np.where(self._mask[..., None], x, x.dtype.type(0))

    def _backward(self, cache: Array, grad_y: Array) -> Array | None:
        return np.where(cache[..., None], grad_y, grad_y.dtype.type(0)) if self.need_grad_x else None

    def compute_mask(self, mask: Array | None) -> Array | None:
        """The mask of the last forward's input; one that came with it is forgotten, as in Keras."""
        return self._mask

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "mask_value": self.mask_value}


class TimeDistributed(Layer):
    """Apply `layer` to each time step of x (B, T, ...) with the same weights; masks pass through."""

    _input_words = "(batch, time, features, ...)"
    _input_kind = "any"
    supports_masking = True

    def __init__(self, layer: Any, **options: Any) -> None:
        if isinstance(layer, dict):
            from . import deserialize

            layer = deserialize(layer)
        if not isinstance(layer, Layer):
            raise TypeError(f"[TimeDistributed] layer: expected a layer, got {layer!r}")
        if getattr(layer, "return_state", False) or layer.stateful:
            raise ValueError("[TimeDistributed] layer: expected a layer without return_state and stateful")
        options.setdefault("dtype", layer.dtype)
        super().__init__(**options)
        self.layer = layer
        if not self._trainable:
            self.trainable = False

    def _sublayers(self) -> tuple[Layer]:
        return (self.layer,)

    def _check_shape(self, shape: Sequence[int | None]) -> None:
        if len(shape) < 3:
            raise ValueError(f"[TimeDistributed] inputs: expected shape {self._input_words}, got {tuple(shape)}")

    def _build(self, input_shape: Shape) -> None:
        self.layer.build((None, *input_shape[2:]))

    def _forward(self, x: Array, training: bool, mask: Array | None) -> Array:
        batch, time = x.shape[:2]
        y = self.layer.forward(x.reshape(batch * time, *x.shape[2:]), training=training)
        if training:
            self._cache = x.shape
        result: Array = y.reshape(batch, time, *y.shape[1:])
        return result

    def _backward(self, cache: Any, grad_y: Array) -> Array | None:
        self.layer.need_grad_x = self.need_grad_x
        grad_x = self.layer.backward(grad_y.reshape(cache[0] * cache[1], *grad_y.shape[2:]))
        return None if grad_x is None else grad_x.reshape(cache)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Shape:
        inner = self.layer.compute_output_shape((input_shape[0], *input_shape[2:]))
        return (inner[0], input_shape[1], *inner[1:])

    def get_config(self) -> dict[str, Any]:
        inner = {"class_name": type(self.layer).__name__, "config": self.layer.get_config()}
        return {**super().get_config(), "layer": inner}
