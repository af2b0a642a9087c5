"""One honest training run: encode, hold out validation data, train, go back to the best epoch, test once.

No terminal and no options here (cli.py), no tables and plots (reports.py), no architecture (zoo.py).
"""

from __future__ import annotations

import json
import math
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import zoo
from .datasets import Corpus, stratified
from .datasets.text import TextEncoder

if TYPE_CHECKING:
    from .models import Sequential

MONITOR = "val_accuracy"
_INFERENCE_BATCH = 256


class Interrupted(Exception):
    """Training was stopped by the user; `epochs` were finished and the last one's model is at `path`, if any."""

    def __init__(self, epochs: int, path: Path | None) -> None:
        self.epochs, self.path = epochs, path
        saved = f"the model of epoch {epochs} is in {path}" if epochs and path else "nothing was saved"
        done = f"after {epochs} whole epoch{'s' if epochs != 1 else ''}" if epochs else "in the first epoch"
        super().__init__(f"Interrupted {done}; {saved}.")


@dataclass
class Result:
    """The figures of one run. Accuracies: of the restored best epoch, without dropout. gap: train - validation."""

    model: str
    cell: str
    dataset: str
    dataset_title: str
    parameters: int
    train_reviews: int
    validation_reviews: int
    test_reviews: int
    epoch_seconds: list[float]
    best_epoch: int
    train_accuracy: float
    validation_accuracy: float
    test_accuracy: float
    test_loss: float
    seed: int
    settings: dict[str, Any]
    history: dict[str, list[float]] = field(repr=False)

    @property
    def gap(self) -> float:
        return self.train_accuracy - self.validation_accuracy

    @property
    def seconds_per_epoch(self) -> float:
        return sum(self.epoch_seconds) / len(self.epoch_seconds)

    @property
    def reviews_per_second(self) -> float:
        return self.train_reviews / max(self.seconds_per_epoch, 1e-9)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        derived = {name: getattr(self, name) for name in ("gap", "seconds_per_epoch", "reviews_per_second")}
        return {**asdict(self), **derived}


@dataclass(frozen=True)
class Split:
    """Padded ids (N, maxlen) int32 and labels (N,) float32 of the three parts."""

    x_train: NDArray[np.int32]
    y_train: NDArray[np.float32]
    x_validation: NDArray[np.int32]
    y_validation: NDArray[np.float32]
    x_test: NDArray[np.int32]
    y_test: NDArray[np.float32]


def split(corpus: Corpus, encoder: TextEncoder, fraction: float, seed: int) -> Split:
    """Shuffle the training half (IMDb comes sorted by label) and hold out `fraction` of it, both labels alike."""
    data = corpus.data
    total = len(data.train_labels)
    held_out = round(total * fraction)
    if not 1 <= held_out < total:
        raise ValueError(
            f"[train] validation_split: expected to leave some of {total} reviews on both sides, got {fraction}"
        )
    rng = np.random.default_rng(seed)
    # stratified() gives an order whose chosen part is in proportion; what it leaves is in proportion as well.
    validation = stratified(data.train_labels, held_out, rng)
    rest = rng.permutation(np.setdiff1d(np.arange(total), validation))
    x = encoder.encode_ranks(data.train, data.vocabulary)
    y = data.train_labels.astype(np.float32)
    return Split(
        x[rest], y[rest], x[validation], y[validation],
        encoder.encode_ranks(data.test, data.vocabulary), data.test_labels.astype(np.float32),
    )  # fmt: skip


def describe(model: str, cell: str, corpus: Corpus, settings: zoo.Settings, seed: int) -> dict[str, Any]:
    """What a saved model says about itself besides its vocabulary."""
    return {
        "model": model, "cell": cell, "dataset": corpus.name, "dataset_title": corpus.title,
        "seed": seed, "settings": asdict(settings),
    }  # fmt: skip


def make_optimizer(settings: zoo.Settings) -> Any:
    """The optimizer of the settings, gradients clipped to norm 1 so that SimpleRNN survives 400 steps."""
    from . import optimizers

    classes = {
        "adam": optimizers.Adam, "adamw": optimizers.AdamW, "rmsprop": optimizers.RMSprop, "sgd": optimizers.SGD,
    }  # fmt: skip
    return classes[settings.optimizer](learning_rate=settings.learning_rate, global_clipnorm=1.0)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C waits until the block is through, so that the saved file and the message speak of the same epoch."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread gets signals
        yield
        return
    pending: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: pending.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pending:
        raise KeyboardInterrupt


def _watcher(output: Path | None, extra: dict[str, str]) -> Any:
    from .callbacks import Callback

    class Watcher(Callback):
        """Refuses a diverged epoch before it overwrites anything, then saves the epoch."""

        finished = 0

        def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
            loss = float((logs or {}).get("loss", 0.0))
            if not math.isfinite(loss):
                raise ValueError(f"[train] loss: expected a finite number, got {loss} in epoch {epoch + 1}; "
                                 "a lower learning rate may help")  # fmt: skip
            with _uninterrupted():
                if output is not None:
                    state = f"after epoch {epoch + 1}"
                    self.model.save(output, extra={**extra, "state": state}, include_optimizer=False)
                self.finished = epoch + 1

    return Watcher()


def _accuracy(model: Sequential, x: NDArray[np.int32], y: NDArray[np.float32]) -> tuple[float, float]:
    loss, accuracy = model.evaluate(x, y, batch_size=_INFERENCE_BATCH, verbose=0)
    return float(loss), float(accuracy)


def run(
    model_name: str,
    cell: str,
    corpus: Corpus,
    settings: zoo.Settings,
    *,
    seed: int = 1,
    output: str | os.PathLike[str] | None = None,
    verbose: str | int = "auto",
) -> tuple[Sequential, Result]:
    """Train one model of the zoo. The test half is looked at once, after the best epoch has been chosen.

    output: where the model is saved, after every epoch and finally. verbose: as in `fit`.
    Raises Interrupted on Ctrl-C, ValueError for settings that make no sense or a loss that is not finite.
    """
    from .callbacks import EarlyStopping
    from .utils import set_random_seed

    set_random_seed(seed)
    encoder = TextEncoder(corpus.data.vocabulary.words, settings.vocabulary, settings.maxlen)
    parts = split(corpus, encoder, settings.validation_split, seed)
    model = zoo.build(model_name, cell, settings, vocabulary=encoder.num_words)
    model.compile(optimizer=make_optimizer(settings), loss="binary_crossentropy", metrics=["accuracy"])
    about = describe(model_name, cell, corpus, settings, seed)
    path = None if output is None else Path(output)
    extra = {"encoder": encoder.to_json(), "about": json.dumps(about)}
    watcher = _watcher(path, extra)
    stopping = EarlyStopping(monitor=MONITOR, mode="max", patience=settings.patience, restore_best_weights=True)
    try:
        history = model.fit(
            parts.x_train, parts.y_train, batch_size=settings.batch_size, epochs=settings.epochs, verbose=verbose,
            validation_data=(parts.x_validation, parts.y_validation), validation_batch_size=_INFERENCE_BATCH,
            callbacks=[watcher, stopping],
        )  # fmt: skip
        # The training figures of fit are running means with dropout; the gap needs both sides measured alike.
        _, train_accuracy = _accuracy(model, parts.x_train, parts.y_train)
        _, validation_accuracy = _accuracy(model, parts.x_validation, parts.y_validation)
        test_loss, test_accuracy = _accuracy(model, parts.x_test, parts.y_test)
    except KeyboardInterrupt:
        raise Interrupted(watcher.finished, path) from None
    result = Result(
        model=model_name, cell=cell, dataset=corpus.name, dataset_title=corpus.title,
        parameters=int(model.count_params()), train_reviews=len(parts.y_train),
        validation_reviews=len(parts.y_validation), test_reviews=len(parts.y_test),
        epoch_seconds=[float(s) for s in history.seconds], best_epoch=stopping.best_epoch + 1,
        train_accuracy=train_accuracy, validation_accuracy=validation_accuracy, test_accuracy=test_accuracy,
        test_loss=test_loss, seed=seed, settings=asdict(settings),
        history={key: [float(v) for v in values] for key, values in history.history.items()},
    )  # fmt: skip
    if path is not None:
        figures = {"best_epoch": result.best_epoch, "test_accuracy": test_accuracy}
        model.save(
            path,
            extra={**extra, "about": json.dumps({**about, **figures}), "state": "finished"},
            include_optimizer=False,
        )
    return model, result


@dataclass(frozen=True)
class Trained:
    """A model file opened again, with what it needs to read text."""

    model: Sequential
    encoder: TextEncoder
    about: dict[str, Any]

    def probabilities(self, texts: list[str]) -> NDArray[np.float64]:
        """(N,) probability that each text is positive."""
        output = self.model.predict(self.encoder.encode(texts), batch_size=_INFERENCE_BATCH, verbose=0)
        return np.asarray(output, dtype=np.float64).reshape(-1)

    def evaluate(self, corpus: Corpus) -> tuple[float, float]:
        """(loss, accuracy) on the test half of the corpus."""
        data = corpus.data
        x = self.encoder.encode_ranks(data.test, data.vocabulary)
        return _accuracy(self.model, x, data.test_labels.astype(np.float32))


def open_trained(path: str | os.PathLike[str]) -> Trained:
    """A model saved by `run`; ValueError for any other file."""
    from .models import load_model

    model = load_model(path)
    extra: dict[str, str] = getattr(model, "extra", None) or {}
    try:
        encoder, about = TextEncoder.from_json(extra["encoder"]), json.loads(extra["about"])
        if not {"model", "cell", "dataset", "dataset_title"} <= set(about):
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise ValueError(
            f"[load_model] path: expected a model saved by `fastrnn train`, got one without its vocabulary: {path}"
        ) from None
    if model.optimizer is None:
        model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
    return Trained(model, encoder, about)
