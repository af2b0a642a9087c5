"""The settings of the C++ core a test runs under: instruction set and number of threads. Shared; no tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from fastrnn import runtime

ISAS: list[str] = list(runtime.available_isas())
SIZES = (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 97)  # around the widths of vectors and register tiles
TOLERANCE = {np.float64: 1e-12, np.float32: 1e-5}

each_isa = pytest.mark.parametrize("isa", ISAS)
each_dtype = pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda d: d.__name__)


@contextmanager
def core(isa: str, threads: int = 1) -> Iterator[None]:
    """Run the body with kernels of this instruction set on this many threads."""
    with runtime.use_isa(isa), runtime.num_threads(threads):
        yield
