"""fastrnn: recurrent networks on CPUs, under Keras's names. Nothing is imported until it is asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import activations as activations
    from . import backend as backend
    from . import callbacks as callbacks
    from . import constraints as constraints
    from . import datasets as datasets
    from . import functional as functional
    from . import initializers as initializers
    from . import layers as layers
    from . import losses as losses
    from . import metrics as metrics
    from . import models as models
    from . import optimizers as optimizers
    from . import preprocessing as preprocessing
    from . import reference as reference
    from . import regularizers as regularizers
    from . import runtime as runtime
    from . import saving as saving
    from . import sklearn as sklearn
    from . import streaming as streaming
    from . import utils as utils
    from . import zoo as zoo
    from .layers import Input
    from .models import Sequential

    __version__: str

_MODULES = {
    "activations", "backend", "callbacks", "cli", "constraints", "datasets", "functional", "initializers", "layers",
    "losses", "metrics", "models", "optimizers", "preprocessing", "reference", "regularizers", "reports", "runtime",
    "saving", "sklearn", "streaming", "training", "utils", "zoo",
}  # fmt: skip
_NAMES = {"Input": "layers", "Sequential": "models"}

__all__ = ["Input", "Sequential", *sorted(_MODULES)]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name in _NAMES:
        return getattr(importlib.import_module(f".{_NAMES[name]}", __name__), name)
    if name == "__version__":
        value = _version()
        globals()["__version__"] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("fastrnn")
    except metadata.PackageNotFoundError:  # run from the source tree
        return "0.1.0"
