"""The NumPy reference of fastrnn: what plain array code costs."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench import cases
from bench.cases import Array, Problem
from bench.peers import Call
from fastrnn import reference


def _expected(problem: Problem) -> list[Call]:
    return [Call(problem.expected, list)]


layer = conv1d = dense = embedding = _expected


def stream(problem: cases.Stream) -> list[Call]:
    forward, x = getattr(reference, problem.cell), problem.x[None, None]
    state: Any = ()

    def run() -> Any:
        nonlocal state
        y, h_n = forward(x, *problem.weights, *state)[:2]
        state = h_n if problem.cell == "lstm" else (h_n,)
        return y

    return [Call(run, lambda y: [y[0, 0]], calls=problem.steps)]


def adam(problem: cases.Adam, update: Any = reference.adam_update) -> list[Call]:
    """`update`: this function, or another of its arguments."""
    p, g = problem.parameter.copy(), problem.gradient
    m, v, step = np.zeros_like(p), np.zeros_like(p), 0

    def run() -> Array:
        nonlocal step
        step += 1
        update(p, g, m, v, lr=problem.rate, beta1=problem.beta1, beta2=problem.beta2, eps=problem.epsilon, step=step)
        return p

    return [Call(run, lambda p: [p], calls=problem.updates)]
