"""Figures gathered over batches, with Keras's names, arguments and formulas."""

# They are in training/metric.py and training/confusion.py.

from .training.metrics import (
    AUC,
    Accuracy,
    BinaryAccuracy,
    BinaryCrossentropy,
    CategoricalAccuracy,
    CategoricalCrossentropy,
    F1Score,
    FalseNegatives,
    FalsePositives,
    Mean,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    Metric,
    Perplexity,
    Precision,
    Recall,
    RootMeanSquaredError,
    SparseCategoricalAccuracy,
    SparseCategoricalCrossentropy,
    SparseTopKCategoricalAccuracy,
    TopKCategoricalAccuracy,
    TrueNegatives,
    TruePositives,
    deserialize,
    get,
    mae,
    mean_absolute_error,
    mean_squared_error,
    mse,
    serialize,
)  # fmt: skip

__all__ = [
    "AUC", "Accuracy", "BinaryAccuracy", "BinaryCrossentropy", "CategoricalAccuracy", "CategoricalCrossentropy",
    "F1Score", "FalseNegatives", "FalsePositives", "Mean", "MeanAbsoluteError", "MeanAbsolutePercentageError",
    "MeanSquaredError", "MeanSquaredLogarithmicError", "Metric", "Perplexity", "Precision", "Recall",
    "RootMeanSquaredError", "SparseCategoricalAccuracy", "SparseCategoricalCrossentropy",
    "SparseTopKCategoricalAccuracy", "TopKCategoricalAccuracy", "TrueNegatives", "TruePositives", "deserialize",
    "get", "mae", "mean_absolute_error", "mean_squared_error", "mse", "serialize",
]  # fmt: skip
