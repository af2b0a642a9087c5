"""A number of the user's as a float, for the checks of arguments. The checks are where their messages are."""

from __future__ import annotations

import math
from typing import Any


def as_float(value: Any) -> float:
    """float(value); infinity, which every check refuses, for an integer that no float can hold."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
