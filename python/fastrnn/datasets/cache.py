"""Where prepared data is kept between runs, and the file format of an encoded corpus. Not the download itself.

A cache is a convenience: one that cannot be read is rebuilt, one that cannot be written is done without.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np

from .batching import Ragged
from .encoded import Encoded
from .text import Vocabulary

_FORMAT = "1"


def cache_dir() -> Path:
    """FASTRNN_CACHE, or the platform's cache folder for fastrnn. It need not exist."""
    if chosen := os.environ.get("FASTRNN_CACHE"):
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("fastrnn", appauthor=False))


def encoded_path(source: Path) -> Path:
    """The cache file of one source; a changed source reuses its name, so caches do not pile up."""
    digest = hashlib.sha256(os.fsencode(source.resolve())).hexdigest()[:16]
    return cache_dir() / f"imdb-{digest}.npz"


def load_encoded(source: Path, fingerprint: str) -> Encoded | None:
    """What was kept for this state of the source, None if there is nothing or nothing usable."""
    try:
        with np.load(encoded_path(source), allow_pickle=False) as file:
            if str(file["fingerprint"]) != f"{_FORMAT} {fingerprint}":
                return None
            words = file["words"].tobytes().decode("utf-8")
            vocabulary = Vocabulary(words.split("\n") if words else [])
            parts = {key: Ragged(file[f"{key}_tokens"], file[f"{key}_offsets"]) for key in ("train", "test")}
            labels = {key: file[f"{key}_labels"] for key in ("train", "test")}
    except Exception:  # whatever a damaged zip or npy can raise means the same: rebuild
        return None
    for key, ragged in parts.items():
        tokens = ragged.tokens
        if tokens.dtype != np.int32 or labels[key].dtype != np.int64 or labels[key].shape != (len(ragged),):
            return None
        if tokens.size and (tokens.min() < 0 or tokens.max() > len(vocabulary)):
            return None
    return Encoded(vocabulary, parts["train"], labels["train"], parts["test"], labels["test"])


def store_encoded(source: Path, fingerprint: str, data: Encoded) -> bool:
    """Keep it for the next run; False if that is not possible. Never leaves half a file."""
    target = encoded_path(source)
    temporary = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=target.stem, suffix=".part", delete=False) as file:
            temporary = file.name
            np.savez(
                file,
                fingerprint=np.array(f"{_FORMAT} {fingerprint}"),
                words=np.frombuffer("\n".join(data.vocabulary.words).encode("utf-8"), dtype=np.uint8),
                train_tokens=data.train.tokens,
                train_offsets=data.train.offsets,
                train_labels=data.train_labels,
                test_tokens=data.test.tokens,
                test_offsets=data.test.offsets,
                test_labels=data.test_labels,
            )
        os.replace(temporary, target)
        return True
    except OSError:
        return False
    finally:
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)
