"""ONNX Runtime: an ONNX model with one node, weights as initialisers (prepacked), bound inputs and outputs. Forward
only."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from bench import cases
from bench.cases import Array
from bench.peers import Call
from bench.peers.gates import permute

# ONNX orders the gates i o f c and z r h, we i f g o and r z n.
_ORDER = {"rnn": (0,), "lstm": (0, 3, 1, 2), "gru": (1, 0, 2)}


def _session(graph: Any) -> Any:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = ort.SessionOptions()
    options.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
    options.inter_op_num_threads = 1
    # threads spin while a call runs and stop with it: an idle worker must not disturb the next library
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _call(nodes: list[Any], x: Array, weights: dict[str, Array], y_shape: tuple[int, ...], answer: Any) -> list[Call]:
    kind = TensorProto.FLOAT if x.dtype == np.float32 else TensorProto.INT64
    graph = helper.make_graph(
        nodes, "case", [helper.make_tensor_value_info("x", kind, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, y_shape)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )  # fmt: skip
    session = _session(graph)
    binding = session.io_binding()
    y = np.empty(y_shape, np.float32)
    inputs, outputs = ort.OrtValue.ortvalue_from_numpy(x), ort.OrtValue.ortvalue_from_numpy(y)
    binding.bind_ortvalue_input("x", inputs)
    binding.bind_ortvalue_output("y", outputs)

    def run() -> Any:
        session.run_with_iobinding(binding)
        return outputs

    return [Call(run, lambda value: [answer(value.numpy())])]


def layer(problem: cases.Layer) -> list[Call]:
    B, T, _, H = problem.shape
    order = _ORDER[problem.cell]
    weight_ih, weight_hh, bias_ih, bias_hh = (permute(value, order)[None] for value in problem.weights)
    options: dict[str, Any] = {"linear_before_reset": 1} if problem.cell == "gru" else {}
    node = helper.make_node(problem.cell.upper(), ["x", "w", "r", "b"], ["y"], hidden_size=H, **options)
    weights = {"w": weight_ih, "r": weight_hh, "b": np.concatenate([bias_ih, bias_hh], axis=1)}
    x = problem.x.swapaxes(0, 1).copy()
    return _call([node], x, weights, (T, 1, B, H), lambda y: y[:, 0].swapaxes(0, 1))


def stream(problem: cases.Stream) -> list[Call]:
    """The state goes to and fro between two sets of buffers, each bound to one of two bindings."""
    I, H = problem.shape
    order = _ORDER[problem.cell]
    weight_ih, weight_hh, bias_ih, bias_hh = (permute(value, order)[None] for value in problem.weights)
    states = ("h", "c") if problem.cell == "lstm" else ("h",)
    options: dict[str, Any] = {"linear_before_reset": 1} if problem.cell == "gru" else {}
    node = helper.make_node(
        problem.cell.upper(), ["x", "w", "r", "b", "", *(s + "_in" for s in states)],
        ["", *(s + "_out" for s in states)], hidden_size=H, **options,
    )  # fmt: skip
    weights = {"w": weight_ih, "r": weight_hh, "b": np.concatenate([bias_ih, bias_hh], axis=1)}
    graph = helper.make_graph(
        [node], "step", [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 1, I))]
        + [helper.make_tensor_value_info(s + "_in", TensorProto.FLOAT, (1, 1, H)) for s in states],
        [helper.make_tensor_value_info(s + "_out", TensorProto.FLOAT, (1, 1, H)) for s in states],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )  # fmt: skip
    session = _session(graph)
    x = ort.OrtValue.ortvalue_from_numpy(problem.x[None, None].copy())
    buffers = [[ort.OrtValue.ortvalue_from_numpy(np.zeros((1, 1, H), np.float32)) for _ in states] for _ in range(2)]
    bindings = []
    for before, after in (buffers, buffers[::-1]):
        binding = session.io_binding()
        binding.bind_ortvalue_input("x", x)
        for name, old, new in zip(states, before, after, strict=True):
            binding.bind_ortvalue_input(name + "_in", old)
            binding.bind_ortvalue_output(name + "_out", new)
        bindings.append((binding, after[0]))

    def run() -> Any:
        bindings.reverse()
        binding, h = bindings[1]
        session.run_with_iobinding(binding)
        return h

    return [Call(run, lambda h: [h.numpy().ravel()], calls=problem.steps)]


def conv1d(problem: cases.Conv1D) -> list[Call]:
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["z"]), helper.make_node("Relu", ["z"], ["y"])]
    y_shape = problem.grad_output.swapaxes(1, 2).shape
    x = problem.x.swapaxes(1, 2).copy()
    return _call(nodes, x, dict(zip("wb", problem.weights, strict=True)), y_shape, lambda y: y.swapaxes(1, 2))


def dense(problem: cases.Dense) -> list[Call]:
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["z"], transB=1), helper.make_node("Tanh", ["z"], ["y"])]
    weights = dict(zip("wb", problem.weights, strict=True))
    return _call(nodes, problem.x, weights, problem.grad_output.shape, lambda y: y)


def embedding(problem: cases.Embedding) -> list[Call]:
    node = helper.make_node("Gather", ["w", "x"], ["y"])
    return _call([node], problem.ids, {"w": problem.weight}, problem.grad_output.shape, lambda y: y)
