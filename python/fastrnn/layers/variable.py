"""Variable (a weight and its gradient), the default dtype, and the automatic names of layers."""

from __future__ import annotations

import re
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .. import constraints, regularizers

Array: TypeAlias = npt.NDArray[Any]

_FLOATS = ("float32", "float64")
_floatx = "float32"
_name_counts: dict[str, int] = {}


def floatx() -> str:
    """The dtype of layers that are not given one: "float32" unless `set_floatx` said otherwise."""
    return _floatx


def set_floatx(value: Any) -> None:
    """The dtype, "float32" or "float64", of layers made from now on that are not given one; ValueError for others."""
    global _floatx
    _floatx = dtype_name("set_floatx", value)


def dtype_name(op: str, value: Any) -> str:
    try:
        name = str(np.dtype(value).name)
    except TypeError:
        name = ""
    if value is None or name not in _FLOATS:
        raise ValueError(f"[{op}] dtype: expected 'float32' or 'float64', got {value!r}")
    return name


def unique_name(prefix: str) -> str:
    """`prefix`, then `prefix_1`, `prefix_2` ... as Keras names layers."""
    count = _name_counts.get(prefix, 0)
    _name_counts[prefix] = count + 1
    return prefix if count == 0 else f"{prefix}_{count}"


def reset_names() -> None:
    """Start the automatic names again (Keras does so in `clear_session`)."""
    _name_counts.clear()


def snake_case(name: str) -> str:
    name = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


class Variable:
    """A weight: `value` is C-contiguous and updated in place; `grad` is None until a backward has run."""

    __slots__ = ("constraint", "grad", "name", "regularizer", "trainable", "value")

    def __init__(
        self,
        value: Array,
        *,
        name: str = "variable",
        trainable: bool = True,
        regularizer: regularizers.Regularizer | None = None,
        constraint: constraints.Constraint | None = None,
    ) -> None:
        self.name = name
        self.value = np.ascontiguousarray(value)
        self.grad: Array | None = None
        self.trainable = trainable
        self.regularizer = regularizer
        self.constraint = constraint

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the value."""
        return self.value.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        return self.value.dtype

    @property
    def size(self) -> int:
        """The number of elements."""
        return int(self.value.size)

    def numpy(self) -> Array:
        """A copy of the value."""
        return self.value.copy()

    def assign(self, value: npt.ArrayLike) -> None:
        """Overwrite the value. ValueError for another shape, TypeError for anything but numbers."""
        array = np.asarray(value)
        if array.shape != self.value.shape:
            raise ValueError(f"[Variable] {self.name}: expected shape {self.value.shape}, got {array.shape}")
        if array.dtype.kind not in "fiub":
            raise TypeError(f"[Variable] {self.name}: expected real numbers, got dtype {array.dtype}")
        self.value[...] = array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False and dtype is None:
            return self.value
        return np.array(self.value, dtype=dtype, copy=True)

    def __repr__(self) -> str:
        return f"<Variable {self.name} shape={self.value.shape} dtype={self.value.dtype}>"
