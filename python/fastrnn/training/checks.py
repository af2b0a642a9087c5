"""Checks of numbers given to optimizers, losses, callbacks and `fit`: one message, before anything is computed."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import Any

import numpy as np

from .._numbers import as_float

_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "positive": ("a positive finite number", lambda v: v > 0),
    "non-negative": ("a finite number of at least 0", lambda v: v >= 0),
    "finite": ("a finite number", lambda v: True),
    "fraction": ("a number in [0, 1)", lambda v: 0 <= v < 1),
    "unit": ("a number in [0, 1]", lambda v: 0 <= v <= 1),
}


def number(op: str, arg: str, value: Any, kind: str = "finite") -> float:
    """`value` as a float if it is of `kind` (a key of _KINDS)."""
    words, accepts = _KINDS[kind]
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"[{op}] {arg}: expected {words}, got {value!r}")
    number = as_float(value)
    if not math.isfinite(number) or not accepts(number):
        raise ValueError(f"[{op}] {arg}: expected {words}, got {value!r}")
    return number


def boolean(op: str, arg: str, value: Any) -> bool:
    """True or False, NumPy's as well: any other value is more likely a mistake than a truth value."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"[{op}] {arg}: expected True or False, got {value!r}")
    return bool(value)


def integer(op: str, arg: str, value: Any, minimum: int) -> int:
    """`value` as an int if it is a whole number of at least `minimum`."""
    words = "a positive integer" if minimum == 1 else f"an integer of at least {minimum}"
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"[{op}] {arg}: expected {words}, got {value!r}")
    if value < minimum:
        raise ValueError(f"[{op}] {arg}: expected {words}, got {value!r}")
    return int(value)
