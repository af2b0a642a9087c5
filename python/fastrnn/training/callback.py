"""Callback: the hooks a training run offers, and the list that calls them. The ready-made ones are in callbacks.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

Logs: TypeAlias = dict[str, Any]


class Callback:
    """Base class: override the hooks you need. `self.model` and `self.params` are set before training.

    Epochs and batches count from 0. `logs` holds the running means of the epoch so far.
    """

    def __init__(self) -> None:
        self.model: Any = None
        self.params: dict[str, Any] = {}

    def set_model(self, model: Any) -> None:
        """Called by the model before anything else."""
        self.model = model

    def set_params(self, params: dict[str, Any]) -> None:
        """Called with epochs, steps and verbose."""
        self.params = params

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Before the first epoch."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """After the last epoch."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Before each epoch."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """After each epoch and its validation; `logs` has loss, metrics, and `val_loss` ... if it was validated."""

    def on_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Older name of `on_train_batch_begin`."""

    def on_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Older name of `on_train_batch_end`."""

    # the older name of the two above still reaches a class that overrides only that
    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before each batch of `fit`."""
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After each batch of `fit`."""
        self.on_batch_end(batch, logs)

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Before `evaluate`, or the validation of an epoch."""

    def on_test_end(self, logs: Logs | None = None) -> None:
        """After it."""

    def on_test_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before each batch of it."""

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After each batch of it."""

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """Before `predict`."""

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """After `predict`."""

    def on_predict_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before each batch of `predict`."""

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After each batch of `predict`."""


_OLDER = {"on_train_batch_begin": "on_batch_begin", "on_train_batch_end": "on_batch_end"}


def _overrides(callback: Any, hook: str) -> bool:
    """Does the callback do anything at this hook? An instance may carry a function of its own (LambdaCallback)."""
    for name in (hook, _OLDER.get(hook, hook)):
        if name in vars(callback) or getattr(type(callback), name, None) is not getattr(Callback, name):
            return hasattr(callback, name)
    return False


class CallbackList:
    """Calls each hook of several callbacks, in order. Batch hooks cost nothing where nobody overrides them."""

    def __init__(self, callbacks: Iterable[Any], model: Any, params: dict[str, Any]) -> None:
        self.callbacks = list(callbacks)
        for callback in self.callbacks:
            callback.set_model(model)
            callback.set_params(params)
        self._hooks: dict[str, list[Any]] = {}

    def wants(self, hook: str) -> list[Any]:
        """The callbacks that do something at this hook."""
        if hook not in self._hooks:
            self._hooks[hook] = [c for c in self.callbacks if _overrides(c, hook)]
        return self._hooks[hook]

    def call(self, hook: str, logs: Logs | None = None) -> None:
        for callback in self.wants(hook):
            getattr(callback, hook)(logs)

    def epoch(self, hook: str, epoch: int, logs: Logs | None = None) -> None:
        for callback in self.wants(hook):
            getattr(callback, hook)(epoch, logs)

    def batch(self, hook: str, batch: int, logs: Callable[[], Logs] | None = None) -> None:
        """`logs` is a function, called only if somebody listens."""
        listeners = self.wants(hook)
        if listeners:
            values = {} if logs is None else logs()
            for callback in listeners:
                getattr(callback, hook)(batch, values)


def as_callbacks(op: str, callbacks: Any) -> list[Any]:
    """The `callbacks` argument as a list: None, one, or several."""
    if callbacks is None:
        return []
    given = list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]
    for callback in given:
        if isinstance(callback, type) or not hasattr(callback, "set_model"):
            raise TypeError(f"[{op}] callbacks: expected Callback objects, got {callback!r}")
    return given
