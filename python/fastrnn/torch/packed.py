"""PackedSequence to padded and back, with gradients.

torch.nn.utils.rnn does this by a slice per step, whose gradients are each as large as the whole. Here it is one copy of
rows: the rows of a packed tensor stand in the order of the valid places of (T, B).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.autograd import Function


class Places(NamedTuple):
    """Where the rows of a packed tensor stand in a padded one, (T, B) in one axis."""

    rows: Tensor  # (N,) int64
    lengths: npt.NDArray[np.int64]  # (B,)
    steps: int

    @classmethod
    def of(cls, batch_sizes: Tensor, rows: int) -> Places:
        """batch_sizes (T,): the sequences that have a step t, as in a PackedSequence of so many rows."""
        sizes = batch_sizes.numpy()
        if not sizes.size or np.any(sizes[1:] > sizes[:-1]) or sizes[-1] < 0 or sizes.sum() != rows:
            expected = f"batch_sizes that never grow and are {rows} together, as many as its rows"
            raise ValueError(f"[PackedSequence] input: expected {expected}, got {sizes.tolist()}")
        valid = np.arange(sizes[0]) < sizes[:, None]
        return cls(torch.from_numpy(np.flatnonzero(valid)), valid.sum(0), len(sizes))


def pad(data: Tensor, places: Places) -> Tensor:
    """(N, F) -> (T, B, F), zeros where there is no step."""
    padded: Tensor = _Pad.apply(data, places)  # type: ignore[no-untyped-call]
    return padded


def pack(padded: Tensor, places: Places) -> Tensor:
    """(T, B, F) -> (N, F)."""
    data: Tensor = _Pack.apply(padded, places)  # type: ignore[no-untyped-call]
    return data


class _Pad(Function):
    @staticmethod
    def forward(ctx: Any, data: Tensor, places: Places) -> Tensor:
        ctx.places = places
        flat = data.new_zeros((places.steps * len(places.lengths), data.shape[1]))
        return flat.index_copy_(0, places.rows, data).view(places.steps, -1, data.shape[1])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return pack(grads[0], ctx.places), None


class _Pack(Function):
    @staticmethod
    def forward(ctx: Any, padded: Tensor, places: Places) -> Tensor:
        ctx.places = places
        return padded.flatten(0, 1).index_select(0, places.rows)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return pad(grads[0], ctx.places), None
