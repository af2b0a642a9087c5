"""Layers one by one: Keras's behaviour where no recurrence is involved, shapes, masks, configurations, wrong input."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from fastrnn import activations, constraints, initializers, layers, regularizers
from fastrnn.layers import (
    GRU,
    LSTM,
    Activation,
    Attention,
    AveragePooling1D,
    Bidirectional,
    Conv1D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    Input,
    InputLayer,
    Layer,
    Masking,
    MaxPooling1D,
    Permute,
    RepeatVector,
    Reshape,
    SimpleRNN,
    SpatialDropout1D,
    TimeDistributed,
    base,
)
from layer_tools import Array, flat, randomize

B, T, I = 3, 6, 4
MASK = np.array([[1, 1, 0, 1, 0, 1], [0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]], dtype=bool)


def draw(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape or (B, T, I)).astype(np.float32)


EVERY: list[tuple[Layer, tuple[int, ...]]] = [
    (SimpleRNN(3, activation="relu", dropout=0.1, input_shape=(T, I)), (B, T, I)),
    (LSTM(3, return_sequences=True, recurrent_dropout=0.2, unit_forget_bias=False, kernel_regularizer="l2",
          recurrent_constraint=constraints.MaxNorm(1.5), seed=3, return_state=True), (B, T, I)),
    (GRU(3, reset_after=False, go_backwards=True, activity_regularizer=regularizers.L1(0.2), use_bias=False),
     (B, T, I)),
    (GRU(3, recurrent_activation=("hard_sigmoid", 0.2, 0.5), zero_output_for_mask=True), (B, T, I)),
    (LSTM(3, stateful=True, batch_input_shape=(B, T, I)), (B, T, I)),
    (Bidirectional(GRU(3, return_sequences=True), merge_mode="mul", input_shape=(T, I)), (B, T, I)),
    (Bidirectional(LSTM(2), backward_layer=GRU(4, go_backwards=True)), (B, T, I)),
    (Bidirectional(LSTM(2), merge_mode=None, trainable=False), (B, T, I)),
    (Dense(3, activation="softmax", kernel_initializer=initializers.HeNormal(seed=4), bias_constraint="non_neg"),
     (B, I)),
    (Dense(3, activation=activations.relu, use_bias=False), (B, T, I)),
    (Conv1D(3, [2], padding="causal", dilation_rate=2, activation="gelu", bias_initializer="ones"), (B, T, I)),
    (MaxPooling1D(3, strides=2, padding="same"), (B, T, I)),
    (AveragePooling1D(), (B, T, I)),
    (GlobalMaxPooling1D(keepdims=True), (B, T, I)),
    (GlobalAveragePooling1D(), (B, T, I)),
    (Attention(5, query_regularizer="l1"), (B, T, I)),
    (Attention(score="dot"), (B, T, I)),
    (Activation(("elu", 0.3)), (B, T, I)),
    (Activation("softmax"), (B, T, I)),
    (Dropout(0.3, noise_shape=(None, 1, I), seed=5), (B, T, I)),
    (SpatialDropout1D(0.3), (B, T, I)),
    (Masking(-1.0), (B, T, I)),
    (TimeDistributed(Dense(2, activation="tanh")), (B, T, I)),
    (TimeDistributed(Flatten()), (B, T, I, 2)),
    (Flatten(), (B, T, I)),
    (Reshape((2, -1)), (B, T, I)),
    (Permute((2, 1)), (B, T, I)),
    (RepeatVector(5), (B, I)),
    (Embedding(7, 3, mask_zero=True, input_length=T, embeddings_constraint="unit_norm"), (B, T)),
    (InputLayer((T, I)), (B, T, I)),
]  # fmt: skip


@pytest.mark.parametrize(("layer", "shape"), EVERY, ids=lambda v: v.name if isinstance(v, Layer) else "")
def test_configuration_round_trip(layer: Layer, shape: tuple[int, ...]) -> None:
    spec = json.loads(json.dumps(layers.serialize(layer)))
    copy = layers.deserialize(spec)
    assert type(copy) is type(layer) and copy.name == layer.name
    assert layers.serialize(copy) == layers.serialize(layer)
    x = draw(*shape) if not isinstance(layer, Embedding) else np.random.default_rng(0).integers(0, 7, shape)
    for each in (layer, copy):
        each.reset_states()
        each(x)
    randomize(layer)
    copy.set_weights(layer.get_weights())
    assert [v.name for v in layer.weights] == [v.name for v in copy.weights]
    assert len({v.name for v in layer.weights}) == len(layer.weights)
    assert copy.trainable == layer.trainable and len(copy.trainable_weights) == len(layer.trainable_weights)
    for each in (layer, copy):
        each.reset_states()
    outputs, again = flat(layer(x)), flat(copy(x))
    for a, b in zip(outputs, again, strict=True):
        np.testing.assert_array_equal(a, b)
    # the announced shape is the true one
    announced = layer.compute_output_shape(shape)
    wanted = [tuple(s) for s in announced] if isinstance(announced, list) else [tuple(announced)]
    assert wanted == [y.shape for y in outputs]
    open_batch = layer.compute_output_shape((None, *shape[1:]))
    assert (open_batch[0][0] if isinstance(open_batch, list) else open_batch[0]) is None


def test_every_layer_is_registered() -> None:
    assert {type(layer).__name__ for layer, _ in EVERY} == set(layers._LAYERS)
    with pytest.raises(ValueError, match=r"\[deserialize\] class_name: expected one of .*LSTM.*, got 'Lstm'"):
        layers.deserialize({"class_name": "Lstm", "config": {}})
    with pytest.raises(TypeError, match=r"\[deserialize\]"):
        layers.deserialize("LSTM")

    class Mine(Dense):
        pass

    assert isinstance(layers.deserialize(layers.serialize(Mine(3)), {"Mine": Mine}), Mine)


def test_names() -> None:
    base.reset_names()
    assert [Dense(1).name, Dense(1).name, GlobalMaxPooling1D().name, Conv1D(1, 1).name, SimpleRNN(1).name] == [
        "dense", "dense_1", "global_max_pooling1d", "conv1d", "simple_rnn",
    ]  # fmt: skip
    assert Dense(1, name="out").name == "out"
    layer = Bidirectional(LSTM(2))
    layer.build((None, T, I))
    assert layer.forward_layer.name == "forward_lstm" and layer.backward_layer.name == "backward_lstm"
    assert [v.name for v in layer.weights][::3] == ["forward_kernel", "backward_kernel"]
    with pytest.raises(ValueError, match=r"\[Dense\] name: expected"):
        Dense(1, name="a/b")


def test_weights() -> None:
    layer = Dense(2)
    with pytest.raises(ValueError, match=r"count_params: expected a built layer"):
        layer.count_params()
    with pytest.raises(RuntimeError, match=r"forward: expected a built layer"):
        layer.forward(draw(2, 3))
    with pytest.raises(ValueError, match=r"expected 0 arrays, got 2 \(the layer is not built\)"):
        layer.set_weights([np.ones((3, 2)), np.ones(2)])
    layer.build((None, 3))
    before = layer.get_weights()
    with pytest.raises(ValueError, match=r"\[Dense\] bias: expected shape \(2,\), got \(3,\)"):
        layer.set_weights([np.ones((3, 2)), np.ones(3)])
    np.testing.assert_array_equal(layer.get_weights()[0], before[0])  # nothing was written
    buffer = layer.kernel.value
    layer.set_weights([np.arange(6).reshape(3, 2), [1, 2]])
    assert layer.kernel.value is buffer and buffer[2, 1] == 5 and layer.kernel.dtype == np.float32
    layer.get_weights()[0][...] = 9  # a copy
    assert buffer[2, 1] == 5
    assert layer.count_params() == 8
    layer.trainable = False
    assert layer.trainable_weights == [] and len(layer.non_trainable_weights) == 2


def test_regularization_gradients() -> None:
    layer = Dense(2, kernel_regularizer=regularizers.L1L2(0.1, 0.2), dtype="float64")
    x = draw(3, 4).astype(np.float64)
    layer(x, training=True)
    layer.backward(np.zeros((3, 2)))
    assert layer.kernel.grad is not None and not layer.kernel.grad.any()
    layer.add_regularization_gradients()
    w = layer.kernel.value
    np.testing.assert_allclose(layer.kernel.grad, 0.1 * np.sign(w) + 0.4 * w)
    assert layer.losses == pytest.approx(0.1 * np.abs(w).sum() + 0.2 * (w**2).sum())
    layer.trainable = False
    assert layer.losses == 0.0


def test_floatx_and_dtypes() -> None:
    assert Dense(1).dtype == "float32"
    base.set_floatx("float64")
    try:
        assert Dense(2)(np.ones((1, 2), np.float32)).dtype == np.float64
    finally:
        base.set_floatx("float32")
    assert Dense(2)([[1, 2], [3, 4]]).dtype == np.float32  # nested lists, integers
    assert Dense(2)(np.ones((1, 2), ">f4")).dtype == np.dtype("float32")
    for bad in ("float16", "int32", 3):
        with pytest.raises(ValueError, match=r"\[Dense\] dtype: expected 'float32' or 'float64'"):
            Dense(1, dtype=bad)
    with pytest.raises(TypeError, match=r"\[Dense\] inputs: expected real numbers"):
        Dense(1)(np.array([["a"]]))
    with pytest.raises(ValueError, match=r"\[Dense\] inputs: expected an array, got nested lists of uneven length"):
        Dense(1)([[1.0, 2.0], [3.0]])


def test_input_shapes() -> None:
    assert LSTM(3, input_shape=(10, 1))._batch_input_shape == (None, 10, 1)
    assert LSTM(3, batch_input_shape=(8, None, 1)).get_config()["batch_input_shape"] == [8, None, 1]
    assert Dense(3, input_dim=7)._batch_input_shape == (None, 7)
    assert LSTM(3, input_dim=7, input_length=5)._batch_input_shape == (None, 5, 7)
    assert Embedding(10, 3, input_length=5)._batch_input_shape == (None, 5)
    assert Bidirectional(LSTM(3, input_shape=(10, 1)))._batch_input_shape == (None, 10, 1)
    assert Input(shape=(10, 1))._batch_input_shape == (None, 10, 1)
    assert Input((10,), batch_size=4, dtype="int32")._batch_input_shape == (4, 10)
    assert Input(batch_shape=(4, None, 2))._batch_input_shape == (4, None, 2)
    with pytest.raises(ValueError, match=r"\[InputLayer\] shape: expected a tuple"):
        Input()
    with pytest.raises(ValueError, match="got both"):
        Dense(3, input_shape=(3,), batch_input_shape=(2, 3))
    with pytest.raises(TypeError, match=r"\[Dense\] input_shape: expected a tuple of positive integers"):
        Dense(3, input_shape=(3.5,))


# ---- Embedding -----------------------------------------------------------------------------------------------------


def test_embedding() -> None:
    layer = Embedding(5, 3, mask_zero=True)
    ids = np.array([[1, 0, 4], [2, 2, 0]])
    y = layer(ids)
    np.testing.assert_array_equal(y, layer.embeddings.value[ids])
    np.testing.assert_array_equal(layer.compute_mask(None), ids != 0)
    for same in (ids.astype(np.int32), ids.astype(np.uint8), ids.astype(np.float32), ids.astype(float), ids.tolist()):
        np.testing.assert_array_equal(layer(same), y)
    assert layer.compute_output_shape((None, 3)) == (None, 3, 3)
    assert np.abs(Embedding(1000, 10)(np.arange(1000)[None])).max() <= 0.05
    plain = Embedding(5, 3)
    plain(ids)
    assert plain.compute_mask(None) is None


@pytest.mark.parametrize("bad", [[[5]], [[-1]], [[5.0]], [[-1.0]], [[1e30]], np.array([[2**63]], np.uint64)])
def test_embedding_out_of_range(bad: Any) -> None:
    with pytest.raises(ValueError, match=r"expected .*(\[0, 5\)|from 0 to 4), got"):
        Embedding(5, 3)(bad)


@pytest.mark.parametrize("bad", [[[0.5]], [[np.nan]], [[np.inf]]])
def test_embedding_fractions(bad: Any) -> None:
    with pytest.raises(ValueError, match=r"\[Embedding\] inputs: expected integer ids, got fractions"):
        Embedding(5, 3)(bad)


def test_embedding_pretrained() -> None:
    table = draw(5, 3)
    for layer in (
        Embedding(5, 3, weights=[table]),
        Embedding(5, 3, embeddings_initializer=initializers.Constant(table), trainable=False),
        Embedding(5, 3, embeddings_initializer=table),
    ):
        np.testing.assert_array_equal(layer([[4, 1]])[0], table[[4, 1]])
    with pytest.raises(ValueError, match=r"\[Embedding\] embeddings: expected shape \(5, 3\), got \(3, 5\)"):
        Embedding(5, 3, weights=[table.T])
    with pytest.raises(ValueError, match=r"\[Constant\] value: expected shape \(5, 4\), got \(5, 3\)"):
        Embedding(5, 4, embeddings_initializer=table)([[1]])


# ---- dropout and masks ---------------------------------------------------------------------------------------------


def test_dropout() -> None:
    x = np.ones((50, 40, 30), np.float32)
    layer = Dropout(0.3)
    assert layer(x) is x
    y = layer(x, training=True)
    np.testing.assert_allclose(np.unique(y), [0, 1 / 0.7], rtol=1e-6)
    assert abs((y == 0).mean() - 0.3) < 0.01
    assert not np.array_equal(y, layer(x, training=True))
    y = layer(x, training=True)
    np.testing.assert_array_equal(layer.backward(x), y)
    np.testing.assert_array_equal(Dropout(0.5, seed=1)(x, training=True), Dropout(0.5, seed=1)(x, training=True))
    initializers.set_seed(5)
    y = layer(x, training=True)
    initializers.set_seed(5)
    np.testing.assert_array_equal(layer(x, training=True), y)
    y = SpatialDropout1D(0.5)(x, training=True)
    assert (y == y[:, :1]).all() and 0.4 < (y[:, 0] == 0).mean() < 0.6
    y = Dropout(0.5, noise_shape=(50, 40, 1))(x, training=True)
    assert (y == y[..., :1]).all() and not (y == y[:, :1]).all()
    with pytest.raises(ValueError, match=r"noise_shape: expected extents of \(50, 40, 30\) or 1"):
        Dropout(0.5, noise_shape=(50, 1))(x)
    for bad in (1.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match=r"\[Dropout\] rate: expected a number in \[0, 1\)"):
            Dropout(bad)


def test_masking() -> None:
    x = draw()
    x[0, 2:] = -1
    x[1, 0, 1:] = -1
    layer = Masking(-1.0)
    y = layer(x)
    mask = layer.compute_mask(None)
    assert mask is not None
    np.testing.assert_array_equal(mask, [[1, 1, 0, 0, 0, 0], [1] * 6, [1] * 6])
    np.testing.assert_array_equal(y, np.where(mask[..., None], x, 0))


@pytest.mark.parametrize("layer", [Dense(2), Dropout(0.1), Activation("relu"), TimeDistributed(Dense(2))])
def test_masks_pass(layer: Layer) -> None:
    layer(draw())
    assert layer.compute_mask(MASK) is MASK


@pytest.mark.parametrize("layer", [Conv1D(2, 2), MaxPooling1D(), Flatten(), Reshape((-1,)), GlobalMaxPooling1D(),
                                   Attention(), LSTM(2)])  # fmt: skip
def test_masks_end(layer: Layer) -> None:
    layer(draw())
    assert layer.compute_mask(MASK) is None


@pytest.mark.parametrize("layer", [GlobalMaxPooling1D(), GlobalAveragePooling1D(), Attention(), Attention(score="dot")])
def test_pooling_looks_at_valid_steps_only(layer: Layer) -> None:
    x = draw()
    y = layer(x, mask=MASK)
    for row in (0, 1):
        kept = x[row][MASK[row]][None]
        np.testing.assert_allclose(y[row], layer(kept)[0], rtol=1e-5, atol=1e-6)
        assert not np.allclose(y[row], layer(x)[row], atol=1e-3)
    np.testing.assert_array_equal(y[2], 0)


def test_attention_by_hand() -> None:
    x = draw().astype(np.float64)
    layer = Attention(3, dtype="float64")
    layer(x)
    randomize(layer)
    kernel, bias, query = layer.get_weights()
    scores = np.tanh(x @ kernel + bias) @ query
    weights = np.exp(scores) * MASK
    weights = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-300)
    np.testing.assert_allclose(layer.attention_weights(x, MASK), weights, atol=1e-12)
    np.testing.assert_allclose(layer(x, mask=MASK), (weights[..., None] * x).sum(axis=1), atol=1e-12)
    dot = Attention(score="dot", dtype="float64")
    dot(x)
    randomize(dot)
    weights = np.exp(x @ dot.get_weights()[0] / np.sqrt(I))
    weights /= weights.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(dot(x), (weights[..., None] * x).sum(axis=1), atol=1e-12)
    with pytest.raises(ValueError, match=r"\[Attention\] units: expected None with score='dot'"):
        Attention(3, score="dot")
    with pytest.raises(ValueError, match=r"\[Attention\] score: expected one of 'additive', 'dot'"):
        Attention(3, score="cosine")


# ---- the others ----------------------------------------------------------------------------------------------------


def test_time_distributed_is_the_layer_at_each_step() -> None:
    x = draw(B, T, 5, I)
    inner = LSTM(3)
    layer = TimeDistributed(inner)
    y = layer(x)
    assert y.shape == (B, T, 3)
    for t in range(T):
        np.testing.assert_allclose(y[:, t], inner(x[:, t]), atol=1e-6)
    with pytest.raises(ValueError, match="without return_state and stateful"):
        TimeDistributed(LSTM(3, return_state=True))
    with pytest.raises(ValueError, match=r"inputs: expected shape \(batch, time, features, ...\), got \(3, 4\)"):
        TimeDistributed(Dense(3))(draw(3, 4))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Conv1D(3, 2, groups=2), r"\[Conv1D\] groups: expected 1"),
        (lambda: Conv1D(3, 2, strides=2, dilation_rate=2), r"\[Conv1D\] strides: expected 1 with dilation_rate=2"),
        (lambda: Conv1D(3, 2, padding="full"), r"\[Conv1D\] padding: expected one of 'valid', 'same', 'causal'"),
        (lambda: Conv1D(3, (2, 2)), r"\[Conv1D\] kernel_size: expected one positive integer"),
        (lambda: Conv1D(3, 2, data_format="channels_first"), r"\[Conv1D\] data_format: expected"),
        (lambda: Conv1D(3, 7)(draw()), r"\[Conv1D\] inputs: expected at least 7 steps for kernel_size=7"),
        (lambda: MaxPooling1D(7)(draw()), r"\[MaxPooling1D\] inputs: expected at least 7 steps for pool_size=7"),
        (lambda: MaxPooling1D(2, padding="causal"), r"\[MaxPooling1D\] padding: expected one of 'valid', 'same'"),
        (lambda: MaxPooling1D(0), r"\[MaxPooling1D\] pool_size: expected a positive integer, got 0"),
        (lambda: GlobalMaxPooling1D()(draw(3, 4)), r"\[GlobalMaxPooling1D\] inputs: expected shape"),
        (lambda: Dense(0), r"\[Dense\] units: expected a positive integer, got 0"),
        (lambda: Dense(2)(draw(3)), r"\[Dense\] input_shape: expected shape \(batch, ..., features\)"),
        (lambda: Dense(2, activation="rellu"), "expected one of"),
        (lambda: Embedding(0, 3), r"\[Embedding\] input_dim: expected a positive integer, got 0"),
        (lambda: Embedding(3, 0), r"\[Embedding\] output_dim: expected a positive integer, got 0"),
        (lambda: Reshape((5, -1))(draw()), r"\[Reshape\] inputs: expected extents that make \(5, -1\)"),
        (lambda: Reshape((5, 5))(draw()), r"\[Reshape\] inputs: expected extents that make \(5, 5\)"),
        (lambda: Reshape((-1, -1)), r"\[Reshape\] target_shape: expected at most one -1"),
        (lambda: Permute((1, 3)), r"\[Permute\] dims: expected each of 1 to 2 once"),
        (lambda: RepeatVector(3)(draw()), r"\[RepeatVector\] inputs: expected shape \(batch, features\)"),
        (lambda: Masking(float("nan")), r"\[Masking\] mask_value: expected a finite number"),
        (lambda: LSTM(3, activation="softmax"), "expected"),
    ],
)
def test_wrong_values(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_parameter_counts() -> None:
    # from the tables of model.summary() in Keras's documentation and tutorials
    for layer, shape, count in [
        (Embedding(10000, 32), (None, 500), 320000),
        (Embedding(20000, 128), (None, None), 2560000),
        (Conv1D(32, 7), (None, 500, 128), 28704),
        (Dense(1), (None, 32), 33),
        (Dense(10), (None, 784), 7850),
        (Attention(64), (None, 500, 32), 32 * 64 + 64 + 64),
    ]:
        layer.build(shape)
        assert layer.count_params() == count, layer


def test_masks_that_hold_everything_change_nothing() -> None:
    layer = LSTM(3, return_sequences=True)
    np.testing.assert_array_equal(layer(draw(), mask=np.ones((B, T), bool)), layer(draw()))
