"""Keras on TensorFlow: keras.layers under tf.function, with and without XLA (jit_compile)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from bench import cases
from bench.cases import Array
from bench.peers import Call
from bench.peers.epoch_keras import epoch as epoch
from bench.peers.gates import permute, unpermute

tf.config.threading.set_intra_op_parallelism_threads(int(os.environ["OMP_NUM_THREADS"]))
tf.config.threading.set_inter_op_parallelism_threads(int(os.environ["OMP_NUM_THREADS"]))

# Keras orders the gates i f c o, as we do, and z r h.
_ORDER = {"rnn": (0,), "lstm": (0, 1, 2, 3), "gru": (1, 0, 2)}


def _calls(module: Any, x: Any, grad: Array, train: bool, answer: Any) -> Iterator[Call]:
    """As a graph and compiled with XLA. answer: of [y] or, when training, [y, gradient of x unless it is ids,
    gradients of the weights]."""
    grad_output = tf.constant(grad)
    sources = [x] if x.dtype == tf.float32 else []

    def forward() -> Any:
        return [module(x)]

    def training() -> Any:
        with tf.GradientTape() as tape:
            tape.watch(sources)
            y = module(x)
        return [y, *tape.gradient(y, [*sources, *(v.value for v in module.trainable_variables)], grad_output)]

    def arrays(result: Any) -> Any:
        return answer([tf.convert_to_tensor(value).numpy() for value in result])

    for name, jit in (("graph", False), ("XLA", True)):
        function = tf.function(training if train else forward, jit_compile=jit)
        yield Call(function.get_concrete_function(), arrays, name)


def _module(cell: str, shape: tuple[int, int], values: tuple[Array, ...]) -> Any:
    I, H = shape
    module = {"rnn": keras.layers.SimpleRNN, "lstm": keras.layers.LSTM, "gru": keras.layers.GRU}[cell](
        H, return_sequences=True
    )
    module.build((None, None, I))
    weight_ih, weight_hh, bias_ih, bias_hh = (permute(value, _ORDER[cell]) for value in values)
    bias = np.stack([bias_ih, bias_hh]) if cell == "gru" else bias_ih + bias_hh
    module.set_weights([weight_ih.T, weight_hh.T, bias])
    return module


def layer(problem: cases.Layer) -> Iterator[Call]:
    _, _, I, H = problem.shape
    order = _ORDER[problem.cell]
    module = _module(problem.cell, (I, H), problem.weights)

    def answer(arrays: list[Array]) -> list[Array]:
        if not problem.train:
            return arrays
        y, x, w, r, b = arrays
        return [y, x, *(unpermute(value, order) for value in (w.T, r.T, b[0] if b.ndim == 2 else b))]

    return _calls(module, tf.constant(problem.x), problem.grad_output, problem.train, answer)


def stream(problem: cases.Stream) -> Iterator[Call]:
    """The layer's cell, its state in tensors."""
    module = _module(problem.cell, problem.shape, problem.weights).cell
    x = tf.constant(problem.x[None])
    signature = [tf.TensorSpec((1, problem.shape[1]))] * (2 if problem.cell == "lstm" else 1)
    for name, jit in (("graph", False), ("XLA", True)):
        function = tf.function(lambda states: module(x, states)[1], [signature], jit_compile=jit)
        run = _advance(function.get_concrete_function(), [tf.zeros(spec.shape) for spec in signature])
        yield Call(run, lambda states: [states[0].numpy()[0]], name, problem.steps)


def _advance(function: Any, states: list[Any]) -> Any:
    def run() -> Any:
        nonlocal states
        states = function(*states)
        return states

    return run


def conv1d(problem: cases.Conv1D) -> Iterator[Call]:
    _, _, C, F, K = problem.shape
    weight, bias = problem.weights
    module = keras.layers.Conv1D(F, K, activation="relu")
    module.build((None, None, C))
    module.set_weights([weight.transpose(2, 1, 0), bias])

    def answer(arrays: list[Array]) -> list[Array]:
        return [a.transpose(2, 1, 0) if i == 2 else a for i, a in enumerate(arrays)]

    return _calls(module, tf.constant(problem.x), problem.grad_output, problem.train, answer)


def dense(problem: cases.Dense) -> Iterator[Call]:
    _, I, O = problem.shape
    weight, bias = problem.weights
    module = keras.layers.Dense(O, activation="tanh")
    module.build((None, I))
    module.set_weights([weight.T, bias])

    def answer(arrays: list[Array]) -> list[Array]:
        return [a.T if i == 2 else a for i, a in enumerate(arrays)]

    return _calls(module, tf.constant(problem.x), problem.grad_output, problem.train, answer)


def embedding(problem: cases.Embedding) -> Iterator[Call]:
    """The gradient of a table is a list of slices in TensorFlow; converted to the table's shape outside the timing."""
    module = keras.layers.Embedding(*problem.shape[2:])
    module.build(None)
    module.set_weights([problem.weight])
    return _calls(module, tf.constant(problem.ids), problem.grad_output, problem.train, list)


def adam(problem: cases.Adam) -> list[Call]:
    optimizer = keras.optimizers.Adam(problem.rate, problem.beta1, problem.beta2, problem.epsilon)
    variable = keras.Variable(problem.parameter)
    optimizer.build([variable])
    gradient = tf.constant(problem.gradient)

    def step() -> None:
        optimizer.apply([gradient], [variable])

    function = tf.function(step).get_concrete_function()

    def run() -> Any:
        function()
        return variable

    return [Call(run, lambda variable: [variable.numpy()], calls=problem.updates)]
