"""What an Embedding hands to a layer that works once per distinct token, and what it gets back for a gradient.

`Tokens` stands for the array embedding(ids): any layer that does not know it gets that array by `numpy.asarray`. One
that knows it looks at `index`, the distinct tokens, and may project each of them once instead of every position.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

from .. import functional as F
from .variable import Array

# Costs in operations of a product, measured on AVX-512 with one thread; narrower vectors make products dearer.
_ADD, _ADD_FAR = 14.0, 60.0  # one value of the table of projections, read from anywhere; if the table is large
_LARGE = 8 << 20  # bytes of a table that leaves the caches
_PLACE, _COUNT = 500.0, 300.0  # one position, and one word of the vocabulary, in the counting sort


class Tokens:
    """embedding(ids), not looked up yet: ids (B, ...) of integers, table (V, E)."""

    def __init__(self, ids: Array, table: Array) -> None:
        self.ids = ids
        self.table = table
        self.shape: tuple[int, ...] = (*ids.shape, table.shape[1])
        self.ndim = len(self.shape)
        self.dtype = table.dtype

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def index(self) -> F.TokenIndex:
        return F.token_index(self.ids, len(self.table))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("[Tokens] copy: expected None or True (the array is made now), got False")
        y: Array = F.embedding(self.ids, self.table)
        return y if dtype is None else y.astype(dtype, copy=False)

    def worth_projecting(self, products: int, width: int) -> bool:
        """Is a product with (E, width) weights cheaper once per distinct token, with one addition of a row of `width`
        values per position after it, than at `products` positions?"""
        positions, (vocabulary, features) = self.ids.size, self.table.shape

        def pays(distinct: int) -> bool:
            add = _ADD if distinct * width * self.dtype.itemsize <= _LARGE else _ADD_FAR
            saved = 2.0 * features * width * (products - distinct)
            return bool(saved > positions * (add * width + _PLACE) + vocabulary * _COUNT)

        # looking for the distinct tokens has a price too
        return positions < 2**31 and pays(1) and pays(len(self.index))


class TokenGradient(NamedTuple):
    """The gradient of `Tokens`: that of its table (V, E), all positions of a token summed."""

    table: Array
