"""load_keras: hostile and damaged files give a clear error."""

from __future__ import annotations

import io
import json
import os
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastrnn
import fastrnn.keras
from keras_tools import I, L, T, U, V, keras, sequential

h5py = pytest.importorskip("h5py")


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What is in a sound file: Bidirectional(LSTM), Dense."""
    path = tmp_path_factory.mktemp("keras") / "model.keras"
    sequential(L.Bidirectional(L.LSTM(U), name="b"), L.Dense(2, name="d")).save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A functional model with a mask: its input, Embedding, NotEqual, GRU."""
    given = keras.Input((T,), dtype="int32")
    model = keras.Model(given, L.GRU(U, name="g")(L.Embedding(V, I, mask_zero=True)(given)))
    path = tmp_path_factory.mktemp("keras") / "model.keras"
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path: Path, parts: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return path


def fails(path: Path, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        fastrnn.load_keras(path)
    assert str(caught.value).startswith(f"[load_keras] {path}: ") and len(str(caught.value)) < 1000


def test_a_sound_file_may_be_compressed(parts: dict[str, bytes], tmp_path: Path) -> None:
    assert fastrnn.load_keras(write(tmp_path / "m.keras", parts, zipfile.ZIP_DEFLATED)).built


def edited(parts: dict[str, bytes], edit: Callable[[Any], Any]) -> dict[str, bytes]:
    config = json.loads(parts["config.json"])
    edit(config["config"]["layers"])
    return {**parts, "config.json": json.dumps(config).encode()}


def put(*path: Any, value: Any) -> Callable[[Any], Any]:
    def edit(config: Any) -> None:
        for key in path[:-1]:
            config = config[key]
        config[path[-1]] = value

    return edit


@pytest.mark.parametrize(("edit", "words"), [
    (put(2, "config", "units", value=10**9), r"layer 1 \(Dense 'd'\): weight 'kernel' .* more than the whole file"),
    (put(2, "config", "units", value=2**70), r"layer 1 \(Dense 'd'\): weight 'kernel' .* more than the whole file"),
    (put(2, "config", "units", value="many"), r"layer 1 \(Dense 'd'\): .*units: expected a positive integer"),
    (put(2, "config", "units", value=3), r"layer 1 \(Dense 'd'\): weight 0: expected shape \(10, 3\), got \(10, 2\)"),
    (put(2, "config", "use_bias", value=False), r"layer 1 \(Dense 'd'\): expected 1 weights, got 2"),
    (put(2, "config", "surprise", value=1), r"layer 1 \(Dense 'd'\): surprise: expected a known argument, got it with"),
    (put(2, "config", "weights", value=[[1]]), r"layer 1 \(Dense 'd'\): weights: expected a known argument"),
    (put(2, "config", "name", value="b"), r"layer 1 \(Dense 'b'\): .*expected a name other than"),
    (put(2, "config", "name", value="../b"), r"layer 1 \(Dense '../b'\): .*without '/'"),
    (put(2, "config", "activation", value={"class_name": "function", "config": "tanh"}), "of its own"),
    (put(2, "config", "activation", value=["tanh"]), r"layer 1 \(Dense 'd'\): activation: expected one of"),
    (put(2, "config", value=None), r"layer 1 \(Dense None\): expected a layer's configuration"),
    (put(2, value=7), r"layer 1 \(None None\): expected a layer's configuration"),
    (put(2, "module", value="os"), r"layer 1 \(Dense 'd'\): expected one of Keras's layers .* got a class of os"),
    (put(2, "class_name", value="system"), r"layer 1 \(system 'd'\): expected one of Keras's layers"),
    (put(2, "class_name", value="GlobalMaxPooling1D"), r"layer 1 \(GlobalMaxPooling1D 'd'\): units: expected a known"),
    (put(2, "class_name", value=["Dense"]), "expected one of Keras's layers"),
    (put(2, "config", "kernel_regularizer", value={"module": "os", "class_name": "system", "config": "x"}),
     r"layer 1 \(Dense 'd'\): kernel_regularizer: expected one of keras.regularizers"),
    (put(2, "config", "kernel_regularizer", value={"module": "keras.regularizers", "class_name": "L2", "config": 3}),
     r"layer 1 \(Dense 'd'\): "),
    (put(1, "config", "layer", "class_name", value="Lambda"), r"layer 0 \(Bidirectional 'b'\): layer: expected one of"),
    (put(1, "config", "layer", value=None), r"layer 0 \(Bidirectional 'b'\): "),
    (put(1, "config", "backward_layer", "config", "units", value=6), r"layer 0 .*: weight 0: expected shape \(3, 24\)"),
    (put(1, "config", "merge_mode", value={}), r"layer 0 \(Bidirectional 'b'\): .*merge_mode: expected one of"),
    (put(0, "config", "batch_shape", value=[None, 8, 10**12]), r"layer 0 .*more than the whole file"),
    (put(2, "config", "use_bias", value="x" * 5000), r"layer 1 \(Dense 'd'\): .*use_bias: expected True or False"),
    (put(0, "config", "batch_shape", value="wide"), r"the input: .*batch_input_shape: expected a tuple"),
])  # fmt: skip
def test_hostile_configurations(
    edit: Callable[[Any], Any], words: str, parts: dict[str, bytes], tmp_path: Path
) -> None:
    fails(write(tmp_path / "m.keras", edited(parts, edit)), words)


def test_many_layers_together_are_no_larger_than_the_file(parts: dict[str, bytes], tmp_path: Path) -> None:
    def edit(layers: list[Any]) -> None:
        dense = layers.pop()
        for index in range(900):
            layers.append({**dense, "config": {**dense["config"], "units": 120, "name": f"d{index}"}})

    fails(write(tmp_path / "m.keras", edited(parts, edit)), r"layer \d+ \(Dense 'd\d+'\): .*more than the whole file")


@pytest.mark.parametrize(("config", "words"), [
    (b"", "expected JSON in config.json"), (b"[" * 10**6, "expected JSON in config.json"), (b"[]", "expected the conf"),
    (b'{"config": {}}', "expected a Sequential model"), (b"\xff\xfe", "expected JSON in config.json"),
    (b'{"module": "keras", "class_name": "Sequential", "config": {}}', "expected a list of layers"),
    (b'{"module": "keras", "class_name": "Functional", "config": {"layers": [1]}}', "input_layers: expected one"),
    (b'{"module": "evil", "class_name": "Sequential", "config": {}}', "expected a Sequential model"),
    (b'{"module": "keras", "class_name": "Sequential", "config": {"layers": []}}', "expected a built model"),
])  # fmt: skip
def test_broken_configurations(config: bytes, words: str, parts: dict[str, bytes], tmp_path: Path) -> None:
    fails(write(tmp_path / "m.keras", {**parts, "config.json": config}), words)


def test_other_archives(parts: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    for name in parts:
        fails(write(path, {key: data for key, data in parts.items() if key != name}), f"an archive without {name}")
    old = {**parts, "metadata.json": b'{"keras_version": "2.15.0"}'}
    fails(write(path, old), "expected a file of Keras 3 .* got one of Keras '2.15.0'")
    shards = {"model.weights.json": b"{}", **{k: v for k, v in parts.items() if k != "model.weights.h5"}}
    fails(write(path, shards), "got weights in shards")
    fails(write(path, parts, zipfile.ZIP_LZMA), "expected metadata.json stored or deflated")
    for data in (b"", b"PK", b"\x89HDF\r\n\x1a\n", os.urandom(1000)):
        path.write_bytes(data)
        fails(path, "something else or a damaged file")


def test_too_many_layers_and_too_deep_ones(parts: dict[str, bytes], tmp_path: Path) -> None:
    def many(layers: list[Any]) -> None:
        flatten = {"module": "keras.layers", "class_name": "Flatten", "registered_name": None}
        layers += [{**flatten, "config": {"name": f"f{index}"}} for index in range(1001)]

    def deep(layers: list[Any]) -> None:
        for _ in range(450):
            layers[-1] = {
                "module": "keras.layers", "class_name": "Bidirectional", "registered_name": None,
                "config": {"name": "b", "layer": layers[-1]},
            }  # fmt: skip

    fails(write(tmp_path / "m.keras", edited(parts, many)), "expected at most 1000 layers, got 100")
    fails(write(tmp_path / "m.keras", edited(parts, deep)), "nested too deeply|layer: ")


@pytest.mark.parametrize(("kind", "argument"), [("LeakyReLU", "negative_slope"), ("ELU", "alpha")])
def test_an_activation_without_its_number(kind: str, argument: str, parts: dict[str, bytes], tmp_path: Path) -> None:
    def edit(layers: list[Any]) -> None:
        layer = {"module": "keras.layers", "class_name": kind, "registered_name": None, "config": {"name": "a"}}
        layers.append(layer)

    fails(write(tmp_path / "m.keras", edited(parts, edit)), rf"\({kind} 'a'\): {argument}: expected a number, got none")


@pytest.mark.parametrize(("edit", "words"), [
    (put(2, "config", "name", value=[]), r"layer 1 \(NotEqual \[\]\): name: expected a string, got \[\]"),
    (put(2, "config", "name", value={"a": 1}), r"layer 1 \(NotEqual .*name: expected a string"),
    (put(2, "inbound_nodes", 0, "args", 0, value=[]), "must form a chain"),
    (put(3, "inbound_nodes", 0, "kwargs", "mask", value=[]), r"layer 1 \(GRU 'g'\): mask: expected that of an Embed"),
    (put(3, "inbound_nodes", value={}), r"layer 1 \(GRU 'g'\): expected a layer used once"),
])  # fmt: skip
def test_hostile_graphs(edit: Callable[[Any], Any], words: str, graph: dict[str, bytes], tmp_path: Path) -> None:
    fails(write(tmp_path / "m.keras", edited(graph, edit)), words)


def test_whatever_a_configuration_raises_is_named(
    parts: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raises(config: Any) -> None:
        raise TypeError("unhashable" * 100)

    monkeypatch.setattr("fastrnn.keras.loading.model_of", raises)
    fails(write(tmp_path / "m.keras", parts), r"got a broken one \(TypeError: unhashable")


def test_decompression_bombs(parts: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    bomb = {**parts, "model.weights.h5": parts["model.weights.h5"] + bytes(2**26)}
    fails(write(path, bomb, zipfile.ZIP_DEFLATED), r"expected model.weights.h5 of at most \d+ bytes, got a claim of 67")
    for size in (2**25, 2**21):
        bomb = {**parts, "config.json": b" " * size}
        fails(write(path, bomb, zipfile.ZIP_DEFLATED), "expected config.json of at most")


def test_a_claim_of_another_size(parts: dict[str, bytes], tmp_path: Path) -> None:
    """The directory of the archive says more bytes than there are."""
    path = write(tmp_path / "m.keras", parts)
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\x01\x02", 0, data.rindex(b"model.weights.h5"))
    size = len(parts["model.weights.h5"])
    assert struct.unpack_from("<I", data, entry + 24) == (size,)
    struct.pack_into("<II", data, entry + 20, size * 2, size * 2)
    path.write_bytes(data)
    fails(path, "something else or a damaged file")


def rewritten(parts: dict[str, bytes], edit: Callable[[Any], Any]) -> dict[str, bytes]:
    buffer = io.BytesIO(parts["model.weights.h5"])
    with h5py.File(buffer, "r+") as file:
        edit(file["layers/dense"])
    return {**parts, "model.weights.h5": buffer.getvalue()}


def replaced(group: Any, name: str, **options: Any) -> None:
    value = group[f"vars/{name}"][()]
    del group[f"vars/{name}"]
    group["vars"].create_dataset(name, data=options.pop("data", value), **options)


def virtual(group: Any) -> None:
    del group["vars/1"]
    layout = h5py.VirtualLayout((2,), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (2,))
    group["vars"].create_virtual_dataset("1", layout)


def external(group: Any) -> None:
    del group["vars/1"]
    group["vars"].create_dataset("1", (2,), "f4", external=[("/etc/passwd", 0, 8)])


def linked(link: Any) -> Callable[[Any], None]:
    def edit(group: Any) -> None:
        del group["vars/1"]
        group["vars/1"] = link

    return edit


def emptied(group: Any) -> None:
    del group["vars/1"]
    group["vars"].create_dataset("1", (2,), "f4")  # never written


@pytest.mark.parametrize(("edit", "words"), [
    (virtual, "weight 1: expected an array stored in one piece"),
    (external, "weight 1: expected an array stored in one"),
    (linked(h5py.ExternalLink("/etc/passwd", "/x")), "expected .* itself, got a ExternalLink"),
    (linked(h5py.SoftLink("/layers/dense/vars/0")), "expected .* itself, got a SoftLink"),
    (lambda g: replaced(g, "0", compression="gzip"), "weight 0: expected an array stored in one piece"),
    (lambda g: replaced(g, "1", data=np.zeros(2, np.int32)), "weight 1: expected floats, got dtype int32"),
    (lambda g: replaced(g, "1", data=np.zeros(2, [("a", "f4")])), "weight 1: expected floats, got dtype"),
    (lambda g: replaced(g, "1", data=[b"ab", b"cd"]), "weight 1: expected floats, got dtype"),
    (lambda g: replaced(g, "1", data=np.zeros(3, np.float32)), r"weight 1: expected shape \(2,\), got \(3,\)"),
    (lambda g: replaced(g, "1", data=h5py.Empty("f4")), r"weight 1: expected shape \(2,\), got None"),
    (emptied, "weight 1: expected 2 numbers, got fewer"),
    (lambda g: g["vars"].move("1", "2"), "expected .*vars/1 in model.weights.h5, got none"),
    (lambda g: g["vars"].create_group("2"), "expected 2 weights, got 3"),
    (lambda g: g.move("vars", "other"), "expected .*dense/vars in model.weights.h5, got none"),
    (lambda g: g.parent.move("dense", "dance"), "expected /layers/dense in model.weights.h5, got none"),
])  # fmt: skip
def test_hostile_weights(edit: Callable[[Any], Any], words: str, parts: dict[str, bytes], tmp_path: Path) -> None:
    fails(write(tmp_path / "m.keras", rewritten(parts, edit)), rf"layer 1 \(Dense 'd'\): {words}")


def test_damaged_weights(parts: dict[str, bytes], tmp_path: Path) -> None:
    """Whatever is cut off or flipped: an error, or a model (a flipped bit may be in a number)."""
    data, path = parts["model.weights.h5"], tmp_path / "m.keras"
    for size in (0, 7, 100, len(data) // 2):
        fails(write(path, {**parts, "model.weights.h5": data[:size]}), "expected HDF5 in|more than the whole file")
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(data)
        for at in rng.integers(0, len(data), 8):
            damaged[at] = rng.integers(0, 256)
        write(path, {**parts, "model.weights.h5": bytes(damaged)})
        try:
            fastrnn.load_keras(path)
        except ValueError as error:
            assert str(error).startswith("[load_keras] ")


def test_without_h5py(parts: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "m.keras", parts)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"^\[load_keras\] needs h5py: pip install 'fastrnn\[keras\]'$"):
        fastrnn.load_keras(path)
