"""Keras's tensors in, Keras's tensors out: the numpy backend, and what both backends ask of their arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .recurrence import Array, Recurrence


class Unsupported(Exception):
    """Keras's own path is to be taken; says why."""


class Engine:
    """Runs a `Recurrence` on tensors of Keras's backend; its subclasses know what these are."""

    holds_initial = False

    def __init__(self, convert: Any) -> None:
        # keras.ops.convert_to_tensor of the backend: unwraps variables and applies the dtype policy in force
        self._convert = convert

    def run(
        self,
        recurrence: Recurrence,
        x: Any,
        weights: tuple[Any, Any, Any],
        states: Sequence[Any],
        mask: Any,
        recurrent_mask: Any,
    ) -> tuple[Any, list[Any]]:
        """The output and the final states. Raises Unsupported for what the kernels cannot do."""
        x, kernel, recurrent_kernel = self._tensor("inputs", x), *(self._tensor("weights", w) for w in weights[:2])
        bias = None if weights[2] is None else self._tensor("weights", weights[2])
        rest = [self._tensor("initial state", state) for state in states]
        steps = None if mask is None else self._tensor("mask", mask)
        factors = None if recurrent_mask is None else self._tensor("recurrent dropout", recurrent_mask)
        dtype = str(kernel.dtype).removeprefix("torch.")
        _check(x.shape, dtype, recurrent_kernel.shape, [state.shape for state in rest], steps)
        x, *rest = (self._cast(tensor, kernel.dtype) for tensor in (x, *rest))
        constants = (
            None if steps is None else np.asarray(steps != 0),
            None if factors is None else np.asarray(self._cast(factors, kernel.dtype)),
        )
        y, *finals = self._apply(recurrence, [x, kernel, recurrent_kernel, bias, *rest], constants)
        return y, finals

    def _tensor(self, what: str, value: Any) -> Any:
        """A tensor of the backend whose memory the kernels can read, or Unsupported."""
        raise NotImplementedError

    def _cast(self, tensor: Any, dtype: Any) -> Any:
        """The tensor itself if it has the dtype."""
        raise NotImplementedError

    def _apply(self, recurrence: Recurrence, given: list[Any], constants: tuple[Array | None, Array | None]) -> Any:
        """Output and final states. given: x, the three weights, the states; constants: both masks."""
        raise NotImplementedError


class NumpyEngine(Engine):
    """Keras's numpy backend."""

    holds_initial = True

    def _tensor(self, what: str, value: Any) -> Any:
        array = self._convert(value)
        if not isinstance(array, np.ndarray):
            raise Unsupported(f"{what} of type {type(array).__name__}")
        return array

    def _cast(self, tensor: Any, dtype: Any) -> Any:
        return tensor.astype(dtype, copy=False)

    def _apply(self, recurrence: Recurrence, given: list[Any], constants: tuple[Array | None, Array | None]) -> Any:
        x, kernel, recurrent_kernel, bias, *states = given
        y, finals, _ = recurrence.forward(x, (kernel, recurrent_kernel, bias), states, *constants, False)
        return (y, *finals)


def _check(
    shape: Sequence[int], dtype: str, recurrent: Sequence[int], states: Sequence[Sequence[int]], mask: Any
) -> None:
    """Shapes of the sequences (B, T, I), the recurrent kernel, the initial states, the mask (B, T); the dtype."""
    if dtype not in ("float32", "float64"):
        raise Unsupported(f"dtype {dtype}")
    if len(shape) != 3 or not shape[1]:
        raise Unsupported(f"inputs of shape {tuple(shape)}")
    if any(tuple(state) != (shape[0], recurrent[0]) for state in states):  # Keras lets them broadcast
        raise Unsupported(f"initial states of shapes {', '.join(str(tuple(state)) for state in states)}")
    if mask is not None and tuple(mask.shape) != tuple(shape[:2]):
        raise Unsupported(f"a mask of shape {tuple(mask.shape)}")
