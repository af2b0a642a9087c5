"""What the tests of fastrnn.load_keras share: Keras, and models of it with random weights.

Keras picks its backend from KERAS_BACKEND; without it, torch is taken where it is installed.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

if find_spec("torch"):
    os.environ.setdefault("KERAS_BACKEND", "torch")
# Keras is found but does not import where its backend is missing
keras = pytest.importorskip("keras", exc_type=ImportError)
pytest.importorskip("h5py")
L: Any = keras.layers

B, T, I, U, V = 4, 8, 3, 5, 11
CELLS = ["SimpleRNN", "LSTM", "GRU"]
Array = np.ndarray[Any, Any]


def ids() -> Array:
    x = np.random.default_rng(0).integers(1, V, (B, T))
    x[0, 3:] = x[1, :2] = x[2, 4] = 0  # padding behind, before, a gap
    return x


def draw() -> Array:
    return np.random.default_rng(1).normal(size=(B, T, I)).astype(np.float32)


def sequential(*stack: Any, tokens: bool = False, dtype: str = "float32") -> Any:
    """A Keras model with random weights."""
    model = keras.Sequential([keras.Input((T,) if tokens else (T, I), dtype="int32" if tokens else dtype), *stack])
    rng = np.random.default_rng(5)
    model.set_weights([rng.normal(0, 0.4, w.shape) for w in model.get_weights()])
    return model
