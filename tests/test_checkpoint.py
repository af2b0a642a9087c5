"""Checkpoints: the same bits from less memory. What they cost is measured in docs/architecture.md."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from core_settings import core, each_isa
from fastrnn import functional as F
from fastrnn import runtime
from fastrnn.layers import GRU, LSTM, Bidirectional, Dense, SimpleRNN
from fastrnn.models import Sequential, load_model
from fastrnn.runtime import use_isa
from rnn_cases import (
    CELLS,
    Case,
    assert_same,
    backward,
    draw,
    draw_lengths,
    draw_mask,
    draw_recurrent_mask,
    forward,
    run,
)
from thread_tools import SPLITS, split

each_cell = pytest.mark.parametrize("cell", CELLS)

# (B, T, I, H): more steps, even with a mask, than make a chunk of gradients
EXTENTS = {"few-rows": (3, 700, 5, 97), "rows": (33, 130, 9, 65), "one-row": (1, 1500, 3, 97)}


def make(cell: str, kind: str, extents: tuple[int, ...], dtype: Any) -> Case:
    B, T, I, H = extents
    rng = np.random.default_rng([B, list(CELLS).index(cell)])
    options: dict[str, dict[str, Any]] = {
        "full": {},
        "lengths": {"lengths": draw_lengths(rng, B, T), "reverse": True},
        "mask": {"mask": draw_mask(rng, B, T), "batch_first": False, "reverse": True},
        "recurrent-mask": {"recurrent_mask": draw_recurrent_mask(rng, B, H, dtype)},
        "keeps-input": {"activation": "gelu"},
    }
    return draw(cell, rng, B=B, T=T, I=I, H=H, dtype=dtype, **options[kind])


# of 270 rows in one shard, each step is a chunk
NO_STATE = EXTENTS | {"chunk-of-one-step": (270, 4, 3, 250)}


def workspace_bytes(case: Case) -> int:
    return int(forward(F, case, workspace=True)[1].nbytes)


# ---- the same bits -------------------------------------------------------------------------------------------------


@each_isa
@pytest.mark.parametrize("way", ["units", "pipeline"])
@pytest.mark.parametrize("extents", NO_STATE)
@each_cell
def test_no_initial_state_equals_zeros(cell: str, extents: str, way: str, isa: str) -> None:
    """In many chunks, also where a stretch begins at the first step."""
    B, T, I, H = NO_STATE[extents]
    case = draw(cell, np.random.default_rng(4), B=B, T=T, I=I, H=H, dtype=np.float32, initial=False)
    zeros = case.with_arrays(**{k: np.zeros((B, H), np.float32) for k in ("h0", "c0") if k in case.arrays})
    split(way)
    try:
        with core(isa, 2):
            expected = run(F, zeros)
            for checkpoint in (None, 1):
                given = {k: v for k, v in run(F, case.with_options(checkpoint=checkpoint)).items() if v is not None}
                assert_same(given, {name: expected[name] for name in given}, checkpoint)
    finally:
        split("automatic")


@each_isa
@pytest.mark.parametrize("way", SPLITS)
@pytest.mark.parametrize("kind", ["full", "lengths", "mask", "recurrent-mask", "keeps-input"])
@pytest.mark.parametrize("extents", EXTENTS)
@each_cell
def test_same_bits(cell: str, extents: str, kind: str, way: str, isa: str) -> None:
    case = make(cell, kind, EXTENTS[extents], np.float32 if way != "rows" else np.float64)
    split(way)
    try:
        with core(isa):
            everything, kept = run(F, case), workspace_bytes(case)
        for checkpoint, threads in ((1, 1), (40, 2), (True, 2)):
            with core(isa, threads):
                some = case.with_options(checkpoint=checkpoint)
                assert_same(run(F, some), everything, (checkpoint, threads))
                assert workspace_bytes(some) < kept, "nothing was left out"
    finally:
        split("automatic")


@pytest.mark.parametrize("ways", [("pipeline", "units"), ("units", "pipeline")], ids="-".join)
@each_cell
def test_same_bits_where_forward_and_backward_are_cut_up_differently(cell: str, ways: tuple[str, str]) -> None:
    case = make(cell, "lengths", EXTENTS["few-rows"], np.float32)
    expected = run(F, case)
    try:
        with runtime.num_threads(2):
            split(ways[0])
            values, workspace = forward(F, case.with_options(checkpoint=True), workspace=True)
            split(ways[1])
            for _ in range(3):
                assert_same({**values, **backward(F, case, workspace)}, expected)
    finally:
        split("automatic")


def test_same_bits_where_the_plan_cuts_them_up_differently() -> None:
    case = draw("lstm", np.random.default_rng(0), B=1, T=2000, I=256, H=64, dtype=np.float32)
    with runtime.num_threads(1):
        expected = run(F, case)
    with runtime.num_threads(2):
        for _ in range(3):
            assert_same(run(F, case.with_options(checkpoint=True)), expected)


@each_cell
def test_a_stretch_of_all_steps_keeps_all(cell: str) -> None:
    case = make(cell, "full", (3, 9, 2, 5), np.float32)
    for checkpoint in (9, 10, 10**12):
        some = case.with_options(checkpoint=checkpoint)
        assert workspace_bytes(some) == workspace_bytes(case)
        assert_same(run(F, some), run(F, case))


def test_no_more_memory_than_without() -> None:
    """Checkpoints need the weights once more, here more than what they leave out."""
    case = draw("lstm", np.random.default_rng(0), B=1, T=300, I=8, H=512, dtype=np.float32)
    assert workspace_bytes(case.with_options(checkpoint=1)) == workspace_bytes(case)
    longer = draw("lstm", np.random.default_rng(0), B=1, T=3000, I=8, H=512, dtype=np.float32)
    assert workspace_bytes(longer.with_options(checkpoint=1)) < workspace_bytes(longer) / 2


@each_cell
def test_rows_without_steps(cell: str) -> None:
    case = make(cell, "lengths", (33, 130, 9, 33), np.float32).with_options(lengths=np.zeros(33, np.int64))
    assert_same(run(F, case.with_options(checkpoint=1)), run(F, case))


@each_cell
def test_backward_twice_and_weights_that_changed(cell: str) -> None:
    """The workspace has weights of its own: an optimizer may have stepped."""
    case = make(cell, "full", EXTENTS["rows"], np.float32)
    expected = run(F, case)
    case = case.with_arrays(**{k: v.copy() for k, v in case.arrays.items() if v is not None})
    values, workspace = forward(F, case.with_options(checkpoint=1), workspace=True)
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "h0"):
        case.arrays[name] += 1
    for _ in range(2):
        assert_same({**values, **backward(F, case, workspace)}, expected)
    without_x = backward(F, case, workspace, need_grad_x=False)
    assert without_x.pop("grad_x") is None
    assert_same(without_x, {name: expected[name] for name in without_x})


# ---- less memory ---------------------------------------------------------------------------------------------------

# values per row and step: gates, and what of h, c, r*h there is
KEPT = {"rnn": (0, 1), "lstm": (4, 2), "gru": (4, 1), "gru_before": (3, 2)}


def row_bytes(values: int) -> int:
    """Rows of float32 are an odd number of cache lines long."""
    return (math.ceil(values / 16) | 1) * 64


@each_isa
@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
@each_cell
def test_memory_to_the_byte(cell: str, ragged: bool, isa: str) -> None:
    """16 rows of a shard, 4*64 gates: 16 steps make the 256 kB of a chunk of gradients; 64, of the RNN's 64."""
    B, T, I, H = 32, 400, 8, 64
    rng = np.random.default_rng(1)
    lengths = np.sort(rng.integers(1, T + 1, B)) if ragged else np.full(B, T)
    lengths[-2:] = T  # one in each shard
    case = draw(cell, rng, B=B, T=T, I=I, H=H, dtype=np.float32, lengths=lengths)
    weights = [case.arrays[n] for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    gates, states = KEPT[cell]
    has_c = cell == "lstm"
    chunk = {"rnn": 64, "gru_before": 21}.get(cell, 16)
    if (cell, isa) == ("lstm", "amx"):  # whose products of matrices want 1 MB
        chunk = 64
    with use_isa(isa):
        packed = F.pack_weights(CELLS[cell][0], *weights, reset_after=cell != "gru_before").nbytes
        total = int(lengths.sum())
        everything = total * (bool(gates) * row_bytes(gates * H) + states * row_bytes(H))
        everything += B * (1 + has_c) * row_bytes(H)
        kept = workspace_bytes(case)
        for wanted, steps in ((1, chunk), (chunk, chunk), (chunk + 1, 2 * chunk), (True, -(-20 // chunk) * chunk)):
            borders = sum(int((lengths > s).sum()) for s in range(0, T, steps)) * (1 + has_c) * row_bytes(H)
            checkpointed = workspace_bytes(case.with_options(checkpoint=wanted))
            assert kept - everything == checkpointed - borders - packed > 0, (wanted, steps)


# ---- layers --------------------------------------------------------------------------------------------------------


def layer(kind: str, checkpoint: Any) -> Any:
    options: dict[str, Any] = {"return_sequences": True, "seed": 3, "recurrent_dropout": 0.2, "checkpoint": checkpoint}
    return {
        "rnn": lambda: SimpleRNN(33, **options),
        "lstm": lambda: LSTM(33, go_backwards=True, **options),
        "gru": lambda: GRU(33, dropout=0.1, **options),
        "gru_before": lambda: GRU(33, reset_after=False, **options),
        "bidirectional": lambda: Bidirectional(LSTM(33, **options)),
    }[kind]()


@pytest.mark.parametrize("kind", [*CELLS, "bidirectional"])
def test_layers(kind: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(33, 130, 9)).astype(np.float32)
    mask = np.arange(130) < rng.integers(1, 131, (33, 1))
    layers = [layer(kind, checkpoint) for checkpoint in (None, 1, True)]
    for one in layers:
        one.build(x.shape)
        one.set_weights(layers[0].get_weights())
    results = []
    for one in layers:
        y = one.forward(x, training=True, mask=mask)
        grad_x = one.backward(np.ones_like(y))
        results.append({"y": y, "grad_x": grad_x, **{w.name.split("/")[-1]: w.grad for w in one.weights}})
    for some in results[1:]:
        assert_same(some, results[0])


@pytest.mark.parametrize("checkpoint", [None, True, 40])
def test_configuration_and_files(checkpoint: Any, tmp_path: Any) -> None:
    for kind in CELLS:
        copy = type(layer(kind, None)).from_config(layer(kind, checkpoint).get_config())
        assert copy.checkpoint is checkpoint or copy.checkpoint == checkpoint
    both = Bidirectional.from_config(Bidirectional(GRU(3, checkpoint=checkpoint)).get_config())
    assert both.forward_layer.checkpoint == both.backward_layer.checkpoint == checkpoint
    model = Sequential([Bidirectional(LSTM(4, checkpoint=checkpoint), input_shape=(6, 3)), Dense(1)])
    model.save(tmp_path / "model.safetensors")
    assert load_model(tmp_path / "model.safetensors").layers[0].forward_layer.checkpoint == checkpoint


def test_fit_is_the_same() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 300, 6)).astype(np.float32), rng.integers(0, 2, 64)
    models = [
        Sequential([GRU(32, checkpoint=checkpoint, input_shape=(300, 6)), Dense(1, activation="sigmoid")])
        for checkpoint in (None, True)
    ]
    models[1].set_weights(models[0].get_weights())
    for model in models:
        model.compile(optimizer="adam", loss="binary_crossentropy")
        model.fit(x, y, epochs=2, batch_size=32, shuffle=False, verbose=0)
    for one, other in zip(*(model.get_weights() for model in models), strict=True):
        assert one.tobytes() == other.tobytes()


# ---- arguments -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize(
    ("value", "error"),
    [(0, ValueError), (-3, ValueError), ("auto", TypeError), (2.0, TypeError), (np.array([2]), TypeError)],
)
def test_refused(op: str, value: Any, error: type[Exception]) -> None:
    x, w, r = (np.zeros(s, np.float32) for s in ((1, 2, 3), (5, 3), (5, 5)))
    kind = {"rnn": SimpleRNN, "lstm": LSTM, "gru": GRU}[op]
    words = "checkpoint: expected None, True or a number of steps.*, got "
    with pytest.raises(error, match=rf"^\[{op}\] {words}"):
        getattr(F, op)(x, w, r, checkpoint=value)
    with pytest.raises(error, match=rf"^\[{kind.__name__}\] {words}"):
        kind(5, checkpoint=value)


@pytest.mark.parametrize("value", [None, False, np.bool_(False), True, np.bool_(True), 1, np.int32(7)])
def test_accepted(value: Any) -> None:
    case = make("lstm", "full", (1, 4, 2, 3), np.float32)
    assert_same(run(F, case.with_options(checkpoint=value)), run(F, case))
    assert LSTM(3, checkpoint=value).checkpoint == (value or None)


def test_no_effect_without_a_workspace() -> None:
    case = make("lstm", "full", EXTENTS["rows"], np.float32)
    assert_same(forward(F, case.with_options(checkpoint=1))[0], forward(F, case)[0])
