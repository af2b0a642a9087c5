"""Reads the labelled reviews out of the Large Movie Review corpus: the tar.gz as one stream, or the unpacked folder.

Nothing is ever unpacked to disk. The tar format is read here because the standard library's tarfile builds an object
for each of the 100,000 members, which takes longer than tokenising all the reviews.
"""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from .errors import DatasetError

REVIEWS_PER_FOLDER = 12_500
FOLDERS = ("train/neg", "train/pos", "test/neg", "test/pos")
Reviews = dict[str, list[bytes]]
"""The four folders' reviews, in the order of the numbers in their file names."""


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


_MEMBER = re.compile(rb"(?:\./)?aclImdb/((?:train|test)/(?:pos|neg))/(\d{1,9})_(\d{1,2})\.txt\Z")
_FILE = re.compile(r"(\d{1,9})_(\d{1,2})\.txt\Z")
_BLOCK = 512
_LARGEST_REVIEW = 1 << 20  # the longest real one has 14,000 bytes
_LARGEST_NAME = 1 << 16


def _octal(field: bytes, path: Path) -> int:
    try:
        return int(field.strip(b" \0") or b"0", 8)
    except ValueError:
        raise DatasetError(f"[datasets.imdb] {path}: expected a tar archive, got a damaged header") from None


def _skip(stream: _Readable, size: int, path: Path) -> None:
    while size > 0:
        got = len(stream.read(min(size, 1 << 20)))
        if not got:
            raise DatasetError(f"[datasets.imdb] {path}: expected a whole archive, got one that is cut short")
        size -= got


def _pax_path(record: bytes) -> bytes | None:
    found = re.search(rb"(?:\A|\n)\d+ path=([^\n]*)\n", record)
    return found.group(1) if found else None


def _check_name(name: bytes, path: Path) -> None:
    if name.startswith((b"/", b"\\")) or b".." in name.replace(b"\\", b"/").split(b"/"):
        shown = name[:80].decode("utf-8", "replace")
        raise DatasetError(f"[datasets.imdb] {path}: expected member names inside aclImdb/, got {shown!r}")


def _members(stream: _Readable, path: Path) -> Iterator[tuple[bytes, int, bytes, bytes]]:
    """(name, size, header, type) of each member; the caller reads `size` bytes rounded up to blocks."""
    long_name: bytes | None = None
    first = True
    while header := stream.read(_BLOCK):
        if len(header) < _BLOCK:
            raise DatasetError(f"[datasets.imdb] {path}: expected a whole archive, got one that is cut short")
        if header.count(0) == _BLOCK:
            break
        size, kind = _octal(header[124:136], path), header[156:157]
        if first or kind not in b"0\0":
            # The checksum is 512 additions in Python's eyes: checked where it decides what is read, not 100,000 times.
            if sum(header) - sum(header[148:156]) + 8 * 32 != _octal(header[148:156], path):
                raise DatasetError(f"[datasets.imdb] {path}: expected a tar archive, got something else")
            first = False
        if kind in b"Lxg" and kind:
            if size > _LARGEST_NAME:
                raise DatasetError(f"[datasets.imdb] {path}: expected member names of normal size, got {size} bytes")
            record = stream.read(-(-size // _BLOCK) * _BLOCK)[:size]
            if kind != b"g":
                long_name = record.rstrip(b"\0") if kind == b"L" else _pax_path(record)
            continue
        name = header[:100].split(b"\0", 1)[0]
        if header[257:263] == b"ustar\0" and header[345]:
            name = header[345:500].split(b"\0", 1)[0] + b"/" + name
        name, long_name = long_name or name, None
        _check_name(name, path)
        yield name, size, header, kind


def read_archive(path: Path) -> Reviews:
    """The reviews of aclImdb.tar.gz; DatasetError if it is not that, or damaged, or incomplete."""
    numbered: dict[str, dict[int, bytes]] = {folder: {} for folder in FOLDERS}
    try:
        with gzip.open(path, "rb") as stream:
            for name, size, _, kind in _members(stream, path):
                padded = -(-size // _BLOCK) * _BLOCK
                match = _MEMBER.match(name)
                if match is None or kind not in b"0\0":
                    _skip(stream, padded, path)
                    continue
                if size > _LARGEST_REVIEW:
                    raise DatasetError(
                        f"[datasets.imdb] {path}: expected reviews below {_LARGEST_REVIEW} bytes, got {size}"
                    )
                data = stream.read(padded)
                if len(data) < padded:
                    raise DatasetError(f"[datasets.imdb] {path}: expected a whole archive, got one that is cut short")
                numbered[match[1].decode()][int(match[2])] = data[:size]
            while stream.read(1 << 20):  # to the end, so that gzip's own check of the contents takes place
                pass
    except EOFError:
        raise DatasetError(f"[datasets.imdb] {path}: expected a whole archive, got one that is cut short") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DatasetError(
            f"[datasets.imdb] {path}: expected a gzip file, got a damaged or foreign one: {error}"
        ) from None
    except OSError as error:
        raise DatasetError(f"[datasets.imdb] {path}: cannot be read: {error.strerror or error}") from None
    return _complete({key: [rows[i] for i in sorted(rows)] for key, rows in numbered.items()}, path)


def read_folder(path: Path) -> Reviews:
    """The reviews of the unpacked corpus, `path` being the folder aclImdb."""
    reviews: Reviews = {}
    try:
        for folder in FOLDERS:
            files = {int(m[1]): entry for entry in os.scandir(path / folder) if (m := _FILE.match(entry.name))}
            reviews[folder] = []
            for number in sorted(files):
                with open(files[number].path, "rb") as file:
                    reviews[folder].append(file.read(_LARGEST_REVIEW))
    except OSError as error:
        raise DatasetError(f"[datasets.imdb] {path}: cannot be read: {error.strerror or error}") from None
    return _complete(reviews, path)


def _complete(reviews: Reviews, path: Path) -> Reviews:
    for folder in FOLDERS:
        if len(reviews[folder]) != REVIEWS_PER_FOLDER:
            raise DatasetError(
                f"[datasets.imdb] {path}: expected {REVIEWS_PER_FOLDER:,} reviews in aclImdb/{folder}, "
                f"got {len(reviews[folder]):,}"
            )
    return reviews


def fingerprint(path: Path) -> str:
    """What tells one state of a source from another without reading it: sizes and times."""
    try:
        if path.is_dir():
            total, newest = 0, 0
            for folder in FOLDERS:
                for entry in os.scandir(path / folder):
                    status = entry.stat()
                    total, newest = total + status.st_size, max(newest, status.st_mtime_ns)
            return f"{total} {newest}"
        status = path.stat()
        return f"{status.st_size} {status.st_mtime_ns}"
    except OSError as error:
        raise DatasetError(f"[datasets.imdb] {path}: cannot be read: {error.strerror or error}") from None
