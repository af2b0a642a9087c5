"""ONNX: `export` writes a Sequential as an .onnx file, `load` runs one on the kernels, `backend` is an onnx.backend.

Needs the extra `onnx`. The gate orders are in gates.py, the activations' names in activations.py; what is exported and
what is run, operator by operator, is on the page on ONNX of the documentation.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

try:
    import onnx as _package
except ImportError:
    raise ImportError("[fastrnn.onnx] needs onnx: pip install 'fastrnn[onnx]'") from None

from .errors import Unsupported
from .export import export, to_proto
from .load import load
from .model import Model

if TYPE_CHECKING:
    from . import backend as backend

__all__ = ["Model", "Unsupported", "backend", "export", "load", "to_proto"]

del _package


def __getattr__(name: str) -> Any:
    if name == "backend":
        return importlib.import_module(".backend", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
