"""What `compile` makes: optimizer, loss and metrics, and the running figures of an epoch."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import losses, metrics, optimizers
from .loss import Array, Loss, position_weights
from .metric import Metric
from .optimizer import Optimizer


def _single(arg: str, value: Any) -> Any:
    """Keras takes a list or dictionary per output; a Sequential has one output."""
    if isinstance(value, dict) and not {"class_name", "config"} <= value.keys():
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        if len(value) != 1:
            raise ValueError(f"[compile] {arg}: expected one for the model's single output, got {len(value)}")
        return value[0]
    return value


def _flat(value: Any) -> list[Any]:
    """The metrics of the single output, out of Keras's nested lists and dictionaries."""
    if value is None:
        return []
    if isinstance(value, dict) and not {"class_name", "config"} <= value.keys():
        return [m for part in value.values() for m in _flat(part)]
    if isinstance(value, (list, tuple)):
        return [m for part in value for m in _flat(part)]
    return [value]


class Compiled:
    """Optimizer, loss and metrics of a model."""

    def __init__(self, optimizer: Any, loss: Any, given_metrics: Any, weighted_metrics: Any) -> None:
        self.optimizer: Optimizer = optimizers.get(optimizer)
        loss = _single("loss", loss)
        self.loss: Loss | None = None if loss is None else losses.get(loss)
        if self.loss is not None and self.loss.reduction == "none":
            raise ValueError("[compile] loss: expected a reduction to one number, got reduction 'none'")
        self.metrics: list[Metric] = [metrics.get(m) for m in _flat(given_metrics)]
        self.weighted_metrics: list[Metric] = [metrics.get(m) for m in _flat(weighted_metrics)]
        self._names = _distinct([m.name for m in self.all_metrics])
        self._total = 0.0
        self._count = 0

    @property
    def all_metrics(self) -> list[Metric]:
        return self.metrics + self.weighted_metrics

    @property
    def names(self) -> list[str]:
        return ["loss", *self._names]

    def reset(self) -> None:
        self._total, self._count = 0.0, 0
        for metric in self.all_metrics:
            metric.reset_state()

    def update(self, y: Any, pred: Array, weight: Array | None, mask: Array | None, loss: float) -> None:
        """Count one batch. Metrics leave masked positions out; only weighted metrics look at sample weights."""
        self._total += loss * len(pred)
        self._count += len(pred)
        shape = pred.shape[:-1]
        if self.metrics:
            only_mask = None if mask is None else position_weights(shape, pred.dtype, None, mask)
            for metric in self.metrics:
                _update(metric, y, pred, only_mask)
        if self.weighted_metrics:
            weights = position_weights(shape, pred.dtype, weight, mask)
            for metric in self.weighted_metrics:
                _update(metric, y, pred, weights)

    def logs(self) -> dict[str, Any]:
        """The figures so far: the mean loss per sample and each metric."""
        figures = {"loss": self._total / self._count if self._count else 0.0}
        for name, metric in zip(self._names, self.all_metrics, strict=True):
            figures[name] = _plain(metric.result())
        return figures

    def get_config(self) -> dict[str, Any]:
        return {
            "optimizer": optimizers.serialize(self.optimizer),
            "loss": None if self.loss is None else losses.serialize(self.loss),
            "metrics": [metrics.serialize(m) for m in self.metrics],
            "weighted_metrics": [metrics.serialize(m) for m in self.weighted_metrics],
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Compiled:
        return cls(config["optimizer"], config["loss"], config["metrics"], config["weighted_metrics"])


def _update(metric: Metric, y: Any, pred: Array, weights: Array | None) -> None:
    if weights is None:
        metric.update_state(y, pred)
    else:
        metric.update_state(y, pred, sample_weight=weights)


def _plain(value: Any) -> Any:
    """A float, or an array where a metric gives one figure per class."""
    array = np.asarray(value)
    return float(array) if array.size == 1 and array.ndim == 0 else float(array[0]) if array.size == 1 else array


def _distinct(names: list[str]) -> list[str]:
    """Two metrics of one name become name and name_1."""
    seen: dict[str, int] = {}
    result = []
    for name in names:
        count = seen.get(name, 0)
        seen[name] = count + 1
        result.append(name if count == 0 else f"{name}_{count}")
    return result
