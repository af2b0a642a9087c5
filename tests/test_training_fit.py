"""fit, evaluate and predict: which samples are seen when, what the figures mean, what is refused before training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from fastrnn import layers as L
from fastrnn import losses, metrics
from fastrnn.callbacks import Callback, LambdaCallback, ModelCheckpoint
from fastrnn.models import Sequential, load_model
from fastrnn.optimizers import SGD
from fastrnn.utils import PyDataset, set_random_seed
from model_tools import data, linear, step_gradients


def watched(model: Sequential) -> list[Any]:
    """The batches (x, y, weight) given to each step, as they come."""
    seen: list[Any] = []
    original = model.train_step

    def train_step(x: Any, y: Any, weight: Any) -> None:
        seen.append((x, y, weight))
        original(x, y, weight)

    model.train_step = train_step  # type: ignore[method-assign]
    return seen


def numbered(count: int) -> tuple[Any, Any]:
    """Samples that can be told apart."""
    x = np.arange(count, dtype=np.float32)[:, None] * np.ones((1, 3), np.float32)
    return x, np.arange(count) * 10


def test_every_sample_once_per_epoch_in_another_order() -> None:
    model = linear(optimizer=SGD(1e-9))
    seen = watched(model)
    x, y = numbered(23)
    set_random_seed(1)
    model.fit(x, y, batch_size=5, epochs=2, verbose=0)
    assert [len(b[0]) for b in seen] == [5, 5, 5, 5, 3] * 2
    first, second = (np.concatenate([b[0][:, 0] for b in seen[k : k + 5]]) for k in (0, 5))
    np.testing.assert_array_equal(np.sort(first), np.arange(23))
    np.testing.assert_array_equal(np.sort(second), np.arange(23))
    assert not np.array_equal(first, second) and not np.array_equal(first, np.arange(23))
    for bx, by, _ in seen:
        np.testing.assert_array_equal(bx[:, 0] * 10, by)
    again = linear(optimizer=SGD(1e-9))
    set_random_seed(1)
    seen_again = watched(again)
    again.fit(x, y, batch_size=5, verbose=0)
    np.testing.assert_array_equal(np.concatenate([b[0][:, 0] for b in seen_again]), first)


def test_without_shuffling_the_order_stays() -> None:
    model = linear(optimizer=SGD(1e-9))
    seen = watched(model)
    x, y = numbered(7)
    model.fit(x, y, batch_size=3, verbose=0, shuffle=False)
    np.testing.assert_array_equal(np.concatenate([b[1] for b in seen]), y)


def test_validation_split_takes_the_last_samples_before_shuffling() -> None:
    model = linear(optimizer=SGD(1e-9))
    seen = watched(model)
    x, y = numbered(20)
    w = np.arange(20, dtype=np.float32)
    history = model.fit(x, y, batch_size=4, verbose=0, validation_split=0.25, sample_weight=w).history
    np.testing.assert_array_equal(np.sort(np.concatenate([b[1] for b in seen])), y[:15])
    for _, by, bw in seen:
        np.testing.assert_array_equal(by, bw * 10)
    expected = model.evaluate(x[15:], y[15:], sample_weight=w[15:], verbose=0)
    assert history["val_loss"] == [pytest.approx(expected)]


def test_the_figures_are_means_over_samples_as_they_were_met() -> None:
    x, y = data(10)
    model = linear(optimizer=SGD(0.05), metrics=["mae"])
    expected = 0.0
    other = linear(optimizer=SGD(0.05), metrics=["mae"])
    for part in (slice(0, 4), slice(4, 8), slice(8, 10)):
        expected += other.train_on_batch(x[part], y[part])[0] * len(x[part]) / 10
    history = model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    assert history.history["loss"] == [pytest.approx(expected, rel=1e-6)]
    assert history.epoch == [0] and history.samples == [10] and len(history.seconds) == 1
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_the_loss_shown_has_the_penalties_of_the_moment() -> None:
    model = Sequential([L.Input((3,)), L.Dense(1, kernel_regularizer="l2"), L.Dense(2, activity_regularizer="l1")])
    model.compile(SGD(0.1), "mse")
    x = data(6)[0]
    first, second = model.layers
    hidden = first(x)
    penalty = 0.01 * (first.get_weights()[0] ** 2).sum() + 0.01 * abs(second(hidden)).sum() / 6
    expected = losses.mse(np.zeros((6, 2)), second(hidden)).mean() + penalty
    assert penalty > 1e-4
    assert model.evaluate(x, np.zeros((6, 2)), verbose=0) == pytest.approx(expected, rel=1e-5)
    assert model.fit(x, np.zeros((6, 2)), verbose=0).history["loss"] == [pytest.approx(expected, rel=1e-5)]


def test_averages_of_the_weights_are_in_place_after_training() -> None:
    x, y = data(12)
    model = linear(optimizer=SGD(0.3, use_ema=True, ema_momentum=0.5))
    path: list[Any] = []
    note = LambdaCallback(on_train_batch_end=lambda batch, logs: path.append(model.get_weights()[0]))
    model.fit(x, y, batch_size=4, verbose=0, callbacks=[note])
    np.testing.assert_allclose(model.get_weights()[0], 0.25 * path[0] + 0.25 * path[1] + 0.5 * path[2], rtol=1e-6)


def test_ids_are_narrowed_once() -> None:
    model = Sequential([L.Embedding(9, 2), L.Flatten(), L.Dense(1)])
    model.compile("adam", "mse")
    seen = watched(model)
    model.fit(np.ones((4, 3), np.int64), np.ones(4), verbose=0)
    model.fit(np.ones((4, 3), np.float64), np.ones(4), verbose=0)
    assert [b[0].dtype for b in seen] == [np.int32, np.int32]


def test_class_weight_is_a_sample_weight_of_the_loss_only() -> None:
    x, y = data(16)
    by_class, by_sample, plain = (
        linear(activation="sigmoid", loss="bce", metrics=["accuracy"], weighted_metrics=["mae"]) for _ in range(3)
    )
    weights = np.where(y == 1, 3.0, 0.5)
    a = by_class.fit(x, y, class_weight={0: 0.5, 1: 3}, verbose=0, shuffle=False).history
    b = by_sample.fit(x, y, sample_weight=weights, verbose=0, shuffle=False).history
    c = plain.fit(x, y, verbose=0, shuffle=False).history
    assert a == b
    assert a["accuracy"] == c["accuracy"] and a["loss"] != c["loss"] and a["mae"] != c["mae"]
    for v, w in zip(by_class.get_weights(), by_sample.get_weights(), strict=True):
        np.testing.assert_array_equal(v, w)


@pytest.mark.parametrize("kind", ["sparse", "onehot", "column"])
def test_class_weight_for_several_classes(kind: str) -> None:
    classes = np.array([0, 2, 1, 2])
    y = {"sparse": classes, "onehot": np.eye(3)[classes], "column": classes[:, None]}[kind]
    loss = "categorical_crossentropy" if kind == "onehot" else "sparse_categorical_crossentropy"
    model = linear(outputs=3, activation="softmax", loss=loss)
    seen = watched(model)
    model.fit(data(4)[0], y, class_weight={2: 5.0, 0: 0.25}, verbose=0, shuffle=False)
    np.testing.assert_allclose(seen[0][2].reshape(-1), [0.25, 5.0, 1.0, 5.0])


def test_class_weight_with_keys_as_numpy_gives_them() -> None:
    x, y = data(8)
    for keys in (np.unique(y), np.unique(y.astype(float)), np.unique(y.astype(bool))):
        model = linear(activation="sigmoid", loss="bce")
        seen = watched(model)
        model.fit(x, y, class_weight=dict(zip(keys, [0.5, 2.0], strict=True)), verbose=0, shuffle=False)
        np.testing.assert_allclose(seen[0][2], np.where(y == 1, 2.0, 0.5))


def test_class_weight_times_sample_weight() -> None:
    model = linear(activation="sigmoid", loss="bce")
    seen = watched(model)
    x, y = data(6)
    w = np.arange(6.0)
    model.fit(x, y, class_weight={1: 2.0}, sample_weight=w, verbose=0, shuffle=False)
    np.testing.assert_allclose(seen[0][2], w * np.where(y == 1, 2, 1))


# ---- batches that are given ---------------------------------------------------------------------------------------


def batches(count: int = 3, weight: bool = False) -> Iterator[Any]:
    for k in range(count):
        x, y = data(4, seed=k)
        yield (x, y, np.full(4, k + 1.0)) if weight else (x, y)


class Served(PyDataset):
    ended = 0

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        return data(4, seed=index)

    def on_epoch_end(self) -> None:
        self.ended += 1


def test_all_kinds_of_batches_are_the_same() -> None:
    x = np.concatenate([b[0] for b in batches()])
    y = np.concatenate([b[1] for b in batches()])
    served = Served()
    results = []
    for source in (list(batches()), served, iter(batches())):
        model = linear()
        model.fit(source, verbose=0, shuffle=False)
        results.append(model.get_weights())
    model = linear()
    model.fit(x, y, batch_size=4, verbose=0, shuffle=False)
    for got in results:
        for a, b in zip(got, model.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    assert served.ended == 1
    assert model.evaluate(x, y, batch_size=4, verbose=0) == model.evaluate(batches(), verbose=0)
    p = model.predict(x, verbose=0)
    np.testing.assert_allclose(p, model.predict((b[0] for b in batches()), verbose=0), rtol=1e-5)
    np.testing.assert_allclose(p, model.predict(list(batches()), verbose=0), rtol=1e-5)


def test_batches_with_weights() -> None:
    model = linear()
    seen = watched(model)
    model.fit(batches(weight=True), verbose=0)
    assert [w[0] for _, _, w in seen] == [1.0, 2.0, 3.0]


def test_an_endless_generator_goes_on_where_it_stopped() -> None:
    asked: list[int] = []

    def endless() -> Iterator[Any]:
        k = 0
        while True:
            asked.append(k)
            yield data(4, seed=k)
            k += 1

    model = linear()
    validation = batches(5)
    with pytest.warns(UserWarning, match="validation x: expected batches .* none any more: no more validation"):
        history = model.fit(
            endless(), steps_per_epoch=3, epochs=4, verbose=0, validation_data=validation, validation_steps=2
        )
    assert asked == list(range(12))
    assert history.samples == [12] * 4 and len(history.history["val_loss"]) == 3


def test_arrays_with_steps_per_epoch() -> None:
    model = linear(optimizer=SGD(1e-9))
    seen = watched(model)
    x, y = numbered(10)
    model.fit(x, y, batch_size=4, steps_per_epoch=2, epochs=3, shuffle=False, verbose=0)
    np.testing.assert_array_equal(
        np.concatenate([b[1] for b in seen]) // 10, [*range(8), 8, 9, 0, 1, 2, 3, *range(4, 8), 8, 9]
    )
    seen.clear()
    model.fit(x, y, steps_per_epoch=5, verbose=0)
    assert [len(b[0]) for b in seen] == [2] * 5


def test_an_iterator_that_runs_out_stops_training_with_a_warning() -> None:
    model = linear()
    with pytest.warns(UserWarning, match="gives none any more: training stops"):
        history = model.fit(iter(list(batches())), epochs=3, verbose=0)
    assert history.epoch == [0]
    with pytest.warns(UserWarning, match="expected 5 batches per epoch, got 3"):
        history = model.fit(batches(), steps_per_epoch=5, epochs=3, verbose=0)
    assert history.epoch == [0]
    with pytest.raises(
        ValueError, match=r"\[fit\] x: expected batches for every epoch, got an iterator that gives none"
    ):
        model.fit(iter([]), verbose=0)


# ---- validation, epochs -------------------------------------------------------------------------------------------


def test_validation_frequency_and_initial_epoch() -> None:
    x, y = data()
    epochs: list[int] = []
    hook = LambdaCallback(on_epoch_begin=lambda epoch, logs: epochs.append(epoch))
    history = linear().fit(
        x, y, epochs=6, initial_epoch=2, validation_data=(x, y), validation_freq=2, callbacks=[hook], verbose=0
    )
    assert epochs == history.epoch == [2, 3, 4, 5]
    assert len(history.history["loss"]) == 4 and len(history.history["val_loss"]) == 2
    history = linear().fit(x, y, epochs=4, validation_data=(x, y), validation_freq=[1, 4], verbose=0)
    assert len(history.history["val_loss"]) == 2
    assert linear().fit(x, y, epochs=0, verbose=0).history == {}


def test_validation_data_with_weights_and_its_own_batches() -> None:
    x, y = data()
    w = np.linspace(0, 2, len(x))
    model = linear()
    history = model.fit(x, y, validation_data=(x, y, w), validation_batch_size=7, verbose=0)
    assert history.history["val_loss"][0] == pytest.approx(model.evaluate(x, y, sample_weight=w, verbose=0), rel=1e-6)


# ---- masks --------------------------------------------------------------------------------------------------------


def many_to_many(loss: str, dtype: str = "float64") -> Sequential:
    model = Sequential([
        L.Embedding(9, 4, mask_zero=True, dtype=dtype),
        L.LSTM(5, return_sequences=True, dtype=dtype),
        L.Dense(3, activation="softmax", dtype=dtype),
    ])  # fmt: skip
    model.build((None, 6))
    model.compile(SGD(1.0), loss, metrics=["accuracy"])
    return model


def test_masked_steps_count_for_nothing_in_loss_gradient_and_metrics() -> None:
    rng = np.random.default_rng(3)
    x = rng.integers(1, 9, (4, 6))
    x[0, 4:] = x[1, :3] = x[2, 2] = 0
    y = rng.integers(0, 3, (4, 6))
    model = many_to_many("sparse_categorical_crossentropy")
    p = model.predict(x, verbose=0)
    keep = x != 0
    chosen = np.take_along_axis(p, y[..., None], -1)[..., 0]
    loss, accuracy = model.evaluate(x, y, verbose=0)
    assert loss == pytest.approx(-np.log(chosen[keep]).mean())
    assert accuracy == pytest.approx((p.argmax(-1) == y)[keep].mean())
    other = np.where(keep, y, (y + 1) % 3)
    for a, b in zip(step_gradients(model, x, y), step_gradients(model, x, other), strict=True):
        np.testing.assert_array_equal(a, b)
    assert model.evaluate(x, other, verbose=0) == [loss, accuracy]
    hot = many_to_many("categorical_crossentropy")
    hot.set_weights(model.get_weights())
    assert hot.evaluate(x, np.eye(3)[y], verbose=0) == pytest.approx([loss, accuracy])


def test_weights_per_step() -> None:
    rng = np.random.default_rng(3)
    x, y, w = rng.integers(1, 9, (4, 6)), rng.integers(0, 3, (4, 6)), rng.uniform(0, 2, (4, 6))
    model = many_to_many("sparse_categorical_crossentropy")
    p = np.take_along_axis(model.predict(x, verbose=0), y[..., None], -1)[..., 0]
    assert model.evaluate(x, y, sample_weight=w, verbose=0)[0] == pytest.approx((-np.log(p) * w).mean())


# ---- evaluate, predict, one batch ---------------------------------------------------------------------------------


def test_evaluate_and_predict_with_a_short_last_batch() -> None:
    x, y = data(11)
    model = linear(metrics=["mae", metrics.AUC(name="area")], activation="sigmoid", loss="bce")
    p = model.predict(x, batch_size=4, verbose=0)
    kernel, bias = model.get_weights()
    np.testing.assert_allclose(p, 1 / (1 + np.exp(-(x @ kernel + bias))), rtol=1e-5)
    figures = model.evaluate(x, y, batch_size=4, verbose=0, return_dict=True)
    assert list(figures) == ["loss", "mae", "area"] == model.metrics_names
    assert figures["loss"] == pytest.approx(losses.BinaryCrossentropy()(y, p), rel=1e-5)
    assert figures["mae"] == pytest.approx(abs(p[:, 0] - y).mean(), rel=1e-5)
    assert model.evaluate(x, y, verbose=0) == pytest.approx(list(figures.values()))
    assert isinstance(linear().evaluate(x, y, verbose=0), float)
    assert model.predict(x, batch_size=4, steps=2, verbose=0).shape == (8, 1)
    assert model.predict(x.tolist(), verbose=0).shape == (11, 1)


def test_several_outputs_can_be_predicted_but_not_trained() -> None:
    model = Sequential([L.Input((5, 2)), L.LSTM(3, return_sequences=True, return_state=True)])
    x = np.random.default_rng(0).normal(size=(7, 5, 2))
    y, h, c = model.predict(x, batch_size=3, verbose=0)
    assert y.shape == (7, 5, 3) and h.shape == c.shape == (7, 3)
    np.testing.assert_array_equal(y[:, -1], h)
    model.compile("adam", "mse")
    with pytest.raises(ValueError, match=r"\[fit\] model: expected one output, got 3"):
        model.fit(x, np.zeros((7, 3)), verbose=0)


def test_one_batch_at_a_time() -> None:
    x, y = data(6)
    model = linear(metrics=["mae"])
    before = model.get_weights()
    loss, mae = model.test_on_batch(x, y)
    assert [loss, mae] == pytest.approx(model.evaluate(x, y, verbose=0))
    assert model.train_on_batch(x, y, return_dict=True) == pytest.approx({"loss": loss, "mae": mae})
    assert not np.allclose(model.get_weights()[0], before[0])
    assert model.train_on_batch(x, y)[0] < loss
    np.testing.assert_array_equal(model.predict_on_batch(x), model.predict(x, verbose=0))
    weighted = model.test_on_batch(x, y, sample_weight=np.zeros(6))
    assert weighted[0] == 0.0


def test_frozen_layers_do_not_move_and_cost_no_backward() -> None:
    model = Sequential([L.Input((4, 3)), L.LSTM(5, return_sequences=True), L.GRU(4), L.Dense(1)])
    model.layers[0].trainable = False
    model.layers[1].trainable = False
    model.compile(SGD(0.5), "mse")
    called: list[str] = []
    for layer in model.layers:
        layer.backward = (lambda original, name: lambda g: called.append(name) or original(g))(  # type: ignore[method-assign,func-returns-value]
            layer.backward, layer.name
        )
    before = model.get_weights()
    x, y = np.random.default_rng(0).normal(size=(6, 4, 3)), np.arange(6.0)
    model.fit(x, y, verbose=0)
    moved = [not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)]
    assert moved == [False] * 6 + [True] * 2
    assert called == [model.layers[2].name] and not model.layers[2].need_grad_x
    model.trainable = True
    model.fit(x, y, verbose=0)
    assert not np.array_equal(before[0], model.get_weights()[0])


# ---- interruption -------------------------------------------------------------------------------------------------


class Interrupt(Callback):
    def __init__(self, epoch: int, batch: int) -> None:
        super().__init__()
        self.at = (epoch, batch)
        self.ended = False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if (self.epoch, batch) == self.at:
            raise KeyboardInterrupt

    def on_train_end(self, logs: Any = None) -> None:
        self.ended = True


def test_ctrl_c_ends_callbacks_and_leaves_the_last_checkpoint(tmp_path: Any) -> None:
    x, y = data(12)
    model = linear()
    path = tmp_path / "last.safetensors"
    interrupt = Interrupt(2, 1)
    kept: list[Any] = []
    keep = LambdaCallback(on_epoch_end=lambda epoch, logs: kept.append(model.get_weights()))
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, batch_size=4, epochs=9, verbose=0, callbacks=[ModelCheckpoint(path), keep, interrupt])
    assert interrupt.ended and model.interrupted and len(kept) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["last.safetensors"]
    for a, b in zip(load_model(path).get_weights(), kept[-1], strict=True):
        np.testing.assert_array_equal(a, b)


# ---- stateful -----------------------------------------------------------------------------------------------------


def stateful() -> Sequential:
    model = Sequential([L.LSTM(3, stateful=True, batch_input_shape=(4, 2, 1)), L.Dense(1)])
    model.compile("adam", "mse")
    return model


def test_stateful_models_want_their_batch_size() -> None:
    model = stateful()
    x, y = np.zeros((8, 2, 1)), np.zeros(8)
    model.fit(x, y, verbose=0, shuffle=False)  # the batch size is taken from the layers
    for call, message in [
        (lambda: model.fit(x, y, batch_size=2, verbose=0), r"\[fit\] batch_size: expected 4"),
        (lambda: model.fit(x[:6], y[:6], batch_size=4, verbose=0), r"\[fit\] x: expected a multiple of 4 samples"),
        (lambda: model.fit(x, y, validation_data=(x[:6], y[:6])), r"\[fit\] validation x: expected a multiple of 4"),
        (lambda: model.evaluate(x[:5], y[:5], verbose=0), r"\[evaluate\] x: expected a multiple of 4 samples"),
        (lambda: model.predict(x, batch_size=8, verbose=0), r"\[predict\] batch_size: expected 4"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()


def test_state_is_carried_from_batch_to_batch_until_reset() -> None:
    model = stateful()
    x = np.random.default_rng(0).normal(size=(4, 2, 1))
    first, second = model.predict(x, verbose=0), model.predict(x, verbose=0)
    assert not np.allclose(first, second)
    model.reset_states()
    np.testing.assert_array_equal(model.predict(x, verbose=0), first)
    model.reset_states()
    whole = np.concatenate([model.predict_on_batch(x), model.predict_on_batch(x)])
    np.testing.assert_array_equal(whole, np.concatenate([first, second]))


# ---- what is shown ------------------------------------------------------------------------------------------------


def test_lines_off_a_terminal_and_silence(capsys: pytest.CaptureFixture[str]) -> None:
    x, y = data()
    model = linear(metrics=["mae"])
    model.fit(x, y, epochs=2, validation_split=0.5)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert (
        lines[0].startswith("Epoch 1/2 - 1 steps - ") and "samples/s - loss: " in lines[0] and "val_mae: " in lines[0]
    )
    model.evaluate(x, y)
    assert capsys.readouterr().out.startswith("Evaluation - 1 steps")
    model.predict(x)
    for verbose in (0,):
        model.fit(x, y, verbose=verbose)
    assert capsys.readouterr().out == ""


def test_the_bar_is_drawn_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")
    from fastrnn.training import progress

    monkeypatch.setattr(progress, "_is_terminal", lambda: True)
    monkeypatch.setattr(progress, "_REFRESH", 0.0)
    drawn: list[dict[str, Any]] = []
    make = progress._make_bar

    def recorded() -> Any:
        bar = make()
        original = bar.update
        bar.update = lambda task, **fields: (drawn.append(fields), original(task, **fields))
        return bar

    monkeypatch.setattr(progress, "_make_bar", recorded)
    x, y = data(20)
    linear().fit(x, y, batch_size=5, verbose="auto")
    assert [d["completed"] for d in drawn] == [1, 2, 3, 4]
    assert "samples/s" in drawn[0]["rate"] and drawn[0]["logs"].startswith("loss: ")
