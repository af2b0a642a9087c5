"""The ready-made callbacks, with Keras's names and arguments."""

from __future__ import annotations

import csv
import inspect
import math
import os
import warnings
from collections.abc import Callable
from typing import Any, TextIO

import numpy as np

from . import checks
from .callback import Callback, Logs

__all__ = [
    "BackupAndRestore", "CSVLogger", "Callback", "EarlyStopping", "History", "LambdaCallback", "LearningRateScheduler",
    "ModelCheckpoint", "ReduceLROnPlateau", "TensorBoard", "TerminateOnNaN",
]  # fmt: skip

_RISING = ("acc", "auc", "precision", "recall", "f1", "true_positives", "true_negatives", "cosine")


class History(Callback):
    """What `fit` returns: `history` (a list per figure), `epoch`, and each epoch's training `seconds` and `samples`.

    `seconds` is without validation and callbacks.
    """

    def __init__(self) -> None:
        super().__init__()
        self.history: dict[str, list[Any]] = {}
        self.epoch: list[int] = []
        self.seconds: list[float] = []
        self.samples: list[int] = []

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.epoch.append(epoch)
        for key, value in (logs or {}).items():
            self.history.setdefault(key, []).append(value)


class _Monitor(Callback):
    """What the callbacks that watch one figure share."""

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0) -> None:
        super().__init__()
        op = type(self).__name__
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"[{op}] mode: expected 'auto', 'min' or 'max', got {mode!r}")
        if not isinstance(monitor, str):
            raise TypeError(f"[{op}] monitor: expected the name of a figure, got {monitor!r}")
        self.monitor = monitor
        self.mode = mode
        self.min_delta = abs(checks.number(op, "min_delta", min_delta))
        rising = mode == "max" or (mode == "auto" and any(word in monitor.lower() for word in _RISING))
        self._sign = 1.0 if rising else -1.0
        self._warned = False

    def _worst(self) -> float:
        return -self._sign * math.inf

    def _better(self, value: float, than: float) -> bool:
        return self._sign * (value - than) > self.min_delta

    def _value(self, logs: Logs | None) -> float | None:
        value = (logs or {}).get(self.monitor)
        if value is None:
            if not self._warned:
                names = ", ".join(logs or {}) or "nothing"
                warnings.warn(
                    f"[{type(self).__name__}] monitor: expected one of {names}, got {self.monitor!r}; it does nothing",
                    stacklevel=2,
                )
            self._warned = True
            return None
        return float(np.mean(value))


class EarlyStopping(_Monitor):
    """Stop when `monitor` has not improved by `min_delta` for `patience` epochs; restore the best if asked."""

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience = checks.integer("EarlyStopping", "patience", patience, 0)
        self.verbose = verbose
        self.baseline = None if baseline is None else checks.number("EarlyStopping", "baseline", baseline)
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = checks.integer("EarlyStopping", "start_from_epoch", start_from_epoch, 0)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.wait = 0
        self.stopped_epoch = 0
        self.best = self._worst()
        self.best_epoch = 0
        self.best_weights: list[Any] | None = None

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        value = self._value(logs)
        if value is None or epoch < self.start_from_epoch:
            return
        if self.restore_best_weights and self.best_weights is None:
            self.best_weights = self.model.get_weights()
            self.best_epoch = epoch
        self.wait += 1
        if self._better(value, self.best):
            self.best, self.best_epoch = value, epoch
            if self.restore_best_weights:
                self.best_weights = self.model.get_weights()
            if self.baseline is None or self._better(value, self.baseline):
                self.wait = 0
            return
        if self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self.stopped_epoch > 0 and self.verbose:
            print(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.restore_best_weights and self.best_weights is not None:
            if self.verbose:
                print(f"Restoring the weights of the best epoch: {self.best_epoch + 1}")
            self.model.set_weights(self.best_weights)


class ModelCheckpoint(_Monitor):
    """Save the model (or its weights) after each epoch, or every `save_freq` batches.

    `filepath` may hold names: "model-{epoch:02d}-{val_loss:.3f}.safetensors". Each file is written whole or not at all.
    """

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
    ) -> None:
        super().__init__(monitor, mode)
        from .. import saving

        self.filepath = saving.check_suffix("ModelCheckpoint", filepath)
        self.verbose = verbose
        self.save_best_only = save_best_only
        self.save_weights_only = save_weights_only
        self.save_freq = save_freq
        if save_freq != "epoch":
            checks.integer("ModelCheckpoint", "save_freq", save_freq, 1)
        self.best = self._worst() if initial_value_threshold is None else initial_value_threshold
        self._batches = 0
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self._batches += 1
        if self.save_freq != "epoch" and self._batches % int(self.save_freq) == 0:
            self._save(self._epoch, batch, logs)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self.save_freq == "epoch":
            self._save(epoch, None, logs)

    def _save(self, epoch: int, batch: int | None, logs: Logs | None) -> None:
        if self.save_best_only:
            value = self._value(logs)
            if value is None or not self._better(value, self.best):
                return
            self.best = value
        path = self._path(epoch, batch, logs or {})
        folder = os.path.dirname(path)
        if folder:
            os.makedirs(folder, exist_ok=True)
        if self.save_weights_only:
            self.model.save_weights(path)
        else:
            self.model.save(path)
        if self.verbose:
            print(f"Epoch {epoch + 1}: saved {path}")

    def _path(self, epoch: int, batch: int | None, logs: Logs) -> str:
        names = {"epoch": epoch + 1, **({} if batch is None else {"batch": batch + 1}), **logs}
        try:
            return self.filepath.format(**names)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise ValueError(
                f"[ModelCheckpoint] filepath: expected names among {', '.join(names)}, got {self.filepath!r} ({error})"
            ) from None


class ReduceLROnPlateau(_Monitor):
    """Multiply the learning rate by `factor` when `monitor` has not improved for `patience` epochs."""

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        op = "ReduceLROnPlateau"
        self.factor = checks.number(op, "factor", factor, "fraction")
        self.patience = checks.integer(op, "patience", patience, 0)
        self.cooldown = checks.integer(op, "cooldown", cooldown, 0)
        self.min_lr = checks.number(op, "min_lr", min_lr, "non-negative")
        self.verbose = verbose

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.wait = self.cooldown_counter = 0
        self.best = self._worst()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        rate = float(self.model.optimizer.learning_rate)
        if logs is not None:
            logs["learning_rate"] = rate
        value = self._value(logs)
        if value is None:
            return
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.wait = 0
        if self._better(value, self.best):
            self.best = value
            self.wait = 0
        elif self.cooldown_counter <= 0:
            self.wait += 1
            if self.wait >= self.patience and rate > self.min_lr:
                new = max(rate * self.factor, self.min_lr)
                self.model.optimizer.learning_rate = new
                if self.verbose:
                    print(f"Epoch {epoch + 1}: learning rate reduced to {new:g}")
                self.cooldown_counter = self.cooldown
                self.wait = 0


class LearningRateScheduler(Callback):
    """Set the learning rate before each epoch to `schedule(epoch, rate)` (or `schedule(epoch)`)."""

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        super().__init__()
        self.schedule = schedule
        self.verbose = verbose
        try:
            inspect.signature(schedule).bind(0, 0.0)
            self._takes_rate = True
        except TypeError:
            self._takes_rate = False

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        rate = float(self.model.optimizer.learning_rate)
        rate = self.schedule(epoch, rate) if self._takes_rate else self.schedule(epoch)
        self.model.optimizer.learning_rate = float(rate)
        if self.verbose:
            print(f"Epoch {epoch + 1}: learning rate set to {float(rate):g}")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if logs is not None:
            logs["learning_rate"] = float(self.model.optimizer.learning_rate)


class CSVLogger(Callback):
    """One row per epoch in a CSV file."""

    def __init__(self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False) -> None:
        super().__init__()
        self.filename = os.fspath(filename)
        self.separator = separator
        self.append = append
        self._file: TextIO | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._keys: list[str] | None = None
        self._header = not (self.append and os.path.exists(self.filename) and os.path.getsize(self.filename) > 0)
        self._file = open(self.filename, "a" if self.append else "w", newline="", encoding="utf-8")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        assert self._file is not None
        logs = logs or {}
        if self._keys is None:
            # figures of later epochs only (validation_freq) have their column from the start
            names = getattr(self.model, "metrics_names", [])
            self._keys = sorted({*logs, *(f"val_{n}" for n in names if self.params.get("do_validation"))})
        writer = csv.writer(self._file, delimiter=self.separator)
        if self._header:
            writer.writerow(["epoch", *self._keys])
            self._header = False
        writer.writerow([epoch, *(logs.get(key, "NA") for key in self._keys)])
        self._file.flush()

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class TerminateOnNaN(Callback):
    """Stop as soon as the loss is not finite."""

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(loss):
            print(f"Batch {batch}: the loss is {loss}, training stops")
            self.model.stop_training = True


class LambdaCallback(Callback):
    """Hooks given as functions: `LambdaCallback(on_epoch_end=lambda epoch, logs: ...)`."""

    def __init__(self, **hooks: Callable[..., Any] | None) -> None:
        super().__init__()
        for name, function in hooks.items():
            if not name.startswith("on_") or not hasattr(Callback, name):
                raise TypeError(f"[LambdaCallback] {name}: expected the name of a hook, got an unexpected keyword")
            if function is not None:
                setattr(self, name, function)


class BackupAndRestore(Callback):
    """Save weights, optimizer and epoch after each epoch; the same script, started again, goes on from there."""

    def __init__(
        self, backup_dir: str | os.PathLike[str], save_freq: str = "epoch", delete_checkpoint: bool = True
    ) -> None:
        super().__init__()
        if save_freq != "epoch":
            raise ValueError(f"[BackupAndRestore] save_freq: expected 'epoch', got {save_freq!r}")
        self.path = os.path.join(os.fspath(backup_dir), "latest.safetensors")
        self.delete_checkpoint = delete_checkpoint

    def on_train_begin(self, logs: Logs | None = None) -> None:
        if os.path.exists(self.path):
            from .. import saving

            extra = saving.restore(self.model, self.path)
            self.model.initial_epoch = int(extra["epoch"])

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        self.model.save(self.path, extra={"epoch": str(epoch + 1)})

    def on_train_end(self, logs: Logs | None = None) -> None:
        # an interrupted run is what the backup is for
        if self.delete_checkpoint and not self.model.interrupted and os.path.exists(self.path):
            os.remove(self.path)


class TensorBoard(Callback):
    """Write the figures of each epoch for TensorBoard, through tensorboardX. Other arguments of Keras's are ignored."""

    def __init__(self, log_dir: str | os.PathLike[str] = "logs", **_: Any) -> None:
        super().__init__()
        self.log_dir = os.fspath(log_dir)
        self._writers: dict[str, Any] = {}

    def on_train_begin(self, logs: Logs | None = None) -> None:
        try:
            from tensorboardX import SummaryWriter  # type: ignore[import-not-found,unused-ignore]
        except ImportError:
            raise ImportError(
                "[TensorBoard] tensorboardX: expected it to be installed (pip install tensorboardX), got no such module"
            ) from None
        self._writers = {part: SummaryWriter(os.path.join(self.log_dir, part)) for part in ("train", "validation")}

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        for key, value in (logs or {}).items():
            part, name = ("validation", key[4:]) if key.startswith("val_") else ("train", key)
            self._writers[part].add_scalar(f"epoch_{name}", float(np.mean(value)), epoch)

    def on_train_end(self, logs: Logs | None = None) -> None:
        for writer in self._writers.values():
            writer.close()
