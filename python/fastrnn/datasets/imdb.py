"""The IMDb Large Movie Review corpus (Maas et al., ACL 2011): finding it, reading it, and Keras's `load_data` over it.

Sources, in this order: the folder FASTRNN_DATA, the cache folder, Keras's ~/.keras/datasets/imdb.npz, a download.
A folder may hold aclImdb.tar.gz or aclImdb_v1.tar.gz, the unpacked aclImdb/, or imdb.npz, also in a subfolder imdb/.
Local files are judged by their structure (12,500 reviews in each of four folders), the download by its checksum.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import archive, cache, download, keras_npz
from .batching import Ragged
from .encoded import Encoded
from .errors import DatasetError, DatasetUnavailable
from .text import Vocabulary, rank_words

URL = "http://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
SHA256 = "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe"
DOWNLOAD_NAME = "aclImdb_v1.tar.gz"
_HOLDS = "a folder with aclImdb.tar.gz, aclImdb_v1.tar.gz, aclImdb/ or imdb.npz"


class Source(NamedTuple):
    """One place with the corpus; kind is "archive", "folder" or "npz"."""

    path: Path
    kind: str


def _sources_in(folder: Path) -> list[Source]:
    """What the folder (or its subfolder imdb) offers, raw text first because only that has every word."""
    if folder.is_file():
        return [Source(folder, "npz" if folder.suffix == ".npz" else "archive")]
    found = []
    if (folder / "train" / "pos").is_dir():
        found.append(Source(folder, "folder"))
    for place in (folder, folder / "imdb"):
        for name, kind in (("aclImdb.tar.gz", "archive"), (DOWNLOAD_NAME, "archive"), ("imdb.npz", "npz")):
            if (place / name).is_file():
                found.append(Source(place / name, kind))
        if (place / "aclImdb" / "train").is_dir():
            found.append(Source(place / "aclImdb", "folder"))
    return sorted(found, key=lambda source: source.kind == "npz")


def _usable(source: Source, need: str) -> bool:
    if source.kind != "npz" or need == "ranks":
        return True
    return need == "words" and keras_npz.word_index_path(source.path).is_file()


def locate(data_dir: str | os.PathLike[str] | None = None, need: str = "words", fetch: bool = True) -> Source:
    """The first source that has what is needed, downloaded if there is none and `fetch` allows it.

    need: "ranks" (any source), "words" (imdb.npz only with imdb_word_index.json beside it) or "text" (raw reviews).
    data_dir: look there and nowhere else. Raises DatasetUnavailable, naming every place that was tried.
    """
    if data_dir is not None:
        for source in _sources_in(Path(data_dir).expanduser()):
            if _usable(source, need):
                return source
        raise DatasetError(f"[datasets.imdb] data_dir: expected {_HOLDS}, got {str(data_dir)!r}")
    keras_home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    places = [cache.cache_dir(), keras_home / "datasets"]
    tried = "set FASTRNN_DATA"
    if variable := os.environ.get("FASTRNN_DATA"):
        places.insert(0, Path(variable).expanduser())
        tried += f" (now {variable}, where no usable corpus is)"
    for place in places:
        for source in _sources_in(place):
            if _usable(source, need):
                return source
    if not fetch:
        raise DatasetUnavailable(f"[datasets.imdb] data_dir: no corpus found; {tried} to {_HOLDS}")
    try:
        return Source(download.fetch(URL, SHA256, cache.cache_dir() / DOWNLOAD_NAME), "archive")
    except DatasetUnavailable as error:
        raise DatasetUnavailable(f"{error}; download it there yourself or {tried} to {_HOLDS}") from None


def _read_raw(source: Source) -> archive.Reviews:
    return archive.read_folder(source.path) if source.kind == "folder" else archive.read_archive(source.path)


def _halves(reviews: archive.Reviews, split: str) -> tuple[list[bytes], NDArray[np.int64]]:
    negative, positive = reviews[f"{split}/neg"], reviews[f"{split}/pos"]
    return negative + positive, np.repeat(np.array([0, 1], dtype=np.int64), [len(negative), len(positive)])


def load_encoded(data_dir: str | os.PathLike[str] | None = None, need: str = "words", fetch: bool = True) -> Encoded:
    """The whole corpus as word ranks, negative reviews first: a few seconds the first time, then from the cache."""
    source = locate(data_dir, need, fetch)
    state = archive.fingerprint(source.path)
    if source.kind == "npz" and keras_npz.word_index_path(source.path).is_file():
        state += f" {archive.fingerprint(keras_npz.word_index_path(source.path))}"
    if (kept := cache.load_encoded(source.path, state)) is not None:
        return kept
    if source.kind == "npz":
        data = keras_npz.read_npz(source.path)
    else:
        reviews = _read_raw(source)
        train, train_labels = _halves(reviews, "train")
        test, test_labels = _halves(reviews, "test")
        words, train_ranks, test_ranks = rank_words(train, test)
        data = Encoded(Vocabulary(words), train_ranks, train_labels, test_ranks, test_labels)
    cache.store_encoded(source.path, state, data)
    return data


def load_reviews(
    split: str = "train", data_dir: str | os.PathLike[str] | None = None
) -> tuple[list[str], NDArray[np.int64]]:
    """Raw texts and labels (0 negative, 1 positive) of split "train" or "test"; HTML line breaks become blanks."""
    if split not in ("train", "test"):
        raise ValueError(f"[load_reviews] split: expected 'train' or 'test', got {split!r}")
    raw, labels = _halves(_read_raw(locate(data_dir, "text")), split)
    return [text.replace(b"<br />", b" ").decode("utf-8", "replace") for text in raw], labels


def _integer(name: str, value: Any, least: int | None, optional: bool = True) -> None:
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"[load_data] {name}: expected an integer{' or None' if optional else ''}, got {value!r}")
    if least is not None and value < least:
        raise ValueError(f"[load_data] {name}: expected >= {least}, got {value}")


Half = tuple[NDArray[np.object_], NDArray[np.int64]]


def load_data(
    path: str = "imdb.npz",
    num_words: int | None = None,
    skip_top: int = 0,
    maxlen: int | None = None,
    seed: int = 113,
    start_char: int | None = 1,
    oov_char: int | None = 2,
    index_from: int = 3,
) -> tuple[Half, Half]:
    """((x_train, y_train), (x_test, y_test)) exactly as `keras.datasets.imdb.load_data` makes them of its file.

    path: an existing corpus to read instead of the usual sources; any other value is ignored.
    num_words: ids from here on become `oov_char`. skip_top: ids below it do too. maxlen: only reviews *shorter*
    than this are kept. seed: of the shuffle. start_char, oov_char: None for none (out-of-range words then vanish).
    index_from: added to every rank. x are (N,) object arrays of lists, y (N,) int64.
    """
    for name, value, least in (("num_words", num_words, 1), ("maxlen", maxlen, 1)):
        _integer(name, value, least)
    for name, value, least in (("skip_top", skip_top, 0), ("seed", seed, 0), ("index_from", index_from, 0)):
        _integer(name, value, least, optional=False)
    for name, value in (("start_char", start_char), ("oov_char", oov_char)):
        _integer(name, value, 0)
    data = load_encoded(path if os.path.exists(path) else None, need="ranks")
    # The legacy generator is what Keras shuffles with, and the order of its result is part of its meaning.
    rng = np.random.RandomState(seed)
    halves: list[tuple[Ragged, NDArray[np.int64]]] = []
    for ragged, labels in ((data.train, data.train_labels), (data.test, data.test_labels)):
        order = np.arange(len(ragged))
        rng.shuffle(order)
        ragged = ragged.keep(ragged.tokens > 0)[order]  # words that only the test half has are skipped
        ragged = Ragged(ragged.tokens + np.int32(index_from), ragged.offsets)
        if start_char is not None:
            ragged = ragged.prepend(start_char)
        labels = labels[order]
        if maxlen:
            short = ragged.lengths < maxlen
            ragged, labels = ragged[short], labels[short]
            if not len(ragged):
                raise ValueError(f"[load_data] maxlen: expected more than the shortest review has, got {maxlen}")
        halves.append((ragged, labels))
    # With no num_words Keras takes the largest id, so that one word becomes oov_char; kept, for equal results.
    top = num_words or int(max(ragged.tokens.max(initial=0) for ragged, _ in halves))
    result: list[Half] = []
    for ragged, labels in halves:
        inside = (ragged.tokens >= skip_top) & (ragged.tokens < top)
        if oov_char is None:
            ragged = ragged.keep(inside)
        else:
            ragged = Ragged(np.where(inside, ragged.tokens, np.int32(oov_char)), ragged.offsets)
        result.append((ragged.to_lists(), labels))
    return result[0], result[1]


def get_word_index(path: str = "imdb_word_index.json") -> dict[str, int]:
    """{word: rank}, most frequent first. In `load_data` ids every rank is moved up by `index_from`.

    path: an existing imdb_word_index.json to read instead; any other value is ignored.
    """
    if os.path.isfile(path):
        return keras_npz.read_word_index(Path(path)).word_index
    return load_encoded().vocabulary.word_index
