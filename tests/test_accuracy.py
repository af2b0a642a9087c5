"""Error bounds of the kernels' own exp, sigmoid and tanh against long double, on a fine grid, for every ISA."""

import numpy as np
import pytest

from fastrnn import functional as F
from fastrnn import runtime

ISAS = runtime.available_isas()
DTYPES = (np.float32, np.float64)


def exact(x: np.ndarray, name: str) -> np.ndarray:
    wide = x.astype(np.longdouble)
    return {"exponential": np.exp, "tanh": np.tanh, "sigmoid": lambda v: 1 / (1 + np.exp(-v))}[name](wide)


def grid(dtype: type, top: float) -> np.ndarray:
    small = np.logspace(-8, 1, 50_001)
    return np.concatenate([np.linspace(-top, top, 200_001), small, -small]).astype(dtype)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "top", "bounds"), [("sigmoid", 30, (1e-7, 2e-16)), ("tanh", 30, (1.6e-7, 3e-16))])
def test_absolute_error(name: str, top: float, bounds: tuple[float, float], dtype: type, isa: str) -> None:
    x = grid(dtype, top)
    with runtime.use_isa(isa):
        error = np.abs(F.activation(x, name).astype(np.longdouble) - exact(x, name))
    assert error.max() <= bounds[dtype == np.float64]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_tanh_is_accurate_near_zero(dtype: type, isa: str) -> None:
    x = grid(dtype, 30)
    x = x[x != 0]
    want = exact(x, "tanh")
    with runtime.use_isa(isa):
        error = np.abs(F.activation(x, "tanh").astype(np.longdouble) - want)
    assert (error / np.spacing(np.abs(want).astype(dtype))).max() <= 4


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_exp_relative_error(dtype: type, isa: str) -> None:
    x = grid(dtype, 85 if dtype == np.float32 else 700)
    want = exact(x, "exponential")
    with runtime.use_isa(isa):
        error = np.abs(F.activation(x, "exponential").astype(np.longdouble) - want) / want
    assert error.max() <= (2e-7 if dtype == np.float32 else 4e-16)


@pytest.mark.parametrize("isa", ISAS)
def test_limits(isa: str) -> None:
    for dtype, top in (np.float32, 110), (np.float64, 800):
        x = np.array([np.inf, np.finfo(dtype).max, top], dtype)
        zero, one = np.zeros(3, dtype), np.ones(3, dtype)
        with runtime.use_isa(isa):
            np.testing.assert_array_equal(F.activation(x, "exponential"), zero + np.inf)
            np.testing.assert_array_equal(F.activation(-x, "exponential"), zero)
            np.testing.assert_array_equal(F.activation(x, "tanh"), one)
            np.testing.assert_array_equal(F.activation(-x, "tanh"), -one)
            np.testing.assert_array_equal(F.activation(x, "sigmoid"), one)
            np.testing.assert_allclose(F.activation(-x, "sigmoid"), zero, atol=2e-38)
            for name in "exponential", "tanh", "sigmoid":
                assert np.isnan(F.activation(np.array([np.nan], dtype), name))
