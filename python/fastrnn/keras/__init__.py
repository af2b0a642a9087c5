"""Keras 3 on these kernels, and Keras's models in fastrnn.

`patch()` sets the recurrent hooks of the running Keras (numpy or torch backend), `unpatch()` takes them out again;
`load` (also `fastrnn.load_keras`) reads a `.keras` file or a live model into a `fastrnn.Sequential`, without Keras.
"""

from __future__ import annotations

from .hooks import Patch, patch, unpatch
from .loading import load

__all__ = ["Patch", "load", "patch", "unpatch"]
