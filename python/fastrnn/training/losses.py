"""The losses with Keras's names and defaults: classes, functions giving one value per position, and `get`.

Probabilities are clipped to [1e-7, 1-1e-7] in values, as Keras does. A sigmoid or softmax Dense layer before the loss
gets the derivative output - target, which does not vanish for a confident wrong answer.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from . import checks
from .loss import EPSILON, Array, FunctionLoss, Loss, Pointwise, as_float, class_indices, snake_case


class MeanSquaredError(Pointwise):
    """The mean of (p - y)² over the last axis."""

    def pointwise(self, y: Array, p: Array) -> tuple[Array, Array]:
        d = p - y
        return d * d, 2.0 * d


class MeanAbsoluteError(Pointwise):
    """The mean of abs(p - y) over the last axis."""

    def pointwise(self, y: Array, p: Array) -> tuple[Array, Array]:
        d = p - y
        return np.abs(d), np.sign(d)


class MeanAbsolutePercentageError(Pointwise):
    """100 times the mean of abs(p - y) / max(abs(y), 1e-7) over the last axis."""

    def pointwise(self, y: Array, p: Array) -> tuple[Array, Array]:
        scale = 100.0 / np.maximum(np.abs(y), EPSILON)
        d = p - y
        return np.abs(d) * scale, np.sign(d) * scale


class MeanSquaredLogarithmicError(Pointwise):
    """The mean of (log(1 + p) - log(1 + y))² over the last axis, p and y at least 1e-7."""

    def pointwise(self, y: Array, p: Array) -> tuple[Array, Array]:
        q = np.maximum(p, EPSILON)
        d = np.log1p(q) - np.log1p(np.maximum(y, EPSILON))
        return d * d, 2.0 * d / (1.0 + q) * (p > EPSILON)


class Huber(Pointwise):
    """½d² up to abs(d) = delta, then straight on; d = p - y, the mean over the last axis."""

    _own = ("delta",)

    def __init__(self, delta: float = 1.0, name: str | None = None, **options: Any) -> None:
        super().__init__(name, **options)
        self.delta = checks.number("Huber", "delta", delta, "positive")

    def pointwise(self, y: Array, p: Array) -> tuple[Array, Array]:
        d = p - y
        inside = np.clip(d, -self.delta, self.delta)
        return inside * (d - 0.5 * inside), inside


class LogCosh(Pointwise):
    """The mean of log(cosh(p - y)) over the last axis."""

    def pointwise(self, y: Array, p: Array) -> tuple[Array, Array]:
        d = p - y
        a = np.abs(d)
        return a + np.log1p(np.exp(-2.0 * a)) - math.log(2.0), np.tanh(d)


class Poisson(Pointwise):
    """The mean of p - y·log(p + 1e-7) over the last axis."""

    def pointwise(self, y: Array, p: Array) -> tuple[Array, Array]:
        return p - y * np.log(p + EPSILON), 1.0 - y / (p + EPSILON)


class Hinge(Pointwise):
    """max(1 - y·p, 0) with y in {-1, 1}; targets 0 and 1 are read as -1 and 1."""

    def pointwise(self, y: Array, p: Array) -> tuple[Array, Array]:
        y = _signs(y)
        margin = np.maximum(1.0 - y * p, 0.0)
        return margin, -y * (margin > 0)


class SquaredHinge(Pointwise):
    """The square of `Hinge`, element by element."""

    def pointwise(self, y: Array, p: Array) -> tuple[Array, Array]:
        y = _signs(y)
        margin = np.maximum(1.0 - y * p, 0.0)
        return margin * margin, -2.0 * y * margin


def _signs(y: Array) -> Array:
    return 2.0 * y - 1.0 if ((y == 0) | (y == 1)).all() else y


class BinaryCrossentropy(Pointwise):
    """-(y·log p + (1-y)·log(1-p)), p a probability or, `from_logits`, what a sigmoid would make one of."""

    targets = "unit"
    _own = ("from_logits", "label_smoothing")

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(name, reduction, dtype)
        _last_axis("BinaryCrossentropy", axis)
        self.from_logits = bool(from_logits)
        self.label_smoothing = checks.number("BinaryCrossentropy", "label_smoothing", label_smoothing, "unit")
        self.fuses = None if self.from_logits else "sigmoid"

    def _smooth(self, y: Array) -> Array:
        return y * (1.0 - self.label_smoothing) + 0.5 * self.label_smoothing if self.label_smoothing else y

    def values_and_logit_grad(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        values, _ = self.values_and_grad(y_true, y_pred)
        grad = y_pred - self._smooth(y_true)
        grad /= y_pred.shape[-1]
        return values, grad

    def pointwise(self, y: Array, p: Array) -> tuple[Array, Array]:
        y = self._smooth(y)
        if self.from_logits:
            values = np.maximum(p, 0.0) - p * y + np.log1p(np.exp(-np.abs(p)))
            return values, 0.5 * (1.0 + np.tanh(0.5 * p)) - y
        q = np.clip(p, EPSILON, 1.0 - EPSILON)
        values = -(y * np.log(q) + (1.0 - y) * np.log1p(-q))
        slope = p * (1.0 - p)
        # an output outside [0, 1] is no probability: no gradient, as through Keras's clip
        return values, (p - y) / np.maximum(slope, EPSILON) * (slope >= 0)


class CategoricalCrossentropy(Loss):
    """-sum y·log p over the last axis for one-hot (or soft) targets; p is normalised to sum 1 first, as in Keras."""

    targets = "unit"
    _own = ("from_logits", "label_smoothing")

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(name, reduction, dtype)
        _last_axis("CategoricalCrossentropy", axis)
        self.from_logits = bool(from_logits)
        self.label_smoothing = checks.number("CategoricalCrossentropy", "label_smoothing", label_smoothing, "unit")
        self.fuses = None if self.from_logits else "softmax"

    def _smooth(self, y: Array) -> Array:
        return y * (1.0 - self.label_smoothing) + self.label_smoothing / y.shape[-1] if self.label_smoothing else y

    def values_and_logit_grad(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        values, _ = self.values_and_grad(y_true, y_pred)
        y = self._smooth(y_true)
        return values, y_pred * y.sum(axis=-1, keepdims=True) - y

    def values_and_grad(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        y = self._smooth(y_true)
        total = y.sum(axis=-1, keepdims=True)
        if self.from_logits:
            log_p, p = _log_softmax(y_pred)
            return -(y * log_p).sum(axis=-1), p * total - y
        scale = np.maximum(y_pred.sum(axis=-1, keepdims=True), EPSILON)
        q = np.clip(y_pred / scale, EPSILON, 1.0 - EPSILON)
        return -(y * np.log(q)).sum(axis=-1), total / scale - y / np.maximum(y_pred, EPSILON)

    def check_targets(self, op: str, arg: str, y: Array, output_shape: tuple[int | None, ...]) -> None:
        if y.dtype.kind in "iu" and y.ndim == len(output_shape) - 1:
            raise ValueError(
                f"[{op}] {arg}: expected one-hot targets of shape {(len(y), *output_shape[1:])}, got {y.shape} "
                "(class indices go with sparse_categorical_crossentropy)"
            )
        super().check_targets(op, arg, y, output_shape)


class SparseCategoricalCrossentropy(Loss):
    """-log p[target], targets being class indices; positions with `ignore_class` count for nothing."""

    targets = "class"
    _own = ("from_logits", "ignore_class")

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        axis: int = -1,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(name, reduction, dtype)
        _last_axis("SparseCategoricalCrossentropy", axis)
        self.from_logits = bool(from_logits)
        self.ignore_class = ignore_class
        self.fuses = None if self.from_logits else "softmax"

    def _ignored(self) -> int:
        return 0 if self.ignore_class is None else self.ignore_class

    def prepare(self, y_true: Any, y_pred: Array) -> Array:
        y = class_indices(self.name, np.asarray(y_true), y_pred.shape)
        valid = y if self.ignore_class is None else y[y != self.ignore_class]
        if valid.size and (valid.min() < 0 or valid.max() >= y_pred.shape[-1]):
            raise ValueError(
                f"[{self.name}] y_true: expected class indices from 0 to {y_pred.shape[-1] - 1}, "
                f"got values from {valid.min()} to {valid.max()}"
            )
        return y

    def value_and_grad(
        self, y_true: Any, y_pred: Array, sample_weight: Any = None, mask: Array | None = None, *, fused: bool = False
    ) -> tuple[float, Array]:
        if self.ignore_class is not None:
            y_true = self.prepare(y_true, y_pred)
            keep = y_true != self.ignore_class
            mask = keep if mask is None else keep & mask
            y_true = np.where(keep, y_true, 0)
        return super().value_and_grad(y_true, y_pred, sample_weight, mask, fused=fused)

    def values_and_logit_grad(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        where = y_true[..., None]
        chosen = np.take_along_axis(y_pred, where, -1)
        grad = y_pred.copy()
        np.put_along_axis(grad, where, chosen - 1.0, -1)
        return -np.log(np.clip(chosen, EPSILON, 1.0 - EPSILON))[..., 0], grad

    def values_and_grad(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        where = y_true[..., None]
        if self.from_logits:
            log_p, grad = _log_softmax(y_pred)
            np.put_along_axis(grad, where, np.take_along_axis(grad, where, -1) - 1.0, -1)
            return -np.take_along_axis(log_p, where, -1)[..., 0], grad
        scale = np.maximum(y_pred.sum(axis=-1, keepdims=True), EPSILON)
        chosen = np.take_along_axis(y_pred, where, -1)
        values = -np.log(np.clip(chosen / scale, EPSILON, 1.0 - EPSILON))[..., 0]
        grad = np.broadcast_to(1.0 / scale, y_pred.shape).copy()
        np.put_along_axis(grad, where, 1.0 / scale - 1.0 / np.maximum(chosen, EPSILON), -1)
        return values, grad


class KLDivergence(Loss):
    """sum y·log(y/p) over the last axis."""

    def values_and_grad(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        y, p = np.clip(y_true, EPSILON, 1.0), np.clip(y_pred, EPSILON, 1.0)
        return (y * np.log(y / p)).sum(axis=-1), -y / p


class CosineSimilarity(Loss):
    """Minus the cosine of the angle between target and output along the last axis."""

    def values_and_grad(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        y = y_true / np.maximum(np.linalg.norm(y_true, axis=-1, keepdims=True), EPSILON)
        norm = np.maximum(np.linalg.norm(y_pred, axis=-1, keepdims=True), EPSILON)
        p = y_pred / norm
        cosine = (y * p).sum(axis=-1, keepdims=True)
        return -cosine[..., 0], (p * cosine - y) / norm


def _last_axis(op: str, axis: int) -> None:
    if axis != -1:
        raise ValueError(f"[{op}] axis: expected -1, got {axis!r}")


def _log_softmax(z: Array) -> tuple[Array, Array]:
    z = z - z.max(axis=-1, keepdims=True)
    e = np.exp(z)
    total = e.sum(axis=-1, keepdims=True)
    return z - np.log(total), e / total


def _function(cls: type[Loss]) -> Any:
    def function(y_true: Any, y_pred: Any, **options: Any) -> Array:
        loss = cls(**options)
        y_pred = as_float(y_pred)
        return loss.values_and_grad(loss.prepare(y_true, y_pred), y_pred)[0]

    function.__name__ = cls().name
    function.__doc__ = f"{cls.__name__} of each position: y_true, y_pred (..., C) -> (...,)."
    function.loss_class = cls  # type: ignore[attr-defined]
    return function


binary_crossentropy = _function(BinaryCrossentropy)
categorical_crossentropy = _function(CategoricalCrossentropy)
sparse_categorical_crossentropy = _function(SparseCategoricalCrossentropy)
mean_squared_error = mse = MSE = _function(MeanSquaredError)
mean_absolute_error = mae = MAE = _function(MeanAbsoluteError)
mean_absolute_percentage_error = mape = MAPE = _function(MeanAbsolutePercentageError)
mean_squared_logarithmic_error = msle = MSLE = _function(MeanSquaredLogarithmicError)
huber = _function(Huber)
log_cosh = _function(LogCosh)
poisson = _function(Poisson)
hinge = _function(Hinge)
squared_hinge = _function(SquaredHinge)
kl_divergence = kld = _function(KLDivergence)
cosine_similarity = _function(CosineSimilarity)

_LOSSES: dict[str, type[Loss]] = {
    cls().name: cls
    for cls in (
        BinaryCrossentropy, CategoricalCrossentropy, SparseCategoricalCrossentropy, MeanSquaredError, MeanAbsoluteError,
        MeanAbsolutePercentageError, MeanSquaredLogarithmicError, Huber, LogCosh, Poisson, Hinge, SquaredHinge,
        KLDivergence, CosineSimilarity,
    )
}  # fmt: skip
_ALIASES = {
    "bce": "binary_crossentropy", "mse": "mean_squared_error", "mae": "mean_absolute_error",
    "mape": "mean_absolute_percentage_error", "msle": "mean_squared_logarithmic_error", "huber_loss": "huber",
    "logcosh": "log_cosh", "kld": "kl_divergence",
}  # fmt: skip


def find(name: str) -> type[Loss] | None:
    """The loss class of a name in any of Keras's spellings: mse, MSE, mean_squared_error, MeanSquaredError."""
    for spelled in (name.lower(), snake_case(name)):
        cls = _LOSSES.get(_ALIASES.get(spelled, spelled))
        if cls is not None:
            return cls
    return None


def get(identifier: Any) -> Loss:
    """The loss of a name, a class, a function of this file, a user's function, {"class_name", "config"} or a Loss."""
    if isinstance(identifier, Loss):
        return identifier
    name, config = identifier, {}
    if isinstance(identifier, dict):
        name, config = identifier.get("class_name"), identifier.get("config", {})
    if isinstance(name, str):
        cls = find(name)
        if cls is not None:
            return cls.from_config(config)
    elif isinstance(identifier, type) and issubclass(identifier, Loss):
        return identifier()
    elif hasattr(identifier, "loss_class"):
        return identifier.loss_class()  # type: ignore[no-any-return]
    elif callable(identifier):
        return FunctionLoss(identifier)
    raise ValueError(f"[compile] loss: expected one of {', '.join(_LOSSES)} or a Loss, got {identifier!r}")


def serialize(loss: Loss) -> dict[str, Any]:
    """`{"class_name": ..., "config": {...}}`, all JSON values."""
    if isinstance(loss, FunctionLoss):
        raise ValueError(f"[save] loss: expected a loss of fastrnn.losses, got the function {loss.name}")
    return {"class_name": type(loss).__name__, "config": loss.get_config()}


deserialize = get
