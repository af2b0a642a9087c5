"""An Embedding followed by a Conv1D works per distinct token where that is cheaper, and nobody sees a difference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from core_settings import core, each_isa
from fastrnn import functional as F
from fastrnn import layers, models
from fastrnn.layers.tokens import Tokens

V, B, T = 60, 24, 50


def build(
    dtype: str = "float64", embedding: dict[str, Any] | None = None, between: tuple[Any, ...] = (), **conv: Any
) -> models.Sequential:
    conv = {"padding": "same", "activation": "relu", **conv}
    table = layers.Embedding(V, 24, dtype=dtype, input_shape=(T,), **embedding or {})
    stack = [table, *between, layers.Conv1D(20, 5, dtype=dtype, **conv)]
    model = models.Sequential([*stack, layers.GlobalAveragePooling1D(dtype=dtype), layers.Dense(1, dtype=dtype)])
    rng = np.random.default_rng(5)
    for v in model.weights:
        v.assign(rng.normal(0, 0.3, v.shape))
    model.compile(optimizer="sgd", loss="mse")
    return model


def batch(seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, V, (B, T)), rng.normal(size=(B, 1))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often each path is taken."""
    calls = {"tokens": 0, "array": 0}

    def count(name: str, key: str) -> None:
        function = getattr(F, name)

        def counting(*args: Any, **options: Any) -> Any:
            calls[key] += 1
            return function(*args, **options)

        monkeypatch.setattr(F, name, counting)

    count("token_conv1d", "tokens")
    count("conv1d", "array")
    return calls


def plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tokens, "worth_projecting", lambda *_: False)


CASES: list[dict[str, Any]] = [
    {},
    {"padding": "valid"},
    {"padding": "causal", "dilation_rate": 3},
    {"strides": 2},
    {"use_bias": False},
    {"activation": "gelu"},
    {"activation": "softmax"},
    {"kernel_regularizer": "l2", "activity_regularizer": "l2", "kernel_constraint": "max_norm"},
    {"embedding": {"mask_zero": True}},
    {"embedding": {"trainable": False}},
    {"embedding": {"embeddings_regularizer": "l2", "embeddings_constraint": "unit_norm"}},
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_same_training(case: dict[str, Any], monkeypatch: pytest.MonkeyPatch, counted: dict[str, int]) -> None:
    """Losses, gradients, weights and predictions after some steps, with and without."""
    results = []
    for plain in (False, True):
        if plain:
            plainly(monkeypatch)
        model = build(**case)
        losses = [model.train_on_batch(*batch(seed)) for seed in range(3)]
        x, y = batch(9)
        figures = [model.evaluate(x, y, verbose=0), model.predict(x, verbose=0), model(x), model.predict_on_batch(x)]
        gradients = [v.grad for v in model.trainable_weights]
        assert all(isinstance(g, np.ndarray) for g in gradients)
        results.append([losses, *figures, *gradients, *model.get_weights()])
    assert counted == {"tokens": 7, "array": 7}
    for ours, wanted in zip(*results, strict=True):
        np.testing.assert_allclose(ours, wanted, rtol=1e-10, atol=1e-12)


@each_isa
def test_threads(isa: str) -> None:
    weights = []
    for threads in (1, 2):
        with core(isa, threads):
            model = build("float32")
            for seed in range(3):
                model.train_on_batch(*batch(seed))
            weights.append([w.tobytes() for w in model.get_weights()])
    assert weights[0] == weights[1]


def test_gradient_of_the_model() -> None:
    """Along random directions, through the tokens."""
    model = build(activation="tanh")
    x, y = batch()
    model.train_on_batch(x, y)
    model.prepare_backward()
    rng = np.random.default_rng(1)

    def loss() -> float:
        return float(((model.run(x, training=False)[0] - y) ** 2).mean())

    grad = 2 * (model.run(x, training=True)[0] - y) / y.size
    for layer in reversed(model.layers):
        grad = layer.backward(grad)
    for v in model.weights:
        assert v.grad is not None
        direction, saved, eps = rng.normal(size=v.shape), v.value.copy(), 1e-5
        values = []
        for sign in (1, -1):
            v.value[...] = saved + sign * eps * direction
            values.append(loss())
        v.value[...] = saved
        numeric, analytic = (values[0] - values[1]) / (2 * eps), float((v.grad * direction).sum())
        assert abs(numeric - analytic) <= 1e-7 * max(1.0, abs(numeric)), v.name


class Heir(layers.Embedding):
    pass


class ConvHeir(layers.Conv1D):
    pass


def test_ordinary_path_where_it_must_be(counted: dict[str, int]) -> None:
    x, _ = batch()
    ordinary = [
        build(between=(layers.SpatialDropout1D(0.2, dtype="float64"),)),
        build(embedding={"activity_regularizer": "l2"}),
        models.Sequential([Heir(V, 24, input_shape=(T,)), layers.Conv1D(20, 5), layers.Flatten(), layers.Dense(1)]),
        models.Sequential([layers.Embedding(V, 24, input_shape=(T,)), ConvHeir(20, 5), layers.Flatten()]),
        # another precision behind the embedding
        models.Sequential([layers.Embedding(V, 24, dtype="float32", input_shape=(T,)),
                           layers.Conv1D(20, 5, dtype="float64"), layers.GlobalMaxPooling1D(dtype="float64"),
                           layers.Dense(1, dtype="float64")]),
    ]  # fmt: skip
    for model in ordinary:
        model.predict(x, verbose=0)
        model.run(x, training=True)
    assert counted["tokens"] == 0 and counted["array"] == 2 * len(ordinary)


def test_cost_rule() -> None:
    """Many positions per token and a wide table pay; distinct tokens, few channels and short inputs do not."""
    rng = np.random.default_rng(0)

    def pays(ids: Any, features: int, width: int, vocabulary: int = 10_000) -> bool:
        return Tokens(ids, np.zeros((vocabulary, features), "f")).worth_projecting(ids.size, width)

    common = rng.integers(0, 4000, (128, 500))
    assert pays(common, 32, 7 * 32)
    assert pays(common, 64, 5 * 64)
    assert not pays(common, 2, 7 * 32)
    assert not pays(common, 32, 1)
    assert not pays(rng.permutation(64_000).reshape(128, 500), 32, 7 * 32, 64_000)
    assert not pays(common[:1, :20], 32, 7 * 32)
    # a table that leaves the caches must save more
    many = rng.integers(0, 20_000, (64, 400))
    assert not pays(many, 32, 5 * 64, 20_000) and pays(many, 128, 5 * 64, 20_000)


def test_layers_alone_give_arrays() -> None:
    model = build()
    x, _ = batch()
    table, conv = model.layers[0], model.layers[1]
    y = table(x)
    assert isinstance(y, np.ndarray) and y.shape == (B, T, 24)
    np.testing.assert_array_equal(y, F.embedding(x, table.embeddings.value))
    model.predict(x, verbose=0)
    assert isinstance(table.forward(x, training=True), np.ndarray)
    assert table.backward(np.ones((B, T, 24))) is None
    assert isinstance(conv(y), np.ndarray)


def test_tokens_are_the_array() -> None:
    """A layer that knows nothing of tokens sees the array."""
    x, _ = batch()
    table = layers.Embedding(V, 8, mask_zero=True)
    wanted = table(x)
    tokens = table.forward_tokens(x)
    assert tokens.shape == wanted.shape and tokens.ndim == 3 and tokens.dtype == wanted.dtype
    np.testing.assert_array_equal(np.asarray(tokens), wanted)
    assert np.asarray(tokens, dtype=np.float64).dtype == np.float64
    np.testing.assert_array_equal(table.compute_mask(None), x != 0)
    np.testing.assert_array_equal(layers.Flatten()(tokens), wanted.reshape(B, -1))
    with pytest.raises(ValueError, match=r"^\[Tokens\] copy"):
        np.array(tokens, copy=False)


def test_errors_are_the_same() -> None:
    model = build()
    x, y = batch()
    for bad, words in ((x + V, r"expected ids from 0 to 59"), (x - 1, r"expected ids from 0 to 59")):
        with pytest.raises(ValueError, match=words):
            model.train_on_batch(bad, y)
        with pytest.raises(ValueError, match=words):
            model.predict(bad, verbose=0)
    table, conv = model.layers[:2]
    with pytest.raises(ValueError, match=r"ids: expected values from 0 to 59"):
        conv.forward(table.forward_tokens(x + V))
    with pytest.raises(RuntimeError, match="forward with training=True"):
        conv.backward(np.zeros((B, T, 20)))
    wrong = models.Sequential([layers.Embedding(V, 24), layers.Conv1D(4, 3)])
    with pytest.raises(ValueError, match=r"\[Conv1D\] inputs: expected shape"):
        wrong.predict(np.zeros((B, 3, 4), int), verbose=0)


def test_shapes_and_files_do_not_change(tmp_path: Any) -> None:
    model = build()
    x, y = batch()
    model.fit(x, y, epochs=2, verbose=0)
    path = tmp_path / "model.safetensors"
    model.save(path)
    again = models.load_model(path)
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
    assert again.predict(x, batch_size=5, verbose=0).shape == (B, 1)
    np.testing.assert_allclose(again.predict(x, batch_size=1, verbose=0), model.predict(x, verbose=0), rtol=1e-9)
