"""RNN, LSTM and GRU in NumPy, forward and BPTT, written like the equations: the specification and the oracle.

Not fast (a Python loop over time, vectorised over the batch), and no checks: functional.py checks its arguments.
Letters: T time, B batch, I input, H hidden, G gates. A cell is `gates` and two functions of one step; the driver below
(`_forward`, `_backward`) owns time, lengths, masks, direction and layout, and knows no cell by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..activations import Activation, Spec, parse
from ..gradients import LSTMGradients, RNNGradients
from .pointwise import d_f, f

Array = npt.NDArray[Any]
State = tuple[Array, ...]  # (h,) or (h, c), each (B, H)
Mask = Array | int  # (B, H): multiplies h where it enters the recurrent product; 1 for none


class StepGradients(NamedTuple):
    """What one step of a cell gives back."""

    gx: Array  # (B, G*H) of gx = W x + b_ih
    gh: Array  # (B, G*H) of gh = R h + b_hh
    weight_hh: Array  # (G*H, H) this step's share
    state: State  # of the state the step was given


class _RNN:
    """h' = act(W x + b_ih + R h + b_hh)"""

    gates = 1
    has_cell_state = False

    def __init__(self, activation: Spec) -> None:
        self.act = parse(activation)

    def forward(self, gx: Array, state: State, R: Array, b_hh: Array, m: Mask) -> tuple[State, Any]:
        hm = state[0] * m
        a = gx + hm @ R.T + b_hh
        return (f(a, self.act),), (hm, a)

    def backward(self, grad: State, cache: Any, R: Array, m: Mask) -> StepGradients:
        (dh,) = grad
        hm, a = cache
        da = dh * d_f(a, self.act)
        return StepGradients(da, da, da.T @ hm, (da @ R * m,))


class _LSTM:
    """i, f, o = rec(...), g = act(...); c' = f c + i g; h' = o out(c').  Gates i f g o."""

    gates = 4
    has_cell_state = True

    def __init__(self, activation: Spec, recurrent_activation: Spec, output_activation: Spec) -> None:
        self.act = parse(activation)
        self.rec = parse(recurrent_activation)
        self.out = self.act if output_activation is None else parse(output_activation)

    def forward(self, gx: Array, state: State, R: Array, b_hh: Array, m: Mask) -> tuple[State, Any]:
        h, c = state
        hm = h * m
        a = gx + hm @ R.T + b_hh
        a_i, a_f, a_g, a_o = np.split(a, 4, axis=1)
        i, f_, g, o = f(a_i, self.rec), f(a_f, self.rec), f(a_g, self.act), f(a_o, self.rec)
        c_new = f_ * c + i * g
        return (o * f(c_new, self.out), c_new), (hm, c, a, i, f_, g, o, c_new)

    def backward(self, grad: State, cache: Any, R: Array, m: Mask) -> StepGradients:
        dh, dc = grad
        hm, c, a, i, f_, g, o, c_new = cache
        a_i, a_f, a_g, a_o = np.split(a, 4, axis=1)
        dc = dc + dh * o * d_f(c_new, self.out)
        da_i = dc * g * d_f(a_i, self.rec)
        da_f = dc * c * d_f(a_f, self.rec)
        da_g = dc * i * d_f(a_g, self.act)
        da_o = dh * f(c_new, self.out) * d_f(a_o, self.rec)
        da = np.concatenate([da_i, da_f, da_g, da_o], axis=1)
        return StepGradients(da, da, da.T @ hm, (da @ R * m, dc * f_))


class _GRU:
    """r, z = rec(...); h' = (1 - z) n + z h.  Gates r z n.

    reset after:  n = act(W_n x + b_in + r (R_n h + b_hn));  reset before:  n = act(W_n x + b_in + R_n (r h) + b_hn)
    """

    gates = 3
    has_cell_state = False

    def __init__(self, activation: Spec, recurrent_activation: Spec, reset_after: bool) -> None:
        self.act = parse(activation)
        self.rec = parse(recurrent_activation)
        self.reset_after = reset_after

    def forward(self, gx: Array, state: State, R: Array, b_hh: Array, m: Mask) -> tuple[State, Any]:
        (h,) = state
        H = h.shape[1]
        hm = h * m
        a_rz = gx[:, : 2 * H] + hm @ R[: 2 * H].T + b_hh[: 2 * H]
        rz = f(a_rz, self.rec)
        r, z = np.split(rz, 2, axis=1)
        R_n, b_hn = R[2 * H :], b_hh[2 * H :]
        if self.reset_after:
            gh_n = hm @ R_n.T + b_hn
            a_n = gx[:, 2 * H :] + r * gh_n
        else:
            gh_n = (r * hm) @ R_n.T + b_hn
            a_n = gx[:, 2 * H :] + gh_n
        n = f(a_n, self.act)
        return ((1 - z) * n + z * h,), (h, hm, a_rz, r, z, a_n, n, gh_n)

    def backward(self, grad: State, cache: Any, R: Array, m: Mask) -> StepGradients:
        (dh_new,) = grad
        h, hm, a_rz, r, z, a_n, n, gh_n = cache
        H = h.shape[1]
        R_rz, R_n = R[: 2 * H], R[2 * H :]
        dz = dh_new * (h - n)
        da_n = dh_new * (1 - z) * d_f(a_n, self.act)
        dh = dh_new * z
        if self.reset_after:
            dr = da_n * gh_n
            dgh_n = da_n * r
            dR_n = dgh_n.T @ hm
            dh += dgh_n @ R_n * m
        else:
            drh = da_n @ R_n
            dr = drh * hm
            dgh_n = da_n
            dR_n = dgh_n.T @ (r * hm)
            dh += drh * r * m
        da_rz = np.concatenate([dr, dz], axis=1) * d_f(a_rz, self.rec)
        dh += da_rz @ R_rz * m
        return StepGradients(
            np.concatenate([da_rz, da_n], axis=1),
            np.concatenate([da_rz, dgh_n], axis=1),
            np.concatenate([da_rz.T @ hm, dR_n]),
            (dh,),
        )


_Cell = _RNN | _LSTM | _GRU


@dataclass
class Workspace:
    """What backward needs of a forward call. x is a time-major view with zeros at the positions not processed."""

    cell: _Cell
    x: Array  # (T, B, I)
    valid: npt.NDArray[np.bool_]  # (T, B)
    weight_ih: Array
    weight_hh: Array
    has_bias: tuple[bool, bool]
    has_state: tuple[bool, ...]
    recurrent_mask: Mask
    reverse: bool
    batch_first: bool
    caches: dict[int, Any] = field(default_factory=dict)  # one per step

    def steps(self) -> Iterator[int]:
        """Time steps in processing order. With `valid` respected, T-1..0 walks each row from its last valid step."""
        times = range(self.x.shape[0])
        return iter(reversed(times) if self.reverse else times)


def _valid_steps(T: int, B: int, lengths: Array | None, mask: Array | None) -> npt.NDArray[np.bool_]:
    assert lengths is None or mask is None
    if lengths is not None:
        return np.arange(T)[:, None] < np.asarray(lengths)[None, :]
    if mask is not None:
        return np.asarray(mask, dtype=np.bool_).T
    return np.ones((T, B), dtype=np.bool_)


def _forward(
    cell: _Cell, x: Array, weight_ih: Array, weight_hh: Array, bias_ih: Array | None, bias_hh: Array | None,
    initial: tuple[Array | None, ...], *, lengths: Array | None, mask: Array | None, reverse: bool,
    batch_first: bool, recurrent_mask: Array | None, return_sequences: bool, return_workspace: bool,
    out: Array | None,
) -> tuple[Array | None, State, Workspace]:  # fmt: skip
    xt = x.swapaxes(0, 1) if batch_first else x  # (T, B, I), a view
    T, B, _ = xt.shape
    GH, H = weight_hh.shape
    assert cell.gates * H == GH == weight_ih.shape[0], (weight_ih.shape, weight_hh.shape)
    valid = _valid_steps(T, B, lengths, mask)
    xt = np.where(valid[:, :, None], xt, x.dtype.type(0))  # whatever stands in the padding is never used
    workspace = Workspace(
        cell, xt, valid, weight_ih, weight_hh, (bias_ih is not None, bias_hh is not None),
        tuple(s is not None for s in initial), 1 if recurrent_mask is None else recurrent_mask, reverse, batch_first,
    )  # fmt: skip

    gx = xt @ weight_ih.T  # the input projection of all steps
    if bias_ih is not None:
        gx += bias_ih
    b_hh = np.zeros(GH, x.dtype) if bias_hh is None else bias_hh
    state: State = tuple(np.zeros((B, H), x.dtype) if s is None else s.copy() for s in initial)

    output = None
    if return_sequences:
        output = np.empty((B, T, H) if batch_first else (T, B, H), x.dtype) if out is None else out
    for t in workspace.steps():
        new, cache = cell.forward(gx[t], state, weight_hh, b_hh, workspace.recurrent_mask)
        keep = valid[t][:, None]
        state = tuple(np.where(keep, n, s) for n, s in zip(new, state, strict=True))
        if output is not None:
            output[(slice(None), t) if batch_first else t] = np.where(keep, new[0], 0)
        if return_workspace:
            workspace.caches[t] = cache
    return output, state, workspace


def _backward(
    workspace: Workspace, grad_output: Array | None, grad_state: tuple[Array | None, ...], need_grad_x: bool
) -> tuple[Array | None, Array, Array, Array | None, Array | None, tuple[Array | None, ...]]:
    ws = workspace
    T, B, I = ws.x.shape
    GH, H = ws.weight_hh.shape
    dtype = ws.x.dtype
    if grad_output is not None and ws.batch_first:
        grad_output = grad_output.swapaxes(0, 1)

    dgx = np.zeros((T, B, GH), dtype)
    dgh_sum = np.zeros(GH, dtype)
    dR = np.zeros((GH, H), dtype)
    grad: State = tuple(np.zeros((B, H), dtype) if g is None else g.copy() for g in grad_state)
    for t in reversed(list(ws.steps())):
        keep = ws.valid[t][:, None]
        dh = grad[0] if grad_output is None else grad[0] + grad_output[t]
        # A row that skips this step sends zeros through the cell and hands its gradient on unchanged.
        active = tuple(np.where(keep, g, dtype.type(0)) for g in (dh, *grad[1:]))
        step = ws.cell.backward(active, ws.caches[t], ws.weight_hh, ws.recurrent_mask)
        dgx[t] = step.gx
        dgh_sum += step.gh.sum(axis=0)
        dR += step.weight_hh
        grad = tuple(np.where(keep, i, g) for i, g in zip(step.state, grad, strict=True))

    flat = dgx.reshape(T * B, GH)
    dW = flat.T @ ws.x.reshape(T * B, I)
    dx = None
    if need_grad_x:
        dx = dgx @ ws.weight_ih
        if ws.batch_first:
            dx = np.ascontiguousarray(dx.swapaxes(0, 1))
    db_ih = flat.sum(axis=0) if ws.has_bias[0] else None
    db_hh = dgh_sum if ws.has_bias[1] else None
    return dx, dW, dR, db_ih, db_hh, tuple(g if has else None for g, has in zip(grad, ws.has_state, strict=True))


def rnn(
    x: Array, weight_ih: Array, weight_hh: Array, bias_ih: Array | None = None, bias_hh: Array | None = None,
    h0: Array | None = None, *, activation: Spec = "tanh", lengths: Array | None = None, mask: Array | None = None,
    reverse: bool = False, batch_first: bool = True, recurrent_mask: Array | None = None,
    return_sequences: bool = True, return_workspace: bool = False, out: Array | None = None,
) -> Any:  # fmt: skip
    """x (B,T,I) or (T,B,I), weight_ih (H,I), weight_hh (H,H), biases (H,), h0 (B,H), lengths (B,), mask (B,T),
    recurrent_mask (B,H) -> output (B,T,H) or (T,B,H) or None, h_n (B,H) [, workspace]."""
    output, (h_n,), workspace = _forward(
        _RNN(activation), x, weight_ih, weight_hh, bias_ih, bias_hh, (h0,), lengths=lengths, mask=mask,
        reverse=reverse, batch_first=batch_first, recurrent_mask=recurrent_mask, return_sequences=return_sequences,
        return_workspace=return_workspace, out=out,
    )  # fmt: skip
    return (output, h_n, workspace) if return_workspace else (output, h_n)


def rnn_backward(
    workspace: Workspace, grad_output: Array | None = None, grad_h_n: Array | None = None, *, need_grad_x: bool = True
) -> RNNGradients:
    """grad_output (B,T,H) or (T,B,H), grad_h_n (B,H); None means zero."""
    dx, dW, dR, db_ih, db_hh, (dh0,) = _backward(workspace, grad_output, (grad_h_n,), need_grad_x)
    return RNNGradients(dx, dW, dR, db_ih, db_hh, dh0)


def lstm(
    x: Array, weight_ih: Array, weight_hh: Array, bias_ih: Array | None = None, bias_hh: Array | None = None,
    h0: Array | None = None, c0: Array | None = None, *, activation: Spec = "tanh",
    recurrent_activation: Spec = "sigmoid", output_activation: Spec = None, lengths: Array | None = None,
    mask: Array | None = None, reverse: bool = False, batch_first: bool = True, recurrent_mask: Array | None = None,
    return_sequences: bool = True, return_workspace: bool = False, out: Array | None = None,
) -> Any:  # fmt: skip
    """As rnn with weights (4H,.), gates i f g o, and c0 (B,H) -> output, (h_n, c_n) [, workspace]."""
    output, (h_n, c_n), workspace = _forward(
        _LSTM(activation, recurrent_activation, output_activation), x, weight_ih, weight_hh, bias_ih, bias_hh,
        (h0, c0), lengths=lengths, mask=mask, reverse=reverse, batch_first=batch_first,
        recurrent_mask=recurrent_mask, return_sequences=return_sequences, return_workspace=return_workspace, out=out,
    )  # fmt: skip
    return (output, (h_n, c_n), workspace) if return_workspace else (output, (h_n, c_n))


def lstm_backward(
    workspace: Workspace, grad_output: Array | None = None, grad_h_n: Array | None = None,
    grad_c_n: Array | None = None, *, need_grad_x: bool = True,
) -> LSTMGradients:  # fmt: skip
    """grad_output (B,T,H) or (T,B,H), grad_h_n and grad_c_n (B,H); None means zero."""
    dx, dW, dR, db_ih, db_hh, (dh0, dc0) = _backward(workspace, grad_output, (grad_h_n, grad_c_n), need_grad_x)
    return LSTMGradients(dx, dW, dR, db_ih, db_hh, dh0, dc0)


def gru(
    x: Array, weight_ih: Array, weight_hh: Array, bias_ih: Array | None = None, bias_hh: Array | None = None,
    h0: Array | None = None, *, activation: Spec = "tanh", recurrent_activation: Spec = "sigmoid",
    reset_after: bool = True, lengths: Array | None = None, mask: Array | None = None, reverse: bool = False,
    batch_first: bool = True, recurrent_mask: Array | None = None, return_sequences: bool = True,
    return_workspace: bool = False, out: Array | None = None,
) -> Any:  # fmt: skip
    """As rnn with weights (3H,.), gates r z n -> output, h_n [, workspace]."""
    output, (h_n,), workspace = _forward(
        _GRU(activation, recurrent_activation, reset_after), x, weight_ih, weight_hh, bias_ih, bias_hh, (h0,),
        lengths=lengths, mask=mask, reverse=reverse, batch_first=batch_first, recurrent_mask=recurrent_mask,
        return_sequences=return_sequences, return_workspace=return_workspace, out=out,
    )  # fmt: skip
    return (output, h_n, workspace) if return_workspace else (output, h_n)


gru_backward = rnn_backward

__all__ = [
    "Activation", "LSTMGradients", "RNNGradients", "Workspace", "gru", "gru_backward", "lstm", "lstm_backward", "rnn",
    "rnn_backward",
]  # fmt: skip
