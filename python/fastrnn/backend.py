"""The few functions of keras.backend that scripts with these layers use. Not a tensor library."""

from __future__ import annotations

from typing import Any

import numpy as np

from .layers.variable import floatx, reset_names, set_floatx
from .training.loss import EPSILON

__all__ = ["clear_session", "epsilon", "floatx", "get_value", "set_floatx", "set_value"]


def clear_session(free_memory: bool = True) -> None:
    """Start the automatic layer names again; there is no other state to clear."""
    reset_names()


def epsilon() -> float:
    """The bound by which losses keep away from log(0)."""
    return EPSILON


def get_value(x: Any) -> Any:
    """A number or an array of what Keras would call a variable."""
    return float(x) if isinstance(x, float) else np.array(x)


def set_value(x: Any, value: Any) -> None:
    """`set_value(model.optimizer.learning_rate, 0.01)`, or the values of a weight."""
    if not hasattr(x, "assign"):
        raise TypeError(f"[set_value] x: expected a weight or a learning rate, got {x!r}")
    x.assign(value)
