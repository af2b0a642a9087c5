"""Small models and data for the tests of models, training and saving. Shared; no tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn import layers as L
from fastrnn.models import Sequential
from fastrnn.optimizers import SGD

Array = Any


def data(count: int = 20, inputs: int = 3, seed: int = 0) -> tuple[Array, Array]:
    """x (count, inputs), y (count,) of 0 and 1."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, inputs)).astype(np.float32)
    return x, (x.sum(axis=1) > 0).astype(int)


def linear(inputs: int = 3, outputs: int = 1, activation: Any = None, **compiled: Any) -> Sequential:
    """One Dense layer with random weights, compiled with SGD and mse unless told otherwise."""
    model = Sequential([L.Input((inputs,)), L.Dense(outputs, activation=activation)])
    model.set_weights([np.random.default_rng(7).normal(size=w.shape) for w in model.weights])
    model.compile(**{"optimizer": SGD(0.1), "loss": "mse", **compiled})
    return model


def shake(model: Sequential, seed: int = 0, scale: float = 0.6) -> None:
    """Random weights everywhere."""
    rng = np.random.default_rng(seed)
    for v in model.weights:
        v.assign(rng.normal(0.0, scale, v.shape))


def step_gradients(model: Sequential, x: Array, y: Array, **options: Any) -> list[Array]:
    """The gradients of one step of training, seen from outside: what SGD with rate 1 takes away."""
    optimizer = model.optimizer
    assert isinstance(optimizer, SGD) and optimizer.learning_rate == 1.0
    before = model.get_weights()
    model.train_on_batch(x, y, **options)
    after = model.get_weights()
    model.set_weights(before)
    return [b - a for b, a in zip(before, after, strict=True)]
