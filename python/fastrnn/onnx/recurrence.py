"""RNN, LSTM and GRU of ONNX in plain NumPy, one direction, step by step: what the kernels do not have (clip, peepholes,
coupled gates, an elu with a negative alpha). Everything else runs on the kernels (recurrent.py)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..activations import Activation
from ..reference.pointwise import f as apply

Array = npt.NDArray[Any]
Step = Callable[[Array, Array, Array], tuple[Array, Array]]


class Weights(NamedTuple):
    """One direction, in ONNX's gate order: w (G*H, I), r (G*H, H), wb and rb (G*H,), p (3*H,) i o f or None."""

    w: Array
    r: Array
    wb: Array
    rb: Array
    p: Array | None


class Rules(NamedTuple):
    """What the attributes say of one direction."""

    activations: Sequence[Activation]
    clip: float | None
    input_forget: bool
    linear_before_reset: bool


def _activate(rules: Rules, slot: int, x: Array) -> Array:
    """Clip bounds the sums that go into f and g, neither the state c nor what h makes of it (as ONNX Runtime does)."""
    if rules.clip is not None and slot < 2:
        x = np.clip(x, x.dtype.type(-rules.clip), x.dtype.type(rules.clip))
    return apply(x, rules.activations[slot])


def _rnn(weights: Weights, rules: Rules) -> Step:
    def step(a: Array, h: Array, c: Array) -> tuple[Array, Array]:
        return _activate(rules, 0, a + h @ weights.r.T + weights.rb), c

    return step


def _lstm(weights: Weights, rules: Rules) -> Step:
    hidden = weights.r.shape[1]
    p = np.zeros(3 * hidden, weights.r.dtype) if weights.p is None else weights.p
    p_i, p_o, p_f = np.split(p, 3)

    def step(a: Array, h: Array, c: Array) -> tuple[Array, Array]:
        i, o, f, g = np.split(a + h @ weights.r.T + weights.rb, 4, axis=-1)
        i = _activate(rules, 0, i + p_i * c)
        f = 1 - i if rules.input_forget else _activate(rules, 0, f + p_f * c)
        c = f * c + i * _activate(rules, 1, g)
        o = _activate(rules, 0, o + p_o * c)
        return o * _activate(rules, 2, c), c

    return step


def _gru(weights: Weights, rules: Rules) -> Step:
    hidden = weights.r.shape[1]
    r_zr, r_h = weights.r[: 2 * hidden].T, weights.r[2 * hidden :].T
    b_zr, b_h = weights.rb[: 2 * hidden], weights.rb[2 * hidden :]

    def step(a: Array, h: Array, c: Array) -> tuple[Array, Array]:
        z, r = np.split(_activate(rules, 0, a[:, : 2 * hidden] + h @ r_zr + b_zr), 2, axis=-1)
        recurrent = r * (h @ r_h + b_h) if rules.linear_before_reset else (r * h) @ r_h + b_h
        n = _activate(rules, 1, a[:, 2 * hidden :] + recurrent)
        return (1 - z) * n + z * h, c

    return step


_STEPS = {"RNN": _rnn, "LSTM": _lstm, "GRU": _gru}


def run(
    op: str, x: Array, weights: Weights, rules: Rules, lengths: Array | None, h: Array, c: Array, reverse: bool,
    out: Array,
) -> tuple[Array, Array]:  # fmt: skip
    """x (T, B, I), h and c (B, H), lengths (B,) or None; writes out (T, B, H), zeros past the end of a row, and returns
    the final h and c. `reverse` walks the valid steps from the last to the first."""
    step = _STEPS[op](weights, rules)
    for t in reversed(range(len(x))) if reverse else range(len(x)):
        h_new, c_new = step(x[t] @ weights.w.T + weights.wb, h, c)
        if lengths is None:
            h, c = h_new, c_new
            out[t] = h
        else:
            valid = (t < lengths)[:, None]
            h, c = np.where(valid, h_new, h), np.where(valid, c_new, c)
            out[t] = np.where(valid, h, h.dtype.type(0))
    return h, c
