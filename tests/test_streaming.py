"""Streams: the equations, the carried state, blocks and steps, bad input."""

from __future__ import annotations

import subprocess
import threading
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import native_tools
import rnn_cases
from core_settings import SIZES, core, each_dtype, each_isa
from fastrnn import activations, layers, reference
from fastrnn.streaming import Stream

TOLERANCE = {np.float64: 1e-12, np.float32: 5e-6}
each_cell = pytest.mark.parametrize("cell", rnn_cases.CELLS)


def make(case: rnn_cases.Case) -> Stream:
    """The case's layer as a stream in the state it starts from."""
    name, _, _ = rnn_cases.CELLS[case.cell]
    a = case.arrays
    options = {k: v for k, v in case.options.items() if k != "reset_after" or v is False}
    stream = Stream(name, a["weight_ih"], a["weight_hh"], a["bias_ih"], a["bias_hh"], **options)
    if a["h0"] is not None:
        stream.state = (a["h0"][0], a["c0"][0]) if case.cell == "lstm" else a["h0"][0]
    return stream


def expected(case: rnn_cases.Case) -> dict[str, Any]:
    values, _ = rnn_cases.forward(reference, case.astype(np.float64))
    return {k: v[0] for k, v in values.items()}


def results(stream: Stream, y: Any) -> dict[str, Any]:
    state = stream.state if stream.cell == "lstm" else (stream.state,)
    return {"output": y, **dict(zip(("h_n", "c_n"), state, strict=False))}


@each_isa
@each_dtype
@each_cell
def test_equations(isa: str, dtype: Any, cell: str) -> None:
    rng = np.random.default_rng(1)
    with core(isa):
        for H in SIZES:
            for I in (1, int(rng.integers(2, 40))):
                case = rnn_cases.draw(cell, rng, B=1, T=9, I=I, H=H, dtype=dtype, bias=I != 1, initial=H % 2 == 1)
                stream = make(case)
                got = results(stream, stream(case.arrays["x"][0]))
                rnn_cases.assert_close(got, expected(case), TOLERANCE[dtype], (H, I))


@each_isa
@each_dtype
@each_cell
def test_activations(isa: str, dtype: Any, cell: str) -> None:
    """Every activation in every place, among them the standard ones in only some of the places."""
    rng = np.random.default_rng(2)
    names = list(activations.NAMES)
    with core(isa):
        for i, name in enumerate(names):
            options: dict[str, Any] = {"activation": name}
            if cell != "rnn":
                options["recurrent_activation"] = names[i - 3] if i % 2 else "sigmoid"
            if cell == "lstm":
                options["output_activation"] = "tanh" if i % 3 == 0 else names[i - 5]
            case = rnn_cases.draw(
                cell, rng, B=1, T=3, I=3, H=int(rng.integers(5, 21)), dtype=dtype, scale=0.2, **options
            )
            stream = make(case)
            got = results(stream, stream(case.arrays["x"][0]))
            rnn_cases.assert_close(got, expected(case), 4 * TOLERANCE[dtype], options)


@each_isa
@each_dtype
@each_cell
def test_block_is_its_steps(isa: str, dtype: Any, cell: str) -> None:
    rng = np.random.default_rng(3)
    with core(isa):
        for I, H in ((1, 16), (1, 7), (3, 33), (17, 64), (64, 65), (130, 31)):
            case = rnn_cases.draw(cell, rng, B=1, T=29, I=I, H=H, dtype=dtype)
            x = case.arrays["x"][0]
            whole, single = make(case), make(case)
            want = results(whole, whole(x))
            rnn_cases.assert_same(results(single, np.stack([single(row) for row in x])), want, (I, H))
            for edges in ((0, 4, 4, 5, 29), (0, 2, 9, 22, 29)):
                mixed = make(case)
                parts = [mixed(x[a:b]) for a, b in pairwise(edges)]
                rnn_cases.assert_same(results(mixed, np.concatenate(parts)), want, (I, H, edges))


@each_dtype
@each_cell
def test_state(dtype: Any, cell: str) -> None:
    case = rnn_cases.draw(cell, np.random.default_rng(4), B=1, T=7, I=3, H=19, dtype=dtype, initial=False)
    x = case.arrays["x"][0]
    stream = make(case)
    first = stream(x)
    middle = stream.state
    again = stream.copy()
    second = stream(x)
    assert (second != first).any()
    assert np.array_equal(again(x), second)  # a copy goes on from where the other was, and apart from it
    stream.state = middle
    assert np.array_equal(stream(x), second)
    for reset in (stream.reset, lambda: setattr(stream, "state", None)):
        reset()
        assert np.array_equal(stream(x), first)
    stream.reset()
    for value in stream.state if cell == "lstm" else (stream.state,):
        assert value.shape == (19,) and value.dtype == dtype and not value.any()
    assert (stream.inputs, stream.hidden, stream.dtype) == (3, 19, np.dtype(dtype)) and stream.nbytes > 0


def test_odd_step_count_keeps_rounding() -> None:
    """From one state the same step has the same bits, however many steps came before."""
    case = rnn_cases.draw("lstm", np.random.default_rng(5), B=1, T=1, I=3, H=97, dtype=np.float32)
    x = case.arrays["x"][0, 0]
    stream = make(case)
    state = stream.state
    want = stream(x)
    stream.state = state
    assert np.array_equal(stream(x), want)


def test_out_and_strides() -> None:
    case = rnn_cases.draw("gru", np.random.default_rng(6), B=1, T=6, I=4, H=10, dtype=np.float32)
    x = case.arrays["x"][0]
    want = make(case)(x)
    out = np.full((8, 10), np.nan, np.float32)
    stream = make(case)
    assert stream(x, out=out[1:7]).base is out
    assert np.array_equal(out[1:7], want) and np.isnan(out[[0, 7]]).all()
    assert np.array_equal(make(case)(np.asfortranarray(x)), want)
    assert np.array_equal(make(case)(np.repeat(x, 2, axis=1)[:, ::2]), want)
    assert make(case)(x[:0]).shape == (0, 10)
    row = np.empty(10, np.float32)
    stream = make(case)
    assert stream(x[0], out=row) is row and np.array_equal(row, want[0])


@each_isa
@each_cell
def test_nan_and_infinity_pass(isa: str, cell: str) -> None:
    case = rnn_cases.draw(cell, np.random.default_rng(7), B=1, T=2, I=2, H=18, dtype=np.float32)
    with core(isa):
        for value in (np.inf, -np.inf):
            x = case.arrays["x"][0].copy()
            x[0, 1] = value
            stream = make(case)
            big = rnn_cases.draw(cell, np.random.default_rng(7), B=1, T=2, I=2, H=18, dtype=np.float32)
            big.arrays["x"][0] = np.where(np.isinf(x), np.copysign(np.float32(1e30), x), x)
            np.testing.assert_allclose(stream(x), make(big)(big.arrays["x"][0]), atol=1e-6)
        stream = make(case)
        x[0, 1] = np.nan
        assert np.isnan(stream(x)).all()
        stream.reset()
        assert np.isfinite(stream(case.arrays["x"][0])).all()


@each_isa
@each_dtype
def test_denormals_are_flushed(isa: str, dtype: Any) -> None:
    tiny = np.finfo(dtype).tiny
    one = np.ones((1, 1), dtype)
    with core(isa):
        stream = Stream("rnn", one, one, activation="linear")
        assert stream(np.array([tiny], dtype))[0] == tiny
        stream.reset()
        assert stream(np.array([tiny / 4], dtype))[0] == 0  # an input that is denormal
        stream = Stream("rnn", one, one / 2, activation="linear")
        stream.state = np.array([tiny], dtype)
        assert stream(np.zeros(1, dtype))[0] == 0  # a state that becomes one
        assert np.full(1, tiny, dtype)[0] / 4 > 0  # and the caller's own arithmetic keeps them


@each_isa
@each_dtype
def test_accuracy_of_the_standard_activations(isa: str, dtype: Any) -> None:
    """The bounds of quick_math.hpp, through an RNN whose h is tanh(x), an LSTM whose h is sigmoid(x), and a GRU that
    leaves sigmoid(x) of h = 1."""
    small = np.logspace(-8, 1, 50_000)
    x = np.concatenate([np.linspace(-30, 30, 200_000), small, -small]).astype(dtype).reshape(-1, 16)
    wide = x.astype(np.longdouble)
    with core(isa):
        tanh = Stream("rnn", np.eye(16, dtype=dtype), np.zeros((16, 16), dtype))(x)
        weight, bias = np.zeros((64, 16), dtype), np.zeros(64, dtype)
        weight[48:], bias[:48] = np.eye(16), 60  # i, f and g are 1: c grows, and tanh(c) is 1
        lstm = Stream("lstm", weight, np.zeros((64, 16), dtype), bias)
        lstm.state = np.zeros(16, dtype), np.full(16, 50, dtype)
        sigmoid = lstm(x)
        weight = np.zeros((48, 16), dtype)
        weight[16:32] = np.eye(16)
        gru, one = Stream("gru", weight, np.zeros((48, 16), dtype)), np.ones(16, dtype)
        left = np.empty_like(x)
        for row, out in zip(x, left, strict=True):
            gru.state = one
            gru(row, out=out)
    error = np.abs(tanh - np.tanh(wide))
    assert error.max() <= (1.7e-7 if dtype == np.float32 else 3.2e-16)
    assert (error / np.spacing(np.abs(np.tanh(wide)).astype(dtype))).max() <= (4 if dtype == np.float32 else 4.5)
    for got in (sigmoid, left):
        assert np.abs(got - 1 / (1 + np.exp(-wide))).max() <= (1e-7 if dtype == np.float32 else 2e-16)


@each_cell
@each_dtype
def test_layers(cell: str, dtype: Any) -> None:
    name, _, options = rnn_cases.CELLS[cell]
    kind = {"rnn": layers.SimpleRNN, "lstm": layers.LSTM, "gru": layers.GRU}[name]
    layer = kind(9, return_sequences=True, dropout=0.5, bias_initializer="random_normal", dtype=np.dtype(dtype).name,
                 **options)  # fmt: skip
    with pytest.raises(ValueError, match=r"^\[\w+\] stream: expected a built layer"):
        layer.stream()
    x = np.random.default_rng(8).normal(size=(1, 12, 5)).astype(dtype)
    want = layer(x)[0]
    stream = layer.stream()
    np.testing.assert_allclose(stream(x[0]), want, rtol=0, atol=TOLERANCE[dtype])
    layer.set_weights([0 * w for w in layer.get_weights()])
    stream.reset()
    np.testing.assert_allclose(stream(x[0]), want, rtol=0, atol=TOLERANCE[dtype])  # it has copied them
    backwards = kind(3, go_backwards=True)
    backwards(x.astype(np.float32))
    with pytest.raises(ValueError, match=r"^\[\w+\] stream: expected go_backwards=False"):
        backwards.stream()


W, R, B4 = np.zeros((12, 2), np.float32), np.zeros((12, 3), np.float32), np.zeros(12, np.float32)


@pytest.mark.parametrize(
    ("error", "argument", "call"),
    [
        (ValueError, "cell", lambda: Stream("LSTM", W, R)),
        (ValueError, "cell", lambda: Stream(1, W, R)),  # type: ignore[arg-type]
        (TypeError, "weight_ih", lambda: Stream("lstm", None, R)),  # type: ignore[arg-type]
        (TypeError, "weight_ih", lambda: Stream("lstm", W.astype(np.int32), R)),
        (ValueError, "weight_hh", lambda: Stream("lstm", W, None)),  # type: ignore[arg-type]
        (TypeError, "weight_hh", lambda: Stream("lstm", W, R.astype(np.float64))),
        (ValueError, "weight_hh", lambda: Stream("gru", W, R)),
        (ValueError, "weight_hh", lambda: Stream("lstm", W, R[:, :0])),
        (ValueError, "weight_ih", lambda: Stream("lstm", W[:11], R)),
        (ValueError, "weight_ih", lambda: Stream("lstm", W[:, :0], R)),
        (ValueError, "weight_ih", lambda: Stream("lstm", W[0], R)),
        (ValueError, "bias_ih", lambda: Stream("lstm", W, R, B4[:3])),
        (TypeError, "bias_hh", lambda: Stream("lstm", W, R, B4, B4.astype(np.float64))),
        (ValueError, "activation", lambda: Stream("lstm", W, R, activation="tan")),
        (ValueError, "recurrent_activation", lambda: Stream("rnn", R[:3, :2], R[:3], recurrent_activation="relu")),
        (ValueError, "output_activation", lambda: Stream("gru", W[:9], R[:9], output_activation="relu")),
        (ValueError, "reset_after", lambda: Stream("lstm", W, R, reset_after=False)),
        (TypeError, "reset_after", lambda: Stream("gru", W[:9], R[:9], reset_after=1)),  # type: ignore[arg-type]
        (ValueError, "x", lambda: Stream("lstm", W, R)(B4[:3])),
        (ValueError, "x", lambda: Stream("lstm", W, R)(W[None])),
        (TypeError, "x", lambda: Stream("lstm", W, R)([1.0, 2.0])),  # type: ignore[arg-type]
        (TypeError, "x", lambda: Stream("lstm", W, R)(W.astype(np.float64))),
        (ValueError, "out", lambda: Stream("lstm", W, R)(W, out=R[:5])),
        (ValueError, "out", lambda: Stream("lstm", W, R)(W[:1], out=R[0])),
        (TypeError, "out", lambda: Stream("lstm", W, R)(W, out=R.astype(np.float64))),
        (ValueError, "out", lambda: Stream("lstm", W, R)(W, out=np.zeros((3, 12), np.float32).T)),
        (ValueError, "out", lambda: Stream("lstm", R, R)(R, out=R)),
        (TypeError, "state", lambda: setattr(Stream("lstm", W, R), "state", R)),
        (ValueError, "h", lambda: setattr(Stream("lstm", W, R), "state", (B4, B4))),
        (ValueError, "c", lambda: setattr(Stream("lstm", W, R), "state", (B4[:3], B4))),
        (TypeError, "h", lambda: setattr(Stream("rnn", R[:3, :2], R[:3]), "state", [0.0, 0.0, 0.0])),
    ],
)
def test_bad_input(error: type[Exception], argument: str, call: Any) -> None:
    with pytest.raises(error, match=rf"^\[stream\] {argument}: expected .*, got "):
        call()


def test_one_thread_at_a_time() -> None:
    H = 200
    stream = Stream("rnn", np.zeros((H, 8), np.float32), np.zeros((H, H), np.float32))
    x = np.zeros((50_000, 8), np.float32)
    thread = threading.Thread(target=stream, args=(x,))
    thread.start()
    refused = None
    while thread.is_alive() and refused is None:
        try:
            stream.reset()
        except RuntimeError as error:
            refused = error
    thread.join()
    assert str(refused) == "[stream] call: expected one thread at a time, got a second one"
    stream.reset()


def test_read_only_out() -> None:
    out = np.zeros((12, 3), np.float32)
    out.flags.writeable = False
    with pytest.raises(ValueError, match=r"^\[stream\] out: expected a writeable array"):
        Stream("lstm", W, R)(W, out=out)


def test_real_time_promises() -> None:
    """From C++: calls do not allocate, the caller's floating-point mode is left as it was, bad weights are refused."""
    done = subprocess.run([native_tools.programs() / "stream_promises"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
