"""Projections of weights after an update, with Keras's formulas (its epsilon 1e-7 in each division)."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from . import _specs
from ._numbers import as_float

__all__ = [
    "Constraint", "MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm",
    "deserialize", "get", "max_norm", "min_max_norm", "non_neg", "serialize", "unit_norm",
]  # fmt: skip

Array: TypeAlias = npt.NDArray[Any]

_EPSILON = 1e-7


class Constraint:
    """`constraint(w)` returns the projected weight, of the shape and dtype of `w`; `w` itself is left alone."""

    def __call__(self, w: Array) -> Array:
        """The projected weight."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as JSON values."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Constraint:
        """A constraint from what `get_config` gave."""
        return cls(**config)


def _number(op: str, arg: str, value: Any, low: float, high: float = math.inf) -> float:
    words = f"a finite number of at least {low:g}" if high == math.inf else f"a number in [{low:g}, {high:g}]"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"[{op}] {arg}: expected {words}, got {value!r}")
    number = as_float(value)
    if not math.isfinite(number) or not low <= number <= high:
        raise ValueError(f"[{op}] {arg}: expected {words}, got {value!r}")
    return number


def _axes(op: str, axis: Any) -> int | tuple[int, ...]:
    listed = axis if isinstance(axis, (tuple, list)) else (axis,)
    if not listed or any(isinstance(a, bool) or not isinstance(a, numbers.Integral) for a in listed):
        raise TypeError(f"[{op}] axis: expected an integer or a list of them, got {axis!r}")
    return tuple(int(a) for a in listed) if isinstance(axis, (tuple, list)) else int(axis)


def _norms(w: Array, axis: int | tuple[int, ...]) -> npt.NDArray[Any]:
    norms: Array = np.sqrt(np.square(w).sum(axis=axis, keepdims=True))
    return norms


class MaxNorm(Constraint):
    """Scale down the vectors along `axis` whose norm exceeds `max_value`."""

    def __init__(self, max_value: float = 2.0, axis: Any = 0) -> None:
        self.max_value = _number("MaxNorm", "max_value", max_value, 0.0)
        self.axis = _axes("MaxNorm", axis)

    def __call__(self, w: Array) -> Array:
        norms = _norms(w, self.axis)
        projected: Array = w * (np.minimum(norms, w.dtype.type(self.max_value)) / (norms + w.dtype.type(_EPSILON)))
        return projected

    def get_config(self) -> dict[str, Any]:
        return {"max_value": self.max_value, "axis": self.axis}


class NonNeg(Constraint):
    """Set negative weights to zero."""

    def __call__(self, w: Array) -> Array:
        projected: Array = np.maximum(w, w.dtype.type(0))
        return projected


class UnitNorm(Constraint):
    """Scale the vectors along `axis` to norm one."""

    def __init__(self, axis: Any = 0) -> None:
        self.axis = _axes("UnitNorm", axis)

    def __call__(self, w: Array) -> Array:
        projected: Array = w / (_norms(w, self.axis) + w.dtype.type(_EPSILON))
        return projected

    def get_config(self) -> dict[str, Any]:
        return {"axis": self.axis}


class MinMaxNorm(Constraint):
    """Move the norms along `axis` towards [min_value, max_value], all the way for rate 1."""

    def __init__(self, min_value: float = 0.0, max_value: float = 1.0, rate: float = 1.0, axis: Any = 0) -> None:
        self.min_value = _number("MinMaxNorm", "min_value", min_value, 0.0)
        self.max_value = _number("MinMaxNorm", "max_value", max_value, self.min_value)
        self.rate = _number("MinMaxNorm", "rate", rate, 0.0, 1.0)
        self.axis = _axes("MinMaxNorm", axis)

    def __call__(self, w: Array) -> Array:
        norms, rate = _norms(w, self.axis), w.dtype.type(self.rate)
        clipped = np.clip(norms, w.dtype.type(self.min_value), w.dtype.type(self.max_value))
        projected: Array = w * ((rate * clipped + (1 - rate) * norms) / (norms + w.dtype.type(_EPSILON)))
        return projected

    def get_config(self) -> dict[str, Any]:
        return {"min_value": self.min_value, "max_value": self.max_value, "rate": self.rate, "axis": self.axis}


max_norm, non_neg, unit_norm, min_max_norm = MaxNorm, NonNeg, UnitNorm, MinMaxNorm

_NAMES: dict[str, Callable[..., Constraint]] = {
    "MaxNorm": MaxNorm, "NonNeg": NonNeg, "UnitNorm": UnitNorm, "MinMaxNorm": MinMaxNorm,
    "max_norm": MaxNorm, "non_neg": NonNeg, "unit_norm": UnitNorm, "min_max_norm": MinMaxNorm,
}  # fmt: skip


def get(spec: Any) -> Constraint | None:
    """`None`, "max_norm", "non_neg", "unit_norm", "min_max_norm", a Constraint or its configuration."""
    return None if spec is None else _specs.resolve("constraints", spec, Constraint, _NAMES)


def serialize(constraint: Constraint | None) -> dict[str, Any] | None:
    """`{"class_name": ..., "config": {...}}`, all JSON values; None for None."""
    return _specs.serialize("constraints", constraint, Constraint)


deserialize = get
