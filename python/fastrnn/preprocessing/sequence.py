"""Sequences to rows of one length, series to windows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..datasets.batching import pad_sequences
from ..training import checks
from ..training.data import PyDataset

__all__ = ["TimeseriesGenerator", "pad_sequences"]


class TimeseriesGenerator(PyDataset):
    """Batches of windows over a series: x[i - length : i : sampling_rate] with the target y[i], as in Keras.

    data (N, ...), targets (N, ...); `fit` takes it in place of arrays.
    """

    def __init__(
        self,
        data: Any,
        targets: Any,
        length: int,
        sampling_rate: int = 1,
        stride: int = 1,
        start_index: int = 0,
        end_index: int | None = None,
        shuffle: bool = False,
        reverse: bool = False,
        batch_size: int = 128,
    ) -> None:
        super().__init__()
        op = "TimeseriesGenerator"
        self.data, self.targets = np.asarray(data), np.asarray(targets)
        if len(self.data) != len(self.targets):
            raise ValueError(f"[{op}] targets: expected as many as data ({len(self.data)}), got {len(self.targets)}")
        self.length = checks.integer(op, "length", length, 1)
        self.sampling_rate = checks.integer(op, "sampling_rate", sampling_rate, 1)
        self.stride = checks.integer(op, "stride", stride, 1)
        self.batch_size = checks.integer(op, "batch_size", batch_size, 1)
        self.start_index = checks.integer(op, "start_index", start_index, 0) + self.length
        self.end_index = len(self.data) - 1 if end_index is None else checks.integer(op, "end_index", end_index, 0)
        self.shuffle, self.reverse = shuffle, reverse
        if self.start_index > self.end_index:
            raise ValueError(
                f"[{op}] length: expected a window that fits between start_index and end_index, got {self.length}"
            )

    def __len__(self) -> int:
        per_batch = self.batch_size * self.stride
        return (self.end_index - self.start_index + per_batch) // per_batch

    def __getitem__(self, index: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        if self.shuffle:
            from ..initializers import generator

            rows = generator().integers(self.start_index, self.end_index + 1, self.batch_size)
        else:
            first = self.start_index + self.batch_size * self.stride * index
            rows = np.arange(first, min(first + self.batch_size * self.stride, self.end_index + 1), self.stride)
        samples = np.stack([self.data[row - self.length : row : self.sampling_rate] for row in rows])
        return samples[:, ::-1] if self.reverse else samples, self.targets[rows]
