"""Optimiser updates in NumPy, in place, by Keras's formulas (PyTorch's differ in epsilon and the velocity's sign)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def sgd_update(
    param: Array, grad: Array, velocity: Array | None = None, *, lr: float, momentum: float = 0.0,
    nesterov: bool = False, weight_decay: float = 0.0,
) -> None:  # fmt: skip
    """v = momentum v - lr g; p += v, or with nesterov p += momentum v - lr g. Without momentum velocity is unused."""
    param -= lr * weight_decay * param
    if velocity is None or momentum == 0.0:
        param -= lr * grad
        return
    velocity[...] = momentum * velocity - lr * grad
    param += momentum * velocity - lr * grad if nesterov else velocity


def rmsprop_update(
    param: Array, grad: Array, sq: Array, mom: Array | None = None, avg: Array | None = None, *, lr: float,
    rho: float = 0.9, momentum: float = 0.0, eps: float = 1e-7, weight_decay: float = 0.0,
) -> None:  # fmt: skip
    """sq is the mean of g^2, avg the mean of g (centered), mom the momentum buffer; epsilon stands under the root."""
    param -= lr * weight_decay * param
    sq[...] = rho * sq + (1 - rho) * grad * grad
    variance = sq
    if avg is not None:
        avg[...] = rho * avg + (1 - rho) * grad
        variance = sq - avg * avg
    step = lr * grad / np.sqrt(variance + eps)
    if mom is not None and momentum > 0.0:
        mom[...] = momentum * mom + step
        step = mom
    param -= step


def adam_update(
    param: Array, grad: Array, m: Array, v: Array, vhat: Array | None = None, *, lr: float, beta1: float = 0.9,
    beta2: float = 0.999, eps: float = 1e-7, step: int, weight_decay: float = 0.0,
) -> None:  # fmt: skip
    """step counts from 1; vhat is the running maximum of v (amsgrad); weight_decay is decoupled (AdamW)."""
    param -= lr * weight_decay * param
    m[...] = beta1 * m + (1 - beta1) * grad
    v[...] = beta2 * v + (1 - beta2) * grad * grad
    second = v
    if vhat is not None:
        np.maximum(vhat, v, out=vhat)
        second = vhat
    alpha = lr * math.sqrt(1 - beta2**step) / (1 - beta1**step)
    param -= alpha * m / (np.sqrt(second) + eps)
