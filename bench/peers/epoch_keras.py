"""The IMDb models in Keras on TensorFlow: a training step under tf.function, which is what fit runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from bench import epochs
from bench.cases import Array
from bench.epochs import BATCH, MAXLEN, Epoch
from bench.peers import Call
from bench.peers.epoch_keras_style import network, steps


def epoch(problem: Epoch) -> Iterator[Call]:
    """Plain and compiled with XLA."""
    for name, jit in (("graph", False), ("XLA", True)):
        yield steps(problem, _step(problem, jit), name)


def _step(problem: Epoch, jit: bool) -> Any:
    model = network(problem, keras.layers, keras.Sequential, [keras.Input((MAXLEN,), dtype="int32")])
    optimizer = keras.optimizers.Adam(epochs.RATE, epochs.BETA1, epochs.BETA2, epochs.EPSILON)
    optimizer.build(model.trainable_variables)
    criterion = keras.losses.BinaryCrossentropy()

    def train(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = criterion(y, model(x, training=True))
        variables = model.trainable_variables
        gradients = tape.gradient(loss, [v.value for v in variables])
        # of the table too: given slices, Keras squares each before it adds up those of one word, which is not Adam
        # and is not faster
        optimizer.apply([tf.convert_to_tensor(g) for g in gradients], variables)
        return loss

    signature = (tf.TensorSpec((BATCH, MAXLEN), tf.int32), tf.TensorSpec((BATCH, 1), tf.float32))
    compiled = tf.function(train, signature, jit_compile=jit).get_concrete_function()

    def step(x: Array, y: Array) -> float:
        return float(compiled(tf.constant(x), tf.constant(y)))

    return step
