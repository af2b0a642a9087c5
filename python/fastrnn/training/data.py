"""From what a user gives to `fit`, `evaluate` and `predict` to checked batches. Not the training itself.

Arrays are converted once and then cut or gathered per batch. Iterables of (x, y[, w]) and objects with `__getitem__`
and `__len__` (Keras's PyDataset, formerly Sequence) are checked batch by batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ..functional.checks import as_array as shared_array
from . import checks
from .loss import Loss, is_finite

Array: TypeAlias = npt.NDArray[Any]


class Batch(NamedTuple):
    x: Array
    y: Any
    weight: Array | None


class PyDataset:
    """Base class of data served by batches, as in Keras: `__len__` batches, `__getitem__(i)` -> (x, y[, w])."""

    def __init__(self, workers: int = 1, use_multiprocessing: bool = False, max_queue_size: int = 10) -> None:
        """The arguments are accepted for Keras's sake; batches are asked for one after the other."""

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} has no __len__")

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no __getitem__")

    def on_epoch_end(self) -> None:
        """Called after each epoch: the place to shuffle."""


def is_array_like(x: Any) -> bool:
    """Is `x` one array (or lists of numbers), as opposed to something that gives batches?"""
    if isinstance(x, list) and x and isinstance(x[0], tuple) and any(np.ndim(part) for part in x[0]):
        return not any(hasattr(part, "shape") for part in x[0])  # a list of batches (x, y)
    shares = isinstance(x, memoryview) or hasattr(x, "__dlpack_device__")
    return isinstance(x, (list, tuple, np.ndarray)) or hasattr(x, "__array__") or shares


def as_array(op: str, arg: str, value: Any, *, finite: bool = False) -> Array:
    """`value` as a numeric array with at least one axis."""
    if isinstance(value, (list, tuple)) and any(getattr(v, "shape", ()) != () for v in value):
        raise ValueError(
            f"[{op}] {arg}: expected one array (a Sequential has one input and one output), "
            f"got a {type(value).__name__} of {len(value)} arrays (use numpy.stack for a batch)"
        )
    try:
        array = np.asarray(shared_array(op, arg, value))
    except ValueError:
        if not isinstance(value, (list, tuple)):
            raise
        words = "nested lists of uneven length (see pad_sequences)"
        raise ValueError(f"[{op}] {arg}: expected an array, got {words}") from None
    if array.dtype.kind not in "fiub":
        hint = " (lists of different length? see pad_sequences)" if array.dtype.kind == "O" else ""
        raise TypeError(f"[{op}] {arg}: expected an array of numbers, got dtype {array.dtype}{hint}")
    if array.ndim == 0:
        raise ValueError(f"[{op}] {arg}: expected an array with a batch axis, got a single number")
    if array.shape[0] == 0:
        raise ValueError(f"[{op}] {arg}: expected at least one sample, got shape {array.shape}")
    if array.size == 0:
        raise ValueError(f"[{op}] {arg}: expected no empty axis, got shape {array.shape}")
    if finite and not is_finite(array):
        raise ValueError(f"[{op}] {arg}: expected finite numbers, got NaN or infinity")
    return array


def _class(key: Any) -> Any:
    """numpy.unique of targets kept as floats or booleans gives keys such as 1.0 and True."""
    return int(key) if isinstance(key, (float, bool, np.bool_, np.floating)) and key == int(key) else key


def class_weights(op: str, weights: Any, y: Array, positions: tuple[int | None, ...], targets: str) -> Array:
    """A weight per position (N, ...) from {class: weight}; classes that are not named weigh 1."""
    if not isinstance(weights, dict):
        raise TypeError(f"[{op}] class_weight: expected a dictionary of class to weight, got {weights!r}")
    table = {
        checks.integer(op, "class_weight", _class(key), 0): checks.number(
            op, f"class_weight[{key}]", value, "non-negative"
        )
        for key, value in weights.items()
    }
    classes = y
    if targets != "class" and y.ndim == len(positions) + 1 and y.shape[-1] > 1:
        classes = y.argmax(axis=-1)
    elif y.ndim == len(positions) + 1:
        classes = y[..., 0]
    result = np.ones(classes.shape, np.float32)
    for key, value in table.items():
        result[np.rint(classes) == key] = value
    return result


class Preparer:
    """Checks and converts one set of (x, y, w) for a model: its input dtype, its output's shape, its loss."""

    def __init__(
        self,
        op: str,
        convert: Callable[[str, Array], Array],
        infer: Callable[[str, Array], tuple[int | None, ...]],
        loss: Loss | None,
        class_weight: Any = None,
        finite: bool = False,
    ) -> None:
        """`convert` brings x to the model's dtype; `infer` builds the model for it and gives the output's shape."""
        self.op = op
        self.convert = convert
        self.loss = loss
        self.class_weight = class_weight
        self.finite = finite
        self.infer = infer

    def __call__(self, x: Any, y: Any = None, weight: Any = None, prefix: str = "") -> Batch:
        op = self.op
        x = self.convert(op, as_array(op, f"{prefix}x", x, finite=self.finite))
        output_shape = self.infer(op, x)
        if self.loss is None:
            return Batch(x, None, None)
        if isinstance(output_shape, list):
            raise ValueError(f"[{op}] model: expected one output, got {len(output_shape)}")
        if y is None:
            raise ValueError(f"[{op}] {prefix}y: expected targets, got None")
        y = as_array(op, f"{prefix}y", y)
        if len(y) != len(x):
            raise ValueError(f"[{op}] {prefix}y: expected as many samples as x ({len(x)}), got {len(y)}")
        self.loss.check_targets(op, f"{prefix}y", y, output_shape)
        if weight is not None:
            weight = as_array(op, f"{prefix}sample_weight", weight, finite=True)
            positions = (len(x), *output_shape[1:-1])
            known = len(weight) == len(x) and weight.size in (len(x), math.prod(y.shape[: len(positions)]))
            if not known:
                raise ValueError(
                    f"[{op}] {prefix}sample_weight: expected shape {positions[:1]} or one weight per position, "
                    f"got {weight.shape}"
                )
            weight = weight.astype(x.dtype if x.dtype.kind == "f" else np.float32, copy=False)
        if self.class_weight is not None:
            own = class_weights(op, self.class_weight, y, output_shape[:-1], self.loss.targets)
            if weight is not None:
                weight = weight.reshape(*weight.shape, *(1,) * (own.ndim - weight.ndim)) * own
            else:
                weight = own
        return Batch(x, y, weight)


class ArrayData:
    """Batches cut from arrays; shuffled anew each time they are gone through."""

    def __init__(self, arrays: Batch, batch_size: int, shuffle: bool) -> None:
        self.arrays = arrays
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.samples: int | None = len(arrays.x)
        self.steps: int | None = -(-len(arrays.x) // batch_size)

    def batches(self) -> Iterator[Batch]:
        x, y, w = self.arrays
        count, size = len(x), self.batch_size
        if not self.shuffle:
            for start in range(0, count, size):
                part = slice(start, start + size)
                yield Batch(x[part], None if y is None else y[part], None if w is None else w[part])
            return
        from ..initializers import generator

        order = generator().permutation(count)
        for start in range(0, count, size):
            index = order[start : start + size]
            yield Batch(
                x.take(index, axis=0),
                None if y is None else y.take(index, axis=0),
                None if w is None else w.take(index, axis=0),
            )

    def endless(self) -> bool:
        """May it be gone through again and again?"""
        return True


class IterableData:
    """Batches from an iterable, an iterator or a PyDataset."""

    def __init__(self, source: Any, prepare: Preparer, shuffle: bool) -> None:
        self.source = source
        self.prepare = prepare
        self.shuffle = shuffle
        self.samples: int | None = None
        indexed = hasattr(source, "__getitem__") and hasattr(source, "__len__")
        self.indexed = indexed and not hasattr(source, "__next__")
        self.steps: int | None = len(self.source) if hasattr(source, "__len__") else None

    def endless(self) -> bool:
        return not hasattr(self.source, "__next__")

    def _raw(self) -> Iterator[Any]:
        if not self.indexed:
            # not `yield from`, which would close the user's generator when fewer steps are taken from it
            for item in self.source:  # noqa: UP028
                yield item
            return
        order = np.arange(len(self.source))
        if self.shuffle:
            from ..initializers import generator

            generator().shuffle(order)
        for index in order:
            yield self.source[int(index)]
        if hasattr(self.source, "on_epoch_end"):
            self.source.on_epoch_end()

    def batches(self) -> Iterator[Batch]:
        for item in self._raw():
            parts = item if isinstance(item, tuple) else (item,)
            if not 1 <= len(parts) <= 3:
                raise ValueError(f"[{self.prepare.op}] x: expected batches (x, y[, w]), got a tuple of {len(parts)}")
            yield self.prepare(*parts)


def batch_source(
    op: str, x: Any, y: Any, weight: Any, prepare: Preparer, batch_size: int, shuffle: bool, prefix: str = ""
) -> ArrayData | IterableData:
    """The batches of what a user gave."""
    if is_array_like(x):
        return ArrayData(prepare(x, y, weight, prefix), batch_size, shuffle)
    if isinstance(x, (str, bytes, dict)) or (not hasattr(x, "__iter__") and not hasattr(x, "__getitem__")):
        raise TypeError(f"[{op}] {prefix}x: expected an array or an iterable of batches, got {type(x).__name__}")
    for name, value in (("y", y), ("sample_weight", weight)):
        if value is not None:
            kind = type(value).__name__
            raise ValueError(f"[{op}] {prefix}{name}: expected None as x gives batches (x, y[, w]), got {kind}")
    return IterableData(x, prepare, shuffle)


class Stream:
    """Steps of epochs: whole passes, or so many steps that go on where the last epoch stopped (as in Keras)."""

    def __init__(self, op: str, data: ArrayData | IterableData, steps: int | None) -> None:
        self.op = op
        self.data = data
        self.steps = steps
        self._iterator: Iterator[Batch] | None = None

    def epoch(self) -> Iterator[Batch]:
        if self.steps is None:
            yield from self.data.batches()
            return
        for _ in range(self.steps):
            batch = self._next()
            if batch is None:
                return
            yield batch

    def _next(self) -> Batch | None:
        for _ in range(2):
            if self._iterator is None:
                self._iterator = self.data.batches()
            batch = next(self._iterator, None)
            if batch is not None:
                return batch
            if not self.data.endless():
                return None
            self._iterator = None
        return None


def split(op: str, x: Any, y: Any, weight: Any, fraction: float) -> tuple[tuple[Any, Any, Any], tuple[Any, Any, Any]]:
    """The first samples for training and the last `fraction` of them for validation, before any shuffling."""
    if not is_array_like(x):
        raise ValueError(f"[{op}] validation_split: expected 0 where x gives batches, got {fraction}")
    given = (("x", x), ("y", y), ("sample_weight", weight))
    arrays = [None if a is None else as_array(op, name, a) for name, a in given]
    count = len(arrays[0])  # type: ignore[arg-type]
    for name, a in zip(("y", "sample_weight"), arrays[1:], strict=True):
        if a is not None and len(a) != count:
            raise ValueError(f"[{op}] {name}: expected as many samples as x ({count}), got {len(a)}")
    at = math.floor(count * (1.0 - fraction))
    if not 0 < at < count:
        raise ValueError(
            f"[{op}] validation_split: expected a fraction that leaves samples on both sides, got {fraction} of {count}"
        )
    first, last = ([None if a is None else a[part] for a in arrays] for part in (slice(None, at), slice(at, None)))
    return tuple(first), tuple(last)  # type: ignore[return-value]
