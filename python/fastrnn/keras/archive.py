"""What is in a `.keras` file: a ZIP of config.json, metadata.json and model.weights.h5.

Nothing in it is believed: sizes are checked before anything of that size is read, and of the HDF5 part only plain
arrays in plain groups are taken.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_MOST_TEXT = 2**22  # of JSON, which takes up to 30 times as much when it is parsed
# Keras does not compress, and trained weights shrink by a tenth: a part that grows more than this was made to.
_MOST_EXPANSION = 32
_SHARDS = "model.weights.json"


class Refused(ValueError):
    """What is wrong with a file, to be completed by its name."""


def read_archive(path: str) -> tuple[Any, bytes]:
    """The configuration and the bytes of the weights."""
    size = os.path.getsize(path)
    try:
        with zipfile.ZipFile(path) as archive:
            if WEIGHTS not in archive.namelist() and _SHARDS in archive.namelist():
                raise Refused("expected one file of weights, got weights in shards (save without max_shard_size)")
            most_text = min(_MOST_TEXT, _MOST_EXPANSION * size)
            metadata = _json(METADATA, _member(archive, METADATA, most_text))
            version = metadata.get("keras_version") if isinstance(metadata, dict) else None
            if not isinstance(version, str) or not version.startswith("3."):
                raise Refused(f"expected a file of Keras 3 (load and save it there), got one of Keras {version!r:.40}")
            config = _json(CONFIG, _member(archive, CONFIG, most_text))
            return config, _member(archive, WEIGHTS, _MOST_EXPANSION * size)
    except Refused:
        raise
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError, ValueError) as error:
        raise Refused(f"expected a .keras file, got something else or a damaged file ({error})") from None


def _member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise Refused(f"expected a .keras file, got an archive without {name}") from None
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Refused(f"expected {name} stored or deflated, got compression method {info.compress_type}")
    if info.file_size > limit:
        raise Refused(f"expected {name} of at most {limit} bytes, got a claim of {info.file_size}")
    with archive.open(info) as member:  # zipfile reads no more than the size that was just checked
        return member.read()


def _json(name: str, text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise Refused(f"expected JSON in {name}, got something else") from None


class WeightsFile:
    """The arrays of an HDF5 file in memory, by layer."""

    def __init__(self, h5py: Any, file: Any) -> None:
        self._h5py = h5py
        self._root = self._enter(file, "layers")

    def arrays(self, path: str, shapes: list[tuple[int, ...]], dtype: Any) -> list[Array]:
        """The arrays of a layer, which must have these shapes. `path`: its groups, from "layers" on."""
        group = self._root
        for name in (*path.split("/"), "vars"):
            group = self._enter(group, name)
        if len(group) != len(shapes):
            raise Refused(f"expected {len(shapes)} weights, got {len(group)}")
        return [self._array(group, str(index), shape, dtype) for index, shape in enumerate(shapes)]

    def _enter(self, group: Any, name: str) -> Any:
        found = self._found(group, name)
        if not isinstance(found, self._h5py.Group):
            raise Refused(f"expected a group {name!r} in {WEIGHTS}, got an array")
        return found

    def _found(self, group: Any, name: str) -> Any:
        link = group.get(name, getlink=True)
        if link is None:
            raise Refused(f"expected {group.name}/{name} in {WEIGHTS}, got none")
        if not isinstance(link, self._h5py.HardLink):
            raise Refused(f"expected {group.name}/{name} in {WEIGHTS} itself, got a {type(link).__name__}")
        return group[name]

    def _array(self, group: Any, name: str, shape: tuple[int, ...], dtype: Any) -> Array:
        found = self._found(group, name)
        where = f"weight {name}"
        if not isinstance(found, self._h5py.Dataset):
            raise Refused(f"{where}: expected an array, got a group")
        if found.shape != shape:
            raise Refused(f"{where}: expected shape {shape}, got {found.shape}")
        if found.dtype not in (np.float16, np.float32, np.float64):
            raise Refused(f"{where}: expected floats, got dtype {found.dtype}")
        if found.is_virtual or found.external or found.chunks is not None:
            raise Refused(f"{where}: expected an array stored in one piece, got one in pieces or in other files")
        if found.id.get_storage_size() != found.dtype.itemsize * found.size:
            raise Refused(f"{where}: expected {found.size} numbers, got fewer in the file")
        return np.asarray(found[()], dtype=dtype)


@contextlib.contextmanager
def open_weights(data: bytes) -> Iterator[WeightsFile]:
    """Needs h5py; Keras is not imported."""
    try:
        import h5py  # type: ignore[import-untyped]
    except ImportError:
        raise ImportError("[load_keras] needs h5py: pip install 'fastrnn[keras]'") from None
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            yield WeightsFile(h5py, file)
    except Refused:
        raise
    except (OSError, KeyError, RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise Refused(f"expected HDF5 in {WEIGHTS}, got something else or a damaged file ({error})") from None
