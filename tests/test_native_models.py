"""Saved models run by C and C++ programs: the examples, against Python's results; what is refused; hostile files."""

from __future__ import annotations

import json
import re
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import native_tools as native
from fastrnn import layers as L
from fastrnn import zoo
from fastrnn.datasets.text import TextEncoder
from fastrnn.models import Sequential
from fastrnn.streaming import Stream
from model_tools import shake

WORDS = [f"word{i}" for i in range(30)] + ["don't", "não", "ça"]
T, I = 21, 5
Array = Any


def ids_of(rng: np.random.Generator, batch: int = 4) -> Array:
    """Rows of ids padded in front, and one of padding alone."""
    ids = rng.integers(1, len(WORDS) + 4, (batch, T)).astype(np.int32)
    ids[0, :7] = 0
    ids[1, 3] = 0
    ids[2] = 0
    return ids


def text_model(kind: str, cell: str) -> Sequential:
    model = zoo.build(kind, cell, vocabulary=len(WORDS) + 4, embedding=6, units=7, maxlen=T)
    shake(model, scale=0.5)
    model.extra["encoder"] = TextEncoder(WORDS, len(WORDS) + 4, T).to_json()
    return model


def run_model(path: Path, x: Array, like: Array) -> Array:
    program = native.examples("cpp") / "run_model"
    done = subprocess.run([program, path, str(x.shape[0]), str(x.shape[1])], input=x.tobytes(), capture_output=True)
    assert done.returncode == 0, done.stderr
    return np.frombuffer(done.stdout, np.float32).reshape(like.shape)


@pytest.mark.parametrize("cell", zoo.CELLS)
@pytest.mark.parametrize("kind", zoo.MODELS)
def test_review_classifier(tmp_path: Path, kind: str, cell: str) -> None:
    """What `fastrnn train` saves: of ids through C++, of texts through C."""
    model = text_model(kind, cell)
    model.save(path := tmp_path / "m.safetensors")
    ids = ids_of(np.random.default_rng(1))
    want = np.asarray(model(ids))
    np.testing.assert_allclose(run_model(path, ids, want), want, rtol=0, atol=1e-6)
    assert len({f"{p:.5f}" for p in want[:, 0]}) == len(want)  # different inputs, different answers

    texts = ["Word1, WORD2!  (don't)<br />word3", "NÃO ÇA \tunheard\r\nword4", "", "word5 " * 60, "日本 word6"]
    encoder = TextEncoder.from_json(model.extra["encoder"])
    want = np.asarray(model(encoder.encode(texts)))[:, 0]
    program = native.examples("c") / "classify_review"
    lines = native.run(program, path, *(text or " " for text in texts)).split("\n")
    got = [float(line.split()[0]) for line in lines if line[:2] in ("0.", "1.")]
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)
    row = encoder.encode(texts[:1])[0]
    assert native.run(program, path, "--ids", *map(str, row)).split()[:2] == lines[0].split()[:2]


EMBEDDED: dict[str, Callable[[], list[L.Layer]]] = {
    "backwards": lambda: [L.LSTM(5, go_backwards=True, return_sequences=True), L.GRU(4, go_backwards=True)],
    "held outputs": lambda: [L.SimpleRNN(5, return_sequences=True), L.Dense(3)],
    "held outputs backwards": lambda: [L.GRU(5, return_sequences=True, go_backwards=True), L.LSTM(3)],
    "zero outputs": lambda: [L.LSTM(5, return_sequences=True, zero_output_for_mask=True), L.Attention(score="dot")],
    "zero last output": lambda: [L.LSTM(5, zero_output_for_mask=True)],
    "sum": lambda: [L.Bidirectional(L.GRU(5), merge_mode="sum")],
    "mul": lambda: [L.Bidirectional(L.LSTM(5, return_sequences=True), merge_mode="mul"), L.Attention(4)],
    "ave": lambda: [L.Bidirectional(L.SimpleRNN(5, return_sequences=True), merge_mode="ave"), L.LSTM(3)],
    "mirrored": lambda: [L.Bidirectional(L.GRU(5, go_backwards=True, return_sequences=True),
                                         backward_layer=L.LSTM(3, return_sequences=True)), L.LSTM(4)],
    "pooled": lambda: [L.LSTM(5, return_sequences=True), L.GlobalAveragePooling1D(), L.Dense(4, activation="softmax")],
    "pooled maxima": lambda: [L.Bidirectional(L.LSTM(5, return_sequences=True)), L.GlobalMaxPooling1D(keepdims=True)],
}  # fmt: skip
FEATURES: dict[str, Callable[[], list[L.Layer]]] = {
    "reset before": lambda: [L.GRU(6, reset_after=False, return_sequences=True), L.GRU(5, use_bias=False)],
    "activations": lambda: [
        L.LSTM(6, activation="relu", recurrent_activation="hard_sigmoid", return_sequences=True),
        L.SimpleRNN(5, activation=("elu", 0.3), return_sequences=True),
        L.GRU(6, activation="softsign", recurrent_activation="sigmoid", return_sequences=True),
        L.Dense(4, activation="gelu", use_bias=False), L.Activation(("scaled_tanh", 1.7, 0.6)),
    ],
    "convolutions": lambda: [
        L.Conv1D(6, 3, padding="causal", dilation_rate=2, activation="tanh"), L.Conv1D(5, 4, padding="valid"),
        L.Conv1D(4, 4, strides=2, padding="same", activation="silu", use_bias=False),
        L.Conv1D(3, 1, activation="softmax"),
    ],
    "pooling": lambda: [
        L.MaxPooling1D(3, strides=2), L.AveragePooling1D(4, strides=3, padding="same"), L.Dropout(0.5), L.LSTM(3),
    ],
    "streams": lambda: [
        L.LSTM(17, return_sequences=True), L.Dense(9, activation="elu"), L.GRU(6, return_sequences=True),
        L.Activation("tanh"), L.Dense(3, activation="softmax"),
    ],
}  # fmt: skip


def embedded_model(name: str) -> tuple[Sequential, Array]:
    model = Sequential([L.Embedding(len(WORDS) + 4, 6, mask_zero=True, input_shape=(T,)), *EMBEDDED[name]()])
    shake(model)
    return model, ids_of(np.random.default_rng(2))


def feature_model(name: str) -> tuple[Sequential, Array]:
    model = Sequential([L.Input((None, I)), *FEATURES[name]()])
    shake(model, scale=0.5)
    return model, np.random.default_rng(3).normal(size=(3, T, I)).astype(np.float32)


@pytest.mark.parametrize("name", [*EMBEDDED, *FEATURES])
def test_layers(tmp_path: Path, name: str) -> None:
    model, x = embedded_model(name) if name in EMBEDDED else feature_model(name)
    model.save(path := tmp_path / "m.safetensors")
    want = np.asarray(model(x))
    assert np.ptp(want) > 0.01
    np.testing.assert_allclose(run_model(path, x, want), want, rtol=0, atol=1e-6)


def filtered(x: Array, width: int, *arguments: Any) -> Array:
    program = native.examples("c") / "streaming_filter"
    done = subprocess.run([program, *arguments], input=x.tobytes(), capture_output=True)
    assert done.returncode == 0, done.stderr
    return np.frombuffer(done.stdout, np.float32).reshape(-1, width)


def test_streaming_filter(tmp_path: Path) -> None:
    """The example's LSTM from raw weights, and a saved chain of layers, are Python's."""

    def made_up(count: int, scale: float, phase: float) -> Array:
        return (scale * np.sin(1.7 * np.arange(count) + phase)).astype(np.float32)

    weights = made_up(64, 0.5, 0.3).reshape(64, 1), made_up(1024, 0.3, 1.1).reshape(64, 16), made_up(64, 0.1, 2.0)
    x = np.random.default_rng(4).normal(size=(150, 1)).astype(np.float32)
    np.testing.assert_allclose(filtered(x, 16), Stream("lstm", *weights)(x), rtol=0, atol=1e-6)

    model, _ = feature_model("streams")
    model.save(path := tmp_path / "m.safetensors")
    x = np.random.default_rng(5).normal(size=(150, I)).astype(np.float32)
    np.testing.assert_allclose(filtered(x, 3, path), np.asarray(model(x[None]))[0], rtol=0, atol=1e-6)


def test_promises(tmp_path: Path) -> None:
    """Streams in C: no allocation in a call (counted), a block is its steps, the floating-point mode is restored."""
    model, _ = feature_model("streams")
    model.save(path := tmp_path / "m.safetensors")
    output = native.run(native.programs() / "c_promises", path)
    print(output)
    assert output.count(" 0 allocations in 262 steps, ") == 9


def refused(path: Path) -> str:
    """What the C example says of a file."""
    program = native.examples("c") / "streaming_filter"
    done = subprocess.run([program, path], input="", capture_output=True, text=True)
    assert done.returncode == 1, done
    return done.stderr.strip()


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            [L.LSTM(3, name="a"), L.Reshape((3, 1), name="b")],
            r"layer 2 'b' \(Reshape\): expected a layer that C\+\+ runs",
        ),
        ([L.LSTM(3, return_state=True, name="a")], r"layer 1 'a' \(LSTM\) return_state: expected False, got True"),
        (
            [L.Bidirectional(L.LSTM(3), merge_mode=None, name="a")],
            r"layer 1 'a' \(Bidirectional\) merge_mode: expected",
        ),
        ([L.GRU(3, dtype="float64", name="a")], r"layer 1 'a' \(GRU\) dtype: expected float32, got float64"),
        ([L.LSTM(3, name="a"), L.TimeDistributed(L.Dense(2), name="b")], r"layer 2 'b' \(TimeDistributed\)"),
        (
            [L.Dropout(0.5), L.SpatialDropout1D(0.5)],
            "expected a layer that computes something, got Dropout or InputLayer alone",
        ),
    ],
)
def test_unsupported(tmp_path: Path, layers: list[L.Layer], message: str) -> None:
    if isinstance(layers[-1], L.TimeDistributed):
        layers[0] = L.LSTM(3, return_sequences=True, name="a")
    Sequential([L.Input((None, 2)), *layers]).save(path := tmp_path / "m.safetensors")
    assert re.match(rf"unsupported model: \[load_model\] {re.escape(str(path))}: {message}", refused(path))


@pytest.mark.parametrize("layer", [L.Bidirectional(L.LSTM(3), name="a"), L.LSTM(3, go_backwards=True, name="a"),
                                   L.GlobalMaxPooling1D(name="a"), L.Conv1D(2, 3, name="a")])  # fmt: skip
def test_no_stream(tmp_path: Path, layer: L.Layer) -> None:
    Sequential([L.Input((None, 2)), layer]).save(path := tmp_path / "m.safetensors")
    assert refused(path) == (
        f"unsupported model: [stream] layer 1 'a' ({type(layer).__name__}): "
        "expected a layer that can be run step by step, got one that cannot"
    )


def parts(file: bytes) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """The header of a file without its metadata, fastrnn's metadata, the tensors."""
    (length,) = struct.unpack("<Q", file[:8])
    header = json.loads(file[8 : 8 + length])
    return header, json.loads(header.pop("__metadata__")["fastrnn"]), file[8 + length :]


def joined(header: dict[str, Any], meta: Any, data: bytes) -> bytes:
    text = json.dumps({**header, "__metadata__": {"fastrnn": meta if isinstance(meta, str) else json.dumps(meta)}})
    return struct.pack("<Q", len(text)) + text.encode() + data


def change(kind: str, value: Any = None) -> Callable[[bytes], bytes]:
    """A file with one thing wrong."""

    def apply(file: bytes) -> bytes:
        header, meta, data = parts(file)
        if kind == "entry":
            header["lstm/kernel"] |= value
        elif kind == "metadata":
            meta = value if isinstance(value, str) else {**meta, **value}
        elif kind == "config":
            meta["config"]["model"]["layers"][1]["config"] |= value
        elif kind == "drop":
            del meta["config"]["model"]["layers"][1]["config"][value]
        elif kind == "extra tensor":
            header["more"] = {"dtype": "F32", "shape": [1], "data_offsets": [len(data), len(data) + 4]}
            data += bytes(4)
        elif kind == "encoder":
            meta["extra"]["encoder"] = value
        return joined(header, meta, data)

    return apply


BIG = 2**62
HOSTILE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda file: b"", "0 bytes"),
    "cut length": (lambda file: file[:7], "7 bytes"),
    "header beyond the file": (lambda file: struct.pack("<Q", BIG) + file[8:], "length of the header"),
    "cut tensors": (lambda file: file[:-1], "offsets outside the file"),
    "more bytes": (lambda file: file + b"\0", "bytes behind the tensors"),
    "not JSON": (lambda file: file[:8] + b"!" + file[9:], "JSON with a value"),
    "deep": (lambda file: struct.pack("<Q", 100_000) + b"[" * 100_000, "nested less deeply"),
    "many": (lambda file: struct.pack("<Q", 4_000_001) + b"[" + b"0," * 2_000_000, "fewer values"),
    "twice": (lambda file: struct.pack("<Q", 13) + b'{"a":1,"a":2}', "every key once"),
    "an array": (lambda file: struct.pack("<Q", 2) + b"[]", "a JSON object"),
    "no metadata": (lambda file: struct.pack("<Q", 2) + b"{}", "a safetensors file of another program"),
    "odd metadata": (change("metadata", "["), "metadata that is not JSON"),
    "version": (change("metadata", {"version": 2}), "another version"),
    "weights alone": (change("metadata", {"format": "weights"}), "a file without a model"),
    "overflowing shape": (change("entry", {"shape": [2**32, 2**32]}), "shape"),
    "negative extent": (change("entry", {"shape": [-1, 28]}), "shape"),
    "fraction": (change("entry", {"shape": [6.5, 28]}), "shape"),
    "offsets": (change("entry", {"data_offsets": [BIG, BIG + 672]}), "offsets outside the file"),
    "reversed offsets": (change("entry", {"data_offsets": [8, 4]}), "offsets outside the file"),
    "overlap": (change("entry", {"data_offsets": [0, 672]}), "overlap or leave gaps"),
    "other size": (change("entry", {"shape": [6, 27]}), "do not fit its shape"),
    "dtype": (change("entry", {"dtype": "F31"}), "dtype F31"),
    "another dtype": (change("entry", {"dtype": "I32"}), "kernel: expected dtype F32, got I32"),
    "other shape": (change("entry", {"shape": [28, 6]}), "kernel: expected shape (6, 28), got (28, 6)"),
    "extra tensor": (change("extra tensor"), "an unknown tensor 'more'"),
    "units": (change("config", {"units": 2**31 - 1}), "kernel: expected shape (6, 8589934588), got (6, 28)"),
    "too many units": (change("config", {"units": 1e300}), "units: expected an integer"),
    "no units": (change("drop", "units"), "units: expected a value, got none"),
    "activation": (change("config", {"activation": "../x"}), "activation: expected a known activation, got '../x'"),
    "alpha": (change("config", {"activation": {"name": "elu", "alpha": float("inf")}}), "a finite alpha"),
    "name": (change("config", {"name": "embedding"}), "name: expected one of its own"),
    "another name": (change("config", {"name": "x\n\x1b[31m"}), "'x??[31m' (LSTM) kernel: expected a tensor, got none"),
    "vocabulary": (change("encoder", '{"words": ["a", "a"], "num_words": 20, "maxlen": 3}'), "every word once"),
    "long text": (change("encoder", '{"words": [], "num_words": 20, "maxlen": 1e9}'), "maxlen from 1 to 2^20"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(tmp_path: Path, name: str) -> None:
    model = Sequential([L.Embedding(40, 6, name="embedding", input_shape=(9,)), L.LSTM(7, name="lstm"), L.Dense(1)])
    model.extra["encoder"] = TextEncoder(WORDS, 40, 9).to_json()
    model.save(path := tmp_path / "m.safetensors")
    damage, message = HOSTILE[name]
    file = path.read_bytes()
    header, meta, data = parts(file)
    path.write_bytes(joined(header, meta, data))  # the way to put files together is not what is refused
    assert "takes ids" in refused(path)
    path.write_bytes(damage(file))
    said = refused(path)
    assert said.startswith(("damaged file: [load_model] ", "unsupported model: [load_model] ")) and message in said


def test_unreadable(tmp_path: Path) -> None:
    assert "a file that cannot be opened" in refused(tmp_path / "none.safetensors")
    assert refused(tmp_path).startswith(("unreadable file: ", "damaged file: "))


def test_fuzz(tmp_path: Path) -> None:
    """Thousands of damaged files: each gets a status, in bounded memory."""
    files = []
    models = [
        text_model(kind, cell) for kind, cell in (("hybrid", "gru"), ("bidirectional", "lstm"), ("attention", "rnn"))
    ]
    models += [
        embedded_model("mirrored")[0],
        *(feature_model(name)[0] for name in ("convolutions", "pooling", "streams")),
    ]
    for i, model in enumerate(models):
        model.save(tmp_path / f"{i}.safetensors")
        files.append(tmp_path / f"{i}.safetensors")
    output = native.run(native.programs() / "fuzz_model", "20000", "1", *files)
    counts = {name: int(count) for count, name in (line.split(maxsplit=1) for line in output.splitlines())}
    assert min(counts[name] for name in ("ok", "damaged file", "unsupported model")) > 100
