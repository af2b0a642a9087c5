"""The C++ core against the NumPy reference for everything that is not recurrent: linear, convolution, pooling,
embedding, softmax, attention, dropout, hold_last, activations, optimiser updates. Every instruction set and precision,
and bitwise equality for one and two threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_settings import ISAS, SIZES, TOLERANCE, core, each_dtype, each_isa
from fastrnn import activations, functional, reference
from rnn_cases import assert_close, assert_same


def as_dict(result: Any) -> dict[str, Any]:
    values = result if isinstance(result, tuple) else (result,)
    return {str(index): value for index, value in enumerate(values)}


def double(value: Any) -> Any:
    return value.astype(np.float64) if isinstance(value, np.ndarray) and value.dtype == np.float32 else value


def check(isa: str, dtype: Any, name: str, *arguments: Any, tolerance: float = 1.0, **options: Any) -> Any:
    """One function: one thread = reference in float64, two threads = one bit for bit. -> the result."""
    expected = as_dict(getattr(reference, name)(*map(double, arguments), **{k: double(v) for k, v in options.items()}))
    with core(isa, 1):
        result = getattr(functional, name)(*arguments, **options)
    context = (name, [a.shape if isinstance(a, np.ndarray) else a for a in arguments], options)
    assert_close(as_dict(result), expected, tolerance * TOLERANCE[dtype], context)
    for key, value in as_dict(result).items():
        wanted = expected[key]
        if value is not None:
            assert value.dtype == (wanted.dtype if wanted.dtype.kind == "i" else dtype), context
    with core(isa, 2):
        assert_same(as_dict(getattr(functional, name)(*arguments, **options)), as_dict(result), context)
    return result


def normal(rng: np.random.Generator, dtype: Any, *shape: int) -> Any:
    return rng.normal(size=shape).astype(dtype)


def strided(array: Any) -> Any:
    """The same numbers in a view whose last axis is not contiguous."""
    big = np.full([2 * n for n in array.shape], np.nan if array.dtype.kind == "f" else 1, array.dtype)
    view = big[tuple(slice(1, None, 2) for _ in array.shape)]
    view[...] = array
    return view


# --- activations ---------------------------------------------------------------------------------------------------

SPECS = [*activations.NAMES, ("hard_sigmoid", 0.2, 0.4), ("elu", 0.3), ("scaled_tanh", 1.3, 0.7), ("affine", 2, -1)]


@each_isa
@each_dtype
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_activation(spec: Any, dtype: Any, isa: str) -> None:
    rng = np.random.default_rng(1)
    for size in SIZES:
        x = 3 * normal(rng, dtype, 3, size)
        check(isa, dtype, "activation", x, spec)
        check(isa, dtype, "activation_backward", x, normal(rng, dtype, 3, size), spec)
    check(isa, dtype, "activation", strided(x), spec)
    check(isa, dtype, "activation", x[0, 0, ...], spec)  # an array of no axes
    check(isa, dtype, "activation", np.empty((0, 3), dtype), spec)


@each_isa
@each_dtype
@pytest.mark.parametrize("name", ["tanh", "sigmoid", "softplus", "gelu", "silu", "elu", "exponential", "softsign"])
def test_activation_point_by_point(name: str, dtype: Any, isa: str) -> None:
    """Over the whole useful range, each value on its own scale: small arguments must not lose their digits."""
    rng = np.random.default_rng(1)
    x = np.concatenate([np.linspace(-30, 30, 20001), rng.normal(size=5000) * 10.0 ** -rng.integers(0, 7, 5000), [0.0]])
    x = x.astype(dtype)
    with core(isa):
        y = functional.activation(x, name)
    expected = reference.activation(double(x), name)
    absolute = np.abs(double(y) - expected)
    bound = 4e-7 if dtype == np.float32 else 1e-14
    if name == "exponential":  # 2^(x log2 e) with the product rounded once: the relative error grows with |x|
        bound = bound * np.maximum(1.0, np.abs(double(x)) / 4)
    assert (absolute <= bound * np.maximum(1.0, np.abs(expected))).all()
    if name in ("tanh", "softsign", "elu"):  # f(x) ~ x near 0
        small = (np.abs(x) < 0.1) & (x != 0)
        relative = absolute[small] / np.abs(expected[small])
        assert relative.max() <= (3e-6 if dtype == np.float32 else 1e-12)


@each_isa
@each_dtype
@pytest.mark.parametrize("name", activations.NAMES)
def test_activation_extremes(name: str, dtype: Any, isa: str) -> None:
    x = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 0.0, -0.0] * 5, dtype)
    with np.errstate(all="ignore"):
        expected = reference.activation(double(x), name).astype(dtype)
    with core(isa):
        y = functional.activation(x, name)
    assert np.isnan(y[::7]).all(), "NaN must pass"
    known = ~np.isnan(expected)
    finite = np.isfinite(expected) & (np.abs(double(expected)) < 1e20)
    np.testing.assert_array_equal(np.isnan(y[known]), False)
    np.testing.assert_allclose(y[finite], expected[finite], atol=TOLERANCE[dtype])


# --- linear --------------------------------------------------------------------------------------------------------


def check_linear(isa: str, dtype: Any, shape: tuple[int, ...], O: int, spec: Any, bias: bool, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    I = shape[-1]
    x, weight = normal(rng, dtype, *shape), normal(rng, dtype, O, I) / dtype(np.sqrt(I + 1))
    b = normal(rng, dtype, O) if bias else None
    y = check(isa, dtype, "linear", x, weight, b, activation=spec)
    grad_y = normal(rng, dtype, *y.shape)
    options: dict[str, Any] = {"activation": spec, "has_bias": bias}
    check(isa, dtype, "linear_backward", x, weight, y, grad_y, **options)
    check(isa, dtype, "linear_backward", x, weight, y, grad_y, need_grad_x=False, **options)


@each_isa
@each_dtype
@pytest.mark.parametrize("dimension", range(3))
@pytest.mark.parametrize("size", SIZES)
def test_linear_sizes(size: int, dimension: int, dtype: Any, isa: str) -> None:
    rng = np.random.default_rng([size, dimension])
    extents = [int(n) for n in rng.choice(SIZES, 3)]
    extents[dimension] = size
    check_linear(isa, dtype, (extents[0], extents[1]), extents[2], "linear", bool(rng.integers(2)))


@each_isa
@each_dtype
@pytest.mark.parametrize("spec", sorted(activations.FUSED))
def test_linear_activations(spec: str, dtype: Any, isa: str) -> None:
    check_linear(isa, dtype, (9, 7), 19, spec, True)


@each_isa
@each_dtype
def test_linear_shapes(dtype: Any, isa: str) -> None:
    for shape, O in [((5,), 3), ((2, 3, 4, 5), 6), ((0, 5), 3), ((4, 0, 5), 2), ((700, 130), 65), ((1, 900), 700)]:
        check_linear(isa, dtype, shape, O, "tanh", True)
    rng = np.random.default_rng(0)
    x, weight, bias = normal(rng, dtype, 6, 5, 9), normal(rng, dtype, 11, 9), normal(rng, dtype, 11)
    expected = reference.linear(x, weight, bias)
    with core(isa):
        for change in (strided, np.asfortranarray, lambda a: np.flip(np.flip(a).copy())):
            actual = functional.linear(change(x), change(weight), change(bias))
            assert_close({"y": actual}, {"y": expected}, TOLERANCE[dtype])


@each_isa
@each_dtype
@pytest.mark.parametrize(
    ("rows", "I", "O"),
    [
        (0, 256, 256),
        (1, 256, 257),
        (13, 257, 256),
        (97, 1024, 70),
        (1100, 130, 520),
        (2, 1, 66000),
        (3, 66000, 1),
        (60, 7, 9400),
    ],
    ids=str,
)
def test_linear_with_large_weights(rows: int, I: int, O: int, dtype: Any, isa: str) -> None:
    """Groups of columns, blocks and chunks of rows, and what is left of each."""
    check_linear(isa, dtype, (rows, I), O, "tanh", bias=I != 257)
    rng = np.random.default_rng(1)
    x, weight = normal(rng, dtype, rows, I), normal(rng, dtype, O, I) / dtype(np.sqrt(I))
    check(isa, dtype, "linear", x, np.asfortranarray(weight))
    y = grad_y = normal(rng, dtype, rows, O)
    check(isa, dtype, "linear_backward", x, np.asfortranarray(weight), y, grad_y)


@each_isa
@each_dtype
def test_conv1d_of_one_tap_with_large_weights(dtype: Any, isa: str) -> None:
    check_conv1d(isa, dtype, (3, 41, 270, 260), 1, {})


# --- conv1d --------------------------------------------------------------------------------------------------------


def check_conv1d(
    isa: str, dtype: Any, extents: tuple[int, ...], K: int, options: dict[str, Any], bias: bool = True, seed: int = 0
) -> None:
    rng = np.random.default_rng(seed)
    B, T, C, F = extents
    x, weight = normal(rng, dtype, B, T, C), normal(rng, dtype, F, C, K) / dtype(np.sqrt(C * K))
    b = normal(rng, dtype, F) if bias else None
    y = check(isa, dtype, "conv1d", x, weight, b, **options)
    grad_y = normal(rng, dtype, *y.shape)
    check(isa, dtype, "conv1d_backward", x, weight, y, grad_y, has_bias=bias, **options)
    check(isa, dtype, "conv1d_backward", x, weight, y, grad_y, has_bias=bias, need_grad_x=False, **options)
    check(isa, dtype, "conv1d", strided(x), weight.transpose(2, 1, 0).copy().transpose(2, 1, 0), b, **options)


@each_isa
@each_dtype
@pytest.mark.parametrize("padding", ["valid", "same", "causal"])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (3, 1), (1, 2), (1, 3), (2, 2)])
@pytest.mark.parametrize("K", [1, 2, 3, 7])
def test_conv1d(K: int, stride: int, dilation: int, padding: str, dtype: Any, isa: str) -> None:
    options = {"stride": stride, "dilation": dilation, "padding": padding}
    check_conv1d(isa, dtype, (3, 23, 5, 9), K, options)
    check_conv1d(isa, dtype, (1, (K - 1) * dilation + 1, 17, 33), K, options, bias=False)


@each_isa
@each_dtype
@pytest.mark.parametrize("dimension", range(4))
@pytest.mark.parametrize("size", SIZES)
def test_conv1d_sizes(size: int, dimension: int, dtype: Any, isa: str) -> None:
    rng = np.random.default_rng([size, dimension, 7])
    extents = [int(n) for n in rng.choice(SIZES[:10], 4)]
    extents[dimension] = size
    padding = ["same", "causal"][rng.integers(2)]
    check_conv1d(isa, dtype, tuple(extents), int(rng.integers(1, 6)), {"padding": padding, "activation": "relu"})


@each_isa
@each_dtype
@pytest.mark.parametrize("spec", sorted(activations.FUSED))
def test_conv1d_activations(spec: str, dtype: Any, isa: str) -> None:
    check_conv1d(isa, dtype, (3, 12, 5, 18), 3, {"activation": spec})


@each_isa
def test_conv1d_large(isa: str) -> None:
    check_conv1d(isa, np.float32, (16, 120, 32, 32), 7, {"activation": "relu"})


# --- pooling -------------------------------------------------------------------------------------------------------


@each_isa
@each_dtype
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("pool_size", "stride"), [(1, None), (2, None), (5, None), (3, 1), (3, 2), (2, 3), (7, 4)])
def test_local_pooling(pool_size: int, stride: int | None, padding: str, dtype: Any, isa: str) -> None:
    rng = np.random.default_rng(1)
    for B, T, F in [(2, 7, 1), (3, 23, 17), (1, 14, 33), (40, 50, 32)]:
        x = normal(rng, dtype, B, T, F) - dtype(5)  # zeros of the padding must not win
        y, indices = check(isa, dtype, "max_pool1d", x, pool_size, stride, padding)
        grad_y = normal(rng, dtype, *y.shape)
        check(isa, dtype, "max_pool1d_backward", indices, grad_y, T)
        check(isa, dtype, "avg_pool1d", x, pool_size, stride, padding)
        check(isa, dtype, "avg_pool1d_backward", grad_y, T, pool_size, stride, padding)
        check(isa, dtype, "max_pool1d", strided(x), pool_size, stride, padding)
        check(isa, dtype, "avg_pool1d", strided(x), pool_size, stride, padding)


@each_isa
def test_equal_values_give_the_first_index(isa: str) -> None:
    x = np.zeros((2, 9, 20), np.float32)
    check(isa, np.float32, "max_pool1d", x, 3)
    check(isa, np.float32, "global_max_pool1d", x)


@each_isa
@each_dtype
@pytest.mark.parametrize("masked", [False, True])
def test_global_pooling_attention_and_hold_last(masked: bool, dtype: Any, isa: str) -> None:
    rng = np.random.default_rng(1)
    for B, T, F in [(1, 1, 1), (3, 7, 17), (5, 23, 33), (4, 9, 8), (33, 60, 40)]:
        x = normal(rng, dtype, B, T, F) - dtype(5)
        mask = rng.random((B, T)) < 0.6 if masked else None
        if mask is not None:
            mask[B // 2] = False
            x[~mask] = np.nan  # never read
        _, indices = check(isa, dtype, "global_max_pool1d", x, mask)
        grad_y = normal(rng, dtype, B, F)
        check(isa, dtype, "global_max_pool1d_backward", indices, grad_y, T)
        check(isa, dtype, "global_avg_pool1d", x, mask)
        check(isa, dtype, "global_avg_pool1d_backward", grad_y, T, mask)
        scores = 3 * normal(rng, dtype, B, T)
        _, weights = check(isa, dtype, "attention_pool", x, scores, mask)
        check(isa, dtype, "attention_pool_backward", x, weights, grad_y)
        check(isa, dtype, "global_max_pool1d", strided(x), mask)
        check(isa, dtype, "attention_pool", strided(x), strided(scores), mask)
        if mask is not None:
            check(isa, dtype, "hold_last", x, mask)
            check(isa, dtype, "hold_last", strided(x), strided(mask))
            check(isa, dtype, "hold_last_backward", normal(rng, dtype, B, T, F), mask)


@each_isa
@each_dtype
def test_softmax(dtype: Any, isa: str) -> None:
    rng = np.random.default_rng(1)
    for N in SIZES:
        x = 5 * normal(rng, dtype, 7, N)
        mask = rng.random((7, N)) < 0.6
        mask[0] = False
        for m in (None, mask):
            y = check(isa, dtype, "softmax", x, m)
            check(isa, dtype, "softmax_backward", y, normal(rng, dtype, 7, N))
    check(isa, dtype, "softmax", np.array([[1e30, 1e30, -1e30], [-1e30, -2e30, -1e30]], dtype))
    check(isa, dtype, "softmax", normal(rng, dtype, 2, 3, 4, 5))
    check(isa, dtype, "softmax", normal(rng, dtype, 6))
    check(isa, dtype, "softmax", strided(normal(rng, dtype, 5, 6)))


# --- embedding -----------------------------------------------------------------------------------------------------


@each_isa
@each_dtype
@pytest.mark.parametrize("index", [np.int64, np.int32, np.uint8], ids=lambda d: d.__name__)
def test_embedding(index: Any, dtype: Any, isa: str) -> None:
    rng = np.random.default_rng(1)
    for shape, V, E in [((3, 5), 11, 1), ((4, 30), 7, 17), ((2, 3, 4), 200, 32), ((60, 90), 250, 33), ((), 4, 3)]:
        ids, weight = rng.integers(0, V, size=shape).astype(index), normal(rng, dtype, V, E)
        np.testing.assert_array_equal(check(isa, dtype, "embedding", ids, weight), weight[ids])
        check(isa, dtype, "embedding_backward", ids, normal(rng, dtype, *shape, E), V)
    check(isa, dtype, "embedding", rng.integers(0, 5, (4, 6))[::2, ::-1], strided(normal(rng, dtype, 5, 8)))
    check(isa, dtype, "embedding", np.zeros((2, 0), index), weight)


# --- dropout -------------------------------------------------------------------------------------------------------


@each_isa
@each_dtype
def test_dropout(dtype: Any, isa: str) -> None:
    shape = (37, 101, 33)
    x = np.full(shape, dtype(2))
    with core(isa):
        for rate in (0.1, 0.5, 0.9):
            y = functional.dropout(x, rate, 7)
            values = np.unique(y)
            assert y.dtype == dtype and len(values) == 2 and values[0] == 0
            assert values[1] == pytest.approx(2 / (1 - rate), rel=1e-6)
            n = y.size
            assert abs((y == 0).mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / n)
            # no pattern along any axis
            for axis in range(3):
                means = (y == 0).mean(axis=tuple(a for a in range(3) if a != axis))
                assert np.abs(means - rate).max() < 6 * np.sqrt(rate * (1 - rate) * shape[axis] / n)
        first, second = (functional.dropout(x, 0.5, seed) == 0 for seed in (7, 8))
        assert abs((first & second).mean() - 0.25) < 0.01, "neighbouring seeds must be independent"
        shifted = (first.ravel()[1:] & first.ravel()[:-1]).mean()
        assert abs(shifted - 0.25) < 0.01, "neighbours must be independent"
        np.testing.assert_array_equal(functional.dropout(x, 0.0, 7), x)
        for seed in (0, 2**31, 2**63 - 1):
            assert 0.45 < (functional.dropout(x, 0.5, seed) == 0).mean() < 0.55


@each_isa
@each_dtype
def test_dropout_repeats_itself(dtype: Any, isa: str) -> None:
    rng = np.random.default_rng(0)
    x = normal(rng, dtype, 23, 45, 17)
    with core(isa, 1):
        y = functional.dropout(x, 0.3, 11)
        mask = functional.dropout_mask(x.shape, 0.3, 11, dtype)
        np.testing.assert_array_equal(functional.dropout(np.ones_like(x), 0.3, 11), mask)
        np.testing.assert_allclose(y, x * mask, rtol=1e-6)
        np.testing.assert_array_equal(functional.dropout(strided(x), 0.3, 11), y)
    with core(isa, 2):
        np.testing.assert_array_equal(functional.dropout(x, 0.3, 11), y)
        np.testing.assert_array_equal(functional.dropout_mask(x.shape, 0.3, 11, dtype), mask)


@each_isa
@each_dtype
@pytest.mark.parametrize("axes", [(1,), (0,), (0, 1), (-2,), (2,)], ids=str)
def test_dropout_is_constant_along_broadcast_axes(axes: tuple[int, ...], dtype: Any, isa: str) -> None:
    x = np.ones((19, 11, 47), dtype)
    with core(isa):
        y = functional.dropout(x, 0.4, 3, broadcast_axes=axes)
    first = y[tuple(slice(0, 1) if a in {ax % 3 for ax in axes} else slice(None) for a in range(3))]
    np.testing.assert_array_equal(y, np.broadcast_to(first, x.shape))
    spread = np.sqrt(0.24 / first.size)
    assert abs((first == 0).mean() - 0.4) < 5 * spread and len(np.unique(first)) == 2


@each_isa
def test_dropout_is_the_same_in_both_precisions_and_every_isa(isa: str) -> None:
    with core(isa):
        single = functional.dropout_mask((9, 31), 0.5, 5, np.float32) == 0
        np.testing.assert_array_equal(functional.dropout_mask((9, 31), 0.5, 5, np.float64) == 0, single)


# --- optimisers ----------------------------------------------------------------------------------------------------

UPDATES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "sgd": ("sgd_update", 0, {"lr": 0.1, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0}),
    "sgd-decay": ("sgd_update", 0, {"lr": 0.1, "momentum": 0.0, "nesterov": False, "weight_decay": 0.1}),
    "sgd-momentum": ("sgd_update", 1, {"lr": 0.1, "momentum": 0.9, "nesterov": False, "weight_decay": 0.1}),
    "sgd-nesterov": ("sgd_update", 1, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.0}),
    "rmsprop": ("rmsprop_update", 1, {"lr": 0.01, "rho": 0.9, "momentum": 0.0, "eps": 1e-3, "weight_decay": 0.1}),
    "rmsprop-all": ("rmsprop_update", 3, {"lr": 0.01, "rho": 0.8, "momentum": 0.5, "eps": 1e-3, "weight_decay": 0.0}),
    "adam": ("adam_update", 2, {"lr": 0.01, "beta1": 0.9, "beta2": 0.99, "eps": 1e-5, "weight_decay": 0.1}),
    "amsgrad": ("adam_update", 3, {"lr": 0.01, "beta1": 0.8, "beta2": 0.9, "eps": 1e-5, "weight_decay": 0.0}),
}
SLOTS = {"sgd_update": 1, "rmsprop_update": 3, "adam_update": 3}


@each_isa
@each_dtype
@pytest.mark.parametrize("update", UPDATES)
def test_optimizers(update: str, dtype: Any, isa: str) -> None:
    name, used, options = UPDATES[update]
    rng = np.random.default_rng(1)
    for shape in [(n,) for n in SIZES] + [(7, 11), (200, 300)]:
        start = normal(rng, dtype, *shape)
        gradients = [normal(rng, dtype, *shape) for _ in range(3)]

        def follow(
            update_in_place: Callable[..., Any], as_type: Any, start: Any = start, gradients: Any = gradients
        ) -> dict[str, Any]:
            slots = [np.zeros(start.shape, as_type) if k < used else None for k in range(SLOTS[name])]
            p = start.astype(as_type)
            for step, gradient in enumerate(gradients, 1):
                extra = {"step": step} if name == "adam_update" else {}
                update_in_place(p, gradient.astype(as_type), *slots, **options, **extra)
            return {"param": p, **{str(k): s for k, s in enumerate(slots)}}

        with core(isa, 1):
            one = follow(getattr(functional, name), dtype)
        assert_close(one, follow(getattr(reference, name), np.float64), 2 * TOLERANCE[dtype], shape)
        with core(isa, 2):
            assert_same(follow(getattr(functional, name), dtype), one)


# --- random shapes -------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.data())
def test_random_convolutions_and_pools(data: Any) -> None:
    dtype, isa = data.draw(st.sampled_from([np.float32, np.float64])), data.draw(st.sampled_from(ISAS))
    B, T, C, F = (data.draw(st.integers(1, n)) for n in (6, 40, 20, 40))
    padding = data.draw(st.sampled_from(["valid", "same", "causal"]))
    stride, K = data.draw(st.integers(1, 4)), data.draw(st.integers(1, min(T, 6)))
    dilation = data.draw(st.integers(1, 3)) if (K - 1) * 3 < T else 1
    options = {"stride": stride, "dilation": dilation, "padding": padding, "activation": "tanh"}
    check_conv1d(isa, dtype, (B, T, C, F), K, options, seed=data.draw(st.integers(0, 1000)))
    if padding != "causal":
        x = normal(np.random.default_rng(0), dtype, B, T, C)
        y, indices = check(isa, dtype, "max_pool1d", x, K, stride, padding)
        check(isa, dtype, "max_pool1d_backward", indices, y, T)
        check(isa, dtype, "avg_pool1d", x, K, stride, padding)
        check(isa, dtype, "avg_pool1d_backward", y, T, K, stride, padding)
