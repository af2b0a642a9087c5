"""Training against Keras itself: whole runs from equal weights, optimizers, losses, metrics. Skipped without Keras."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

import fastrnn

if find_spec("torch"):
    os.environ.setdefault("KERAS_BACKEND", "torch")
# Keras is found but does not import where its backend is missing
keras = pytest.importorskip("keras", exc_type=ImportError)

RNG = np.random.default_rng(0)
IDS = RNG.integers(1, 11, (22, 7))
for row, start in zip(IDS, RNG.integers(0, 6, 22), strict=True):
    row[:start] = 0
LABELS = (IDS.sum(1) % 2).astype("float32")
TAGS = (IDS % 3).astype("int64")
SERIES = RNG.normal(size=(22, 6, 2)).astype("float32")
TARGETS = SERIES.sum((1, 2)).astype("float32")


def as_array(value: Any) -> Any:
    return np.asarray(keras.ops.convert_to_numpy(value))


def pair(build: Any) -> tuple[Any, Any]:
    """The same model from both libraries with the same random weights; `build(library)` gives layers."""
    models = []
    for library in (keras, fastrnn):
        models.append(library.models.Sequential(build(library)))
    theirs, ours = models
    rng = np.random.default_rng(1)
    weights = [rng.normal(0, 0.5, w.shape).astype("float32") for w in theirs.get_weights()]
    assert [w.shape for w in weights] == [w.shape for w in ours.get_weights()]
    theirs.set_weights(weights)
    ours.set_weights(weights)
    return theirs, ours


def text(library: Any) -> list[Any]:
    L = library.layers
    return [library.Input((7,)), L.Embedding(11, 5, mask_zero=True), L.Bidirectional(L.LSTM(4)), L.Dense(3, "tanh"),
            L.Dense(1, activation="sigmoid")]  # fmt: skip


def tagger(library: Any) -> list[Any]:
    L = library.layers
    return [library.Input((7,)), L.Embedding(11, 5, mask_zero=True), L.GRU(4, return_sequences=True),
            L.Dense(3, activation="softmax")]  # fmt: skip


def regression(library: Any) -> list[Any]:
    L = library.layers
    return [library.Input((6, 2)), L.Conv1D(4, 3, activation="relu", kernel_regularizer="l2"), L.MaxPooling1D(2),
            L.LSTM(3, recurrent_regularizer="l1", activity_regularizer="l2"), L.Dense(1)]  # fmt: skip


RUNS: list[tuple[str, Any, dict[str, Any], dict[str, Any]]] = [
    ("text", text, {"optimizer": "adam", "loss": "binary_crossentropy", "metrics": ["accuracy", "AUC"]},
     {"x": IDS, "y": LABELS, "validation_split": 0.2}),
    ("classes", text, {"optimizer": "rmsprop", "loss": "bce", "metrics": ["acc"], "weighted_metrics": ["mae"]},
     {"x": IDS, "y": LABELS, "class_weight": {0: 0.3, 1: 2.0}}),
    ("samples", text, {"optimizer": "nadam", "loss": "binary_crossentropy", "weighted_metrics": ["accuracy"]},
     {"x": IDS, "y": LABELS, "sample_weight": RNG.uniform(0, 2, 22), "validation_split": 0.3}),
    ("tags", tagger, {"optimizer": "adam", "loss": "sparse_categorical_crossentropy"}, {"x": IDS, "y": TAGS}),
    ("tags onehot", tagger, {"optimizer": "adamax", "loss": "categorical_crossentropy"},
     {"x": IDS, "y": np.eye(3)[TAGS]}),
    ("regression", regression, {"optimizer": "sgd", "loss": "mse", "metrics": ["mae"]}, {"x": SERIES, "y": TARGETS}),
    ("huber", regression, {"optimizer": "adagrad", "loss": "huber", "metrics": ["RootMeanSquaredError"]},
     {"x": SERIES, "y": TARGETS[:, None], "validation_data": (SERIES[:5], TARGETS[:5])}),
]  # fmt: skip


@pytest.mark.parametrize(("build", "compiled", "given"), [r[1:] for r in RUNS], ids=[r[0] for r in RUNS])
def test_whole_runs(build: Any, compiled: dict[str, Any], given: dict[str, Any]) -> None:
    theirs, ours = pair(build)
    histories = []
    for model in (theirs, ours):
        model.compile(**compiled)
        histories.append(model.fit(**given, batch_size=5, epochs=4, shuffle=False, verbose=0).history)
    expected, got = histories
    assert set(got) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(got[name], values, rtol=2e-4, atol=1e-5, err_msg=name)
    for v, w in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(v, as_array(w), rtol=2e-3, atol=2e-4)
    x, y = given["x"], given["y"]
    np.testing.assert_allclose(ours.predict(x, verbose=0), theirs.predict(x, verbose=0), rtol=2e-3, atol=2e-4)
    np.testing.assert_allclose(
        ours.evaluate(x, y, batch_size=8, verbose=0),
        theirs.evaluate(x, y, batch_size=8, verbose=0),
        rtol=2e-3,
        atol=2e-4,
    )


OPTIMIZERS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"learning_rate": 0.1}),
    ("SGD", {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("RMSprop", {}),
    ("RMSprop", {"learning_rate": 0.01, "momentum": 0.3, "centered": True, "rho": 0.8}),
    ("Adam", {"learning_rate": 0.1, "amsgrad": True, "clipnorm": 0.5}),
    ("AdamW", {"learning_rate": 0.1}),
    ("Adagrad", {"learning_rate": 0.1, "clipvalue": 0.3}),
    ("Adadelta", {"learning_rate": 1.0, "global_clipnorm": 0.7}),
    ("Adamax", {"learning_rate": 0.1}),
    ("Nadam", {"learning_rate": 0.1, "weight_decay": 0.01}),
    ("Lion", {"learning_rate": 0.1, "weight_decay": 0.01}),
    ("Adam", {"learning_rate": 0.1, "use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 3}),
]


@pytest.mark.parametrize(("name", "options"), OPTIMIZERS)
def test_optimizers(name: str, options: dict[str, Any]) -> None:
    start = [RNG.normal(size=s).astype("float32") for s in ((3, 2), (4,))]
    theirs, ours = getattr(keras.optimizers, name)(**options), getattr(fastrnn.optimizers, name)(**options)
    expected = [keras.Variable(s) for s in start]
    got = [fastrnn.layers.Variable(s.copy()) for s in start]
    for _ in range(7):
        grads = [RNG.normal(size=s.shape).astype("float32") for s in start]
        theirs.apply_gradients(zip([keras.ops.convert_to_tensor(g) for g in grads], expected, strict=True))
        ours.apply_gradients(zip(grads, got, strict=True))
    for v, w in zip(got, expected, strict=True):
        np.testing.assert_allclose(v.value, as_array(w), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ExponentialDecay", {"initial_learning_rate": 0.5, "decay_steps": 7, "decay_rate": 0.3, "staircase": True}),
        ("InverseTimeDecay", {"initial_learning_rate": 0.5, "decay_steps": 7, "decay_rate": 0.3}),
        ("PiecewiseConstantDecay", {"boundaries": [5, 11], "values": [1.0, 0.5, 0.1]}),
        ("PolynomialDecay", {"initial_learning_rate": 0.5, "decay_steps": 9, "power": 1.5}),
        ("PolynomialDecay", {"initial_learning_rate": 0.5, "decay_steps": 9, "cycle": True}),
        ("CosineDecay", {"initial_learning_rate": 0.1, "decay_steps": 9, "alpha": 0.1,
                         "warmup_target": 0.9, "warmup_steps": 5}),
        ("CosineDecay", {"initial_learning_rate": 0.1, "decay_steps": 9}),
        ("CosineDecayRestarts", {"initial_learning_rate": 0.1, "first_decay_steps": 4, "m_mul": 0.7, "alpha": 0.1}),
    ],
)  # fmt: skip
def test_schedules(name: str, options: dict[str, Any]) -> None:
    theirs = getattr(keras.optimizers.schedules, name)(**options)
    ours = getattr(fastrnn.optimizers.schedules, name)(**options)
    expected = [float(theirs(step)) for step in range(30)]
    np.testing.assert_allclose([ours(step) for step in range(30)], expected, rtol=1e-5, atol=1e-7)


Y = RNG.uniform(0.05, 0.95, (6, 4))
P = RNG.dirichlet(np.ones(4), 6)
CLASSES = RNG.integers(0, 4, 6)
LOSSES: list[tuple[str, dict[str, Any], Any, Any]] = [
    ("MeanSquaredError", {}, Y, P),
    ("MeanAbsoluteError", {"reduction": "sum"}, Y, P),
    ("MeanAbsolutePercentageError", {}, Y, P),
    ("MeanSquaredLogarithmicError", {}, Y, P),
    ("Huber", {"delta": 0.2}, Y, P),
    ("LogCosh", {}, Y, 3 * P),
    ("Poisson", {}, Y, P),
    ("Hinge", {}, np.sign(Y - 0.5), P - 0.5),
    ("SquaredHinge", {}, (Y > 0.5) * 1.0, P - 0.5),
    ("KLDivergence", {}, Y, P),
    ("CosineSimilarity", {}, Y, P - 0.2),
    ("BinaryCrossentropy", {"label_smoothing": 0.2}, Y, P),
    ("BinaryCrossentropy", {"from_logits": True}, Y, P * 9 - 4),
    ("BinaryCrossentropy", {}, np.round(Y), np.round(P)),
    ("CategoricalCrossentropy", {"label_smoothing": 0.1}, np.eye(4)[CLASSES], P * 2),
    ("CategoricalCrossentropy", {"from_logits": True}, np.eye(4)[CLASSES], P * 9),
    ("SparseCategoricalCrossentropy", {}, CLASSES, P),
    ("SparseCategoricalCrossentropy", {"from_logits": True, "ignore_class": 2}, CLASSES, P * 9),
    ("MeanSquaredError", {"reduction": "mean_with_sample_weight"}, Y, P),
]


@pytest.mark.parametrize(("name", "options", "y", "p"), LOSSES)
@pytest.mark.parametrize("weighted", [False, True])
def test_losses(name: str, options: dict[str, Any], y: Any, p: Any, weighted: bool) -> None:
    weight = RNG.uniform(0, 2, 6).astype("float32") if weighted else None
    p = p.astype("float32")
    expected = getattr(keras.losses, name)(**options)(y, p, weight)
    got = getattr(fastrnn.losses, name)(**options)(y, p, weight)
    assert got == pytest.approx(float(expected), rel=2e-5)


METRICS: list[tuple[str, dict[str, Any], Any, Any]] = [
    ("AUC", {}, np.round(Y), P),
    ("AUC", {"curve": "PR", "num_thresholds": 50}, np.round(Y), P),
    ("AUC", {"from_logits": True}, np.round(Y), P * 9 - 4),
    ("Precision", {"thresholds": [0.1, 0.3, 0.6]}, np.round(Y), P),
    ("Recall", {"thresholds": 0.3, "class_id": 1}, np.round(Y), P),
    ("F1Score", {}, np.eye(4)[CLASSES], P),
    ("F1Score", {"average": "weighted", "threshold": 0.3}, np.eye(4)[CLASSES], P),
    ("F1Score", {"average": "micro"}, np.eye(4)[CLASSES], P),
    ("FalsePositives", {"thresholds": 0.3}, np.round(Y), P),
    ("TrueNegatives", {}, np.round(Y), P),
    ("BinaryAccuracy", {"threshold": 0.2}, np.round(Y), P),
    ("CategoricalAccuracy", {}, np.eye(4)[CLASSES], P),
    ("SparseCategoricalAccuracy", {}, CLASSES, P),
    ("SparseTopKCategoricalAccuracy", {"k": 2}, CLASSES, P),
    ("TopKCategoricalAccuracy", {"k": 2}, np.eye(4)[CLASSES], P),
    ("RootMeanSquaredError", {}, Y, P),
    ("Accuracy", {}, np.round(Y), np.round(P)),
    ("BinaryCrossentropy", {"from_logits": True}, np.round(Y), P * 3),
]


@pytest.mark.parametrize(("name", "options", "y", "p"), METRICS)
@pytest.mark.parametrize("weighted", [False, True])
def test_metrics(name: str, options: dict[str, Any], y: Any, p: Any, weighted: bool) -> None:
    theirs, ours = getattr(keras.metrics, name)(**options), getattr(fastrnn.metrics, name)(**options)
    for part in (slice(0, 4), slice(4, 6)):
        weight = RNG.uniform(0.1, 2, len(y[part])).astype("float32") if weighted else None
        if name == "RootMeanSquaredError" and weighted:
            pytest.skip("Keras weighs elements there, and wants as many weights")
        theirs.update_state(y[part], p[part].astype("float32"), weight)
        ours.update_state(y[part], p[part].astype("float32"), weight)
    np.testing.assert_allclose(ours.result(), as_array(theirs.result()), rtol=2e-5, atol=1e-6)
