"""What fit, evaluate and predict refuse: one clear message, before anything moves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastrnn import layers as L
from fastrnn.models import Sequential
from model_tools import data, linear

X, Y = data(8)
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("none", {"x": None}, r"\[fit\] x: expected an array or an iterable of batches, got None"),
    ("y none", {"y": None}, r"\[fit\] y: expected targets, got None"),
    ("lengths", {"y": Y[:-1]}, r"\[fit\] y: expected as many samples as x \(8\), got 7"),
    ("weights", {"sample_weight": np.ones(7)}, r"\[fit\] sample_weight: expected shape"),
    ("weights nan", {"sample_weight": np.full(8, np.nan)}, r"\[fit\] sample_weight: expected finite numbers"),
    ("empty", {"x": X[:0], "y": Y[:0]}, r"\[fit\] x: expected at least one sample, got shape \(0, 3\)"),
    ("number", {"x": 3.0}, r"\[fit\] x: expected an array or an iterable of batches, got float"),
    ("scalar", {"x": np.float32(3)}, r"\[fit\] x: expected an array with a batch axis"),
    ("two arrays", {"x": [X, X]}, r"\[fit\] x: expected one array .* got a list of 2 arrays"),
    ("two targets", {"y": [Y, Y]}, r"\[fit\] y: expected one array"),
    ("ragged", {"x": [[1.0], [1.0, 2.0]]}, r"\[fit\] x: expected an array, got nested lists of uneven length"),
    ("objects", {"x": np.array([[1], [1, 2]], object)}, r"\[fit\] x: .* got dtype object .*pad_sequences"),
    ("strings", {"x": np.array(["a"] * 8)}, r"\[fit\] x: expected an array of numbers, got dtype <U1"),
    ("complex", {"x": X.astype(complex)}, r"\[fit\] x: expected an array of numbers, got dtype complex128"),
    ("rank", {"x": X[:, :2]}, r"\[Dense\] inputs: expected shape"),
    ("nan", {"x": np.full((8, 3), np.nan)}, r"\[fit\] x: expected finite numbers"),
    ("nan y", {"y": np.full(8, np.nan)}, r"\[fit\] y: expected finite numbers"),
    ("wide y", {"y": np.zeros((8, 2))}, r"\[fit\] y: expected the output's shape \(8, 1\), got \(8, 2\)"),
    ("batch 0", {"batch_size": 0}, r"\[fit\] batch_size: expected a positive integer, got 0"),
    ("batch -1", {"batch_size": -1}, r"\[fit\] batch_size: expected a positive integer, got -1"),
    ("batch float", {"batch_size": 2.5}, r"\[fit\] batch_size: expected a positive integer, got 2.5"),
    ("epochs", {"epochs": -1}, r"\[fit\] epochs: expected an integer of at least 0, got -1"),
    ("initial", {"initial_epoch": -1}, r"\[fit\] initial_epoch"),
    ("steps", {"steps_per_epoch": 0}, r"\[fit\] steps_per_epoch: expected a positive integer, got 0"),
    ("split 1", {"validation_split": 1.0}, r"\[fit\] validation_split: expected a number in \[0, 1\), got 1.0"),
    ("split -", {"validation_split": -0.1}, r"\[fit\] validation_split: expected a number in \[0, 1\), got -0.1"),
    ("split all", {"validation_split": 0.99}, r"\[fit\] validation_split: .* leaves samples on both sides"),
    ("split generator", {"x": iter([]), "y": None, "validation_split": 0.5}, r"\[fit\] validation_split: expected 0"),
    ("split lengths", {"y": Y[:-1], "validation_split": 0.5}, r"\[fit\] y: expected as many samples as x \(8\), got 7"),
    ("validation", {"validation_data": (X, Y[:-1])}, r"\[fit\] validation y: expected as many samples as x \(8\)"),
    ("validation x", {"validation_data": (X[:0], Y[:0])}, r"\[fit\] validation x: expected at least one sample"),
    (
        "validation 1",
        {"validation_data": (X,)},
        r"\[fit\] validation_data: expected \(x, y\[, sample_weight\]\), got 1",
    ),
    ("frequency", {"validation_freq": 0}, r"\[fit\] validation_freq: expected a positive integer, got 0"),
    ("class weight", {"class_weight": [1, 2]}, r"\[fit\] class_weight: expected a dictionary"),
    (
        "class weight -",
        {"class_weight": {0: -1.0}},
        r"\[fit\] class_weight\[0\]: expected a finite number of at least 0",
    ),
    ("class weight .5", {"class_weight": {0.5: 1.0}}, r"\[fit\] class_weight: expected an integer"),
    ("class weight key", {"class_weight": {"a": 1.0}}, r"\[fit\] class_weight: expected an integer"),
    ("callbacks", {"callbacks": [3]}, r"\[fit\] callbacks: expected Callback objects, got 3"),
    ("verbose", {"verbose": 7}, r"\[fit\] verbose: expected 0, 1, 2 or 'auto', got 7"),
    ("unknown", {"batchsize": 7}, r"\[fit\] batchsize: expected a known argument"),
    ("y beside batches", {"x": iter([])}, r"\[fit\] y: expected None as x gives batches"),
]


@pytest.mark.parametrize(("given", "message"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_fit_refuses_before_anything_moves(given: dict[str, Any], message: str) -> None:
    model = linear()
    before = model.get_weights()
    with pytest.raises((ValueError, TypeError), match=message):
        model.fit(**{"x": X, "y": Y, "verbose": 0, **given})
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert model.optimizer is not None and model.optimizer.iterations == 0


@pytest.mark.parametrize("ids", [[[1, 9]], [[-1, 2]], [[0.5, 1.0]]])
def test_ids_out_of_range_are_refused_before_training(ids: Any) -> None:
    model = Sequential([L.Embedding(9, 2), L.LSTM(2), L.Dense(1)])
    model.compile("adam", "mse")
    x = np.concatenate([np.ones((99, 2)), ids])
    with pytest.raises(ValueError, match=r"expected (ids from 0 to 8|ids in \[0, 9\)|integer ids)"):
        model.fit(x, np.zeros(100), verbose=0)
    assert model.optimizer is not None and model.optimizer.iterations == 0


def test_evaluate_and_predict_refuse_as_well() -> None:
    model = linear()
    for call, message in [
        (lambda: model.evaluate(X, Y[:-1]), r"\[evaluate\] y: expected as many samples as x \(8\), got 7"),
        (lambda: model.evaluate(X), r"\[evaluate\] y: expected targets, got None"),
        (lambda: model.evaluate(X, Y, batch_size=0), r"\[evaluate\] batch_size"),
        (lambda: model.predict(X[:0]), r"\[predict\] x: expected at least one sample"),
        (lambda: model.predict([X, X]), r"\[predict\] x: expected one array"),
        (lambda: model.predict(X, batch_size=-2), r"\[predict\] batch_size"),
        (lambda: model.predict(None), r"\[predict\] x: expected an array or an iterable of batches"),
        (lambda: model.train_on_batch(X, Y[:-1]), r"\[train_on_batch\] y: expected as many"),
        (lambda: model.predict_on_batch(X[0, 0]), r"\[predict_on_batch\] x: expected an array with a batch axis"),
        (lambda: Sequential([L.Dense(1)]).fit(X, Y), r"\[fit\] model: expected a compiled model"),
        (lambda: Sequential().predict(X), r"\[predict\] model: expected at least one layer"),
    ]:
        with pytest.raises((ValueError, TypeError, RuntimeError), match=message):
            call()
    unfinished = Sequential([L.Dense(1)])
    unfinished.compile("adam")
    with pytest.raises(ValueError, match=r"\[fit\] loss: expected compile\(\.\.\., loss=\.\.\.\), got None"):
        unfinished.fit(X, Y)
