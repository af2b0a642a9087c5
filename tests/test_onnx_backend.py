"""fastrnn as an onnx.backend: the node tests of the onnx package itself."""

from __future__ import annotations

import unittest
import warnings
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", minversion="1.23")  # its own tests and evaluator were wrong before

from fastrnn.onnx import Unsupported, backend  # noqa: E402
from fastrnn.onnx.node import OPERATORS  # noqa: E402
from onnx_tools import recurrent_arrays, recurrent_model, relative_error  # noqa: E402

RECURRENT = {
    "test_gru_batchwise", "test_gru_bidirectional", "test_gru_defaults", "test_gru_reverse", "test_gru_seq_length",
    "test_gru_with_initial_bias", "test_lstm_batchwise", "test_lstm_bidirectional", "test_lstm_defaults",
    "test_lstm_reverse", "test_lstm_with_initial_bias", "test_lstm_with_peepholes", "test_rnn_seq_length",
    "test_simple_rnn_batchwise", "test_simple_rnn_bidirectional", "test_simple_rnn_defaults",
    "test_simple_rnn_reverse", "test_simple_rnn_with_initial_bias",
}  # fmt: skip


@pytest.fixture(scope="module")
def runner() -> Any:
    import onnx.backend.test

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the package's own cases
        return onnx.backend.test.BackendTest(backend.FastRNNBackend, __name__)


def test_the_recurrent_node_tests_of_onnx(runner: Any) -> None:
    """Exactly the 18 of RNN, LSTM and GRU run, the three with layout=1 among them, and all pass."""
    items = runner._test_items["NodeModel"]
    names = {name.removesuffix("_cpu") for name in items if name.endswith("_cpu")}
    recurrent = {
        name for name in names if name.startswith(("test_gru_", "test_lstm_", "test_rnn_", "test_simple_rnn_"))
    }
    assert recurrent == RECURRENT and len(recurrent) == 18
    suite = unittest.TestSuite()
    for name in sorted(recurrent):
        case = type(name, (unittest.TestCase,), {name: items[f"{name}_cpu"].func})
        suite.addTest(case(name))
    result = unittest.TestResult()
    suite.run(result)
    assert (result.testsRun, result.skipped, result.failures, result.errors) == (18, [], [], [])


def test_every_node_test_passes_or_is_refused(runner: Any) -> None:
    """Node tests whose operators are all among ours: none may give wrong results; what is refused is named."""
    from onnx.backend.test.loader import load_model_tests
    from onnx.backend.test.runner import Runner

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = [c for c in load_model_tests(kind="node") if {n.op_type for n in c.model.graph.node} <= set(OPERATORS)]
    passed = 0
    for case in cases:
        try:
            rep = backend.prepare(case.model)
        except Unsupported:
            continue
        for inputs, outputs in case.data_sets:
            inputs, outputs = ([_array(value) for value in part] for part in (inputs, outputs))
            Runner.assert_similar_outputs(outputs, rep.run(inputs), case.rtol, case.atol, case.name)
        passed += 1
    assert passed > 500  # 748 with onnx 1.23


def _array(value: Any) -> Any:
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


@pytest.mark.parametrize("op", ["RNN", "LSTM", "GRU"])
def test_random_weights_as_the_reference_evaluator(op: str) -> None:
    """The node tests have constant weights, which say nothing about the order of the gates."""
    from onnx.reference import ReferenceEvaluator

    rng = np.random.default_rng(3)
    for direction in ("forward", "reverse", "bidirectional"):
        D = 2 if direction == "bidirectional" else 1
        arrays = recurrent_arrays(op, rng, D=D, states=True, peepholes=op == "LSTM", dtype=np.float64)
        extra = {"linear_before_reset": 1} if op == "GRU" and direction != "reverse" else {}
        model, inputs = recurrent_model(op, arrays, direction=direction, **extra)
        expected = ReferenceEvaluator(model).run(None, inputs)
        actual = backend.run_model(onnx.shape_inference.infer_shapes(model), list(inputs.values()))
        assert len(actual) == len(expected)
        for a, e in zip(actual, expected, strict=True):
            assert relative_error(a, e) < 1e-14


def test_run_node() -> None:
    x = np.array([[-1.0, 2.0]], np.float32)
    (y,) = backend.run_node(onnx.helper.make_node("Relu", ["x"], ["y"]), [x])
    np.testing.assert_array_equal(y, [[0.0, 2.0]])
    node = onnx.helper.make_node("ReduceSum", ["x"], ["y"], axes=[1])
    np.testing.assert_array_equal(backend.run_node(node, [x], opset_version=11).y, [[1.0]])
    with pytest.raises(ValueError, match=r"ReduceSum.*attribute axes"):
        backend.run_node(node, [x], opset_version=13)


def test_devices_and_compatibility() -> None:
    assert backend.supports_device("CPU") and not backend.supports_device("CUDA") and not backend.supports_device("no")
    model, _ = recurrent_model("GRU", recurrent_arrays("GRU", np.random.default_rng(0)))
    assert backend.is_compatible(model) and not backend.is_compatible(model, "CUDA")
    model.graph.node[0].op_type = "Einsum"
    assert not backend.is_compatible(model)
    with pytest.raises(ValueError, match=r"device: expected CPU, got 'CUDA'"):
        backend.prepare(model, "CUDA")
