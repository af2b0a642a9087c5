"""The update rules, with Keras's formulas and defaults (not PyTorch's: see SGD's velocity and where epsilon stands).

SGD, RMSprop and Adam(W) run in the compiled core; the rest are NumPy, in place.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import functional as F
from . import checks
from .optimizer import Array, Optimizer, Slots


class SGD(Optimizer):
    """w -= lr·g; with momentum v = m·v - lr·g, w += v (nesterov: w += m·v - lr·g)."""

    _own = ("momentum", "nesterov")

    def __init__(
        self, learning_rate: Any = 0.01, momentum: float = 0.0, nesterov: bool = False, **options: Any
    ) -> None:
        super().__init__(learning_rate, **options)
        self.momentum = checks.number(type(self).__name__, "momentum", momentum, "unit")
        self.nesterov = checks.boolean("SGD", "nesterov", nesterov)

    def _slots(self, value: Array) -> Slots:
        return {"velocity": np.zeros_like(value)} if self.momentum else {}

    def _update(self, value: Array, grad: Array, slots: Slots, lr: float, decay: float) -> None:
        F.sgd_update(
            value, grad, slots.get("velocity"),
            lr=lr, momentum=self.momentum, nesterov=self.nesterov, weight_decay=decay,
        )  # fmt: skip


class RMSprop(Optimizer):
    """s = rho·s + (1-rho)·g²; step lr·g/sqrt(s + eps); `centered` subtracts the squared mean of g from s."""

    _own = ("rho", "momentum", "epsilon", "centered")

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, **options)
        op = type(self).__name__
        self.rho = checks.number(op, "rho", rho, "fraction")
        self.momentum = checks.number(op, "momentum", momentum, "fraction")
        self.epsilon = checks.number(op, "epsilon", epsilon, "non-negative")
        self.centered = checks.boolean("RMSprop", "centered", centered)

    def _slots(self, value: Array) -> Slots:
        names = ["velocity"] + ["momentum"] * (self.momentum > 0) + ["average_gradient"] * self.centered
        return {name: np.zeros_like(value) for name in names}

    def _update(self, value: Array, grad: Array, slots: Slots, lr: float, decay: float) -> None:
        F.rmsprop_update(
            value, grad, slots["velocity"], slots.get("momentum"), slots.get("average_gradient"),
            lr=lr, rho=self.rho, momentum=self.momentum, eps=self.epsilon, weight_decay=decay,
        )  # fmt: skip


class _Moments(Optimizer):
    """What Adam and its relatives share: beta_1, beta_2, epsilon and two running moments."""

    _own: tuple[str, ...] = ("beta_1", "beta_2", "epsilon")

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, **options)
        op = type(self).__name__
        self.beta_1 = checks.number(op, "beta_1", beta_1, "fraction")
        self.beta_2 = checks.number(op, "beta_2", beta_2, "fraction")
        self.epsilon = checks.number(op, "epsilon", epsilon, "non-negative")

    def _slots(self, value: Array) -> Slots:
        return {"m": np.zeros_like(value), "v": np.zeros_like(value)}


class Adam(_Moments):
    """w -= lr·sqrt(1-b2^t)/(1-b1^t) · m/(sqrt(v) + eps); `amsgrad` uses the largest v so far."""

    _own = (*_Moments._own, "amsgrad")

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, epsilon, **options)
        self.amsgrad = checks.boolean(type(self).__name__, "amsgrad", amsgrad)

    def _slots(self, value: Array) -> Slots:
        names = ("m", "v", "vhat") if self.amsgrad else ("m", "v")
        return {name: np.zeros_like(value) for name in names}

    def _update(self, value: Array, grad: Array, slots: Slots, lr: float, decay: float) -> None:
        F.adam_update(
            value, grad, slots["m"], slots["v"], slots.get("vhat"),
            lr=lr, beta1=self.beta_1, beta2=self.beta_2, eps=self.epsilon, step=self.iterations + 1,
            weight_decay=decay,
        )  # fmt: skip


class AdamW(Adam):
    """Adam with a weight decay of 0.004 unless told otherwise."""

    def __init__(
        self,
        learning_rate: Any = 0.001,
        weight_decay: float | None = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay=weight_decay, **options)


class Adamax(_Moments):
    """Adam with the infinity norm: u = max(b2·u, abs(g)); w -= lr/(1-b1^t) · m/(u + eps)."""

    def _update(self, value: Array, grad: Array, slots: Slots, lr: float, decay: float) -> None:
        value *= 1.0 - lr * decay
        m, u = slots["m"], slots["v"]
        m += (1.0 - self.beta_1) * (grad - m)
        np.maximum(self.beta_2 * u, np.abs(grad), out=u)
        value -= lr / (1.0 - self.beta_1 ** (self.iterations + 1)) * m / (u + self.epsilon)


class Nadam(_Moments):
    """Adam with Nesterov momentum, whose b1 grows as b1·(1 - 0.5·0.96^t) (Dozat 2015, as Keras has it)."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._product = 1.0

    def _momentum_at(self, step: int) -> float:
        return float(self.beta_1 * (1.0 - 0.5 * 0.96**step))

    def _begin_step(self) -> None:
        self._product *= self._momentum_at(self.iterations + 1)

    def _update(self, value: Array, grad: Array, slots: Slots, lr: float, decay: float) -> None:
        value *= 1.0 - lr * decay
        t = self.iterations + 1
        now, following = self._momentum_at(t), self._momentum_at(t + 1)
        m, v = slots["m"], slots["v"]
        m += (1.0 - self.beta_1) * (grad - m)
        v += (1.0 - self.beta_2) * (grad * grad - v)
        m_hat = m * (following / (1.0 - self._product * following)) + grad * ((1.0 - now) / (1.0 - self._product))
        value -= lr * m_hat / (np.sqrt(v / (1.0 - self.beta_2**t)) + self.epsilon)

    def get_state(self) -> dict[str, float]:
        return {**super().get_state(), "product": self._product}

    def set_state(self, state: dict[str, Any]) -> None:
        product = checks.number("Nadam", "product", state.get("product", 1.0), "unit")
        super().set_state(state)
        self._product = product


class Adagrad(Optimizer):
    """a += g²; w -= lr·g/sqrt(a + eps), a starting at `initial_accumulator_value`."""

    _own = ("initial_accumulator_value", "epsilon")

    def __init__(
        self,
        learning_rate: Any = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, **options)
        op = type(self).__name__
        self.initial_accumulator_value = checks.number(
            op, "initial_accumulator_value", initial_accumulator_value, "non-negative"
        )
        self.epsilon = checks.number(op, "epsilon", epsilon, "non-negative")

    def _slots(self, value: Array) -> Slots:
        return {"accumulator": np.full_like(value, self.initial_accumulator_value)}

    def _update(self, value: Array, grad: Array, slots: Slots, lr: float, decay: float) -> None:
        value *= 1.0 - lr * decay
        accumulator = slots["accumulator"]
        accumulator += grad * grad
        value -= lr * grad / np.sqrt(accumulator + self.epsilon)


class Adadelta(Optimizer):
    """Steps g·rms(past steps)/rms(past gradients), times lr; both averages decay by rho."""

    _own = ("rho", "epsilon")

    def __init__(self, learning_rate: Any = 0.001, rho: float = 0.95, epsilon: float = 1e-7, **options: Any) -> None:
        super().__init__(learning_rate, **options)
        self.rho = checks.number(type(self).__name__, "rho", rho, "fraction")
        self.epsilon = checks.number(type(self).__name__, "epsilon", epsilon, "non-negative")

    def _slots(self, value: Array) -> Slots:
        return {"accumulated_grad": np.zeros_like(value), "accumulated_delta": np.zeros_like(value)}

    def _update(self, value: Array, grad: Array, slots: Slots, lr: float, decay: float) -> None:
        value *= 1.0 - lr * decay
        squares, steps = slots["accumulated_grad"], slots["accumulated_delta"]
        squares += (1.0 - self.rho) * (grad * grad - squares)
        delta = np.sqrt((steps + self.epsilon) / (squares + self.epsilon)) * grad
        steps += (1.0 - self.rho) * (delta * delta - steps)
        value -= lr * delta


class Lion(Optimizer):
    """w -= lr·sign(b1·m + (1-b1)·g); m = b2·m + (1-b2)·g (Chen et al. 2023)."""

    _own = ("beta_1", "beta_2")

    def __init__(self, learning_rate: Any = 0.001, beta_1: float = 0.9, beta_2: float = 0.99, **options: Any) -> None:
        super().__init__(learning_rate, **options)
        self.beta_1 = checks.number(type(self).__name__, "beta_1", beta_1, "fraction")
        self.beta_2 = checks.number(type(self).__name__, "beta_2", beta_2, "fraction")

    def _slots(self, value: Array) -> Slots:
        return {"m": np.zeros_like(value)}

    def _update(self, value: Array, grad: Array, slots: Slots, lr: float, decay: float) -> None:
        value *= 1.0 - lr * decay
        m = slots["m"]
        value -= lr * np.sign(self.beta_1 * m + (1.0 - self.beta_1) * grad)
        m *= self.beta_2
        m += (1.0 - self.beta_2) * grad


_OPTIMIZERS: dict[str, type[Optimizer]] = {
    cls.__name__.lower(): cls for cls in (SGD, RMSprop, Adam, AdamW, Adamax, Nadam, Adagrad, Adadelta, Lion)
}


def get(identifier: Any) -> Optimizer:
    """The optimizer of a name, a class, {"class_name", "config"} or an optimizer."""
    if isinstance(identifier, Optimizer):
        return identifier
    if isinstance(identifier, type) and issubclass(identifier, Optimizer):
        return identifier()
    name, config = identifier, {}
    if isinstance(identifier, dict):
        name, config = identifier.get("class_name"), identifier.get("config", {})
    if isinstance(name, str) and name.lower() in _OPTIMIZERS:
        return _OPTIMIZERS[name.lower()].from_config(config)
    raise ValueError(
        f"[compile] optimizer: expected one of {', '.join(_OPTIMIZERS)} or an Optimizer, got {identifier!r}"
    )


def serialize(optimizer: Optimizer) -> dict[str, Any]:
    """`{"class_name": ..., "config": {...}}`, all JSON values."""
    return {"class_name": type(optimizer).__name__, "config": optimizer.get_config()}


deserialize = get
