"""Operators that move, select or count values: shapes, slices, gathers, reductions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from .node import Node, Runner, maker, operator

Array = npt.NDArray[Any]


def _integers(node: Node, name: str, value: Any, attribute: str | None = None) -> list[int] | None:
    """An input of a few integers, or the attribute it used to be."""
    if value is None:
        given = node.attributes.get(attribute or name)
        return None if given is None else [int(v) for v in given]
    if value.ndim > 1 or value.dtype.kind not in "iu":
        raise node.error(f"{name}: expected integers (n,), got {value.dtype} {value.shape}")
    return [int(v) for v in value.reshape(-1)]


def _number(node: Node, name: str, value: Array, kinds: str = "iu") -> Any:
    """An input of a single number, an array of one value too."""
    if value.size != 1 or value.dtype.kind not in kinds:
        words = "integer" if kinds == "iu" else "number"
        raise node.error(f"{name}: expected a single {words}, got {value.dtype} {value.shape}")
    return value.reshape(()).item()


def _axis(node: Node, axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise node.error(f"axis: expected {-rank} to {rank - 1}, got {axis}")
    return axis % rank


def _axes(node: Node, axes: list[int], rank: int) -> tuple[int, ...]:
    result = tuple(_axis(node, axis, rank) for axis in axes)
    if len(set(result)) != len(result):
        raise node.error(f"axes: expected each axis once, got {axes}")
    return result


@maker("Constant")
def _constant(node: Node) -> Runner:
    given = [(name, value) for name, value in node.attributes.items() if value is not None]
    if len(given) != 1:
        raise node.error(f"attributes: expected one value, got {len(given)}")
    name, value = given[0]
    if name == "value":
        array = value
    elif name in ("value_float", "value_floats"):
        array = np.asarray(value, np.float32)
    elif name in ("value_int", "value_ints"):
        array = np.asarray(value, np.int64)
    else:
        raise node.unsupported(f"attribute {name}: expected numbers, got {name}")
    return lambda: array


@operator("ConstantOfShape")
def _constant_of_shape(node: Node, shape: Array) -> Any:
    value = node.attributes["value"]
    value = np.zeros(1, np.float32) if value is None else value
    if value.size != 1:
        raise node.error(f"value: expected a single number, got shape {value.shape}")
    extents = node.room(_integers(node, "input", shape) or [], value.dtype)
    return np.full(extents, value.reshape(()), value.dtype)


@operator("Range")
def _range(node: Node, start: Array, limit: Array, delta: Array) -> Any:
    given = (("start", start), ("limit", limit), ("delta", delta))
    first, last, step = (_number(node, name, value, "iuf") for name, value in given)
    node.same_type(start, limit, delta)
    for (name, _), value in zip(given, (first, last, step), strict=True):
        if not np.isfinite(value):
            raise node.error(f"{name}: expected a finite number, got {value}")
    if step == 0:
        raise node.error(f"delta: expected a number other than 0, got {step}")
    count = (last - first) / step
    if not np.isfinite(count):
        raise node.error(f"limit: expected a countable range, got {first} to {last} in steps of {step}")
    count = max(0, int(np.ceil(count)))
    node.room((count,), np.float64)  # what it is computed in
    return (first + step * np.arange(count)).astype(start.dtype)


@operator("Shape")
def _shape(node: Node, x: Array) -> Any:
    start, end = node.attributes.get("start") or 0, node.attributes.get("end")
    return np.asarray(x.shape[slice(start, end)], np.int64)


@operator("Size")
def _size(node: Node, x: Array) -> Any:
    return np.asarray(x.size, np.int64)


@operator("Reshape")
def _reshape(node: Node, x: Array, shape: Array) -> Any:
    wanted = _integers(node, "shape", shape) or []
    copied: list[int] = []
    if not node.attributes.get("allowzero"):
        copied = [k for k, extent in enumerate(wanted) if extent == 0]
        if any(extent == 0 and k >= x.ndim for k, extent in enumerate(wanted)):
            raise node.error(f"shape: expected a 0 where the input has an axis, got {wanted}")
        wanted = [x.shape[k] if extent == 0 else extent for k, extent in enumerate(wanted)]
    if any(extent < -1 for extent in wanted) or wanted.count(-1) > 1:
        raise node.error(f"shape: expected extents >= 0 and at most one -1, got {wanted}")
    if -1 in wanted and x.size == 0:  # NumPy cannot tell what is left of nothing: what is left of the axes not copied
        left = math.prod(extent for k, extent in enumerate(x.shape) if k not in copied)
        rest = math.prod(extent for k, extent in enumerate(wanted) if k not in copied and extent != -1)
        wanted = [(left // rest if rest else 0) if extent == -1 else extent for extent in wanted]
    node.room(x.shape, x.dtype)  # of a transposed input it is a copy
    try:
        return x.reshape(wanted)
    except ValueError:
        raise node.error(f"shape: expected one of {x.size} values, got {wanted}") from None


@operator("Flatten")
def _flatten(node: Node, x: Array) -> Any:
    axis = node.attributes["axis"]
    if not -x.ndim <= axis <= x.ndim:
        raise node.error(f"axis: expected {-x.ndim} to {x.ndim}, got {axis}")
    axis = axis + x.ndim if axis < 0 else axis
    node.room(x.shape, x.dtype)  # of a transposed input it is a copy
    return x.reshape(int(np.prod(x.shape[:axis])), int(np.prod(x.shape[axis:])))


@operator("Squeeze")
def _squeeze(node: Node, x: Array, axes: Array | None = None) -> Any:
    given = _integers(node, "axes", axes)
    if given is None:
        return x.squeeze()
    wanted = _axes(node, given, x.ndim)
    if any(x.shape[axis] != 1 for axis in wanted):
        raise node.error(f"axes: expected axes of extent 1 in {x.shape}, got {given}")
    return x.squeeze(wanted)


@operator("Unsqueeze")
def _unsqueeze(node: Node, x: Array, axes: Array | None = None) -> Any:
    given = _integers(node, "axes", axes) or []
    return np.expand_dims(x, _axes(node, given, x.ndim + len(given)))


@operator("Transpose")
def _transpose(node: Node, x: Array) -> Any:
    order = node.attributes["perm"]
    if order is None:
        return x.transpose()
    if sorted(order) != list(range(x.ndim)):
        raise node.error(f"perm: expected each of 0 to {x.ndim - 1} once, got {order}")
    return x.transpose(order)


@operator("Concat")
def _concat(node: Node, *arrays: Array) -> Any:
    axis = _axis(node, node.attributes["axis"], arrays[0].ndim)
    node.same_type(*arrays)
    shape = list(arrays[0].shape)
    for array in arrays[1:]:
        if array.ndim != len(shape) or any(
            a != b for k, (a, b) in enumerate(zip(shape, array.shape, strict=True)) if k != axis
        ):
            expected = f"shapes that differ along axis {axis} alone"
            raise node.error(f"inputs: expected {expected}, got {[a.shape for a in arrays]}")
    shape[axis] = sum(a.shape[axis] for a in arrays)
    node.room(shape, arrays[0].dtype)
    return np.concatenate(arrays, axis=axis)


@operator("Split")
def _split(node: Node, x: Array, sizes: Array | None = None) -> Any:
    axis = _axis(node, node.attributes["axis"], x.ndim)
    given, count = _integers(node, "split", sizes), len(node.outputs)
    if given is None:
        uneven = node.version < 18 and x.shape[axis] % count
        if uneven or node.attributes.get("num_outputs") not in (None, count):
            raise node.error(f"split: expected {count} equal parts of {x.shape[axis]}, one for each output")
        wide = -(-x.shape[axis] // count)
        given = [max(0, min(wide, x.shape[axis] - wide * k)) for k in range(count)]
    if len(given) != count or sum(given) != x.shape[axis] or min(given) < 0:
        raise node.error(f"split: expected {count} sizes that make {x.shape[axis]}, got {given}")
    return tuple(np.split(x, np.cumsum(given)[:-1], axis=axis))


@operator("Slice")
def _slice(node: Node, x: Array, *inputs: Any) -> Any:
    starts, ends, axes, steps = [*inputs, None, None, None, None][:4]
    first, last = (_integers(node, name, v) or [] for name, v in (("starts", starts), ("ends", ends)))
    along = _integers(node, "axes", axes)
    along = list(range(len(first))) if along is None else along
    by = _integers(node, "steps", steps) or [1] * len(first)
    if not len(first) == len(last) == len(along) == len(by):
        raise node.error(f"starts: expected as many as ends, axes and steps, got {len(first)}")
    index = [slice(None)] * x.ndim
    for axis, start, end, step in zip(_axes(node, along, x.ndim), first, last, by, strict=True):
        if step == 0:
            raise node.error("steps: expected integers other than 0, got 0")
        # a negative end beyond the start means everything down to the first, which None says in Python
        stop = None if step < 0 and end < -x.shape[axis] else end
        if step < 0 and x.shape[axis]:  # a start before the first is the first, where Python has nothing to take
            start = max(start, -x.shape[axis])
        index[axis] = slice(start, stop, step)
    return x[tuple(index)]


# ---- gathers --------------------------------------------------------------------------------------------------------


def _indices(node: Node, indices: Array, extent: int) -> Any:
    """Indices counted from the start; those below 0 count from the end."""
    if indices.dtype.kind not in "iu":
        raise node.error(f"indices: expected integers, got {indices.dtype}")
    if indices.size and not (-extent <= indices.min() and indices.max() < extent):
        raise node.error(f"indices: expected {-extent} to {extent - 1}, got {indices.min()} to {indices.max()}")
    return np.where(indices < 0, indices + extent, indices) if indices.dtype.kind == "i" else indices


def _room_for_each_axis(node: Node, shape: tuple[int, ...]) -> None:
    """For arrays of indices along the axes: an axis may be long though the array is empty."""
    for extent in shape:
        node.room((extent,), np.int64)


def _places(node: Node, shape: tuple[int, ...]) -> list[Any]:
    """The indices along each axis of an array, to broadcast."""
    _room_for_each_axis(node, shape)
    return list(np.ogrid[tuple(slice(extent) for extent in shape)])


@operator("Gather")
def _gather(node: Node, x: Array, indices: Array) -> Any:
    axis = _axis(node, node.attributes["axis"], x.ndim)
    node.room((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]), x.dtype)
    return np.take(x, _indices(node, indices, x.shape[axis]), axis=axis)


@operator("GatherElements")
def _gather_elements(node: Node, x: Array, indices: Array) -> Any:
    axis = _axis(node, node.attributes["axis"], x.ndim)
    if indices.ndim != x.ndim or any(
        i > e for k, (i, e) in enumerate(zip(indices.shape, x.shape, strict=True)) if k != axis
    ):
        raise node.error(f"indices: expected at most the extents {x.shape}, got {indices.shape}")
    node.room(indices.shape, x.dtype)
    where = _places(node, indices.shape)
    where[axis] = _indices(node, indices, x.shape[axis])
    return x[tuple(where)]


@operator("GatherND")
def _gather_nd(node: Node, x: Array, indices: Array) -> Any:
    shared = node.attributes.get("batch_dims") or 0
    if indices.ndim < 1 or not 0 <= shared < min(x.ndim, indices.ndim) or x.shape[:shared] != indices.shape[:shared]:
        raise node.error(f"batch_dims: expected {shared} common axes, got {x.shape} and {indices.shape}")
    depth = indices.shape[-1]
    if not 1 <= depth <= x.ndim - shared:
        raise node.error(f"indices: expected 1 to {x.ndim - shared} numbers in the last axis, got {depth}")
    node.room((*indices.shape[:-1], *x.shape[shared + depth :]), x.dtype)
    rows = _places(node, indices.shape[:-1])[:shared]
    where = [_indices(node, indices[..., k], x.shape[shared + k]) for k in range(depth)]
    return x[(*rows, *where)]


@operator("Expand")
def _expand(node: Node, x: Array, shape: Array) -> Any:
    wanted = _integers(node, "shape", shape) or []
    if any(extent < 0 for extent in wanted):
        raise node.error(f"shape: expected extents >= 0, got {wanted}")
    try:
        full = np.broadcast_shapes(x.shape, tuple(wanted))
    except ValueError:
        raise node.error(f"shape: expected one that {x.shape} broadcasts to, got {wanted}") from None
    return np.ascontiguousarray(np.broadcast_to(x, node.room(full, x.dtype)))


@operator("Tile")
def _tile(node: Node, x: Array, repeats: Array) -> Any:
    counts = _integers(node, "repeats", repeats) or []
    if len(counts) != x.ndim or any(count < 0 for count in counts):
        raise node.error(f"repeats: expected {x.ndim} integers >= 0, got {counts}")
    node.room([e * n for e, n in zip(x.shape, counts, strict=True)], x.dtype)
    return np.tile(x, counts)


# ---- reductions -----------------------------------------------------------------------------------------------------

_REDUCTIONS: dict[str, Any] = {
    "ReduceMax": np.max, "ReduceMean": np.mean, "ReduceMin": np.min, "ReduceProd": np.prod, "ReduceSum": np.sum,
}  # fmt: skip


def _nothing(op: str, x: Array) -> dict[str, Any]:
    """What the maximum of nothing is."""
    if op not in ("ReduceMax", "ReduceMin"):
        return {}
    if x.dtype.kind == "f":
        low, high = -np.inf, np.inf
    elif x.dtype.kind == "b":
        low, high = False, True
    else:
        low, high = np.iinfo(x.dtype).min, np.iinfo(x.dtype).max
    return {"initial": low if op == "ReduceMax" else high}


@operator(*_REDUCTIONS)
def _reduce(node: Node, x: Array, axes: Array | None = None) -> Any:
    given, keep = _integers(node, "axes", axes), bool(node.attributes["keepdims"])
    if not given and node.attributes.get("noop_with_empty_axes"):
        return x
    along = _axes(node, given, x.ndim) if given else tuple(range(x.ndim))
    options = _nothing(node.op, x)
    if node.op not in ("ReduceMax", "ReduceMin"):  # a mean of integers is a float on the way
        options["dtype"] = np.float64 if node.op == "ReduceMean" and x.dtype.kind in "iu" else x.dtype
    node.room(_without(x.shape, along), options.get("dtype", x.dtype))
    result = _REDUCTIONS[node.op](x, axis=along, keepdims=keep, **options)
    return np.asarray(result).astype(x.dtype, copy=False)


def _without(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(extent for axis, extent in enumerate(shape) if axis not in axes)


@operator("ArgMax", "ArgMin")
def _arg(node: Node, x: Array) -> Any:
    axis, keep = _axis(node, node.attributes["axis"], x.ndim), bool(node.attributes["keepdims"])
    if not x.shape[axis]:
        raise node.error(f"data: expected at least one value along axis {axis}, got {x.shape}")
    node.room(_without(x.shape, (axis,)), np.int64)
    node.room(x.shape, x.dtype)  # NumPy moves the axis to the end of a copy
    pick = np.argmax if node.op == "ArgMax" else np.argmin
    if node.attributes.get("select_last_index"):
        found = x.shape[axis] - 1 - pick(np.flip(x, axis), axis=axis, keepdims=keep)
    else:
        found = pick(x, axis=axis, keepdims=keep)
    return np.asarray(found, np.int64)


@operator("CumSum")
def _cumsum(node: Node, x: Array, axis: Array) -> Any:
    along = _axis(node, _number(node, "axis", axis), x.ndim)
    total = np.zeros(node.room(x.shape, x.dtype), x.dtype)
    # the axis in front, and backwards where the sums start at the end
    terms, sums = (np.moveaxis(a, along, 0)[:: -1 if node.attributes["reverse"] else 1] for a in (x, total))
    if node.attributes["exclusive"]:  # moved on by one: to subtract afterwards would round, and inf - inf is NaN
        terms, sums = terms[:-1], sums[1:]
    np.cumsum(terms, axis=0, dtype=x.dtype, out=sums)
    return total


@operator("TopK")
def _top_k(node: Node, x: Array, k: Array | None = None) -> Any:
    axis = _axis(node, node.attributes["axis"], x.ndim)
    count = int(node.attributes["k"]) if k is None else _number(node, "K", k)  # an attribute before opset 10
    if not 0 <= count <= x.shape[axis]:
        raise node.error(f"K: expected 0 to {x.shape[axis]}, got {count}")
    node.room(x.shape, np.int64)  # the order of all
    _room_for_each_axis(node, x.shape)  # NumPy makes them to take along one
    largest = node.attributes.get("largest", 1)
    # of equals the one with the lower index comes first
    keys = np.flip(x, axis) if largest else x
    order = np.argsort(keys, axis=axis, kind="stable")
    if largest:
        order = x.shape[axis] - 1 - np.flip(order, axis)
    order = np.moveaxis(np.moveaxis(order, axis, 0)[:count], 0, axis)
    return np.take_along_axis(x, order, axis), order.astype(np.int64)
