"""JAX: jax.lax.scan over time, the input's product taken out of the loop, everything under one jax.jit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench import cases
from bench.cases import Array
from bench.peers import Call

_BLOCK: Any = jax.block_until_ready


def _cell(cell: str, weight_hh: Any, bias_hh: Any) -> Callable[[Any, Any], Any]:
    """(carry, projected input) -> (carry, h); weight_hh is (H, G H)."""

    def rnn(h: Any, p: Any) -> Any:
        h = jnp.tanh(p + h @ weight_hh + bias_hh)
        return h, h

    def lstm(carry: Any, p: Any) -> Any:
        h, c = carry
        i, f, g, o = jnp.split(p + h @ weight_hh + bias_hh, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    def gru(h: Any, p: Any) -> Any:
        px, rx, nx = jnp.split(p, 3, axis=-1)
        ph, rh, nh = jnp.split(h @ weight_hh + bias_hh, 3, axis=-1)
        r, z = jax.nn.sigmoid(px + ph), jax.nn.sigmoid(rx + rh)
        n = jnp.tanh(nx + r * nh)
        h = n + z * (h - n)
        return h, h

    return {"rnn": rnn, "lstm": lstm, "gru": gru}[cell]


def _forward(problem: cases.Layer, unroll: int) -> Callable[..., Any]:
    B, _, _, H = problem.shape

    def forward(x: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any, bias_hh: Any) -> Any:
        zero = jnp.zeros((B, H))
        start = (zero, zero) if problem.cell == "lstm" else zero
        step = _cell(problem.cell, weight_hh, bias_hh)
        return jax.lax.scan(step, start, x @ weight_ih + bias_ih, unroll=unroll)[1]

    return forward


def _compiled(function: Callable[..., Any], arguments: list[Any], answer: Any, name: str = "") -> Call:
    compiled = jax.jit(function).lower(*arguments).compile()

    def run() -> Any:
        return _BLOCK(compiled(*arguments))

    return Call(run, answer, name)


def _with_gradients(forward: Callable[..., Any]) -> Callable[..., Any]:
    def both(grad_output: Any, *arguments: Any) -> Any:
        y, pull = jax.vjp(forward, *arguments)
        return y, *pull(grad_output)

    return both


def layer(problem: cases.Layer) -> Iterator[Call]:
    weight_ih, weight_hh, bias_ih, bias_hh = problem.weights
    arguments = [jnp.asarray(problem.x.swapaxes(0, 1)), jnp.asarray(weight_ih.T), jnp.asarray(weight_hh.T),
                 jnp.asarray(bias_ih), jnp.asarray(bias_hh)]  # fmt: skip
    grad_output = jnp.asarray(problem.grad_output.swapaxes(0, 1))

    def gradients(result: Any) -> list[Array]:
        y, x, w, r, b, _ = map(np.asarray, result)
        return [y.swapaxes(0, 1), x.swapaxes(0, 1), w.T, r.T, b]

    for unroll in (1, 4) if problem.train else (1,):  # which is faster depends on the shape
        forward = _forward(problem, unroll)
        if problem.train:
            yield _compiled(_with_gradients(forward), [grad_output, *arguments], gradients, f"unroll {unroll}")
        else:
            yield _compiled(forward, arguments, lambda y: [np.asarray(y).swapaxes(0, 1)], f"unroll {unroll}")


def stream(problem: cases.Stream) -> list[Call]:
    """The step of the scan by itself, the state given back to be written over."""
    weight_ih, weight_hh, bias_ih, bias_hh = (jnp.asarray(value.T) for value in problem.weights)
    x, zero = jnp.asarray(problem.x), jnp.zeros(problem.shape[1])

    def step(state: Any, x: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any, bias_hh: Any) -> Any:
        return _cell(problem.cell, weight_hh, bias_hh)(state, x @ weight_ih + bias_ih)[0]

    state: Any = (zero, jnp.zeros_like(zero)) if problem.cell == "lstm" else zero
    arguments = x, weight_ih, weight_hh, bias_ih, bias_hh
    compiled = jax.jit(step, donate_argnums=0).lower(state, *arguments).compile()

    def run() -> Any:
        nonlocal state
        state = _BLOCK(compiled(state, *arguments))
        return state

    return [Call(run, lambda s: [np.array(s[0] if problem.cell == "lstm" else s)], calls=problem.steps)]


def _call(forward: Callable[..., Any], arguments: list[Any], grad: Array, train: bool, answer: Any) -> list[Call]:
    arguments = [jnp.asarray(a) for a in arguments]
    if train:
        return [_compiled(_with_gradients(forward), [jnp.asarray(grad), *arguments], answer)]
    return [_compiled(forward, arguments, lambda y: answer((y,)))]


def _arrays(result: Any) -> list[Array]:
    return [np.asarray(value) for value in result]


def conv1d(problem: cases.Conv1D) -> list[Call]:
    weight, bias = problem.weights

    def forward(x: Any, w: Any, b: Any) -> Any:
        y = jax.lax.conv_general_dilated(x, w, (1,), "VALID", dimension_numbers=("NWC", "WIO", "NWC"))
        return jax.nn.relu(y + b)

    def answer(result: Any) -> list[Array]:
        arrays = _arrays(result)
        return [a.transpose(2, 1, 0) if i == 2 else a for i, a in enumerate(arrays)]

    arguments = [problem.x, weight.transpose(2, 1, 0), bias]
    return _call(forward, arguments, problem.grad_output, problem.train, answer)


def dense(problem: cases.Dense) -> list[Call]:
    def answer(result: Any) -> list[Array]:
        arrays = _arrays(result)
        return [a.T if i == 2 else a for i, a in enumerate(arrays)]

    weight, bias = problem.weights
    arguments = [problem.x, weight.T, bias]
    return _call(lambda x, w, b: jnp.tanh(x @ w + b), arguments, problem.grad_output, problem.train, answer)


def embedding(problem: cases.Embedding) -> list[Call]:
    ids = jnp.asarray(problem.ids.astype(np.int32))
    return _call(lambda w: w[ids], [problem.weight], problem.grad_output, problem.train, _arrays)


def adam(problem: cases.Adam) -> list[Call]:
    """The formula under jax.jit, the buffers given back to be written over."""

    def update(p: Any, m: Any, v: Any, step: Any, g: Any) -> Any:
        step = step + 1
        m = m + (1 - problem.beta1) * (g - m)
        v = v + (1 - problem.beta2) * (g * g - v)
        rate = problem.rate * jnp.sqrt(1 - problem.beta2**step) / (1 - problem.beta1**step)
        return p - rate * m / (jnp.sqrt(v) + problem.epsilon), m, v, step

    p, g = jnp.array(problem.parameter), jnp.asarray(problem.gradient)
    state = (p, jnp.zeros_like(p), jnp.zeros_like(p), jnp.float32(0))
    compiled = jax.jit(update, donate_argnums=(0, 1, 2, 3)).lower(*state, g).compile()

    def run() -> Any:
        nonlocal state
        state = _BLOCK(compiled(*state, g))
        return state[0]

    return [Call(run, lambda p: [np.array(p)], calls=problem.updates)]
