"""Names and parameters of the activations, and Keras's callables.

An activation is given by its name, by (name, alpha) or (name, alpha, beta), by {"name": ..., "alpha": ...}, or by one
of the functions below. Recurrent layers take any of them in any slot.
"""

# No formulas: those are in reference/pointwise.py (NumPy) and in the kernels (C++).

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import numpy.typing as npt

from ._numbers import as_float

Array = npt.NDArray[Any]

# The integer is the id the C++ core uses: the order is part of the interface, append only.
NAMES: dict[str, int] = {
    name: index
    for index, name in enumerate(
        (
            "linear", "tanh", "sigmoid", "relu", "hard_sigmoid", "elu", "leaky_relu", "softsign", "softplus",
            "scaled_tanh", "affine", "thresholded_relu", "selu", "gelu", "silu", "exponential",
        )
    )
}  # fmt: skip
ALIASES: dict[str, str] = {"swish": "silu", "exp": "exponential"}

# Defaults of the parameters an activation takes: (alpha,) or (alpha, beta). The others take none.
DEFAULTS: dict[str, tuple[float, ...]] = {
    "hard_sigmoid": (1.0 / 6.0, 0.5),
    "elu": (1.0,),
    "leaky_relu": (0.2,),
    "scaled_tanh": (1.0, 1.0),
    "affine": (1.0, 0.0),
    "thresholded_relu": (1.0,),
}

# Activations whose derivative can be written in terms of the result: linear and conv1d may fuse these.
FUSED = frozenset(
    {"linear", "tanh", "sigmoid", "relu", "hard_sigmoid", "elu", "softsign", "softplus", "selu", "exponential"}
)


class Activation(NamedTuple):
    """An activation with its parameters; alpha and beta are 0 where the activation takes none."""

    name: str
    alpha: float = 0.0
    beta: float = 0.0

    @property
    def id(self) -> int:
        """The id the C++ core knows the activation by."""
        return NAMES[self.name]


class ActivationFunction(Protocol):
    """A callable `f(x) -> ndarray` that carries its `Activation` in `.spec`."""

    spec: Activation
    __name__: str

    def __call__(self, x: npt.ArrayLike) -> Array: ...


# None | "tanh" | ("elu", 0.5) | {"name": "affine", "alpha": 2.0, "beta": 1.0} | Activation | a callable of this module
Spec = str | Activation | tuple[Any, ...] | Mapping[str, Any] | ActivationFunction | Callable[..., Any] | None


def _fail(error: type[Exception], spec: object) -> Exception:
    known = ", ".join(sorted([*NAMES, *ALIASES]))
    return error(f"[activation] spec: expected one of {known}, alone or with alpha and beta, got {spec!r}")


def _number(name: str, what: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"[activation] {name} {what}: expected a number, got {type(value).__name__} {value!r}")
    number = as_float(value)
    if not math.isfinite(number):
        raise ValueError(f"[activation] {name} {what}: expected a finite number, got {value!r}")
    return number


def _make(spec: object, name: object, parameters: dict[str, object]) -> Activation:
    if not isinstance(name, str):
        raise _fail(TypeError, spec)
    name = name.lower()
    name = ALIASES.get(name, name)
    if name not in NAMES:
        raise _fail(ValueError, spec)
    values = dict(zip(("alpha", "beta"), DEFAULTS.get(name, ()), strict=False))
    for what, value in parameters.items():
        number = _number(name, what, value)
        if what not in values:
            takes = " and ".join(values) or "no parameter"
            raise ValueError(f"[activation] {name}: expected {takes}, got {what}={value!r}")
        if name == "elu" and number < 0:  # its derivative is taken from its result, whose sign must be that of x
            raise ValueError(f"[activation] elu alpha: expected a number >= 0, got {value!r}")
        values[what] = number
    return Activation(name, **values)


def parse(spec: Spec) -> Activation:
    """Bring any way of naming an elementwise activation to an `Activation`.

    Raises ValueError for an unknown name or parameter, TypeError for anything that is not a specification.
    """
    if spec is None:
        return Activation("linear")
    if isinstance(spec, str):
        return _make(spec, spec, {})
    if isinstance(spec, Activation):
        count = len(DEFAULTS.get(ALIASES.get(spec.name, spec.name), ()))
        return _make(spec, spec.name, dict(zip(("alpha", "beta")[:count], spec[1:], strict=False)))
    if isinstance(spec, (tuple, list)):
        if not 1 <= len(spec) <= 3:
            raise _fail(ValueError, spec)
        return _make(spec, spec[0], dict(zip(("alpha", "beta"), spec[1:], strict=False)))
    if isinstance(spec, Mapping):
        if spec.get("class_name") == "function" and "config" in spec:  # as Keras writes them into a configuration
            return parse(spec["config"])
        unknown = set(spec) - {"name", "alpha", "beta"}
        if "name" not in spec or unknown:
            raise _fail(ValueError, dict(spec))
        return _make(dict(spec), spec["name"], {k: v for k, v in spec.items() if k != "name" and v is not None})
    attached = getattr(spec, "spec", None)
    if isinstance(attached, Activation):
        return attached
    if spec is softmax:
        raise ValueError("[activation] spec: expected an elementwise activation, got softmax")
    raise _fail(TypeError, spec)


def _as_float(x: npt.ArrayLike) -> Array:
    array = np.asarray(x)
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def _function(spec: Activation) -> ActivationFunction:
    def apply(x: npt.ArrayLike) -> Array:
        from . import functional  # late: functional itself needs this module

        return functional.activation(_as_float(x), spec)

    function = cast(ActivationFunction, apply)
    function.spec = spec
    function.__name__ = apply.__qualname__ = spec.name
    apply.__doc__ = f"The activation {spec.name}, elementwise."
    return function


linear = _function(parse("linear"))
tanh = _function(parse("tanh"))
sigmoid = _function(parse("sigmoid"))
relu = _function(parse("relu"))
hard_sigmoid = _function(parse("hard_sigmoid"))
elu = _function(parse("elu"))
leaky_relu = _function(parse("leaky_relu"))
softsign = _function(parse("softsign"))
softplus = _function(parse("softplus"))
scaled_tanh = _function(parse("scaled_tanh"))
affine = _function(parse("affine"))
thresholded_relu = _function(parse("thresholded_relu"))
selu = _function(parse("selu"))
gelu = _function(parse("gelu"))
silu = swish = _function(parse("silu"))
exponential = exp = _function(parse("exponential"))


def softmax(x: npt.ArrayLike) -> Array:
    """Softmax over the last axis: not elementwise, so no `.spec`; recurrent layers cannot use it."""
    from . import functional

    return functional.softmax(_as_float(x))


def get(spec: Spec) -> Callable[..., Array]:
    """The callable for a specification, as `keras.activations.get`; an unknown callable is returned as it is."""
    if spec is softmax or spec == "softmax":
        return softmax
    if callable(spec) and not isinstance(getattr(spec, "spec", None), Activation):
        return spec
    activation = parse(spec)
    function = globals().get(activation.name)
    return function if function is not None and function.spec == activation else _function(activation)


def serialize(spec: Spec) -> str | dict[str, Any]:
    """The JSON form of a specification: its name, or a dict where alpha or beta is not the default."""
    if spec is softmax or spec == "softmax":
        return "softmax"
    activation = parse(spec)
    if activation == parse(activation.name):
        return activation.name
    count = len(DEFAULTS[activation.name])
    return {"name": activation.name, **dict(zip(("alpha", "beta")[:count], activation[1:], strict=False))}


deserialize = get
