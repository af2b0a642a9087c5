"""Operators on elements: arithmetic, comparisons, activations, casts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ..activations import Activation
from ..reference.pointwise import f as reference_activation
from .erf import erf
from .node import Node, Runner, maker, operator
from .tensors import dtype_of

Array = npt.NDArray[Any]


def broadcast(node: Node, dtype: Any, *arrays: Array) -> tuple[int, ...]:
    """The common shape of `arrays`, if there is room for it."""
    try:
        shape = np.broadcast_shapes(*(a.shape for a in arrays))
    except ValueError:
        raise node.error(f"inputs: expected shapes that broadcast, got {[a.shape for a in arrays]}") from None
    return node.room(shape, dtype)


def _divide(a: Array, b: Array) -> Any:
    if a.dtype.kind == "f":
        return np.true_divide(a, b)
    if (b == 0).any():
        raise ValueError("B: expected divisors other than 0, got 0")
    if a.dtype.kind == "u":
        return np.floor_divide(a, b)
    quotient = np.floor_divide(a, b)  # integers are truncated towards zero
    return quotient + ((quotient < 0) & (quotient * b != a)).astype(a.dtype)


_BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": _divide,
    "Equal": np.equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "And": np.logical_and,
    "Or": np.logical_or,
    "Xor": np.logical_xor,
}


@operator(*_BINARY)
def _binary(node: Node, a: Array, b: Array) -> Any:
    node.same_type(a, b)
    broadcast(node, a.dtype, a, b)
    return _BINARY[node.op](a, b)


@operator("Pow")
def _pow(node: Node, a: Array, b: Array) -> Any:
    # integers by way of floats: NumPy refuses negative integer exponents
    base = np.float64 if a.dtype.kind in "iu" else a.dtype
    broadcast(node, np.result_type(base, b.dtype), a, b)
    return np.power(a.astype(base, copy=False), b).astype(a.dtype, copy=False)


@operator("Max", "Min", "Sum", "Mean")
def _variadic(node: Node, *arrays: Array) -> Any:
    node.same_type(*arrays)
    broadcast(node, arrays[0].dtype, *arrays)
    combine = {"Max": np.maximum, "Min": np.minimum}.get(node.op, np.add)
    result = arrays[0]
    for array in arrays[1:]:
        result = combine(result, array)
    return result / result.dtype.type(len(arrays)) if node.op == "Mean" else result


@operator("Where")
def _where(node: Node, condition: Array, a: Array, b: Array) -> Any:
    node.same_type(a, b)
    if condition.dtype != np.bool_:
        raise node.error(f"condition: expected bool, got {condition.dtype}")
    broadcast(node, a.dtype, condition, a, b)
    return np.where(condition, a, b)


_UNARY: dict[str, Callable[[Array], Array]] = {
    "Abs": np.abs,
    "Ceil": np.ceil,
    "Cos": np.cos,
    "Exp": np.exp,
    "Floor": np.floor,
    "Identity": lambda x: x,
    "Log": np.log,
    "Neg": np.negative,
    "Not": np.logical_not,
    "Reciprocal": np.reciprocal,
    "Round": np.rint,
    "Sign": np.sign,
    "Sin": np.sin,
    "Sqrt": np.sqrt,
}


@operator(*_UNARY)
def _unary(node: Node, x: Array) -> Any:
    node.room(x.shape, x.dtype)
    return _UNARY[node.op](x)


@operator("Erf")
def _erf(node: Node, x: Array) -> Any:
    node.room(x.shape, x.dtype)
    return erf(x)


# ---- activations ----------------------------------------------------------------------------------------------------

_ACTIVATIONS: dict[str, str] = {
    "Relu": "relu",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Softsign": "softsign",
    "Softplus": "softplus",
    "Elu": "elu",
    "LeakyRelu": "leaky_relu",
    "HardSigmoid": "hard_sigmoid",
    "ThresholdedRelu": "thresholded_relu",
    "Swish": "silu",
}


def _activate(node: Node, x: Array, activation: Activation) -> Array:
    """On the kernels where they take it."""
    from .. import functional as F

    wide = np.dtype(np.float32) if x.dtype == np.float16 else x.dtype
    node.room(x.shape, wide)
    numbers = x.astype(wide, copy=False)
    if wide not in (np.float32, np.float64) or (activation.name == "elu" and activation.alpha < 0):
        return reference_activation(numbers, activation).astype(x.dtype, copy=False)
    return F.activation(np.ascontiguousarray(numbers), activation).reshape(x.shape).astype(x.dtype, copy=False)


@maker(*_ACTIVATIONS)
def _activation(node: Node) -> Runner:
    values = [node.attributes[name] for name in ("alpha", "beta") if node.attributes.get(name) is not None]
    if node.op == "Swish":
        if values not in ([], [1.0]):
            raise node.unsupported(f"alpha: expected 1, got {values[0]}")
        values = []
    spec = Activation(_ACTIVATIONS[node.op], *values)
    return lambda x: _activate(node, x, spec)


@operator("Selu")
def _selu(node: Node, x: Array) -> Any:
    node.room(x.shape, x.dtype)
    alpha, gamma = (x.dtype.type(node.attributes[name]) for name in ("alpha", "gamma"))
    return gamma * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


@maker("Gelu")
def _gelu(node: Node) -> Runner:
    if node.attributes["approximate"] != "none":
        raise node.unsupported(f"approximate: expected none, got {node.attributes['approximate']!r}")
    return lambda x: _activate(node, x, Activation("gelu"))


@operator("Clip")
def _clip(node: Node, x: Array, low: Array | None = None, high: Array | None = None) -> Any:
    bounds = []
    for name, given in (("min", low), ("max", high)):
        value = given if given is not None else node.attributes.get(name)
        if value is not None and np.size(value) != 1:
            raise node.error(f"{name}: expected a single number, got shape {np.shape(value)}")
        bounds.append(None if value is None else x.dtype.type(np.asarray(value).reshape(())))
    node.room(x.shape, x.dtype)
    lower, upper = bounds
    if lower is not None:
        x = np.maximum(x, lower)
    return x if upper is None else np.minimum(x, upper)


@maker("Cast")
def _cast(node: Node) -> Runner:
    try:
        dtype = dtype_of(node.attributes["to"])
    except ValueError as error:
        raise node.unsupported(f"to: {error}") from None

    return lambda x: _cast_to(node, x, dtype)


@operator("CastLike")
def _cast_like(node: Node, x: Array, like: Array) -> Any:
    return _cast_to(node, x, like.dtype)


def _cast_to(node: Node, x: Array, dtype: np.dtype[Any]) -> Array:
    node.room(x.shape, dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        return x.astype(dtype)


@maker("Dropout")
def _dropout(node: Node) -> Runner:
    """Of inference: the input as it is, and a mask of what was kept (all) where one is asked for."""
    if len(node.inputs) > 2 and node.inputs[2]:
        mode = node.constant(2)
        if mode is None or mode.size != 1 or bool(mode.reshape(())):
            raise node.unsupported("training_mode: expected false, known when the model is loaded")
    return lambda x, *rest: (x, np.ones(node.room(x.shape, np.bool_), np.bool_))[: len(node.outputs)]
