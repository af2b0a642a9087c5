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
    from . import inference as inference
    from . import initializers as initializers
    from . import keras as keras
    from . import layers as layers
    from . import losses as losses
    from . import metrics as metrics
    from . import models as models
    from . import native as native
    from . import onnx as onnx
    from . import optimizers as optimizers
    from . import preprocessing as preprocessing
    from . import reference as reference
    from . import regularizers as regularizers
    from . import runtime as runtime
    from . import saving as saving
    from . import sklearn as sklearn
    from . import streaming as streaming
    from . import torch as torch
    from . import utils as utils
    from . import zoo as zoo
    from .keras import load as load_keras  # noqa: F401
    from .layers import Input
    from .models import Sequential
    from .native import get_cmake_dir, get_include

    __version__: str

_MODULES = {
    "activations", "backend", "callbacks", "constraints", "datasets", "functional", "inference", "initializers",
    "layers", "losses", "metrics", "models", "native", "optimizers", "preprocessing", "reference", "regularizers",
    "runtime", "saving", "streaming", "utils", "zoo",
}  # fmt: skip
# Not part of what docs/versions.md covers, nor of `import *`.
_INSIDE = {"cli", "reports", "training"}
# They need a package that may not be there: not part of `import *`.
_EXTRAS = {"keras", "onnx", "sklearn", "torch"}
# name: (module, its name there)
_NAMES = {
    "Input": ("layers", "Input"),
    "Sequential": ("models", "Sequential"),
    "get_cmake_dir": ("native", "get_cmake_dir"),
    "get_include": ("native", "get_include"),
    "load_keras": ("keras", "load"),
}

__all__ = ["Input", "Sequential", "get_cmake_dir", "get_include", *sorted(_MODULES)]


def __getattr__(name: str) -> Any:
    if name in _MODULES or name in _EXTRAS or name in _INSIDE:
        return importlib.import_module(f".{name}", __name__)
    if name in _NAMES:
        module, inner = _NAMES[name]
        return getattr(importlib.import_module(f".{module}", __name__), inner)
    if name == "__version__":
        value = _version()
        globals()["__version__"] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_EXTRAS, *_NAMES, "__version__"})


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("fastrnn")
    except metadata.PackageNotFoundError:  # run from the source tree
        from . import _core

        return str(_core.version())
