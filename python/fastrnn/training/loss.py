"""Loss: targets checked and brought to the shape of the output, weights, masks, reduction. Not the formulas themselves.

A loss is a number per position of the output (all axes but the last: (B,) or (B, T)) and its derivative. The reduction
`sum_over_batch_size` is the mean over positions; with a mask, over the positions that count.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]

EPSILON = 1e-7
_REDUCTIONS = ("sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", "none")


def snake_case(name: str) -> str:
    """KLDivergence -> kl_divergence, as Keras spells names."""
    name = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def is_finite(array: Array) -> bool:
    """Are all elements finite? One pass without a temporary in the usual case."""
    if array.dtype.kind != "f" or array.size == 0:
        return True
    with np.errstate(over="ignore", invalid="ignore"):
        total = array.sum()
    return bool(np.isfinite(total)) or bool(np.isfinite(array).all())


class Loss:
    """Base class. Subclasses give `values_and_grad(y_true, y_pred)` -> values (...,), d values / d y_pred (..., C).

    `reduction`: "sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", or "none" (for calls only).
    """

    # What targets may be: "real" numbers, "unit" (from 0 to 1), "class" (index of the last axis).
    targets = "real"
    # The activation ("sigmoid", "softmax") through which the derivative is simply output - target, if there is one.
    fuses: str | None = None
    _own: tuple[str, ...] = ()

    def __init__(
        self, name: str | None = None, reduction: str | None = "sum_over_batch_size", dtype: Any = None
    ) -> None:
        op = type(self).__name__
        self.name = name if name is not None else snake_case(op)
        reduction = "none" if reduction is None else "sum_over_batch_size" if reduction == "auto" else reduction
        if reduction not in _REDUCTIONS:
            raise ValueError(f"[{op}] reduction: expected one of {', '.join(_REDUCTIONS)}, got {reduction!r}")
        self.reduction = reduction
        self.dtype = dtype

    def values_and_grad(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        """Loss per position and its derivative; `y_true` comes from `prepare`."""
        raise NotImplementedError(f"{type(self).__name__} has no values_and_grad")

    def values_and_logit_grad(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        """The same with the derivative for what went into the activation `fuses`."""
        raise NotImplementedError(f"{type(self).__name__} has no values_and_logit_grad")

    def prepare(self, y_true: Any, y_pred: Array) -> Array:
        """`y_true` in the dtype and shape of the output."""
        y: Array = match(f"[{self.name}] y_true", np.asarray(y_true), y_pred.shape).astype(y_pred.dtype, copy=False)
        return y

    def value_and_grad(
        self, y_true: Any, y_pred: Array, sample_weight: Any = None, mask: Array | None = None, *, fused: bool = False
    ) -> tuple[float, Array]:
        """The reduced loss and its gradient for `y_pred` (B, ..., C); with `fused` for what its activation was given.

        `sample_weight`: (B,) or one per position. `mask`: bool, one per position; masked ones count for nothing.
        """
        function = self.values_and_logit_grad if fused else self.values_and_grad
        values, grad = function(self.prepare(y_true, y_pred), y_pred)
        weights = position_weights(values.shape, values.dtype, sample_weight, mask)
        if self.reduction == "sum":
            scale = 1.0
        elif weights is None:
            scale = 1.0 / values.size
        elif self.reduction == "mean_with_sample_weight":
            scale = 1.0 / max(float(weights.sum()), EPSILON)
        else:
            scale = 1.0 / (values.size if mask is None or mask.ndim > values.ndim else max(_count(mask, values), 1))
        if weights is None:
            grad *= scale
            return float(values.sum()) * scale, grad
        grad *= (weights * scale)[..., None]
        return float(np.vdot(values, weights)) * scale, grad

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """The reduced loss of targets and outputs (B, ..., C), or with reduction "none" the values (B, ...)."""
        y_pred = as_float(y_pred)
        if self.reduction != "none":
            return self.value_and_grad(y_true, y_pred, sample_weight)[0]
        values = self.values_and_grad(self.prepare(y_true, y_pred), y_pred)[0]
        weights = position_weights(values.shape, values.dtype, sample_weight, None)
        return values if weights is None else values * weights

    def check_targets(self, op: str, arg: str, y: Array, output_shape: tuple[int | None, ...]) -> None:
        """Refuse targets this loss cannot mean, before anything is trained. `output_shape` is the model's."""
        _check_numbers(op, arg, y)
        if self.targets == "class":
            classes = output_shape[-1]
            _class_shape(f"[{op}] {arg}", y.shape, (len(y), *output_shape[1:]))
            low, high = (y.min(), y.max()) if y.size else (0, 0)
            if classes is not None and (low < min(self._ignored(), 0) or high >= classes):
                raise ValueError(
                    f"[{op}] {arg}: expected class indices from 0 to {classes - 1}, got values from {low} to {high}"
                )
            if y.dtype.kind == "f" and (y != np.rint(y)).any():
                raise ValueError(f"[{op}] {arg}: expected whole class indices, got fractions")
            return
        match(f"[{op}] {arg}", y, (len(y), *output_shape[1:]), whole=True)
        if self.targets == "unit" and y.size and (y.min() < 0 or y.max() > 1):
            raise ValueError(
                f"[{op}] {arg}: expected targets from 0 to 1 for {self.name}, got values from {y.min()} to {y.max()}"
            )

    def _ignored(self) -> int:
        return 0

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as JSON values."""
        return {"name": self.name, "reduction": self.reduction, **{key: getattr(self, key) for key in self._own}}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Loss:
        """A loss from what `get_config` gave."""
        return cls(**config)


class Pointwise(Loss):
    """A loss that is a mean over the last axis of a function of (target, output) pairs."""

    def pointwise(self, y: Array, p: Array) -> tuple[Array, Array]:
        """Value and derivative for `p`, element by element."""
        raise NotImplementedError(f"{type(self).__name__} has no pointwise")

    def values_and_grad(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        values, grad = self.pointwise(y_true, y_pred)
        last = y_pred.shape[-1]
        if last == 1:
            return values[..., 0], grad
        grad /= last
        return values.mean(axis=-1), grad


class FunctionLoss(Loss):
    """A user's function (y_true, y_pred) -> (values per position, derivative for y_pred)."""

    def __init__(self, function: Callable[[Array, Array], Any], name: str | None = None) -> None:
        super().__init__(name=name or getattr(function, "__name__", "loss"))
        self.function = function

    def prepare(self, y_true: Any, y_pred: Array) -> Array:
        y = np.asarray(y_true)
        return y.reshape(y_pred.shape).astype(y_pred.dtype) if y.size == y_pred.size else y

    def check_targets(self, op: str, arg: str, y: Array, output_shape: tuple[int | None, ...]) -> None:
        _check_numbers(op, arg, y)

    def values_and_grad(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        result = self.function(y_true, y_pred)
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError(
                "[compile] loss: expected a function that returns (values, gradient) as there is no automatic "
                f"differentiation, got one that returns {type(result).__name__}"
            )
        values, grad = np.asarray(result[0]), np.array(result[1], dtype=y_pred.dtype)
        if values.shape not in (y_pred.shape[:-1], y_pred.shape) or grad.shape != y_pred.shape:
            raise ValueError(
                f"[{self.name}] loss: expected values of shape {y_pred.shape[:-1]} and a gradient of {y_pred.shape}, "
                f"got {values.shape} and {grad.shape}"
            )
        if values.shape == y_pred.shape:
            values, grad = values.mean(axis=-1), grad / y_pred.shape[-1]
        return values, grad


def as_float(y_pred: Any) -> Array:
    y_pred = np.asarray(y_pred)
    if y_pred.dtype not in (np.float32, np.float64):
        y_pred = y_pred.astype(np.float32)
    result: Array = y_pred if y_pred.ndim > 1 else y_pred.reshape(-1, 1)
    return result


def _check_numbers(op: str, arg: str, y: Array) -> None:
    if y.dtype.kind not in "fiub":
        raise TypeError(f"[{op}] {arg}: expected numbers, got dtype {y.dtype}")
    if not is_finite(y):
        raise ValueError(f"[{op}] {arg}: expected finite numbers, got NaN or infinity")


def match(where: str, y: Array, shape: tuple[int | None, ...], *, whole: bool = False) -> Array:
    """`y` seen in the shape of the output; only a last axis of 1 may be missing or too much.

    Nothing is broadcast: (N,) against (N, 1) would silently give an (N, N) loss. With `whole` only the shape is checked
    and None extents fit anything.
    """
    if y.shape == shape:
        return y
    if len(y.shape) == len(shape) - 1 and shape[-1] == 1:
        candidate = (*y.shape, 1)
    elif len(y.shape) == len(shape) + 1 and y.shape[-1] == 1:
        candidate = y.shape[:-1]
    else:
        candidate = y.shape
    if len(candidate) != len(shape) or any(b is not None and a != b for a, b in zip(candidate, shape, strict=True)):
        raise ValueError(f"{where}: expected the output's shape {shape}, got {y.shape}")
    return y if whole else y.reshape(candidate)


def _class_shape(where: str, y: tuple[int, ...], output: tuple[int | None, ...]) -> None:
    got = y[:-1] if len(y) == len(output) and y[-1] == 1 else y
    want = output[:-1]
    if len(got) != len(want) or any(b is not None and a != b for a, b in zip(got, want, strict=True)):
        raise ValueError(
            f"{where}: expected one class index per position, shape {want}, got {y}"
            + (" (one-hot targets go with categorical_crossentropy)" if y == output else "")
        )


def class_indices(op: str, y: Array, shape: tuple[int, ...]) -> Array:
    """Class indices (...,) for an output of `shape` (..., C)."""
    if y.shape != shape[:-1]:
        _class_shape(f"[{op}] y_true", y.shape, shape)
        y = y[..., 0]
    return y if y.dtype.kind in "iu" else y.astype(np.int64)


def _count(mask: Array, values: Array) -> int:
    """How many positions count; a mask may have fewer axes than the values."""
    return int(np.count_nonzero(mask)) * (values.size // max(mask.size, 1))


def position_weights(shape: tuple[int, ...], dtype: Any, sample_weight: Any, mask: Array | None) -> Array | None:
    """Sample weights and mask as one factor per position, or None if all count once."""
    weights: Array | None = None
    if sample_weight is not None:
        weights = np.asarray(sample_weight, dtype=dtype)
        if weights.shape != shape:
            if weights.ndim == len(shape) + 1 and weights.shape[-1] == 1:
                weights = weights[..., 0]
            if weights.ndim > len(shape) or (weights.shape != shape[: weights.ndim] and weights.size != shape[0]):
                raise ValueError(
                    f"[loss] sample_weight: expected shape {shape[:1]} or {shape}, got {np.shape(sample_weight)}"
                )
            if weights.shape != shape:
                weights = weights.reshape(*weights.shape, *(1,) * (len(shape) - weights.ndim))
                weights = np.broadcast_to(weights, shape)
    if mask is not None and mask.ndim <= len(shape):
        keep = np.broadcast_to(mask.reshape(*mask.shape, *(1,) * (len(shape) - mask.ndim)), shape)
        weights = keep.astype(dtype) if weights is None else weights * keep
    return weights
