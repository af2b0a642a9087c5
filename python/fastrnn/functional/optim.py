"""Optimiser updates, in place, with Keras's formulas."""

from __future__ import annotations

from .. import _core
from .checks import Array, flags, integer, number


def sgd_update(
    param: Array,
    grad: Array,
    velocity: Array | None = None,
    *,
    lr: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> None:
    """v = momentum v - lr g; p += v (nesterov: p += momentum v - lr g). Without velocity p -= lr g. In place.

    Keras's formula, not PyTorch's. weight_decay is decoupled: p -= lr weight_decay p comes first.
    """
    op = "sgd_update"
    lr, decay = number(op, "lr", lr, 0), number(op, "weight_decay", weight_decay, 0)
    flags(op, nesterov=nesterov)
    _core.sgd_update(param, grad, velocity, lr, number(op, "momentum", momentum, 0), nesterov, lr * decay)


def rmsprop_update(
    param: Array,
    grad: Array,
    sq: Array,
    mom: Array | None = None,
    avg: Array | None = None,
    *,
    lr: float,
    rho: float = 0.9,
    momentum: float = 0.0,
    eps: float = 1e-7,
    weight_decay: float = 0.0,
) -> None:
    """sq = rho sq + (1 - rho) g^2; p -= lr g / sqrt(sq + eps), through `mom` where given; with `avg` (the mean of g)
    the variance sq - avg^2 stands in place of sq. In place. Keras's formula: eps is under the root."""
    op = "rmsprop_update"
    lr, decay = number(op, "lr", lr, 0), number(op, "weight_decay", weight_decay, 0)
    rho, momentum = number(op, "rho", rho, 0, 1), number(op, "momentum", momentum, 0)
    _core.rmsprop_update(param, grad, sq, mom, avg, lr, rho, momentum, number(op, "eps", eps, 0), lr * decay)


def adam_update(
    param: Array,
    grad: Array,
    m: Array,
    v: Array,
    vhat: Array | None = None,
    *,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-7,
    step: int,
    weight_decay: float = 0.0,
) -> None:
    """m += (1 - beta1)(g - m); v += (1 - beta2)(g^2 - v); p -= lr sqrt(1 - beta2^step) / (1 - beta1^step) m /
    (sqrt(v) + eps); with `vhat` (AMSGrad) the largest v so far. In place. Keras's formula (Kingma & Ba 2015,
    section 2)."""
    op = "adam_update"
    lr, decay = number(op, "lr", lr, 0), number(op, "weight_decay", weight_decay, 0)
    beta1, beta2 = number(op, "beta1", beta1, 0, 1), number(op, "beta2", beta2, 0, 1)
    eps, step = number(op, "eps", eps, 0), integer(op, "step", step, 1)
    _core.adam_update(param, grad, m, v, vhat, lr, beta1, beta2, eps, step, lr * decay)
