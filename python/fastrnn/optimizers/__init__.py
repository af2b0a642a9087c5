"""The optimizers, with Keras's names, arguments and formulas. Options of all of them: see `Optimizer`."""

# They are in training/optimizers.py.

from ..training.optimizer import Optimizer
from ..training.optimizers import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Lion,
    Nadam,
    RMSprop,
    deserialize,
    get,
    serialize,
)  # fmt: skip
from . import schedules

__all__ = [
    "SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "Lion", "Nadam", "Optimizer", "RMSprop", "deserialize",
    "get", "schedules", "serialize",
]  # fmt: skip
