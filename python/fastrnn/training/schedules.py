"""Learning-rate schedules: functions of the optimizer step (counted from 0), with Keras's names and formulas."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from . import checks


class LearningRateSchedule:
    """Base class: subclasses give `__call__(step) -> float` and list their arguments in `get_config`."""

    def __call__(self, step: int) -> float:
        """The rate of step number `step`, from 0."""
        raise NotImplementedError(f"{type(self).__name__} has no __call__")

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments; those of the schedules here are kept under their own names."""
        return dict(vars(self))

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LearningRateSchedule:
        """A schedule from what `get_config` gave."""
        return cls(**config)


class ExponentialDecay(LearningRateSchedule):
    """initial · decay_rate^(step / decay_steps); with `staircase` the exponent is rounded down."""

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        decay_rate: float,
        staircase: bool = False,
        name: str = "ExponentialDecay",
    ) -> None:
        op = type(self).__name__
        self.initial_learning_rate = checks.number(op, "initial_learning_rate", initial_learning_rate, "positive")
        self.decay_steps = checks.number(op, "decay_steps", decay_steps, "positive")
        self.decay_rate = checks.number(op, "decay_rate", decay_rate, "positive")
        self.staircase = bool(staircase)
        self.name = name

    def __call__(self, step: int) -> float:
        p = step / self.decay_steps
        return self.initial_learning_rate * self.decay_rate ** (math.floor(p) if self.staircase else p)


class InverseTimeDecay(LearningRateSchedule):
    """initial / (1 + decay_rate · step / decay_steps); with `staircase` the quotient is rounded down."""

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        decay_rate: float,
        staircase: bool = False,
        name: str = "InverseTimeDecay",
    ) -> None:
        op = type(self).__name__
        self.initial_learning_rate = checks.number(op, "initial_learning_rate", initial_learning_rate, "positive")
        self.decay_steps = checks.number(op, "decay_steps", decay_steps, "positive")
        self.decay_rate = checks.number(op, "decay_rate", decay_rate, "non-negative")
        self.staircase = bool(staircase)
        self.name = name

    def __call__(self, step: int) -> float:
        p = step / self.decay_steps
        return self.initial_learning_rate / (1.0 + self.decay_rate * (math.floor(p) if self.staircase else p))


class PiecewiseConstantDecay(LearningRateSchedule):
    """values[k] while step ≤ boundaries[k]; values[-1] after the last boundary."""

    def __init__(
        self, boundaries: Sequence[int], values: Sequence[float], name: str = "PiecewiseConstantDecay"
    ) -> None:
        op = type(self).__name__
        self.boundaries = [checks.number(op, "boundaries", b, "non-negative") for b in boundaries]
        self.values = [checks.number(op, "values", v, "positive") for v in values]
        self.name = name
        if len(self.values) != len(self.boundaries) + 1:
            raise ValueError(
                f"[{op}] values: expected one more than boundaries ({len(self.boundaries)}), got {len(self.values)}"
            )
        if any(b >= c for b, c in zip(self.boundaries, self.boundaries[1:], strict=False)):
            raise ValueError(f"[{op}] boundaries: expected increasing steps, got {list(boundaries)}")

    def __call__(self, step: int) -> float:
        return self.values[sum(step > b for b in self.boundaries)]


class PolynomialDecay(LearningRateSchedule):
    """From `initial` to `end` over decay_steps along (1 - step/decay_steps)^power; with `cycle` it starts over."""

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
        name: str = "PolynomialDecay",
    ) -> None:
        op = type(self).__name__
        self.initial_learning_rate = checks.number(op, "initial_learning_rate", initial_learning_rate, "positive")
        self.decay_steps = checks.number(op, "decay_steps", decay_steps, "positive")
        self.end_learning_rate = checks.number(op, "end_learning_rate", end_learning_rate, "non-negative")
        self.power = checks.number(op, "power", power, "positive")
        self.cycle = bool(cycle)
        self.name = name

    def __call__(self, step: int) -> float:
        length = self.decay_steps
        if self.cycle:
            length *= max(1.0, math.ceil(step / length))
        p = min(step / length, 1.0)
        fallen = float((1.0 - p) ** self.power)
        return (self.initial_learning_rate - self.end_learning_rate) * fallen + self.end_learning_rate


class CosineDecay(LearningRateSchedule):
    """Half a cosine from `initial` (or `warmup_target`) to alpha · that, after a linear warm-up of `warmup_steps`."""

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        alpha: float = 0.0,
        name: str = "CosineDecay",
        warmup_target: float | None = None,
        warmup_steps: int = 0,
    ) -> None:
        op = type(self).__name__
        self.initial_learning_rate = checks.number(op, "initial_learning_rate", initial_learning_rate, "non-negative")
        self.decay_steps = checks.number(op, "decay_steps", decay_steps, "positive")
        self.alpha = checks.number(op, "alpha", alpha, "unit")
        self.name = name
        self.warmup_target = (
            None if warmup_target is None else checks.number(op, "warmup_target", warmup_target, "positive")
        )
        self.warmup_steps = checks.integer(op, "warmup_steps", warmup_steps, 0)

    def __call__(self, step: int) -> float:
        top = self.initial_learning_rate
        if self.warmup_target is not None:
            if step < self.warmup_steps:
                return top + (self.warmup_target - top) * step / self.warmup_steps
            step -= self.warmup_steps
            top = self.warmup_target
        cosine = 0.5 * (1.0 + math.cos(math.pi * min(step / self.decay_steps, 1.0)))
        return top * ((1.0 - self.alpha) * cosine + self.alpha)


class CosineDecayRestarts(LearningRateSchedule):
    """Cosine decays one after the other, each t_mul times as long and starting m_mul times as high as the last."""

    def __init__(
        self,
        initial_learning_rate: float,
        first_decay_steps: int,
        t_mul: float = 2.0,
        m_mul: float = 1.0,
        alpha: float = 0.0,
        name: str = "CosineDecayRestarts",
    ) -> None:
        op = type(self).__name__
        self.initial_learning_rate = checks.number(op, "initial_learning_rate", initial_learning_rate, "positive")
        self.first_decay_steps = checks.number(op, "first_decay_steps", first_decay_steps, "positive")
        self.t_mul = checks.number(op, "t_mul", t_mul, "positive")
        self.m_mul = checks.number(op, "m_mul", m_mul, "positive")
        self.alpha = checks.number(op, "alpha", alpha, "unit")
        self.name = name
        if self.t_mul < 1:
            raise ValueError(f"[{op}] t_mul: expected a number of at least 1, got {t_mul!r}")

    def __call__(self, step: int) -> float:
        length, height, start = self.first_decay_steps, 1.0, 0.0
        if self.t_mul == 1.0:  # the loop below would take one turn per restart
            start = step // length * length
            height = self.m_mul ** (step // length)
        while step >= start + length:
            start += length
            length *= self.t_mul
            height *= self.m_mul
        cosine = 0.5 * height * (1.0 + math.cos(math.pi * (step - start) / length))
        return self.initial_learning_rate * ((1.0 - self.alpha) * cosine + self.alpha)


class OneCycle(LearningRateSchedule):
    """PyTorch's OneCycleLR: up from max/div_factor to max, then down to (max/div_factor)/final_div_factor.

    Both legs are half cosines; the first takes `pct_start` of `total_steps`. Past the end the rate stays.
    """

    def __init__(
        self,
        max_learning_rate: float,
        total_steps: int,
        pct_start: float = 0.3,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        name: str = "OneCycle",
    ) -> None:
        op = type(self).__name__
        self.max_learning_rate = checks.number(op, "max_learning_rate", max_learning_rate, "positive")
        self.total_steps = checks.integer(op, "total_steps", total_steps, 1)
        self.pct_start = checks.number(op, "pct_start", pct_start, "unit")
        self.div_factor = checks.number(op, "div_factor", div_factor, "positive")
        self.final_div_factor = checks.number(op, "final_div_factor", final_div_factor, "positive")
        self.name = name

    def __call__(self, step: int) -> float:
        start = self.max_learning_rate / self.div_factor
        end = start / self.final_div_factor
        peak = self.pct_start * self.total_steps - 1.0
        last = self.total_steps - 1.0
        if step <= peak:
            return _half_cosine(start, self.max_learning_rate, step / peak if peak > 0 else 1.0)
        return _half_cosine(self.max_learning_rate, end, min((step - peak) / max(last - peak, 1e-9), 1.0))


def _half_cosine(start: float, end: float, p: float) -> float:
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * p))


_SCHEDULES: dict[str, type[LearningRateSchedule]] = {
    cls.__name__: cls
    for cls in (
        ExponentialDecay, InverseTimeDecay, PiecewiseConstantDecay, PolynomialDecay, CosineDecay,
        CosineDecayRestarts, OneCycle,
    )
}  # fmt: skip


def serialize(schedule: LearningRateSchedule) -> dict[str, Any]:
    """`{"class_name": ..., "config": {...}}`, all JSON values."""
    return {"class_name": type(schedule).__name__, "config": schedule.get_config()}


def deserialize(config: Any) -> LearningRateSchedule:
    """The schedule of {"class_name", "config"}; only the classes of this file."""
    name = config.get("class_name") if isinstance(config, dict) else config
    if not isinstance(name, str) or name not in _SCHEDULES:
        raise ValueError(f"[schedules] class_name: expected one of {', '.join(_SCHEDULES)}, got {name!r}")
    return _SCHEDULES[name].from_config(config.get("config", {}))
