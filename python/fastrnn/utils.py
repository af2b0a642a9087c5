"""Seeds, one-hot targets, padding, normalisation, data served by batches, under Keras's names."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import numpy.typing as npt

from . import initializers
from .backend import clear_session
from .datasets.batching import pad_sequences
from .training import checks
from .training.data import PyDataset

__all__ = ["PyDataset", "Sequence", "clear_session", "normalize", "pad_sequences", "set_random_seed", "to_categorical"]

Sequence = PyDataset


def set_random_seed(seed: int) -> None:
    """Seed Python's `random`, NumPy's global generator, and fastrnn's own (weights, dropout, shuffling)."""
    seed = checks.integer("set_random_seed", "seed", seed, 0)
    if seed >= 2**32:
        raise ValueError(f"[set_random_seed] seed: expected less than 2**32, got {seed}")
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - scripts make their data with it
    initializers.set_seed(seed)


def to_categorical(x: Any, num_classes: int | None = None) -> npt.NDArray[np.float64]:
    """Class indices (...,) as one-hot rows (..., num_classes)."""
    index = np.asarray(x)
    if index.dtype.kind not in "fiub" or (index.dtype.kind == "f" and (index != np.rint(index)).any()):
        raise TypeError(f"[to_categorical] x: expected whole class indices, got dtype {index.dtype}")
    index = index.astype(np.int64)
    if index.ndim > 1 and index.shape[-1] == 1:
        index = index[..., 0]
    if index.size == 0 and num_classes is None:
        raise ValueError("[to_categorical] num_classes: expected a number as x is empty, got None")
    if num_classes is None:
        num_classes = int(index.max()) + 1
    count = checks.integer("to_categorical", "num_classes", num_classes, 1)
    if index.size and (index.min() < 0 or index.max() >= count):
        raise ValueError(
            f"[to_categorical] x: expected class indices from 0 to {count - 1}, got {index.min()} to {index.max()}"
        )
    result = np.zeros((*index.shape, count))
    np.put_along_axis(result, index[..., None], 1.0, axis=-1)
    return result


def normalize(x: Any, axis: int = -1, order: int = 2) -> npt.NDArray[Any]:
    """x divided by its norm along `axis`; zeros stay."""
    array = np.atleast_1d(np.asarray(x, dtype=None if np.asarray(x).dtype.kind == "f" else np.float64))
    norm = np.linalg.norm(array, order, axis, keepdims=True)
    return np.asarray(array / np.where(norm == 0, 1.0, norm))
