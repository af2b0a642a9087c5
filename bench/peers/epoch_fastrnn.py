"""The IMDb models in fastrnn."""

from __future__ import annotations

from collections.abc import Iterator

from bench import epochs
from bench.cases import Array
from bench.epochs import Epoch
from bench.peers import Call
from bench.peers.epoch_keras_style import network, steps
from fastrnn import layers, models, optimizers


def epoch(problem: Epoch) -> Iterator[Call]:
    model = network(problem, layers, models.Sequential, [])
    adam = optimizers.Adam(epochs.RATE, epochs.BETA1, epochs.BETA2, epochs.EPSILON)
    model.compile(optimizer=adam, loss="binary_crossentropy")

    def step(x: Array, y: Array) -> float:
        loss = model.train_on_batch(x, y)
        return float(loss[0] if isinstance(loss, (list, tuple)) else loss)

    yield steps(problem, step)
