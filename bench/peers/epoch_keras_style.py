"""The IMDb models in Keras's words: fastrnn and Keras take the same layers and the same list of weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bench.cases import Array
from bench.epochs import CHECKED, EMBEDDING, MAXLEN, POOL, UNITS, VOCABULARY, WINDOW, Epoch
from bench.peers import Call
from bench.peers.gates import permute


def network(problem: Epoch, layers: Any, sequential: Any, first: list[Any]) -> Any:
    """`first`: layers in front, such as an input layer."""
    recurrent = {"rnn": layers.SimpleRNN, "lstm": layers.LSTM, "gru": layers.GRU}[problem.cell]
    options = {"mask_zero": True} if problem.skip_padding and problem.model != "hybrid" else {}
    stack = [*first, layers.Embedding(VOCABULARY, EMBEDDING, **options)]
    if problem.model == "stacked":
        stack.append(recurrent(UNITS, return_sequences=True))
    if problem.model == "hybrid":
        stack += [layers.Conv1D(UNITS, WINDOW, activation="relu"), layers.MaxPooling1D(POOL)]
    stack.append(layers.Bidirectional(recurrent(UNITS)) if problem.model == "bidirectional" else recurrent(UNITS))
    model = sequential([*stack, layers.Dense(1, activation="sigmoid")])
    model.build((None, MAXLEN))
    model.set_weights(weights(problem))
    return model


def weights(problem: Epoch) -> list[Array]:
    order = (1, 0, 2) if problem.cell == "gru" else tuple(range({"rnn": 1, "lstm": 4}[problem.cell]))
    recurrent: list[Array] = []
    for layer in problem.recurrent:
        weight_ih, weight_hh, bias_ih, bias_hh = (permute(value, order) for value in layer)
        bias = np.stack([bias_ih, bias_hh]) if problem.cell == "gru" else bias_ih
        recurrent += [weight_ih.T, weight_hh.T, bias]
    conv = [problem.convolution[0].transpose(2, 1, 0), problem.convolution[1]] if problem.model == "hybrid" else []
    return [problem.embedding, *conv, *recurrent, problem.dense[0].T, problem.dense[1]]


def steps(problem: Epoch, step: Callable[[Array, Array], float], name: str = "") -> Call:
    """A call trains on the next batch; the answer is the losses of the first."""
    losses: list[float] = []
    number = 0

    def run() -> None:
        nonlocal number
        x, y = problem.batch(number)
        number += 1
        loss = step(x, y)
        if len(losses) < CHECKED:
            losses.append(loss)

    return Call(run, lambda _: [np.array(losses)], name, CHECKED)
