"""Tools of the layer tests: an independent step-by-step Keras recurrence and a gradient check. Shared; no tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastrnn import initializers
from fastrnn.layers import Layer

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng


def randomize(layer: Layer, seed: int = 0, scale: float = 0.7) -> None:
    """Random weights everywhere: zeros and constants would hide a wrong gate order."""
    rng = RNG(seed)
    for variable in layer.weights:
        variable.assign(rng.normal(0.0, scale, variable.shape))


def _sigmoid(a: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-a))


ACTS: dict[str, Callable[[Array], Array]] = {
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
    "relu": lambda a: np.maximum(a, 0.0),
    "hard_sigmoid": lambda a: np.clip(a / 6.0 + 0.5, 0.0, 1.0),
    "linear": lambda a: a,
    "softsign": lambda a: a / (1.0 + np.abs(a)),
}


def keras_step(
    cell: str, weights: Sequence[Array], x: Array, states: list[Array], act: str, rec: str, reset_after: bool
) -> list[Array]:
    """One step for one sequence, with Keras's layouts and gate orders (i f c o; z r h): x (I,), states (U,)."""
    kernel, recurrent = weights[0], weights[1]
    bias = weights[2] if len(weights) > 2 else np.zeros(kernel.shape[1])
    h = states[0]
    units = len(h)
    f, g = ACTS[act], ACTS[rec]

    def gate(k: int) -> slice:
        return slice(k * units, (k + 1) * units)

    if cell == "SimpleRNN":
        return [f(x @ kernel + h @ recurrent + bias)]
    if cell == "LSTM":
        a = x @ kernel + h @ recurrent + bias
        i, forget, candidate, o = g(a[gate(0)]), g(a[gate(1)]), f(a[gate(2)]), g(a[gate(3)])
        c = forget * states[1] + i * candidate
        return [o * f(c), c]
    b_in, b_rec = bias if bias.ndim == 2 else (bias, np.zeros_like(bias))
    a = x @ kernel + b_in
    z = g(a[gate(0)] + h @ recurrent[:, gate(0)] + b_rec[gate(0)])
    r = g(a[gate(1)] + h @ recurrent[:, gate(1)] + b_rec[gate(1)])
    if reset_after:
        candidate = f(a[gate(2)] + r * (h @ recurrent[:, gate(2)] + b_rec[gate(2)]))
    else:
        candidate = f(a[gate(2)] + (r * h) @ recurrent[:, gate(2)])
    return [z * h + (1.0 - z) * candidate]


def keras_loop(
    cell: str, weights: Sequence[Array], x: Array, *, mask: Array | None = None, go_backwards: bool = False,
    zero_output: bool = False, initial: Sequence[Array] | None = None, act: str = "tanh", rec: str = "sigmoid",
    reset_after: bool = True,
) -> tuple[Array, Array, list[Array]]:  # fmt: skip
    """What Keras computes, one sequence and one step at a time: all outputs (B, T, U) in the order of processing,
    the last output (B, U), the final states."""
    B, T, _ = x.shape
    units = weights[1].shape[0]
    count = 2 if cell == "LSTM" else 1
    outputs = np.zeros((B, T, units))
    finals = [np.zeros((B, units)) for _ in range(count)]
    for b in range(B):
        states = [np.zeros(units) if initial is None else initial[k][b] for k in range(count)]
        output = np.zeros(units)
        for n, t in enumerate(reversed(range(T)) if go_backwards else range(T)):
            if mask is None or mask[b, t]:
                states = keras_step(cell, weights, x[b, t], states, act, rec, reset_after)
                output = states[0]
            elif zero_output:
                output = np.zeros(units)
            outputs[b, n] = output
        for k in range(count):
            finals[k][b] = states[k]
    return outputs, outputs[:, -1], finals


def flat(y: Any) -> list[Array]:
    return list(y) if isinstance(y, (list, tuple)) else [y]


def check_gradients(
    layer: Layer, x: Array, *, mask: Array | None = None, seed: int = 1, differentiate_x: bool = True,
    tol: float = 2e-7, **call: Any,
) -> None:  # fmt: skip
    """Analytic against numeric derivative of sum(y * random) along random directions, of x and of every weight."""
    rng = RNG(seed)
    if not layer.built:
        layer.build(x.shape if layer.stateful else (None, *x.shape[1:]))
        randomize(layer, seed)

    def run() -> list[Array]:
        initializers.set_seed(99)  # the same dropout masks every time
        layer.reset_states()
        return flat(layer.forward(x, training=True, mask=mask, **call))

    upstream = [rng.normal(size=part.shape) for part in run()]

    def value() -> float:
        return float(sum((part * u).sum() for part, u in zip(run(), upstream, strict=True)))

    run()
    grad_x = layer.backward(upstream if len(upstream) > 1 else upstream[0])
    targets = [(v.name, v.value, v.grad) for v in layer.weights]
    if differentiate_x:
        targets.append(("x", x, grad_x))
    for name, array, gradient in targets:
        assert gradient is not None and gradient.shape == array.shape, name
        assert gradient.dtype == array.dtype and array.dtype == np.float64
        for _ in range(2):
            direction, saved, eps = rng.normal(size=array.shape), array.copy(), 1e-5
            array += eps * direction
            above = value()
            array[...] = saved - eps * direction
            below = value()
            array[...] = saved
            numeric, analytic = (above - below) / (2 * eps), float((gradient * direction).sum())
            assert abs(numeric - analytic) <= tol * max(1.0, abs(numeric), abs(analytic)), (name, numeric, analytic)
