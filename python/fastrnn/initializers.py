"""Initial values of weights, with Keras's names and distributions, and the one generator all randomness is drawn from.

Values are drawn in double precision and rounded, so float32 and float64 layers start alike. The random bits are
NumPy's, not Keras's: the distributions agree, the numbers do not.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import numbers
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _specs
from ._numbers import as_float

__all__ = [
    "Constant", "GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform", "Identity", "Initializer", "LecunNormal",
    "LecunUniform", "Ones", "Orthogonal", "RandomNormal", "RandomUniform", "TruncatedNormal", "VarianceScaling",
    "Zeros", "compute_fans", "constant", "deserialize", "draw_seed", "generator", "get", "glorot_normal",
    "glorot_uniform", "he_normal", "he_uniform", "identity", "lecun_normal", "lecun_uniform", "ones", "orthogonal",
    "own_generator", "random_normal", "random_uniform", "serialize", "set_seed", "truncated_normal",
    "variance_scaling", "zeros",
]  # fmt: skip

_generator = np.random.default_rng()
# of one thread, while it is inside `own_generator`
_own: ContextVar[np.random.Generator | None] = ContextVar("fastrnn_generator", default=None)


def generator() -> np.random.Generator:
    """The generator of everything random that was not given a seed of its own."""
    own = _own.get()
    return _generator if own is None else own


@contextlib.contextmanager
def own_generator(seed: int | None) -> Iterator[None]:
    """While this lasts, everything random in this thread comes from a generator of its own, started from `seed`: other
    threads neither disturb it nor are disturbed."""
    token = _own.set(np.random.default_rng(seed))
    try:
        yield
    finally:
        _own.reset(token)


def set_seed(seed: int | None) -> None:
    """Start the generator again from `seed` (from the system's entropy if None)."""
    global _generator
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, numbers.Integral)):
        raise TypeError(f"[set_seed] seed: expected None or an integer of at least 0, got {seed!r}")
    if seed is not None and seed < 0:
        raise ValueError(f"[set_seed] seed: expected None or an integer of at least 0, got {seed!r}")
    _generator = np.random.default_rng(None if seed is None else int(seed))


def draw_seed(source: np.random.Generator | None = None) -> int:
    """A fresh seed for a counter-based generator (dropout)."""
    return int((source or generator()).integers(0, 2**63 - 1))


class Initializer:
    """`initializer(shape, dtype)` returns an array. With a seed, the same array at every call (as in Keras)."""

    def __init__(self, seed: int | None = None) -> None:
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, numbers.Integral)):
            raise TypeError(f"[{type(self).__name__}] seed: expected None or an integer of at least 0, got {seed!r}")
        if seed is not None and seed < 0:
            raise ValueError(f"[{type(self).__name__}] seed: expected None or an integer of at least 0, got {seed!r}")
        self.seed = None if seed is None else int(seed)

    def __call__(self, shape: Sequence[int], dtype: Any = "float32") -> npt.NDArray[Any]:
        """An array of that shape and dtype."""
        rng = generator() if self.seed is None else np.random.default_rng(self.seed)
        return np.ascontiguousarray(self._draw(tuple(shape), rng), dtype=np.dtype(dtype or "float32"))

    def _draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[Any]:
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as JSON values."""
        return {"seed": self.seed}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Initializer:
        """An initializer from what `get_config` gave."""
        return cls(**config)


def _number(op: str, arg: str, value: Any, minimum: float = -math.inf) -> float:
    words = "a finite number" if minimum == -math.inf else f"a finite number of at least {minimum:g}"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"[{op}] {arg}: expected {words}, got {value!r}")
    number = as_float(value)
    if not math.isfinite(number) or number < minimum:
        raise ValueError(f"[{op}] {arg}: expected {words}, got {value!r}")
    return number


class Zeros(Initializer):
    """All 0."""

    def __init__(self) -> None:
        super().__init__()

    def _draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[Any]:
        return np.zeros(shape)

    def get_config(self) -> dict[str, Any]:
        return {}


class Ones(Zeros):
    """All 1."""

    def _draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[Any]:
        return np.ones(shape)


class Constant(Initializer):
    """A number, or an array of the weight's shape (a pretrained embedding)."""

    def __init__(self, value: Any = 0.0) -> None:
        super().__init__()
        self.value = np.asarray(value)
        if self.value.dtype.kind not in "fiub":
            raise TypeError(f"[Constant] value: expected real numbers, got dtype {self.value.dtype}")
        if not np.isfinite(self.value).all():
            raise ValueError("[Constant] value: expected finite numbers, got NaN or infinity")

    def _draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[Any]:
        if self.value.ndim and self.value.shape != shape:
            raise ValueError(f"[Constant] value: expected shape {shape}, got {self.value.shape}")
        return np.broadcast_to(self.value, shape)

    def get_config(self) -> dict[str, Any]:
        return {"value": self.value.tolist()}


class Identity(Initializer):
    """`gain` times the identity, for weights of two axes; ValueError for others."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.gain = _number("Identity", "gain", gain)

    def _draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[Any]:
        if len(shape) != 2:
            raise ValueError(f"[Identity] shape: expected two axes, got {shape}")
        return self.gain * np.eye(*shape)

    def get_config(self) -> dict[str, Any]:
        return {"gain": self.gain}


class RandomNormal(Initializer):
    """A normal distribution."""

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None) -> None:
        super().__init__(seed)
        self.mean = _number(type(self).__name__, "mean", mean)
        self.stddev = _number(type(self).__name__, "stddev", stddev, 0.0)

    def _draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[Any]:
        return rng.normal(self.mean, self.stddev, shape)

    def get_config(self) -> dict[str, Any]:
        return {"mean": self.mean, "stddev": self.stddev, "seed": self.seed}


class TruncatedNormal(RandomNormal):
    """A normal distribution of which values beyond two standard deviations are drawn again."""

    def _draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[Any]:
        return self.mean + self.stddev * _truncated(shape, rng)


class RandomUniform(Initializer):
    """Uniform between `minval` and `maxval`."""

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: int | None = None) -> None:
        super().__init__(seed)
        self.minval = _number("RandomUniform", "minval", minval)
        self.maxval = _number("RandomUniform", "maxval", maxval, self.minval)

    def _draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[Any]:
        return rng.uniform(self.minval, self.maxval, shape)

    def get_config(self) -> dict[str, Any]:
        return {"minval": self.minval, "maxval": self.maxval, "seed": self.seed}


def _truncated(shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[Any]:
    values = rng.standard_normal(shape)
    flat = values.reshape(-1)
    while (beyond := np.flatnonzero(np.abs(flat) > 2.0)).size:
        flat[beyond] = rng.standard_normal(beyond.size)
    return values


def compute_fans(shape: Sequence[int]) -> tuple[int, int]:
    """Inputs and outputs of one unit, for Keras layouts: (in, out), (K, in, out), or a vector."""
    if len(shape) == 0:
        return 1, 1
    if len(shape) == 1:
        return int(shape[0]), int(shape[0])
    field = math.prod(shape[:-2])
    return int(shape[-2] * field), int(shape[-1] * field)


class VarianceScaling(Initializer):
    """Variance `scale / fan`. "truncated_normal", "untruncated_normal" or "uniform" ("normal" is the first)."""

    # standard deviation of a normal distribution cut at two standard deviations
    _CUT = 0.87962566103423978

    def __init__(
        self, scale: float = 1.0, mode: str = "fan_in", distribution: str = "truncated_normal", seed: int | None = None
    ) -> None:
        super().__init__(seed)
        op = type(self).__name__
        self.scale = _number(op, "scale", scale, 0.0)
        if self.scale == 0.0:
            raise ValueError(f"[{op}] scale: expected a positive number, got {scale!r}")
        if mode not in ("fan_in", "fan_out", "fan_avg"):
            raise ValueError(f"[{op}] mode: expected 'fan_in', 'fan_out' or 'fan_avg', got {mode!r}")
        if distribution == "normal":
            distribution = "truncated_normal"
        if distribution not in ("truncated_normal", "untruncated_normal", "uniform"):
            words = "'truncated_normal', 'untruncated_normal' or 'uniform'"
            raise ValueError(f"[{op}] distribution: expected {words}, got {distribution!r}")
        self.mode = mode
        self.distribution = distribution

    def _draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[Any]:
        fan_in, fan_out = compute_fans(shape)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(1.0, fan)
        if self.distribution == "uniform":
            limit = math.sqrt(3.0 * variance)
            return rng.uniform(-limit, limit, shape)
        if self.distribution == "truncated_normal":
            return math.sqrt(variance) / self._CUT * _truncated(shape, rng)
        return rng.normal(0.0, math.sqrt(variance), shape)

    def get_config(self) -> dict[str, Any]:
        config = {"scale": self.scale, "mode": self.mode, "distribution": self.distribution, "seed": self.seed}
        # the named ones below are fixed but for their seed
        return config if type(self) is VarianceScaling else {"seed": self.seed}


class GlorotUniform(VarianceScaling):
    """Uniform, variance 2 / (fan_in + fan_out)."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(1.0, "fan_avg", "uniform", seed)


class GlorotNormal(VarianceScaling):
    """Truncated normal, variance 2 / (fan_in + fan_out)."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(1.0, "fan_avg", "truncated_normal", seed)


class HeUniform(VarianceScaling):
    """Uniform, variance 2 / fan_in."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(2.0, "fan_in", "uniform", seed)


class HeNormal(VarianceScaling):
    """Truncated normal, variance 2 / fan_in."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(2.0, "fan_in", "truncated_normal", seed)


class LecunUniform(VarianceScaling):
    """Uniform, variance 1 / fan_in."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(1.0, "fan_in", "uniform", seed)


class LecunNormal(VarianceScaling):
    """Truncated normal, variance 1 / fan_in."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(1.0, "fan_in", "truncated_normal", seed)


class Orthogonal(Initializer):
    """Orthonormal columns (rows, if fewer) of the array seen as a matrix: all axes but the last, the last."""

    def __init__(self, gain: float = 1.0, seed: int | None = None) -> None:
        super().__init__(seed)
        self.gain = _number("Orthogonal", "gain", gain)

    def _draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[Any]:
        if len(shape) < 2:
            raise ValueError(f"[Orthogonal] shape: expected at least two axes, got {shape}")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
        # QR leaves the signs open; fixing those of R's diagonal makes the distribution uniform (Mezzadri 2007)
        q = q * np.where(np.diag(r) < 0, -1.0, 1.0)
        return self.gain * (q.T if rows < columns else q).reshape(shape)

    def get_config(self) -> dict[str, Any]:
        return {"gain": self.gain, "seed": self.seed}


zeros, ones, constant, identity, orthogonal = Zeros, Ones, Constant, Identity, Orthogonal
random_normal, random_uniform, truncated_normal = RandomNormal, RandomUniform, TruncatedNormal
variance_scaling, glorot_uniform, glorot_normal = VarianceScaling, GlorotUniform, GlorotNormal
he_uniform, he_normal, lecun_uniform, lecun_normal = HeUniform, HeNormal, LecunUniform, LecunNormal

_CLASSES: dict[str, type[Initializer]] = {
    "zeros": Zeros, "ones": Ones, "constant": Constant, "identity": Identity, "orthogonal": Orthogonal,
    "random_normal": RandomNormal, "random_uniform": RandomUniform, "truncated_normal": TruncatedNormal,
    "variance_scaling": VarianceScaling, "glorot_uniform": GlorotUniform, "glorot_normal": GlorotNormal,
    "he_uniform": HeUniform, "he_normal": HeNormal, "lecun_uniform": LecunUniform, "lecun_normal": LecunNormal,
}  # fmt: skip
_NAMES: dict[str, Callable[..., Initializer]] = {
    **_CLASSES, **{c.__name__: c for c in _CLASSES.values()},
    "zero": Zeros, "one": Ones, "eye": Identity, "normal": RandomNormal, "uniform": RandomUniform,
}  # fmt: skip


class _Wrapped(Initializer):
    """A plain function of the user's. It cannot be written down in a configuration."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def __call__(self, shape: Sequence[int], dtype: Any = "float32") -> npt.NDArray[Any]:
        parameters = inspect.signature(self.function).parameters
        value = self.function(tuple(shape), dtype=dtype) if "dtype" in parameters else self.function(tuple(shape))
        array = np.array(value, dtype=np.dtype(dtype or "float32"))
        if array.shape != tuple(shape):
            raise ValueError(f"[initializers] result: expected shape {tuple(shape)}, got {array.shape}")
        return array

    def get_config(self) -> dict[str, Any]:
        raise TypeError(f"[initializers] value: expected a named initializer to write it down, got {self.function!r}")


def get(spec: Any) -> Initializer:
    """A name, an Initializer, its configuration, a function of the shape, an array, a number. None: glorot_uniform."""
    if spec is None:
        return GlorotUniform()
    if isinstance(spec, np.ndarray) or (isinstance(spec, numbers.Real) and not isinstance(spec, bool)):
        return Constant(spec)
    if callable(spec) and not isinstance(spec, (Initializer, type)):
        return _Wrapped(spec)
    return _specs.resolve("initializers", spec, Initializer, _NAMES)


def serialize(initializer: Initializer) -> dict[str, Any]:
    """`{"class_name": ..., "config": {...}}`, all JSON values."""
    written = _specs.serialize("initializers", initializer, Initializer)
    assert written is not None
    return written


deserialize = get
