"""An Embedding followed by a recurrent layer works per distinct token where that is cheaper, and nobody sees a
difference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from core_settings import core, each_isa
from fastrnn import functional as F
from fastrnn import layers, models
from fastrnn.layers.tokens import Tokens

V, B, T = 60, 24, 50
KINDS: dict[str, Any] = {"SimpleRNN": layers.SimpleRNN, "LSTM": layers.LSTM, "GRU": layers.GRU}


def build(
    kind: str = "LSTM", dtype: str = "float64", embedding: dict[str, Any] | None = None, both: bool = False,
    between: tuple[Any, ...] = (), **options: Any,
) -> models.Sequential:  # fmt: skip
    table = layers.Embedding(V, 40, dtype=dtype, input_shape=(T,), **embedding or {})
    layer = KINDS[kind](16, dtype=dtype, **options)
    stack = [table, *between, layers.Bidirectional(layer, dtype=dtype) if both else layer]
    if options.get("return_sequences"):
        stack.append(layers.GlobalAveragePooling1D(dtype=dtype))
    model = models.Sequential([*stack, layers.Dense(1, dtype=dtype)])
    rng = np.random.default_rng(5)
    for v in model.weights:
        v.assign(rng.normal(0, 0.3, v.shape))
    model.compile(optimizer="sgd", loss="mse")
    return model


def batch(seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, V, (B, T)) * (rng.random((B, T)) < 0.8), rng.normal(size=(B, 1))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often a recurrent call reads tokens, and how often an array."""
    calls = {"tokens": 0, "array": 0}
    arguments = F.recurrent.forward_arguments

    def counting(op: str, x: Any, *args: Any, **options: Any) -> Any:
        calls["tokens" if isinstance(x, F.TokenIndex) else "array"] += 1
        return arguments(op, x, *args, **options)

    monkeypatch.setattr(F.recurrent, "forward_arguments", counting)
    return calls


CASES: list[dict[str, Any]] = [
    {"kind": "SimpleRNN"},
    {"kind": "LSTM"},
    {"kind": "GRU"},
    {"kind": "GRU", "reset_after": False},
    {"both": True},
    {"kind": "SimpleRNN", "both": True, "return_sequences": True},
    {"return_sequences": True, "go_backwards": True},
    {"embedding": {"mask_zero": True}},
    {"embedding": {"mask_zero": True}, "both": True, "return_sequences": True},
    {"embedding": {"trainable": False}},
    {"embedding": {"trainable": False}, "both": True},
    {"embedding": {"embeddings_regularizer": "l2", "embeddings_constraint": "unit_norm"}},
    {"recurrent_dropout": 0.3, "seed": 1},
    {"use_bias": False, "kernel_regularizer": "l2", "activity_regularizer": "l2"},
    {"checkpoint": True},
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_same_training(case: dict[str, Any], monkeypatch: pytest.MonkeyPatch, counted: dict[str, int]) -> None:
    """Losses, gradients, weights and predictions after some steps, with and without."""
    results = []
    for plain in (False, True):
        if plain:
            monkeypatch.setattr(Tokens, "worth_projecting", lambda *_: False)
        model = build(**case)
        losses = [model.train_on_batch(*batch(seed)) for seed in range(3)]
        x, y = batch(9)
        figures = [model.evaluate(x, y, verbose=0), model.predict(x, verbose=0), model(x)]
        gradients = [v.grad for v in model.trainable_weights]
        assert all(isinstance(g, np.ndarray) for g in gradients)
        results.append([losses, *figures, *gradients, *model.get_weights()])
    assert counted["tokens"] == counted["array"] == 6 * (2 if case.get("both") else 1)
    for ours, wanted in zip(*results, strict=True):
        np.testing.assert_allclose(ours, wanted, rtol=1e-9, atol=1e-11)


@each_isa
def test_threads(isa: str) -> None:
    weights = []
    for threads in (1, 2):
        with core(isa, threads):
            model = build(dtype="float32", both=True)
            for seed in range(3):
                model.train_on_batch(*batch(seed))
            weights.append([w.tobytes() for w in model.get_weights()])
    assert weights[0] == weights[1]


class Heir(layers.LSTM):
    pass


class BothHeir(layers.Bidirectional):
    pass


def test_ordinary_path_where_it_must_be(counted: dict[str, int]) -> None:
    x, _ = batch()
    head = {"input_shape": (T,)}
    ordinary = [
        build(between=(layers.SpatialDropout1D(0.2, dtype="float64"),)),
        build(dropout=0.2),  # of the input: the rows of a token differ
        build(embedding={"activity_regularizer": "l2"}),
        models.Sequential([layers.Embedding(V, 40, **head), Heir(16)]),
        models.Sequential([layers.Embedding(V, 40, **head), BothHeir(layers.SimpleRNN(16))]),
        models.Sequential([layers.Embedding(V, 40, **head), layers.Bidirectional(Heir(16))]),
        models.Sequential([layers.Embedding(V, 40, dtype="float32", **head), layers.GRU(16, dtype="float64")]),
        models.Sequential([layers.Embedding(V, 1, **head), layers.GRU(16)]),  # nothing to save
    ]
    for model in ordinary:
        model.predict(x, verbose=0)
        model.run(x, training=True)
    assert counted["tokens"] == 0 and counted["array"] == 2 * (len(ordinary) + 2)


def test_folded_heirs_take_tokens() -> None:
    x, _ = batch()
    for layer in (Heir(16), BothHeir(layers.GRU(16)), layers.Bidirectional(Heir(16))):
        model = models.Sequential([layers.Embedding(V, 40, input_shape=(T,)), layer])
        expected = model.predict(x, verbose=0)
        for part in [layer.forward_layer, layer.backward_layer] if isinstance(layer, layers.Bidirectional) else [layer]:
            part.freeze()
            part.fold(model.layers[0].embeddings.value)
        np.testing.assert_array_equal(model.predict(x, verbose=0), expected)


def test_layers_alone_give_arrays() -> None:
    model = build()
    x, y = batch()
    model.train_on_batch(x, y)
    lstm = model.layers[1]
    array = np.asarray(model.layers[0](x))
    lstm.forward(array, training=True)
    grad = lstm.backward(np.ones((B, 16)))
    assert isinstance(grad, np.ndarray) and grad.shape == array.shape


def test_errors_are_the_same() -> None:
    model = build()
    x, y = batch()
    for bad in (x + V, x - 1):
        with pytest.raises(ValueError, match=r"expected ids from 0 to 59"):
            model.train_on_batch(bad, y)
    with pytest.raises(ValueError, match=r"ids: expected values from 0 to 59"):
        model.layers[1].forward(model.layers[0].forward_tokens(x + V))
    with pytest.raises(ValueError, match=r"\[LSTM\] initial_state: expected 2"):
        model.layers[1](model.layers[0].forward_tokens(x), initial_state=[np.zeros((B, 3))])
