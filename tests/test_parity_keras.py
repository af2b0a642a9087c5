"""The layers against Keras itself: random weights, masks, directions, merge modes, padding, states.

Skipped without Keras, which picks its backend from KERAS_BACKEND; without it, torch is taken where it is installed.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from itertools import product
from typing import Any

import numpy as np
import pytest

from fastrnn import layers as ours
from layer_tools import Array, flat

if find_spec("torch"):
    os.environ.setdefault("KERAS_BACKEND", "torch")
# Keras is found but does not import where its backend is missing
keras = pytest.importorskip("keras", exc_type=ImportError)

B, T, I, U = 4, 6, 3, 5
MASK = np.array([[1, 1, 0, 1, 0, 1], [0, 0, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]], dtype=bool)
CELLS = ["SimpleRNN", "LSTM", "GRU"]


def draw(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape or (B, T, I)).astype(np.float32)


def as_array(value: Any) -> Array:
    return np.asarray(keras.ops.convert_to_numpy(value))


def pair(name: str, *args: Any, inner: tuple[str, dict[str, Any]] | None = None, **options: Any) -> tuple[Any, Any]:
    """The same layer from both libraries."""
    made = []
    for library in (keras.layers, ours):
        given = list(args)
        if inner is not None:
            given.insert(0, getattr(library, inner[0])(**inner[1]))
        made.append(getattr(library, name)(*given, **options))
    return made[0], made[1]


def compare(theirs: Any, mine: Any, x: Array, tol: float = 2e-6, call: dict[str, Any] | None = None) -> None:
    call = call or {}
    theirs(x, **call)
    mine(x, **call)
    weights = [as_array(w) for w in theirs.get_weights()]
    assert [w.shape for w in weights] == [w.shape for w in mine.get_weights()]
    rng = np.random.default_rng(3)
    weights = [rng.normal(0, 0.6, w.shape).astype(np.float32) for w in weights]
    theirs.set_weights(weights)
    mine.set_weights(weights)
    for layer in (theirs, mine):
        if getattr(layer, "stateful", False):
            layer.reset_state()
    assert theirs.count_params() == mine.count_params()
    for _ in range(2):  # twice: stateful layers carry on
        wanted, got = flat(theirs(x, **call)), flat(mine(x, **call))
        for a, b in zip(wanted, got, strict=True):
            a = as_array(a)
            assert a.shape == b.shape
            np.testing.assert_allclose(b, a, atol=tol, rtol=tol)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("sequences", "backwards", "masked", "zero"), list(product((False, True), repeat=4)))
def test_recurrent(cell: str, sequences: bool, backwards: bool, masked: bool, zero: bool) -> None:
    theirs, mine = pair(
        cell, U, return_sequences=sequences, go_backwards=backwards, zero_output_for_mask=zero, return_state=True
    )
    compare(theirs, mine, draw(), call={"mask": MASK} if masked else None)


@pytest.mark.parametrize("options", [
    {"reset_after": False}, {"use_bias": False}, {"reset_after": False, "use_bias": False},
    {"activation": "relu", "recurrent_activation": "hard_sigmoid"}, {"activation": None},
    {"activation": "elu", "recurrent_activation": "softsign"}, {"activation": "gelu"}, {"activation": "leaky_relu"},
])  # fmt: skip
def test_gru_options(options: dict[str, Any]) -> None:
    compare(*pair("GRU", U, return_sequences=True, **options), draw(), call={"mask": MASK})


@pytest.mark.parametrize("activation", ["relu", "selu", "silu", "softplus", "exponential", "hard_sigmoid", "linear"])
def test_lstm_activations(activation: str) -> None:
    compare(*pair("LSTM", U, activation=activation), draw(B, 3, I) / 3, tol=2e-5)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("backwards", [False, True])
def test_initial_state(cell: str, backwards: bool) -> None:
    initial = [draw(B, U, seed=k) for k in range(2 if cell == "LSTM" else 1)]
    # Keras's backends differ before the first valid step (numpy repeats the initial state, tensorflow gives zeros)
    mask = MASK | np.array([1, 0, 0, 0, 0, 1], bool)
    theirs, mine = pair(cell, U, return_sequences=True, return_state=True, go_backwards=backwards)
    compare(theirs, mine, draw(), call={"initial_state": initial, "mask": mask})


@pytest.mark.parametrize("cell", CELLS)
def test_stateful(cell: str) -> None:
    theirs, mine = pair(cell, U, stateful=True, return_sequences=True)
    compare(theirs, mine, draw())


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("mode", ["concat", "sum", "mul", "ave", None])
@pytest.mark.parametrize(("sequences", "masked"), list(product((False, True), repeat=2)))
def test_bidirectional(cell: str, mode: str | None, sequences: bool, masked: bool) -> None:
    inner = (cell, {"units": U, "return_sequences": sequences})
    theirs, mine = pair("Bidirectional", inner=inner, merge_mode=mode)
    compare(theirs, mine, draw(), call={"mask": MASK} if masked else None)


def test_bidirectional_states() -> None:
    inner = ("LSTM", {"units": U, "return_sequences": True, "return_state": True})
    theirs, mine = pair("Bidirectional", inner=inner)
    compare(theirs, mine, draw(), call={"initial_state": [draw(B, U, seed=k) for k in range(4)]})


@pytest.mark.parametrize("padding", ["valid", "same", "causal"])
@pytest.mark.parametrize(("strides", "dilation"), [(1, 1), (2, 1), (3, 1), (1, 2), (1, 3)])
@pytest.mark.parametrize("time", [7, 10])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_conv1d(padding: str, strides: int, dilation: int, time: int, size: int) -> None:
    theirs, mine = pair("Conv1D", 4, size, strides=strides, padding=padding, dilation_rate=dilation, activation="relu")
    x = draw(B, time, I)
    compare(theirs, mine, x, tol=2e-5)
    assert tuple(theirs.compute_output_shape(x.shape)) == mine.compute_output_shape(x.shape) == mine(x).shape


@pytest.mark.parametrize("name", ["MaxPooling1D", "AveragePooling1D"])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("size", "strides"), [(2, None), (3, 1), (3, 2), (2, 3), (5, None)])
@pytest.mark.parametrize("time", [6, 7, 11])
def test_pooling(name: str, padding: str, size: int, strides: int | None, time: int) -> None:
    theirs, mine = pair(name, size, strides, padding)
    x = draw(B, time, I)
    if keras.backend.backend() == "torch" and name == "AveragePooling1D" and padding == "same":
        pytest.skip("Keras on torch counts the padding in some averages, its other backends never")
    compare(theirs, mine, x)
    assert tuple(theirs.compute_output_shape(x.shape)) == mine.compute_output_shape(x.shape) == mine(x).shape


@pytest.mark.parametrize("keepdims", [False, True])
def test_global_pooling(keepdims: bool) -> None:
    compare(*pair("GlobalMaxPooling1D", keepdims=keepdims), draw())
    compare(*pair("GlobalAveragePooling1D", keepdims=keepdims), draw())
    some = MASK | np.array([1, 0, 0, 0, 0, 0], bool)  # Keras divides by zero where nothing is valid
    compare(*pair("GlobalAveragePooling1D", keepdims=keepdims), draw(), call={"mask": some})


@pytest.mark.parametrize("activation", [None, "relu", "softmax", "gelu", "silu", "tanh", "elu", "hard_sigmoid"])
@pytest.mark.parametrize("shape", [(B, I), (B, T, I), (2, 3, 4, I)])
def test_dense(activation: str | None, shape: tuple[int, ...]) -> None:
    compare(*pair("Dense", U, activation=activation), draw(*shape))


def test_the_rest() -> None:
    compare(*pair("Flatten"), draw())
    compare(*pair("Reshape", (I, -1)), draw())
    compare(*pair("Permute", (2, 1)), draw())
    compare(*pair("RepeatVector", 3), draw(B, I))
    compare(*pair("Activation", "softmax"), draw())
    compare(*pair("TimeDistributed", inner=("Dense", {"units": 4})), draw())
    compare(*pair("Masking", 0.0), draw() * MASK[..., None])
    compare(*pair("SpatialDropout1D", 0.5), draw())
    ids = np.random.default_rng(0).integers(0, 9, (B, T))
    theirs, mine = pair("Embedding", 9, 4, mask_zero=True)
    compare(theirs, mine, ids)
    np.testing.assert_array_equal(mine.compute_mask(None), as_array(theirs.compute_mask(ids)))


@pytest.mark.parametrize("cell", CELLS)
def test_embedding_masks_reach_the_recurrent_layers(cell: str) -> None:
    """Padding before, Keras's default, through Embedding(mask_zero), Bidirectional and recurrent layers."""

    def stack(library: Any) -> list[Any]:
        return [
            library.Embedding(9, 4, mask_zero=True),
            library.Bidirectional(getattr(library, cell)(U, return_sequences=True)),
            library.Dropout(0.5),
            getattr(library, cell)(U, return_sequences=True),
            library.GlobalAveragePooling1D(),
        ]  # fmt: skip

    ids = np.random.default_rng(0).integers(1, 9, (B, T))
    for row, length in enumerate((6, 3, 1, 5)):
        ids[row, : T - length] = 0
    theirs = keras.Sequential(stack(keras.layers))
    wanted = as_array(theirs(ids))
    x, mask, mine = ids, None, stack(ours)
    weights = [as_array(w) for w in theirs.get_weights()]
    for layer in mine:
        layer.build((None, *x.shape[1:]))
        layer.set_weights([weights.pop(0) for _ in layer.weights])
        x = layer(x, mask=mask)
        mask = layer.compute_mask(mask)
    np.testing.assert_allclose(x, wanted, atol=2e-6)


@pytest.mark.parametrize("name", [
    "glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_uniform", "lecun_normal", "random_normal",
    "random_uniform", "truncated_normal", "variance_scaling",
])  # fmt: skip
@pytest.mark.parametrize("shape", [(300, 400), (5, 60, 300)])
def test_initializers_have_keras_distributions(name: str, shape: tuple[int, ...]) -> None:
    from fastrnn import initializers

    initializers.set_seed(0)
    keras.utils.set_random_seed(0)
    mine, theirs = initializers.get(name)(shape), as_array(keras.initializers.get(name)(shape))
    assert mine.shape == theirs.shape and mine.dtype == theirs.dtype
    np.testing.assert_allclose(mine.std(), theirs.std(), rtol=0.02)
    np.testing.assert_allclose(np.abs(mine).max(), np.abs(theirs).max(), rtol=0.01 if "uniform" in name else 0.15)
    levels = np.linspace(0.05, 0.95, 19)
    spread = np.quantile(theirs, 0.95)
    np.testing.assert_allclose(np.quantile(mine, levels), np.quantile(theirs, levels), atol=0.03 * spread)


def test_penalties_and_constraints() -> None:
    from fastrnn import constraints, regularizers

    w = draw(7, 5)
    for name, options in [("L1", {"l1": 0.2}), ("L2", {"l2": 0.3}), ("L1L2", {"l1": 0.1, "l2": 0.2})]:
        wanted = float(getattr(keras.regularizers, name)(**options)(w))
        assert getattr(regularizers, name)(**options)(w) == pytest.approx(wanted, rel=1e-5)
    for name, options in [
        ("MaxNorm", {"max_value": 1.5}), ("NonNeg", {}), ("UnitNorm", {"axis": 1}),
        ("MinMaxNorm", {"min_value": 1.0, "max_value": 1.5, "rate": 0.7, "axis": [0, 1]}),
    ]:  # fmt: skip
        wanted = as_array(getattr(keras.constraints, name)(**options)(w))
        np.testing.assert_allclose(getattr(constraints, name)(**options)(w), wanted, rtol=1e-5)
    theirs, mine = pair("Dense", 4, kernel_regularizer="l2", activity_regularizer="l1")
    compare(theirs, mine, w)
    assert mine.losses == pytest.approx(float(sum(theirs.losses)), rel=1e-5)
