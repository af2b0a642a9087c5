"""Activations in NumPy: f(x), its derivative from x, and its derivative from y = f(x). Not their names."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ..activations import FUSED, Activation, Spec, parse

Array = npt.NDArray[Any]

# Klambauer et al. 2017, Self-Normalizing Neural Networks
SELU_ALPHA = 1.6732632423543772
SELU_SCALE = 1.0507009873554805

_erf = np.frompyfunc(math.erf, 1, 1)


def _gauss_cdf(x: Array) -> Array:
    erf: Array = np.asarray(_erf(x / math.sqrt(2.0))).astype(x.dtype)
    cdf: Array = 0.5 * (1.0 + erf)
    return cdf


def _sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))  # in (0, 1]: no overflow on either side
    y: Array = np.where(x >= 0, x.dtype.type(1), e) / (1 + e)
    return y


def f(x: Array, spec: Activation) -> Array:
    """x (...) float -> f(x), same shape and dtype."""
    name, a, b = spec
    y: Array
    match name:
        case "linear":
            y = x.copy()
        case "tanh":
            y = np.tanh(x)
        case "sigmoid":
            y = _sigmoid(x)
        case "relu":
            y = np.maximum(x, 0)
        case "hard_sigmoid":
            y = np.clip(a * x + b, 0, 1)
        case "elu":
            y = np.where(x > 0, x, a * np.expm1(np.minimum(x, 0)))
        case "leaky_relu":
            y = np.where(x > 0, x, a * x)
        case "softsign":
            y = x / (1 + np.abs(x))
        case "softplus":
            y = np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))
        case "scaled_tanh":
            y = a * np.tanh(b * x)
        case "affine":
            y = a * x + b
        case "thresholded_relu":
            y = np.where((x > a) | np.isnan(x), x, 0)
        case "selu":
            y = SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(np.minimum(x, 0)))
        case "gelu":
            y = x * _gauss_cdf(x)
        case "silu":
            y = x * _sigmoid(x)
        case "exponential":
            y = np.exp(x)
        case _:
            raise AssertionError(name)
    return y.astype(x.dtype, copy=False)


def d_f(x: Array, spec: Activation) -> Array:
    """x (...) float -> f'(x); at a kink, the derivative from the left."""
    name, a, b = spec
    d: Array
    match name:
        case "linear":
            d = np.ones_like(x)
        case "affine":
            d = np.full_like(x, a)
        case "leaky_relu":
            d = np.where(x > 0, 1.0, a)
        case "scaled_tanh":
            d = a * b * (1 - np.square(np.tanh(b * x)))
        case "thresholded_relu":
            d = np.where(x > a, 1.0, 0.0)
        case "elu":
            d = np.where(x > 0, 1, a * np.exp(np.minimum(x, 0)))
        case "gelu":
            d = _gauss_cdf(x) + x * np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
        case "silu":
            s = _sigmoid(x)
            d = s * (1 + x * (1 - s))
        case "softplus":
            d = _sigmoid(x)
        case "hard_sigmoid":
            d = np.where((a * x + b > 0) & (a * x + b < 1), a, 0.0)
        case _:  # the rest is simplest from the result
            d = d_f_of_y(f(x, spec), spec)
    return d.astype(x.dtype, copy=False)


def d_f_of_y(y: Array, spec: Activation) -> Array:
    """y (...) = f(x) -> f'(x), for the activations that allow it (`fused`)."""
    name, a, _ = spec
    d: Array
    match name:
        case "linear":
            d = np.ones_like(y)
        case "tanh":
            d = 1 - y * y
        case "sigmoid":
            d = y * (1 - y)
        case "relu":
            d = np.where(y > 0, 1.0, 0.0)
        case "hard_sigmoid":
            d = np.where((y > 0) & (y < 1), a, 0.0)
        case "elu":
            d = np.where(y > 0, 1, y + a)
        case "softsign":
            d = np.square(1 - np.abs(y))
        case "softplus":
            d = -np.expm1(-y)  # 1 - e^-y = sigmoid(x)
        case "selu":
            d = np.where(y > 0, SELU_SCALE, y + SELU_SCALE * SELU_ALPHA)
        case "exponential":
            d = y.copy()
        case _:
            raise AssertionError(name)
    return d.astype(y.dtype, copy=False)


def fused(op: str, spec: Spec) -> Activation:
    """Parse the activation of linear or conv1d, whose backward knows only the activated output."""
    activation = parse(spec)
    if activation.name not in FUSED:
        raise ValueError(f"[{op}] activation: expected one of {', '.join(sorted(FUSED))}, got {activation.name}")
    return activation


def activation(x: Array, spec: Spec) -> Array:
    """Elementwise activation. x (...) -> y (...), same dtype."""
    return f(x, parse(spec))


def activation_backward(x: Array, grad_y: Array, spec: Spec) -> Array:
    """x (...) the input of `activation`, grad_y (...) -> grad_x (...)."""
    return grad_y * d_f(x, parse(spec))
