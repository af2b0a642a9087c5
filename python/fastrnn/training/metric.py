"""Metric: a figure gathered over batches. Here the base class and means; confusion.py has counts.

`sample_weight` is (B,) or one number per position of the output; a mask comes as weights of 0 and 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import checks, losses
from .loss import Array, Loss, as_float, class_indices, match, position_weights, snake_case


class Metric:
    """Base class: `update_state` per batch, `result` at any time, `reset_state` at the start of an epoch."""

    _own: tuple[str, ...] = ()

    def __init__(self, name: str | None = None, dtype: Any = None) -> None:
        self.name = name if name is not None else snake_case(type(self).__name__)
        self.dtype = dtype

    def reset_state(self) -> None:
        """Forget what was gathered."""
        raise NotImplementedError(f"{type(self).__name__} has no reset_state")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch: targets and outputs (B, ..., C)."""
        raise NotImplementedError(f"{type(self).__name__} has no update_state")

    def result(self) -> Any:
        """The figure over everything since `reset_state`."""
        raise NotImplementedError(f"{type(self).__name__} has no result")

    def reset_states(self) -> None:
        """Keras's older word for `reset_state`."""
        self.reset_state()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """`update_state`, then `result`."""
        self.update_state(*args, **kwargs)
        return self.result()

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as JSON values."""
        return {"name": self.name, **{key: getattr(self, key) for key in self._own}}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Metric:
        """A metric from what `get_config` gave."""
        return cls(**config)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}>"


class _Mean(Metric):
    """A sum of values and their number."""

    total = 0.0
    count = 0.0

    def reset_state(self) -> None:
        self.total = self.count = 0.0

    def _add(self, values: Array, sample_weight: Any) -> None:
        if sample_weight is None:
            self.total += float(values.sum())
            self.count += values.size
            return
        weights = position_weights(values.shape, np.float64, sample_weight, None)
        assert weights is not None
        self.total += float((values * weights).sum())
        self.count += float(weights.sum())

    def result(self) -> float:
        return self.total / self.count if self.count else 0.0


class Mean(_Mean):
    """The (weighted) mean of the values it is given."""

    def update_state(self, values: Any, sample_weight: Any = None) -> None:  # type: ignore[override]
        self._add(np.asarray(values), sample_weight)


class MeanOfPairs(_Mean):
    """The mean of a value per position, computed from targets and outputs. Subclasses give `values`."""

    def values(self, y_true: Array, y_pred: Array) -> Array:
        """One value per position: y_pred (..., C) -> (...,)."""
        raise NotImplementedError(f"{type(self).__name__} has no values")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        self._add(self.values(np.asarray(y_true), as_float(y_pred)), sample_weight)


class Accuracy(MeanOfPairs):
    """How often targets equal outputs exactly. ("accuracy" as a name means one of the three below.)"""

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return _mean_last(match(f"[{self.name}] y_true", y_true, y_pred.shape) == y_pred)


class BinaryAccuracy(MeanOfPairs):
    """How often (output > threshold) equals the target."""

    _own = ("threshold",)

    def __init__(self, name: str | None = None, dtype: Any = None, threshold: float = 0.5) -> None:
        super().__init__(name, dtype)
        self.threshold = checks.number("BinaryAccuracy", "threshold", threshold)

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return _mean_last((y_pred > self.threshold) == match(f"[{self.name}] y_true", y_true, y_pred.shape))


class CategoricalAccuracy(MeanOfPairs):
    """How often the largest output stands where the one-hot target has its 1."""

    def values(self, y_true: Array, y_pred: Array) -> Array:
        found: Array = match(f"[{self.name}] y_true", y_true, y_pred.shape).argmax(-1) == y_pred.argmax(-1)
        return found


class SparseCategoricalAccuracy(MeanOfPairs):
    """How often the largest output stands at the target's index."""

    def values(self, y_true: Array, y_pred: Array) -> Array:
        found: Array = class_indices(self.name, y_true, y_pred.shape) == y_pred.argmax(-1)
        return found


class ShapeAccuracy(MeanOfPairs):
    """What "accuracy" means: binary for one output, sparse for class indices, otherwise categorical (Keras's rule)."""

    def __init__(self, name: str | None = "accuracy", dtype: Any = None) -> None:
        super().__init__(name, dtype)
        self._binary = BinaryAccuracy(self.name)
        self._categorical = CategoricalAccuracy(self.name)
        self._sparse = SparseCategoricalAccuracy(self.name)

    def values(self, y_true: Array, y_pred: Array) -> Array:
        if y_pred.shape[-1] == 1:
            return self._binary.values(y_true, y_pred)
        if y_true.ndim < y_pred.ndim or y_true.shape[-1] == 1:
            return self._sparse.values(y_true, y_pred)
        return self._categorical.values(y_true, y_pred)


class SparseTopKCategoricalAccuracy(MeanOfPairs):
    """How often the target is among the k largest outputs."""

    _own = ("k",)

    def __init__(self, k: int = 5, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(name, dtype)
        self.k = checks.integer(type(self).__name__, "k", k, 1)

    def values(self, y_true: Array, y_pred: Array) -> Array:
        index = class_indices(self.name, y_true, y_pred.shape)[..., None]
        found: Array = (y_pred > np.take_along_axis(y_pred, index, -1)).sum(-1) < self.k
        return found


class TopKCategoricalAccuracy(SparseTopKCategoricalAccuracy):
    """The same for one-hot targets."""

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return super().values(match(f"[{self.name}] y_true", y_true, y_pred.shape).argmax(-1), y_pred)


class LossMetric(MeanOfPairs):
    """The mean of a loss. Subclasses name the loss; its options are theirs."""

    loss_class: type[Loss] = Loss

    def __init__(self, name: str | None = None, dtype: Any = None, **options: Any) -> None:
        super().__init__(name, dtype)
        self.loss = self.loss_class(**options)
        self._options = options

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return self.loss.values_and_grad(self.loss.prepare(y_true, y_pred), y_pred)[0]

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, **self._options}


class MeanSquaredError(LossMetric):
    """The mean of the loss of this name."""

    loss_class = losses.MeanSquaredError


class MeanAbsoluteError(LossMetric):
    """The mean of the loss of this name."""

    loss_class = losses.MeanAbsoluteError


class MeanAbsolutePercentageError(LossMetric):
    """The mean of the loss of this name."""

    loss_class = losses.MeanAbsolutePercentageError


class MeanSquaredLogarithmicError(LossMetric):
    """The mean of the loss of this name."""

    loss_class = losses.MeanSquaredLogarithmicError


class BinaryCrossentropy(LossMetric):
    """The mean of the loss of this name; its options are that loss's."""

    loss_class = losses.BinaryCrossentropy


class CategoricalCrossentropy(LossMetric):
    """The mean of the loss of this name; its options are that loss's."""

    loss_class = losses.CategoricalCrossentropy


class SparseCategoricalCrossentropy(LossMetric):
    """The mean of the loss of this name; its options are that loss's."""

    loss_class = losses.SparseCategoricalCrossentropy


class NamedLossMetric(LossMetric):
    """The mean of any loss, asked for by the loss's name."""

    def __init__(self, loss: Any, name: str | None = None) -> None:
        MeanOfPairs.__init__(self, name)
        self.loss = losses.get(loss)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "loss": losses.serialize(self.loss)}


class RootMeanSquaredError(MeanOfPairs):
    """The root of the mean squared error over everything seen."""

    def values(self, y_true: Array, y_pred: Array) -> Array:
        d = match(f"[{self.name}] y_true", y_true, y_pred.shape) - y_pred
        squares: Array = (d * d).mean(axis=-1)
        return squares

    def result(self) -> float:
        return float(np.sqrt(super().result()))


class Perplexity(MeanOfPairs):
    """exp(mean cross-entropy per counted position), for class indices or one-hot targets.

    `mask_token_id`: positions with this target count for nothing.
    """

    _own = ("from_logits", "mask_token_id")

    def __init__(
        self,
        from_logits: bool = False,
        mask_token_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(name, dtype)
        self.from_logits = bool(from_logits)
        self.mask_token_id = mask_token_id
        self._sparse = losses.SparseCategoricalCrossentropy(from_logits)
        self._categorical = losses.CategoricalCrossentropy(from_logits)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        y_true, y_pred = np.asarray(y_true), as_float(y_pred)
        if y_true.shape == y_pred.shape:
            self._add(self._categorical.values_and_grad(y_true.astype(y_pred.dtype), y_pred)[0], sample_weight)
            return
        index = class_indices(self.name, y_true, y_pred.shape)
        if self.mask_token_id is not None:
            keep = index != self.mask_token_id
            index = np.where(keep, index, 0)
            sample_weight = position_weights(index.shape, np.float64, sample_weight, keep)
        index = self._sparse.prepare(index, y_pred)
        self._add(self._sparse.values_and_grad(index, y_pred)[0], sample_weight)

    def result(self) -> float:
        return float(np.exp(super().result()))


class FunctionMetric(MeanOfPairs):
    """The mean of a user's function (y_true, y_pred) -> a value per position (or per element, or one)."""

    def __init__(self, function: Callable[[Array, Array], Any], name: str | None = None) -> None:
        super().__init__(name or getattr(function, "__name__", "metric"))
        self.function = function

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        y_true, y_pred = np.asarray(y_true), as_float(y_pred)
        if y_true.shape != y_pred.shape and y_true.size == y_pred.size:
            y_true = y_true.reshape(y_pred.shape)
        values = np.asarray(self.function(y_true, y_pred))
        if values.ndim == y_pred.ndim:
            values = values.mean(axis=-1)
        if values.ndim == 0:
            # one figure for the batch counts as much as the batch has samples
            values, sample_weight = np.full(len(y_pred), values), None
        self._add(values, sample_weight)


def _mean_last(values: Array) -> Array:
    return values[..., 0] if values.shape[-1] == 1 else values.mean(axis=-1)
