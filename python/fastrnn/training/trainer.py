"""Trainer: the training half of a model (compile, fit, evaluate, predict, one step). Layers are models.py's."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import loop
from .callbacks import History
from .compiled import Compiled
from .data import Preparer
from .loss import Array
from .metric import Metric
from .optimizer import Optimizer

# Keras arguments that decide how TensorFlow runs things; here they have nothing to decide.
_COMPILE_IGNORED = {"run_eagerly", "steps_per_execution", "jit_compile", "auto_scale_loss", "from_serialized"}
_RUN_IGNORED = {"max_queue_size", "workers", "use_multiprocessing"}


def _check_ignored(op: str, given: dict[str, Any], known: set[str]) -> None:
    for name in given:
        if name not in known:
            raise TypeError(f"[{op}] {name}: expected a known argument, got an unexpected keyword")


class Trainer:
    """Mixed into Sequential, which brings `layers`, `infer_shape` and `convert_input`."""

    layers: list[Any]
    stop_training: bool = False
    interrupted: bool = False
    initial_epoch: int = 0
    history: History | None = None

    _compiled: Compiled | None = None
    _step_variables: list[Any]
    _lowest: int
    _penalised: list[Any]
    _fused: bool

    # ---- compile --------------------------------------------------------------------------------------------------

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        **ignored: Any,
    ) -> None:
        """Choose optimizer, loss and metrics: names, classes, objects or {"class_name", "config"}.

        `metrics` follow the loss in the figures; "accuracy" means binary, sparse or categorical by the shapes.
        `weighted_metrics` are the ones sample and class weights count for. Arguments that only concern TensorFlow
        (run_eagerly, jit_compile, steps_per_execution) are accepted and change nothing.
        """
        _check_ignored("compile", ignored, _COMPILE_IGNORED)
        if loss_weights not in (None, 1, 1.0, [1], [1.0]):
            raise ValueError(f"[compile] loss_weights: expected None (there is one output), got {loss_weights!r}")
        self._compiled = Compiled(optimizer, loss, metrics, weighted_metrics)

    def compiled(self, op: str) -> Compiled:
        """What `compile` made; RuntimeError if it was not called or had no loss."""
        if self._compiled is None:
            raise RuntimeError(f"[{op}] model: expected a compiled model, got one without compile(optimizer, loss)")
        if self._compiled.loss is None:
            raise ValueError(f"[{op}] loss: expected compile(..., loss=...), got None")
        return self._compiled

    @property
    def optimizer(self) -> Optimizer | None:
        """The optimizer given to `compile`, or None."""
        return None if self._compiled is None else self._compiled.optimizer

    @property
    def loss(self) -> Any:
        """The loss given to `compile`, or None."""
        return None if self._compiled is None else self._compiled.loss

    @property
    def metrics(self) -> list[Metric]:
        """The metrics given to `compile`."""
        return [] if self._compiled is None else self._compiled.all_metrics

    @property
    def metrics_names(self) -> list[str]:
        """The names of what `evaluate` returns, in order; "loss" is the first."""
        return [] if self._compiled is None else self._compiled.names

    # ---- to be given by the model ---------------------------------------------------------------------------------

    def infer_shape(self, op: str, x: Array) -> tuple[int | None, ...]:
        raise NotImplementedError

    def convert_input(self, op: str, x: Array) -> Array:
        raise NotImplementedError

    def run(self, x: Array, training: bool) -> tuple[Any, Array | None]:
        raise NotImplementedError

    # ---- the three loops ------------------------------------------------------------------------------------------

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: Any = True,
        class_weight: dict[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: Any = 1,
        **ignored: Any,
    ) -> History:
        """Train. Returns the History: `.history` (a list per figure), `.epoch`, `.seconds`, `.samples`.

        x: (N, ...) array with y (N, ...), or an iterable (generator, PyDataset, list) of batches (x, y[, weight]).
        batch_size 32. `validation_split` keeps the last samples apart, before shuffling; `validation_data` is
        (x, y[, weight]) or an iterable. `class_weight` {class: weight} and `sample_weight` (N,) or one per position act
        on the loss and on weighted metrics. `epochs` is the number of the last epoch: training starts after
        `initial_epoch`. The figures of an epoch are means over its batches, as they were when each was met.
        """
        _check_ignored("fit", ignored, _RUN_IGNORED)
        return loop.fit(
            self, x, y, batch_size=batch_size, epochs=epochs, verbose=verbose, callbacks=callbacks,
            validation_split=validation_split, validation_data=validation_data, shuffle=shuffle,
            class_weight=class_weight, sample_weight=sample_weight, initial_epoch=initial_epoch,
            steps_per_epoch=steps_per_epoch, validation_steps=validation_steps,
            validation_batch_size=validation_batch_size, validation_freq=validation_freq,
        )  # fmt: skip

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        return_dict: bool = False,
        **ignored: Any,
    ) -> Any:
        """The loss and the metrics over x, y: a list (a number if there are no metrics) or, asked for, a dictionary."""
        _check_ignored("evaluate", ignored, _RUN_IGNORED)
        logs = loop.evaluate(
            self, x, y, batch_size=batch_size, verbose=verbose, sample_weight=sample_weight, steps=steps,
            callbacks=callbacks,
        )  # fmt: skip
        return _figures(logs, return_dict)

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: Any = "auto",
        steps: int | None = None,
        callbacks: Any = None,
        **ignored: Any,
    ) -> Any:
        """The outputs for x (N, ...) or an iterable of batches: (N, ...), or a list if the last layer gives several."""
        _check_ignored("predict", ignored, _RUN_IGNORED)
        return loop.predict(self, x, batch_size=batch_size, verbose=verbose, steps=steps, callbacks=callbacks)

    # ---- one batch ------------------------------------------------------------------------------------------------

    def train_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, class_weight: Any = None, return_dict: bool = False
    ) -> Any:
        """One step on one batch; the figures are of this batch alone."""
        compiled = self.compiled("train_on_batch")
        batch = self._prepare("train_on_batch", class_weight)(x, y, sample_weight)
        compiled.reset()
        self.prepare_backward()
        self.train_step(*batch)
        return _figures(compiled.logs(), return_dict)

    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False) -> Any:
        """The figures of one batch."""
        compiled = self.compiled("test_on_batch")
        batch = self._prepare("test_on_batch")(x, y, sample_weight)
        compiled.reset()
        self.test_step(*batch)
        return _figures(compiled.logs(), return_dict)

    def predict_on_batch(self, x: Any) -> Any:
        """The outputs for one batch."""
        op = "predict_on_batch"
        batch = Preparer(op, self.convert_input, self.infer_shape, None)(x)
        return self.run(batch.x, training=False)[0]

    def _prepare(self, op: str, class_weight: Any = None) -> Preparer:
        return Preparer(op, self.convert_input, self.infer_shape, self.compiled(op).loss, class_weight, finite=True)

    def prepare_backward(self) -> None:
        """Find out what a step has to do: which weights move, how far gradients go, which layers have penalties."""
        self._step_variables = []
        self._lowest = len(self.layers)
        for index, layer in enumerate(self.layers):
            # nothing below wants this layer's gradient of x
            layer.need_grad_x = bool(self._step_variables)
            weights = layer.trainable_weights
            if weights and not self._step_variables:
                self._lowest = index
            self._step_variables += weights
        self._penalised = [layer for layer in self.layers if _has_penalty(layer)]
        loss = self._compiled.loss if self._compiled is not None else None
        self._fused = loss is not None and loss.fuses is not None and loss.fuses == _last_activation(self.layers)

    def train_step(self, x: Array, y: Any, weight: Array | None) -> None:
        """Forward, loss, backward, penalties, optimizer; counts the batch in the running figures."""
        compiled = self.compiled("fit")
        assert compiled.loss is not None
        pred, mask = self.run(x, training=True)
        loss, grad = compiled.loss.value_and_grad(y, pred, weight, mask, fused=self._fused)
        fused = self._fused
        for layer in reversed(self.layers[self._lowest :]):
            grad = layer.backward_logits(grad) if fused else layer.backward(grad)
            fused = False
        for layer in self._penalised:
            loss += layer.losses
            layer.add_regularization_gradients()
        compiled.optimizer.apply(self._step_variables)
        compiled.update(y, pred, weight, mask, loss)

    def test_step(self, x: Array, y: Any, weight: Array | None) -> None:
        """Forward and loss; counts the batch in the running figures."""
        compiled = self.compiled("evaluate")
        assert compiled.loss is not None
        pred, mask = self.run(x, training=False)
        loss, _ = compiled.loss.value_and_grad(y, pred, weight, mask)
        loss += sum(layer.losses for layer in self.layers if _has_penalty(layer))
        compiled.update(y, pred, weight, mask, loss)


def _figures(logs: dict[str, Any], return_dict: bool) -> Any:
    if return_dict:
        return logs
    values = [np.asarray(v) if np.ndim(v) else v for v in logs.values()]
    return values if len(values) > 1 else values[0]


def _has_penalty(layer: Any) -> bool:
    own = layer.activity_regularizer is not None or any(v.regularizer is not None for v in layer.weights)
    return own or any(_has_penalty(inner) for inner in layer._sublayers())


def _last_activation(layers: list[Any]) -> str | None:
    """The activation of a last layer that can take the gradient of what went into it."""
    last = layers[-1] if layers else None
    if last is None or not hasattr(last, "backward_logits") or last.activity_regularizer is not None:
        return None
    return "softmax" if last.activation.softmax else "sigmoid" if last.activation.is_sigmoid else None
