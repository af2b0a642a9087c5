"""SimpleRNN, LSTM, GRU and Bidirectional forwards against an independent loop with Keras's rules, weights random."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from fastrnn import initializers
from fastrnn.layers import GRU, LSTM, Bidirectional, SimpleRNN, gates
from layer_tools import Array, keras_loop, randomize

CELLS: dict[str, Any] = {"SimpleRNN": SimpleRNN, "LSTM": LSTM, "GRU": GRU}
B, T, I, U = 4, 6, 3, 5


def draw(seed: int = 0, batch: int = B) -> Array:
    return np.random.default_rng(seed).normal(size=(batch, T, I))


# a gap in the middle, padding before, padding after, nothing valid
MASK = np.array([[1, 1, 0, 1, 0, 1], [0, 0, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]], dtype=bool)


def make(cell: str, **options: Any) -> Any:
    layer = CELLS[cell](U, dtype="float64", **options)
    layer.build((None, T, I))
    randomize(layer)
    return layer


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("backwards", "masked", "zero"), list(product((False, True), repeat=3)))
def test_matches_the_loop(cell: str, backwards: bool, masked: bool, zero: bool) -> None:
    mask = MASK if masked else None
    layer = make(cell, return_sequences=True, return_state=True, go_backwards=backwards, zero_output_for_mask=zero)
    x = draw()
    outputs, last, finals = keras_loop(
        cell, layer.get_weights(), x, mask=mask, go_backwards=backwards, zero_output=zero
    )
    y, *states = layer(x, mask=mask)
    np.testing.assert_allclose(y, outputs, atol=1e-12)
    for state, final in zip(states, finals, strict=True):
        np.testing.assert_allclose(state, final, atol=1e-12)
    layer.return_sequences = False
    np.testing.assert_allclose(layer(x, mask=mask)[0], last, atol=1e-12)
    # training computes the same without dropout
    layer.return_sequences = True
    np.testing.assert_array_equal(layer(x, mask=mask, training=True)[0], y)


@pytest.mark.parametrize("reset_after", [True, False])
@pytest.mark.parametrize("use_bias", [True, False])
def test_gru_forms(reset_after: bool, use_bias: bool) -> None:
    layer = make("GRU", reset_after=reset_after, use_bias=use_bias, return_sequences=True)
    x = draw()
    outputs, _, _ = keras_loop("GRU", layer.get_weights(), x, reset_after=reset_after, mask=MASK)
    np.testing.assert_allclose(layer(x, mask=MASK), outputs, atol=1e-12)
    shapes = [(I, 3 * U), (U, 3 * U)] + ([(2, 3 * U) if reset_after else (3 * U,)] if use_bias else [])
    assert [w.shape for w in layer.get_weights()] == shapes


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("act", "rec"), [("relu", "hard_sigmoid"), ("softsign", "sigmoid"), ("linear", "tanh")])
def test_activations(cell: str, act: str, rec: str) -> None:
    options = {} if cell == "SimpleRNN" else {"recurrent_activation": rec}
    layer = make(cell, activation=act, **options)
    x = draw(3)
    np.testing.assert_allclose(layer(x), keras_loop(cell, layer.get_weights(), x, act=act, rec=rec)[1], atol=1e-12)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("backwards", [False, True])
def test_initial_state(cell: str, backwards: bool) -> None:
    layer = make(cell, return_sequences=True, return_state=True, go_backwards=backwards)
    x, rng = draw(1), np.random.default_rng(5)
    initial = [rng.normal(size=(B, U)) for _ in range(layer.state_count)]
    wanted, last, finals = keras_loop(cell, layer.get_weights(), x, mask=MASK, initial=initial, go_backwards=backwards)
    y, *states = layer(x, initial if cell == "LSTM" else initial[0], mask=MASK)
    np.testing.assert_allclose(y, wanted, atol=1e-12)
    assert (y[3] == 0).all()  # nothing valid: zeros, though the state is carried on
    np.testing.assert_allclose(states[0][3], initial[0][3])
    for state, final in zip(states, finals, strict=True):
        np.testing.assert_allclose(state, final, atol=1e-12)
    layer.return_sequences = False
    np.testing.assert_allclose(layer(x, initial, mask=MASK)[0], last, atol=1e-12)
    with pytest.raises(ValueError, match=r"initial_state: expected .* \(4, 5\), got"):
        layer(x, [s[:2] for s in initial])


@pytest.mark.parametrize("cell", CELLS)
def test_padding_before_is_skipped(cell: str) -> None:
    layer, x = make(cell), draw(2)
    mask = np.zeros((B, T + 3), bool)
    mask[:, 3:] = True
    padded = np.concatenate([np.full((B, 3, I), 7.0), x], axis=1)
    np.testing.assert_allclose(layer(padded, mask=mask), layer(x), atol=1e-12)


def test_masked_values_are_never_used() -> None:
    layer, x = make("LSTM", return_sequences=True), draw()
    poisoned = np.where(MASK[..., None], x, np.nan)
    np.testing.assert_array_equal(layer(poisoned, mask=MASK), layer(x, mask=MASK))


def test_mask_of_go_backwards_follows_the_output() -> None:
    layer = make("GRU", return_sequences=True, go_backwards=True)
    np.testing.assert_array_equal(layer.compute_mask(MASK), MASK[:, ::-1])
    layer.go_backwards = False
    np.testing.assert_array_equal(layer.compute_mask(MASK), MASK)
    layer.return_sequences = False
    assert layer.compute_mask(MASK) is None


@pytest.mark.parametrize("cell", CELLS)
def test_stateful_pieces_equal_the_whole(cell: str) -> None:
    layer = CELLS[cell](U, dtype="float64", stateful=True, return_sequences=True, batch_input_shape=(B, 2, I))
    whole = CELLS[cell](U, dtype="float64", return_sequences=True)
    layer.build((B, 2, I))
    whole.build((None, T, I))
    randomize(layer)
    randomize(whole)
    x = draw()
    for _ in range(2):
        pieces = [layer(x[:, t : t + 2]) for t in range(0, T, 2)]
        np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole(x), atol=1e-12)
        layer.reset_states()
    layer.reset_states([np.ones((B, U))] * layer.state_count)
    np.testing.assert_allclose(layer(x), whole(x, [np.ones((B, U))] * layer.state_count), atol=1e-12)
    with pytest.raises(ValueError, match="expected the fixed batch size 4"):
        layer(x[:2])
    with pytest.raises(ValueError, match="fixed batch size for stateful=True"):
        CELLS[cell](U, stateful=True).build((None, T, I))


def test_returned_states_are_not_the_carried_ones() -> None:
    layer = LSTM(U, dtype="float64", stateful=True, return_state=True)
    y, h, _ = layer(draw())
    h[...] = 100.0
    assert layer.states is not None and np.abs(layer.states[0]).max() < 1 and np.abs(y).max() < 1


@pytest.mark.parametrize("cell", CELLS)
def test_dropout_is_one_mask_in_time(cell: str) -> None:
    layer = make(cell, dropout=0.5, return_sequences=True, seed=3)
    x = np.ones((64, T, I))
    y = layer(x, training=True)
    assert not np.allclose(y, layer(x, training=True))  # another batch, another mask
    np.testing.assert_allclose(layer(x), layer(x))
    # constant input and one mask: each row equals the undropped layer on a rescaled constant row
    rows = {tuple(np.round(r, 9)) for r in y[:, 0]}
    assert 1 < len(rows) <= 2**I
    combos = np.array(list(product((0.0, 2.0), repeat=I)))
    wanted, _, _ = keras_loop(cell, layer.get_weights(), np.repeat(combos[:, None], T, axis=1))
    distance = np.abs(y[:, None] - wanted[None]).max(axis=(2, 3)).min(axis=1)
    assert distance.max() < 1e-12


@pytest.mark.parametrize(
    ("cell", "options"),
    [
        ("SimpleRNN", {}),
        ("LSTM", {}),
        pytest.param("GRU", {}),
        pytest.param("GRU", {"reset_after": False}),
    ],
)
def test_recurrent_dropout_is_one_mask_in_time(cell: str, options: dict[str, Any]) -> None:
    """Some mask of h, the same at all steps, in front of the recurrent kernel; what is carried on is not masked."""
    layer = make(cell, recurrent_dropout=0.5, return_sequences=True, seed=4, **options)
    x = np.repeat(draw()[:1], 200, axis=0)
    y = layer(x, training=True)
    kernel, recurrent, bias = layer.get_weights()
    wanted = []
    for keep in np.array(list(product((0.0, 2.0), repeat=U))):
        wanted.append(keras_loop(cell, [kernel, keep[:, None] * recurrent, bias], x[:1], **options)[0][0])
    distance = np.abs(y[:, None] - np.array(wanted)[None]).max(axis=(2, 3))
    assert distance.min(axis=1).max() < 1e-12
    assert len(set(distance.argmin(axis=1))) > 2**U // 2
    np.testing.assert_allclose(layer(x), keras_loop(cell, layer.get_weights(), x, **options)[0], atol=1e-12)


def test_a_seed_repeats_the_masks_and_the_global_seed_too() -> None:
    x = draw()
    a, b = make("LSTM", dropout=0.5, seed=11), make("LSTM", dropout=0.5, seed=11)
    np.testing.assert_array_equal(a(x, training=True), b(x, training=True))
    c = make("LSTM", dropout=0.5, recurrent_dropout=0.3)
    initializers.set_seed(1)
    first = c(x, training=True)
    second = c(x, training=True)
    initializers.set_seed(1)
    np.testing.assert_array_equal(c(x, training=True), first)
    assert not np.allclose(first, second)


# ---- Bidirectional -------------------------------------------------------------------------------------------------


def merged(mode: str | None, one: Array, other: Array) -> list[Array]:
    return {
        "concat": [np.concatenate([one, other], axis=-1)],
        "sum": [one + other],
        "mul": [one * other],
        "ave": [(one + other) / 2],
        None: [one, other],
    }[mode]


@pytest.mark.parametrize("mode", ["concat", "sum", "mul", "ave", None])
@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("cell", CELLS)
def test_bidirectional(cell: str, mode: str | None, sequences: bool, masked: bool) -> None:
    inner = CELLS[cell](U, dtype="float64", return_sequences=sequences, return_state=True)
    layer = Bidirectional(inner, merge_mode=mode)
    layer.build((None, T, I))
    randomize(layer, 8)
    x, mask = draw(), MASK if masked else None
    weights = layer.get_weights()
    half = len(weights) // 2
    options: dict[str, Any] = {"mask": mask, "zero_output": sequences}
    one, one_last, one_states = keras_loop(cell, weights[:half], x, **options)
    two, two_last, two_states = keras_loop(cell, weights[half:], x, go_backwards=True, **options)
    wanted = merged(mode, one, two[:, ::-1]) if sequences else merged(mode, one_last, two_last)
    result = layer(x, mask=mask)
    assert isinstance(result, list)
    for got, want in zip(result, [*wanted, *one_states, *two_states], strict=True):
        np.testing.assert_allclose(got, want, atol=1e-12)
    shapes = layer.compute_output_shape((B, T, I))
    assert [tuple(s) for s in shapes] == [r.shape for r in result]
    np.testing.assert_equal(layer.compute_mask(mask), mask if sequences else None)


def test_bidirectional_none_is_a_list_of_two() -> None:
    y = Bidirectional(GRU(U), merge_mode=None)(draw())
    assert isinstance(y, list) and [p.shape for p in y] == [(B, U), (B, U)]


def test_bidirectional_own_backward_layer() -> None:
    layer = Bidirectional(
        LSTM(U, return_sequences=True, dtype="float64"),
        backward_layer=GRU(U + 1, return_sequences=True, go_backwards=True, activation="relu", dtype="float64"),
    )
    layer.build((None, T, I))
    randomize(layer)
    x, w = draw(), layer.get_weights()
    one = keras_loop("LSTM", w[:3], x)[0]
    two = keras_loop("GRU", w[3:], x, go_backwards=True, act="relu")[0][:, ::-1]
    np.testing.assert_allclose(layer(x), np.concatenate([one, two], axis=-1), atol=1e-12)
    with pytest.raises(ValueError, match="backward_layer: expected go_backwards=True"):
        Bidirectional(LSTM(U), backward_layer=LSTM(U))
    with pytest.raises(ValueError, match="expected return_sequences=False"):
        Bidirectional(LSTM(U), backward_layer=LSTM(U, go_backwards=True, return_sequences=True))
    with pytest.raises(ValueError, match="expected units=5"):
        Bidirectional(LSTM(U), merge_mode="sum", backward_layer=LSTM(4, go_backwards=True))


def test_bidirectional_going_backwards_first() -> None:
    layer = Bidirectional(
        GRU(U, return_sequences=True, go_backwards=True, dtype="float64"),
        backward_layer=GRU(U, return_sequences=True, dtype="float64"),
    )
    layer.build((None, T, I))
    randomize(layer)
    x, w = draw(), layer.get_weights()
    one = keras_loop("GRU", w[:3], x, go_backwards=True, mask=MASK, zero_output=True)[0]
    two = keras_loop("GRU", w[3:], x, mask=MASK, zero_output=True)[0][:, ::-1]
    np.testing.assert_allclose(layer(x, mask=MASK), np.concatenate([one, two], axis=-1), atol=1e-12)
    np.testing.assert_array_equal(layer.compute_mask(MASK), MASK[:, ::-1])


def test_bidirectional_initial_state_and_stateful() -> None:
    layer = Bidirectional(LSTM(U, stateful=True, return_sequences=True, dtype="float64"))
    x, rng = draw(), np.random.default_rng(0)
    given = [rng.normal(size=(B, U)) for _ in range(4)]
    layer.build(x.shape)
    randomize(layer)
    w = layer.get_weights()
    y = layer(x, given)
    one, _, one_final = keras_loop("LSTM", w[:3], x, initial=given[:2])
    two, _, _ = keras_loop("LSTM", w[3:], x, initial=given[2:], go_backwards=True)
    np.testing.assert_allclose(y, np.concatenate([one, two[:, ::-1]], axis=-1), atol=1e-12)
    again = keras_loop("LSTM", w[:3], x, initial=one_final)[0]
    np.testing.assert_allclose(layer(x)[..., :U], again, atol=1e-12)
    layer.reset_states()
    assert layer.states is None
    np.testing.assert_allclose(layer(x)[..., :U], keras_loop("LSTM", w[:3], x)[0], atol=1e-12)
    with pytest.raises(ValueError, match="initial_state: expected 2 states of layer"):
        layer(x, given[:3])


# ---- layouts and arguments -----------------------------------------------------------------------------------------


def test_gate_table_is_its_own_inverse() -> None:
    for cell, order in gates.NATIVE_FROM_KERAS.items():
        assert tuple(order[k] for k in order) == tuple(range(len(order)))
        rng, wide = np.random.default_rng(0), len(order) * U
        for bias in (None, rng.normal(size=wide), rng.normal(size=(2, wide))):
            keras = (rng.normal(size=(I, wide)), rng.normal(size=(U, wide)), bias)
            back = gates.to_keras(cell, *gates.to_native(cell, *keras))
            for a, b in zip(keras, back, strict=True):
                np.testing.assert_equal(a, b)


@pytest.mark.parametrize(
    ("layer", "features", "count"),
    [
        # from the tables of model.summary() in Keras's documentation and tutorials
        (LSTM(32), 32, 8320),
        (LSTM(128), 64, 98816),
        (GRU(256), 64, 247296),
        (SimpleRNN(128), 256, 49280),
        (SimpleRNN(32), 32, 2080),
        (Bidirectional(LSTM(64)), 128, 98816),
        (Bidirectional(LSTM(64)), 64, 66048),
        (GRU(32, reset_after=False), 32, 6240),
    ],
)
def test_parameter_counts(layer: Any, features: int, count: int) -> None:
    layer.build((None, None, features))
    assert layer.count_params() == count


def test_initial_weights() -> None:
    layer = LSTM(U)
    layer.build((None, None, I))
    _, recurrent, bias = layer.get_weights()
    np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(U), atol=1e-5)
    np.testing.assert_array_equal(bias, [0] * U + [1] * U + [0] * 2 * U)
    plain = LSTM(U, unit_forget_bias=False)
    plain.build((None, None, I))
    assert not plain.get_weights()[2].any()
    other = LSTM(U, bias_initializer="ones", unit_forget_bias=False, recurrent_initializer="glorot_uniform")
    other.build((None, None, I))
    assert (other.get_weights()[2] == 1).all()


@pytest.mark.parametrize("cell", CELLS)
def test_float32_stays_float32(cell: str) -> None:
    x = draw().astype(np.float32)
    layer = Bidirectional(CELLS[cell](U, return_sequences=True, return_state=True, dropout=0.2, recurrent_dropout=0.2))
    parts = layer(x, mask=MASK, training=True)
    assert {p.dtype for p in parts} == {np.dtype(np.float32)}
    grad = layer.backward([np.ones_like(p) for p in parts])
    assert grad is not None and grad.dtype == np.float32
    assert {v.grad.dtype for v in layer.weights if v.grad is not None} == {np.dtype(np.float32)}
    assert all(v.grad is not None and v.grad.flags.c_contiguous for v in layer.weights)


@pytest.mark.parametrize("cell", CELLS)
def test_wrong_arguments(cell: str) -> None:
    make_one = CELLS[cell]
    for options, message in [
        ({"units": -3}, rf"\[{cell}\] units: expected a positive integer, got -3"),
        ({"units": 0}, "units: expected a positive integer"),
        ({"dropout": 1.0}, r"dropout: expected a number in \[0, 1\), got 1.0"),
        ({"recurrent_dropout": float("nan")}, "recurrent_dropout: expected"),
        ({"activation": "tahn"}, "expected one of"),
        ({"time_major": True}, "time_major: expected False"),
        ({"kernel_initializer": "glorot"}, "expected one of"),
        ({"seed": -1}, "seed: expected None or an integer"),
    ]:
        with pytest.raises(ValueError, match=message):
            make_one(**{"units": 3, **options})
    for options, message in [
        ({"units": 2.5}, "units: expected a positive integer, got 2.5"),
        ({"units": True}, "units: expected a positive integer"),
        ({"dropout": "0.1"}, "dropout: expected a number"),
        ({"return_sequences": "yes"}, "return_sequences: expected True or False"),
        ({"return_sequence": True}, r"return_sequence: expected a known argument"),
    ]:
        with pytest.raises(TypeError, match=message):
            make_one(**{"units": 3, **options})
    make_one(3, implementation=1, unroll=True, use_cudnn="auto", time_major=False)  # accepted, no effect
    with pytest.raises(ValueError, match=rf"\[{cell}\] inputs: expected shape \(batch, time, features\), got \(3, 4\)"):
        make_one(3)(np.zeros((3, 4)))
    layer = make_one(3)
    layer(np.zeros((2, 3, 4)))
    with pytest.raises(ValueError, match=r"expected shape \(batch, time, features\) with 4 last, got \(2, 3, 5\)"):
        layer(np.zeros((2, 3, 5)))
    with pytest.raises(ValueError, match=r"mask: expected booleans of shape \(batch, time\) = \(2, 3\)"):
        layer(np.zeros((2, 3, 4)), mask=np.ones((3, 2), bool))


def test_bidirectional_wrong_arguments() -> None:
    with pytest.raises(ValueError, match=r"\[Bidirectional\] merge_mode: expected one of 'concat'"):
        Bidirectional(LSTM(3), merge_mode="add")
    with pytest.raises(TypeError, match=r"\[Bidirectional\] layer: expected a SimpleRNN, LSTM or GRU"):
        Bidirectional("lstm")


@pytest.mark.parametrize("shape", [(0, 4, 3), (2, 0, 3), (0, 0, 3)])
def test_bidirectional_on_nothing(shape: tuple[int, ...]) -> None:
    """Both directions write into one array, and NumPy gives an empty one strides of 0."""
    layer = Bidirectional(LSTM(5, return_sequences=True))
    assert layer(np.zeros(shape, np.float32)).shape == (*shape[:2], 10)
