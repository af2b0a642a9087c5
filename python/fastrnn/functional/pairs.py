"""Two recurrent calls that do not need each other, such as the directions of a bidirectional layer."""

from __future__ import annotations

from typing import Any, NamedTuple

from .. import _core
from . import recurrent


class Call(NamedTuple):
    """A call of "rnn", "lstm" or "gru", or of its backward, that is still to be made."""

    function: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]


def forward_pair(first: Call, second: Call) -> tuple[Any, Any]:
    """Both results, bitwise those of the calls in turn; made side by side, one thread each, where that is faster.

    Args:
        first, second: calls of `rnn`, `lstm` or `gru`; functions, shapes, dtypes and options may differ. The arrays
            of their `out`, if given, must not overlap.

    Returns:
        What the first function returns, and what the second does.

    Raises:
        ValueError, TypeError: what either call raises; the first one's where both do.
    """
    arguments = [recurrent.forward_arguments(c.function, *c.arguments, **c.options) for c in (first, second)]
    return _core.rnn_forward_pair(*arguments)


def backward_pair(first: Call, second: Call) -> tuple[Any, Any]:
    """As `forward_pair`, for calls of `rnn_backward`, `lstm_backward` and `gru_backward`, without that suffix."""
    arguments = [recurrent.backward_arguments(c.function, *c.arguments, **c.options) for c in (first, second)]
    one, other = _core.rnn_backward_pair(*arguments)
    return recurrent.backward_result(first.function, one), recurrent.backward_result(second.function, other)
