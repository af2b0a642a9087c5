"""What a user may say about one weight (initializer, regularizer, constraint), and a layer's output activation."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .. import activations, constraints, initializers, regularizers
from .. import functional as F

Array = npt.NDArray[Any]


class WeightSpec(NamedTuple):
    """The options `<name>_initializer`, `<name>_regularizer` and `<name>_constraint` of a layer."""

    name: str
    initializer: initializers.Initializer
    regularizer: regularizers.Regularizer | None
    constraint: constraints.Constraint | None

    @classmethod
    def take(cls, options: dict[str, Any], name: str, initializer: Any) -> WeightSpec:
        """Take the three options out of `options`; `initializer` is the default of the first."""
        given = options.pop(f"{name}_initializer", initializer)
        return cls(
            name,
            initializers.get(initializer if given is None else given),
            regularizers.get(options.pop(f"{name}_regularizer", None)),
            constraints.get(options.pop(f"{name}_constraint", None)),
        )

    @property
    def rules(self) -> dict[str, Any]:
        """The keyword arguments `Layer.add_weight` takes besides the initializer."""
        return {"regularizer": self.regularizer, "constraint": self.constraint}

    def config(self) -> dict[str, Any]:
        return {
            f"{self.name}_initializer": initializers.serialize(self.initializer),
            f"{self.name}_regularizer": regularizers.serialize(self.regularizer),
            f"{self.name}_constraint": constraints.serialize(self.constraint),
        }


class OutputActivation:
    """The activation after a product. Fused into the product where its derivative can be had from the result;
    otherwise (softmax, gelu, silu ...) a pass of its own that keeps what it needs."""

    def __init__(self, spec: Any) -> None:
        self.config = activations.serialize(spec)
        self.softmax = self.config == "softmax"
        self.spec = activations.parse("linear" if self.softmax else spec)
        plain = self.softmax or self.spec.name not in activations.FUSED
        # elu with a negative alpha is not monotonic: its derivative cannot be had from the result
        if self.spec.name == "elu" and self.spec.alpha < 0:
            plain = True
        # what linear and conv1d are to fuse
        self.fused = activations.parse("linear") if plain else self.spec
        self.separate = plain

    @property
    def is_sigmoid(self) -> bool:
        return not self.softmax and self.spec.name == "sigmoid"

    def forward(self, a: Array) -> Array:
        """The result for `a`, what the product (with `fused` in it) gave."""
        if self.softmax:
            return F.softmax(a)
        return F.activation(a, self.spec) if self.separate else a

    def backward(self, a: Array, y: Array, grad_y: Array) -> Array:
        """Gradient of `a` for that of `y = forward(a)`."""
        if self.softmax:
            return F.softmax_backward(y, np.asarray(grad_y))
        return F.activation_backward(a, grad_y, self.spec) if self.separate else grad_y
