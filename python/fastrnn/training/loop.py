"""The loops of `fit`, `evaluate` and `predict` over a model. One step is the model's (trainer.py)."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from . import checks, data
from .callback import CallbackList, as_callbacks
from .callbacks import History
from .progress import Progress, resolve_verbose


def _optional(op: str, arg: str, value: Any) -> int | None:
    return None if value is None else checks.integer(op, arg, value, 1)


def _batch_size(op: str, model: Any, x: Any, given: Any, steps: int | None) -> int:
    """The batch size given, that of stateful layers, the one that makes so many steps of an array, or 32."""
    size = _optional(op, "batch_size", given) or model.fixed_batch_size
    if size is None and steps is not None and data.is_array_like(x):
        size = -(-len(x) // steps)
    return size or 32


def _preparer(op: str, model: Any, *, targets: bool, class_weight: Any = None, finite: bool = False) -> data.Preparer:
    loss = model.compiled(op).loss if targets else None
    return data.Preparer(op, model.convert_input, model.infer_shape, loss, class_weight, finite)


def _check_stateful(op: str, model: Any, source: Any, batch_size: int, prefix: str = "") -> None:
    """Stateful layers carry one state per row of the batch: every batch must have their size."""
    fixed = model.fixed_batch_size
    if fixed is None or source.samples is None:
        return
    if batch_size != fixed:
        raise ValueError(f"[{op}] {prefix}batch_size: expected {fixed}, that of the stateful layers, got {batch_size}")
    if source.samples % fixed:
        raise ValueError(
            f"[{op}] {prefix}x: expected a multiple of {fixed} samples, the batch size of the stateful layers, "
            f"got {source.samples}"
        )


def fit(
    model: Any,
    x: Any = None,
    y: Any = None,
    *,
    batch_size: int | None = None,
    epochs: int = 1,
    verbose: Any = "auto",
    callbacks: Any = None,
    validation_split: float = 0.0,
    validation_data: Any = None,
    shuffle: Any = True,
    class_weight: Any = None,
    sample_weight: Any = None,
    initial_epoch: int = 0,
    steps_per_epoch: int | None = None,
    validation_steps: int | None = None,
    validation_batch_size: int | None = None,
    validation_freq: Any = 1,
) -> History:
    """See `Sequential.fit`. Everything given is checked before the first step."""
    op = "fit"
    epochs = checks.integer(op, "epochs", epochs, 0)
    initial_epoch = checks.integer(op, "initial_epoch", initial_epoch, 0)
    steps_per_epoch = _optional(op, "steps_per_epoch", steps_per_epoch)
    size = _batch_size(op, model, x, batch_size, steps_per_epoch)
    validation_size = _optional(op, "validation_batch_size", validation_batch_size) or size
    validation_steps = _optional(op, "validation_steps", validation_steps)
    fraction = checks.number(op, "validation_split", validation_split, "fraction")
    validates = _validation_epochs(validation_freq)
    verbose = resolve_verbose(op, verbose)
    given = as_callbacks(op, callbacks)
    if x is None:
        raise ValueError(f"[{op}] x: expected an array or an iterable of batches, got None")

    prepare = _preparer(op, model, targets=True, class_weight=class_weight, finite=True)
    compiled = model.compiled(op)
    held_out = validation_data
    if fraction and validation_data is None:
        (x, y, sample_weight), held_out = data.split(op, x, y, sample_weight, fraction)
    training = data.batch_source(op, x, y, sample_weight, prepare, size, bool(shuffle))
    _check_stateful(op, model, training, size)
    validation = None
    if held_out is not None:
        validation = _validation_source(op, model, held_out, validation_size)
        _check_stateful(op, model, validation, validation_size, "validation ")
    stream = data.Stream(op, training, steps_per_epoch)
    steps = steps_per_epoch if steps_per_epoch is not None else training.steps

    history = model.history = History()
    params = {"verbose": verbose, "epochs": epochs, "steps": steps, "do_validation": validation is not None}
    hooks = CallbackList([*given, history], model, params)
    progress = Progress(verbose)
    model.stop_training = model.interrupted = False
    model.initial_epoch = initial_epoch
    logs: dict[str, Any] = {}
    hooks.call("on_train_begin")
    try:
        for epoch in range(model.initial_epoch, epochs):
            compiled.reset()
            hooks.epoch("on_epoch_begin", epoch)
            progress.begin(f"Epoch {epoch + 1}/{epochs}", steps, training.samples)
            start = time.perf_counter()
            seen, done = _train_epoch(model, stream, compiled, hooks, progress)
            stopped = time.perf_counter()
            if done == 0:
                _ran_out(op, "x", epoch == model.initial_epoch, "training stops")
                progress.close()
                break
            if steps_per_epoch is not None and done < steps_per_epoch and not model.stop_training:
                warnings.warn(f"[{op}] x: expected {steps_per_epoch} batches per epoch, got {done}", stacklevel=3)
                model.stop_training = True
            logs = compiled.logs()
            if validation is not None and validates(epoch):
                figures = _evaluate(model, data.Stream(op, validation, validation_steps), compiled, hooks, None)
                if figures is None:
                    _ran_out(op, "validation x", epoch == model.initial_epoch, "no more validation")
                    validation = None
                logs.update({f"val_{name}": value for name, value in (figures or {}).items()})
            history.seconds.append(stopped - start)
            history.samples.append(seen)
            progress.end(logs, stopped)
            hooks.epoch("on_epoch_end", epoch, logs)
            if model.stop_training:
                break
        compiled.optimizer.finalize(model.trainable_weights)
    except KeyboardInterrupt:
        model.interrupted = True
        progress.close()
        hooks.call("on_train_end", logs)
        raise
    finally:
        progress.close()
    hooks.call("on_train_end", logs)
    return history


def _train_epoch(
    model: Any, stream: data.Stream, compiled: Any, hooks: CallbackList, progress: Progress
) -> tuple[int, int]:
    """One epoch; returns the number of samples and of batches."""
    model.prepare_backward()
    seen = done = 0
    for batch in stream.epoch():
        hooks.batch("on_train_batch_begin", done)
        model.train_step(*batch)
        hooks.batch("on_train_batch_end", done, compiled.logs)
        seen += len(batch.x)
        done += 1
        progress.step(len(batch.x), compiled.logs)
        if model.stop_training:
            break
    return seen, done


def _ran_out(op: str, arg: str, first: bool = True, consequence: str = "") -> None:
    message = f"[{op}] {arg}: expected batches for every epoch, got an iterator that gives none"
    if first:
        raise ValueError(message)
    warnings.warn(f"{message} any more: {consequence}", stacklevel=4)


def _validation_epochs(freq: Any) -> Callable[[int], bool]:
    if isinstance(freq, (list, tuple, set)):
        chosen = {checks.integer("fit", "validation_freq", f, 1) for f in freq}
        return lambda epoch: epoch + 1 in chosen
    every = checks.integer("fit", "validation_freq", freq, 1)
    return lambda epoch: (epoch + 1) % every == 0


def _validation_source(op: str, model: Any, held_out: Any, size: int) -> data.ArrayData | data.IterableData:
    prepare = _preparer(op, model, targets=True, finite=True)
    if isinstance(held_out, (tuple, list)) and data.is_array_like(held_out):
        if not 2 <= len(held_out) <= 3:
            raise ValueError(f"[{op}] validation_data: expected (x, y[, sample_weight]), got {len(held_out)} parts")
        x, y, weight = (*held_out, None)[:3]
        return data.batch_source(op, x, y, weight, prepare, size, False, "validation ")
    return data.batch_source(op, held_out, None, None, prepare, size, False, "validation ")


def _evaluate(
    model: Any, stream: data.Stream, compiled: Any, hooks: CallbackList, progress: Progress | None
) -> dict[str, Any] | None:
    """The figures of one pass over the batches; None if there were none."""
    compiled.reset()
    hooks.call("on_test_begin")
    done = 0
    for batch in stream.epoch():
        hooks.batch("on_test_batch_begin", done)
        model.test_step(*batch)
        hooks.batch("on_test_batch_end", done, compiled.logs)
        done += 1
        if progress is not None:
            progress.step(len(batch.x), compiled.logs)
    if done == 0:
        return None
    logs: dict[str, Any] = compiled.logs()
    hooks.call("on_test_end", logs)
    return logs


def evaluate(
    model: Any,
    x: Any = None,
    y: Any = None,
    *,
    batch_size: int | None = None,
    verbose: Any = "auto",
    sample_weight: Any = None,
    steps: int | None = None,
    callbacks: Any = None,
) -> dict[str, Any]:
    """See `Sequential.evaluate`; always returns the dictionary."""
    op = "evaluate"
    steps = _optional(op, "steps", steps)
    size = _batch_size(op, model, x, batch_size, steps)
    verbose = resolve_verbose(op, verbose)
    given = as_callbacks(op, callbacks)
    if x is None:
        raise ValueError(f"[{op}] x: expected an array or an iterable of batches, got None")
    compiled = model.compiled(op)
    source = data.batch_source(op, x, y, sample_weight, _preparer(op, model, targets=True), size, False)
    _check_stateful(op, model, source, size)
    progress = Progress(verbose)
    hooks = CallbackList(given, model, {"verbose": verbose, "steps": steps or source.steps})
    progress.begin("Evaluation", steps or source.steps, source.samples)
    try:
        logs = _evaluate(model, data.Stream(op, source, steps), compiled, hooks, progress)
        if logs is None:
            _ran_out(op, "x")
        assert logs is not None
        progress.end(logs)
    finally:
        progress.close()
    return logs


def predict(
    model: Any,
    x: Any,
    *,
    batch_size: int | None = None,
    verbose: Any = "auto",
    steps: int | None = None,
    callbacks: Any = None,
) -> Any:
    """See `Sequential.predict`."""
    op = "predict"
    steps = _optional(op, "steps", steps)
    size = _batch_size(op, model, x, batch_size, steps)
    verbose = resolve_verbose(op, verbose)
    source = data.batch_source(op, x, None, None, _preparer(op, model, targets=False), size, False)
    _check_stateful(op, model, source, size)
    # a line for every prediction is noise; only a bar is worth showing
    progress = Progress(1 if verbose == 1 else 0)
    progress.lines = False
    hooks = CallbackList(as_callbacks(op, callbacks), model, {"verbose": verbose, "steps": steps or source.steps})
    collected = _Outputs(source.samples if steps is None else None)
    progress.begin("Prediction", steps or source.steps, source.samples)
    hooks.call("on_predict_begin")
    try:
        for number, batch in enumerate(data.Stream(op, source, steps).epoch()):
            hooks.batch("on_predict_batch_begin", number)
            output = model.run(batch.x, training=False)[0]
            collected.add(output)
            hooks.batch("on_predict_batch_end", number, lambda output=output: {"outputs": output})  # type: ignore[misc]
            progress.step(len(batch.x), dict)
    finally:
        progress.close()
    hooks.call("on_predict_end")
    return collected.result(op)


class _Outputs:
    """Gathers the outputs of batches; into one array made beforehand where the number of samples is known."""

    def __init__(self, samples: int | None) -> None:
        self.samples = samples
        self.filled = 0
        self.parts: list[list[npt.NDArray[Any]]] = []
        self.whole: list[npt.NDArray[Any]] | None = None
        self.many = False

    def add(self, output: Any) -> None:
        self.many = isinstance(output, (list, tuple))
        parts = list(output) if self.many else [output]
        if self.samples is None:
            self.parts.append([p.copy() if p.base is not None else p for p in parts])
            return
        if self.whole is None:
            self.whole = [np.empty((self.samples, *p.shape[1:]), p.dtype) for p in parts]
        count = len(parts[0])
        for target, part in zip(self.whole, parts, strict=True):
            if target.shape[1:] != part.shape[1:]:
                raise ValueError(f"[predict] x: expected outputs of shape {target.shape[1:]}, got {part.shape[1:]}")
            target[self.filled : self.filled + count] = part
        self.filled += count

    def result(self, op: str) -> Any:
        if self.samples is None:
            if not self.parts:
                _ran_out(op, "x")
            self.whole = [np.concatenate(columns) for columns in zip(*self.parts, strict=True)]
        assert self.whole is not None
        return self.whole if self.many else self.whole[0]
