"""Keras's tensors in, Keras's tensors out: the numpy backend, and what both backends ask of their arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .recurrence import Array, Recurrence


class Unsupported(Exception):
    """Keras's own path is to be taken; says why."""


class NumpyEngine:
    """Runs a `Recurrence` on Keras's numpy backend."""

    holds_initial = True

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
        x, kernel, recurrent_kernel = self._array("inputs", x), *(self._array("weights", w) for w in weights[:2])
        bias = None if weights[2] is None else self._array("weights", weights[2])
        rest = [self._array("initial state", state) for state in states]
        steps = None if mask is None else self._array("mask", mask)
        factors = None if recurrent_mask is None else self._array("recurrent dropout", recurrent_mask)
        check(x.shape, str(kernel.dtype), recurrent_kernel.shape, [s.shape for s in rest], steps)
        dtype = kernel.dtype
        y, finals, _ = recurrence.forward(
            x.astype(dtype, copy=False), (kernel, recurrent_kernel, bias), [s.astype(dtype, copy=False) for s in rest],
            None if steps is None else steps.astype(bool, copy=False),
            None if factors is None else factors.astype(dtype, copy=False), False,
        )  # fmt: skip
        return y, finals

    def _array(self, what: str, value: Any) -> Array:
        array = self._convert(value)
        if not isinstance(array, np.ndarray):
            raise Unsupported(f"{what} of type {type(array).__name__}")
        return array


def check(
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
