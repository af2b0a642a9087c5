"""What the backward functions of recurrent layers return. Types only."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy.typing as npt

Array = npt.NDArray[Any]


class RNNGradients(NamedTuple):
    """Gradients of rnn and gru, each of its argument's shape and dtype.

    None where the argument was None or the gradient was not asked for.
    """

    grad_x: Array | None
    grad_weight_ih: Array
    grad_weight_hh: Array
    grad_bias_ih: Array | None
    grad_bias_hh: Array | None
    grad_h0: Array | None


class LSTMGradients(NamedTuple):
    """Gradients of lstm, each of its argument's shape and dtype.

    None where the argument was None or the gradient was not asked for.
    """

    grad_x: Array | None
    grad_weight_ih: Array
    grad_weight_hh: Array
    grad_bias_ih: Array | None
    grad_bias_hh: Array | None
    grad_h0: Array | None
    grad_c0: Array | None
