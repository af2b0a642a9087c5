"""A labelled corpus whose words are ranks: what every reader of a corpus delivers and every user of one takes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .batching import Ragged
from .text import Vocabulary


class Encoded(NamedTuple):
    """Ranks of `vocabulary` (0 = a word not in it) and labels (0 negative, 1 positive) of both halves."""

    vocabulary: Vocabulary
    train: Ragged
    train_labels: NDArray[np.int64]
    test: Ragged
    test_labels: NDArray[np.int64]
