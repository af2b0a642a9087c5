"""The training work of an IMDb epoch: four models, three cells, batches of reviews; and the reference's losses.

Embedding 32, 32 units, Adam. stacked = two recurrent layers; hybrid = Conv1D(32, 7, relu) + MaxPooling1D(5) +
recurrent; every model ends in Dense(1). All libraries start from the same weights and see the same batches in the
same order, so their losses must agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bench.cases import GATES, Array, random
from fastrnn import reference

MODELS = ("basic", "stacked", "bidirectional", "hybrid")
VOCABULARY, MAXLEN, EMBEDDING, UNITS, BATCH, WINDOW, POOL = 10_000, 500, 32, 32, 128, 7, 5
REVIEWS = 25_000
BATCHES = -(-REVIEWS // BATCH)  # of an epoch
RATE, BETA1, BETA2, EPSILON = 1e-3, 0.9, 0.999, 1e-7
CHECKED = 3  # batches whose losses are compared: the third has been through two updates of every weight

Recurrent = tuple[Array, Array, Array, Array]


@dataclass(frozen=True)
class Epoch:
    """`corpus`: a .npz with x (N, 500), padded ids, and y (N,), or "" for random ids. `skip_padding`: id 0 is masked
    (fastrnn alone is asked for that: what it saves a user who does not ask for identical work)."""

    model: str
    cell: str
    corpus: str = ""
    skip_padding: bool = False
    kind = "epoch"
    train = True

    @property
    def shape(self) -> tuple[int, ...]:
        return BATCH, MAXLEN, EMBEDDING, UNITS

    @cached_property
    def data(self) -> tuple[Array, Array]:
        """x (N, 500) int32 and y (N, 1) float32, shuffled."""
        rng = np.random.default_rng(1)
        if self.corpus:
            with np.load(self.corpus) as file:
                x, y = file["x"], file["y"]
            order = rng.permutation(len(x))
            return x[order], y[order].astype(np.float32)[:, None]
        x = np.minimum(rng.zipf(1.3, (24 * BATCH, MAXLEN)), VOCABULARY - 1).astype(np.int32)
        return x, rng.integers(0, 2, (len(x), 1)).astype(np.float32)

    def batch(self, number: int) -> tuple[Array, Array]:
        x, y = self.data
        first = number % (len(x) // BATCH) * BATCH
        return x[first : first + BATCH], y[first : first + BATCH]

    @cached_property
    def embedding(self) -> Array:
        return random((VOCABULARY, EMBEDDING), 0.05, 1)

    @cached_property
    def recurrent(self) -> list[Recurrent]:
        """One layer, or two: below and above each other (stacked), forward and reverse (bidirectional). The RNN and the
        LSTM have one bias to train, as in Keras: bias_hh is zero and stays so."""
        rows = GATES[self.cell] * UNITS
        layers = []
        for seed in (10, 20) if self.model in ("stacked", "bidirectional") else (10,):
            bias_hh = random((rows,), 0.1, seed + 3) if self.cell == "gru" else np.zeros(rows, np.float32)
            w, r = (random((rows, n), n**-0.5, seed + i) for i, n in enumerate((EMBEDDING, UNITS)))
            layers.append((w, r, random((rows,), 0.1, seed + 2), bias_hh))
        return layers

    @cached_property
    def convolution(self) -> tuple[Array, Array]:
        return random((UNITS, EMBEDDING, WINDOW), (EMBEDDING * WINDOW) ** -0.5, 3), np.zeros(UNITS, np.float32)

    @cached_property
    def dense(self) -> tuple[Array, Array]:
        inputs = UNITS * (2 if self.model == "bidirectional" else 1)
        return random((1, inputs), inputs**-0.5, 4), np.zeros(1, np.float32)

    @property
    def gflop(self) -> float:
        """Of the recurrent layers and the convolution of one batch, forward and backward."""
        steps = MAXLEN if self.model != "hybrid" else (MAXLEN - WINDOW + 1) // POOL
        layer = 2e-9 * BATCH * GATES[self.cell] * UNITS * (steps * (EMBEDDING + UNITS) - UNITS)
        conv = 2e-9 * BATCH * (MAXLEN - WINDOW + 1) * UNITS * EMBEDDING * WINDOW if self.model == "hybrid" else 0.0
        return 3 * (layer * len(self.recurrent) + conv)

    megabytes = 0.0

    def expected(self) -> list[Array]:
        """The losses of the first batches."""
        network = Reference(self)
        return [np.array([network.step(*self.batch(i)) for i in range(CHECKED)])]


class Reference:
    """The model in the words of fastrnn.reference: every gradient by hand, and Adam."""

    def __init__(self, problem: Epoch) -> None:
        self.problem = problem
        self.forward = getattr(reference, problem.cell)
        self.backward = getattr(reference, problem.cell + "_backward")
        layers = [weight for layer in problem.recurrent for weight in layer]
        conv = problem.convolution if problem.model == "hybrid" else ()
        self.parameters = [a.copy() for a in (problem.embedding, *problem.dense, *layers, *conv)]
        self.moments = [(np.zeros_like(p), np.zeros_like(p)) for p in self.parameters]
        self.steps = 0

    def step(self, ids: Array, y: Array) -> float:
        table, dense, dense_bias, *rest = self.parameters
        layers = [rest[i : i + 4] for i in range(0, 4 * len(self.problem.recurrent), 4)]
        conv = rest[4 * len(layers) :]
        model = self.problem.model
        x = embedded = reference.embedding(ids, table)
        if model == "hybrid":
            z = reference.conv1d(embedded, *conv, activation="relu")
            x, winners = reference.max_pool1d(z, POOL)
        passes = []
        states = []
        for i, layer in enumerate(layers):
            output, state, workspace = self.forward(
                x, *layer, reverse=model == "bidirectional" and i == 1, return_workspace=True
            )
            passes.append(workspace)
            states.append(state[0] if self.problem.cell == "lstm" else state)
            x = output if model == "stacked" else x
        last = np.concatenate(states, axis=1) if model == "bidirectional" else states[-1]
        logit = reference.linear(last, dense, dense_bias)
        loss = float(np.mean(np.logaddexp(0, logit) - y * logit))

        d_logit = ((1 / (1 + np.exp(-logit)) - y) / len(y)).astype(np.float32)
        d_last: Any
        d_last, d_dense, d_dense_bias = reference.linear_backward(last, dense, logit, d_logit)
        grads: list[Any] = []
        if model == "stacked":
            upper = self.backward(passes[1], None, d_last)
            lower = self.backward(passes[0], upper.grad_x, None)
            grads, d_x = [lower, upper], lower.grad_x
        else:
            grads = [self.backward(w, None, d) for w, d in zip(passes, np.split(d_last, len(passes), 1), strict=True)]
            d_x = sum(g.grad_x for g in grads)
        d_conv: list[Any] = []
        if model == "hybrid":
            d_z = reference.max_pool1d_backward(winners, d_x, z.shape[1])
            d_x, *d_conv = reference.conv1d_backward(embedded, conv[0], z, d_z, activation="relu")
        d_table = reference.embedding_backward(ids, d_x, VOCABULARY)
        d_layers = []
        for g in grads:
            d_hh = g.grad_bias_hh if self.problem.cell == "gru" else np.zeros_like(g.grad_bias_hh)
            d_layers += [g.grad_weight_ih, g.grad_weight_hh, g.grad_bias_ih, d_hh]
        self.update([d_table, d_dense, d_dense_bias, *d_layers, *d_conv])
        return loss

    def update(self, gradients: list[Any]) -> None:
        self.steps += 1
        for p, g, (m, v) in zip(self.parameters, gradients, self.moments, strict=True):
            reference.adam_update(p, g, m, v, lr=RATE, beta1=BETA1, beta2=BETA2, eps=EPSILON, step=self.steps)
