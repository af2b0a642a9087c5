"""Scripts as tutorials write them, with `tensorflow.keras` replaced by `fastrnn` and nothing else, and what they learn.

The imports stand inside the functions so that each script reads as it would on its own.
"""

# ruff: noqa: NPY002 - the scripts draw their data as such scripts do

from __future__ import annotations

from typing import Any

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def seeded() -> None:
    import fastrnn

    fastrnn.utils.set_random_seed(3)


def sine_windows(count: int, steps: int) -> tuple[Any, Any]:
    series = np.sin(np.linspace(0, count / 5, count + steps))
    x = np.array([series[i : i + steps] for i in range(count)])
    return x[..., None], series[steps : steps + count]


def test_simple_rnn_predicts_the_next_value_of_a_sine() -> None:
    from fastrnn.layers import Dense, SimpleRNN
    from fastrnn.models import Sequential

    X, y = sine_windows(400, 10)
    model = Sequential()
    model.add(SimpleRNN(50, activation="relu", input_shape=(10, 1)))
    model.add(Dense(1))
    model.compile(optimizer="adam", loss="mse")
    history = model.fit(X, y, epochs=20, verbose=0)
    assert history.history["loss"][-1] < 0.01 * np.var(y)
    yhat = model.predict(X[:1], verbose=0)
    assert yhat.shape == (1, 1) and abs(yhat[0, 0] - y[0]) < 0.2


def test_lstm_with_relu_and_a_sigmoid_tells_rising_from_falling_series() -> None:
    from fastrnn.layers import LSTM, Dense
    from fastrnn.models import Sequential

    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 300)
    slope = np.where(y, 1.0, -1.0)[:, None] * np.linspace(-0.5, 0.5, 100)
    X = (slope + rng.normal(0, 0.2, (300, 100)))[..., None]

    model = Sequential()
    model.add(LSTM(50, activation="relu", input_shape=(100, 1)))
    model.add(Dense(1, activation="sigmoid"))
    model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
    model.fit(X, y, epochs=6, batch_size=32, validation_split=0.2, verbose=0)
    loss, accuracy = model.evaluate(X, y, verbose=0)
    assert accuracy > 0.95 and loss < 0.55


def test_two_stacked_lstms_add_up_marked_numbers() -> None:
    from fastrnn.callbacks import EarlyStopping, ReduceLROnPlateau
    from fastrnn.layers import LSTM, Dense, Dropout
    from fastrnn.models import Sequential
    from fastrnn.optimizers import Adam

    rng = np.random.default_rng(1)
    values = rng.random((600, 8))
    marks = np.zeros((600, 8))
    marks[np.arange(600), rng.integers(0, 4, 600)] = marks[np.arange(600), rng.integers(4, 8, 600)] = 1
    X, y = np.stack([values, marks], axis=-1), (values * marks).sum(1)

    model = Sequential([
        LSTM(32, return_sequences=True, input_shape=(8, 2)),
        Dropout(0.01),
        LSTM(16),
        Dense(1),
    ])  # fmt: skip
    model.compile(optimizer=Adam(learning_rate=0.01), loss="mean_squared_error", metrics=["mae"])
    stop = EarlyStopping(monitor="val_loss", patience=8, restore_best_weights=True)
    plateau = ReduceLROnPlateau(factor=0.5, patience=4)
    history = model.fit(X, y, epochs=25, validation_split=0.1, callbacks=[stop, plateau], verbose=0)
    assert min(history.history["val_loss"]) < 0.15 * np.var(y)
    assert model.evaluate(X[540:], y[540:], verbose=0)[0] == pytest.approx(min(history.history["val_loss"]), rel=1e-4)


def test_gru_classifies_three_kinds_of_waves() -> None:
    from fastrnn.layers import GRU, Dense, Input
    from fastrnn.losses import SparseCategoricalCrossentropy
    from fastrnn.models import Sequential

    rng = np.random.default_rng(2)
    y = rng.integers(0, 3, 450)
    t = np.arange(20)
    X = np.sin(t * np.array([0.3, 0.9, 1.8])[y][:, None] + rng.uniform(0, 6, (450, 1)))[..., None]

    model = Sequential([Input(shape=(20, 1)), GRU(24), Dense(3)])
    model.compile("adam", loss=SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    history = model.fit(X, y, epochs=12, batch_size=16, validation_data=(X[:50], y[:50]), verbose=0)
    assert history.history["val_accuracy"][-1] > 0.95


def test_lstm_with_states_called_on_an_array() -> None:
    from fastrnn.layers import LSTM

    inputs = np.random.random((32, 10, 8))
    lstm = LSTM(50, return_sequences=True, return_state=True)
    whole_seq_output, final_memory_state, final_carry_state = lstm(inputs)
    assert whole_seq_output.shape == (32, 10, 50)
    assert final_memory_state.shape == final_carry_state.shape == (32, 50)
    np.testing.assert_array_equal(whole_seq_output[:, -1], final_memory_state)


def reviews() -> tuple[list[str], Any]:
    """The last of the two judgements counts."""
    rng = np.random.default_rng(5)
    good, bad = ["good", "great", "fine"], ["bad", "poor", "awful"]
    fill = "the a film plot story actor was is it in and".split()
    texts, labels = [], []
    for _ in range(500):
        label = int(rng.integers(0, 2))
        first, last = (bad, good) if label else (good, bad)
        words = [*rng.choice(fill, rng.integers(1, 5)), rng.choice(first), *rng.choice(fill, 3), rng.choice(last)]
        texts.append(" ".join([*words, *rng.choice(fill, rng.integers(0, 4))]))
        labels.append(label)
    return texts, np.array(labels)


@pytest.mark.parametrize("kind", ["lstm", "bidirectional", "hybrid"])
def test_text_classification_from_raw_text(kind: str, tmp_path: Any) -> None:
    from fastrnn.callbacks import ModelCheckpoint
    from fastrnn.layers import LSTM, Bidirectional, Conv1D, Dense, Embedding, MaxPooling1D, SpatialDropout1D
    from fastrnn.models import Sequential, load_model
    from fastrnn.preprocessing.sequence import pad_sequences
    from fastrnn.preprocessing.text import Tokenizer

    texts, labels = reviews()
    tokenizer = Tokenizer(num_words=50)
    tokenizer.fit_on_texts(texts)
    data = pad_sequences(tokenizer.texts_to_sequences(texts), maxlen=14)

    model = Sequential()
    model.add(Embedding(50, 16, input_length=14, mask_zero=kind != "hybrid"))
    if kind == "lstm":
        model.add(SpatialDropout1D(0.1))
        model.add(LSTM(24, dropout=0.1, recurrent_dropout=0.1))
    elif kind == "bidirectional":
        model.add(Bidirectional(LSTM(16, return_sequences=True)))
        model.add(Bidirectional(LSTM(8)))
    else:
        model.add(Conv1D(filters=16, kernel_size=3, padding="same", activation="relu"))
        model.add(MaxPooling1D(pool_size=2))
        model.add(LSTM(24))
    model.add(Dense(1, activation="sigmoid"))
    model.compile(loss="binary_crossentropy", optimizer="adam", metrics=["accuracy"])
    model.summary(print_fn=lambda text: None)
    best = ModelCheckpoint(str(tmp_path / "best.safetensors"), monitor="val_accuracy", save_best_only=True)
    history = model.fit(
        data[:400], labels[:400], epochs=14, batch_size=16, validation_data=(data[400:], labels[400:]), verbose=0,
        callbacks=[best],
    )  # fmt: skip
    scores = load_model(str(tmp_path / "best.safetensors")).evaluate(data[400:], labels[400:], verbose=0)
    assert scores[1] == pytest.approx(max(history.history["val_accuracy"])) and scores[1] > 0.93


def test_character_model_with_one_hot_targets_and_a_generator() -> None:
    from fastrnn.layers import LSTM, Activation, Dense
    from fastrnn.models import Sequential
    from fastrnn.optimizers import RMSprop
    from fastrnn.utils import to_categorical

    text = "the quick brown fox jumps over the lazy dog " * 8
    chars = sorted(set(text))
    index = np.array([chars.index(c) for c in text])
    maxlen = 8

    def batches() -> Any:
        while True:
            for start in range(0, len(text) - maxlen - 32, 32):
                rows = [index[start + i : start + i + maxlen] for i in range(32)]
                yield (
                    to_categorical(rows, len(chars)),
                    to_categorical(index[start + maxlen : start + maxlen + 32], len(chars)),
                )

    model = Sequential()
    model.add(LSTM(64, input_shape=(maxlen, len(chars))))
    model.add(Dense(len(chars)))
    model.add(Activation("softmax"))
    model.compile(loss="categorical_crossentropy", optimizer=RMSprop(learning_rate=0.01), metrics=["acc"])
    history = model.fit(batches(), steps_per_epoch=10, epochs=16, verbose=0)
    assert history.history["acc"][-1] > 0.9


def test_many_to_many_tagging_with_masks() -> None:
    from fastrnn.layers import GRU, Dense, Embedding, TimeDistributed
    from fastrnn.models import Sequential

    rng = np.random.default_rng(6)
    x = rng.integers(1, 9, (300, 12))
    for row, length in zip(x, rng.integers(4, 13, 300), strict=True):
        row[length:] = 0
    tags = np.where(x > 0, (x + np.roll(x, 1, axis=1) * (np.arange(12) > 0)) % 3, 0)

    model = Sequential([
        Embedding(9, 16, mask_zero=True),
        GRU(48, return_sequences=True),
        TimeDistributed(Dense(3, activation="softmax")),
    ])  # fmt: skip
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(x, tags, epochs=30, batch_size=16, verbose=0)
    assert history.history["accuracy"][-1] > 0.9
    right = model.predict(x, verbose=0).argmax(-1) == tags
    assert model.evaluate(x, tags, verbose=0)[1] == pytest.approx(right[x > 0].mean(), abs=1e-6)


def test_a_stateful_model_with_a_hand_written_loop() -> None:
    from fastrnn import backend as K
    from fastrnn.layers import LSTM, Dense
    from fastrnn.models import Sequential

    K.clear_session()
    # an impulse in the first window has to be remembered into the last
    batch_size = 4
    x = np.zeros((batch_size, 6, 1))
    x[:, 0, 0] = [0, 1, 2, 3]
    y = np.arange(batch_size) / 3
    model = Sequential()
    model.add(LSTM(10, batch_input_shape=(batch_size, 2, 1), stateful=True))
    model.add(Dense(1))
    model.compile(loss="mean_squared_error", optimizer="adam")
    K.set_value(model.optimizer.learning_rate, 0.02)
    for _ in range(80):
        for part in range(3):
            model.fit(x[:, 2 * part : 2 * part + 2], y, epochs=1, batch_size=batch_size, verbose=0, shuffle=False)
        model.reset_states()
    for part in range(3):
        p = model.predict(x[:, 2 * part : 2 * part + 2], batch_size=batch_size, verbose=0)
    assert np.abs(p[:, 0] - y).max() < 0.1


def test_windows_from_a_generator_and_a_schedule() -> None:
    from fastrnn.layers import Dense, Flatten, SimpleRNN
    from fastrnn.models import Sequential
    from fastrnn.optimizers import SGD
    from fastrnn.optimizers.schedules import ExponentialDecay
    from fastrnn.preprocessing.sequence import TimeseriesGenerator

    series = np.sin(np.arange(300) / 5)[:, None]
    generator = TimeseriesGenerator(series, series, length=6, batch_size=16)
    first_x, first_y = generator[0]
    np.testing.assert_array_equal(first_x[3], series[3:9])
    np.testing.assert_array_equal(first_y[3], series[9])
    assert sum(len(generator[k][1]) for k in range(len(generator))) == 294

    model = Sequential([SimpleRNN(8, return_sequences=True, input_shape=(6, 1)), Flatten(), Dense(1)])
    model.compile(optimizer=SGD(ExponentialDecay(0.05, 100, 0.9), momentum=0.9, clipnorm=1.0), loss="mse")
    history = model.fit(generator, epochs=10, verbose=0)
    assert history.history["loss"][-1] < 0.02
    assert model.optimizer.learning_rate == pytest.approx(0.05 * 0.9 ** (10 * len(generator) / 100))


def test_imbalanced_classes_with_metrics_and_weights() -> None:
    from fastrnn import metrics, regularizers
    from fastrnn.layers import GRU, Dense
    from fastrnn.models import Sequential

    rng = np.random.default_rng(8)
    y = (rng.random(500) < 0.1).astype("float32")
    X = rng.normal(0, 1, (500, 5, 2)) + 0.9 * y[:, None, None]

    def recall(class_weight: dict[int, float] | None) -> float:
        model = Sequential()
        model.add(GRU(8, input_shape=(5, 2), kernel_regularizer=regularizers.l2(1e-4)))
        model.add(Dense(1, activation="sigmoid"))
        model.compile(
            optimizer="adam",
            loss="binary_crossentropy",
            metrics=["accuracy", metrics.AUC(name="auc"), metrics.Precision(), metrics.Recall(name="recall")],
        )
        model.fit(X, y, epochs=8, class_weight=class_weight, verbose=0)
        results = model.evaluate(X, y, verbose=0, return_dict=True)
        assert list(results) == ["loss", "accuracy", "auc", "precision", "recall"] and results["auc"] > 0.8
        return float(results["recall"])

    assert recall({0: 1.0, 1: 9.0}) > recall(None) + 0.1


def test_utilities() -> None:
    import random

    from fastrnn.utils import normalize, set_random_seed, to_categorical

    np.testing.assert_array_equal(to_categorical([0, 2], num_classes=3), [[1, 0, 0], [0, 0, 1]])
    assert to_categorical(np.array([[1], [3]])).shape == (2, 4)
    assert to_categorical(np.array([[0, 1], [2, 1]])).shape == (2, 2, 3)
    for bad in ([3], [-1]):
        with pytest.raises(ValueError, match=r"\[to_categorical\] x: expected class indices from 0 to 2"):
            to_categorical(bad, 3)
    np.testing.assert_allclose(normalize([[3.0, 4.0], [0.0, 0.0]]), [[0.6, 0.8], [0.0, 0.0]])
    drawn = []
    for _ in range(2):
        set_random_seed(7)
        from fastrnn.layers import Dense

        layer = Dense(2)
        layer.build((None, 3))
        drawn.append((random.random(), np.random.random(), layer.get_weights()[0].tolist()))
    assert drawn[0] == drawn[1]
    with pytest.raises(ValueError, match=r"\[set_random_seed\] seed: expected an integer of at least 0, got -1"):
        set_random_seed(-1)
