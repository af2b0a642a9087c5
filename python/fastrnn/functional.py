"""Pure functions on NumPy arrays, forward and backward: the recurrent layers and the operations around them.

Everything runs in the C++ core, in the precision of x (float32 or float64); arrays of a call share one dtype. Letters in
shapes: T time, B batch, I input, H hidden, G gates (RNN 1, GRU 3, LSTM 4), C channels, F filters or features, K kernel,
V vocabulary, E embedding. Weights have PyTorch's shapes and gate order (i f g o, r z n) and may be strided views.
Bad values raise ValueError and wrong types TypeError, `[op] argument: expected ..., got ...`, before anything is
computed. `reference` holds the same functions in plain NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _core
from ._numbers import as_float
from .activations import FUSED, Spec, parse
from .gradients import LSTMGradients, RNNGradients

Array = npt.NDArray[Any]
Workspace = _core.Workspace

_RNN, _LSTM, _GRU, _GRU_RESET_BEFORE = range(4)  # the core's enum Cell


def _activation(op: str, argument: str, spec: Spec) -> tuple[int, float, float]:
    try:
        act = parse(spec)
    except (TypeError, ValueError) as error:
        raise type(error)(f"[{op}] {argument}: " + str(error).split(": ", 1)[-1]) from None
    return act.id, act.alpha, act.beta


def _array(op: str, argument: str, x: Any) -> Any:
    if x is None or isinstance(x, np.ndarray):
        return x
    try:
        return np.asarray(x)
    except ValueError:
        raise ValueError(f"[{op}] {argument}: expected an array, got nested lists of uneven length") from None


def _flags(op: str, **flags: Any) -> None:
    for argument, value in flags.items():
        if not isinstance(value, (bool, np.bool_)):
            raise TypeError(f"[{op}] {argument}: expected True or False, got {type(value).__name__} {value!r}")


def rnn(
    x: Array,
    weight_ih: Array,
    weight_hh: Array,
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
    out: Array | None = None,
) -> Any:
    """Elman network: h' = activation(W x + b_ih + R h + b_hh), over whole sequences.

    Args:
        x: (B, T, I), or (T, B, I) with `batch_first=False`; float32 or float64. Any strides; a last axis that is not
            contiguous is copied.
        weight_ih, weight_hh: (H, I) and (H, H).
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
        return_workspace: also return what `rnn_backward` needs. It refers to x, which must not change until then.
        out: an array for the output, of its shape and dtype, whose last axis is contiguous.

    Returns:
        (output, h_n) or (output, h_n, workspace): output as x with H in place of I; h_n (B, H), the state after the
        last valid step.

    Raises:
        ValueError, TypeError: any argument of the wrong shape, range or dtype.

    The equation is that of torch.nn.RNN.
    """
    _flags("rnn", reverse=reverse, batch_first=batch_first, return_sequences=return_sequences,
           return_workspace=return_workspace)  # fmt: skip
    x, steps, mask = _array("rnn", "x", x), _array("rnn", "lengths", lengths), _array("rnn", "mask", mask)
    act = _activation("rnn", "activation", activation)
    output, h_n, _, workspace = _core.rnn_forward(
        _RNN, act, act, act, x, weight_ih, weight_hh, bias_ih, bias_hh, h0, None, steps, mask, recurrent_mask, reverse,
        batch_first, return_sequences, return_workspace, out,
    )  # fmt: skip
    return (output, h_n, workspace) if return_workspace else (output, h_n)


def lstm(
    x: Array,
    weight_ih: Array,
    weight_hh: Array,
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
    out: Array | None = None,
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
    _flags("lstm", reverse=reverse, batch_first=batch_first, return_sequences=return_sequences,
           return_workspace=return_workspace)  # fmt: skip
    x, steps, mask = _array("lstm", "x", x), _array("lstm", "lengths", lengths), _array("lstm", "mask", mask)
    candidate = _activation("lstm", "activation", activation)
    gate = _activation("lstm", "recurrent_activation", recurrent_activation)
    last = candidate if output_activation is None else _activation("lstm", "output_activation", output_activation)
    output, h_n, c_n, workspace = _core.rnn_forward(
        _LSTM, gate, candidate, last, x, weight_ih, weight_hh, bias_ih, bias_hh, h0, c0, steps, mask,
        recurrent_mask, reverse, batch_first, return_sequences, return_workspace, out,
    )  # fmt: skip
    return (output, (h_n, c_n), workspace) if return_workspace else (output, (h_n, c_n))


def gru(
    x: Array,
    weight_ih: Array,
    weight_hh: Array,
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
    out: Array | None = None,
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
    _flags("gru", reverse=reverse, batch_first=batch_first, return_sequences=return_sequences,
           return_workspace=return_workspace, reset_after=reset_after)  # fmt: skip
    x, steps, mask = _array("gru", "x", x), _array("gru", "lengths", lengths), _array("gru", "mask", mask)
    candidate = _activation("gru", "activation", activation)
    gate = _activation("gru", "recurrent_activation", recurrent_activation)
    output, h_n, _, workspace = _core.rnn_forward(
        _GRU if reset_after else _GRU_RESET_BEFORE, gate, candidate, candidate, x, weight_ih, weight_hh, bias_ih,
        bias_hh, h0, None, steps, mask, recurrent_mask, reverse, batch_first, return_sequences,
        return_workspace, out,
    )  # fmt: skip
    return (output, h_n, workspace) if return_workspace else (output, h_n)


def _backward(
    op: str,
    cells: tuple[int, ...],
    workspace: Workspace,
    grads: tuple[Array | None, Array | None, Array | None],
    need_grad_x: bool,
) -> tuple[Any, ...]:
    if not isinstance(workspace, Workspace):
        raise TypeError(f"[{op}] workspace: expected the workspace of a forward call, got {type(workspace).__name__}")
    if workspace.cell not in cells:
        raise ValueError(f"[{op}] workspace: expected one from {op.removesuffix('_backward')}, got another cell's")
    _flags(op, need_grad_x=need_grad_x)
    return _core.rnn_backward(workspace, *grads, need_grad_x)


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
        RNNGradients, each of the shape of its argument; None for an argument that was None or is not needed.

    Raises:
        ValueError, TypeError: a gradient of the wrong shape or dtype, or another cell's workspace.
    """
    g = _backward("rnn_backward", (_RNN,), workspace, (grad_output, grad_h_n, None), need_grad_x)
    return RNNGradients(*g[:6])


def gru_backward(
    workspace: Workspace, grad_output: Array | None = None, grad_h_n: Array | None = None, *, need_grad_x: bool = True
) -> RNNGradients:
    """Gradients of `gru`; arguments and results as those of `rnn_backward`."""
    g = _backward("gru_backward", (_GRU, _GRU_RESET_BEFORE), workspace, (grad_output, grad_h_n, None), need_grad_x)
    return RNNGradients(*g[:6])


def lstm_backward(
    workspace: Workspace,
    grad_output: Array | None = None,
    grad_h_n: Array | None = None,
    grad_c_n: Array | None = None,
    *,
    need_grad_x: bool = True,
) -> LSTMGradients:
    """Gradients of `lstm`; as `rnn_backward`, with grad_c_n (B, H) or None, and grad_c0 in the result."""
    g = _backward("lstm_backward", (_LSTM,), workspace, (grad_output, grad_h_n, grad_c_n), need_grad_x)
    return LSTMGradients(*g)


# ---- products ------------------------------------------------------------------------------------------------------


def _fused(op: str, spec: Spec) -> tuple[int, float, float]:
    act = _activation(op, "activation", spec)
    if parse(spec).name not in FUSED:
        raise ValueError(f"[{op}] activation: expected one of {', '.join(sorted(FUSED))}, got {parse(spec).name}")
    return act


def linear(x: Array, weight: Array, bias: Array | None = None, *, activation: Spec = None) -> Array:
    """activation(x . weight^T + bias): x (..., I), weight (O, I), bias (O,) or None -> (..., O).

    `activation` is one whose derivative follows from its output (`fastrnn.activations.FUSED`).
    """
    return _core.linear(x, weight, bias, _fused("linear", activation))


def linear_backward(
    x: Array,
    weight: Array,
    y: Array,
    grad_y: Array,
    *,
    activation: Spec = None,
    need_grad_x: bool = True,
    has_bias: bool = True,
) -> tuple[Array | None, Array, Array | None]:
    """Gradients of `linear` (x, weight, bias), from its output y (..., O) and grad_y of the same shape."""
    _flags("linear_backward", need_grad_x=need_grad_x, has_bias=has_bias)
    return _core.linear_backward(x, weight, y, grad_y, _fused("linear_backward", activation), need_grad_x, has_bias)


def _number(op: str, argument: str, value: Any, low: float, high: float = math.inf) -> float:
    """A number in [low, high), or finite and >= low."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"[{op}] {argument}: expected a number, got {type(value).__name__} {value!r}")
    number = as_float(value)
    if not low <= number < high:  # refuses NaN as well
        expected = f"a finite number >= {low:g}" if high == math.inf else f"a number >= {low:g} and < {high:g}"
        raise ValueError(f"[{op}] {argument}: expected {expected}, got {value!r}")
    return number


def _same_padding(time: int, window: int, stride: int) -> tuple[int, int]:
    total = max((math.ceil(time / stride) - 1) * stride + window - time, 0)
    return total // 2, total - total // 2


def _integer(op: str, argument: str, value: Any, low: int) -> int:
    """An integer from `low` to 2**31 - 1: what is larger is a mistake, and products of two stay in range."""
    if not _is_integer(value):
        raise TypeError(f"[{op}] {argument}: expected an integer >= {low}, got {type(value).__name__} {value!r}")
    if not low <= value < 2**31:
        expected = f"an integer >= {low}" if value < low else "an integer < 2**31"
        raise ValueError(f"[{op}] {argument}: expected {expected}, got {value}")
    return int(value)


def _three_axes(op: str, argument: str, x: Any) -> None:
    if not isinstance(x, np.ndarray):
        raise TypeError(f"[{op}] {argument}: expected a NumPy array, got {type(x).__name__}")
    if x.ndim != 3:
        raise ValueError(f"[{op}] {argument}: expected shape (B, T, C), got {x.shape}")


# The zeros around a sequence are really there: a window of more is a mistake, and would ask for all the memory.
_MOST_REACH = 2**20


def _conv_arguments(
    op: str, x: Array, weight: Array, stride: int, padding: str, dilation: int
) -> tuple[int, int, int, int]:
    """stride, dilation, and the zeros put before and after the sequence."""
    _three_axes(op, "x", x)
    stride, dilation = _integer(op, "stride", stride, 1), _integer(op, "dilation", dilation, 1)
    if getattr(weight, "ndim", 0) != 3:
        got = weight.shape if isinstance(weight, np.ndarray) else type(weight).__name__
        raise ValueError(f"[{op}] weight: expected shape (F, C, K), got {got}")
    reach = (weight.shape[2] - 1) * dilation
    if reach > max(x.shape[1], _MOST_REACH):
        expected = f"a window of at most max(T, {_MOST_REACH}) steps"
        raise ValueError(f"[{op}] dilation: expected {expected}, got {reach + 1} of dilation {dilation}")
    if padding == "valid":
        return stride, dilation, 0, 0
    if padding == "causal":
        return stride, dilation, reach, 0
    if padding == "same":
        return stride, dilation, *_same_padding(x.shape[1], reach + 1, stride)
    error = ValueError if isinstance(padding, str) else TypeError
    raise error(f"[{op}] padding: expected valid, same or causal, got {padding!r}")


def conv1d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: int = 1,
    padding: str = "valid",
    dilation: int = 1,
    activation: Spec = None,
) -> Array:
    """Convolution over time of x (B, T, C) with weight (F, C, K) and bias (F,) or None -> (B, To, F).

    padding: "valid" (To = floor((T - (K-1) dilation - 1) / stride) + 1), "same" (To = ceil(T / stride), the odd zero
    goes to the end) or "causal" (zeros before the start only), as in Keras. `activation` as in `linear`.
    """
    arguments = _conv_arguments("conv1d", x, weight, stride, padding, dilation)
    return _core.conv1d(x, weight, bias, *arguments, _fused("conv1d", activation))


def conv1d_backward(
    x: Array,
    weight: Array,
    y: Array,
    grad_y: Array,
    *,
    stride: int = 1,
    padding: str = "valid",
    dilation: int = 1,
    activation: Spec = None,
    need_grad_x: bool = True,
    has_bias: bool = True,
) -> tuple[Array | None, Array, Array | None]:
    """Gradients of `conv1d` (x, weight, bias), from its output y (B, To, F) and grad_y of the same shape."""
    arguments = _conv_arguments("conv1d_backward", x, weight, stride, padding, dilation)
    act = _fused("conv1d_backward", activation)
    _flags("conv1d_backward", need_grad_x=need_grad_x, has_bias=has_bias)
    return _core.conv1d_backward(x, weight, y, grad_y, *arguments, act, need_grad_x, has_bias)


# ---- element-wise, softmax, embedding ------------------------------------------------------------------------------


def activation(x: Array, spec: Spec) -> Array:
    """The activation `spec` of every element of x."""
    return _core.activation(x, _activation("activation", "spec", spec))


def activation_backward(x: Array, grad_y: Array, spec: Spec) -> Array:
    """grad_y times the derivative of the activation at x."""
    return _core.activation_backward(x, grad_y, _activation("activation_backward", "spec", spec))


def softmax(x: Array, mask: Array | None = None) -> Array:
    """Softmax over the last axis; where mask (bool, shape of x) is False the result is 0. A row of nothing gives 0."""
    return _core.softmax(x, mask)


def softmax_backward(y: Array, grad_y: Array) -> Array:
    """Gradient of `softmax` from its output y."""
    return _core.softmax_backward(y, grad_y)


def embedding(ids: npt.ArrayLike, weight: Array) -> Array:
    """Rows of weight (V, E): ids (...) integers in 0..V-1 -> (..., E). An id out of range raises ValueError."""
    return _core.embedding(_array("embedding", "ids", ids), weight)


def embedding_backward(ids: npt.ArrayLike, grad_y: Array, num_embeddings: int) -> Array:
    """Gradient (V, E) of the weight of `embedding`, V = num_embeddings."""
    op = "embedding_backward"
    size = _integer(op, "num_embeddings", num_embeddings, 0)
    return _core.embedding_backward(_array(op, "ids", ids), grad_y, size)


# ---- pooling over time ---------------------------------------------------------------------------------------------


def _pool_arguments(
    op: str, time: int, pool_size: int, stride: int | None, padding: str
) -> tuple[int, int, int, int]:
    """size, stride, zeros before the sequence, number of windows."""
    size = _integer(op, "pool_size", pool_size, 1)
    stride = size if stride is None else _integer(op, "stride", stride, 1)
    if padding == "valid":
        return size, stride, 0, max(0, (time - size) // stride + 1)
    if padding == "same":
        return size, stride, _same_padding(time, size, stride)[0], math.ceil(time / stride)
    error = ValueError if isinstance(padding, str) else TypeError
    raise error(f"[{op}] padding: expected valid or same, got {padding!r}")


def max_pool1d(x: Array, pool_size: int, stride: int | None = None, padding: str = "valid") -> tuple[Array, Array]:
    """Maxima over windows of time: x (B, T, F) -> (y (B, To, F), indices (B, To, F) int32, the time of each maximum).

    stride None means pool_size; padding "valid" or "same" as in Keras.
    """
    _three_axes("max_pool1d", "x", x)
    return _core.max_pool1d(x, *_pool_arguments("max_pool1d", x.shape[1], pool_size, stride, padding))


def max_pool1d_backward(indices: Array, grad_y: Array, T: int) -> Array:
    """Gradient (B, T, F) of the input of `max_pool1d` or `global_max_pool1d` with T steps, from its indices."""
    return _core.max_pool1d_backward(indices, grad_y, _integer("max_pool1d_backward", "T", T, 0))


def avg_pool1d(x: Array, pool_size: int, stride: int | None = None, padding: str = "valid") -> Array:
    """Means over windows of time: x (B, T, F) -> (B, To, F); padding does not count, as in Keras."""
    _three_axes("avg_pool1d", "x", x)
    return _core.avg_pool1d(x, *_pool_arguments("avg_pool1d", x.shape[1], pool_size, stride, padding))


def avg_pool1d_backward(
    grad_y: Array, T: int, pool_size: int, stride: int | None = None, padding: str = "valid"
) -> Array:
    """Gradient (B, T, F) of the input of `avg_pool1d` with T steps."""
    _three_axes("avg_pool1d_backward", "grad_y", grad_y)
    T = _integer("avg_pool1d_backward", "T", T, 0)
    size, stride, left, out_time = _pool_arguments("avg_pool1d_backward", T, pool_size, stride, padding)
    if grad_y.shape[1] != out_time:
        raise ValueError(f"[avg_pool1d_backward] grad_y: expected {out_time} windows, got {grad_y.shape[1]}")
    return _core.avg_pool1d_backward(grad_y, T, size, stride, left)


def global_max_pool1d(x: Array, mask: Array | None = None) -> tuple[Array, Array]:
    """Maximum over valid time: x (B, T, F) -> (y (B, F), indices (B, F) int32). A row of nothing gives 0, index -1."""
    return _core.global_max_pool1d(x, mask)


def global_max_pool1d_backward(indices: Array, grad_y: Array, T: int) -> Array:
    """Gradient (B, T, F) of the input of `global_max_pool1d` with T steps."""
    return _core.max_pool1d_backward(indices, grad_y, _integer("global_max_pool1d_backward", "T", T, 0))


def global_avg_pool1d(x: Array, mask: Array | None = None) -> Array:
    """Mean over valid time: x (B, T, F), mask (B, T) bool -> (B, F). A row of nothing gives 0."""
    return _core.global_avg_pool1d(x, mask)


def global_avg_pool1d_backward(grad_y: Array, T: int, mask: Array | None = None) -> Array:
    """Gradient (B, T, F) of the input of `global_avg_pool1d` with T steps."""
    return _core.global_avg_pool1d_backward(grad_y, _integer("global_avg_pool1d_backward", "T", T, 0), mask)


def attention_pool(x: Array, scores: Array, mask: Array | None = None) -> tuple[Array, Array]:
    """Weighted mean over time: weights (B, T) = softmax of scores (B, T) over valid time; y (B, F) = sum of weights * x.

    Returns (y, weights); a row of nothing gives zeros.
    """
    return _core.attention_pool(x, scores, mask)


def attention_pool_backward(x: Array, weights: Array, grad_y: Array) -> tuple[Array, Array]:
    """Gradients (B, T, F) of x and (B, T) of the scores of `attention_pool`."""
    return _core.attention_pool_backward(x, weights, grad_y)


def hold_last(y: Array, mask: Array) -> Array:
    """y (B, T, F) with each masked step repeating the last valid one (zeros before the first), as Keras's RNN does."""
    return _core.hold_last(y, mask)


def hold_last_backward(grad_y: Array, mask: Array) -> Array:
    """Gradient of the input of `hold_last`."""
    return _core.hold_last_backward(grad_y, mask)


# ---- dropout -------------------------------------------------------------------------------------------------------


def _is_integer(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _seed(op: str, seed: int) -> int:
    if not _is_integer(seed):
        raise TypeError(f"[{op}] seed: expected an integer, got {type(seed).__name__} {seed!r}")
    return int(seed) & (2**64 - 1)


def dropout(x: Array, rate: float, seed: int, *, broadcast_axes: Sequence[int] = ()) -> Array:
    """x with each element zeroed with probability `rate` and the others divided by 1 - rate.

    The draw depends on the seed and the position alone: the gradient is `dropout(grad_y, rate, seed)`. It is constant
    along `broadcast_axes`, which must be neighbours.
    """
    rate, seed, shape = _number("dropout", "rate", rate, 0, 1), _seed("dropout", seed), getattr(x, "shape", ())
    if not isinstance(broadcast_axes, (tuple, list)) or not all(_is_integer(axis) for axis in broadcast_axes):
        raise TypeError(f"[dropout] broadcast_axes: expected a tuple of integers, got {broadcast_axes!r}")
    if not broadcast_axes:
        return _core.dropout(x, rate, seed, 1, 1, math.prod(shape))
    if not all(-len(shape) <= axis < len(shape) for axis in broadcast_axes):
        raise ValueError(f"[dropout] broadcast_axes: expected axes of shape {shape}, got {tuple(broadcast_axes)}")
    axes = sorted({axis % len(shape) for axis in broadcast_axes})
    if axes != list(range(axes[0], axes[-1] + 1)):
        raise ValueError(f"[dropout] broadcast_axes: expected neighbouring axes, got {tuple(broadcast_axes)}")
    split = math.prod(shape[: axes[0]]), math.prod(shape[axes[0] : axes[-1] + 1]), math.prod(shape[axes[-1] + 1 :])
    return _core.dropout(x, rate, seed, *split)


def dropout_mask(shape: Sequence[int], rate: float, seed: int, dtype: npt.DTypeLike = np.float32) -> Array:
    """What `dropout` multiplies an array of this shape by: 0 or 1/(1 - rate)."""
    try:
        kind: np.dtype[Any] | None = np.dtype(dtype)
    except TypeError:
        kind = None
    if kind not in (np.float32, np.float64):
        raise TypeError(f"[dropout_mask] dtype: expected float32 or float64, got {dtype!r}")
    if not isinstance(shape, (tuple, list)) or not all(_is_integer(extent) for extent in shape):
        raise TypeError(f"[dropout_mask] shape: expected a tuple of integers, got {shape!r}")
    if any(extent < 0 for extent in shape) or math.prod(shape) >= 2**62:
        raise ValueError(f"[dropout_mask] shape: expected extents >= 0 of an array that fits in memory, got {shape}")
    rate, seed = _number("dropout_mask", "rate", rate, 0, 1), _seed("dropout_mask", seed)
    mask: Array = _core.dropout_mask(math.prod(shape), rate, seed, kind == np.float64)
    return mask.reshape(tuple(shape))


# ---- optimiser updates, in place -----------------------------------------------------------------------------------


def sgd_update(
    param: Array,
    grad: Array,
    velocity: Array | None = None,
    *,
    lr: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> None:
    """v = momentum v - lr g; p += v (nesterov: p += momentum v - lr g). Without velocity p -= lr g. In place.

    Keras's formula, not PyTorch's. weight_decay is decoupled: p -= lr weight_decay p comes first.
    """
    op = "sgd_update"
    lr, decay = _number(op, "lr", lr, 0), _number(op, "weight_decay", weight_decay, 0)
    _flags(op, nesterov=nesterov)
    _core.sgd_update(param, grad, velocity, lr, _number(op, "momentum", momentum, 0), nesterov, lr * decay)


def rmsprop_update(
    param: Array,
    grad: Array,
    sq: Array,
    mom: Array | None = None,
    avg: Array | None = None,
    *,
    lr: float,
    rho: float = 0.9,
    momentum: float = 0.0,
    eps: float = 1e-7,
    weight_decay: float = 0.0,
) -> None:
    """sq = rho sq + (1 - rho) g^2; p -= lr g / sqrt(sq + eps), through `mom` where given; with `avg` (the mean of g)
    the variance sq - avg^2 stands in place of sq. In place. Keras's formula: eps is under the root."""
    op = "rmsprop_update"
    lr, decay = _number(op, "lr", lr, 0), _number(op, "weight_decay", weight_decay, 0)
    rho, momentum = _number(op, "rho", rho, 0, 1), _number(op, "momentum", momentum, 0)
    _core.rmsprop_update(param, grad, sq, mom, avg, lr, rho, momentum, _number(op, "eps", eps, 0), lr * decay)


def adam_update(
    param: Array,
    grad: Array,
    m: Array,
    v: Array,
    vhat: Array | None = None,
    *,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-7,
    step: int,
    weight_decay: float = 0.0,
) -> None:
    """m += (1 - beta1)(g - m); v += (1 - beta2)(g^2 - v); p -= lr sqrt(1 - beta2^step) / (1 - beta1^step) m /
    (sqrt(v) + eps); with `vhat` (AMSGrad) the largest v so far. In place. Keras's formula (Kingma & Ba 2015, section 2)."""
    op = "adam_update"
    lr, decay = _number(op, "lr", lr, 0), _number(op, "weight_decay", weight_decay, 0)
    beta1, beta2 = _number(op, "beta1", beta1, 0, 1), _number(op, "beta2", beta2, 0, 1)
    eps, step = _number(op, "eps", eps, 0), _integer(op, "step", step, 1)
    _core.adam_update(param, grad, m, v, vhat, lr, beta1, beta2, eps, step, lr * decay)
