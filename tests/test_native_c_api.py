"""The C interface through ctypes: statuses, messages, sizes; no crash for null pointers and nonsense."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import native_tools as native
from fastrnn import activations, runtime
from fastrnn import layers as L
from fastrnn.datasets.text import TextEncoder
from fastrnn.models import Sequential
from fastrnn.streaming import Stream
from model_tools import shake

OK, INVALID, UNREADABLE, DAMAGED, UNSUPPORTED = range(5)
Floats = ctypes.POINTER(ctypes.c_float)


class Activation(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_int32), ("alpha", ctypes.c_float), ("beta", ctypes.c_float)]


class Layer(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t), ("cell", ctypes.c_int32), ("inputs", ctypes.c_int64),
        ("hidden", ctypes.c_int64), ("weight_ih", Floats), ("weight_hh", Floats), ("bias_ih", Floats),
        ("bias_hh", Floats), ("activation", Activation), ("recurrent_activation", Activation),
        ("output_activation", Activation),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def library() -> Any:
    lib = ctypes.CDLL(str(native.shared_library()))
    for name in ("last_error", "status_name", "version", "isa"):
        getattr(lib, f"fastrnn_{name}").restype = ctypes.c_char_p
    for name in ("stream_inputs", "stream_outputs", "model_inputs", "model_outputs", "model_steps", "model_text_ids"):
        getattr(lib, f"fastrnn_{name}").restype = ctypes.c_int64
    lib.fastrnn_activation_of.restype = Activation
    return lib


def error(lib: Any) -> str:
    return str(lib.fastrnn_last_error().decode())


def floats(array: Any) -> Any:
    return array.ctypes.data_as(Floats)


def int64(value: int) -> Any:
    return ctypes.c_int64(value)


def init(lib: Any, made: Any, size: int, cell: int, inputs: int, hidden: int) -> None:
    """What the macro fastrnn_recurrent_init does in a program whose struct has `size` bytes."""
    lib.fastrnn_recurrent_init_sized(ctypes.byref(made), ctypes.c_size_t(size), cell, int64(inputs), int64(hidden))


def layer(lib: Any, cell: int, weights: list[Any]) -> Layer:
    made = Layer()
    gates = (1, 4, 3, 3)[cell]
    init(lib, made, ctypes.sizeof(Layer), cell, weights[0].shape[1], len(weights[0]) // gates)
    made.weight_ih, made.weight_hh, made.bias_ih, made.bias_hh = map(floats, weights)
    return made


def test_about(library: Any) -> None:
    assert library.fastrnn_version().decode() == runtime.info()["version"]
    assert library.fastrnn_abi_version() == 1
    assert library.fastrnn_isa().decode() in ("baseline", "neon")
    names = [library.fastrnn_status_name(status).decode() for status in range(8)]
    assert len(set(names)) == 8 and names[0] == "ok" and names[7] == "unknown status"
    assert library.fastrnn_use_isa(b"mmx") == INVALID and "expected one of" in error(library)
    assert library.fastrnn_use_isa(None) == INVALID
    assert library.fastrnn_set_num_threads(0) == INVALID and library.fastrnn_set_num_threads(2) == OK


def test_default_parameters_of_activations(library: Any) -> None:
    for name, kind in activations.NAMES.items():
        made, wanted = library.fastrnn_activation_of(kind), activations.parse(name)
        assert (made.kind, made.alpha, made.beta) == (kind, np.float32(wanted.alpha), np.float32(wanted.beta))


@pytest.mark.parametrize("cell", range(4))
def test_stream_from_weights(library: Any, cell: int) -> None:
    rng = np.random.default_rng(cell)
    name, G, H, I = ("rnn", "lstm", "gru", "gru")[cell], (1, 4, 3, 3)[cell], 11, 3
    weights = [rng.normal(size=shape).astype(np.float32) for shape in ((G * H, I), (G * H, H), (G * H,), (G * H,))]
    made, stream = layer(library, cell, weights), ctypes.c_void_p()
    assert library.fastrnn_stream_create(ctypes.byref(made), ctypes.byref(stream)) == OK
    assert (library.fastrnn_stream_inputs(stream), library.fastrnn_stream_outputs(stream)) == (I, H)
    x = rng.normal(size=(20, I)).astype(np.float32)
    y = np.empty((20, H), np.float32)
    want = Stream(name, *weights, **({"reset_after": False} if cell == 3 else {}))(x)
    for _ in range(2):
        assert library.fastrnn_stream_step(stream, floats(x), floats(y)) == OK
        assert library.fastrnn_stream_process(stream, floats(x[1:]), int64(19), floats(y[1:])) == OK
        np.testing.assert_allclose(y, want, rtol=0, atol=2e-6)
        assert library.fastrnn_stream_reset(stream) == OK
    for arguments in ((None, floats(x), int64(1), floats(y)), (stream, None, int64(1), floats(y)),
                      (stream, floats(x), int64(1), None), (stream, floats(x), int64(-1), floats(y))):  # fmt: skip
        assert library.fastrnn_stream_process(*arguments) == INVALID and error(library).startswith("[stream] ")
    library.fastrnn_stream_free(stream)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"struct_size": 8}, "struct_size: expected what fastrnn_recurrent_init sets, got 8"),
        ({"struct_size": 2**40}, "struct_size: expected at most "),
        ({"cell": 4}, "cell: expected a known cell, got 4"),
        ({"cell": -1}, "cell: expected a known cell, got -1"),
        ({"inputs": 0}, "inputs: expected 1 to 2^28, got 0"),
        ({"hidden": 2**62}, "hidden: expected 1 to 2^28"),
        ({"weight_ih": None}, "weight_ih: expected a pointer, got null"),
        ({"weight_hh": None}, "weight_hh: expected a pointer, got null"),
        ({"activation": Activation(16, 0, 0)}, "activation: expected a known activation"),
        ({"recurrent_activation": Activation(4, float("nan"), 0)}, "recurrent_activation: expected a finite"),
    ],
)
def test_wrong_layers(library: Any, changes: dict[str, Any], message: str) -> None:
    weights = [np.zeros(shape, np.float32) for shape in ((8, 3), (8, 2), (8,), (8,))]
    made, stream = layer(library, 1, weights), ctypes.c_void_p(1)
    for name, value in changes.items():
        setattr(made, name, value)
    assert library.fastrnn_stream_create(ctypes.byref(made), ctypes.byref(stream)) == INVALID
    assert stream.value is None and error(library).startswith(f"[stream] {message}")


def test_size_of_the_program_s_struct(library: Any) -> None:
    """Nothing is written or read behind it: a shorter one is one of an older header, a longer one of a newer one."""
    weights = [np.zeros(shape, np.float32) for shape in ((8, 3), (8, 2))]
    first, whole = Layer.output_activation.offset + ctypes.sizeof(Activation), ctypes.sizeof(Layer)
    for size, message in (
        (Layer.weight_ih.offset, "what fastrnn_recurrent_init sets"), (first - 1, "what fastrnn_recurrent_init sets"),
        (first, None), (whole, None),
        (whole + 16, f"at most {whole} (the program's header is newer than this library)"),
    ):  # fmt: skip
        memory = (ctypes.c_ubyte * (whole + 64))(*[0xA5] * (whole + 64))
        init(library, memory, size, 1, 3, 2)
        assert bytes(memory[size:]) == b"\xa5" * (len(memory) - size), size
        assert bytes(memory[whole:size]) == b"\0" * max(size - whole, 0)
        made, stream = Layer.from_buffer(memory), ctypes.c_void_p(1)
        assert (made.struct_size, made.cell, made.inputs, made.hidden) == (size, 1, 3, 2)
        if size >= first:
            assert not made.weight_hh and made.output_activation.kind == 1
            made.weight_ih, made.weight_hh = map(floats, weights)
        status = library.fastrnn_stream_create(ctypes.byref(made), ctypes.byref(stream))
        if message:
            assert status == INVALID and stream.value is None
            assert error(library) == f"[stream] struct_size: expected {message}, got {size}"
        else:
            assert status == OK and library.fastrnn_stream_outputs(stream) == 2
            library.fastrnn_stream_free(stream)


def test_null_is_let_pass(library: Any) -> None:
    library.fastrnn_stream_free(None)
    library.fastrnn_model_free(None)
    library.fastrnn_recurrent_init_sized(None, ctypes.c_size_t(8), 1, int64(1), int64(1))
    for name in ("stream_inputs", "stream_outputs", "model_takes_ids", "model_inputs", "model_outputs", "model_steps"):
        assert getattr(library, f"fastrnn_{name}")(None) == -1
    for name, count in (("stream_create", 2), ("stream_process", 2), ("stream_reset", 1), ("model_load", 2),
                        ("model_load_memory", 3), ("model_output_rows", 3), ("model_run", 6), ("model_run_ids", 6),
                        ("model_run_text", 4), ("model_encode", 4), ("model_stream", 2)):  # fmt: skip
        assert getattr(library, f"fastrnn_{name}")(*[None] * max(count, 4)) == INVALID, name
        assert "expected a pointer, got null" in error(library)


def load(library: Any, path: Path) -> Any:
    model = ctypes.c_void_p()
    assert library.fastrnn_model_load(str(path).encode(), ctypes.byref(model)) == OK, error(library)
    return model


def test_model_of_features(library: Any, tmp_path: Path) -> None:
    source = Sequential([L.Input((None, 3)), L.Conv1D(4, 3), L.LSTM(5, return_sequences=True)])
    shake(source)
    source.save(path := tmp_path / "m.safetensors")
    model = load(library, path)
    assert library.fastrnn_model_takes_ids(model) == 0 and library.fastrnn_model_text_ids(model) == 0
    sizes = [getattr(library, f"fastrnn_model_{name}")(model) for name in ("inputs", "outputs", "steps")]
    assert sizes == [3, 5, 0]
    rows = ctypes.c_int64()
    assert library.fastrnn_model_output_rows(model, int64(9), ctypes.byref(rows)) == OK and rows.value == 7
    assert library.fastrnn_model_output_rows(model, int64(2), ctypes.byref(rows)) == INVALID
    assert error(library) == "[run] layer 1 'conv1d' (Conv1D): expected at least 3 steps, got 2".replace(
        "layer 1 'conv1d'", f"layer 1 '{source.layers[0].name}'"
    )
    x = np.random.default_rng(0).normal(size=(2, 9, 3)).astype(np.float32)
    y = np.empty((2, 7, 5), np.float32)
    assert library.fastrnn_model_run(model, floats(x), int64(2), int64(9), floats(y), int64(y.size)) == OK
    np.testing.assert_allclose(y, source(x), rtol=0, atol=2e-6)
    for batch, steps, size, message in (
        (2, 9, y.size - 1, "y: expected room for 70 values, got 69"), (0, 9, 70, "batch: expected 1 or more"),
        (2**61, 9, 70, "batch: expected 1 or more"), (1, 2**40, 70, "steps: expected 1 to 2^31 - 1"),
        (1, -1, 70, "steps: expected 1 to 2^31 - 1"), (2**28, 2**30, 2**62, "batch: expected 1 or more"),
    ):  # fmt: skip
        status = library.fastrnn_model_run(model, floats(x), int64(batch), int64(steps), floats(y), int64(size))
        assert status == INVALID and error(library).startswith(f"[run] {message}"), (batch, steps)
    ids = np.zeros(9, np.int32).ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
    assert library.fastrnn_model_run_ids(model, ids, int64(1), int64(9), floats(y), int64(70)) == INVALID
    assert library.fastrnn_model_run_text(model, b"word", floats(y), int64(70)) == INVALID
    assert error(library) == "[run] text: expected a model saved with its vocabulary, got one without"
    stream = ctypes.c_void_p(1)
    assert library.fastrnn_model_stream(model, ctypes.byref(stream)) == UNSUPPORTED and stream.value is None
    library.fastrnn_model_free(model)


def test_model_of_ids(library: Any, tmp_path: Path) -> None:
    words = [f"w{i}" for i in range(6)]
    source = Sequential([L.Embedding(10, 4, mask_zero=True, input_shape=(5,)), L.GRU(3), L.Dense(2)])
    shake(source)
    encoder = TextEncoder(words, 10, 5)
    source.extra["encoder"] = encoder.to_json()
    source.save(path := tmp_path / "m.safetensors")
    model = load(library, path)
    sizes = [getattr(library, f"fastrnn_model_{name}")(model) for name in ("inputs", "outputs", "steps", "text_ids")]
    assert sizes == [0, 2, 5, 5] and library.fastrnn_model_takes_ids(model) == 1
    ids, y = np.full(5, -7, np.int32), np.empty(2, np.float32)
    pointer = ids.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
    assert library.fastrnn_model_encode(model, b"W0 w3, zebra", pointer, int64(5)) == OK
    assert ids.tolist() == encoder.encode(["W0 w3, zebra"])[0].tolist()
    assert library.fastrnn_model_encode(model, b"w0", pointer, int64(4)) == INVALID
    assert library.fastrnn_model_run_text(model, b"W0 w3, zebra", floats(y), int64(1)) == INVALID
    assert library.fastrnn_model_run_text(model, b"W0 w3, zebra", floats(y), int64(2)) == OK
    np.testing.assert_allclose(y, np.asarray(source(ids[None]))[0], rtol=0, atol=1e-6)
    for wrong in (10, -1):
        ids[3] = wrong
        assert library.fastrnn_model_run_ids(model, pointer, int64(1), int64(5), floats(y), int64(2)) == INVALID
        assert f"got {wrong} at position 3" in error(library)
    library.fastrnn_model_free(model)
    file = path.read_bytes()
    assert library.fastrnn_model_load_memory(file, ctypes.c_size_t(len(file)), ctypes.byref(model)) == OK
    library.fastrnn_model_free(model)
    assert library.fastrnn_model_load_memory(file, ctypes.c_size_t(99), ctypes.byref(model)) == DAMAGED
    assert model.value is None
    assert library.fastrnn_model_load(str(tmp_path / "none").encode(), ctypes.byref(model)) == UNREADABLE
