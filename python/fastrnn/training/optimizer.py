"""Optimizer: what all optimizers share (rate, clipping, weight decay, averages, state). Not the update rules."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from . import checks, schedules

Array: TypeAlias = npt.NDArray[Any]
Slots: TypeAlias = dict[str, Array]


class LearningRate(float):
    """The current rate: a float that also answers to what Keras code asks of a variable."""

    _owner: Optimizer

    def numpy(self) -> float:
        return float(self)

    value = numpy

    def assign(self, value: float) -> None:
        self._owner.learning_rate = value


class Optimizer:
    """Base class. A subclass says which arrays it keeps per weight (`_slots`) and how one weight moves (`_update`).

    Arguments all optimizers take: `learning_rate` (a number or a schedule), `weight_decay` (decoupled:
    w -= rate · decay · w, before the step), at most one of `clipnorm` (norm of each weight's gradient), `clipvalue`
    (each element) and `global_clipnorm` (norm of all gradients together), `use_ema`, `ema_momentum`,
    `ema_overwrite_frequency` (moving averages of the weights, put in place at the end of fit or every so many steps).
    `lr` and `decay` are Keras's older words: decay is lr / (1 + decay · step).
    """

    # The constructor's own arguments, kept as attributes of the same name.
    _own: tuple[str, ...] = ()

    def __init__(
        self,
        learning_rate: float | schedules.LearningRateSchedule | dict[str, Any] = 0.001,
        *,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        name: str | None = None,
        lr: float | None = None,
        decay: float | None = None,
    ) -> None:
        op = type(self).__name__
        self.name = name if name is not None else op
        rate = learning_rate if lr is None else lr
        if isinstance(rate, dict):
            rate = schedules.deserialize(rate)
        if not isinstance(rate, schedules.LearningRateSchedule):
            rate = checks.number(op, "learning_rate", rate, "positive")
            if decay is not None and checks.number(op, "decay", decay, "non-negative") > 0:
                rate = schedules.InverseTimeDecay(rate, 1, decay)
        self._rate: float | schedules.LearningRateSchedule = rate
        self.weight_decay = None
        if weight_decay is not None:
            self.weight_decay = checks.number(op, "weight_decay", weight_decay, "non-negative")
        clips = {"clipnorm": clipnorm, "clipvalue": clipvalue, "global_clipnorm": global_clipnorm}
        given = [key for key, value in clips.items() if value is not None]
        if len(given) > 1:
            raise ValueError(f"[{op}] {given[0]}: expected only one of {', '.join(clips)}, got {' and '.join(given)}")
        for key in given:
            clips[key] = checks.number(op, key, clips[key], "positive")
        self.clipnorm, self.clipvalue, self.global_clipnorm = clips.values()
        self.use_ema = checks.boolean(type(self).__name__, "use_ema", use_ema)
        self.ema_momentum = checks.number(op, "ema_momentum", ema_momentum, "unit")
        self.ema_overwrite_frequency = (
            None
            if ema_overwrite_frequency is None
            else checks.integer(op, "ema_overwrite_frequency", ema_overwrite_frequency, 1)
        )
        self.iterations = 0
        # by identity of the variable, which is kept too so that no other one can come by its id
        self._state: dict[int, tuple[Any, Slots]] = {}
        self._no_decay: list[str] = []

    # ---- the rate -------------------------------------------------------------------------------------------------

    @property
    def learning_rate(self) -> LearningRate:
        """The rate of the next step. Settable unless the optimizer was made with a schedule."""
        rate = LearningRate(self._rate(self.iterations) if callable(self._rate) else self._rate)
        rate._owner = self
        return rate

    @learning_rate.setter
    def learning_rate(self, value: float | schedules.LearningRateSchedule) -> None:
        op = type(self).__name__
        if isinstance(value, schedules.LearningRateSchedule):
            self._rate = value
            return
        if isinstance(self._rate, schedules.LearningRateSchedule):
            raise TypeError(f"[{op}] learning_rate: expected a schedule as it was made with one, got {value!r}")
        if isinstance(value, np.ndarray) and value.ndim == 0:
            value = value.item()
        self._rate = checks.number(op, "learning_rate", value, "non-negative")

    @property
    def lr(self) -> LearningRate:
        """Keras's older word for `learning_rate`."""
        return self.learning_rate

    @lr.setter
    def lr(self, value: float) -> None:
        self.learning_rate = value

    # ---- one step -------------------------------------------------------------------------------------------------

    def _slots(self, value: Array) -> Slots:
        """The arrays kept for a weight, at their initial values."""
        return {}

    def _update(self, value: Array, grad: Array, slots: Slots, lr: float, decay: float) -> None:
        """Move `value` in place. `decay` is the weight decay (0 for none)."""
        raise NotImplementedError(f"{type(self).__name__} has no update")

    def _begin_step(self) -> None:
        """Called once per step, before the weights; `self.iterations` still counts from 0."""

    def apply(self, variables: Sequence[Any]) -> None:
        """One step: move each variable along its `grad` (those without one stay) and apply its constraint."""
        variables = [v for v in variables if v.grad is not None]
        self._clip(variables)
        lr = self._rate(self.iterations) if callable(self._rate) else self._rate
        self._begin_step()
        for v in variables:
            slots = self.slots(v)
            grad = np.ascontiguousarray(v.grad, dtype=v.value.dtype)
            self._update(v.value, grad, slots, lr, self._decay_of(v))
            if v.constraint is not None:
                v.value[...] = v.constraint(v.value)
            if self.use_ema:
                self._average(v.value, slots)
        self.iterations += 1

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Array, Any]]) -> None:
        """Keras's spelling of a step: pairs of gradient and variable."""
        pairs = list(grads_and_vars)
        for grad, v in pairs:
            if np.shape(grad) != v.value.shape:
                raise ValueError(
                    f"[{type(self).__name__}] grad: expected shape {v.value.shape} of {v.name}, got {np.shape(grad)}"
                )
            v.grad = np.array(grad, dtype=v.value.dtype)
        self.apply([v for _, v in pairs])

    def _clip(self, variables: Sequence[Any]) -> None:
        if self.clipvalue is not None:
            for v in variables:
                np.clip(v.grad, -self.clipvalue, self.clipvalue, out=v.grad)
        elif self.clipnorm is not None:
            for v in variables:
                norm = math.sqrt(_sum_of_squares(v.grad))
                if not norm <= self.clipnorm:
                    v.grad *= self.clipnorm / norm
        elif self.global_clipnorm is not None:
            norm = math.sqrt(sum(_sum_of_squares(v.grad) for v in variables))
            if not norm <= self.global_clipnorm:
                for v in variables:
                    v.grad *= self.global_clipnorm / norm

    def exclude_from_weight_decay(self, var_list: Any = None, var_names: Iterable[str] | None = None) -> None:
        """No decay for variables whose name matches (or contains) one of these, as in Keras: ["bias"]."""
        self._no_decay += [v.name for v in var_list or ()] + list(var_names or ())

    def _decay_of(self, variable: Any) -> float:
        if not self.weight_decay or any(re.search(pattern, variable.name) for pattern in self._no_decay):
            return 0.0
        return self.weight_decay

    def _average(self, value: Array, slots: Slots) -> None:
        average = slots["average"]
        momentum = self.ema_momentum if self.iterations else 0.0
        average *= momentum
        average += (1.0 - momentum) * value
        if self.ema_overwrite_frequency and (self.iterations + 1) % self.ema_overwrite_frequency == 0:
            value[...] = average

    def finalize(self, variables: Iterable[Any]) -> None:
        """At the end of training: put the moving averages in place, if they are used."""
        if self.use_ema and self.iterations:
            for v in variables:
                if id(v) in self._state:
                    v.value[...] = self._state[id(v)][1]["average"]

    # ---- state and configuration ----------------------------------------------------------------------------------

    def slots(self, variable: Any) -> Slots:
        """The arrays kept for `variable`, made when first asked for."""
        entry = self._state.get(id(variable))
        if entry is None:
            entry = self._state[id(variable)] = (variable, self.initial_slots(variable))
        return entry[1]

    def initial_slots(self, variable: Any) -> Slots:
        """What the arrays of `variable` are before the first step; new ones, which are not kept."""
        slots = self._slots(variable.value)
        if self.use_ema:
            slots["average"] = np.zeros_like(variable.value)
        return slots

    def has_slots(self, variable: Any) -> bool:
        """Has `variable` been moved (or its arrays loaded) yet?"""
        return id(variable) in self._state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """After a copy or a pickle the variables are other objects, with other ids."""
        self.__dict__.update(state)
        self._state = {id(variable): (variable, slots) for variable, slots in self._state.values()}

    def get_state(self) -> dict[str, float]:
        """The numbers a resumed run needs beside the slots; JSON values."""
        return {"iterations": self.iterations}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take what `get_state` gave. What cannot be taken is refused before anything changes."""
        self.iterations = checks.integer(type(self).__name__, "iterations", state.get("iterations", 0), 0)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as JSON values."""
        rate = self._rate
        config: dict[str, Any] = {
            "name": self.name,
            "learning_rate": schedules.serialize(rate) if isinstance(rate, schedules.LearningRateSchedule) else rate,
        }
        for key in (
            "weight_decay", "clipnorm", "clipvalue", "global_clipnorm", "use_ema", "ema_momentum",
            "ema_overwrite_frequency", *self._own,
        ):  # fmt: skip
            config[key] = getattr(self, key)
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Optimizer:
        """An optimizer from what `get_config` gave, without its arrays."""
        config = dict(config)
        rate = config.pop("learning_rate", None)
        if rate == 0:  # a rate reduced to 0 is a legal state, but not a legal argument
            optimizer = cls(**config)
            optimizer.learning_rate = 0.0
            return optimizer
        return cls(**config) if rate is None else cls(learning_rate=rate, **config)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} learning_rate={float(self.learning_rate):g}>"


def _sum_of_squares(grad: Array) -> float:
    flat = grad.ravel()
    return float(flat @ flat)
