"""scikit-learn estimators: `RNNClassifier` and `RNNRegressor` for sequences of numbers, `TextClassifier` for raw texts.

They follow scikit-learn's conventions (clone, Pipeline, GridSearchCV, joblib, pickle); the network itself is an
ordinary `fastrnn.models.Sequential`, found in `model_` after `fit`.
"""

from __future__ import annotations

try:
    import sklearn as _sklearn  # type: ignore[import-untyped]  # noqa: F401
except ImportError as error:
    raise ImportError("[fastrnn.sklearn] needs scikit-learn: pip install 'fastrnn[sklearn]'") from error

from .recurrent import RNNClassifier, RNNRegressor
from .text import TextClassifier

__all__ = ["RNNClassifier", "RNNRegressor", "TextClassifier"]
