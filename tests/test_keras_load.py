"""load_keras: Keras's models with random weights give the same predictions here."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastrnn
import fastrnn.keras
from keras_tools import CELLS, Array, B, I, L, T, U, V, draw, ids, keras, sequential


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
