"""Backward of every layer against numeric derivatives in float64: x and all weights, every combination."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from fastrnn import layers
from fastrnn.layers import GRU, LSTM, Attention, Bidirectional, Conv1D, Dense, SimpleRNN, TimeDistributed
from layer_tools import check_gradients, randomize

B, T, I, U = 3, 5, 3, 2
MASK = np.array([[1, 0, 1, 1, 0], [0, 1, 1, 1, 1], [0, 0, 0, 0, 0]], dtype=bool)
CELLS: dict[str, Any] = {
    "rnn": SimpleRNN,
    "lstm": LSTM,
    "gru": GRU,
    "gru_before": lambda *a, **k: GRU(*a, reset_after=False, **k),
}


def draw(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape or (B, T, I))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("sequences", "backwards", "masked"), list(product((False, True), repeat=3)))
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_recurrent(cell: str, sequences: bool, backwards: bool, masked: bool, dropout: float) -> None:
    layer = CELLS[cell](
        U, return_sequences=sequences, go_backwards=backwards, dropout=dropout, recurrent_dropout=dropout,
        dtype="float64",
    )  # fmt: skip
    check_gradients(layer, draw(), mask=MASK if masked else None)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("sequences", [False, True])
def test_recurrent_states(cell: str, zero: bool, sequences: bool) -> None:
    layer = CELLS[cell](
        U, return_sequences=sequences, return_state=True, zero_output_for_mask=zero, use_bias=False, dtype="float64"
    )
    initial = [draw(B, U, seed=4 + k) for k in range(layer.state_count)]
    check_gradients(layer, draw(), mask=MASK, initial_state=initial)
    # and the initial states themselves
    x, direction = draw(), draw(B, U, seed=9)

    def value(step: float) -> float:
        moved = [s + step * direction for s in initial]
        y = layer.forward(x, mask=MASK, initial_state=moved, training=True)
        return float(sum(part.sum() for part in y))

    numeric = (value(1e-5) - value(-1e-5)) / 2e-5
    y = layer.forward(x, mask=MASK, initial_state=initial, training=True)
    layer.backward([np.ones_like(part) for part in y])
    analytic = sum(float((g * direction).sum()) for g in layer.grad_initial_state)
    assert numeric == pytest.approx(analytic, rel=1e-6)


@pytest.mark.parametrize("activation", ["relu", "gelu", "elu", "softsign", "linear"])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_recurrent_activations(cell: str, activation: str) -> None:
    check_gradients(CELLS[cell](U, activation=activation, dtype="float64"), draw())


@pytest.mark.parametrize("mode", ["concat", "sum", "mul", "ave", None])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_bidirectional(cell: str, mode: str | None, masked: bool, sequences: bool) -> None:
    inner = CELLS[cell](U, return_sequences=sequences, dropout=0.3, recurrent_dropout=0.3, dtype="float64")
    check_gradients(Bidirectional(inner, merge_mode=mode), draw(), mask=MASK if masked else None)


@pytest.mark.parametrize("mode", ["concat", "mul", None])
@pytest.mark.parametrize("sequences", [False, True])
def test_bidirectional_states(mode: str | None, sequences: bool) -> None:
    inner = LSTM(U, return_sequences=sequences, return_state=True, dtype="float64")
    check_gradients(Bidirectional(inner, merge_mode=mode), draw(), mask=MASK)


def test_bidirectional_mixed_directions() -> None:
    layer = Bidirectional(
        GRU(U, return_sequences=True, go_backwards=True, dtype="float64"),
        backward_layer=SimpleRNN(U + 1, return_sequences=True, dtype="float64"),
    )
    check_gradients(layer, draw(), mask=MASK)


@pytest.mark.parametrize("activation", [None, "relu", "sigmoid", "softmax", "gelu", "leaky_relu", ("elu", 0.5)])
@pytest.mark.parametrize("shape", [(B, I), (B, T, I)])
def test_dense(activation: Any, shape: tuple[int, ...]) -> None:
    check_gradients(Dense(4, activation=activation, dtype="float64"), draw(*shape))


def test_dense_without_bias() -> None:
    check_gradients(Dense(4, use_bias=False, dtype="float64"), draw(B, I))


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_dense_backward_logits(activation: str) -> None:
    layer, x, grad_logits = Dense(4, activation=activation, dtype="float64"), draw(B, I), draw(B, 4)
    layer.build((None, I))
    randomize(layer)
    linear = Dense(4, dtype="float64")
    linear.build((None, I))
    linear.set_weights(layer.get_weights())
    linear.forward(x, training=True)
    wanted = linear.backward(grad_logits)
    layer.forward(x, training=True)
    np.testing.assert_allclose(layer.backward_logits(grad_logits), wanted, atol=1e-12)
    for a, b in zip(layer.weights, linear.weights, strict=True):
        np.testing.assert_allclose(a.grad, b.grad, atol=1e-12)


@pytest.mark.parametrize("padding", ["valid", "same", "causal"])
@pytest.mark.parametrize(("strides", "dilation"), [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize("activation", ["tanh", "silu"])
def test_conv1d(padding: str, strides: int, dilation: int, activation: str) -> None:
    layer = Conv1D(
        2, 3, strides=strides, padding=padding, dilation_rate=dilation, activation=activation, dtype="float64"
    )
    check_gradients(layer, draw(B, 7, I))


@pytest.mark.parametrize("name", ["MaxPooling1D", "AveragePooling1D"])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("strides", [None, 1, 3])
def test_pooling(name: str, padding: str, strides: int | None) -> None:
    check_gradients(getattr(layers, name)(2, strides, padding, dtype="float64"), draw(B, 7, I))


@pytest.mark.parametrize("name", ["GlobalMaxPooling1D", "GlobalAveragePooling1D"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("keepdims", [False, True])
def test_global_pooling(name: str, masked: bool, keepdims: bool) -> None:
    layer = getattr(layers, name)(keepdims=keepdims, dtype="float64")
    check_gradients(layer, draw(), mask=MASK if masked else None)


@pytest.mark.parametrize(
    "options", [{"units": 4}, {}, {"units": 2, "use_bias": False}, {"score": "dot"}], ids=["4", "F", "no bias", "dot"]
)
@pytest.mark.parametrize("masked", [False, True])
def test_attention(options: dict[str, Any], masked: bool) -> None:
    check_gradients(Attention(**options, dtype="float64"), draw(), mask=MASK if masked else None)


@pytest.mark.parametrize("activation", ["tanh", "softmax", "relu"])
def test_activation(activation: str) -> None:
    check_gradients(layers.Activation(activation, dtype="float64"), draw())


@pytest.mark.parametrize(
    "layer",
    [
        layers.Dropout(0.4, dtype="float64"),
        layers.Dropout(0.0, dtype="float64"),
        layers.Dropout(0.4, noise_shape=(None, 1, I), dtype="float64"),
        layers.SpatialDropout1D(0.4, dtype="float64"),
        layers.Flatten(dtype="float64"),
        layers.Reshape((I, -1), dtype="float64"),
        layers.Permute((2, 1), dtype="float64"),
        layers.Masking(dtype="float64"),
        TimeDistributed(Dense(4, activation="tanh", dtype="float64")),
        TimeDistributed(layers.Dropout(0.4, dtype="float64")),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_others(layer: Any) -> None:
    check_gradients(layer, draw())


def test_time_distributed_recurrent_and_repeat() -> None:
    check_gradients(TimeDistributed(LSTM(U, dtype="float64")), draw(2, 3, T, I))
    check_gradients(layers.RepeatVector(4, dtype="float64"), draw(B, I))


def test_embedding() -> None:
    layer = layers.Embedding(6, 3, dtype="float64")
    ids = np.array([[1, 1, 5], [0, 2, 1]])
    check_gradients(layer, ids, differentiate_x=False)
    assert layer.embeddings.grad is not None and (layer.embeddings.grad[[3, 4]] == 0).all()


@pytest.mark.parametrize(
    "layer",
    [
        Dense(3, activity_regularizer="l2", activation="tanh", dtype="float64"),
        LSTM(U, activity_regularizer="l1", return_sequences=True, dtype="float64"),
        Bidirectional(GRU(U, activity_regularizer="l2", dtype="float64"), merge_mode="mul"),
    ],
    ids=["Dense", "LSTM", "Bidirectional"],
)
def test_activity_regularizer(layer: Any) -> None:
    x = draw()
    layer.build((None, T, I))
    randomize(layer)

    def value() -> float:
        y = layer.forward(x, training=True)
        return float(y.sum()) + layer.losses

    y = layer.forward(x, training=True)
    assert layer.losses > 0
    grad_x = layer.backward(np.ones_like(y))
    for array, gradient in [(x, grad_x), *((v.value, v.grad) for v in layer.weights)]:
        direction = draw(*array.shape, seed=2)
        saved = array.copy()
        array += 1e-5 * direction
        above = value()
        array[...] = saved - 1e-5 * direction
        numeric = (above - value()) / 2e-5
        array[...] = saved
        assert numeric == pytest.approx(float((gradient * direction).sum()), rel=1e-6)


@pytest.mark.parametrize(
    "layer",
    [Dense(3), LSTM(3), Bidirectional(GRU(3, dropout=0.5)), Conv1D(2, 3), Attention(), Attention(score="dot"),
     TimeDistributed(Dense(2)), layers.Masking(), layers.MaxPooling1D(), layers.GlobalMaxPooling1D(),
     layers.AveragePooling1D(), layers.GlobalAveragePooling1D(), layers.Dropout(0.5), layers.Activation("tanh")],
    ids=lambda layer: type(layer).__name__,
)  # fmt: skip
def test_need_grad_x(layer: Any) -> None:
    """Without it the weights' gradients are the same and x's is None."""
    x = draw().astype(np.float32)
    layers.Layer.reset_states(layer)
    if not layer.built:
        layer.build((None, T, I))
    gradients = []
    for need in (True, False):
        layers.base.initializers.set_seed(0)
        layer.need_grad_x = need
        y = layer.forward(x, training=True)
        grad_x = layer.backward(np.ones_like(y))
        assert (grad_x is not None) == need
        gradients.append([v.grad for v in layer.weights])
    for a, b in zip(*gradients, strict=True):
        np.testing.assert_array_equal(a, b)


def test_backward_needs_a_training_forward() -> None:
    layer = Dense(2)
    y = layer(draw(B, I))
    with pytest.raises(RuntimeError, match=r"\[Dense\] backward: expected a forward with training=True"):
        layer.backward(y)
    y = layer(draw(B, I), training=True)
    layer.backward(y)
    with pytest.raises(RuntimeError):
        layer.backward(y)  # used up
