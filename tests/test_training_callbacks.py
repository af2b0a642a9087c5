"""Callbacks, each driven by figures made up for the purpose or by a small run."""

from __future__ import annotations

import csv
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastrnn.callbacks import (
    BackupAndRestore,
    Callback,
    CSVLogger,
    EarlyStopping,
    LambdaCallback,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
    TensorBoard,
    TerminateOnNaN,
)
from fastrnn.models import Sequential, load_model
from fastrnn.optimizers import SGD, Adam, schedules
from model_tools import data, linear


class Fake:
    """A model that only has what callbacks touch."""

    def __init__(self) -> None:
        self.stop_training = False
        self.weights = 0
        self.optimizer = SGD(1.0)
        self.saved: list[str] = []

    def get_weights(self) -> list[int]:
        return [self.weights]

    def set_weights(self, weights: list[int]) -> None:
        self.weights = weights[0]

    def save(self, path: str) -> None:
        self.saved.append(path)

    def save_weights(self, path: str) -> None:
        self.saved.append("weights:" + path)


def drive(callback: Callback, figures: Sequence[float], name: str = "val_loss") -> tuple[Fake, int]:
    """Run the hooks over made-up epochs until training is stopped; the number of epochs done."""
    model = Fake()
    callback.set_model(model)
    callback.set_params({})
    callback.on_train_begin()
    done = 0
    for epoch, figure in enumerate(figures):
        callback.on_epoch_begin(epoch)
        model.weights = epoch
        done += 1
        callback.on_epoch_end(epoch, {name: figure})
        if model.stop_training:
            break
    callback.on_train_end()
    return model, done


@pytest.mark.parametrize(
    ("options", "figures", "epochs"),
    [
        ({}, [3, 2, 2.5, 1], 3),
        ({"patience": 2}, [3, 2, 2.5, 2.4, 1], 4),
        ({"patience": 2}, [3, 2, 2.5, 1.9, 2, 2, 2], 6),
        ({"min_delta": 0.5}, [3, 2, 1.6, 1], 3),
        ({"mode": "max"}, [3, 4, 5, 4, 9], 4),
        ({"baseline": 1.0, "patience": 2}, [3, 2.9, 2.95, 2.7], 3),
        ({"baseline": 2.95, "patience": 2}, [3, 2.9, 2.95, 2.7], 4),
        ({"start_from_epoch": 3}, [1, 2, 3, 4, 5, 6], 5),
    ],
)
def test_early_stopping(options: dict[str, Any], figures: list[float], epochs: int) -> None:
    assert drive(EarlyStopping(**options), figures)[1] == epochs


def test_early_stopping_takes_the_best_weights_back() -> None:
    figures = [3, 1, 2, 2.5, 0]
    model, done = drive(EarlyStopping(patience=2, restore_best_weights=True), figures)
    assert done == 4 and model.weights == 1
    assert drive(EarlyStopping(patience=2), figures)[0].weights == 3
    model, done = drive(EarlyStopping(patience=9, restore_best_weights=True), figures[:4])
    assert done == 4 and model.weights == 1  # also when nothing stopped the training


@pytest.mark.parametrize("monitor", ["val_accuracy", "auc", "val_f1_score", "precision"])
def test_the_direction_is_guessed_from_the_name(monitor: str) -> None:
    assert drive(EarlyStopping(monitor), [0.5, 0.6, 0.7, 0.6], monitor)[1] == 4
    assert drive(EarlyStopping(monitor), [0.5, 0.4], monitor)[1] == 2
    assert drive(EarlyStopping(monitor, mode="min"), [0.5, 0.4, 0.3, 0.4], monitor)[1] == 4


def test_a_missing_figure_is_said_once() -> None:
    with pytest.warns(UserWarning, match=r"\[EarlyStopping\] monitor: expected one of loss, got 'val_loss'") as caught:
        assert drive(EarlyStopping(), [3, 2, 5, 6], "loss")[1] == 4
    assert len(caught) == 1


def test_checkpoint_names_and_choice(tmp_path: Path) -> None:
    name = str(tmp_path / "sub" / "m-{epoch:02d}-{val_loss:.1f}.safetensors")
    model, _ = drive(ModelCheckpoint(name), [3, 2, 2.5])
    assert [Path(p).name for p in model.saved] == [
        f"m-0{k}-{v}.safetensors" for k, v in ((1, "3.0"), (2, "2.0"), (3, "2.5"))
    ]
    assert (tmp_path / "sub").is_dir()
    model, _ = drive(ModelCheckpoint(name, save_best_only=True, save_weights_only=True), [3, 2, 2.5, 1])
    assert [Path(p).name[:4] for p in model.saved] == ["m-01", "m-02", "m-04"] and model.saved[0].startswith("weights:")
    model, _ = drive(ModelCheckpoint(name, save_best_only=True, initial_value_threshold=2.2), [3, 2, 2.5])
    assert len(model.saved) == 1
    with pytest.raises(ValueError, match=r"\[ModelCheckpoint\] filepath: expected names among epoch, loss"):
        drive(ModelCheckpoint("{val_loss}"), [1.0], "loss")


@pytest.mark.parametrize("name", ["best.keras", "best.h5", "w.weights.h5"])
def test_checkpoints_do_not_pretend_to_be_keras_files(name: str) -> None:
    with pytest.raises(ValueError, match=r"\[ModelCheckpoint\] filepath: expected .*\.safetensors, got"):
        ModelCheckpoint(name)


def test_checkpoints_hold_the_model_of_their_epoch(tmp_path: Path) -> None:
    x, y = data()
    model = linear()
    kept: list[Any] = []
    model.fit(
        x, y, epochs=3, batch_size=5, verbose=0,
        callbacks=[
            ModelCheckpoint(tmp_path / "{epoch}.st"),
            ModelCheckpoint(tmp_path / "batch-{epoch}-{batch}.st", save_freq=3),
            LambdaCallback(on_epoch_end=lambda epoch, logs: kept.append(model.get_weights())),
        ],
    )  # fmt: skip
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        ["1.st", "2.st", "3.st", "batch-1-3.st", "batch-2-2.st", "batch-3-1.st", "batch-3-4.st"]
    )
    for k in range(3):
        for a, b in zip(load_model(tmp_path / f"{k + 1}.st").get_weights(), kept[k], strict=True):
            np.testing.assert_array_equal(a, b)


def rates(callback: Callback, figures: Sequence[float]) -> list[float]:
    model = Fake()
    callback.set_model(model)
    callback.on_train_begin()
    result = []
    for epoch, figure in enumerate(figures):
        logs = {"val_loss": figure}
        callback.on_epoch_begin(epoch)
        callback.on_epoch_end(epoch, logs)
        result.append(float(model.optimizer.learning_rate))
    return result


def test_reduce_on_plateau() -> None:
    assert rates(ReduceLROnPlateau(factor=0.5, patience=2), [3, 2, 2, 2, 2, 2]) == [1, 1, 1, 0.5, 0.5, 0.25]
    assert rates(ReduceLROnPlateau(factor=0.5, patience=1, cooldown=2), [1] * 7) == [
        1,
        0.5,
        0.5,
        0.25,
        0.25,
        0.125,
        0.125,
    ]
    assert rates(ReduceLROnPlateau(factor=0.1, patience=1, min_lr=0.05), [1] * 4) == [1, 0.1, 0.05, 0.05]
    assert rates(ReduceLROnPlateau(factor=0.5, patience=1, min_delta=0.5), [3, 2.8, 2.6]) == [1, 0.5, 0.25]
    with pytest.raises(ValueError, match=r"\[ReduceLROnPlateau\] factor: expected a number in \[0, 1\), got 1.0"):
        ReduceLROnPlateau(factor=1.0)


def test_scheduler_with_and_without_the_rate() -> None:
    assert rates(LearningRateScheduler(lambda epoch: 1.0 / (epoch + 1)), [0] * 3) == pytest.approx([1, 1 / 2, 1 / 3])
    assert rates(LearningRateScheduler(lambda epoch, lr: lr * 0.5), [0] * 3) == [0.5, 0.25, 0.125]
    history = linear().fit(*data(), epochs=2, verbose=0, callbacks=[LearningRateScheduler(lambda epoch: 0.25)])
    assert history.history["learning_rate"] == [0.25, 0.25]


def test_callbacks_cannot_set_the_rate_of_a_schedule() -> None:
    model = linear(optimizer=SGD(schedules.ExponentialDecay(0.1, 1, 0.5)))
    with pytest.raises(TypeError, match="expected a schedule"):
        model.fit(*data(), verbose=0, callbacks=[LearningRateScheduler(lambda epoch: 0.1)])


def test_csv_logger(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    x, y = data()
    model = linear(metrics=["mae"])
    history = model.fit(
        x, y, epochs=3, validation_data=(x, y), validation_freq=2, verbose=0, callbacks=[CSVLogger(path)]
    )
    model.fit(x, y, epochs=1, verbose=0, callbacks=[CSVLogger(path, append=True)])
    rows = list(csv.DictReader(path.open()))
    assert [r["epoch"] for r in rows] == ["0", "1", "2", "0"]
    assert [float(r["loss"]) for r in rows[:3]] == history.history["loss"]
    assert [r["val_mae"] == "NA" for r in rows[:3]] == [True, False, True]
    lines = path.read_text().splitlines()
    assert lines[0] == "epoch,loss,mae,val_loss,val_mae" and sum(line.startswith("epoch") for line in lines) == 1


def test_terminate_on_nan(capsys: pytest.CaptureFixture[str]) -> None:
    x, y = data(40)
    model = linear(optimizer=SGD(1e30))
    with np.errstate(all="ignore"):
        history = model.fit(x, y, batch_size=4, epochs=5, verbose=0, callbacks=[TerminateOnNaN()])
    assert history.epoch == [0] and history.samples[0] < 40
    assert "training stops" in capsys.readouterr().out


def test_lambda_callback_refuses_what_is_no_hook() -> None:
    with pytest.raises(TypeError, match=r"\[LambdaCallback\] on_epoch_finish: expected the name of a hook"):
        LambdaCallback(on_epoch_finish=print)


def test_every_hook_in_its_place() -> None:
    called: list[str] = []
    names = [n for n in dir(Callback) if n.startswith("on_") and not n.startswith("on_batch")]

    def noting(name: str) -> Any:
        return lambda *args: called.append(name[3:])

    spy = LambdaCallback(**{name: noting(name) for name in names})
    x, y = data(8)
    model = linear()
    model.fit(x, y, batch_size=4, verbose=0, validation_data=(x, y), callbacks=[spy])
    batch = ["train_batch_begin", "train_batch_end"]
    test = ["test_begin", *["test_batch_begin", "test_batch_end"] * 2, "test_end"]
    assert called == ["train_begin", "epoch_begin", *batch * 2, *test, "epoch_end", "train_end"]
    called.clear()
    model.predict(x, batch_size=4, verbose=0, callbacks=[spy])
    assert called == ["predict_begin", *["predict_batch_begin", "predict_batch_end"] * 2, "predict_end"]
    called.clear()
    model.evaluate(x, y, batch_size=4, verbose=0, callbacks=spy)
    assert called == test


def test_a_class_with_the_older_batch_hooks_and_without_init() -> None:
    class Older(Callback):
        def __init__(self) -> None:
            self.losses: list[float] = []

        def on_batch_end(self, batch: int, logs: Any = None) -> None:
            self.losses.append(logs["loss"])

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if epoch == 1:
                self.model.stop_training = True

    older = Older()
    history = linear().fit(*data(10), batch_size=5, epochs=9, verbose=0, callbacks=[older])
    assert len(older.losses) == 4 and history.epoch == [0, 1]
    assert older.losses[3] == history.history["loss"][1] and older.params["epochs"] == 9


def resumable() -> Sequential:
    return linear(optimizer=Adam(0.05))


def test_backup_and_restore_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    x, y = data()

    def run(model: Sequential, callbacks: list[Any]) -> Any:
        return model.fit(x, y, epochs=5, batch_size=7, shuffle=False, verbose=0, callbacks=callbacks)

    straight = resumable()
    whole = run(straight, [])

    def stop(epoch: int, logs: Any) -> None:
        if epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(resumable(), [BackupAndRestore(tmp_path), LambdaCallback(on_epoch_begin=stop)])
    assert [p.name for p in tmp_path.iterdir()] == ["latest.safetensors"]
    resumed = resumable()
    rest = run(resumed, [BackupAndRestore(tmp_path)])
    assert rest.epoch == [3, 4]
    assert rest.history["loss"] == pytest.approx(whole.history["loss"][3:], rel=1e-12)
    for a, b in zip(straight.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not list(tmp_path.iterdir())


def test_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[str, str, float, int]] = []

    class SummaryWriter:
        def __init__(self, folder: str) -> None:
            self.folder = Path(folder).name

        def add_scalar(self, tag: str, value: float, step: int) -> None:
            written.append((self.folder, tag, value, step))

        def close(self) -> None:
            pass

    x, y = data()
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match="pip install tensorboardX"):
        linear().fit(x, y, verbose=0, callbacks=[TensorBoard(tmp_path)])
    module = types.ModuleType("tensorboardX")
    module.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorboardX", module)
    history = linear().fit(x, y, verbose=0, validation_data=(x, y), callbacks=[TensorBoard(tmp_path, histogram_freq=1)])
    assert written == [
        ("train", "epoch_loss", history.history["loss"][0], 0),
        ("validation", "epoch_loss", history.history["val_loss"][0], 0),
    ]
