"""Frozen models: the same results as the model they were made of, bit for bit, and no way back to training."""

import numpy as np
import pytest

from fastrnn import functional as F
from fastrnn import layers, models, reference, runtime

CELLS = {"rnn": layers.SimpleRNN, "lstm": layers.LSTM, "gru": layers.GRU}


def recurrent(cell, units, **options):
    reset = {"reset_after": False} if cell == "gru_before" else {}
    return CELLS[cell.removesuffix("_before")](units, **reset, **options)


def ids(rng, batch, time, words):
    x = rng.integers(1, words, (batch, time))
    x[batch // 2 :, time // 2 :] = 0
    return x


@pytest.mark.parametrize("isa", runtime.available_isas())
@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("mask_zero", [True, False])
@pytest.mark.parametrize("both_ways", [True, False])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru", "gru_before"])
def test_predicts_what_the_model_predicts(cell, both_ways, mask_zero, fold, isa):
    rng = np.random.default_rng(0)
    with runtime.use_isa(isa):
        first = recurrent(cell, 17, return_sequences=True)
        model = models.Sequential([
            layers.Embedding(50, 9, mask_zero=mask_zero),
            layers.SpatialDropout1D(0.5),
            layers.Bidirectional(first) if both_ways else first,
            recurrent(cell, 5, dropout=0.3, recurrent_dropout=0.3),
            layers.Dense(2),
        ])  # fmt: skip
        for batch in (1, 3, 40):
            x = ids(rng, batch, 12, 50)
            expected = model(x)
            frozen = model.freeze(fold_embedding=fold)
            np.testing.assert_array_equal(frozen(x), expected)
            np.testing.assert_array_equal(frozen.predict(x, batch_size=2), model.predict(x, batch_size=2))


def test_keeps_the_weights_of_its_making():
    rng = np.random.default_rng(1)
    model = models.Sequential([layers.Embedding(20, 4), layers.LSTM(6), layers.Dense(1)])
    x = ids(rng, 3, 5, 20)
    before = model(x)
    frozen = model.freeze()
    model.set_weights([w + 1 for w in model.get_weights()])
    np.testing.assert_array_equal(frozen(x), before)
    assert not np.array_equal(model(x), before)


def test_stateful():
    rng = np.random.default_rng(2)
    model = models.Sequential([layers.GRU(7, stateful=True, batch_input_shape=(2, 3, 4))])
    x = rng.standard_normal((2, 3, 4)).astype(np.float32)
    frozen = model.freeze()
    for _ in range(3):
        np.testing.assert_array_equal(frozen(x), model(x))
    frozen.reset_states()
    model.reset_states()
    np.testing.assert_array_equal(frozen(x), model(x))


def test_folding_takes_the_memory_it_says():
    model = models.Sequential([layers.Embedding(1000, 8), layers.LSTM(16)])
    model.build((None, 5))
    folded, packed = model.freeze(), model.freeze(fold_embedding=False)
    assert folded.nbytes - packed.nbytes == 1000 * 4 * 16 * 4 or runtime.isa() == "baseline"
    assert packed.nbytes >= (8 + 16 + 1) * 64 * 4


def test_what_cannot_be_done():
    model = models.Sequential([layers.Embedding(20, 4), layers.LSTM(6)])
    with pytest.raises(ValueError, match=r"\[freeze\] model: expected a built model"):
        model.freeze()
    model.build((None, 5))
    with pytest.raises(ValueError, match="precision: expected"):
        model.freeze("float31")
    with pytest.raises(TypeError, match="fold_embedding: expected"):
        model.freeze(fold_embedding="yes")
    frozen = model.freeze(fold_embedding=False)
    layer = frozen._model.layers[1]
    with pytest.raises(RuntimeError, match=r"\[LSTM\] training: expected False for a frozen layer"):
        layer.forward(np.zeros((1, 5, 4), np.float32), training=True)
    with pytest.raises(ValueError, match="ids from 0 to 19"):
        model.freeze()([[20]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru", "gru_before"])
@pytest.mark.parametrize("hidden", [1, 7, 16, 33, 65])
def test_packed_weights_and_tables(cell, hidden, dtype):
    rng = np.random.default_rng(3)
    name, reset = cell.removesuffix("_before"), {"reset_after": False} if cell == "gru_before" else {}
    gates, inputs, words = {"rnn": 1, "lstm": 4, "gru": 3}[name], 6, 30
    shapes = ((gates * hidden, inputs), (gates * hidden, hidden), (gates * hidden,), (gates * hidden,))
    weights = [(rng.standard_normal(s) * 0.5 * hidden**-0.5).astype(dtype) for s in shapes]
    embedding = rng.standard_normal((words, inputs)).astype(dtype)
    tokens, lengths = rng.integers(0, words, (5, 11)), np.array([11, 0, 4, 1, 9])
    options = dict(lengths=lengths, reverse=True, **reset)
    expected = getattr(F, name)(embedding[tokens], *weights, **options)[0]
    packed = F.pack_weights(name, *weights, **reset)
    got = getattr(F, name)(embedding[tokens], packed, **options)[0]
    looked_up = getattr(F, name)(tokens, packed.project(embedding), **options)[0]
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(looked_up, expected)
    want = getattr(reference, name)(embedding[tokens], *weights, **options)[0]
    np.testing.assert_allclose(got, want, rtol=0, atol=3e-6 if dtype == np.float32 else 1e-14)


def test_packed_weights_are_checked():
    rng = np.random.default_rng(4)
    weights = [rng.standard_normal(s).astype(np.float32) for s in ((8, 3), (8, 2))]
    packed = F.pack_weights("lstm", *weights)
    x = np.zeros((1, 4, 3), np.float32)
    table = packed.project(np.zeros((5, 3), np.float32))
    for call, words in (
        (lambda: F.pack_weights("lstn", *weights), "cell: expected 'rnn', 'lstm' or 'gru'"),
        (lambda: F.pack_weights("gru", *weights), "weight_hh: expected shape"),
        (lambda: F.gru(x, packed), "weights: expected those of this cell"),
        (lambda: F.lstm(x[..., :2], packed), "x: expected I = 3 input features"),
        (lambda: F.lstm(x, packed, weights[1]), "weight_hh: expected None beside packed weights"),
        (lambda: F.lstm(x, packed, return_workspace=True), "weights: expected arrays in training"),
        (lambda: packed.project(np.zeros((5, 4), np.float32)), "embedding: expected shape"),
        (lambda: F.lstm(np.array([[5]]), table), "tokens: expected values from 0 to V - 1 = 4, got 5"),
        (lambda: F.lstm(np.array([[-1]]), table), "tokens: expected values from 0 to V - 1 = 4, got -1"),
        (lambda: F.lstm(np.array([1]), table), "x: expected shape"),
    ):
        with pytest.raises(ValueError, match=words.replace("(", r"\(")):
            call()
    for call, words in (
        (lambda: F.lstm(x.astype(np.float64), packed), "weights packed from the dtype of x"),
        (lambda: F.lstm(x, table), "an integer dtype"),
        (lambda: packed.project(np.zeros((5, 3))), "dtype float32"),
    ):
        with pytest.raises(TypeError, match=words):
            call()


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru", "gru_before"])
def test_reduced_precision(cell, precision):
    rng = np.random.default_rng(5)
    model = models.Sequential([layers.Embedding(50, 9), layers.Bidirectional(recurrent(cell, 17))])
    x = ids(rng, 6, 12, 50)
    states = model(x)  # between -1 and 1
    folded = model.freeze(precision)(x)
    np.testing.assert_array_equal(model.freeze(precision, fold_embedding=False)(x), folded)
    assert 0 < np.abs(folded - states).max() < 0.03
