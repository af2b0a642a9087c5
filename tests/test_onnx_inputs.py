"""What a loaded model is given: types that fit its inputs, and for what operators cannot take, errors that name it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx import helper  # noqa: E402

import fastrnn.onnx  # noqa: E402
from fastrnn.onnx import backend  # noqa: E402
from onnx_tools import graph_model  # noqa: E402

RNG = np.random.default_rng(0)
make = helper.make_node


def identity(dtype: Any) -> Any:
    """A model that gives back its input x, of one axis."""
    return fastrnn.onnx.load(graph_model([make("Identity", ["x"], ["y"])], {"x": np.zeros(1, dtype)}, ["y"]))


# ---- types of inputs


@pytest.mark.parametrize(
    ("declared", "given"),
    [
        ("float32", RNG.standard_normal(9)), ("float32", RNG.standard_normal(9).astype(np.float16)),
        ("float32", np.array([np.inf, -np.inf, np.nan, 1e-300, 3.4e38])), ("float32", RNG.standard_normal(9).tolist()),
        ("float32", RNG.integers(-99, 99, 9).tolist()), ("float64", RNG.standard_normal(9).astype(np.float32)),
        ("float64", [1, 2.5]), ("float32", RNG.standard_normal(9).astype(">f8")), ("int64", [2**62, -1]),
        ("int64", RNG.integers(0, 99, 9).astype(np.int32)), ("int32", RNG.integers(-99, 99, 9)),
        ("int32", RNG.integers(0, 99, 9).astype(np.uint64)), ("bool", [True, False]),
    ],
)  # fmt: skip
def test_types_that_fit(declared: str, given: Any) -> None:
    model = identity(declared)
    with np.errstate(over="ignore"):
        expected = np.asarray(given).astype(declared)
    for result in (model(given), model.run({"x": given})["y"], model(x=given)):
        assert result.dtype == declared
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(
    ("declared", "given", "error", "words"),
    [
        ("int64", RNG.standard_normal(9).astype(np.float32), TypeError, "expected int64, got float32"),
        ("int64", [1.0, 2.0], TypeError, "expected int64, got float64"),
        ("int64", [True], TypeError, "expected int64, got bool"),
        ("float32", np.arange(9), TypeError, "expected float32, got int64"),
        ("float32", np.ones(9, bool), TypeError, "expected float32, got bool"),
        ("float32", np.ones(9, complex), TypeError, "expected float32, got complex128"),
        ("float32", ["a"], TypeError, "expected float32, got <U1"),
        ("bool", [1, 0], TypeError, "expected bool, got int64"),
        ("float32", np.array([1, np.nan, -1e39]), ValueError, "from -3.4.*e+38 to 3.4.*e+38, got -1e+39"),
        ("float32", [1e300], ValueError, "got 1e+300"),
        ("float32", [np.float64(3.5e38)], ValueError, "got 3.5e+38"),
        ("float16", np.array([1, 7e4], np.float32), ValueError, "expected float16, from -65504.0 to 65504.0, got 7"),
        ("float16", [70000], ValueError, "got 70000"),
        ("int32", np.array([1, 2**31]), ValueError, "expected integers of int32, got 1 to 2147483648"),
        ("int64", np.array([2**63], np.uint64), ValueError, "expected integers of int64, got 9223372036854775808 to"),
    ],
)  # fmt: skip
def test_types_that_do_not_fit(declared: str, given: Any, error: type[Exception], words: str) -> None:
    model = identity(declared)
    pattern = rf"^\[onnx.run\] x: .*{re.escape(words).replace(re.escape('.*'), '.*')}"
    for call in (lambda: model(given), lambda: model.run({"x": given})):
        with pytest.raises(error, match=pattern):
            call()


def test_an_input_whose_type_is_not_said() -> None:
    proto = graph_model([make("Identity", ["x"], ["y"])], {"x": np.zeros(1, np.float32)}, ["y"])
    proto.graph.input[0].type.Clear()
    model = fastrnn.onnx.load(proto)
    for given in (RNG.standard_normal(3), RNG.standard_normal(3).astype(">f4"), np.arange(3)):
        result = model(given)
        assert result.dtype == given.dtype.newbyteorder("=") and result.dtype.isnative
        np.testing.assert_array_equal(result, given)
    for given in (np.array([object()]), np.array(["a"]), np.ones(2, complex)):
        with pytest.raises(
            TypeError, match=r"^\[onnx.run\] x: expected one of float32, .*bool, got (object|<U1|compl)"
        ):
            model(given)


def test_a_type_that_onnx_has_not() -> None:
    with pytest.raises(TypeError, match=r"^\[onnx.backend\] x: expected one of float32, .*, got complex128"):
        backend.run_node(make("Relu", ["x"], ["y"]), [np.ones(2, complex)])


# ---- what operators cannot take

X = RNG.standard_normal((2, 4, 9)).astype(np.float32)
W = RNG.standard_normal((6, 2, 3)).astype(np.float32)
ONE, TWO = np.array([1]), np.array([1, 2])
F1 = np.float32(1)
A = X[0]
BIAS = "B: expected float32 (6,), one for each filter, got "


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "words"),
    [
        ("CumSum", [X, TWO], {}, "axis: expected a single integer, got int64 (2,)"),
        ("CumSum", [X, F1], {}, "axis: expected a single integer, got float32 ()"),
        ("TopK", [X, TWO], {}, "K: expected a single integer, got int64 (2,)"),
        ("TopK", [X, np.array([], np.int64)], {}, "K: expected a single integer, got int64 (0,)"),
        ("Range", [TWO, ONE, ONE], {}, "start: expected a single number, got int64 (2,)"),
        ("Range", [ONE, TWO, ONE], {}, "limit: expected a single number, got int64 (2,)"),
        ("Range", [ONE, ONE, TWO], {}, "delta: expected a single number, got int64 (2,)"),
        ("Range", [F1, np.float32(np.nan), F1], {}, "limit: expected a finite number, got nan"),
        ("Range", [F1, F1, np.float32(0)], {}, "delta: expected a number other than 0, got 0.0"),
        ("Range", [F1, ONE, F1], {}, "inputs: expected one type, got float32, int64, float32"),
        ("Conv", [X, W, np.ones(5, np.float32)], {"group": 2}, BIAS + "float32 (5,)"),
        ("Conv", [X, W, np.ones(4, np.float32)], {"group": 2}, BIAS + "float32 (4,)"),
        ("Conv", [X, W, np.ones((1, 6), np.float32)], {"group": 2}, BIAS + "float32 (1, 6)"),
        ("Conv", [X, W, np.ones(6)], {"group": 2}, BIAS + "float64 (6,)"),
        ("Conv", [X, W], {}, "X, W: expected (batch, channels, time) and (filters, channels / 1, kernel) of one type"),
        ("Gemm", [A, A.T, np.ones(4)], {}, "C: expected float32 as A and B, got float64"),
        ("MatMul", [A, A], {}, "A, B: expected (..., I) and (..., I, O) of one type, got float32 (4, 9), "),
        ("MatMul", [X, np.ones((3, 9, 1), np.float32)], {}, "A, B: expected leading axes that broadcast, got "),
        ("Div", [ONE, np.array([0])], {}, "B: expected divisors other than 0, got 0"),
        ("Add", [A, A.T], {}, "inputs: expected shapes that broadcast, got [(4, 9), (9, 4)]"),
        ("Add", [F1, np.float64(1)], {}, "inputs: expected one type, got float32, float64"),
        ("Concat", [A, A.astype(np.float64)], {"axis": 0}, "inputs: expected one type, got float32, float64"),
        ("Concat", [A, A.T], {"axis": 0}, "inputs: expected shapes that differ along axis 0 alone, got [(4, 9), "),
        ("ArgMax", [X[:, :0]], {"axis": 1}, "data: expected at least one value along axis 1, got (2, 0, 9)"),
        ("GlobalMaxPool", [X[..., :0]], {}, "X: expected at least one step, got (2, 4, 0)"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("known", [True, False], ids=["constants", "inputs"])
def test_the_argument_is_named(op: str, inputs: list[Any], attributes: dict[str, Any], words: str, known: bool) -> None:
    """Whether the inputs are known when the model is loaded or come with a run."""
    given = {f"i{k}": np.asarray(a) for k, a in enumerate(inputs)}
    outputs = ["y", "at"] if op == "TopK" else ["y"]
    node = make(op, list(given), outputs, name="n", **attributes)
    with pytest.raises(ValueError, match=rf"^\[onnx\] node 'n' \({op}, 1 of 1\): {re.escape(words)}"):
        if known:
            fastrnn.onnx.load(graph_model([node], {}, ["y"], given))
        else:
            fastrnn.onnx.load(graph_model([node], given, ["y"])).run(given)


def test_single_numbers_may_have_an_axis() -> None:
    """As exporters write them."""
    given = {"x": A, "axis": ONE, "k": ONE, "a": np.array([2]), "b": np.array([9]), "c": np.array([3])}
    nodes = [
        make("CumSum", ["x", "axis"], ["sums"]), make("TopK", ["x", "k"], ["top", "at"]),
        make("Range", ["a", "b", "c"], ["range"]),
    ]  # fmt: skip
    results = fastrnn.onnx.load(graph_model(nodes, given, ["sums", "top", "range"])).run(given)
    np.testing.assert_allclose(results["sums"], np.cumsum(A, axis=1), rtol=1e-6)
    np.testing.assert_array_equal(results["top"], A.max(axis=1, keepdims=True))
    np.testing.assert_array_equal(results["range"], [2, 5, 8])
