"""From what a user gives as X to one array (B, T, I): 3-D arrays, 2-D tables, lists of unequal sequences.

Shorter sequences are filled up at their end with `PADDING`, which the model's Masking layer skips.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_array, validate_data  # type: ignore[import-untyped]

from ..layers.base import Array
from ..training import checks

# No measured value: the most negative float32. Masking turns it into zeros before anything is multiplied by it.
PADDING = float(np.finfo(np.float32).min)


def _refuse_padding(op: str, values: Array) -> None:
    if values.min() <= PADDING:  # float64 has numbers below it, beside which PADDING would not be the least
        raise ValueError(f"[{op}] X: expected numbers above {PADDING:g}, which marks padding, got {values.min():g}")


def read(estimator: Any, X: Any, *, fitting: bool) -> Array:
    """X as (B, T, I), float32 or float64 as the estimator's `dtype` says. Sets (`fitting`) or checks `n_features_in_`
    and its companions."""
    op = type(estimator).__name__
    wanted = _dtypes(op, estimator.dtype) if fitting else estimator._network_dtype
    rows = _as_sequences(op, X)
    if rows is not None:
        array = _pad(estimator, rows, wanted)
    else:
        array = check_array(X, dtype=wanted, allow_nd=True, input_name="X", estimator=estimator)
        if array.ndim == 2:
            return _table(estimator, X, array, fitting=fitting)
        if array.ndim != 3 or 0 in array.shape:
            raise ValueError(f"[{op}] X: expected shape (B, T, I) without empty axes, or (B, T), got {array.shape}")
        _refuse_padding(op, array)
    _features(estimator, array, table=False, fitting=fitting)
    return array


def _dtypes(op: str, dtype: Any) -> list[str]:
    """What check_array may leave as it is; anything else becomes the first of them."""
    if dtype not in ("auto", "float32", "float64"):
        raise ValueError(f"[{op}] dtype: expected 'auto', 'float32' or 'float64', got {dtype!r}")
    return ["float64", "float32"] if dtype == "auto" else [dtype]


def _as_sequences(op: str, X: Any) -> list[Array] | None:
    """The sequences of a list, tuple, or 1-D object array (or Series) of them; None if X is one array."""
    objects = getattr(getattr(X, "dtype", None), "kind", "") == "O" and getattr(X, "ndim", 0) == 1
    if not isinstance(X, (list, tuple)) and not objects:
        return None
    rows = []
    for i, row in enumerate(X):
        try:
            rows.append(np.asarray(row))
        except ValueError:
            raise ValueError(
                f"[{op}] X[{i}]: expected steps of one length, got nested lists of uneven length"
            ) from None
    kinds = {row.ndim for row in rows}
    if not rows or not kinds <= {1, 2} or (kinds == {1} and len({len(row) for row in rows}) == 1):
        return None  # numbers, or a table as nested lists: scikit-learn's checks find the words
    if len(kinds) > 1:
        raise ValueError(f"[{op}] X: expected sequences of one number of axes, got some of 1 and some of 2")
    return [row if row.ndim == 2 else row[:, None] for row in rows]


def _pad(estimator: Any, rows: list[Array], wanted: Any) -> Array:
    """Sequences (T_i, I) as one array (B, max T, I)."""
    op = type(estimator).__name__
    width = rows[0].shape[1]
    for i, row in enumerate(rows):
        if 0 in row.shape:
            raise ValueError(f"[{op}] X[{i}]: expected at least one step of one feature, got shape {row.shape}")
        if row.shape[1] != width:
            raise ValueError(f"[{op}] X[{i}]: expected {width} features as in X[0], got {row.shape[1]}")
    steps = check_array(np.concatenate(rows), dtype=wanted, input_name="X", estimator=estimator)
    _refuse_padding(op, steps)
    lengths = np.array([len(row) for row in rows])
    array = np.full((len(rows), lengths.max(), width), PADDING, steps.dtype)
    array[np.arange(array.shape[1]) < lengths[:, None]] = steps
    return array


def _table(estimator: Any, X: Any, array: Array, *, fitting: bool) -> Array:
    """(B, T·I) as (B, T, I), I = `step_features`."""
    op = type(estimator).__name__
    width = checks.integer(op, "step_features", estimator.step_features, 1)
    _refuse_padding(op, array)
    if fitting or estimator._fitted_on_table:
        validate_data(estimator, X, reset=fitting, skip_check_array=True)  # counts and names of the columns
    if array.shape[1] % width:
        raise ValueError(f"[{op}] X: expected a multiple of step_features={width} columns, got {array.shape[1]}")
    array = array.reshape(len(array), -1, width)
    _features(estimator, array, table=True, fitting=fitting)
    return array


def _features(estimator: Any, array: Array, *, table: bool, fitting: bool) -> None:
    """The number of features of a step: remembered when fitting, compared afterwards."""
    width = array.shape[2]
    if fitting:
        estimator._fitted_on_table, estimator._width, estimator._network_dtype = table, width, array.dtype
        if not table:
            estimator.n_features_in_ = width
            estimator.__dict__.pop("feature_names_in_", None)
    elif width != estimator._width:
        op = type(estimator).__name__
        raise ValueError(f"X has {width} features, but {op} is expecting {estimator._width} features as input")
