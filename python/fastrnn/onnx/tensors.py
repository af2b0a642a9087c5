"""From TensorProto to an array, with every size checked before anything is allocated. Not the graph (load.py)."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

Array = npt.NDArray[Any]

# element type -> dtype, field of values that are not raw bytes
_TYPES: dict[int, tuple[str, str]] = {
    TensorProto.FLOAT: ("<f4", "float_data"),
    TensorProto.DOUBLE: ("<f8", "double_data"),
    TensorProto.FLOAT16: ("<f2", "int32_data"),
    TensorProto.INT8: ("i1", "int32_data"),
    TensorProto.INT16: ("<i2", "int32_data"),
    TensorProto.INT32: ("<i4", "int32_data"),
    TensorProto.INT64: ("<i8", "int64_data"),
    TensorProto.UINT8: ("u1", "int32_data"),
    TensorProto.UINT16: ("<u2", "int32_data"),
    TensorProto.UINT32: ("<u4", "uint64_data"),
    TensorProto.UINT64: ("<u8", "uint64_data"),
    TensorProto.BOOL: ("?", "int32_data"),
}
_FROM_DTYPE = {np.dtype(code).newbyteorder("="): kind for kind, (code, _) in _TYPES.items()}


def type_name(kind: int) -> str:
    try:
        return str(TensorProto.DataType.Name(kind))
    except ValueError:
        return f"element type {kind}"


def dtype_of(kind: int) -> np.dtype[Any]:
    """The dtype of an ONNX element type; ValueError for one that has none here (strings, bfloat16, float8 ...)."""
    if kind not in _TYPES:
        known = ", ".join(type_name(k) for k in _TYPES)
        raise ValueError(f"expected one of {known}, got {type_name(kind)}")
    return np.dtype(_TYPES[kind][0]).newbyteorder("=")


def type_of(dtype: npt.DTypeLike) -> int:
    """The ONNX element type of a dtype; TypeError for one that has none."""
    dtype = np.dtype(dtype)
    if dtype.newbyteorder("=") not in _FROM_DTYPE:
        raise TypeError(f"expected one of {', '.join(map(str, _FROM_DTYPE))}, got {dtype}")
    return _FROM_DTYPE[dtype.newbyteorder("=")]


def nbytes(tensor: TensorProto) -> int:
    """The bytes that the array of `tensor` takes. Raises ValueError where it can be none."""
    dtype = dtype_of(tensor.data_type)
    dims = tuple(tensor.dims)
    if any(d < 0 for d in dims) or math.prod(d for d in dims if d) > 2**62 // dtype.itemsize or len(dims) > 32:
        raise ValueError(f"dims: expected extents >= 0 of a tensor that fits in memory, got {list(dims)[:40]}")
    return int(math.prod(dims)) * dtype.itemsize


def to_array(tensor: TensorProto, folder: str | None = None) -> Array:
    """The values of `tensor`; external data only from files inside `folder`. Raises ValueError. Read-only."""
    dtype = dtype_of(tensor.data_type)
    dims, size = tuple(tensor.dims), nbytes(tensor) // dtype.itemsize
    if tensor.HasField("segment"):
        raise ValueError("segment: expected a whole tensor, got a segment of one")
    code, field = _TYPES[tensor.data_type]
    if tensor.data_location == TensorProto.EXTERNAL:
        array = _external(tensor, np.dtype(code), size, folder)
    elif tensor.HasField("raw_data"):
        if len(tensor.raw_data) != size * dtype.itemsize:
            expected = f"{size * dtype.itemsize} bytes for {type_name(tensor.data_type)} {list(dims)}"
            raise ValueError(f"raw_data: expected {expected}, got {len(tensor.raw_data)}")
        array = np.frombuffer(tensor.raw_data, code)
    else:
        values = getattr(tensor, field)
        if len(values) != size:
            raise ValueError(f"{field}: expected {size} values for dims {list(dims)}, got {len(values)}")
        array = _typed(tensor.data_type, values, dtype)
    if dtype == np.bool_:  # any other byte than 0 is true
        array = array.view(np.uint8) != 0
    array = array.astype(dtype, copy=False).reshape(dims)
    array.flags.writeable = False
    return array


def _typed(kind: int, values: Any, dtype: np.dtype[Any]) -> Array:
    if kind == TensorProto.FLOAT16:  # the bits, in integers
        wide = np.asarray(values, np.int64)
        if ((wide < 0) | (wide > 0xFFFF)).any():
            raise ValueError("int32_data: expected the 16 bits of a FLOAT16 in each value, got more")
        return wide.astype(np.uint16).view(np.float16)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        wide = np.asarray(values, np.uint64 if dtype == np.uint64 else np.int64)
        if wide.size and not (info.min <= int(wide.min()) and int(wide.max()) <= info.max):
            raise ValueError(f"values: expected those of {type_name(kind)}, got {wide.min()} to {wide.max()}")
        return wide.astype(dtype)
    return np.asarray(values, dtype)


def external_file(tensor: TensorProto, folder: str | None) -> str:
    """The file of external data: without a way out of the model's folder, links followed before that is asked."""
    location = {entry.key: entry.value for entry in tensor.external_data}.get("location", "")
    if folder is None:
        raise ValueError(f"external data: expected a model loaded from a file, got one in memory ({location!r})")
    outside = ValueError(f"external data: expected a file in the model's folder, got {location!r}")
    if not location or "\0" in location or os.path.isabs(location):
        raise outside
    root = os.path.realpath(folder)
    path = os.path.realpath(os.path.join(root, location))
    if os.path.commonpath([root, path]) != root:
        raise outside
    if not os.path.isfile(path):
        raise ValueError(f"external data: expected the file {location!r} beside the model, found none")
    return path


def _external(tensor: TensorProto, code: np.dtype[Any], size: int, folder: str | None) -> Array:
    path = external_file(tensor, folder)
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries["location"]
    try:
        offset = int(entries.get("offset", "0"))
        length = int(entries.get("length", str(size * code.itemsize)))
    except ValueError:
        raise ValueError("external data: expected integers for offset and length") from None
    if length != size * code.itemsize:
        raise ValueError(f"external data: expected {size * code.itemsize} bytes for its dims, got length {length}")
    if offset < 0 or offset + length > os.path.getsize(path):
        total = os.path.getsize(path)
        raise ValueError(f"external data: expected bytes {offset} to {offset + length} of {location!r}, it has {total}")
    return np.fromfile(path, code, count=size, offset=offset)
