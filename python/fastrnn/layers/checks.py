"""Checks of layer arguments, each with one message `[Layer] argument: expected ..., got ...`. Not a schema library."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np

from .._numbers import as_float


def positive_int(op: str, arg: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"[{op}] {arg}: expected a positive integer, got {value!r}")
    if value <= 0:
        raise ValueError(f"[{op}] {arg}: expected a positive integer, got {value!r}")
    return int(value)


def checkpoint(op: str, arg: str, value: Any) -> int | bool | None:
    """None, True, or a number of steps; False means None."""
    if value is None or isinstance(value, (bool, np.bool_)):
        return True if value else None
    if not isinstance(value, numbers.Integral):
        raise TypeError(f"[{op}] {arg}: expected None, True or a number of steps, got {value!r}")
    if value <= 0:
        raise ValueError(f"[{op}] {arg}: expected None, True or a number of steps >= 1, got {value!r}")
    return int(value)


def arrays(op: str, arg: str, values: Any) -> list[Any]:
    """A list of arrays from what a user gives for one."""
    if isinstance(values, (str, bytes, dict)) or not hasattr(values, "__iter__"):
        raise TypeError(f"[{op}] {arg}: expected a list of arrays, got {type(values).__name__}")
    try:
        return [np.asarray(value) for value in values]
    except ValueError:
        raise ValueError(f"[{op}] {arg}: expected arrays, got nested lists of uneven length") from None


def single_int(op: str, arg: str, value: Any) -> int:
    """A positive integer, or the one-element list Keras writes for one-dimensional layers."""
    if isinstance(value, (tuple, list)):
        if len(value) != 1:
            raise ValueError(f"[{op}] {arg}: expected one positive integer, got {value!r}")
        value = value[0]
    return positive_int(op, arg, value)


def rate(op: str, arg: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"[{op}] {arg}: expected a number in [0, 1), got {value!r}")
    number = as_float(value)
    if not 0.0 <= number < 1.0:
        raise ValueError(f"[{op}] {arg}: expected a number in [0, 1), got {value!r}")
    return number


def finite(op: str, arg: str, value: Any, *, minimum: float | None = None) -> float:
    what = "a finite number" if minimum is None else f"a finite number of at least {minimum:g}"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"[{op}] {arg}: expected {what}, got {value!r}")
    number = as_float(value)
    if not math.isfinite(number) or (minimum is not None and number < minimum):
        raise ValueError(f"[{op}] {arg}: expected {what}, got {value!r}")
    return number


def boolean(op: str, arg: str, value: Any) -> bool:
    """True or False; NumPy's and 0/1 too, for Keras takes any truth value."""
    if isinstance(value, (bool, np.bool_)) or (isinstance(value, numbers.Integral) and value in (0, 1)):
        return bool(value)
    raise TypeError(f"[{op}] {arg}: expected True or False, got {value!r}")


def one_of(op: str, arg: str, value: Any, choices: Sequence[Any]) -> Any:
    # `in` would compare an array element by element
    if any(type(value) is type(choice) and value == choice for choice in choices):
        return value
    listed = ", ".join(repr(c) for c in choices)
    raise ValueError(f"[{op}] {arg}: expected one of {listed}, got {value!r}")


def seed(op: str, arg: str, value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"[{op}] {arg}: expected None or an integer of at least 0, got {value!r}")
    if value < 0:
        raise ValueError(f"[{op}] {arg}: expected None or an integer of at least 0, got {value!r}")
    return int(value)


def shape(op: str, arg: str, value: Any) -> tuple[int | None, ...]:
    """A tuple of positive integers and None."""
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        value = (value,)
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"[{op}] {arg}: expected a tuple of positive integers and None, got {value!r}")
    for extent in value:
        if extent is None:
            continue
        if isinstance(extent, bool) or not isinstance(extent, numbers.Integral):
            raise TypeError(f"[{op}] {arg}: expected a tuple of positive integers and None, got {value!r}")
        if extent < 0:
            raise ValueError(f"[{op}] {arg}: expected a tuple of positive integers and None, got {value!r}")
    return tuple(None if extent is None else int(extent) for extent in value)
