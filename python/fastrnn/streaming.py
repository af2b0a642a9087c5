"""One recurrent layer on one sequence that never ends: a step or a block at a time, the state carried.

For audio and other real-time work. The same in C++, without Python: cpp/include/fastrnn/stream.hpp.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _core
from .activations import Spec
from .functional.checks import Array, activation_id, flags

_CELLS = {"rnn": 0, "lstm": 1, "gru": 2}  # the core's enum Cell; 3 is a GRU with reset before


class Stream:
    """An RNN, LSTM or GRU layer with its state. `stream(x)` runs it on; a block gives bitwise what its steps give.

    Args:
        cell: "rnn", "lstm" or "gru".
        weight_ih, weight_hh: (G*H, I) and (G*H, H), any strides, float32 or float64, with G = 1, 4 or 3 gates in the
            order i f g o or r z n: PyTorch's `weight_ih_l0` and `weight_hh_l0`. They are copied.
        bias_ih, bias_hh: (G*H,) or None.
        activation, recurrent_activation, output_activation, reset_after: as in `functional.rnn`, `lstm` and `gru`.
            What the cell does not have may not be given.

    The equations are those of torch.nn.RNN, torch.nn.LSTM and torch.nn.GRU. Denormal numbers are flushed to zero. The
    instruction set is the one in use when the stream was made. A stream is for one thread at a time.

    Raises:
        ValueError, TypeError: any argument of the wrong shape, range or dtype.
        RuntimeError: a call while another thread is in one.
    """

    def __init__(
        self,
        cell: str,
        weight_ih: Array,
        weight_hh: Array,
        bias_ih: Array | None = None,
        bias_hh: Array | None = None,
        *,
        activation: Spec = "tanh",
        recurrent_activation: Spec = "sigmoid",
        output_activation: Spec = None,
        reset_after: bool = True,
    ) -> None:
        if not isinstance(cell, str) or cell not in _CELLS:
            raise ValueError(f"[stream] cell: expected one of {', '.join(_CELLS)}, got {cell!r}")
        flags("stream", reset_after=reset_after)
        for name, value, standard, cells in (
            ("recurrent_activation", recurrent_activation, "sigmoid", ("lstm", "gru")),
            ("output_activation", output_activation, None, ("lstm",)),
            ("reset_after", reset_after, True, ("gru",)),
        ):
            if cell not in cells and value != standard:
                raise ValueError(f"[stream] {name}: expected nothing for the cell {cell}, got {value!r}")
        candidate = activation_id("stream", "activation", activation)
        gate = activation_id("stream", "recurrent_activation", recurrent_activation)
        last = candidate
        if output_activation is not None:
            last = activation_id("stream", "output_activation", output_activation)
        number = _CELLS[cell] if reset_after else 3
        self._cell = cell
        self._core = _core.Stream(number, gate, candidate, last, weight_ih, weight_hh, bias_ih, bias_hh)
        self._run = self._core.process

    def __call__(self, x: Array, *, out: Array | None = None) -> Array:
        """Run on from the state as it is.

        Args:
            x: one step (I,) or a block (T, I), of the weights' dtype. One that is not contiguous is copied.
            out: a C-contiguous array for the output, which spares its allocation; it may not overlap x.

        Returns:
            The output h of each step: (H,) or (T, H); `out` if given.
        """
        return self._run(x, out)

    def reset(self) -> None:
        """Set the state to zeros."""
        self._core.reset()

    @property
    def state(self) -> Any:
        """The state as copies, h (H,) or for LSTM (h, c). May be set to the same; None sets it to zeros."""
        values = self._core.get_state()
        return values if self._cell == "lstm" else values[0]

    @state.setter
    def state(self, state: Any) -> None:
        if state is None:
            self._core.reset()
        elif self._cell != "lstm":
            self._core.set_state(state, None)
        elif isinstance(state, (tuple, list)) and len(state) == 2:
            self._core.set_state(*state)
        else:
            raise TypeError(f"[stream] state: expected a pair (h, c) or None, got {type(state).__name__}")

    def copy(self) -> Stream:
        """Another stream that goes on from this one's state. The two share the packed weights."""
        other = object.__new__(Stream)
        other._cell, other._core = self._cell, self._core.copy()
        other._run = other._core.process
        return other

    @property
    def cell(self) -> str:
        """What it was made with, "rnn", "lstm" or "gru"."""
        return self._cell

    @property
    def inputs(self) -> int:
        """I, the number of input features."""
        return self._core.inputs

    @property
    def hidden(self) -> int:
        """H, the number of units."""
        return self._core.hidden

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64, that of the weights."""
        return np.dtype(np.float64 if self._core.is_double else np.float32)

    @property
    def nbytes(self) -> int:
        """Bytes of the packed weights and the state."""
        return self._core.nbytes

    def __repr__(self) -> str:
        return f"Stream({self.cell!r}, inputs={self.inputs}, hidden={self.hidden}, dtype={self.dtype})"
