"""token_index and token_conv1d against the NumPy reference and against conv1d of the looked-up embedding: every
instruction set and precision, one and two threads bit for bit, gradients in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_settings import ISAS, SIZES, TOLERANCE, core, each_dtype, each_isa
from fastrnn import functional as F
from fastrnn import reference

PADDINGS = ("valid", "same", "causal")


def check_index(ids: Any, V: int) -> None:
    index, expected = F.token_index(ids, V), reference.token_index(ids, V)
    assert index.shape == ids.shape and index.num_embeddings == V and len(index) == len(expected.tokens)
    for name in ("tokens", "inverse", "order", "start"):
        np.testing.assert_array_equal(getattr(index, name), getattr(expected, name), name)
        assert not getattr(index, name).flags.writeable


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32, np.uint32, np.int64, np.uint64])
def test_index(kind: Any) -> None:
    rng = np.random.default_rng(0)
    for V in (1, 2, 3, 50, 120):
        for shape in ((1,), (7,), (3, 5), (2, 64), (2, 3, 4)):
            check_index(rng.integers(0, V, shape).astype(kind), V)
    check_index(np.zeros((4, 9), kind), 3)  # one token
    check_index(np.full((4, 9), 2, kind), 3)
    check_index(np.arange(100).astype(kind), 100)  # all distinct
    check_index(np.empty((0, 5), kind), 7)
    check_index(rng.integers(0, 9, (6, 8)).astype(kind)[::2, ::-3], 9)  # strides


def test_index_keeps_runs_apart() -> None:
    check_index(np.repeat([3, 0, 3, 3, 1, 0, 0], [1, 5, 2, 7, 1, 1, 300]).reshape(1, -1), 5)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_index_by_threads(threads: int) -> None:
    rng = np.random.default_rng(0)
    with core(ISAS[0], threads):
        for V in (1, 17, 900, 40_000):
            ids = rng.integers(0, V, (40, 501)) * rng.integers(0, 2, (40, 501))
            check_index(ids, V)
        # the first mistake is named, whichever thread meets one first
        ids[39, 500] = ids[20, 0] = -7
        ids[3, 2] = 40_000
        with pytest.raises(ValueError, match=r"got 40000 at position 1505"):
            F.token_index(ids, 40_000)


@pytest.mark.parametrize(
    ("ids", "V", "error", "words"),
    [
        (np.array([0, 5]), 5, ValueError, r"\[token_index\] ids: expected values from 0 to 4, got 5 at position 1"),
        (np.array([-1, 0]), 5, ValueError, r"\[token_index\] ids: expected values from 0 to 4, got -1 at position 0"),
        (np.array([2**63], np.uint64), 5, ValueError, r"\[token_index\] ids: expected values"),
        (np.array([0]), 0, ValueError, r"\[token_index\] ids: expected values"),
        (np.array([0.0]), 5, TypeError, r"\[token_index\] ids: expected an integer dtype, got float64"),
        (np.array([0]), -1, ValueError, r"\[token_index\] num_embeddings: expected an integer >= 0, got -1"),
        (None, 5, TypeError, r"\[token_index\] ids: expected a NumPy array"),
    ],
)
def test_index_refuses(ids: Any, V: int, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        F.token_index(ids, V)


def bits(results: Any) -> list[bytes]:
    return [r.tobytes() for r in results if r is not None]


def check(
    isa: str, dtype: Any, B: int, T: int, V: int, E: int, filters: int, K: int, *, bias: bool = True, seed: int = 0,
    ids: Any = None, **options: Any,
) -> None:  # fmt: skip
    """Forward and backward: the reference, conv1d of the array, and two threads."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, V, (B, T)) if ids is None else ids
    table = rng.normal(size=(V, E)).astype(dtype)
    # as layers hold it: (K, E, F) seen as (F, E, K)
    weight = (rng.normal(size=(K, E, filters)) / np.sqrt(K * E)).astype(dtype).transpose(2, 1, 0)
    b = rng.normal(size=filters).astype(dtype) if bias else None
    context = (isa, dtype, ids.shape, V, E, filters, K, bias, options)

    def run() -> tuple[Any, Any, Any]:
        index = F.token_index(ids, V)
        y = F.token_conv1d(index, table, weight, b, **options)
        upstream = np.random.default_rng(1).normal(size=y.shape).astype(dtype)
        gradients = F.token_conv1d_backward(index, table, weight, y, upstream, has_bias=bias, **options)
        return y, upstream, gradients

    with core(isa, 1):
        y, upstream, gradients = run()
        x = F.embedding(ids, table)
        plain = F.conv1d(x, weight, b, **options)
        grad_x, *plain_rest = F.conv1d_backward(x, weight, y, upstream, has_bias=bias, **options)
        assert grad_x is not None
        plain_all = [plain, F.embedding_backward(ids, grad_x, V), *plain_rest]
    with core(isa, 2):
        again = run()
    assert bits([again[0], *again[2]]) == bits([y, *gradients]), context

    double = [None if a is None else a.astype(np.float64) for a in (table, weight, b, y, upstream)]
    index = reference.token_index(ids, V)
    expected = reference.token_conv1d(index, double[0], double[1], double[2], **options)
    rest = reference.token_conv1d_backward(index, *double[:2], *double[3:], has_bias=bias, **options)  # type: ignore[arg-type]
    for ours, plainly, wanted in zip([y, *gradients], plain_all, [expected, *rest], strict=True):
        if wanted is None:
            assert ours is None and plainly is None
            continue
        assert ours.shape == wanted.shape and ours.dtype == dtype, context
        scale = max(1.0, np.abs(wanted).max(initial=0))
        assert np.abs(ours - wanted).max(initial=0) <= 3 * TOLERANCE[dtype] * scale, context
        assert np.abs(ours - plainly).max(initial=0) <= 3 * TOLERANCE[dtype] * scale, context


@each_isa
@each_dtype
def test_sizes(dtype: Any, isa: str) -> None:
    """Around the widths of vectors: features, filters and steps."""
    for n, size in enumerate(SIZES):
        check(isa, dtype, 3, 20, 11, size, SIZES[-1 - n], 3, padding=PADDINGS[n % 3], activation="tanh", seed=n)
        check(isa, dtype, 2, size + 4, 9, 5, 33, 1 + n % 5, activation="relu", seed=n)
        check(isa, dtype, 1, size, 3, SIZES[-1 - n], size, 2, padding="same", seed=n)


@each_isa
@each_dtype
@pytest.mark.parametrize("K", [1, 2, 3, 5, 7, 8, 17, 33])
def test_kernel_sizes(K: int, dtype: Any, isa: str) -> None:
    for padding in PADDINGS:
        for filters in (1, 17, 40):
            check(isa, dtype, 2, 36, 20, 6, filters, K, padding=padding, activation="relu")


@each_isa
@each_dtype
@pytest.mark.parametrize("padding", PADDINGS)
def test_strides_and_dilations(padding: str, dtype: Any, isa: str) -> None:
    for stride, dilation in ((2, 1), (3, 1), (5, 1), (1, 2), (1, 3), (2, 2), (3, 4)):
        for T in (1, 9, 30):
            options = {"padding": padding, "stride": stride, "dilation": dilation, "activation": "sigmoid"}
            check(isa, dtype, 2, T, 7, 4, 18, 3, **options)


@each_isa
@each_dtype
def test_repeated_and_distinct(dtype: Any, isa: str) -> None:
    """One token everywhere, more than one piece of a frequent one, all tokens different, unused rows."""
    rng = np.random.default_rng(0)
    check(isa, dtype, 4, 700, 5, 8, 17, 3, ids=np.full((4, 700), 3), activation="relu")
    half = rng.integers(0, 2, (8, 400)) * rng.integers(1, 90, (8, 400))
    check(isa, dtype, 8, 400, 90, 8, 33, 7, ids=half, activation="relu")
    check(isa, dtype, 4, 50, 200, 8, 17, 3, ids=rng.permutation(200).reshape(4, 50))
    check(isa, dtype, 2, 10, 3000, 8, 17, 3, ids=rng.choice([0, 7, 2999], (2, 10)))
    check(isa, dtype, 3, 60, 1, 3, 2, 4)


@each_isa
@each_dtype
def test_options(dtype: Any, isa: str) -> None:
    for activation in (None, "relu", "tanh", "sigmoid", "hard_sigmoid", ("elu", 0.7), "softplus", "selu", "softsign"):
        for bias in (True, False):
            check(isa, dtype, 3, 25, 12, 10, 20, 4, bias=bias, activation=activation)
    check(isa, dtype, 2, 1100, 30, 4, 5, 3, padding="same")  # several blocks of a sequence
    check(isa, dtype, 0, 9, 5, 4, 6, 3)
    check(isa, dtype, 2, 0, 5, 4, 6, 3, padding="causal")
    check(isa, dtype, 2, 2, 5, 4, 6, 3)  # no output at all


@settings(max_examples=60)
@given(
    st.integers(1, 5), st.integers(1, 40), st.integers(1, 40), st.integers(1, 20), st.integers(1, 40),
    st.integers(1, 9), st.integers(1, 3), st.integers(1, 3), st.sampled_from(PADDINGS), st.booleans(),
    st.integers(0, 1000), st.sampled_from(ISAS),
)  # fmt: skip
def test_any_shape(
    B: int, T: int, V: int, E: int, filters: int, K: int, stride: int, dilation: int, padding: str, bias: bool,
    seed: int, isa: str,
) -> None:  # fmt: skip
    options = {"stride": stride, "dilation": dilation, "padding": padding, "activation": "tanh"}
    check(isa, np.float64, B, T, V, E, filters, K, bias=bias, seed=seed, **options)


def test_without_embedding_gradient() -> None:
    rng = np.random.default_rng(0)
    ids, table, weight = rng.integers(0, 9, (3, 12)), rng.normal(size=(9, 4)), rng.normal(size=(5, 4, 3))
    index = F.token_index(ids, 9)
    y = F.token_conv1d(index, table, weight)
    full = F.token_conv1d_backward(index, table, weight, y, y)
    nothing, grad_weight, grad_bias = F.token_conv1d_backward(index, table, weight, y, y, need_grad_embedding=False)
    assert nothing is None and grad_bias is not None
    np.testing.assert_array_equal(grad_weight, full[1])


def test_nan_stays_where_it_is() -> None:
    """A NaN in a row that the batch does not have, or in a padded lane, reaches nothing."""
    rng = np.random.default_rng(0)
    table, weight, ids = rng.normal(size=(9, 4)), rng.normal(size=(5, 4, 3)), rng.integers(1, 8, (3, 12))
    table[0] = table[8] = np.nan
    index = F.token_index(ids, 9)
    y = F.token_conv1d(index, table, weight, padding="same")
    assert np.isfinite(y).all()
    grad_table, grad_weight, _ = F.token_conv1d_backward(index, table, weight, y, y, padding="same")
    assert grad_table is not None and np.isfinite(grad_table).all() and np.isfinite(grad_weight).all()
    assert (grad_table[[0, 8]] == 0).all()
    ids[1, 5] = 0
    y = F.token_conv1d(F.token_index(ids, 9), table, weight, padding="same")
    np.testing.assert_array_equal(np.argwhere(np.isnan(y).any(axis=2)), [[1, 4], [1, 5], [1, 6]])


@pytest.mark.parametrize("padding", PADDINGS)
def test_gradient(padding: str) -> None:
    """Along random directions, in float64."""
    rng = np.random.default_rng(3)
    ids = rng.integers(0, 8, (4, 15))
    values = [rng.normal(size=shape) for shape in ((8, 5), (6, 5, 3), (6,))]
    index = F.token_index(ids, 8)

    def forward(parts: list[Any]) -> Any:
        return F.token_conv1d(index, *parts, padding=padding, activation="tanh")

    y = forward(values)
    upstream = rng.normal(size=y.shape)
    gradients = F.token_conv1d_backward(index, *values[:2], y, upstream, padding=padding, activation="tanh")
    for n, gradient in enumerate(gradients):
        assert gradient is not None
        for _ in range(3):
            direction, eps = rng.normal(size=gradient.shape), 1e-5
            moved = [[v + sign * eps * direction if i == n else v for i, v in enumerate(values)] for sign in (1, -1)]
            numeric = ((forward(moved[0]) - forward(moved[1])) * upstream).sum() / (2 * eps)
            analytic = (gradient * direction).sum()
            assert abs(numeric - analytic) <= 1e-7 * max(1.0, abs(numeric)), (n, numeric, analytic)


def test_refuses() -> None:
    rng = np.random.default_rng(0)
    index = F.token_index(rng.integers(0, 9, (3, 12)), 9)
    table, weight = rng.normal(size=(9, 4)), rng.normal(size=(5, 4, 3))
    y = F.token_conv1d(index, table, weight)
    cases: list[tuple[Any, Any, str]] = [
        (lambda: F.token_conv1d(np.zeros((3, 12), int), table, weight), TypeError, "tokens: expected what token_index"),  # type: ignore[arg-type]
        (lambda: F.token_conv1d(F.token_index(np.zeros(3, int), 9), table, weight), ValueError, r"ids of shape \(B, T"),
        (lambda: F.token_conv1d(index, table[:8], weight), ValueError, r"embedding: expected shape \(V, E\)"),
        (lambda: F.token_conv1d(index, table.astype(int), weight), TypeError, "embedding: expected dtype"),
        (lambda: F.token_conv1d(index, table, weight[:, :3]), ValueError, r"weight: expected shape \(F, E, K\)"),
        (lambda: F.token_conv1d(index, table, weight[:0]), ValueError, "weight: expected no empty axis"),
        (
            lambda: F.token_conv1d(index, table, weight.astype("f")),
            TypeError,
            r"weight: expected dtype .* of embedding",
        ),
        (
            lambda: F.token_conv1d(index, table, weight, np.zeros(4)),
            ValueError,
            r"bias: expected shape \(F,\) = \(5,\)",
        ),
        (lambda: F.token_conv1d(index, table, weight, activation="gelu"), ValueError, "activation: expected one of"),
        (lambda: F.token_conv1d(index, table, weight, padding="full"), ValueError, "padding: expected valid, same"),
        (lambda: F.token_conv1d(index, table, weight, stride=0), ValueError, "stride: expected an integer >= 1"),
        (
            lambda: F.token_conv1d_backward(index, table, weight, y[1:], y),
            ValueError,
            "y: expected shape of the output",
        ),
        (lambda: F.token_conv1d_backward(index, table, weight, y, y[:, 1:]), ValueError, "grad_y: expected shape"),
        (lambda: F.token_conv1d_backward(index, table, weight, y, y, has_bias=1), TypeError, "has_bias: expected True"),  # type: ignore[arg-type]
    ]
    for call, error, words in cases:
        with pytest.raises(error, match=rf"^\[token_conv1d(_backward)?\] .*{words}"):
            call()
