"""The five text classifiers of the command line and the one table of their defaults; building only, no training.

basic: Embedding, recurrent. stacked: two recurrent layers. bidirectional: one in each direction.
hybrid: Conv1D and MaxPooling1D before the recurrent layer. attention: a learned weighted mean over its outputs.
Each ends in Dense(1, sigmoid) and reads rows of word ids padded in front with 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .layers import Layer
    from .models import Sequential

MODELS = ("basic", "stacked", "bidirectional", "hybrid", "attention")
CELLS = ("rnn", "lstm", "gru")
OPTIMIZERS = ("adam", "adamw", "rmsprop", "sgd")


@dataclass(frozen=True)
class Settings:
    """What one training run is made of.

    vocabulary: ids 0 .. vocabulary - 1 (0 padding, 1 start, 2 unknown). maxlen: tokens of a review that are read,
    its last ones. dropout: on the embedding (whole channels) and before the last layer. mask_zero: padding is
    skipped by the recurrent layers. patience: epochs without a better validation accuracy before stopping.
    """

    vocabulary: int = 20_000
    maxlen: int = 400
    embedding: int = 64
    units: int = 64
    dropout: float = 0.4
    epochs: int = 5
    batch_size: int = 64
    learning_rate: float = 1e-3
    optimizer: str = "adam"
    validation_split: float = 0.1
    patience: int = 2
    mask_zero: bool = True

    def __post_init__(self) -> None:
        for name, least in (("vocabulary", 5), ("maxlen", 1), ("embedding", 1), ("units", 1), ("epochs", 1),
                            ("batch_size", 1), ("patience", 0)):  # fmt: skip
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"[settings] {name}: expected an integer, got {value!r}")
            if value < least:
                raise ValueError(f"[settings] {name}: expected >= {least}, got {value}")
        for name, high in (("dropout", 1.0), ("validation_split", 1.0), ("learning_rate", math.inf)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise TypeError(f"[settings] {name}: expected a number, got {value!r}")
            if not (0 <= value < high and (value > 0 or name == "dropout")):  # also refuses NaN
                raise ValueError(
                    f"[settings] {name}: expected {'0 <=' if name == 'dropout' else '0 <'} {name}"
                    f"{'' if high == math.inf else f' < {high:g}'} and finite, got {value!r}"
                )
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"[settings] optimizer: expected one of {', '.join(OPTIMIZERS)}, got {self.optimizer!r}")
        if not isinstance(self.mask_zero, bool):
            raise TypeError(f"[settings] mask_zero: expected True or False, got {self.mask_zero!r}")


DEFAULTS: dict[str, Settings] = {
    "basic": Settings(),
    "stacked": Settings(),
    "bidirectional": Settings(),
    "hybrid": Settings(mask_zero=False),  # Conv1D reads the padding, so there is nothing to skip behind it
    "attention": Settings(),
}
# The generated sample is small and its rules are exact: short rows, more epochs, a higher rate, hardly any dropout.
_SAMPLE = {"maxlen": 80, "epochs": 12, "learning_rate": 3e-3, "dropout": 0.1, "patience": 4}


def settings(model: str, dataset: str = "imdb", **given: Any) -> Settings:
    """The defaults of `model` for "imdb" or "sample", with what is given (and not None) in their place."""
    _check("model", model, MODELS)
    names = {field.name for field in fields(Settings)}
    if unknown := set(given) - names:
        raise TypeError(f"[settings] {min(unknown)}: expected one of {', '.join(sorted(names))}, got an unknown name")
    changes: dict[str, Any] = dict(_SAMPLE) if dataset == "sample" else {}
    changes.update({name: value for name, value in given.items() if value is not None})
    return replace(DEFAULTS[model], **changes)


def _check(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"[zoo] {name}: expected one of {', '.join(allowed)}, got {value!r}")


def build(model: str, cell: str, given: Settings | None = None, **changes: Any) -> Sequential:
    """An uncompiled Sequential: ids (B, T) with T = maxlen -> (B, 1), the probability that a review is positive.

    given: its measures (default: the model's own); `changes` replace single ones, as `build("basic", "gru", units=8)`.
    Raises ValueError or TypeError for an unknown name or a measure that makes no sense.
    """
    from . import layers
    from .models import Sequential

    _check("model", model, MODELS)
    _check("cell", cell, CELLS)
    s = given or DEFAULTS[model]
    s = Settings(**{**asdict(s), **changes})
    recurrent: Callable[..., Layer] = {"rnn": layers.SimpleRNN, "lstm": layers.LSTM, "gru": layers.GRU}[cell]
    stack: list[Layer] = [
        layers.Embedding(s.vocabulary, s.embedding, mask_zero=s.mask_zero, input_shape=(s.maxlen,)),
        layers.SpatialDropout1D(s.dropout),
    ]
    if model == "basic":
        stack += [recurrent(s.units)]
    elif model == "stacked":
        stack += [recurrent(s.units, return_sequences=True), recurrent(s.units)]
    elif model == "bidirectional":
        stack += [layers.Bidirectional(recurrent(s.units))]
    elif model == "hybrid":
        stack += [
            layers.Conv1D(s.units, 5, padding="same", activation="relu"),
            layers.MaxPooling1D(4, padding="same"),
            recurrent(s.units),
        ]
    else:
        stack += [recurrent(s.units, return_sequences=True), layers.Attention()]
    stack += [layers.Dropout(s.dropout), layers.Dense(1, activation="sigmoid")]
    return Sequential(stack, name=f"{model}_{cell}")
