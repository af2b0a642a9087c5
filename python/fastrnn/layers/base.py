"""Variable and Layer: what every layer is. Not a graph: a layer is a forward, its backward and the arrays both share.

A layer implements four private methods and the base class does the rest:
    _build(input_shape)                    make the variables with `add_weight`
    _forward(x, training, mask) -> y       if training, put what backward needs into `self._cache`
    _backward(cache, grad_y) -> grad_x     set `Variable.grad` (overwrite); None if `need_grad_x` is False
    compute_output_shape(input_shape)      shapes start with the batch, None where open
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from .. import constraints, initializers, regularizers
from ..functional.checks import as_array
from . import checks
from .variable import Array, Variable, dtype_name, floatx, reset_names, set_floatx, snake_case, unique_name

__all__ = ["Array", "Layer", "Shape", "Variable", "floatx", "reset_names", "set_floatx", "unique_name"]

Shape: TypeAlias = tuple[int | None, ...]


class Layer:
    """Base class of all layers.

    Parameters: `name`; `trainable`; `dtype` "float32" or "float64" (default `floatx()`); `input_shape` without the
    batch, or `batch_input_shape`/`batch_shape` with it (None where open). `input_dim` (with `input_length`) is Keras's
    older word for the last axis.
    """

    # The words and the rank of the expected input; rank None: anything. Layers override.
    _input_words: ClassVar[str] = "(batch, ...)"
    _input_rank: ClassVar[int | None] = None
    # "float": inputs become the layer's dtype. "any": they are taken as they are (ids, reshapes).
    _input_kind: ClassVar[str] = "float"
    supports_masking: bool = False

    def __init__(
        self,
        *,
        name: str | None = None,
        trainable: bool = True,
        dtype: Any = None,
        input_shape: Any = None,
        batch_input_shape: Any = None,
        batch_shape: Any = None,
        batch_size: int | None = None,
        input_dim: int | None = None,
        input_length: int | None = None,
        activity_regularizer: Any = None,
        **unknown: Any,
    ) -> None:
        op = type(self).__name__
        if unknown:
            raise TypeError(f"[{op}] {sorted(unknown)[0]}: expected a known argument, got an unexpected keyword")
        if name is not None and (not isinstance(name, str) or not name or "/" in name):
            raise ValueError(f"[{op}] name: expected a non-empty string without '/', got {name!r}")
        self.name: str = name if name is not None else unique_name(snake_case(op))
        # Keras writes the dtype of saved layers as a policy object
        if isinstance(dtype, dict):
            dtype = dtype.get("config", {}).get("name")
        self.dtype: str = floatx() if dtype is None else dtype_name(op, dtype)
        self.built = False
        self.need_grad_x = True
        self.stateful = False
        self.activity_regularizer = regularizers.get(activity_regularizer)
        self._trainable = checks.boolean(op, "trainable", trainable)
        self._variables: list[Variable] = []
        self._build_shape: Shape | None = None
        self._cache: Any = None
        # shape and dtype of the outputs of the last training forward
        self._output_like: list[tuple[tuple[int, ...], Any]] = []
        self._activity_output: Any = None
        self._activity_loss = 0.0
        self._last_dim: int | None = None
        whole = batch_input_shape if batch_input_shape is not None else batch_shape
        self._batch_input_shape = self._given_shape(op, input_shape, whole, input_dim, input_length)
        if batch_size is not None and self._batch_input_shape is not None:
            size = checks.positive_int(op, "batch_size", batch_size)
            self._batch_input_shape = (size, *self._batch_input_shape[1:])

    @staticmethod
    def _given_shape(op: str, shape: Any, batch_shape: Any, last: int | None, length: int | None) -> Shape | None:
        if shape is not None and batch_shape is not None:
            raise ValueError(f"[{op}] input_shape: expected either input_shape or batch_input_shape, got both")
        if batch_shape is not None:
            return checks.shape(op, "batch_input_shape", batch_shape)
        if shape is not None:
            return (None, *checks.shape(op, "input_shape", shape))
        if last is not None:
            last = checks.positive_int(op, "input_dim", last)
            if length is not None:
                return (None, checks.positive_int(op, "input_length", length), last)
            return (None, last)
        return None

    # ---- building -------------------------------------------------------------------------------------------------

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Make the weights for inputs of `input_shape` (batch first). A second call must agree with the first."""
        shape = checks.shape(type(self).__name__, "input_shape", input_shape)
        self._check_shape(shape)
        if self.built:
            return
        self._build(shape)
        self._build_shape = shape
        self.built = True

    def _build(self, input_shape: Shape) -> None:
        """Layers with weights override."""

    def add_weight(
        self,
        name: str,
        shape: tuple[int, ...],
        initializer: Any,
        *,
        regularizer: Any = None,
        constraint: Any = None,
        trainable: bool = True,
    ) -> Variable:
        """For `_build` of layers of your own: a new variable of the layer's dtype, set to what `initializer` gives.

        It goes into `weights` in the order of the calls.
        """
        value = initializers.get(initializer)(shape, dtype=self.dtype)
        variable = Variable(
            np.asarray(value, dtype=self.dtype).reshape(shape),
            name=name,
            trainable=trainable,
            regularizer=regularizers.get(regularizer),
            constraint=constraints.get(constraint),
        )
        self._variables.append(variable)
        return variable

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Shape:
        """The shape of the output for inputs of `input_shape`, batch first, None where open."""
        return tuple(input_shape)

    def compute_mask(self, mask: Array | None) -> Array | None:
        """The mask of this layer's output (B, T) bool or None, given that of its input; asked after `forward`."""
        return mask if self.supports_masking else None

    # ---- running --------------------------------------------------------------------------------------------------

    def forward(self, x: Array, *, training: bool = False, mask: Array | None = None) -> Any:
        """Run the layer on an array. With `training=True` it keeps what `backward` needs (until `backward` took it)."""
        return self._run(self._forward, x, training, mask)

    def _run(self, body: Callable[[Array, bool, Array | None], Any], x: Array, training: bool, mask: Any) -> Any:
        if not self.built:
            raise RuntimeError(f"[{type(self).__name__}] forward: expected a built layer, got one without weights")
        x = self._as_input(x)
        self._check_shape(x.shape)
        mask = self._as_mask(mask, x)
        self._cache = None
        y = body(x, training, mask)
        self._output_like = [(part.shape, part.dtype) for part in _arrays(y)] if training else []
        if self.activity_regularizer is not None:
            self._penalise(y, x.shape[0], training)
        return y

    def backward(self, grad_y: Any) -> Array | None:
        """Gradient of the input for that of the output; sets `Variable.grad`. Uses up the last training forward."""
        if self._cache is None:
            raise RuntimeError(f"[{type(self).__name__}] backward: expected a forward with training=True before it")
        self._check_gradient(grad_y)
        if self._activity_output is not None:
            grad_y = self._penalty_gradient(grad_y)
        cache, self._cache = self._cache, None
        return self._backward(cache, grad_y)

    def _check_gradient(self, grad_y: Any) -> None:
        """One array per output, of its shape and precision; None, where there are several, for zeros."""
        op, gradients = type(self).__name__, _arrays(grad_y)
        if len(gradients) != len(self._output_like):
            raise ValueError(f"[{op}] grad_y: expected {len(self._output_like)} arrays, got {len(gradients)}")
        for gradient, (shape, dtype) in zip(gradients, self._output_like, strict=True):
            if gradient is None and len(gradients) > 1:
                continue
            if not isinstance(gradient, np.ndarray):
                raise TypeError(f"[{op}] grad_y: expected an array of shape {shape}, got {type(gradient).__name__}")
            if gradient.shape != shape:
                raise ValueError(f"[{op}] grad_y: expected shape {shape}, got {gradient.shape}")
            if gradient.dtype != dtype and dtype.kind == "f":
                raise TypeError(f"[{op}] grad_y: expected dtype {dtype}, got {gradient.dtype}")

    def _penalise(self, y: Any, batch: int, training: bool) -> None:
        """The penalty of the outputs. Keras divides it by the batch, so that it does not grow with it."""
        assert self.activity_regularizer is not None
        self._activity_loss = sum(self.activity_regularizer(part) for part in _arrays(y)) / max(1, batch)
        self._activity_output = y if training else None

    def _penalty_gradient(self, grad_y: Any) -> Any:
        y, self._activity_output = self._activity_output, None
        if self.activity_regularizer is None or y is None:
            return grad_y
        parts, gradients = _arrays(y), _arrays(grad_y)
        batch = max(1, parts[0].shape[0])
        summed = []
        for part, gradient in zip(parts, gradients, strict=True):
            own = self.activity_regularizer.gradient(part) / batch
            summed.append(own if gradient is None else gradient + own)
        return summed if isinstance(y, (list, tuple)) else summed[0]

    def _forward(self, x: Array, training: bool, mask: Array | None) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def _backward(self, cache: Any, grad_y: Any) -> Array | None:
        raise NotImplementedError(f"{type(self).__name__} has no backward")

    def __call__(self, x: Any, *, training: bool = False, mask: Any = None) -> Any:
        """Run the layer on an array or nested lists, building it for their shape if need be."""
        x = self._as_input(x)
        self._check_shape(x.shape)
        if not self.built:
            self.build(x.shape if self.stateful else (None, *x.shape[1:]))
        return self.forward(x, training=training, mask=mask)

    def _as_input(self, x: Any) -> Array:
        if isinstance(x, np.ndarray) and x.dtype == self.dtype:
            return x
        op = type(self).__name__
        array: Array = np.asarray(as_array(op, "inputs", x))
        if array.dtype.kind not in "fiub":
            raise TypeError(f"[{op}] inputs: expected real numbers, got dtype {array.dtype}")
        return array if self._input_kind == "any" else array.astype(self.dtype)

    def _as_mask(self, mask: Any, x: Array) -> Array | None:
        if mask is None:
            return None
        (mask,) = checks.arrays(type(self).__name__, "mask", [mask])
        # Layers over features (Dense after pooling) see no time axis; a mask there is the caller's mistake.
        if mask.dtype.kind not in "bui" or mask.ndim > x.ndim or mask.shape != x.shape[: mask.ndim]:
            raise ValueError(
                f"[{type(self).__name__}] mask: expected booleans of shape (batch, time) = {x.shape[:2]}, "
                f"got {mask.dtype} of shape {mask.shape}"
            )
        valid: Array = mask.astype(bool, copy=False)
        return valid

    def _check_shape(self, shape: Sequence[int | None]) -> None:
        op, rank, words = type(self).__name__, self._input_rank, self._input_words
        if not len(shape):
            raise ValueError(f"[{op}] inputs: expected shape {words}, got a single number")
        if rank is not None and len(shape) != rank:
            raise ValueError(f"[{op}] inputs: expected shape {words}, got {tuple(shape)}")
        if self._last_dim is not None and (len(shape) < 2 or shape[-1] != self._last_dim):
            raise ValueError(f"[{op}] inputs: expected shape {words} with {self._last_dim} last, got {tuple(shape)}")

    # ---- weights --------------------------------------------------------------------------------------------------

    def _sublayers(self) -> Sequence[Layer]:
        return ()

    @property
    def trainable(self) -> bool:
        """Do the weights move in training? Setting it does so for layers inside this one too."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = checks.boolean(type(self).__name__, "trainable", value)
        for layer in self._sublayers():
            layer.trainable = self._trainable

    @property
    def weights(self) -> list[Variable]:
        """All variables in Keras's order."""
        return self._variables + [v for layer in self._sublayers() for v in layer.weights]

    @property
    def trainable_weights(self) -> list[Variable]:
        """The variables that move in training; empty where `trainable` is False."""
        if not self._trainable:
            return []
        own = [v for v in self._variables if v.trainable]
        return own + [v for layer in self._sublayers() for v in layer.trainable_weights]

    @property
    def non_trainable_weights(self) -> list[Variable]:
        """The other variables."""
        trainable = {id(v) for v in self.trainable_weights}
        return [v for v in self.weights if id(v) not in trainable]

    variables = weights
    trainable_variables = trainable_weights

    def get_weights(self) -> list[Array]:
        """Copies, in Keras's order and layouts."""
        return [v.value.copy() for v in self.weights]

    def set_weights(self, weights: Sequence[npt.ArrayLike]) -> None:
        """Take weights in Keras's order and layouts. All shapes are checked before any is written."""
        op, variables = type(self).__name__, self.weights
        arrays = checks.arrays(op, "weights", weights)
        if len(arrays) != len(variables):
            built = "" if self.built else " (the layer is not built)"
            raise ValueError(f"[{op}] weights: expected {len(variables)} arrays, got {len(arrays)}{built}")
        for variable, array in zip(variables, arrays, strict=True):
            if array.shape != variable.shape:
                raise ValueError(f"[{op}] {variable.name}: expected shape {variable.shape}, got {array.shape}")
            if array.dtype.kind not in "fiub":
                raise TypeError(f"[{op}] {variable.name}: expected real numbers, got dtype {array.dtype}")
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)

    def count_params(self) -> int:
        """The number of weights. ValueError if the layer is not built."""
        if not self.built:
            raise ValueError(f"[{type(self).__name__}] count_params: expected a built layer, got one without weights")
        return sum(v.size for v in self.weights)

    # ---- penalties ------------------------------------------------------------------------------------------------

    @property
    def losses(self) -> float:
        """The sum of the penalties, those of the trainable weights now and of the outputs in the last forward."""
        weights = sum(v.regularizer(v.value) for v in self.trainable_weights if v.regularizer is not None)
        return float(weights + sum(self._activity_losses()))

    def _activity_losses(self) -> Iterator[float]:
        yield self._activity_loss
        for layer in self._sublayers():
            yield from layer._activity_losses()

    def add_regularization_gradients(self) -> None:
        """Add the derivative of each weight's penalty to its gradient (the outputs' is added by `backward`)."""
        for v in self.trainable_weights:
            if v.regularizer is not None and v.grad is not None:
                v.grad += v.regularizer.gradient(v.value)

    # ---- state and configuration ----------------------------------------------------------------------------------

    def reset_states(self) -> None:
        """Forget carried states (stateful recurrent layers)."""
        for layer in self._sublayers():
            layer.reset_states()

    reset_state = reset_states

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments as JSON values; `from_config` gives an equal layer."""
        config: dict[str, Any] = {"name": self.name, "trainable": self._trainable, "dtype": self.dtype}
        if self._batch_input_shape is not None:
            config["batch_input_shape"] = list(self._batch_input_shape)
        if self.activity_regularizer is not None:
            config["activity_regularizer"] = regularizers.serialize(self.activity_regularizer)
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Layer:
        """A new layer from what `get_config` gave, without its weights."""
        return cls(**config)

    @property
    def input_shape(self) -> Shape | None:
        """The shape the layer was built for, or was given; None if neither."""
        return self._build_shape if self.built else self._batch_input_shape

    @property
    def output_shape(self) -> Any:
        """The shape of the output, batch first. AttributeError where the input shape is not known."""
        shape = self.input_shape
        if shape is None:
            raise AttributeError(f"[{type(self).__name__}] output_shape: expected a layer with a known input shape")
        return self.compute_output_shape(shape)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}>"


def _arrays(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]
