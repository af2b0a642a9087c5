"""load_keras: Keras's models with random weights give the same predictions here; hostile files give a clear error.

Keras picks its backend from KERAS_BACKEND; without it, torch is taken where it is installed.
"""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastrnn
import fastrnn.keras

if find_spec("torch"):
    os.environ.setdefault("KERAS_BACKEND", "torch")
# Keras is found but does not import where its backend is missing
keras = pytest.importorskip("keras", exc_type=ImportError)
h5py = pytest.importorskip("h5py")
L: Any = keras.layers

B, T, I, U, V = 4, 8, 3, 5, 11
CELLS = ["SimpleRNN", "LSTM", "GRU"]
Array = np.ndarray[Any, Any]


def ids() -> Array:
    x = np.random.default_rng(0).integers(1, V, (B, T))
    x[0, 3:] = x[1, :2] = x[2, 4] = 0  # padding behind, before, a gap
    return x


def draw() -> Array:
    return np.random.default_rng(1).normal(size=(B, T, I)).astype(np.float32)


def sequential(*stack: Any, tokens: bool = False, dtype: str = "float32") -> Any:
    """A Keras model with random weights."""
    model = keras.Sequential([keras.Input((T,) if tokens else (T, I), dtype="int32" if tokens else dtype), *stack])
    rng = np.random.default_rng(5)
    model.set_weights([rng.normal(0, 0.4, w.shape) for w in model.get_weights()])
    return model


def same(theirs: Any, mine: Any, x: Array, tol: float = 1e-6) -> None:
    assert mine.built
    wanted = np.asarray(keras.ops.convert_to_numpy(theirs(x)))
    got = mine.predict(x, verbose=0)
    assert got.shape == wanted.shape and np.ptp(wanted) > 1e-3
    np.testing.assert_allclose(got, wanted, atol=tol, rtol=0)
    for a, b in zip(theirs.get_weights(), mine.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def both_ways(theirs: Any, x: Array, folder: Path, tol: float = 1e-6) -> Any:
    """From the file and from the model itself."""
    path = folder / "model.keras"
    theirs.save(path)
    mine = fastrnn.load_keras(path)
    same(theirs, mine, x, tol)
    same(theirs, fastrnn.keras.load(theirs), x, tol)
    return mine


# ---- what is read -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("sequences", "backwards", "bias"), list(product((False, True), repeat=3)))
def test_cells(cell: str, sequences: bool, backwards: bool, bias: bool, tmp_path: Path) -> None:
    layer = getattr(L, cell)(U, return_sequences=sequences, go_backwards=backwards, use_bias=bias, name="a_name")
    mine = both_ways(sequential(layer), draw(), tmp_path)
    assert mine.layers[0].name == "a_name" and type(mine.layers[0]).__name__ == cell


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("mode", ["concat", "sum", "mul", "ave"])
@pytest.mark.parametrize("sequences", [False, True])
def test_bidirectional_over_masks(cell: str, mode: str, sequences: bool, tmp_path: Path) -> None:
    layer = L.Bidirectional(getattr(L, cell)(U, return_sequences=sequences), merge_mode=mode)
    both_ways(sequential(L.Embedding(V, I, mask_zero=True), layer, tokens=True), ids(), tmp_path)


def test_bidirectional_of_two_layers(tmp_path: Path) -> None:
    pair = L.LSTM(U, return_sequences=True), L.GRU(U + 2, return_sequences=True, go_backwards=True)
    both_ways(sequential(L.Bidirectional(pair[0], backward_layer=pair[1])), draw(), tmp_path)


@pytest.mark.parametrize("options", [
    {"reset_after": False}, {"reset_after": False, "use_bias": False}, {"activation": None, "unroll": True},
    {"activation": "relu", "recurrent_activation": "hard_sigmoid"}, {"activation": "elu"}, {"activation": "swish"},
    {"activation": "gelu", "recurrent_activation": "softsign"}, {"activation": "leaky_relu"}, {"implementation": 1},
    {"dropout": 0.2, "recurrent_dropout": 0.1, "seed": 3}, {"stateful": False, "zero_output_for_mask": True},
])  # fmt: skip
def test_gru_options(options: dict[str, Any], tmp_path: Path) -> None:
    both_ways(sequential(L.GRU(U, return_sequences=True, **options)), draw(), tmp_path)


@pytest.mark.parametrize("cell", CELLS)
def test_stacked_over_masks(cell: str, tmp_path: Path) -> None:
    model = sequential(
        L.Embedding(V, I, mask_zero=True), getattr(L, cell)(U, return_sequences=True), L.Dropout(0.5),
        getattr(L, cell)(U + 1, return_sequences=True, zero_output_for_mask=True), getattr(L, cell)(U),
        L.Dense(4, activation="softmax"), tokens=True,
    )  # fmt: skip
    both_ways(model, ids(), tmp_path)


def test_hybrid(tmp_path: Path) -> None:
    model = sequential(
        L.Embedding(V, I), L.SpatialDropout1D(0.2), L.Conv1D(6, 3, padding="same", activation="relu"),
        L.MaxPooling1D(2), L.Conv1D(5, 2, padding="causal", dilation_rate=2), L.AveragePooling1D(2, 1), L.LSTM(U),
        L.Dense(1, activation="sigmoid"), tokens=True,
    )  # fmt: skip
    both_ways(model, ids(), tmp_path)


def test_the_other_layers(tmp_path: Path) -> None:
    stack = [
        L.Masking(0.5), L.TimeDistributed(L.Dense(6, activation="tanh")), L.Activation("relu"), L.Permute((2, 1)),
        L.Reshape((T, -1)), L.LeakyReLU(0.1), L.ELU(0.7), L.ReLU(), L.TimeDistributed(L.Dense(4)), L.Flatten(),
        L.Dense(3, activation="gelu", use_bias=False), L.RepeatVector(2), L.TimeDistributed(L.Activation("tanh")),
    ]  # fmt: skip
    both_ways(sequential(*stack), draw(), tmp_path)
    for pooling in ("GlobalMaxPooling1D", "GlobalAveragePooling1D"):
        both_ways(sequential(L.GRU(U, return_sequences=True), getattr(L, pooling)(keepdims=True)), draw(), tmp_path)


@pytest.mark.parametrize("between", [[], [L.GRU(U, return_sequences=True)], [L.Dropout(0.1)]], ids=len)
def test_max_pooling_after_a_mask_is_refused(between: list[Any]) -> None:
    """Keras's layer leaves the mask out, so that padding may win."""
    model = sequential(L.Embedding(V, I, mask_zero=True), *between, L.GlobalMaxPooling1D(), tokens=True)
    with pytest.raises(ValueError, match=r"layer \d \(GlobalMaxPooling1D .*: expected no mask"):
        fastrnn.load_keras(model)
    last = sequential(L.Masking(0.5), L.GRU(U), L.RepeatVector(3), L.GlobalMaxPooling1D())
    same(last, fastrnn.load_keras(last), draw())


@pytest.mark.parametrize("cell", CELLS)
def test_unrolled_layers_after_a_mask(cell: str) -> None:
    """Keras unrolls, this library has no need to."""
    model = sequential(
        L.Embedding(V, I, mask_zero=True), getattr(L, cell)(U, unroll=True, return_sequences=True), L.Dense(2),
        tokens=True,
    )  # fmt: skip
    same(model, fastrnn.load_keras(model), ids())


def test_the_mean_of_a_row_without_a_valid_step() -> None:
    model = sequential(L.Embedding(V, I, mask_zero=True), L.GlobalAveragePooling1D(), tokens=True)
    x = ids()
    x[0] = 0
    wanted = np.asarray(keras.ops.convert_to_numpy(model(x)))
    got = fastrnn.load_keras(model).predict(x, verbose=0)
    assert np.isnan(wanted[0]).all() and not got[0].any()
    np.testing.assert_allclose(got[1:], wanted[1:], atol=1e-6)


def test_layers_of_one_class_keep_their_order(tmp_path: Path) -> None:
    model = sequential(*(L.Dense(I, activation="tanh", name=name) for name in "zyxa"))
    assert [layer.name for layer in both_ways(model, draw(), tmp_path).layers] == list("zyxa")


def test_float64_and_a_model_built_by_its_first_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dtypes = pytest.importorskip("keras.src.backend.common.dtypes")
    monkeypatch.setitem(dtypes.BIT64_TO_BIT32_DTYPE, "float64", "float64")  # or Keras rounds between operations
    model = keras.Sequential([L.LSTM(U, return_sequences=True, dtype="float64"), L.Dense(2, dtype="float64")])
    x = np.random.default_rng(0).normal(size=(B, T, I))
    model(x)
    mine = both_ways(model, x, tmp_path, tol=1e-13)
    assert mine.layers[0].dtype == "float64"


def test_regularizers_and_trainable_are_kept_and_training_goes_on(tmp_path: Path) -> None:
    model = sequential(L.LSTM(U, kernel_regularizer="l2", recurrent_constraint="max_norm", trainable=False), L.Dense(1))
    model.compile("adam", "mse")
    mine = both_ways(model, draw(), tmp_path)
    lstm = mine.layers[0]
    assert not lstm.trainable and lstm.kernel.regularizer is not None and lstm.recurrent_kernel.constraint is not None
    before = mine.get_weights()
    mine.compile("adam", "mse")
    mine.fit(draw(), np.zeros((B, 1), np.float32), verbose=0)
    after = mine.get_weights()
    assert np.array_equal(before[0], after[0]) and not np.array_equal(before[3], after[3])


def test_a_stateful_model(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input(batch_shape=(B, T, I)), L.LSTM(U, stateful=True, return_sequences=True)])
    path = tmp_path / "model.keras"
    model.save(path)
    mine = fastrnn.load_keras(path)
    for _ in range(2):  # the second call goes on from the states of the first
        wanted = np.asarray(keras.ops.convert_to_numpy(model(draw())))
        np.testing.assert_allclose(mine.predict(draw(), batch_size=B, verbose=0), wanted, atol=1e-6)


@pytest.mark.parametrize("mask_zero", [False, True])
def test_functional_chain(mask_zero: bool, tmp_path: Path) -> None:
    given = keras.Input((T,), dtype="int32")
    x = L.Embedding(V, I, mask_zero=mask_zero)(given)
    x = L.Bidirectional(L.LSTM(U, return_sequences=True))(x)
    x = L.GRU(U)(x)
    model = keras.Model(given, L.Dense(2)(x))
    model.set_weights([np.random.default_rng(5).normal(0, 0.4, w.shape) for w in model.get_weights()])
    both_ways(model, ids(), tmp_path)


def test_reading_needs_no_keras(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    sequential(L.LSTM(U)).save(path)
    code = (
        f"import sys, fastrnn; fastrnn.load_keras({str(path)!r}); "
        "assert not {'keras', 'tensorflow', 'torch'} & set(sys.modules)"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )


# ---- what is refused ----------------------------------------------------------------------------------------------


def refused(model: Any, words: str, folder: Path) -> None:
    """As a file and, where Keras can describe it, alive."""
    path = folder / "model.keras"
    model.save(path)
    for given in (path, model):
        with pytest.raises(ValueError, match=words) as caught:
            fastrnn.load_keras(given)
        assert "\n" not in str(caught.value) and str(caught.value).startswith("[load_keras] ")


@pytest.mark.parametrize(("layer", "words"), [
    (lambda: L.Lambda(lambda x: x, name="mine"), r"layer 1 \(Lambda 'mine'\): expected one of Keras's .* got La"),
    (lambda: L.LayerNormalization(name="norm"), r"layer 1 \(LayerNormalization 'norm'\): expected one of"),
    (lambda: L.Dense(2, activation="mish", name="d"), r"layer 1 \(Dense 'd'\): activation: expected one.*, got mish"),
    (lambda: L.Dense(2, activation=L.LeakyReLU(), name="d"), r"layer 1 \(Dense 'd'\): activation: .* of its own"),
    (lambda: L.Dense(2, dtype="mixed_bfloat16", name="d"), r"layer 1 \(Dense 'd'\): .*dtype: expected 'float32' or"),
    (lambda: L.Dense(2, kernel_regularizer=keras.regularizers.OrthogonalRegularizer(), name="d"),
     r"layer 1 \(Dense 'd'\): .*expected one of .*Orthogonal"),
    (lambda: L.ReLU(max_value=6, name="r"), r"layer 1 \(ReLU 'r'\): max_value: expected None, got 6"),
    (lambda: L.Conv1D(5, 2, groups=5, name="c"), r"layer 1 \(Conv1D 'c'\): .*groups: expected 1"),
    (lambda: L.TimeDistributed(L.BatchNormalization(), name="t"), r"layer 1 \(TimeDistributed 't'\): layer: expected"),
    (lambda: L.RNN(L.LSTMCell(2), name="r"), r"layer 1 \(RNN 'r'\): expected one of"),
])  # fmt: skip
def test_unsupported_layers_are_named(layer: Callable[[], Any], words: str, tmp_path: Path) -> None:
    refused(sequential(L.LSTM(U, return_sequences=True, name="first"), layer()), words, tmp_path)


def test_a_mask_behind_a_backward_layer(tmp_path: Path) -> None:
    stack = L.Embedding(V, I, mask_zero=True), L.GRU(U, go_backwards=True, return_sequences=True, name="g"), L.LSTM(U)
    refused(sequential(*stack, tokens=True), r"layer 1 \(GRU 'g'\): go_backwards: expected False", tmp_path)


def test_classes_of_the_users_are_refused(tmp_path: Path) -> None:
    @keras.saving.register_keras_serializable()
    class LSTM(L.LSTM):  # type: ignore[misc, name-defined]
        pass

    refused(sequential(LSTM(U, name="l")), r"layer 0 \(LSTM 'l'\): expected one of Keras's layers", tmp_path)

    class Model(keras.Sequential):  # type: ignore[misc, name-defined]
        pass

    model = Model([keras.Input((T, I)), L.LSTM(U)])
    with pytest.raises(TypeError, match=r"expected a path or a keras.Sequential, got Model"):
        fastrnn.load_keras(model)
    model.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="a class of its own cannot be read without its code"):
        fastrnn.load_keras(tmp_path / "model.keras")


def test_other_graphs_are_refused(tmp_path: Path) -> None:
    x = keras.Input((T, I))
    y = L.LSTM(I, return_sequences=True)(x)
    refused(keras.Model(x, L.Add(name="sum")([x, y])), r"layer 1 \(Add 'sum'\): .*must form a chain", tmp_path)
    refused(keras.Model(x, [y, L.Dense(1)(y)]), "output_layers: expected one", tmp_path)
    other = keras.Input((T, I))
    refused(keras.Model([x, other], L.Concatenate()([x, other])), "input_layers: expected one", tmp_path)
    shared = L.Dense(I, name="twice")
    refused(keras.Model(x, shared(shared(x))), r"layer 0 \(Dense 'twice'\): expected a layer used once", tmp_path)
    state = L.LSTM(U, name="s")(x, initial_state=[L.Dense(U)(L.Flatten()(x))] * 2)
    refused(keras.Model(x, state), "must form a chain", tmp_path)
    inner = keras.Sequential([keras.Input((T, I)), L.Dense(2)], name="inner")
    refused(keras.Sequential([keras.Input((T, I)), inner]), r"layer 0 \(Sequential 'inner'\): expected one", tmp_path)


def test_arguments(tmp_path: Path) -> None:
    for wrong in (None, 3, np.zeros(3), keras.layers.LSTM(3)):
        with pytest.raises(TypeError, match=r"\[load_keras\] path_or_model: expected a path or a keras.Sequential"):
            fastrnn.load_keras(wrong)
    with pytest.raises(FileNotFoundError, match=r"\[load_keras\] .*nothing.keras: expected a .keras file"):
        fastrnn.load_keras(tmp_path / "nothing.keras")
    with pytest.raises(ValueError, match="got a folder"):
        fastrnn.load_keras(tmp_path)
    with pytest.raises(ValueError, match="got an HDF5 file"):
        (tmp_path / "model.h5").write_bytes(b"")
        fastrnn.load_keras(tmp_path / "model.h5")
    with pytest.raises(ValueError, match="expected a built model"):
        fastrnn.load_keras(keras.Sequential([L.LSTM(3)]))


# ---- hostile files ------------------------------------------------------------------------------------------------


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
