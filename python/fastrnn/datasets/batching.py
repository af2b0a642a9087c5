"""Sequences of different lengths: `Ragged` (one flat array plus offsets) and Keras's `pad_sequences`.

Not a batch iterator: batches are cut by the training loop out of the padded matrix made here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

_SIDES = ("pre", "post")


class Ragged:
    """N sequences of integers in one array.

    tokens: (total,) integers, all sequences behind one another.
    offsets: (N + 1,) int64, sequence i is tokens[offsets[i]:offsets[i + 1]]; from 0 to total, never decreasing.
    Raises ValueError if they do not fit each other, TypeError if they are not integers.
    """

    __slots__ = ("offsets", "tokens")

    def __init__(self, tokens: ArrayLike, offsets: ArrayLike) -> None:
        self.tokens: NDArray[Any] = np.asarray(tokens)
        raw_offsets = np.asarray(offsets)
        if self.tokens.ndim != 1 or (self.tokens.size and self.tokens.dtype.kind not in "iu"):
            raise TypeError(
                f"[Ragged] tokens: expected a flat array of integers, got {self.tokens.dtype} {self.tokens.shape}"
            )
        if raw_offsets.ndim != 1 or raw_offsets.dtype.kind not in "iu" or raw_offsets.size < 1:
            raise TypeError(
                f"[Ragged] offsets: expected N + 1 >= 1 integers, got {raw_offsets.dtype} {raw_offsets.shape}"
            )
        self.offsets: NDArray[np.int64] = raw_offsets.astype(np.int64, copy=False)
        if self.offsets[0] != 0 or self.offsets[-1] != self.tokens.size or np.any(np.diff(self.offsets) < 0):
            raise ValueError(
                f"[Ragged] offsets: expected to rise from 0 to {self.tokens.size}, "
                f"got {int(self.offsets[0])} .. {int(self.offsets[-1])}"
            )

    @classmethod
    def from_lengths(cls, tokens: ArrayLike, lengths: ArrayLike) -> Ragged:
        """From the flat tokens and the length of every sequence."""
        offsets = np.concatenate(([0], np.cumsum(np.asarray(lengths, dtype=np.int64))))
        return cls(tokens, offsets)

    @classmethod
    def from_lists(cls, sequences: Sequence[Sequence[int]]) -> Ragged:
        """From Python lists (or arrays) of integers."""
        rows = [np.asarray(row, dtype=np.int32) for row in sequences]
        tokens = np.concatenate(rows) if rows else np.zeros(0, np.int32)
        return cls.from_lengths(tokens, [row.size for row in rows])

    def __len__(self) -> int:
        return self.offsets.size - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) number of tokens of every sequence."""
        return np.diff(self.offsets)

    @overload
    def __getitem__(self, key: int) -> NDArray[Any]: ...
    @overload
    def __getitem__(self, key: slice | ArrayLike) -> Ragged: ...
    def __getitem__(self, key: Any) -> NDArray[Any] | Ragged:
        """An integer gives one sequence (a view); a slice, an index array or a boolean array gives a Ragged."""
        if isinstance(key, (int, np.integer)):
            index = int(key) + (len(self) if key < 0 else 0)
            if not 0 <= index < len(self):
                raise IndexError(f"[Ragged] index: expected -{len(self)} .. {len(self) - 1}, got {key}")
            return self.tokens[self.offsets[index] : self.offsets[index + 1]]
        chosen = np.arange(len(self))[key]
        lengths = self.lengths[chosen]
        pieces = [self.tokens[a:b] for a, b in zip(self.offsets[chosen], self.offsets[chosen + 1], strict=True)]
        return Ragged.from_lengths(np.concatenate(pieces) if pieces else self.tokens[:0], lengths)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        bounds = self.offsets.tolist()
        return (self.tokens[a:b] for a, b in pairwise(bounds))

    def keep(self, wanted: NDArray[np.bool_]) -> Ragged:
        """Without the tokens where `wanted` (total,) is False."""
        before = np.concatenate(([0], np.cumsum(wanted, dtype=np.int64)))
        return Ragged(self.tokens[wanted], before[self.offsets])

    def lookup(self, table: NDArray[Any]) -> Ragged:
        """Every token t replaced by table[t]; ValueError if one lies outside the table."""
        if self.tokens.size and (self.tokens.min() < 0 or self.tokens.max() >= len(table)):
            raise ValueError(
                f"[Ragged] tokens: expected 0 .. {len(table) - 1}, "
                f"got {int(self.tokens.min())} .. {int(self.tokens.max())}"
            )
        return Ragged(table[self.tokens], self.offsets)

    def prepend(self, token: int) -> Ragged:
        """With `token` in front of every sequence."""
        return Ragged(np.insert(self.tokens, self.offsets[:-1], token), self.offsets + np.arange(self.offsets.size))

    def to_lists(self) -> NDArray[np.object_]:
        """(N,) object array of Python lists, the form in which Keras hands out its text corpora."""
        rows = np.empty(len(self), dtype=object)
        tokens: NDArray[Any] = self.tokens
        low, high = int(tokens.min(initial=0)), int(tokens.max(initial=0))
        if high - low < tokens.size:
            # one int object per value, shared by all lists: a third of the memory, and faster than making each anew
            tokens = np.arange(low, high + 1).astype(object)[tokens - low]
        for i, (start, end) in enumerate(pairwise(self.offsets.tolist())):
            rows[i] = tokens[start:end].tolist()
        return rows


def _side(value: str, name: str) -> str:
    if value not in _SIDES:
        raise ValueError(f"[pad_sequences] {name}: expected 'pre' or 'post', got {value!r}")
    return value


def pad_sequences(
    sequences: Ragged | Sequence[Any] | NDArray[Any],
    maxlen: int | None = None,
    dtype: DTypeLike = "int32",
    padding: str = "pre",
    truncating: str = "pre",
    value: Any = 0.0,
) -> NDArray[Any]:
    """One row per sequence, all of length `maxlen` (default: the longest), as Keras does it.

    sequences: N sequences of numbers, or of vectors of one shape, or a Ragged.
    padding, truncating: "pre" or "post", the side where `value` is added and where too long sequences are cut.
    Returns (N, maxlen) or (N, maxlen, ...) of `dtype`. Raises ValueError for sequences of differing shapes,
    a bad side or a negative maxlen, TypeError where something is not a sequence.
    """
    pad_pre = _side(padding, "padding") == "pre"
    cut_pre = _side(truncating, "truncating") == "pre"
    if maxlen is not None:
        if isinstance(maxlen, bool) or not isinstance(maxlen, (int, np.integer)):
            raise TypeError(f"[pad_sequences] maxlen: expected an integer or None, got {maxlen!r}")
        if maxlen < 0:
            raise ValueError(f"[pad_sequences] maxlen: expected >= 0, got {maxlen}")
    if isinstance(sequences, (str, bytes)) or not hasattr(sequences, "__len__"):
        raise TypeError(f"[pad_sequences] sequences: expected a list of sequences, got {type(sequences).__name__}")
    lengths: list[int] = []
    sample_shape: tuple[int, ...] | None = None
    if isinstance(sequences, Ragged):
        lengths, sample_shape = sequences.lengths.tolist(), ()
    else:
        for i, row in enumerate(sequences):
            if isinstance(row, (str, bytes)) or not hasattr(row, "__len__"):
                raise TypeError(f"[pad_sequences] sequences[{i}]: expected a sequence, got {type(row).__name__}")
            lengths.append(len(row))
            if lengths[-1] and sample_shape is None:
                sample_shape = np.shape(row[0])
    width = max(lengths, default=0) if maxlen is None else int(maxlen)
    kind = np.dtype(dtype)
    if isinstance(value, str) and kind.kind not in "USO":
        raise ValueError(f"[pad_sequences] value: expected a number for dtype {kind}, got {value!r}")
    out = np.full((len(lengths), width, *(sample_shape or ())), value, dtype=kind)
    if width == 0:
        return out
    for i, row in enumerate(sequences):
        if not lengths[i]:
            continue
        piece = row[-width:] if cut_pre else row[:width]
        target = out[i, -len(piece) :] if pad_pre else out[i, : len(piece)]
        try:
            filled = np.asarray(piece, dtype=kind)
        except (ValueError, TypeError, OverflowError) as error:
            raise ValueError(f"[pad_sequences] sequences[{i}]: expected values of dtype {kind}: {error}") from None
        if filled.shape != target.shape:
            raise ValueError(
                f"[pad_sequences] sequences[{i}]: expected steps of shape {sample_shape}, got {filled.shape[1:]}"
            )
        target[...] = filled
    return out
