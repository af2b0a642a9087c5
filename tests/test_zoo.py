"""The zoo's models and settings, and one training run through experiment.py."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from fastrnn import datasets, experiment, zoo
from fastrnn.callbacks import Callback
from fastrnn.datasets.text import TextEncoder
from fastrnn.models import load_model

TINY = zoo.Settings(vocabulary=30, maxlen=12, embedding=4, units=3, epochs=1, batch_size=16)
RECURRENT = {"rnn": "SimpleRNN", "lstm": "LSTM", "gru": "GRU"}


@pytest.mark.parametrize("cell", zoo.CELLS)
@pytest.mark.parametrize("model", zoo.MODELS)
def test_every_model_is_what_it_is_called(model, cell):
    built = zoo.build(model, cell, TINY)
    names = [type(layer).__name__ for layer in built.layers]
    assert names[0] == "Embedding" and names[-1] == "Dense"
    count = names.count(RECURRENT[cell])
    assert count == {"stacked": 2, "bidirectional": 0}.get(model, 1)
    assert ("Bidirectional" in names) == (model == "bidirectional")
    assert ("Conv1D" in names and "MaxPooling1D" in names) == (model == "hybrid")
    assert ("Attention" in names) == (model == "attention")
    ids = np.zeros((3, 12), dtype=np.int32)
    ids[:, 7:] = np.random.default_rng(0).integers(1, 30, (3, 5))
    output = built.predict(ids, verbose=0)
    assert output.shape == (3, 1) and np.all((output > 0) & (output < 1)) and len(np.unique(output)) == 3


def test_padding_does_not_matter_where_it_is_skipped():
    ids = np.random.default_rng(1).integers(1, 30, (2, 6)).astype(np.int32)
    for model in ("basic", "stacked", "bidirectional", "attention"):
        built = zoo.build(model, "lstm", TINY, maxlen=12)
        padded = np.concatenate([np.zeros((2, 6), np.int32), ids], axis=1)
        more = zoo.build(model, "lstm", TINY, maxlen=6)
        more.set_weights(built.get_weights())
        np.testing.assert_allclose(built.predict(padded, verbose=0), more.predict(ids, verbose=0), rtol=1e-5)


def test_settings():
    assert zoo.settings("hybrid") == zoo.DEFAULTS["hybrid"]
    changed = zoo.settings("basic", "sample", units=5, epochs=None)
    assert changed.units == 5 and changed.epochs == zoo.settings("basic", "sample").epochs
    with pytest.raises(ValueError, match="model: expected one of basic"):
        zoo.settings("deep")
    with pytest.raises(ValueError, match="cell: expected one of rnn, lstm, gru"):
        zoo.build("basic", "qrnn")
    with pytest.raises(TypeError, match="colour: expected one of"):
        zoo.settings("basic", colour=1)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("epochs", 0, ValueError), ("units", -1, ValueError), ("embedding", 2.0, TypeError),
        ("batch_size", True, TypeError),
        ("vocabulary", 4, ValueError), ("maxlen", 0, ValueError), ("patience", -1, ValueError),
        ("dropout", 1.0, ValueError), ("dropout", -0.1, ValueError), ("dropout", math.nan, ValueError),
        ("learning_rate", 0.0, ValueError), ("learning_rate", math.inf, ValueError),
        ("learning_rate", math.nan, ValueError),
        ("validation_split", 0.0, ValueError), ("validation_split", 1, ValueError), ("optimizer", "lbfgs", ValueError),
    ],
)  # fmt: skip
def test_settings_refuse(name, value, error):
    with pytest.raises(error, match=rf"^\[settings\] {name}: expected .*, got "):
        zoo.settings("basic", **{name: value})


def test_split_is_stratified_seeded_and_complete():
    corpus = datasets.load("sample").limited(200)
    encoder = TextEncoder(corpus.data.vocabulary.words, 100, 60)
    parts = experiment.split(corpus, encoder, 0.2, seed=5)
    assert parts.x_train.shape == (160, 60) and parts.x_validation.shape == (40, 60) and len(parts.x_test) == 200
    assert parts.y_train.mean() == parts.y_validation.mean() == 0.5
    assert 0.3 < parts.y_train[:50].mean() < 0.7  # shuffled
    together = {tuple(row) for row in [*parts.x_train.tolist(), *parts.x_validation.tolist()]}
    assert together == {tuple(row) for row in encoder.encode_ranks(corpus.data.train, corpus.data.vocabulary).tolist()}
    again = experiment.split(corpus, encoder, 0.2, seed=5)
    np.testing.assert_array_equal(again.x_train, parts.x_train)
    assert not np.array_equal(experiment.split(corpus, encoder, 0.2, seed=6).x_train, parts.x_train)
    with pytest.raises(ValueError, match="validation_split"):
        experiment.split(corpus, encoder, 0.001, seed=5)


def run(tmp_path, model="basic", **changes):
    corpus = datasets.load("sample").limited(80)
    settings = zoo.settings(model, "sample", units=4, embedding=4, **{"epochs": 2, **changes})
    return corpus, *experiment.run(model, "gru", corpus, settings, output=tmp_path / "m.safetensors", verbose=0)


def test_run_saves_a_model_that_stands_alone(tmp_path):
    corpus, model, result = run(tmp_path)
    figures = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert figures["dataset"] == "sample" and figures["dataset_title"] == "generated sample"
    assert len(figures["epoch_seconds"]) == len(figures["history"]["loss"]) == 2
    assert figures["gap"] == pytest.approx(figures["train_accuracy"] - figures["validation_accuracy"])
    assert figures["parameters"] == model.count_params()
    assert (result.train_reviews, result.validation_reviews, result.test_reviews) == (72, 8, 80)
    best = result.history["val_accuracy"][result.best_epoch - 1]
    assert best == max(result.history["val_accuracy"]) and result.validation_accuracy == pytest.approx(best)
    trained = experiment.open_trained(tmp_path / "m.safetensors")
    assert trained.about["dataset_title"] == "generated sample" and trained.about["cell"] == "gru"
    assert trained.evaluate(corpus) == pytest.approx((result.test_loss, result.test_accuracy))
    texts = [corpus.data.vocabulary.decode(row) for row in corpus.data.test]
    accuracy = np.mean((trained.probabilities(texts) > 0.5) == corpus.data.test_labels)
    assert accuracy == pytest.approx(result.test_accuracy)


def test_same_seed_same_result(tmp_path):
    first, second = run(tmp_path)[2], run(tmp_path)[2]
    assert first.history == second.history and first.test_loss == second.test_loss


def test_best_epoch_is_restored_and_test_half_seen_once(tmp_path, monkeypatch):
    seen = []
    original = experiment._accuracy
    monkeypatch.setattr(experiment, "_accuracy", lambda *a: seen.append(len(a[2])) or original(*a))
    result = run(tmp_path, epochs=6, patience=1, learning_rate=0.05)[2]
    assert seen == [72, 8, 80]
    curve = result.history["val_accuracy"]
    assert result.best_epoch == curve.index(max(curve)) + 1
    assert len(curve) == 6 or len(curve) == result.best_epoch + 1  # patience 1


def test_diverged_training_is_refused_and_overwrites_nothing(tmp_path, monkeypatch):
    (tmp_path / "m.safetensors").write_bytes(b"earlier work")
    original = zoo.build

    def poisoned(*arguments, **options):
        model = original(*arguments, **options)
        model.weights[-1].assign(np.array([np.nan]))
        return model

    monkeypatch.setattr(zoo, "build", poisoned)
    with pytest.raises(ValueError, match=r"\[train\] loss: expected a finite number, got nan in epoch 1; a lower"):
        run(tmp_path)
    assert (tmp_path / "m.safetensors").read_bytes() == b"earlier work"


def test_interrupt_leaves_the_last_epoch(tmp_path, monkeypatch):
    class Stop(Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    original = experiment._watcher

    def watcher(*arguments):
        watching = original(*arguments)
        watching.on_epoch_begin = Stop().on_epoch_begin
        return watching

    monkeypatch.setattr(experiment, "_watcher", watcher)
    with pytest.raises(
        experiment.Interrupted, match=r"after 2 whole epochs; the model of epoch 2 is in .*m\.safetensors"
    ):
        run(tmp_path, epochs=5)
    assert load_model(tmp_path / "m.safetensors").extra["state"] == "after epoch 2"
    assert experiment.open_trained(tmp_path / "m.safetensors").probabilities(["good", ""]).shape == (2,)


def test_open_trained_refuses_other_models(tmp_path):
    zoo.build("basic", "rnn", TINY).save(tmp_path / "plain.safetensors")
    with pytest.raises(ValueError, match="expected a model saved by `fastrnn train`"):
        experiment.open_trained(tmp_path / "plain.safetensors")
