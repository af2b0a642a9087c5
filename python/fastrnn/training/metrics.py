"""All metrics by their Keras names, and `get`, which finds the one a user means."""

from __future__ import annotations

from typing import Any

from . import losses
from .confusion import (
    AUC,
    F1Score,
    FalseNegatives,
    FalsePositives,
    Precision,
    Recall,
    TrueNegatives,
    TruePositives,
)  # fmt: skip
from .loss import Loss, snake_case
from .losses import mae, mean_absolute_error, mean_squared_error, mse
from .metric import (
    Accuracy,
    BinaryAccuracy,
    BinaryCrossentropy,
    CategoricalAccuracy,
    CategoricalCrossentropy,
    FunctionMetric,
    Mean,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    Metric,
    NamedLossMetric,
    Perplexity,
    RootMeanSquaredError,
    ShapeAccuracy,
    SparseCategoricalAccuracy,
    SparseCategoricalCrossentropy,
    SparseTopKCategoricalAccuracy,
    TopKCategoricalAccuracy,
)  # fmt: skip

__all__ = [
    "AUC", "Accuracy", "BinaryAccuracy", "BinaryCrossentropy", "CategoricalAccuracy", "CategoricalCrossentropy",
    "F1Score", "FalseNegatives", "FalsePositives", "FunctionMetric", "Mean", "MeanAbsoluteError",
    "MeanAbsolutePercentageError", "MeanSquaredError", "MeanSquaredLogarithmicError", "Metric", "NamedLossMetric",
    "Perplexity", "Precision", "Recall", "RootMeanSquaredError", "ShapeAccuracy", "SparseCategoricalAccuracy",
    "SparseCategoricalCrossentropy", "SparseTopKCategoricalAccuracy", "TopKCategoricalAccuracy", "TrueNegatives",
    "TruePositives", "deserialize", "get", "mae", "mean_absolute_error", "mean_squared_error", "mse", "serialize",
]  # fmt: skip

_METRICS: dict[str, type[Metric]] = {
    snake_case(cls.__name__): cls
    for cls in (
        AUC, F1Score, FalseNegatives, FalsePositives, Precision, Recall, TrueNegatives, TruePositives, Accuracy,
        BinaryAccuracy, BinaryCrossentropy, CategoricalAccuracy, CategoricalCrossentropy, Mean, MeanAbsoluteError,
        MeanAbsolutePercentageError, MeanSquaredError, MeanSquaredLogarithmicError, NamedLossMetric, Perplexity,
        RootMeanSquaredError, ShapeAccuracy, SparseCategoricalAccuracy, SparseCategoricalCrossentropy,
        SparseTopKCategoricalAccuracy, TopKCategoricalAccuracy,
    )
}  # fmt: skip
_ALIASES = {"rmse": "root_mean_squared_error", "f1": "f1_score"}


def _find(name: str) -> type[Metric] | None:
    for spelled in (name.lower(), snake_case(name)):
        cls = _METRICS.get(_ALIASES.get(spelled, spelled))
        if cls is not None:
            return cls
    return None


def get(identifier: Any) -> Metric:
    """The metric of a name, a class, a function, a loss, {"class_name", "config"} or a metric."""
    if isinstance(identifier, Metric):
        return identifier
    if isinstance(identifier, dict):
        name, config = identifier.get("class_name"), identifier.get("config", {})
        cls = _find(name) if isinstance(name, str) else None
        if cls is not None:
            return cls.from_config(config)
    elif isinstance(identifier, str):
        if identifier.lower() in ("accuracy", "acc"):
            return ShapeAccuracy(identifier)
        # as in Keras the figure is called what it was asked by
        if losses.find(identifier) is not None:
            return NamedLossMetric(identifier, identifier)
        cls = _find(identifier)
        if cls is not None:
            return cls(name=identifier)
    elif isinstance(identifier, type) and issubclass(identifier, Metric):
        return identifier()
    elif isinstance(identifier, Loss) or hasattr(identifier, "loss_class"):
        loss = losses.get(identifier)
        return NamedLossMetric(loss, loss.name)
    elif callable(identifier):
        return FunctionMetric(identifier)
    raise ValueError(f"[compile] metrics: expected one of {', '.join(_METRICS)} or a Metric, got {identifier!r}")


def serialize(metric: Metric) -> dict[str, Any]:
    """`{"class_name": ..., "config": {...}}`, all JSON values; ValueError for a user's function."""
    if isinstance(metric, FunctionMetric):
        raise ValueError(f"[save] metrics: expected a metric of fastrnn.metrics, got the function {metric.name}")
    return {"class_name": type(metric).__name__, "config": metric.get_config()}


deserialize = get
