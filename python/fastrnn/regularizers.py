"""Penalties on weights or outputs, each with its derivative. Keras's formulas: L2 is `l2 * sum(w**2)` (no half)."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _specs
from ._numbers import as_float

__all__ = ["L1", "L1L2", "L2", "Regularizer", "deserialize", "get", "l1", "l1_l2", "l2", "serialize"]


class Regularizer:
    """A penalty: `regularizer(w)` is a float, `regularizer.gradient(w)` its derivative, of the shape of `w`."""

    def __call__(self, w: npt.NDArray[Any]) -> float:
        """The penalty of w, any shape."""
        raise NotImplementedError

    def gradient(self, w: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Its derivative, of the shape and dtype of w."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as JSON values."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Regularizer:
        """A regularizer from what `get_config` gave."""
        return cls(**config)


def _factor(op: str, arg: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"[{op}] {arg}: expected a finite number of at least 0, got {value!r}")
    number = as_float(value)
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"[{op}] {arg}: expected a finite number of at least 0, got {value!r}")
    return number


class L1L2(Regularizer):
    """`l1 * sum(abs(w)) + l2 * sum(w**2)`."""

    def __init__(self, l1: float = 0.0, l2: float = 0.0) -> None:
        op = type(self).__name__
        self.l1 = _factor(op, "l1", 0.0 if l1 is None else l1)
        self.l2 = _factor(op, "l2", 0.0 if l2 is None else l2)

    def __call__(self, w: npt.NDArray[Any]) -> float:
        total = 0.0
        if self.l1:
            total += self.l1 * float(np.abs(w).sum(dtype=np.float64))
        if self.l2:
            flat = np.asarray(w).reshape(-1)
            total += self.l2 * float(np.dot(flat, flat))
        return total

    def gradient(self, w: npt.NDArray[Any]) -> npt.NDArray[Any]:
        gradient: npt.NDArray[Any] = w * w.dtype.type(2.0 * self.l2)
        if self.l1:
            gradient += np.sign(w) * w.dtype.type(self.l1)
        return gradient

    def get_config(self) -> dict[str, Any]:
        return {"l1": self.l1, "l2": self.l2}


class L1(L1L2):
    """`l1 * sum(abs(w))`."""

    def __init__(self, l1: float = 0.01) -> None:
        super().__init__(l1=0.01 if l1 is None else l1)

    def get_config(self) -> dict[str, Any]:
        return {"l1": self.l1}


class L2(L1L2):
    """`l2 * sum(w**2)`."""

    def __init__(self, l2: float = 0.01) -> None:
        super().__init__(l2=0.01 if l2 is None else l2)

    def get_config(self) -> dict[str, Any]:
        return {"l2": self.l2}


def l1_l2(l1: float = 0.01, l2: float = 0.01) -> L1L2:
    """Keras's function: other defaults than those of the class."""
    return L1L2(l1, l2)


l1, l2 = L1, L2

_NAMES: dict[str, Callable[..., Regularizer]] = {
    "L1": L1, "L2": L2, "L1L2": L1L2, "l1": L1, "l2": L2, "l1_l2": l1_l2, "l1l2": l1_l2,
}  # fmt: skip


def get(spec: Any) -> Regularizer | None:
    """`None`, "l1", "l2", "l1_l2", a Regularizer or its configuration."""
    return None if spec is None else _specs.resolve("regularizers", spec, Regularizer, _NAMES)


def serialize(regularizer: Regularizer | None) -> dict[str, Any] | None:
    """`{"class_name": ..., "config": {...}}`, all JSON values; None for None."""
    return _specs.serialize("regularizers", regularizer, Regularizer)


deserialize = get
