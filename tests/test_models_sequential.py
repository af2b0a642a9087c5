"""Sequential: building, running, describing, and the gradients of whole models against finite differences."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import layers as L
from fastrnn.layers.variable import set_floatx
from fastrnn.models import Sequential, clone_model, model_from_json
from fastrnn.optimizers import SGD
from fastrnn.regularizers import L1L2, L2
from model_tools import data, linear, shake, step_gradients

RNG = np.random.default_rng(0)


@pytest.fixture
def float64() -> Any:
    set_floatx("float64")
    yield
    set_floatx("float32")


# ---- gradients ----------------------------------------------------------------------------------------------------

T, I = 7, 3
REAL = RNG.normal(size=(5, T, I))
IDS = np.array([[0, 0, 3, 1, 4, 2, 6], [1, 2, 3, 4, 5, 6, 1], [0, 5, 5, 0, 2, 3, 1], [2, 2, 0, 0, 0, 0, 0], [0] * 7])


def stacks() -> dict[str, tuple[Any, Any, str, Any]]:
    """name -> layers, x, loss, y"""
    binary, one, three = np.array([0, 1, 1, 0, 1]), RNG.normal(size=5), np.array([2, 0, 1, 1, 2])
    per_step = RNG.integers(0, 3, (5, T))
    return {
        "lstm": ([L.Input((T, I)), L.LSTM(4), L.Dense(1, activation="sigmoid")], REAL, "bce", binary),
        "rnn relu": ([L.Input((T, I)), L.SimpleRNN(4, activation="relu"), L.Dense(1)], REAL, "mse", one),
        "gru before": ([L.Input((T, I)), L.GRU(4, reset_after=False), L.Dense(2, activation="softmax")],
                       REAL, "categorical_crossentropy", np.eye(2)[binary]),
        "stacked masked": ([L.Embedding(7, 3, mask_zero=True), L.LSTM(4, return_sequences=True), L.GRU(3), L.Dense(1)],
                           IDS, "huber", one),
        "hybrid": ([L.Embedding(7, 4), L.Conv1D(5, 3, activation="relu"), L.MaxPooling1D(2), L.LSTM(3),
                    L.Dense(1, activation="sigmoid")], IDS, "bce", binary),
        "bidirectional": ([L.Embedding(7, 3, mask_zero=True), L.Bidirectional(L.LSTM(3)),
                           L.Dense(3, activation="softmax")], IDS, "sparse_categorical_crossentropy", three),
        "attention": ([L.Input((T, I)), L.Bidirectional(L.GRU(3, return_sequences=True), merge_mode="mul"),
                       L.Attention(), L.Dense(1)], REAL, "mse", one),
        "many to many": ([L.Embedding(7, 3, mask_zero=True), L.LSTM(4, return_sequences=True),
                          L.TimeDistributed(L.Dense(3, activation="softmax"))],
                         IDS, "sparse_categorical_crossentropy", per_step),
        "penalties": ([L.Input((T, I)),
                       L.LSTM(3, kernel_regularizer=L2(0.1), recurrent_regularizer=L1L2(0.02, 0.03),
                              return_sequences=True),
                       L.GlobalAveragePooling1D(), L.Dense(4, activation="tanh", activity_regularizer=L2(0.05)),
                       L.Dense(1, bias_regularizer=L2(0.3))], REAL, "mse", one),
        "flat": ([L.Input((T, I)), L.Masking(), L.SimpleRNN(2, return_sequences=True, go_backwards=True), L.Flatten(),
                  L.Dense(2), L.Activation("gelu"), L.Reshape((2, 1)), L.GlobalMaxPooling1D()], REAL, "log_cosh", one),
    }  # fmt: skip


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", list(stacks()))
@pytest.mark.parametrize("weighted", [False, True])
def test_gradients_of_whole_models(name: str, weighted: bool) -> None:
    layers, x, loss, y = stacks()[name]
    model = Sequential(layers)
    model.build((None, *x.shape[1:]))
    shake(model)
    model.compile(SGD(1.0), loss)
    weight = RNG.uniform(0.5, 2, 5) if weighted else None
    got = step_gradients(model, x, y, sample_weight=weight)
    assert all(np.abs(g).max() > 1e-6 for g in got)
    rng = np.random.default_rng(1)
    step = 1e-6
    for v, grad in zip(model.trainable_weights, got, strict=True):
        for _ in range(6):
            index = tuple(int(rng.integers(0, n)) for n in v.shape)
            original = v.value[index]
            ends = []
            for sign in (1, -1):
                v.value[index] = original + sign * step
                ends.append(model.test_on_batch(x, y, sample_weight=weight))
            v.value[index] = original
            assert grad[index] == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=2e-5, abs=2e-8), v.name


# ---- building -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["input", "input_shape", "input_dim", "data", "build", "call"])
def test_every_way_to_get_weights(how: str) -> None:
    x = data()[0]
    dense = L.Dense(
        2, **{"input_shape": (3,)} if how == "input_shape" else {"input_dim": 3} if how == "input_dim" else {}
    )
    model = Sequential([fastrnn.Input(shape=(3,)), dense] if how == "input" else [dense])
    assert model.built == (how in ("input", "input_shape", "input_dim"))
    if how == "data":
        model.compile("adam", "mse")
        model.fit(x, np.zeros((20, 2)), verbose=0)
    elif how == "build":
        model.build((None, 3))
    elif how == "call":
        assert model(x).shape == (20, 2)
    assert model.built and model.count_params() == 8
    assert model.input_shape == (None, 3) and model.output_shape == (None, 2)


def test_layer_by_layer() -> None:
    model = Sequential(name="mine")
    model.add(L.Embedding(9, 4, input_length=6))
    model.add(L.LSTM(5, return_sequences=True, name="first"))
    model.add(L.GRU(2))
    model.add(L.Dense(1))
    assert model.output_shape == (None, 1) and model.input_shape == (None, 6)
    assert model.pop() and model.output_shape == (None, 2)
    assert model.get_layer("first") is model.layers[1] is model.get_layer(index=-2)
    assert [v.shape for v in model.weights] == [(9, 4), (4, 20), (5, 20), (20,), (5, 6), (2, 6), (2, 6)]
    assert model.name == "mine" and len(model.trainable_variables) == 7 and model.non_trainable_weights == []


def test_sequences_of_other_lengths_are_welcome() -> None:
    model = Sequential([L.Embedding(9, 4), L.LSTM(5), L.Dense(1)])
    assert model(np.ones((2, 7), int)).shape == model(np.ones((2, 3), int)).shape == (2, 1)


def test_call_runs_for_inference_unless_told_otherwise() -> None:
    model = Sequential([L.Input((200,)), L.Dropout(0.5)])
    x = np.ones((1, 200), np.float32)
    np.testing.assert_array_equal(model(x), x)
    assert (model(x, training=True) == 0).any()
    np.testing.assert_array_equal(model.predict(x, verbose=0), x)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sequential([3]), r"\[Sequential\] layer: expected a layer, got 3"),  # type: ignore[list-item]
        (lambda: Sequential([Sequential()]), r"add its layers one by one"),  # type: ignore[list-item]
        (lambda: Sequential([L.Dense(1), L.Input((2,))]), r"expected Input as the first entry only"),
        (lambda: Sequential([L.Dense(1, name="a"), L.Dense(1, name="a")]), r"a name other than \['a'\], got 'a'"),
        (lambda: Sequential([L.Input((4,)), L.LSTM(2)]), r"\[LSTM\] inputs: expected shape \(batch, time, features\)"),
        (lambda: Sequential([L.Input((4, 1)), L.LSTM(2, return_state=True), L.Dense(1)]), r"expected one input, got 3"),
        (lambda: Sequential().build((None, 3)), r"\[Sequential\] build: expected at least one layer"),
        (lambda: Sequential([L.Dense(1)]).build(), r"\[Sequential\] input_shape: expected a shape"),
        (lambda: Sequential([L.Dense(1)]).count_params(), r"\[Sequential\] count_params: expected a built model"),
        (lambda: Sequential().pop(), r"\[Sequential\] pop: expected at least one layer"),
        (lambda: linear().get_layer("x"), r"\[get_layer\] name: expected one of"),
        (lambda: linear().get_layer(index=4), r"\[get_layer\] index: expected less than 1, got 4"),
        (lambda: linear().set_weights([np.zeros(3)]), r"\[set_weights\] weights: expected 2 arrays, got 1"),
        (lambda: linear().set_weights([np.zeros((3, 2)), np.zeros(1)]), r"kernel: expected shape \(3, 1\), got"),
        (lambda: linear().compile("adam", ["mse", "mae"]), r"\[compile\] loss: expected one for the model's"),
        (lambda: linear().compile("adam", "mse", [0.3, 0.7]), r"\[compile\] loss_weights"),
        (lambda: linear().compile("adam", "mse", eager=True), r"\[compile\] eager: expected a known argument"),
        (lambda: linear().compile("adam", fastrnn.losses.MeanSquaredError(reduction=None)), r"expected a reduction"),
    ],
)  # fmt: skip
def test_bad_models(make: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def test_a_shape_that_does_not_fit_leaves_the_model_unbuilt() -> None:
    model = Sequential([L.Dense(3), L.Dense(4), L.LSTM(2)])
    model.compile("adam", "mse")
    with pytest.raises(ValueError, match=r"\[LSTM\] inputs"):
        model.fit(np.zeros((4, 5)), np.zeros((4, 2)), verbose=0)
    assert not any(layer.built for layer in model.layers)
    model.fit(np.zeros((4, 6, 2)), np.zeros((4, 2)), verbose=0)


# ---- compile ------------------------------------------------------------------------------------------------------


def test_compile_spellings() -> None:
    x, y = data()
    for options in (
        {"optimizer": "adam", "loss": "mse", "metrics": "mae"},
        {"optimizer": fastrnn.optimizers.Adam, "loss": fastrnn.losses.MeanSquaredError, "metrics": ["mae"]},
        {"optimizer": fastrnn.optimizers.Adam(), "loss": {"out": "mse"}, "metrics": {"out": ["mae"]}},
        {"optimizer": "Adam", "loss": ["mse"], "metrics": [["mae"]], "run_eagerly": True, "jit_compile": False,
         "steps_per_execution": 4},
        {"optimizer": {"class_name": "adam", "config": {}}, "loss": fastrnn.losses.mse,
         "metrics": [fastrnn.metrics.mae]},
    ):  # fmt: skip
        model = linear(**options)
        history = model.fit(x, y, verbose=0).history
        name = "mae" if options["metrics"] != [fastrnn.metrics.mae] else "mean_absolute_error"
        assert list(history) == ["loss", name]
        assert type(model.optimizer) is fastrnn.optimizers.Adam
    model = Sequential([L.Input((3,)), L.Dense(1)])
    model.compile(loss="mse")
    assert type(model.optimizer) is fastrnn.optimizers.RMSprop


def test_two_metrics_of_one_name() -> None:
    model = linear(metrics=["mae", "mae"], weighted_metrics=["mae"])
    assert model.metrics_names == ["loss", "mae", "mae_1", "mae_2"] == list(model.fit(*data(), verbose=0).history)


# ---- description --------------------------------------------------------------------------------------------------


def test_summary(capsys: pytest.CaptureFixture[str]) -> None:
    model = Sequential(
        [L.Embedding(10, 4, name="words"), L.LSTM(3, name="memory"), L.Dense(1, name="answer")], name="m"
    )
    model.summary()
    assert "0 (unbuilt)" in capsys.readouterr().out
    model.build((None, 12))
    model.layers[0].trainable = False
    lines: list[str] = []
    model.summary(print_fn=lines.append, show_trainable=True)
    text = "\n".join(lines)
    for part in ('Model: "m"', "words (Embedding)", "(None, 12, 4)", "memory (LSTM)", "(None, 3)", "96",
                 "Total params: 140", "Trainable params: 100", "Non-trainable params: 40"):  # fmt: skip
        assert part in text
    assert capsys.readouterr().out == ""


def test_configuration_makes_an_equal_model() -> None:
    for name, (layers, x, _, _) in stacks().items():
        model = Sequential(layers)
        model.build((None, *x.shape[1:]))
        config = json.loads(json.dumps(model.get_config()))
        again = Sequential.from_config(config)
        assert again.get_config() == config, name
        again.set_weights(model.get_weights())
        np.testing.assert_array_equal(again(x), model(x), err_msg=name)
    assert model_from_json(model.to_json()).get_config() == model.get_config()
    clone = clone_model(model)
    assert clone.get_config() == model.get_config() and clone.layers[0] is not model.layers[0]


def test_weights_are_copied_out_and_checked_in() -> None:
    model = linear()
    weights = model.get_weights()
    weights[0][:] = 99.0
    assert not (model.get_weights()[0] == 99.0).any()
    before = model.get_weights()
    with pytest.raises(ValueError, match="expected shape"):
        model.set_weights([weights[0], np.zeros(7)])
    np.testing.assert_array_equal(model.get_weights()[0], before[0])


def test_a_pickled_model_trains_on_as_the_model_itself() -> None:
    """With the optimizer's moments, which belong to the variables of the copy then."""
    x, y = np.random.default_rng(0).normal(size=(12, 4)), np.arange(12.0)
    model = Sequential([L.Dense(3, activation="tanh"), L.Dense(1)])
    model.compile("adam", "mse")
    model.fit(x, y, epochs=3, verbose=0)
    for copied in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert all(copied.optimizer.has_slots(v) for v in copied.weights)
        assert not any(copied.optimizer.has_slots(v) for v in model.weights)
        trained = copy.deepcopy(model)
        for one in (copied, trained):
            one.fit(x, y, epochs=3, verbose=0, shuffle=False)
        np.testing.assert_array_equal(copied.predict(x), trained.predict(x))
        fresh = clone_model(model)
        fresh.set_weights(model.get_weights())
        fresh.compile("adam", "mse")
        fresh.fit(x, y, epochs=3, verbose=0, shuffle=False)
        assert (fresh.predict(x) != trained.predict(x)).any()


# ---- the face of the package --------------------------------------------------------------------------------------


def test_importing_fastrnn_imports_numpy_at_most() -> None:
    import subprocess
    import sys

    code = (
        "import sys; before = set(sys.modules); import fastrnn;"
        "new = {m.split('.')[0] for m in set(sys.modules) - before};"
        "print(*sorted(new - set(sys.stdlib_module_names)))"
    )

    def imported() -> set[str]:
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
        return {name for name in out if "cython" not in name}  # which NumPy's own extensions register

    assert imported() <= {"fastrnn", "numpy"}
    code += "\nfastrnn.layers; fastrnn.models; fastrnn.losses; fastrnn.metrics; fastrnn.optimizers; fastrnn.callbacks"
    code += "\nprint(*sorted({m.split('.')[0] for m in set(sys.modules) - before} - set(sys.stdlib_module_names)))"
    assert imported() <= {"fastrnn", "numpy"}


def test_lazy_names() -> None:
    assert fastrnn.Sequential is Sequential and fastrnn.Input is L.Input and fastrnn.layers is L
    assert fastrnn.__version__.count(".") >= 1
    assert {"layers", "models", "Sequential", "__version__"} <= set(dir(fastrnn))
    with pytest.raises(AttributeError, match="module 'fastrnn' has no attribute 'nonsense'"):
        fastrnn.nonsense  # noqa: B018
