"""Keras's layers with and without the hooks: outputs, states and, on torch, gradients. Run by test_keras_patch.py, once
per backend (Keras has one per process)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import keras
import numpy as np
import pytest
from keras.src.backend.common.dtypes import BIT64_TO_BIT32_DTYPE

import fastrnn.keras

BIT64_TO_BIT32_DTYPE["float64"] = "float64"  # or Keras's own operations round float64 to float32
B, T, I, U = 4, 6, 3, 5
TORCH = keras.config.backend() == "torch"
CELLS = ["SimpleRNN", "LSTM", "GRU"]
KINDS = {"SimpleRNN": "rnn", "LSTM": "lstm", "GRU": "gru"}
MASK = np.array([[1, 1, 0, 1, 0, 1], [0, 0, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]], dtype=bool)
HARD = 1e-6 if TORCH else 1e-11  # torch's derivative of hard_sigmoid is 1/6 in float32
Array = np.ndarray[Any, Any]


def draw(*shape: int, seed: int = 0, dtype: str = "float64") -> Array:
    return np.random.default_rng(seed).normal(size=shape or (B, T, I)).astype(dtype)


def numbers(value: Any) -> list[Array]:
    parts = value if isinstance(value, (list, tuple)) else [value]
    return [np.asarray(keras.ops.convert_to_numpy(part)) for part in parts]


def randomize(layer: Any) -> None:
    rng = np.random.default_rng(7)
    layer.set_weights([rng.normal(0, 0.6, w.shape) for w in layer.get_weights()])


def results(layer: Any, x: Array, call: dict[str, Any]) -> list[Array]:
    """Outputs and states; on torch also the gradients of a random projection of all of them."""
    if getattr(layer, "stateful", False):
        layer.reset_state()
        keras.ops.convert_to_numpy(layer(x, **call)[0])  # a state that is not zero
    if not TORCH:
        return numbers(layer(x, **call))
    import torch

    leaves = [torch.tensor(x, requires_grad=True)]
    given = dict(call)
    if "initial_state" in call:
        states = [torch.tensor(s, requires_grad=True) for s in call["initial_state"]]
        leaves += states
        given["initial_state"] = states
    y = layer(leaves[0], **given)
    parts = list(y) if isinstance(y, (list, tuple)) else [y]
    loss = sum((part * torch.tensor(draw(*part.shape, seed=k))).sum() for k, part in enumerate(parts))
    leaves += [w.value for w in layer.trainable_weights]
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
    assert all(g is not None for g in gradients)
    return numbers([*parts, *gradients])


def compare(layer: Any, kind: str, x: Array | None = None, *, tol: float = 1e-11, **call: Any) -> None:
    """The same to rounding, and by the kernels."""
    x = draw() if x is None else x
    layer(x, **call)
    randomize(layer)
    stateful = getattr(layer, "stateful", False)
    if stateful:
        layer.use_cudnn = False  # Keras's fast path on torch changes its own states before their backward
    wanted = results(layer, x, call)
    if stateful:
        layer.use_cudnn = "auto"
    with fastrnn.keras.patch() as patch:
        before = patch.calls[kind]
        got = results(layer, x, call)
        assert patch.calls[kind] > before
    for a, b in zip(wanted, got, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(b, a, atol=tol, rtol=tol)


def make(cell: str, **options: Any) -> Any:
    return getattr(keras.layers, cell)(U, dtype="float64", **options)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("sequences", "backwards", "masked", "zero"), list(product((False, True), repeat=4)))
def test_layers(cell: str, sequences: bool, backwards: bool, masked: bool, zero: bool) -> None:
    layer = make(cell, return_sequences=sequences, go_backwards=backwards, zero_output_for_mask=zero, return_state=True)
    compare(layer, KINDS[cell], **({"mask": MASK} if masked else {}))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("sequences", "backwards", "masked"), list(product((False, True), repeat=3)))
def test_initial_states(cell: str, sequences: bool, backwards: bool, masked: bool) -> None:
    states = [draw(B, U, seed=k) for k in range(2 if cell == "LSTM" else 1)]
    layer = make(cell, return_sequences=sequences, go_backwards=backwards, return_state=True)
    compare(layer, KINDS[cell], initial_state=states, **({"mask": MASK} if masked else {}))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("options", [
    {"reset_after": False}, {"use_bias": False}, {"reset_after": False, "use_bias": False}, {"implementation": 1},
    {"activation": "relu", "recurrent_activation": "hard_sigmoid"}, {"activation": None, "unroll": True},
    {"activation": "elu", "recurrent_activation": "softsign"}, {"activation": "gelu"}, {"activation": "leaky_relu"},
    {"activation": keras.ops.tanh, "recurrent_activation": keras.ops.sigmoid},
])  # fmt: skip
def test_gru_options(options: dict[str, Any], masked: bool) -> None:
    if masked and options.get("unroll"):
        pytest.skip("Keras's own")
    tol = HARD if "hard_sigmoid" in options.values() else 1e-11
    compare(make("GRU", return_sequences=True, **options), "gru", tol=tol, **({"mask": MASK} if masked else {}))


@pytest.mark.parametrize("activation", [
    "elu", "exponential", "gelu", "hard_sigmoid", "leaky_relu", "linear", "relu", "selu", "sigmoid", "silu", "softplus",
    "softsign", "tanh",
])  # fmt: skip
def test_activations(activation: str) -> None:
    tol = HARD if activation == "hard_sigmoid" else 1e-11
    compare(make("LSTM", activation=activation), "lstm", draw(B, 3, I) / 5, tol=tol)
    compare(make("SimpleRNN", activation=activation, use_bias=False), "rnn", draw(B, 3, I) / 5, tol=tol)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("masked", [False, True])
def test_stateful(cell: str, masked: bool) -> None:
    layer = make(cell, stateful=True, return_sequences=True, return_state=True)
    compare(layer, KINDS[cell], **({"mask": MASK | [1, 0, 0, 0, 0, 0]} if masked else {}))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("mode", ["concat", "sum", "mul", "ave", None])
@pytest.mark.parametrize(("sequences", "masked"), list(product((False, True), repeat=2)))
def test_bidirectional(cell: str, mode: str | None, sequences: bool, masked: bool) -> None:
    layer = keras.layers.Bidirectional(make(cell, return_sequences=sequences), merge_mode=mode, dtype="float64")
    compare(layer, KINDS[cell], **({"mask": MASK} if masked else {}))


@pytest.mark.parametrize("cell", CELLS)
def test_rnn_around_a_cell(cell: str) -> None:
    inner = getattr(keras.layers, f"{cell}Cell")(U, dtype="float64")
    compare(keras.layers.RNN(inner, return_sequences=True, dtype="float64"), KINDS[cell], mask=MASK)


def test_integers_and_float32() -> None:
    x = np.random.default_rng(0).integers(-2, 3, (B, T, I))
    with fastrnn.keras.patch() as patch:
        layer = keras.layers.LSTM(U, return_sequences=True, dtype="float32")
        got = numbers(layer(x))[0]
        assert patch.calls["lstm"] and got.dtype == np.float32
    np.testing.assert_allclose(got, numbers(layer(x))[0], atol=1e-6)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("masked", [False, True])
def test_dropout_draws_as_keras(cell: str, masked: bool) -> None:
    call = {"mask": MASK} if masked else {}
    outputs = []
    for hooked in (False, True):
        layer = make(cell, dropout=0.5, seed=3, return_sequences=True)
        layer.build((None, T, I))
        randomize(layer)
        with fastrnn.keras.patch() as patch:
            if not hooked:
                fastrnn.keras.unpatch()
            outputs.append([numbers(layer(draw(), training=True, **call))[0] for _ in range(2)])
            assert bool(patch.calls[KINDS[cell]]) is hooked
    np.testing.assert_allclose(outputs[0], outputs[1], atol=1e-12)
    assert not np.allclose(outputs[0][0], outputs[0][1])


@pytest.mark.parametrize("cell", CELLS)
def test_recurrent_dropout(cell: str) -> None:
    outputs = []
    for hooked in (False, True):
        layer = make(cell, recurrent_dropout=0.5, seed=3, return_sequences=True)
        layer.build((None, T, I))
        randomize(layer)
        with fastrnn.keras.patch() as patch:
            if not hooked:
                fastrnn.keras.unpatch()
            outputs.append(numbers(layer(draw(), training=True))[0])
            # one mask for all gates: only a layer with one gate
            assert bool(patch.calls[KINDS[cell]]) is (hooked and cell == "SimpleRNN")
    np.testing.assert_allclose(outputs[0], outputs[1], atol=1e-12)


@pytest.mark.parametrize(("options", "reason"), [
    ({"activation": "mish"}, "lstm: activation mish"), ({"activation": lambda x: x}, "lstm: activation <lambda>"),
    ({"use_cudnn": False}, "lstm: use_cudnn=False"), ({"dtype": "float16"}, "lstm: dtype float16"),
    ({"dtype": "mixed_bfloat16"}, "lstm: dtype bfloat16"),
])  # fmt: skip
def test_fallbacks(options: dict[str, Any], reason: str) -> None:
    layer = keras.layers.LSTM(U, **{"dtype": "float32", "recurrent_initializer": "uniform", **options})
    x = draw(dtype="float32")
    wanted = numbers(layer(x))[0]
    with fastrnn.keras.patch() as patch:
        got = numbers(layer(x))[0]
        assert not patch.calls and patch.fallbacks[reason]
    np.testing.assert_array_equal(got, wanted)


def test_unrolled_masks_are_keras_s_own() -> None:
    layer = make("GRU", unroll=True, return_sequences=True)
    wanted = numbers(layer(draw(), mask=MASK))[0]
    with fastrnn.keras.patch() as patch:
        np.testing.assert_array_equal(numbers(layer(draw(), mask=MASK))[0], wanted)
        assert patch.fallbacks["gru: a mask with unroll=True"] and not patch.calls


def test_a_cell_of_the_users() -> None:
    class Cell(keras.layers.LSTMCell):
        def call(self, inputs: Any, states: Any, training: bool = False) -> Any:
            output, states = super().call(inputs, states, training)
            return output * 0, states

    layer = keras.layers.RNN(Cell(U))
    with fastrnn.keras.patch() as patch:
        assert not numbers(layer(draw()))[0].any()
        assert not patch.calls and patch.fallbacks["Cell: another cell"]


def test_patch_and_unpatch() -> None:
    from keras.src import backend

    places: list[tuple[Any, str]] = [(backend, "lstm"), (backend, "gru"), (keras.layers.RNN, "inner_loop")]
    originals = [getattr(place, name) for place, name in places]

    def now() -> list[Callable[..., Any]]:
        return [getattr(place, name) for place, name in places]

    outer = fastrnn.keras.patch()
    hooks = now()
    assert all(a is not b for a, b in zip(hooks, originals, strict=True))
    with fastrnn.keras.patch() as inner:
        assert inner.calls is outer.calls
    assert now() == hooks  # it was not the inner one that set them
    backend.lstm = stranger = lambda *args, **options: None
    with pytest.raises(RuntimeError, match=r"\[fastrnn.keras.unpatch\] keras.src.backend.lstm: expected the hook"):
        fastrnn.keras.unpatch()
    assert backend.lstm is stranger
    backend.lstm = hooks[0]
    fastrnn.keras.unpatch()
    fastrnn.keras.unpatch()
    assert now() == originals


@pytest.mark.skipif(not TORCH, reason="Keras on numpy does not train")
def test_training() -> None:
    """The same losses, epoch after epoch."""
    rng = np.random.default_rng(0)
    ids = rng.integers(1, 20, (64, 12))
    ids[:20, 7:] = 0
    labels = (ids % 2).sum(axis=1) > 4
    histories = []
    for hooked in (False, True):
        keras.utils.set_random_seed(0)
        layers = keras.layers
        model = keras.Sequential([
            layers.Embedding(20, 8, mask_zero=True), layers.Bidirectional(layers.LSTM(8, return_sequences=True)),
            layers.GRU(8, return_sequences=True, dropout=0.1), layers.SimpleRNN(8), layers.Dense(1, "sigmoid"),
        ])  # fmt: skip
        model.compile(keras.optimizers.Adam(0.01), "binary_crossentropy")
        with fastrnn.keras.patch() as patch:
            if not hooked:
                fastrnn.keras.unpatch()
            losses = model.fit(ids, labels, epochs=4, batch_size=16, shuffle=False, verbose=0).history["loss"]
            histories.append([*losses, *model.predict(ids[:8], verbose=0)[:, 0]])
            if hooked:
                assert set(patch.calls) == {"rnn", "lstm", "gru"}
    np.testing.assert_allclose(histories[1], histories[0], atol=2e-5)
    assert histories[0][3] < histories[0][0]


@pytest.mark.skipif(not TORCH, reason="autograd")
def test_input_changed_before_backward_is_noticed() -> None:
    import torch

    layer = make("LSTM")
    with fastrnn.keras.patch():
        x = torch.tensor(draw())
        loss = layer(x * 1).sum()
        loss.backward()
        doubled = torch.tensor(draw(), requires_grad=True) * 2
        loss = layer(doubled).sum()
        with torch.no_grad():
            doubled.mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


@pytest.mark.skipif(not TORCH, reason="autograd")
def test_second_derivatives_are_refused() -> None:
    import torch

    layer = make("GRU")
    with fastrnn.keras.patch():
        x = torch.tensor(draw(), requires_grad=True)
        with pytest.raises(RuntimeError, match=r"\[fastrnn.keras\] backward: expected create_graph=False"):
            torch.autograd.grad(layer(x).sum(), x, create_graph=True)


@pytest.mark.skipif(not TORCH, reason="autograd")
def test_input_changed_behind_hooks_that_save_a_copy() -> None:
    import torch

    layer = make("LSTM")
    given = torch.tensor(draw())
    with fastrnn.keras.patch(), torch.autograd.graph.saved_tensors_hooks(torch.clone, lambda t: t):
        loss = layer(given).sum()
    given.zero_()
    with pytest.raises(RuntimeError, match="x: expected the input as it was in forward"):
        loss.backward()


@pytest.mark.skipif(not TORCH, reason="autograd")
def test_checkpoint() -> None:
    """Its hooks save nothing and run the layer again in backward."""
    import torch
    from torch.utils.checkpoint import checkpoint

    layer = make("GRU")
    gradients = []
    for run in (lambda x: layer(x), lambda x: checkpoint(layer, x, use_reentrant=False)):
        x = torch.tensor(draw(), requires_grad=True)
        with fastrnn.keras.patch() as patch:
            run(x).sum().backward()
            assert patch.calls["gru"] and not patch.fallbacks
        gradients.append(x.grad)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=0)
    given = torch.tensor(draw())
    with fastrnn.keras.patch():
        loss = checkpoint(layer, given, use_reentrant=False).sum()
        given.zero_()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


@pytest.mark.skipif(not TORCH, reason="autograd")
def test_dispatch_modes_are_keras_s_own() -> None:
    """This one promises the gradients of what x was in forward."""
    import torch

    layer = make("LSTM", return_sequences=True)
    layer(draw())
    gradients = []
    for change in (False, True):
        x = torch.tensor(draw(), requires_grad=True)
        with fastrnn.keras.patch() as patch, torch.autograd.graph.allow_mutation_on_saved_tensors():
            scaled = x * 2
            loss = (layer(scaled) ** 2).sum()
            assert not patch.calls and patch.fallbacks["lstm: a traced or transformed call"]
            if change:
                with torch.no_grad():
                    scaled.zero_()
            loss.backward()
        gradients.append(x.grad)
    torch.testing.assert_close(gradients[1], gradients[0])


@pytest.mark.skipif(not TORCH, reason="autograd")
def test_forward_mode_derivatives_are_keras_s_own() -> None:
    import torch
    from torch.autograd import forward_ad

    layer = make("GRU")
    layer.trainable = False
    x = torch.tensor(draw())
    layer(x)
    tangents = []
    for hooked in (False, True):
        with fastrnn.keras.patch(), forward_ad.dual_level():
            if not hooked:
                fastrnn.keras.unpatch()
            tangents.append(forward_ad.unpack_dual(layer(forward_ad.make_dual(x, torch.ones_like(x)))).tangent)
    torch.testing.assert_close(tangents[1], tangents[0])


@pytest.mark.skipif(not TORCH, reason="autograd")
def test_workspace_is_freed_with_the_graph() -> None:
    import torch

    layer = make("GRU", return_sequences=True)
    with fastrnn.keras.patch():
        y = layer(torch.tensor(draw(), requires_grad=True))
        node = y.grad_fn
        while not hasattr(node, "recurrence"):
            node = node.next_functions[0][0]
        y.sum().backward(retain_graph=True)
        assert node.saved is not None
        y.sum().backward()
    assert node.saved is None and node.x is None
