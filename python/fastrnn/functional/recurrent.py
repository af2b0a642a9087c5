"""rnn, lstm and gru over whole sequences, and their gradients."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy.typing as npt

from .. import _core
from ..activations import Spec
from ..gradients import LSTMGradients, RNNGradients
from .checks import Array, flags
from .tokens import TokenIndex

Workspace = _core.Workspace
PackedWeights = _core.PackedWeights
ProjectionTable = _core.ProjectionTable
Weights: TypeAlias = Array | PackedWeights | ProjectionTable

PRECISIONS = ("float32", "bfloat16", "int8")  # of the products of packed weights

_RNN, _LSTM, _GRU, _GRU_RESET_BEFORE = range(4)  # the core's enum Cell
_CELLS = {"rnn": (_RNN,), "lstm": (_LSTM,), "gru": (_GRU, _GRU_RESET_BEFORE)}


def _cell(function: str, reset_after: bool) -> int:
    return _CELLS[function][0 if reset_after else -1]


def pack_weights(
    cell: str,
    weight_ih: Array,
    weight_hh: Array,
    bias_ih: Array | None = None,
    bias_hh: Array | None = None,
    *,
    reset_after: bool = True,
    precision: str | None = None,
) -> PackedWeights:
    """Weights in the order in which the kernels read them: pack once, run many times.

    A call with arrays packs them anew, which for one row or few steps costs as much as the call. The copy does not
    follow later changes of the weights, and keeps to the instruction set in use when it was made.

    Args:
        cell: "rnn", "lstm" or "gru".
        weight_ih, weight_hh, bias_ih, bias_hh, reset_after: as those of the functions of these names.
        precision: what products read, of float32 arrays; None means their dtype. Arguments, results, states, biases and
            sums are float32 in each. Each runs on any CPU; `runtime.native_precisions()` has those this one has
            instructions for.

            - "float32": nothing is rounded.
            - "bfloat16": weights, x and h are rounded to bfloat16 (to nearest, ties to even).
            - "int8": weight_hh becomes integers from -127 to 127 times a scale of each row, its largest magnitude /
              127. h becomes integers from -127 to 127 times 1/127, or times bound/127 in a row of the batch that has an
              h0 or a recurrent_mask beyond 1: bound = max(1, max abs(h0)) * max abs(recurrent_mask). The activations
              must keep h within [-1, 1]: tanh, sigmoid, softsign or hard_sigmoid; a gru's recurrent_activation sigmoid
              or hard_sigmoid; an lstm's `activation` may be any. The product does not see NaN in h. x and weight_ih
              are rounded to bfloat16.

    Returns:
        PackedWeights, to be passed as `weight_ih`. Its method `project(embedding)` with an embedding (V, I) returns a
        ProjectionTable of the products of every row; passed as `weight_ih`, x holds token numbers (B, T).

    Raises:
        ValueError, TypeError: any argument of the wrong shape or dtype.
    """
    flags("pack_weights", reset_after=reset_after)
    if cell not in _CELLS:
        raise ValueError(f"[pack_weights] cell: expected 'rnn', 'lstm' or 'gru', got {cell!r}")
    if precision not in (None, *PRECISIONS):
        known = ", ".join(map(repr, PRECISIONS))
        raise ValueError(f"[pack_weights] precision: expected one of {known}, got {precision!r}")
    return _core.pack_weights(_cell(cell, reset_after), weight_ih, weight_hh, bias_ih, bias_hh, precision or "")


def forward_arguments(
    op: str,
    x: Array | TokenIndex,
    weight_ih: Weights,
    weight_hh: Array | None = None,
    bias_ih: Array | None = None,
    bias_hh: Array | None = None,
    h0: Array | None = None,
    c0: Array | None = None,
    activation: Spec = "tanh",
    recurrent_activation: Spec = "sigmoid",
    output_activation: Spec = None,
    reset_after: bool = True,
    lengths: npt.ArrayLike | None = None,
    mask: Array | None = None,
    reverse: bool = False,
    batch_first: bool = True,
    recurrent_mask: Array | None = None,
    return_sequences: bool = True,
    return_workspace: bool = False,
    checkpoint: int | bool | None = None,
    out: Array | None = None,
    embedding: Array | None = None,
) -> tuple[Any, ...]:
    """The core's arguments for a call of "rnn", "lstm" or "gru" with these. The core checks them, because a call of a
    few steps takes no longer than these checks in Python did."""
    return (
        op, x, weight_ih, weight_hh, bias_ih, bias_hh, h0, c0, activation, recurrent_activation, output_activation,
        reset_after, lengths, mask, reverse, batch_first, recurrent_mask, return_sequences, return_workspace,
        checkpoint, out, embedding,
    )  # fmt: skip


def rnn(
    x: Array | TokenIndex,
    weight_ih: Weights,
    weight_hh: Array | None = None,
    bias_ih: Array | None = None,
    bias_hh: Array | None = None,
    h0: Array | None = None,
    *,
    activation: Spec = "tanh",
    lengths: npt.ArrayLike | None = None,
    mask: Array | None = None,
    reverse: bool = False,
    batch_first: bool = True,
    recurrent_mask: Array | None = None,
    return_sequences: bool = True,
    return_workspace: bool = False,
    checkpoint: int | bool | None = None,
    out: Array | None = None,
    embedding: Array | None = None,
) -> Any:
    """Elman network: h' = activation(W x + b_ih + R h + b_hh), over whole sequences.

    Args:
        x: (B, T, I), or (T, B, I) with `batch_first=False`; float32 or float64. Any strides; a last axis that is not
            contiguous is copied. Or tokens, see `embedding`.
        weight_ih, weight_hh: (H, I) and (H, H). Or weight_ih is what `pack_weights` returned (inference only), or a
            table made of it; with a table, x holds token numbers, integers (B, T). Neither weight_hh nor biases are
            given then.
        bias_ih, bias_hh: (H,) or None.
        h0: (B, H), the initial state, or None for zeros.
        activation: a name, or (name, alpha, beta); see `fastrnn.activations`.
        lengths: (B,) integers in 0..T: the valid steps of each row, counted from the start, rows in any order.
        mask: (B, T) bool, True where a step is valid; gaps are allowed. Not together with lengths. Steps that are not
            valid leave the state as it is, cost nothing, and have output 0.
        reverse: walk the valid steps from the last to the first; the output of a step stands at its input's place.
        recurrent_mask: (B, H); multiplies h (and h0) where it enters the recurrent product, as Keras's
            recurrent_dropout does; the state itself is not changed.
        return_sequences: False leaves the output out (None): only h_n is wanted.
        return_workspace: also return what `rnn_backward` needs. It refers to x (and the embedding), which must not
            change until then.
        checkpoint: keep in the workspace the states of every `checkpoint` steps rather than all that every step has
            computed; backward computes the rest again, a stretch at a time: a third more arithmetic, memory divided by
            about `checkpoint`. True: about sqrt(T) steps. Stretches are rounded up so that every result is bitwise the
            same as without. Everything is kept where that is no more. No effect without return_workspace.
        out: an array for the output, of its shape and dtype, apart from the arguments; its last axis is contiguous.
        embedding: (V, I), beside an x that is what `token_index(ids, V)` returned for ids (B, T), or (T, B): the input
            is then embedding[ids]. Its products with weight_ih are computed once per distinct token, and grad_x is the
            gradient of the embedding (V, I), in which the gates' gradients of a token are summed before they meet
            weight_ih. The outputs are bitwise those of the array, the gradients differ by rounding.

    Returns:
        (output, h_n) or (output, h_n, workspace): output as x with H in place of I; h_n (B, H), the state after the
        last valid step.

    Raises:
        ValueError, TypeError: any argument of the wrong shape, range or dtype.

    The equation is that of torch.nn.RNN.
    """
    arguments = forward_arguments(
        "rnn", x, weight_ih, weight_hh, bias_ih, bias_hh, h0, None, activation, "sigmoid", None, True, lengths,
        mask, reverse, batch_first, recurrent_mask, return_sequences, return_workspace, checkpoint, out, embedding,
    )  # fmt: skip
    return _core.rnn_forward(arguments)


def lstm(
    x: Array | TokenIndex,
    weight_ih: Weights,
    weight_hh: Array | None = None,
    bias_ih: Array | None = None,
    bias_hh: Array | None = None,
    h0: Array | None = None,
    c0: Array | None = None,
    *,
    activation: Spec = "tanh",
    recurrent_activation: Spec = "sigmoid",
    output_activation: Spec = None,
    lengths: npt.ArrayLike | None = None,
    mask: Array | None = None,
    reverse: bool = False,
    batch_first: bool = True,
    recurrent_mask: Array | None = None,
    return_sequences: bool = True,
    return_workspace: bool = False,
    checkpoint: int | bool | None = None,
    out: Array | None = None,
    embedding: Array | None = None,
) -> Any:
    """LSTM over whole sequences: i, f, o = recurrent_activation(.), g = activation(.), each of W x + b_ih + R h + b_hh;
    c' = f c + i g; h' = o output_activation(c').

    Args:
        weight_ih, weight_hh: (4*H, I) and (4*H, H), gates in the order i f g o.
        bias_ih, bias_hh: (4*H,) or None.
        h0, c0: (B, H) or None for zeros.
        output_activation: of c'; None means the same as `activation`.

    The other arguments are those of `rnn`.

    Returns:
        (output, (h_n, c_n)) or (output, (h_n, c_n), workspace).

    Raises:
        ValueError, TypeError: any argument of the wrong shape, range or dtype.

    The equations are those of torch.nn.LSTM.
    """
    arguments = forward_arguments(
        "lstm", x, weight_ih, weight_hh, bias_ih, bias_hh, h0, c0, activation, recurrent_activation, output_activation,
        True, lengths, mask, reverse, batch_first, recurrent_mask, return_sequences, return_workspace, checkpoint,
        out, embedding,
    )  # fmt: skip
    return _core.rnn_forward(arguments)


def gru(
    x: Array | TokenIndex,
    weight_ih: Weights,
    weight_hh: Array | None = None,
    bias_ih: Array | None = None,
    bias_hh: Array | None = None,
    h0: Array | None = None,
    *,
    activation: Spec = "tanh",
    recurrent_activation: Spec = "sigmoid",
    reset_after: bool = True,
    lengths: npt.ArrayLike | None = None,
    mask: Array | None = None,
    reverse: bool = False,
    batch_first: bool = True,
    recurrent_mask: Array | None = None,
    return_sequences: bool = True,
    return_workspace: bool = False,
    checkpoint: int | bool | None = None,
    out: Array | None = None,
    embedding: Array | None = None,
) -> Any:
    """GRU over whole sequences: r, z = recurrent_activation(W x + b_ih + R h + b_hh); h' = (1 - z) n + z h, where
    n = activation(W_n x + b_in + r (R_n h + b_hn)), or with `reset_after=False`
    n = activation(W_n x + b_in + R_n (r h) + b_hn).

    Args:
        weight_ih, weight_hh: (3*H, I) and (3*H, H), gates in the order r z n.
        bias_ih, bias_hh: (3*H,) or None.

    The other arguments are those of `rnn`.

    Returns:
        (output, h_n) or (output, h_n, workspace).

    Raises:
        ValueError, TypeError: any argument of the wrong shape, range or dtype.

    The equations are those of torch.nn.GRU and, with reset before, of Cho et al. 2014 (arXiv:1406.1078).
    """
    arguments = forward_arguments(
        "gru", x, weight_ih, weight_hh, bias_ih, bias_hh, h0, None, activation, recurrent_activation, None,
        reset_after, lengths, mask, reverse, batch_first, recurrent_mask, return_sequences, return_workspace,
        checkpoint, out, embedding,
    )  # fmt: skip
    return _core.rnn_forward(arguments)


def backward_arguments(
    op: str,
    workspace: Workspace,
    grad_output: Array | None = None,
    grad_h_n: Array | None = None,
    grad_c_n: Array | None = None,
    *,
    need_grad_x: bool = True,
) -> tuple[Any, ...]:
    """The core's arguments for a call of the backward of "rnn", "lstm" or "gru" with these."""
    return op, workspace, grad_output, grad_h_n, grad_c_n, need_grad_x


def backward_result(op: str, result: tuple[Any, ...]) -> RNNGradients | LSTMGradients:
    """What the backward of `op` returns for what the core returned."""
    return LSTMGradients(*result) if op == "lstm" else RNNGradients(*result[:6])


def _backward(op: str, *arguments: Any, need_grad_x: bool) -> Any:
    return backward_result(op, _core.rnn_backward(backward_arguments(op, *arguments, need_grad_x=need_grad_x)))


def rnn_backward(
    workspace: Workspace, grad_output: Array | None = None, grad_h_n: Array | None = None, *, need_grad_x: bool = True
) -> RNNGradients:
    """Gradients of `rnn`: backpropagation through time from dL/d output and dL/d h_n to every argument.

    Args:
        workspace: from the forward call with `return_workspace=True`; may be used more than once.
        grad_output: shape of the output, or None for zeros.
        grad_h_n: (B, H), or None for zeros.
        need_grad_x: False skips the gradient of x.

    Returns:
        RNNGradients, each of the shape of its argument (grad_x of the embedding's, where x was tokens); None for an
        argument that was None or is not needed.

    Raises:
        ValueError, TypeError: a gradient of the wrong shape or dtype, or another cell's workspace.
    """
    return _backward("rnn", workspace, grad_output, grad_h_n, need_grad_x=need_grad_x)  # type: ignore[no-any-return]


def gru_backward(
    workspace: Workspace, grad_output: Array | None = None, grad_h_n: Array | None = None, *, need_grad_x: bool = True
) -> RNNGradients:
    """Gradients of `gru`; arguments and results as those of `rnn_backward`."""
    return _backward("gru", workspace, grad_output, grad_h_n, need_grad_x=need_grad_x)  # type: ignore[no-any-return]


def lstm_backward(
    workspace: Workspace,
    grad_output: Array | None = None,
    grad_h_n: Array | None = None,
    grad_c_n: Array | None = None,
    *,
    need_grad_x: bool = True,
) -> LSTMGradients:
    """Gradients of `lstm`; as `rnn_backward`, with grad_c_n (B, H) or None, and grad_c0 in the result."""
    return _backward("lstm", workspace, grad_output, grad_h_n, grad_c_n, need_grad_x=need_grad_x)  # type: ignore[no-any-return]
