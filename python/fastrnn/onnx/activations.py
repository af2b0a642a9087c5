"""Names and parameters of the activations of RNN, LSTM and GRU nodes. No formulas (reference/pointwise.py has them)."""

from __future__ import annotations

from collections.abc import Sequence

from ..activations import Activation

# ONNX name -> ours, and the defaults of alpha and beta where it takes them
_TABLE: dict[str, tuple[str, tuple[float, ...]]] = {
    "Relu": ("relu", ()),
    "Tanh": ("tanh", ()),
    "Sigmoid": ("sigmoid", ()),
    "Affine": ("affine", (1.0, 0.0)),
    "LeakyRelu": ("leaky_relu", (0.01,)),
    "ThresholdedRelu": ("thresholded_relu", (1.0,)),
    "ScaledTanh": ("scaled_tanh", (1.0, 1.0)),
    "HardSigmoid": ("hard_sigmoid", (0.2, 0.5)),
    "Elu": ("elu", (1.0,)),
    "Softsign": ("softsign", ()),
    "Softplus": ("softplus", ()),
}
_BY_LOWER = {name.lower(): name for name in _TABLE}
TO_ONNX = {ours: name for name, (ours, _) in _TABLE.items()}


def parse(names: Sequence[str], alphas: Sequence[float], betas: Sequence[float]) -> list[Activation]:
    """The activations of a node. Names in any case; alpha and beta are taken in order, each by the activations that
    have one, as ONNX Runtime does. Raises ValueError."""
    alphas, betas = list(alphas), list(betas)
    counts = len(alphas), len(betas)
    result = []
    for given in names:
        if given.lower() not in _BY_LOWER:
            raise ValueError(f"activations: expected one of {', '.join(_TABLE)}, got {given!r}")
        name, defaults = _TABLE[_BY_LOWER[given.lower()]]
        values = [
            source.pop(0) if source else default for default, source in zip(defaults, (alphas, betas), strict=False)
        ]
        result.append(Activation(name, *values))
    for what, rest, count in (("activation_alpha", alphas, counts[0]), ("activation_beta", betas, counts[1])):
        if rest:
            expected = f"at most {count - len(rest)} values, one for each of {', '.join(names)} that takes one"
            raise ValueError(f"{what}: expected {expected}, got {count}")
    return result


def name_of(activation: Activation) -> tuple[str, float | None, float | None] | None:
    """ONNX's name, alpha and beta (None where it takes none) of a recurrent activation; None: ONNX has no such."""
    if activation.name == "linear":
        return "Affine", 1.0, 0.0
    name = TO_ONNX.get(activation.name)
    if name is None:
        return None
    takes = len(_TABLE[name][1])
    return name, activation.alpha if takes > 0 else None, activation.beta if takes > 1 else None
