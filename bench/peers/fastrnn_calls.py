"""fastrnn through its public functions on NumPy arrays."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from bench import cases
from bench.cases import Array
from bench.peers import Call, numpy_calls
from bench.peers.epoch_fastrnn import epoch as epoch
from fastrnn import functional, runtime, streaming


def layer(problem: cases.Layer) -> list[Call]:
    forward = getattr(functional, problem.cell)
    backward = getattr(functional, problem.cell + "_backward")
    x, weights, grad_output = problem.x, problem.weights, problem.grad_output

    packed = functional.pack_weights(problem.cell, *weights)  # as the peers' sessions do

    def inference() -> Any:
        return forward(x, packed)

    def training() -> Any:
        output, _, workspace = forward(x, *weights, return_workspace=True)
        return output, backward(workspace, grad_output)

    def gradients(result: Any) -> list[Array]:
        output, g = result
        return [output, g.grad_x, g.grad_weight_ih, g.grad_weight_hh, g.grad_bias_ih]

    return [Call(training, gradients)] if problem.train else [Call(inference, lambda result: [result[0]])]


def stream(problem: cases.Stream) -> list[Call]:
    layer, x = streaming.Stream(problem.cell, *problem.weights), problem.x
    out = np.empty(problem.shape[1], np.float32)
    return [Call(lambda: layer(x, out=out), lambda y: [y], calls=problem.steps)]


def conv1d(problem: cases.Conv1D) -> list[Call]:
    x, (weight, bias), grad_output = problem.x, problem.weights, problem.grad_output

    def run() -> list[Any]:
        y = functional.conv1d(x, weight, bias, activation="relu")
        if not problem.train:
            return [y]
        return [y, *functional.conv1d_backward(x, weight, y, grad_output, activation="relu")]

    return [Call(run, list)]


def dense(problem: cases.Dense) -> list[Call]:
    x, (weight, bias), grad_output = problem.x, problem.weights, problem.grad_output

    def run() -> list[Any]:
        y = functional.linear(x, weight, bias, activation="tanh")
        if not problem.train:
            return [y]
        return [y, *functional.linear_backward(x, weight, y, grad_output, activation="tanh")]

    return [Call(run, list)]


def embedding(problem: cases.Embedding) -> list[Call]:
    ids, weight, grad_output = problem.ids, problem.weight, problem.grad_output

    def run() -> list[Any]:
        y = functional.embedding(ids, weight)
        return [y, functional.embedding_backward(ids, grad_output, len(weight))] if problem.train else [y]

    return [Call(run, list)]


def adam(problem: cases.Adam) -> list[Call]:
    return numpy_calls.adam(problem, functional.adam_update)


def peak(threads: int) -> float:
    """GFLOP/s of multiply-adds on the best instruction set of this machine, whatever FASTRNN_ISA says."""
    with runtime.use_isa(runtime.available_isas()[0]):
        return runtime.measure_peak(threads) * 1e-9


def meeting(threads: int) -> float:
    """Seconds in which all threads meet once."""
    return runtime.measure_meeting(threads)


def bandwidth(threads: int) -> float:
    """GB/s of c = a + b by NumPy on arrays that fit no cache, each thread with its own: the best of five."""
    arrays = [np.ones((3, 2**24), np.float32) for _ in range(threads)]

    def work(a: Array) -> None:
        np.add(a[0], a[1], out=a[2])  # without the GIL

    best = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(5):
            start = time.perf_counter()
            list(pool.map(work, arrays))
            best = min(best, time.perf_counter() - start)
    return sum(a.nbytes for a in arrays) * 1e-9 / best


def info() -> dict[str, Any]:
    return runtime.info()
