"""Other libraries order the gates differently."""

from __future__ import annotations

import numpy as np

from bench.cases import Array


def permute(value: Array, order: tuple[int, ...]) -> Array:
    """Gates (blocks of rows) in another order: block k of the result is block order[k] of the value."""
    return np.concatenate([np.split(value, len(order))[gate] for gate in order])


def unpermute(value: Array, order: tuple[int, ...]) -> Array:
    """The inverse of `permute`."""
    return permute(value, tuple(int(gate) for gate in np.argsort(order)))
