"""Every functional entry point refuses bad input with one clear error, `[op] argument: expected ..., got ...`, before
it has written anything. ValueError for values and shapes, TypeError for types and dtypes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastrnn import functional as F
from rnn_cases import CELLS

B, T, I, H = 3, 5, 4, 6
nan, inf = float("nan"), float("inf")


def f32(*shape: int) -> Any:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def refuses(error: type[Exception], op: str, argument: str, call: Callable[[], Any]) -> None:
    """argument is a pattern: where two arguments disagree either may be named."""
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert re.match(rf"^\[{op}\] ({argument})\b[^:]*: expected .+, got .+", message, re.DOTALL), message
    assert type(caught.value) in (ValueError, TypeError)


# --- recurrent -----------------------------------------------------------------------------------------------------


def arguments(cell: str) -> dict[str, Any]:
    G = CELLS[cell][1]
    given = {
        "x": f32(B, T, I),
        "weight_ih": f32(G * H, I),
        "weight_hh": f32(G * H, H),
        "bias_ih": f32(G * H),
        "bias_hh": f32(G * H),
        "h0": f32(B, H),
    }
    return given | ({"c0": f32(B, H)} if cell == "lstm" else {}) | CELLS[cell][2]


def read_only(array: Any) -> Any:
    array.flags.writeable = False
    return array


def foreign_order(array: Any) -> Any:
    return array.astype(array.dtype.newbyteorder(">"))


# what is wrong: argument it is named by, error, changes
RECURRENT: dict[str, tuple[str, type[Exception], Callable[[int], dict[str, Any]]]] = {
    "x is 2-D": ("x", ValueError, lambda G: {"x": f32(T, I)}),
    "x is 4-D": ("x", ValueError, lambda G: {"x": f32(B, T, I, 1)}),
    "x is None": ("x", TypeError, lambda G: {"x": None}),
    "x is text": ("x", TypeError, lambda G: {"x": "abc"}),
    "x is int": ("x", TypeError, lambda G: {"x": np.ones((B, T, I), np.int64)}),
    "x is float16": ("x", TypeError, lambda G: {"x": f32(B, T, I).astype(np.float16)}),
    "x is complex": ("x", TypeError, lambda G: {"x": f32(B, T, I).astype(np.complex64)}),
    "x is object": ("x", TypeError, lambda G: {"x": f32(B, T, I).astype(object)}),
    "x is float64": ("x|weight_ih", TypeError, lambda G: {"x": f32(B, T, I).astype(np.float64)}),
    "x of other width": ("x|weight_ih", ValueError, lambda G: {"x": f32(B, T, I + 1)}),
    "weight_ih of other height": ("weight_ih|weight_hh", ValueError, lambda G: {"weight_ih": f32(G * H + 1, I)}),
    "weight_ih transposed": ("weight_ih|weight_hh|x", ValueError, lambda G: {"weight_ih": f32(I, G * H)}),
    "weight_ih is 1-D": ("weight_ih", ValueError, lambda G: {"weight_ih": f32(G * H * I)}),
    "weight_ih is float64": ("weight_ih", TypeError, lambda G: {"weight_ih": np.ones((G * H, I))}),
    "weight_ih is None": ("weight_ih", TypeError, lambda G: {"weight_ih": None}),
    "weight_hh transposed": ("weight_hh", ValueError, lambda G: {"weight_hh": f32(H + 1, G * H)}),
    "weight_hh of other height": ("weight_hh|weight_ih", ValueError, lambda G: {"weight_hh": f32((G + 1) * H, H)}),
    "weight_hh is 3-D": ("weight_hh", ValueError, lambda G: {"weight_hh": f32(G, H, H)}),
    "weight_hh is float64": ("weight_hh", TypeError, lambda G: {"weight_hh": np.ones((G * H, H))}),
    "bias_ih too short": ("bias_ih", ValueError, lambda G: {"bias_ih": f32(G * H - 1)}),
    "bias_ih is 2-D": ("bias_ih", ValueError, lambda G: {"bias_ih": f32(1, G * H)}),
    "bias_ih is int": ("bias_ih", TypeError, lambda G: {"bias_ih": np.ones(G * H, np.int32)}),
    "bias_hh too long": ("bias_hh", ValueError, lambda G: {"bias_hh": f32(G * H + 1)}),
    "bias_hh is float64": ("bias_hh", TypeError, lambda G: {"bias_hh": np.ones(G * H)}),
    "h0 transposed": ("h0", ValueError, lambda G: {"h0": f32(H, B)}),
    "h0 of one row": ("h0", ValueError, lambda G: {"h0": f32(1, H)}),
    "h0 is 3-D": ("h0", ValueError, lambda G: {"h0": f32(1, B, H)}),
    "h0 is float64": ("h0", TypeError, lambda G: {"h0": np.ones((B, H))}),
    "time-major by mistake": ("h0|lengths", ValueError, lambda G: {"batch_first": False}),
    "lengths too few": ("lengths", ValueError, lambda G: {"lengths": np.array([1, 2])}),
    "lengths is 2-D": ("lengths", ValueError, lambda G: {"lengths": np.array([[1, 2, 3]])}),
    "lengths too long": ("lengths", ValueError, lambda G: {"lengths": np.array([1, T + 1, 3])}),
    "lengths negative": ("lengths", ValueError, lambda G: {"lengths": np.array([1, -1, 3])}),
    "lengths huge": ("lengths", ValueError, lambda G: {"lengths": np.array([1, 2**40, 3])}),
    "lengths wraps to valid": ("lengths", ValueError, lambda G: {"lengths": np.array([1, 2**32 + 1, 3])}),
    "lengths of float": ("lengths", TypeError, lambda G: {"lengths": np.array([1.0, 2.0, 3.0])}),
    "lengths of bool": ("lengths", TypeError, lambda G: {"lengths": np.array([True, True, False])}),
    "mask of other length": ("mask", ValueError, lambda G: {"mask": np.ones((B, T + 1), bool)}),
    "mask transposed": ("mask", ValueError, lambda G: {"mask": np.ones((T, B), bool)}),
    "mask is 3-D": ("mask", ValueError, lambda G: {"mask": np.ones((B, T, 1), bool)}),
    "mask of int": ("mask", TypeError, lambda G: {"mask": np.ones((B, T), np.int64)}),
    "mask of float": ("mask", TypeError, lambda G: {"mask": f32(B, T)}),
    "lengths and mask": (
        "lengths|mask",
        ValueError,
        lambda G: {"lengths": np.array([1, 2, 3]), "mask": np.ones((B, T), bool)},
    ),
    "recurrent_mask of one row": ("recurrent_mask", ValueError, lambda G: {"recurrent_mask": f32(1, H)}),
    "recurrent_mask of bool": ("recurrent_mask", TypeError, lambda G: {"recurrent_mask": np.ones((B, H), bool)}),
    "recurrent_mask of float64": ("recurrent_mask", TypeError, lambda G: {"recurrent_mask": np.ones((B, H))}),
    "out of other shape": ("out", ValueError, lambda G: {"out": np.empty((B, T, H + 1), np.float32)}),
    "out transposed": ("out", ValueError, lambda G: {"out": np.empty((T, B, H), np.float32)}),
    "out of float64": ("out", TypeError, lambda G: {"out": np.empty((B, T, H))}),
    "out is a list": ("out", TypeError, lambda G: {"out": [[0.0]]}),
    "out not writeable": ("out", ValueError, lambda G: {"out": read_only(np.empty((B, T, H), np.float32))}),
    "out strided in the last axis": ("out", ValueError, lambda G: {"out": np.empty((B, T, H, 2), np.float32)[..., 0]}),
    "activation unknown": ("activation", ValueError, lambda G: {"activation": "tahn"}),
    "activation a number": ("activation", TypeError, lambda G: {"activation": 3}),
    "activation elu": ("activation", ValueError, lambda G: {"activation": ("elu", -0.1)}),
    "activation softmax": ("activation", ValueError, lambda G: {"activation": "softmax"}),
}  # fmt: skip


@pytest.mark.parametrize("what", RECURRENT)
@pytest.mark.parametrize("cell", CELLS)
def test_recurrent(cell: str, what: str) -> None:
    op, G, _ = CELLS[cell]
    argument, error, changes = RECURRENT[what]
    operation = f"{op}|activation" if argument == "activation" else op
    argument = "activation|spec" if argument == "activation" else argument
    refuses(error, f"({operation})", argument, lambda: getattr(F, op)(**{**arguments(cell), **changes(G)}))


def test_lstm_and_gru_only() -> None:
    for name, bad, error in [("c0", f32(B, H + 1), ValueError), ("c0", np.ones((B, H)), TypeError)]:
        refuses(error, "lstm", name, lambda name=name, bad=bad: F.lstm(**{**arguments("lstm"), name: bad}))
    for slot in ("recurrent_activation", "output_activation"):
        with pytest.raises(ValueError, match=r"expected .+, got "):
            F.lstm(**{**arguments("lstm"), slot: "nothing"})
    with pytest.raises(TypeError):
        F.gru(**arguments("lstm"))
    three_gates = {k: v for k, v in arguments("gru").items() if k != "reset_after"}
    refuses(ValueError, "lstm", "weight_ih|weight_hh", lambda: F.lstm(**three_gates))


@pytest.mark.parametrize("cell", CELLS)
def test_foreign_byte_order(cell: str) -> None:
    """Refused or computed right, never read as if it were native."""
    given = arguments(cell)
    expected = getattr(F, CELLS[cell][0])(**given)[0]
    for name in ("x", "weight_hh", "bias_ih", "h0"):
        try:
            output = getattr(F, CELLS[cell][0])(**{**given, name: foreign_order(given[name])})[0]
        except TypeError as error:
            assert re.match(rf"^\[{CELLS[cell][0]}\] {name}: expected .+, got .+", str(error))
        else:
            np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_nothing_is_written_on_error(cell: str) -> None:
    out = np.full((B, T, H), 7, np.float32)
    for changes in ({"lengths": np.array([1, 9, 1])}, {"h0": f32(B, H + 1)}, {"mask": np.ones((B, T))}):
        with pytest.raises((ValueError, TypeError)):
            getattr(F, CELLS[cell][0])(**{**arguments(cell), **changes, "out": out})
    assert (out == 7).all()


def workspace(cell: str, **options: Any) -> Any:
    return getattr(F, CELLS[cell][0])(**arguments(cell), return_workspace=True, **options)[2]


@pytest.mark.parametrize("cell", CELLS)
def test_recurrent_backward(cell: str) -> None:
    op = CELLS[cell][0] + "_backward"
    function = getattr(F, op)
    bad: list[tuple[str, type[Exception], dict[str, Any]]] = [
        ("grad_output", ValueError, {"grad_output": f32(B, T, H + 1)}),
        ("grad_output", ValueError, {"grad_output": f32(T, B, H)}),
        ("grad_output", ValueError, {"grad_output": f32(B, H)}),
        ("grad_output", TypeError, {"grad_output": np.ones((B, T, H))}),
        ("grad_output", TypeError, {"grad_output": np.ones((B, T, H), np.int64)}),
        ("grad_h_n", ValueError, {"grad_h_n": f32(1, B, H)}),
        ("grad_h_n", ValueError, {"grad_h_n": f32(B, H + 1)}),
        ("grad_h_n", TypeError, {"grad_h_n": np.ones((B, H))}),
    ]
    if cell == "lstm":
        bad += [
            ("grad_c_n", ValueError, {"grad_c_n": f32(H, B)}),
            ("grad_c_n", TypeError, {"grad_c_n": np.ones((B, H))}),
        ]
    kept = workspace(cell)
    for argument, error, given in bad:
        refuses(error, op, argument, lambda given=given: function(kept, **given))
    for wrong in (None, 3, f32(2, 2)):
        refuses(TypeError, op, "workspace", lambda wrong=wrong: function(wrong, f32(B, T, H)))
    gradients = function(kept, f32(B, T, H))  # none of the refused calls has used the workspace up
    assert np.isfinite(gradients.grad_weight_hh).all()


def test_workspace_of_another_cell() -> None:
    for made, used in (("rnn", "lstm"), ("lstm", "gru"), ("gru", "rnn"), ("rnn", "gru"), ("gru", "lstm")):
        with pytest.raises((TypeError, ValueError), match=rf"^\[{used}_backward\] workspace: expected .+, got .+"):
            getattr(F, used + "_backward")(workspace(made), f32(B, T, H))


# --- the other operations ------------------------------------------------------------------------------------------

ids = np.array([[0, 1], [2, 3]])
indices = np.zeros((2, 2, 3), np.int32)
ones_mask = np.ones((2, 5), bool)

# what is wrong: op, argument, error, call
OPERATIONS: dict[str, tuple[str, str, type[Exception], Callable[[], Any]]] = {
    "linear x scalar": ("linear", "x", ValueError, lambda: F.linear(f32(), f32(3, 4))),
    "linear x int": ("linear", "x", TypeError, lambda: F.linear(np.ones((2, 4), int), f32(3, 4))),
    "linear x None": ("linear", "x", TypeError, lambda: F.linear(None, f32(3, 4))),
    "linear width": ("linear", "x|weight", ValueError, lambda: F.linear(f32(2, 5), f32(3, 4))),
    "linear weight ndim": ("linear", "weight", ValueError, lambda: F.linear(f32(2, 4), f32(4))),
    "linear mixed": ("linear", "x|weight", TypeError, lambda: F.linear(f32(2, 4), np.ones((3, 4)))),
    "linear bias": ("linear", "bias", ValueError, lambda: F.linear(f32(2, 4), f32(3, 4), f32(4))),
    "linear bias mixed": ("linear", "bias", TypeError, lambda: F.linear(f32(2, 4), f32(3, 4), np.ones(3))),
    "linear gelu": ("linear", "activation", ValueError, lambda: F.linear(f32(2, 4), f32(3, 4), activation="gelu")),
    "linear_backward grad_y": (
        "linear_backward", "grad_y|y", ValueError,
        lambda: F.linear_backward(f32(2, 4), f32(3, 4), f32(2, 3), f32(2, 4)),
    ),
    "linear_backward y": (
        "linear_backward", "y|grad_y", ValueError,
        lambda: F.linear_backward(f32(2, 4), f32(3, 4), f32(2, 2), f32(2, 3), activation="tanh"),
    ),
    "linear_backward mixed": (
        "linear_backward", "grad_y", TypeError,
        lambda: F.linear_backward(f32(2, 4), f32(3, 4), f32(2, 3), np.ones((2, 3))),
    ),
    "conv1d x ndim": ("conv1d", "x", ValueError, lambda: F.conv1d(f32(5, 3), f32(4, 3, 2))),
    "conv1d x int": ("conv1d", "x", TypeError, lambda: F.conv1d(np.ones((2, 5, 3), int), f32(4, 3, 2))),
    "conv1d channels": ("conv1d", "x|weight", ValueError, lambda: F.conv1d(f32(2, 5, 4), f32(4, 3, 2))),
    "conv1d weight ndim": ("conv1d", "weight", ValueError, lambda: F.conv1d(f32(2, 5, 3), f32(4, 3))),
    "conv1d no taps": ("conv1d", "weight", ValueError, lambda: F.conv1d(f32(2, 5, 3), f32(4, 3, 0))),
    "conv1d mixed": ("conv1d", "x|weight", TypeError, lambda: F.conv1d(f32(2, 5, 3), np.ones((4, 3, 2)))),
    "conv1d bias": ("conv1d", "bias", ValueError, lambda: F.conv1d(f32(2, 5, 3), f32(4, 3, 2), f32(3))),
    "conv1d stride 0": ("conv1d", "stride", ValueError, lambda: F.conv1d(f32(2, 5, 3), f32(4, 3, 2), stride=0)),
    "conv1d stride -1": ("conv1d", "stride", ValueError, lambda: F.conv1d(f32(2, 5, 3), f32(4, 3, 2), stride=-1)),
    "conv1d stride 1.5": ("conv1d", "stride", TypeError, lambda: F.conv1d(f32(2, 5, 3), f32(4, 3, 2), stride=1.5)),
    "conv1d dilation": ("conv1d", "dilation", ValueError, lambda: F.conv1d(f32(2, 5, 3), f32(4, 3, 2), dilation=0)),
    "conv1d padding": ("conv1d", "padding", ValueError, lambda: F.conv1d(f32(2, 5, 3), f32(4, 3, 2), padding="half")),
    "conv1d padding type": ("conv1d", "padding", TypeError, lambda: F.conv1d(f32(2, 5, 3), f32(4, 3, 2), padding=1)),
    "conv1d silu": (
        "conv1d", "activation", ValueError, lambda: F.conv1d(f32(2, 5, 3), f32(4, 3, 1), activation="silu"),
    ),
    "conv1d_backward grad_y": (
        "conv1d_backward", "grad_y|y", ValueError,
        lambda: F.conv1d_backward(f32(2, 5, 3), f32(4, 3, 2), f32(2, 4, 4), f32(2, 5, 4)),
    ),
    "conv1d_backward y": (
        "conv1d_backward", "y|grad_y", ValueError,
        lambda: F.conv1d_backward(f32(2, 5, 3), f32(4, 3, 2), f32(2, 4, 3), f32(2, 4, 4), activation="relu"),
    ),
    "activation int": ("activation", "x", TypeError, lambda: F.activation(np.ones(3, int), "tanh")),
    "activation name": ("activation", "spec", ValueError, lambda: F.activation(f32(3), "tahn")),
    "activation_backward shape": (
        "activation_backward", "grad_y", ValueError, lambda: F.activation_backward(f32(3), f32(4), "tanh"),
    ),
    "activation_backward mixed": (
        "activation_backward", "grad_y", TypeError, lambda: F.activation_backward(f32(3), np.ones(3), "tanh"),
    ),
    "softmax int": ("softmax", "x", TypeError, lambda: F.softmax(np.ones((2, 3), int))),
    "softmax scalar": ("softmax", "x", ValueError, lambda: F.softmax(f32())),
    "softmax mask": ("softmax", "mask", ValueError, lambda: F.softmax(f32(2, 3), np.ones((2, 4), bool))),
    "softmax mask int": ("softmax", "mask", TypeError, lambda: F.softmax(f32(2, 3), np.ones((2, 3), int))),
    "softmax_backward": ("softmax_backward", "grad_y|y", ValueError, lambda: F.softmax_backward(f32(2, 3), f32(2, 4))),
    "embedding too high": ("embedding", "ids", ValueError, lambda: F.embedding(ids, f32(3, 2))),
    "embedding negative": ("embedding", "ids", ValueError, lambda: F.embedding(ids - 1, f32(9, 2))),
    "embedding wraps": ("embedding", "ids", ValueError, lambda: F.embedding(ids + 2**32, f32(9, 2))),
    "embedding uint64": (
        "embedding", "ids", ValueError, lambda: F.embedding(np.array([2**64 - 1], np.uint64), f32(9, 2)),
    ),
    "embedding empty table": ("embedding", "ids|weight", ValueError, lambda: F.embedding(ids, f32(0, 2))),
    "embedding float ids": ("embedding", "ids", TypeError, lambda: F.embedding(f32(2, 2), f32(9, 2))),
    "embedding bool ids": ("embedding", "ids", TypeError, lambda: F.embedding(ids > 0, f32(9, 2))),
    "embedding weight ndim": ("embedding", "weight", ValueError, lambda: F.embedding(ids, f32(9))),
    "embedding weight int": ("embedding", "weight", TypeError, lambda: F.embedding(ids, np.ones((9, 2), int))),
    "embedding_backward id": (
        "embedding_backward", "ids", ValueError, lambda: F.embedding_backward(ids, f32(2, 2, 4), 3),
    ),
    "embedding_backward shape": (
        "embedding_backward", "grad_y", ValueError, lambda: F.embedding_backward(ids, f32(2, 3, 4), 9),
    ),
    "embedding_backward V": (
        "embedding_backward", "num_embeddings", ValueError, lambda: F.embedding_backward(ids, f32(2, 2, 4), -1),
    ),
    "max_pool1d ndim": ("max_pool1d", "x", ValueError, lambda: F.max_pool1d(f32(5, 3), 2)),
    "max_pool1d int": ("max_pool1d", "x", TypeError, lambda: F.max_pool1d(np.ones((2, 5, 3), int), 2)),
    "max_pool1d size": ("max_pool1d", "pool_size", ValueError, lambda: F.max_pool1d(f32(2, 5, 3), 0)),
    "max_pool1d stride": ("max_pool1d", "stride", ValueError, lambda: F.max_pool1d(f32(2, 5, 3), 2, 0)),
    "max_pool1d causal": ("max_pool1d", "padding", ValueError, lambda: F.max_pool1d(f32(2, 5, 3), 2, 2, "causal")),
    "max_pool1d_backward shape": (
        "max_pool1d_backward", "grad_y|indices", ValueError,
        lambda: F.max_pool1d_backward(indices, f32(2, 3, 3), 4),
    ),
    "max_pool1d_backward index": (
        "max_pool1d_backward", "indices", ValueError, lambda: F.max_pool1d_backward(indices + 4, f32(2, 2, 3), 4),
    ),
    "max_pool1d_backward dtype": (
        "max_pool1d_backward", "indices", TypeError, lambda: F.max_pool1d_backward(f32(2, 2, 3), f32(2, 2, 3), 4),
    ),
    "avg_pool1d ndim": ("avg_pool1d", "x", ValueError, lambda: F.avg_pool1d(f32(5, 3), 2)),
    "avg_pool1d size": ("avg_pool1d", "pool_size", ValueError, lambda: F.avg_pool1d(f32(2, 5, 3), -2)),
    "avg_pool1d padding": ("avg_pool1d", "padding", ValueError, lambda: F.avg_pool1d(f32(2, 5, 3), 2, 2, "full")),
    "avg_pool1d_backward shape": (
        "avg_pool1d_backward", "grad_y", ValueError, lambda: F.avg_pool1d_backward(f32(2, 3, 3), 4, 2),
    ),
    "global_max_pool1d ndim": ("global_max_pool1d", "x", ValueError, lambda: F.global_max_pool1d(f32(5, 3))),
    "global_max_pool1d mask": (
        "global_max_pool1d", "mask", ValueError, lambda: F.global_max_pool1d(f32(5, 2, 3), ones_mask),
    ),
    "global_max_pool1d mask int": (
        "global_max_pool1d", "mask", TypeError, lambda: F.global_max_pool1d(f32(2, 5, 3), ones_mask.astype(int)),
    ),
    "global_max_pool1d_backward": (
        "global_max_pool1d_backward", "indices", ValueError,
        lambda: F.global_max_pool1d_backward(indices[0] + 9, f32(2, 3), 5),
    ),
    "global_avg_pool1d ndim": ("global_avg_pool1d", "x", ValueError, lambda: F.global_avg_pool1d(f32(5, 3))),
    "global_avg_pool1d mask": (
        "global_avg_pool1d", "mask", ValueError, lambda: F.global_avg_pool1d(f32(2, 6, 3), ones_mask),
    ),
    "global_avg_pool1d_backward": (
        "global_avg_pool1d_backward", "mask", ValueError,
        lambda: F.global_avg_pool1d_backward(f32(2, 3), 6, ones_mask),
    ),
    "attention_pool scores": (
        "attention_pool", "scores|x", ValueError, lambda: F.attention_pool(f32(2, 5, 3), f32(2, 4)),
    ),
    "attention_pool mixed": (
        "attention_pool", "scores", TypeError, lambda: F.attention_pool(f32(2, 5, 3), np.ones((2, 5))),
    ),
    "attention_pool mask": (
        "attention_pool", "mask", ValueError, lambda: F.attention_pool(f32(2, 4, 3), f32(2, 4), ones_mask),
    ),
    "attention_pool_backward": (
        "attention_pool_backward", "grad_y", ValueError,
        lambda: F.attention_pool_backward(f32(2, 5, 3), f32(2, 5), f32(2, 4)),
    ),
    "dropout rate 1": ("dropout", "rate", ValueError, lambda: F.dropout(f32(3), 1.0, 1)),
    "dropout rate -0.1": ("dropout", "rate", ValueError, lambda: F.dropout(f32(3), -0.1, 1)),
    "dropout rate nan": ("dropout", "rate", ValueError, lambda: F.dropout(f32(3), nan, 1)),
    "dropout rate text": ("dropout", "rate", TypeError, lambda: F.dropout(f32(3), "a", 1)),
    "dropout seed": ("dropout", "seed", TypeError, lambda: F.dropout(f32(3), 0.5, 1.5)),
    "dropout axis": (
        "dropout", "broadcast_axes", ValueError, lambda: F.dropout(f32(3, 2), 0.5, 1, broadcast_axes=(2,)),
    ),
    "dropout int": ("dropout", "x", TypeError, lambda: F.dropout(np.ones(3, int), 0.5, 1)),
    "dropout_mask rate": ("dropout_mask", "rate", ValueError, lambda: F.dropout_mask((3,), 1.5, 1, np.float32)),
    "dropout_mask shape": ("dropout_mask", "shape", ValueError, lambda: F.dropout_mask((3, -1), 0.5, 1, np.float32)),
    "dropout_mask dtype": ("dropout_mask", "dtype", TypeError, lambda: F.dropout_mask((3,), 0.5, 1, np.int32)),
    "hold_last ndim": ("hold_last", "y", ValueError, lambda: F.hold_last(f32(2, 5), ones_mask)),
    "hold_last mask": ("hold_last", "mask", ValueError, lambda: F.hold_last(f32(5, 2, 3), ones_mask)),
    "hold_last mask float": ("hold_last", "mask", TypeError, lambda: F.hold_last(f32(2, 5, 3), f32(2, 5))),
    "hold_last_backward": (
        "hold_last_backward", "mask", ValueError, lambda: F.hold_last_backward(f32(2, 6, 3), ones_mask),
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", OPERATIONS)
def test_operations(what: str) -> None:
    op, argument, error, call = OPERATIONS[what]
    refuses(error, op, argument, call)


@pytest.mark.parametrize("T_in", [0, 1, 2])
def test_a_window_longer_than_the_sequence(T_in: int) -> None:
    """Nothing comes out, or one clear error: never a negative extent."""
    for op, call in {
        "conv1d": lambda: F.conv1d(f32(2, T_in, 3), f32(4, 3, 5)),
        "max_pool1d": lambda: F.max_pool1d(f32(2, T_in, 4), 5)[0],
        "avg_pool1d": lambda: F.avg_pool1d(f32(2, T_in, 4), 5),
    }.items():
        try:
            result = call()
        except ValueError as error:
            assert re.match(rf"^\[{op}\] \w+[^:]*: expected .+, got .+", str(error))
        else:
            assert result.shape == (2, 0, 4)


# --- optimiser updates ---------------------------------------------------------------------------------------------

GOOD: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "sgd_update": (("velocity",), {"lr": 0.1, "momentum": 0.9, "nesterov": False, "weight_decay": 0.0}),
    "rmsprop_update": (
        ("sq", "mom", "avg"),
        {"lr": 0.1, "rho": 0.9, "momentum": 0.5, "eps": 1e-7, "weight_decay": 0.0},
    ),
    "adam_update": (
        ("m", "v", "vhat"),
        {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "eps": 1e-7, "step": 1, "weight_decay": 0.0},
    ),
}
BAD_NUMBERS: dict[str, list[Any]] = {
    "lr": [nan, inf, -0.1],
    "momentum": [nan, -0.1],
    "weight_decay": [nan, inf, -0.1],
    "rho": [nan, -0.1, 1.5],
    "eps": [nan, -1e-3],
    "beta1": [nan, -0.1, 1.0],
    "beta2": [nan, -0.1, 1.0],
    "step": [0, -1],
}


@pytest.mark.parametrize("op", GOOD)
def test_optimizers(op: str) -> None:
    slots, options = GOOD[op]

    def fresh() -> dict[str, Any]:
        arrays = {"param": f32(3, 4), "grad": f32(3, 4)}
        return arrays | {slot: np.abs(f32(3, 4)) for slot in slots}

    def attempt(error: type[Exception], argument: str, **changes: Any) -> None:
        given = fresh()
        before = {k: v.copy() for k, v in given.items()}
        call = {**given, **options, **changes}
        positional = [call.pop(name) for name in ("param", "grad", *slots)]
        refuses(error, op, argument, lambda: getattr(F, op)(*positional, **call))
        for name, value in before.items():
            np.testing.assert_array_equal(given[name], value, err_msg="written before the check")

    for name, values in BAD_NUMBERS.items():
        for value in values if name in options else []:
            attempt(ValueError, name, **{name: value})
    attempt(TypeError, "lr", lr="fast")
    for name in ("param", "grad", *slots):
        others = "|".join(("param", "grad", *slots)) if name == "param" else name
        attempt(ValueError, others, **{name: f32(3, 5)})
        attempt(TypeError, others, **{name: np.ones((3, 4))})
        attempt(TypeError, name, **{name: [[1.0] * 4] * 3})
        if name != "grad":
            attempt(ValueError, name, **{name: read_only(f32(3, 4))})
