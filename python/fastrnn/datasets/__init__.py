"""Text corpora: `imdb` (real), `sample` (generated), and `load`, which chooses between them. Only NumPy at import."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from . import batching, imdb, sample, text
from .batching import Ragged, pad_sequences
from .encoded import Encoded
from .errors import DatasetError, DatasetUnavailable

__all__ = [
    "Corpus",
    "DatasetError",
    "DatasetUnavailable",
    "Encoded",
    "Ragged",
    "batching",
    "imdb",
    "load",
    "pad_sequences",
    "sample",
    "text",
]

NAMES = ("auto", "imdb", "sample")


@dataclass(frozen=True)
class Corpus:
    """A labelled corpus under the name it must be shown by.

    name: "imdb" or "sample". title: for people. warning: what must be said first when this is not what was hoped for.
    """

    name: str
    title: str
    data: Encoded
    warning: str | None = None

    def limited(self, count: int, seed: int = 0) -> Corpus:
        """At most `count` reviews of each half, both labels in their proportions, chosen by `seed`."""
        if count < 4:
            raise ValueError(f"[limit] count: expected >= 4, got {count}")
        data = self.data
        rng = np.random.default_rng(seed)
        train, test = (stratified(labels, count, rng) for labels in (data.train_labels, data.test_labels))
        return replace(
            self,
            data=Encoded(
                data.vocabulary, data.train[train], data.train_labels[train], data.test[test], data.test_labels[test]
            ),
        )


def stratified(labels: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Indices of `count` samples (or all) in random order, each label as often as it has a right to, within one."""
    total = len(labels)
    count = min(count, total)
    # Spread each label's samples evenly over [0, 1) in random order: any prefix of that line is in proportion.
    position = np.empty(total)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        position[members] = (np.arange(members.size) + 0.5) / members.size
    chosen: NDArray[np.int64] = np.argsort(position, kind="stable")[:count]
    return rng.permutation(chosen)


def load(name: str = "auto", data_dir: str | os.PathLike[str] | None = None) -> Corpus:
    """The corpus `name`: "imdb", "sample", or "auto" = IMDb if it is here or can be fetched, otherwise the sample.

    "imdb" never substitutes: DatasetUnavailable if there is none. A damaged corpus is an error under every name.
    """
    if name not in NAMES:
        raise ValueError(f"[datasets] name: expected one of {', '.join(NAMES)}, got {name!r}")
    if name == "sample":
        return Corpus("sample", sample.TITLE, sample.load_encoded())
    try:
        return Corpus("imdb", "IMDb", imdb.load_encoded(data_dir))
    except DatasetUnavailable as error:
        if name == "imdb":
            raise
        return Corpus(
            "sample",
            sample.TITLE,
            sample.load_encoded(),
            warning=f"IMDb is not available, so this uses the {sample.TITLE}, not real reviews. {error}",
        )
