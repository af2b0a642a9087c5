"""One recurrent layer as Keras means it, on arrays: weights' layouts, masks, orders of output; forward and backward.

Not here: what Keras hands over (hooks.py), tensors and autograd (torch_engine.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .. import functional as F
from ..layers import gates

Array = npt.NDArray[Any]


class Saved(NamedTuple):
    """What a forward leaves for its backward."""

    workspace: Any
    # (B, T) in the order of the output: masked steps repeat the step before
    held: Array | None
    # (B,) rows whose last output is the final state; None: all
    last: Array | None


@dataclass(frozen=True)
class Recurrence:
    """`cell` "rnn", "lstm" or "gru"; `options` its activations and, for gru, reset_after; the rest as in Keras.

    `holds_initial`: a masked step before the first valid one gives the initial state (Keras on numpy), not zeros
    (Keras on torch).
    """

    cell: str
    options: dict[str, Any]
    go_backwards: bool = False
    return_sequences: bool = False
    zero_output: bool = False
    holds_initial: bool = False

    def forward(
        self,
        x: Array,
        weights: tuple[Array, Array, Array | None],
        states: list[Array],
        mask: Array | None,
        recurrent_mask: Array | None,
        training: bool,
    ) -> tuple[Array, list[Array], Saved | None]:
        """x (B, T, I), Keras's kernel, recurrent kernel and bias, states (B, U), mask (B, T) bool -> the output
        (B, T, U) in the order of processing (or the last one, (B, U)), the final states, what backward needs."""
        if mask is not None and mask.all():
            mask = None
        out = None
        if self.return_sequences:
            out = np.empty((*x.shape[:2], states[0].shape[1]), x.dtype)
        result = getattr(F, self.cell)(
            x, *gates.to_native(self.cell, *weights), *states, **self.options, mask=mask, reverse=self.go_backwards,
            recurrent_mask=recurrent_mask, return_sequences=self.return_sequences, return_workspace=training,
            out=None if out is None else self._ordered(out),
        )  # fmt: skip
        finals = list(result[1]) if self.cell == "lstm" else [result[1]]
        held = last = None
        y: Array
        if out is None:
            last = self._last_rows(mask)
            y = finals[0].copy() if last is None else np.where(last[:, None], finals[0], x.dtype.type(0))
        else:
            y = out
            if mask is not None and not self.zero_output:
                held = np.ascontiguousarray(self._ordered(mask))
                y = F.hold_last(y, held)
                if self.holds_initial:
                    before = ~np.logical_or.accumulate(held, axis=1)
                    y = np.where(before[..., None], states[0][:, None], y)
        return y, finals, Saved(result[2], held, last) if training else None

    def backward(
        self, saved: Saved, grad_y: Array | None, grad_states: list[Array | None], need_grad_x: bool
    ) -> list[Array | None]:
        """Gradients of x, kernel, recurrent kernel, bias and the initial states; None stands for zeros."""
        assert not self.holds_initial
        grad_states = list(grad_states)
        grad_output = None
        if grad_y is not None and self.return_sequences:
            grad_output = grad_y if saved.held is None else F.hold_last_backward(grad_y, saved.held)
            grad_output = self._ordered(grad_output)
        elif grad_y is not None:
            grad_h = grad_y if saved.last is None else np.where(saved.last[:, None], grad_y, grad_y.dtype.type(0))
            grad_states[0] = grad_h if grad_states[0] is None else grad_states[0] + grad_h
        backward = getattr(F, f"{self.cell}_backward")
        grad_x, *weights = backward(saved.workspace, grad_output, *grad_states, need_grad_x=need_grad_x)
        return [grad_x, *gates.to_keras(self.cell, *weights[:4]), *weights[4:]]

    def _ordered(self, y: Array) -> Array:
        """The kernels leave the output where the input stood; Keras wants it in the order of processing."""
        return y[:, ::-1] if self.go_backwards else y

    def _last_rows(self, mask: Array | None) -> Array | None:
        """Which rows return their final state as last output: for the others Keras has zeros there."""
        if mask is None:
            return None
        if self.zero_output:
            return np.asarray(mask[:, 0 if self.go_backwards else -1])
        # nothing valid: the output never left its zeros, though the state may not be zero
        return None if self.holds_initial else np.asarray(mask.any(axis=1))
