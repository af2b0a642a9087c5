"""erf on arrays, against math.erf: the bounds that its docstring states."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

from fastrnn.onnx.erf import erf

RNG = np.random.default_rng(0)
NUMBERS = np.concatenate([
    RNG.normal(0, 2, 100_000), RNG.uniform(-0.02, 0.02, 50_000), RNG.uniform(5.5, 6.5, 10_000),
    RNG.choice([-1, 1], 50_000) * 10 ** RNG.uniform(-307, 300, 50_000),
    np.arange(-800, 801) / 128, (np.arange(-800, 800) + 0.5) / 128,  # on the points, and half-way between
])  # fmt: skip


@pytest.mark.parametrize(("dtype", "bound"), [(np.float64, 1e-15), (np.float32, 1e-7), (np.float16, 5e-4)])
def test_bounds(dtype: Any, bound: float) -> None:
    with np.errstate(over="ignore"):
        x = NUMBERS.astype(dtype)
    expected = np.array([math.erf(v) for v in x.tolist()])
    actual = erf(x)
    assert actual.dtype == dtype
    normal = np.abs(expected) >= np.finfo(dtype).tiny
    assert np.count_nonzero(normal) > 150_000
    assert (np.abs(actual - expected)[normal] <= bound * np.abs(expected[normal])).all()
    # what is subnormal: within one of its steps
    assert (np.abs(actual - expected)[~normal] <= float(np.finfo(dtype).smallest_subnormal)).all()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_special_numbers(dtype: Any) -> None:
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 6.0, -7.0], dtype)
    actual = erf(x)
    np.testing.assert_array_equal(actual, [np.nan, 1, -1, 0, 0, 1, -1])
    assert np.signbit(actual).tolist()[3:5] == [False, True]


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (1,), (3, 4), (8191,), (2, 8192), (3, 5463)])
def test_shapes(shape: tuple[int, ...]) -> None:
    """Also transposed, and around the size of the blocks."""
    x = RNG.standard_normal(shape)
    before = x.copy()
    expected = np.array([math.erf(v) for v in x.ravel().tolist()]).reshape(shape)
    np.testing.assert_allclose(erf(x), expected, rtol=1e-15)
    np.testing.assert_allclose(erf(x.T), expected.T, rtol=1e-15)
    np.testing.assert_array_equal(x, before)


def test_integers() -> None:
    """ONNX allows them; what is left of the fraction is cut off."""
    x = np.array([-9, -1, 0, 1, 9], np.int32)
    np.testing.assert_array_equal(erf(x), np.array([-1, 0, 0, 0, 1], np.int32))
