"""Reads Keras's imdb.npz, whose arrays are pickled lists, without ever running what a pickle can run.

Every name the pickle asks for is answered with a stand-in of ours that only keeps the data; any other is refused.
"""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .batching import Ragged
from .encoded import Encoded
from .errors import DatasetError
from .text import Vocabulary

_LARGEST_MEMBER = 1 << 30


class _Array:
    """Stands for numpy.ndarray in the pickle; its state is (version, shape, dtype, fortran order, items)."""

    items: Any = None

    def __setstate__(self, state: Any) -> None:
        self.items = state[-1] if isinstance(state, tuple) and len(state) == 5 else None


class _Dtype:
    """Stands for numpy.dtype, which is of no interest."""

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    return text.encode("latin1")


_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (stand_in := _STAND_INS.get((module, name))) is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return stand_in


def _sequences(raw: bytes) -> Ragged:
    """The Ragged of one npy member: an object array of N lists of word ranks >= 1."""
    stream = io.BytesIO(raw)
    version = np.lib.format.read_magic(stream)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(stream)
    if len(shape) != 1 or not dtype.hasobject:
        raise ValueError(f"an object array of lists was expected, got {dtype} {shape}")
    array = _Unpickler(stream, encoding="latin1").load()
    rows = array.items if isinstance(array, _Array) else None
    if not isinstance(rows, list) or len(rows) != shape[0] or not all(type(row) is list for row in rows):
        raise ValueError("an object array of lists was expected")
    flat = [token for row in rows for token in row]
    if not all(type(token) is int for token in flat):
        raise ValueError("lists of integers were expected")
    tokens = np.array(flat, dtype=np.int32)
    if tokens.size and tokens.min() < 1:
        raise ValueError("word ranks from 1 were expected")
    return Ragged.from_lengths(tokens, [len(row) for row in rows])


def _labels(raw: bytes, count: int) -> NDArray[np.int64]:
    labels = np.load(io.BytesIO(raw), allow_pickle=False)
    if labels.shape != (count,) or labels.dtype.kind not in "iu" or np.any((labels != 0) & (labels != 1)):
        raise ValueError(f"{count} labels 0 or 1 were expected")
    return np.asarray(labels, dtype=np.int64)


def word_index_path(path: Path) -> Path:
    """Where Keras keeps the words that belong to an imdb.npz."""
    return path.with_name("imdb_word_index.json")


def read_word_index(path: Path) -> Vocabulary:
    """The vocabulary of imdb_word_index.json: {word: rank}."""
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(index, dict) or not all(type(rank) is int for rank in index.values()):
            raise ValueError("{word: rank} was expected")
        words = [""] * max(index.values(), default=0)
        for word, rank in index.items():
            if rank < 1 or words[rank - 1]:
                raise ValueError(f"every rank once was expected, got {rank} for {word!r}")
            words[rank - 1] = word
        return Vocabulary(words)
    except (OSError, ValueError, TypeError, MemoryError) as error:
        raise DatasetError(f"[datasets.imdb] {path}: expected Keras's word index, got another file: {error}") from None


def read_npz(path: Path) -> Encoded:
    """Keras's imdb.npz as ranks. Without imdb_word_index.json beside it the vocabulary has made-up words "#rank"."""
    try:
        with zipfile.ZipFile(path) as archive:
            raw = {}
            for key in ("x_train", "y_train", "x_test", "y_test"):
                info = archive.getinfo(f"{key}.npy")
                if info.file_size > _LARGEST_MEMBER:
                    raise ValueError(f"{key} claims {info.file_size} bytes")
                raw[key] = archive.read(info)
        train, test = _sequences(raw["x_train"]), _sequences(raw["x_test"])
        train_labels, test_labels = _labels(raw["y_train"], len(train)), _labels(raw["y_test"], len(test))
    except DatasetError:
        raise
    except Exception as error:  # zip, npy and pickle readers raise a dozen kinds on foreign bytes
        raise DatasetError(f"[datasets.imdb] {path}: expected Keras's imdb.npz, got something else: {error}") from None
    size = int(max(train.tokens.max(initial=0), test.tokens.max(initial=0)))
    words_file = word_index_path(path)
    if words_file.is_file():
        vocabulary = read_word_index(words_file)
        if len(vocabulary) < size:
            raise DatasetError(f"[datasets.imdb] {words_file}: expected {size} words, got {len(vocabulary)}")
    else:
        vocabulary = Vocabulary(f"#{rank}" for rank in range(1, size + 1))
    return Encoded(vocabulary, train, train_labels, test, test_labels)
