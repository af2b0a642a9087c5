"""OpenVINO: its own sequence operations in float32, latency hint, bound inputs. Forward only."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from bench import cases
from bench.cases import Array
from bench.peers import Call
from bench.peers.gates import permute

# OpenVINO orders the gates f i c o and z r h, we i f g o and r z n.
_ORDER = {"rnn": (0,), "lstm": (1, 0, 2, 3), "gru": (1, 0, 2)}
_CORE = ov.Core()
_SETTINGS = {
    "PERFORMANCE_HINT": "LATENCY",
    "INFERENCE_PRECISION_HINT": "f32",  # no bfloat16 where the CPU has it
    "INFERENCE_NUM_THREADS": int(os.environ["OMP_NUM_THREADS"]),
    "NUM_STREAMS": 1,
}


def _call(result: Any, parameter: Any, x: Array, answer: Any, name: str = "") -> Call:
    model = ov.Model([ops.result(result)], [parameter], "case")
    request = _CORE.compile_model(model, "CPU", _SETTINGS).create_infer_request()
    request.set_input_tensor(ov.Tensor(x, shared_memory=True))

    def run() -> Any:
        request.infer()
        return request

    def result_of(request: Any) -> list[Array]:
        assert x.size  # the tensor does not keep the array alive, this function does
        return [answer(request.get_output_tensor(0).data)]

    return Call(run, result_of, name)


def _weights(problem: cases.Layer | cases.Stream) -> tuple[Array, Array, Array]:
    """weight_ih, weight_hh, and one bias: with four parts for the GRU, whose candidate's two biases stay apart."""
    H = problem.shape[-1]
    weight_ih, weight_hh, bias_ih, bias_hh = (permute(value, _ORDER[problem.cell]) for value in problem.weights)
    bias = bias_ih + bias_hh
    if problem.cell == "gru":
        bias = np.concatenate([bias[: 2 * H], bias_ih[2 * H :], bias_hh[2 * H :]])
    return weight_ih, weight_hh, bias


def _sequence(problem: cases.Layer, x: Any) -> Any:
    """The operation on x (B, T, I) -> (B, 1, T, H)."""
    B, T, _, H = problem.shape
    zero, lengths = np.zeros((B, 1, H), np.float32), np.full(B, T, np.int32)
    tail = [ops.constant(value[None]) for value in _weights(problem)]
    start = [ops.constant(zero), ops.constant(lengths)]
    if problem.cell == "lstm":
        return ops.lstm_sequence(x, start[0], ops.constant(zero), start[1], *tail, H, "forward")
    if problem.cell == "gru":
        return ops.gru_sequence(x, *start, *tail, H, "forward", linear_before_reset=True)
    return ops.rnn_sequence(x, *start, *tail, H, "forward", ["tanh"])


def stream(problem: cases.Stream) -> list[Call]:
    """Two requests, the outputs of one being the inputs of the other."""
    I, H = problem.shape
    x, *states = (ops.parameter([1, n], np.float32) for n in ((I, H, H) if problem.cell == "lstm" else (I, H)))
    tail = [ops.constant(value) for value in _weights(problem)]
    if problem.cell == "lstm":
        node = ops.lstm_cell(x, *states, *tail, H)
    elif problem.cell == "gru":
        node = ops.gru_cell(x, *states, *tail, H, linear_before_reset=True)
    else:
        node = ops.rnn_cell(x, *states, *tail, H, ["tanh"], [], [])
    model = ov.Model([ops.result(node.output(i)) for i in range(len(states))], [x, *states], "step")
    compiled = _CORE.compile_model(model, "CPU", _SETTINGS)
    given = problem.x[None].copy()
    buffers = [[np.zeros((1, H), np.float32) for _ in states] for _ in range(2)]
    requests = []
    for before, after in (buffers, buffers[::-1]):
        request = compiled.create_infer_request()
        request.set_input_tensor(0, ov.Tensor(given, shared_memory=True))
        for i, (old, new) in enumerate(zip(before, after, strict=True)):
            request.set_input_tensor(1 + i, ov.Tensor(old, shared_memory=True))
            request.set_output_tensor(i, ov.Tensor(new, shared_memory=True))
        requests.append((request, after[0]))

    def run() -> Array:
        requests.reverse()
        request, h = requests[1]
        request.infer()
        return h

    def result_of(h: Array) -> list[Array]:
        assert given.size and buffers  # the tensors do not keep the arrays alive, this function does
        return [h[0].copy()]

    return [Call(run, result_of, calls=problem.steps)]


def layer(problem: cases.Layer) -> list[Call]:
    """Batch first, which the operation is defined for, and time first between transpositions, which it can fuse."""
    B, T, I, _ = problem.shape
    parameter = ops.parameter([B, T, I], np.float32)
    first = _call(_sequence(problem, parameter).output(0), parameter, problem.x, lambda y: y[:, 0], "batch first")
    parameter = ops.parameter([T, B, I], np.float32)
    swapped = ops.transpose(parameter, ops.constant(np.array([1, 0, 2])))
    y = ops.transpose(_sequence(problem, swapped).output(0), ops.constant(np.array([2, 1, 0, 3])))
    x = problem.x.swapaxes(0, 1).copy()
    return [first, _call(y.output(0), parameter, x, lambda y: y[:, 0].swapaxes(0, 1), "time first")]


def conv1d(problem: cases.Conv1D) -> list[Call]:
    x = problem.x.swapaxes(1, 2).copy()
    weight, bias = problem.weights
    parameter = ops.parameter(list(x.shape), np.float32)
    y = ops.convolution(parameter, ops.constant(weight), [1], [0], [0], [1])
    y = ops.relu(ops.add(y, ops.constant(bias[None, :, None])))
    return [_call(y.output(0), parameter, x, lambda y: y.swapaxes(1, 2))]


def dense(problem: cases.Dense) -> list[Call]:
    weight, bias = problem.weights
    parameter = ops.parameter(list(problem.x.shape), np.float32)
    y = ops.add(ops.matmul(parameter, ops.constant(weight), False, True), ops.constant(bias[None]))
    return [_call(ops.tanh(y).output(0), parameter, problem.x, lambda y: y)]


def embedding(problem: cases.Embedding) -> list[Call]:
    parameter = ops.parameter(list(problem.ids.shape), np.int64)
    y = ops.gather(ops.constant(problem.weight), parameter, ops.constant(np.array(0)))
    return [_call(y.output(0), parameter, problem.ids, lambda y: y)]
