"""Shapes and problems of the benchmark: what every library has to compute, and the reference's answer. No timing here.

Shapes of recurrent layers are (B, T, I, H): batch, steps, inputs, units. The output is the whole sequence; training is
forward and the gradients of the input, both weights and the bias.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fastrnn import reference

Array = npt.NDArray[Any]
Shape = tuple[int, int, int, int]
GATES = {"rnn": 1, "lstm": 4, "gru": 3}

# the default: one row, a batch
SMALL: tuple[Shape, ...] = ((1, 100, 64, 64), (64, 50, 128, 128))
# --grid: what is published
GRID: tuple[Shape, ...] = (
    (1, 100, 64, 64), (1, 100, 128, 128), (1, 100, 256, 256), (1, 50, 512, 512), (32, 10, 1, 50), (32, 100, 1, 50),
    (32, 200, 128, 64), (64, 200, 128, 128), (128, 100, 256, 256), (32, 50, 512, 512), (64, 25, 1024, 1024),
)  # fmt: skip
# --scaling: one extent of this LSTM at a time
BASE: Shape = (32, 100, 128, 128)
SCALING: tuple[Shape, ...] = (
    *((B, 100, 128, 128) for B in (1, 2, 4, 8, 16, 32, 64, 128, 256)),
    *((32, T, 128, 128) for T in (1, 10, 30, 300, 1000)),
    *((32, 100, H, H) for H in (8, 16, 32, 64, 256, 512)),
)


class Problem(Protocol):
    """What a case is: `kind` names the function of a peer that can compute it."""

    @property
    def kind(self) -> str: ...
    @property
    def train(self) -> bool: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def gflop(self) -> float: ...
    @property
    def megabytes(self) -> float: ...
    def expected(self) -> list[Array]: ...


def random(shape: tuple[int, ...], scale: float = 1.0, seed: int = 7) -> Array:
    return (np.random.default_rng([seed, *shape]).standard_normal(shape) * scale).astype(np.float32)


@dataclass(frozen=True)
class Layer:
    """One recurrent layer; weights in PyTorch's shapes and gate order."""

    cell: str
    shape: Shape
    train: bool
    kind = "layer"

    @cached_property
    def x(self) -> Array:
        B, T, I, _ = self.shape
        return random((B, T, I))

    @cached_property
    def weights(self) -> tuple[Array, Array, Array, Array]:
        """weight_ih, weight_hh, bias_ih, bias_hh"""
        _, _, I, H = self.shape
        rows = GATES[self.cell] * H
        return (
            random((rows, I), I**-0.5),
            random((rows, H), H**-0.5, 8),
            random((rows,), 0.1, 9),
            random((rows,), 0.1, 10),
        )

    @cached_property
    def grad_output(self) -> Array:
        B, T, _, H = self.shape
        return random((B, T, H), seed=11)

    @property
    def gflop(self) -> float:
        """The products of all steps but that with the state before the first one, which is zero. Training is counted
        as three times the forward pass."""
        B, T, _, H = self.shape
        return T * self.step_gflop - (3 if self.train else 1) * 2e-9 * B * GATES[self.cell] * H * H

    @property
    def step_gflop(self) -> float:
        """Of a step that is not the first."""
        B, _, I, H = self.shape
        return (3 if self.train else 1) * 2e-9 * B * GATES[self.cell] * H * (I + H)

    @property
    def megabytes(self) -> float:
        """What has to be moved at least: every argument and result once."""
        B, T, I, H = self.shape
        weights, x, y = GATES[self.cell] * H * (I + H + 2), B * T * I, B * T * H
        return 4e-6 * (2 * (weights + x + y) if self.train else weights + x + y)

    def expected(self) -> list[Array]:
        forward = getattr(reference, self.cell)
        if not self.train:
            return [forward(self.x, *self.weights)[0]]
        output, _, workspace = forward(self.x, *self.weights, return_workspace=True)
        grads = getattr(reference, self.cell + "_backward")(workspace, self.grad_output)
        return [output, grads.grad_x, grads.grad_weight_ih, grads.grad_weight_hh, grads.grad_bias_ih]


@dataclass(frozen=True)
class Stream:
    """One step of one sequence, the state carried from call to call. shape: I, H. The answer is h after eight steps."""

    cell: str
    shape: tuple[int, int]
    kind = "stream"
    train = False
    steps = 8

    @cached_property
    def x(self) -> Array:
        return random(self.shape[:1])

    @cached_property
    def weights(self) -> tuple[Array, Array, Array, Array]:
        return Layer(self.cell, (1, 1, *self.shape), False).weights

    @property
    def gflop(self) -> float:
        return Layer(self.cell, (1, 1, *self.shape), False).step_gflop

    @property
    def megabytes(self) -> float:
        return Layer(self.cell, (1, 1, *self.shape), False).megabytes

    def expected(self) -> list[Array]:
        steps = np.repeat(self.x[None, None], self.steps, axis=1)
        return [getattr(reference, self.cell)(steps, *self.weights)[0][0, -1]]


@dataclass(frozen=True)
class Conv1D:
    """Convolution over time with relu. shape: B, T, C, F, K (filters, window); x (B, T, C), weight (F, C, K)."""

    shape: tuple[int, int, int, int, int]
    train: bool
    kind = "conv1d"

    @cached_property
    def x(self) -> Array:
        B, T, C, _, _ = self.shape
        return random((B, T, C))

    @cached_property
    def weights(self) -> tuple[Array, Array]:
        _, _, C, F, K = self.shape
        return random((F, C, K), (C * K) ** -0.5), random((F,), 0.1)

    @cached_property
    def grad_output(self) -> Array:
        """Zero where relu is within rounding of its kink: there each library may take either side."""
        B, T, _, F, K = self.shape
        grad = random((B, T - K + 1, F), seed=11)
        grad[np.abs(reference.conv1d(self.x, *self.weights)) < 1e-5] = 0
        return grad

    @property
    def gflop(self) -> float:
        B, T, C, F, K = self.shape
        return (3 if self.train else 1) * 2e-9 * B * (T - K + 1) * C * F * K

    @property
    def megabytes(self) -> float:
        return 4e-6 * (2 if self.train else 1) * (self.x.size + self.weights[0].size + self.grad_output.size)

    def expected(self) -> list[Array]:
        y = reference.conv1d(self.x, *self.weights, activation="relu")
        if not self.train:
            return [y]
        gradients: tuple[Any, ...] = reference.conv1d_backward(
            self.x, self.weights[0], y, self.grad_output, activation="relu"
        )
        return [y, *gradients]


@dataclass(frozen=True)
class Dense:
    """x (B, I) . weight (O, I)^T + bias, with tanh. shape: B, I, O."""

    shape: tuple[int, int, int]
    train: bool
    kind = "dense"

    @cached_property
    def x(self) -> Array:
        return random(self.shape[:2])

    @cached_property
    def weights(self) -> tuple[Array, Array]:
        _, I, O = self.shape
        return random((O, I), I**-0.5), random((O,), 0.1)

    @cached_property
    def grad_output(self) -> Array:
        B, _, O = self.shape
        return random((B, O), seed=11)

    @property
    def gflop(self) -> float:
        B, I, O = self.shape
        return (3 if self.train else 1) * 2e-9 * B * I * O

    @property
    def megabytes(self) -> float:
        return 4e-6 * (2 if self.train else 1) * (self.x.size + self.weights[0].size + self.grad_output.size)

    def expected(self) -> list[Array]:
        y = reference.linear(self.x, *self.weights, activation="tanh")
        if not self.train:
            return [y]
        gradients: tuple[Any, ...] = reference.linear_backward(
            self.x, self.weights[0], y, self.grad_output, activation="tanh"
        )
        return [y, *gradients]


@dataclass(frozen=True)
class Embedding:
    """Rows of a table, and the dense gradient of the table. shape: B, T, V, E; ids (B, T), weight (V, E)."""

    shape: tuple[int, int, int, int]
    train: bool
    kind = "embedding"

    @cached_property
    def ids(self) -> Array:
        B, T, V, _ = self.shape
        # words are drawn as in text: few are frequent
        return np.minimum(np.random.default_rng(5).zipf(1.3, (B, T)), V - 1)

    @cached_property
    def weight(self) -> Array:
        return random(self.shape[2:])

    @cached_property
    def grad_output(self) -> Array:
        B, T, _, E = self.shape
        return random((B, T, E), seed=11)

    gflop = 0.0

    @property
    def megabytes(self) -> float:
        """Forward reads and writes B T rows; the gradient reads them and writes the table."""
        moved = 2 * self.grad_output.size + (self.grad_output.size + self.weight.size if self.train else 0)
        return 4e-6 * moved

    def expected(self) -> list[Array]:
        y = reference.embedding(self.ids, self.weight)
        if not self.train:
            return [y]
        return [y, reference.embedding_backward(self.ids, self.grad_output, self.shape[2])]


@dataclass(frozen=True)
class Adam:
    """One update of a vector of `size` parameters. The answer is the parameter after three, with the same gradient."""

    size: int
    train: bool = True
    kind = "adam"
    rate, beta1, beta2, epsilon, updates = 1e-3, 0.9, 0.999, 1e-7, 3

    @property
    def shape(self) -> tuple[int]:
        return (self.size,)

    @cached_property
    def parameter(self) -> Array:
        return random((self.size,))

    @cached_property
    def gradient(self) -> Array:
        """Away from 0, where the libraries place epsilon differently."""
        normal = random((self.size,), seed=11)
        return normal + np.copysign(np.float32(0.5), normal)

    gflop = 0.0

    @property
    def megabytes(self) -> float:
        """Reads four vectors and writes three."""
        return 4e-6 * 7 * self.size

    def expected(self) -> list[Array]:
        p, m, v = self.parameter.copy(), np.zeros_like(self.parameter), np.zeros_like(self.parameter)
        for step in range(1, self.updates + 1):
            reference.adam_update(p, self.gradient, m, v, lr=self.rate, beta1=self.beta1, beta2=self.beta2,
                                  eps=self.epsilon, step=step)  # fmt: skip
        return [p]
