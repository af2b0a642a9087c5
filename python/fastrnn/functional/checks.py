"""Arguments of the functions of this package: numbers, flags, paddings, activations. The core checks shapes and
dtypes, and calls some of these for what it does not know."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _core
from .._numbers import as_float
from ..activations import Activation, Spec, parse

Array = npt.NDArray[Any]


def _numbers(spec: Spec) -> tuple[int, float, float]:
    act = parse(spec)
    return act.id, act.alpha, act.beta


_known_numbers = lru_cache(maxsize=64)(_numbers)


def activation_id(op: str, argument: str, spec: Spec) -> tuple[int, float, float]:
    """The core's number of an activation, with alpha and beta."""
    # kept is only what nothing else is equal to: True, which is no number here, is equal to 1
    try:
        if spec is None or type(spec) is str:
            return _known_numbers(spec)
        if type(spec) is Activation and type(spec.alpha) is type(spec.beta) is float:
            return _known_numbers(spec)
        return _numbers(spec)
    except (TypeError, ValueError) as error:
        raise type(error)(f"[{op}] {argument}: " + str(error).split(": ", 1)[-1]) from None


def as_array(op: str, argument: str, x: Any) -> Any:
    """x as an array if it is not None: shared where its memory can be, else (nested lists) copied."""
    if x is None or isinstance(x, np.ndarray):
        return x
    if hasattr(x, "__dlpack_device__"):
        return _core.as_array(op, argument, x)
    try:
        return np.asarray(x)
    except ValueError:
        raise ValueError(f"[{op}] {argument}: expected an array, got nested lists of uneven length") from None


def flag(op: str, argument: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"[{op}] {argument}: expected True or False, got {type(value).__name__} {value!r}")
    return bool(value)


def flags(op: str, **flags: Any) -> None:
    for argument, value in flags.items():
        flag(op, argument, value)


def number(op: str, argument: str, value: Any, low: float, high: float = math.inf) -> float:
    """A number in [low, high), or finite and >= low."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"[{op}] {argument}: expected a number, got {type(value).__name__} {value!r}")
    number = as_float(value)
    if not low <= number < high:  # refuses NaN as well
        expected = f"a finite number >= {low:g}" if high == math.inf else f"a number >= {low:g} and < {high:g}"
        raise ValueError(f"[{op}] {argument}: expected {expected}, got {value!r}")
    return number


def same_padding(time: int, window: int, stride: int) -> tuple[int, int]:
    total = max((math.ceil(time / stride) - 1) * stride + window - time, 0)
    return total // 2, total - total // 2


def integer(op: str, argument: str, value: Any, low: int) -> int:
    """An integer from `low` to 2**31 - 1: what is larger is a mistake, and products of two stay in range."""
    if not is_integer(value):
        raise TypeError(f"[{op}] {argument}: expected an integer >= {low}, got {type(value).__name__} {value!r}")
    if not low <= value < 2**31:
        expected = f"an integer >= {low}" if value < low else "an integer < 2**31"
        raise ValueError(f"[{op}] {argument}: expected {expected}, got {value}")
    return int(value)


def checkpoint_steps(op: str, argument: str, value: Any) -> int:
    """As the core counts them: 0 is none, -1 its own choice."""
    if value is None or isinstance(value, (bool, np.bool_)):
        return -1 if value else 0
    expected = "None, True or a number of steps"
    if not is_integer(value):
        raise TypeError(f"[{op}] {argument}: expected {expected}, got {type(value).__name__} {value!r}")
    if value < 1:
        raise ValueError(f"[{op}] {argument}: expected {expected} >= 1, got {value}")
    return min(int(value), 2**31)


def shared(op: str, argument: str, x: Any) -> Array:
    """x as an array on the same memory."""
    return x if isinstance(x, np.ndarray) else _core.as_array(op, argument, x)


def three_axes(op: str, argument: str, x: Any) -> Array:
    array = shared(op, argument, x)
    if array.ndim != 3:
        raise ValueError(f"[{op}] {argument}: expected shape (B, T, C), got {array.shape}")
    return array


def is_integer(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
