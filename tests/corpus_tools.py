"""A tiny corpus in the shapes of the real one, for tests: archive, folder and Keras's npz."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np

TEXTS = {
    "train/neg": ["Bad film.<br /><br />Really bad!", "it was not good", "dull; the END was dull"],
    "train/pos": ["A good film, the best", "good good fun", "the end was the best caf\u00c9"],
    "test/neg": ["an unseen bad film", "dull dull dull", "not the best"],
    "test/pos": ["good fun", "the film was good", "Best film ever"],
}
COUNT = 3


def members() -> dict[str, bytes]:
    files = {"aclImdb/README": b"readme", "aclImdb/train/urls_pos.txt": b"http://x\n" * 100}
    for folder, texts in TEXTS.items():
        # numbers 2, 10, 1: they must be sorted as numbers, not as names or in the order of the archive
        for number, text in zip((2, 10, 1), texts, strict=True):
            files[f"aclImdb/{folder}/{number}_7.txt"] = text.encode()
    files["aclImdb/train/unsup/0_0.txt"] = b"unlabelled"
    return files


def in_order(folder: str) -> list[str]:
    first, second, third = TEXTS[folder]
    return [third, first, second]


def write_archive(path: Path, files: dict[str, bytes] | None = None, format: int = tarfile.GNU_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz", format=format) as tar:
        for name, data in (members() if files is None else files).items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def write_folder(path: Path) -> Path:
    for name, data in members().items():
        target = path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return path / "aclImdb"


def write_npz(path: Path, train: list[list[int]], test: list[list[int]], words: list[str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)

    def rows(lists: list[list[int]]) -> np.ndarray:
        out = np.empty(len(lists), dtype=object)
        out[:] = lists
        return out

    labels = [np.arange(len(part)) % 2 for part in (train, test)]
    np.savez(path, x_train=rows(train), y_train=labels[0], x_test=rows(test), y_test=labels[1])
    if words is not None:
        index = {word: rank for rank, word in enumerate(words, start=1)}
        path.with_name("imdb_word_index.json").write_text(json.dumps(index))
    return path
