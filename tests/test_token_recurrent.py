"""rnn, lstm and gru on tokens and an embedding, against the same functions on the looked-up array: every cell,
instruction set, precision and option, one and several threads bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_settings import ISAS, TOLERANCE, core, each_dtype, each_isa
from fastrnn import _core, reference
from fastrnn import functional as F
from rnn_cases import (
    CELLS,
    Case,
    assert_close,
    assert_same,
    backward,
    draw,
    draw_lengths,
    draw_mask,
    draw_recurrent_mask,
    forward,
    run,
)
from thread_tools import split

each_cell = pytest.mark.parametrize("cell", CELLS)


def embed(case: Case, V: int, seed: int = 0) -> tuple[Case, Case]:
    """The case with tokens in place of x, and with the array that they stand for."""
    rng = np.random.default_rng(seed)
    x = case.arrays["x"]
    ids = rng.integers(0, V, x.shape[:2]) * rng.integers(0, 2, x.shape[:2])  # half of them are padding
    table = rng.normal(size=(V, x.shape[2])).astype(x.dtype)
    tokens = case.with_arrays(x=F.token_index(ids, V)).with_options(embedding=table)
    return tokens, case.with_arrays(x=table[ids])


def of_embedding(values: dict[str, Any], tokens: Case) -> dict[str, Any]:
    """With the gradient of the embedding in place of that of the array."""
    index = tokens.arrays["x"]
    if values["grad_x"] is None:
        return values
    ids = index.tokens[index.inverse]
    return {**values, "grad_x": reference.embedding_backward(ids, values["grad_x"], index.num_embeddings)}


def check(case: Case, V: int, tolerance: float) -> None:
    tokens, array = embed(case, V)
    ours, theirs = run(F, tokens), run(F, array)
    assert_close(ours, of_embedding(theirs, tokens), tolerance)
    outputs = ("output", "h_n", "c_n")  # the same sums in the same order
    assert_same({n: ours.get(n) for n in outputs}, {n: theirs.get(n) for n in outputs})


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "reverse": {"reverse": True},
    "time first": {"batch_first": False},
    "last state": {"return_sequences": False},
    "checkpoint": {"checkpoint": True},
    "relu": {"activation": "relu"},
    "gelu": {"activation": "gelu"},
}


@each_isa
@each_dtype
@each_cell
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_same_as_the_array(isa: str, dtype: Any, cell: str, options: dict[str, Any]) -> None:
    rng = np.random.default_rng(1)
    with core(isa):
        case = draw(cell, rng, B=19, T=40, I=5, H=17, dtype=dtype, **options)
        if options.get("return_sequences") is False:
            case = case.with_upstream(grad_output=None)
        check(case, 23, TOLERANCE[dtype])


@each_cell
@pytest.mark.parametrize("kind", ["lengths", "mask", "recurrent_mask", "no bias", "no state"])
def test_with_everything_else(cell: str, kind: str) -> None:
    rng = np.random.default_rng(2)
    B, T, H = 21, 30, 33
    case = draw(cell, rng, B=B, T=T, I=3, H=H, bias=kind != "no bias", initial=kind != "no state")
    if kind == "lengths":
        case = case.with_options(lengths=draw_lengths(rng, B, T))
    elif kind == "mask":
        case = case.with_options(mask=draw_mask(rng, B, T), reverse=True)
    elif kind == "recurrent_mask":
        case = case.with_options(recurrent_mask=draw_recurrent_mask(rng, B, H, np.float64))
    check(case, 11, 1e-12)
    tokens, array = embed(case, 11)
    assert_close(run(F, tokens, need_grad_x=False), run(F, array, need_grad_x=False), 1e-12)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_size(data: st.DataObject) -> None:
    number = st.integers(1, 35)
    cell, isa = data.draw(st.sampled_from(sorted(CELLS))), data.draw(st.sampled_from(ISAS))
    B, T, I, H, V = (data.draw(number) for _ in range(5))
    case = draw(cell, np.random.default_rng(data.draw(number)), B=B, T=T, I=I, H=H)
    with core(isa, data.draw(st.integers(1, 2))):
        check(case, V, 1e-12)


@each_isa
@each_cell
@pytest.mark.parametrize("kind", ["automatic", "rows", "units"])
def test_threads(isa: str, cell: str, kind: str) -> None:
    """The same bits for every number of threads, however the call is cut up."""
    case = draw(cell, np.random.default_rng(3), B=37, T=24, I=16, H=70, dtype=np.float32)
    tokens, _ = embed(case, 50)
    results = []
    _core.assume_processors(4)
    try:
        split(kind)
        for threads in (1, 2, 4):
            with core(isa, threads):
                results.append(run(F, tokens))
    finally:
        split("automatic")
        _core.assume_processors(0)
    assert_same(results[1], results[0])
    assert_same(results[2], results[0])


@each_cell
@pytest.mark.parametrize("kind", ["automatic", "rows", "units"])
@pytest.mark.parametrize("lengths", ["ragged", "mostly empty", "empty"])
def test_threads_with_lengths_and_checkpoints(cell: str, kind: str, lengths: str) -> None:
    """Also where a shard has no steps at all."""
    rng, B, T = np.random.default_rng(9), 36, 40
    steps = {
        "ragged": draw_lengths(rng, B, T),
        "mostly empty": np.array([T] + [0] * (B - 1)),
        "empty": np.zeros(B, int),
    }
    case = draw(cell, rng, B=B, T=T, I=6, H=40, dtype=np.float32, lengths=steps[lengths])
    tokens, array = embed(case, 20)
    results = []
    _core.assume_processors(4)
    try:
        split(kind)
        for threads, checkpoint in ((1, None), (2, None), (4, 1), (1, 1)):
            with core(ISAS[0], threads):
                results.append(run(F, tokens.with_options(checkpoint=checkpoint)))
        expected = of_embedding(run(F, array), tokens)
    finally:
        split("automatic")
        _core.assume_processors(0)
    assert_close(results[0], expected, 1e-5)
    for other in results[1:]:
        assert_same(other, results[0])


def test_memory() -> None:
    """The workspace keeps of tokens what it keeps of an array: the embedding and the tokens are not its own."""
    for checkpoint in (None, True):
        case = draw("lstm", np.random.default_rng(10), B=20, T=200, I=8, H=32, dtype=np.float32, checkpoint=checkpoint)
        tokens, array = embed(case, 900)
        assert forward(F, tokens, workspace=True)[1].nbytes == forward(F, array, workspace=True)[1].nbytes


@each_cell
def test_checkpoints_and_repetitions_change_nothing(cell: str) -> None:
    case = draw(cell, np.random.default_rng(4), B=17, T=300, I=8, H=20, dtype=np.float32)
    tokens, _ = embed(case, 40)
    results, workspace = forward(F, tokens, workspace=True)
    first, second = backward(F, tokens, workspace), backward(F, tokens, workspace)
    assert_same(first, second)
    assert_same({**results, **first}, run(F, tokens.with_options(checkpoint=True)))


@each_cell
def test_a_row_alone(cell: str) -> None:
    case = draw(cell, np.random.default_rng(5), B=13, T=12, I=8, H=20, dtype=np.float32, initial=False)
    tokens, _ = embed(case, 40)
    index = tokens.arrays["x"]
    whole, _ = forward(F, tokens)
    for row in range(13):
        ids = index.tokens[index.inverse[row : row + 1]]
        alone, _ = forward(F, tokens.with_arrays(x=F.token_index(ids, 40)))
        assert alone["output"].tobytes() == whole["output"][row : row + 1].tobytes()


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_packed_weights(precision: str) -> None:
    """Inference: as with a table of the whole vocabulary."""
    case = draw("lstm", np.random.default_rng(6), B=4, T=9, I=8, H=20, dtype=np.float32, initial=False)
    a = case.arrays
    tokens, _ = embed(case, 30)
    packed = F.pack_weights("lstm", a["weight_ih"], a["weight_hh"], a["bias_ih"], a["bias_hh"], precision=precision)
    table = tokens.options["embedding"]
    index = tokens.arrays["x"]
    ours, _ = F.lstm(index, packed, embedding=table)
    theirs, _ = F.lstm(index.tokens[index.inverse], packed.project(table))
    assert ours.tobytes() == theirs.tobytes()


@each_cell
def test_empty(cell: str) -> None:
    for B, T in ((0, 3), (2, 0)):
        case = draw(cell, np.random.default_rng(7), B=B, T=T, I=2, H=3)
        tokens, array = embed(case, 4)
        assert_close(run(F, tokens), of_embedding(run(F, array), tokens), 1e-12)
    case = draw(cell, np.random.default_rng(7), B=2, T=0, I=2, H=3)
    nothing = case.with_arrays(x=F.token_index(np.zeros((2, 0), int), 0)).with_options(embedding=np.zeros((0, 2)))
    assert run(F, nothing)["grad_x"].shape == (0, 2)


def test_refused() -> None:
    case = draw("lstm", np.random.default_rng(8), B=3, T=4, I=5, H=6)
    tokens, array = embed(case, 7)
    table, index = tokens.options["embedding"], tokens.arrays["x"]
    weights = [case.arrays[n] for n in ("weight_ih", "weight_hh")]

    def refuses(error: Any, words: str, x: Any, w: Any = weights, **options: Any) -> None:
        with pytest.raises(error, match=words):
            F.lstm(x, *w, **options)

    refuses(ValueError, r"^\[lstm\] embedding: expected an embedding .* got None$", index)
    refuses(TypeError, r"^\[lstm\] x: expected what token_index returns, beside an embedding, got ndarray",
            array.arrays["x"], embedding=table)  # fmt: skip
    refuses(ValueError, r"^\[lstm\] embedding: expected shape \(V, I\) = \(7, 5\), got \(6, 5\)", index,
            embedding=table[:6])  # fmt: skip
    refuses(ValueError, r"^\[lstm\] embedding: expected shape \(V, I\) = \(7, 5\), got \(7, 4\)", index,
            embedding=table[:, :4])  # fmt: skip
    refuses(TypeError, r"^\[lstm\] embedding: expected a NumPy array, got list", index, embedding=table.tolist())
    refuses(
        TypeError,
        r"^\[lstm\] weight_ih: expected dtype float32 \(that of embedding\)",
        index,
        embedding=table.astype(np.float32),
    )
    refuses(ValueError, r"^\[lstm\] x: expected tokens of ids with two axes, batch and time, got \(12,\)",
            F.token_index(np.zeros(12, int), 7), embedding=table)  # fmt: skip
    projected = F.pack_weights("lstm", *weights).project(table)
    refuses(TypeError, r"^\[lstm\] x: expected an array of ids beside a table of products, got TokenIndex", index,
            [projected], embedding=table)  # fmt: skip
    refuses(TypeError, r"^\[lstm\] x: expected an array of ids beside a table of products", index, [projected])
    ids = index.tokens[index.inverse]
    refuses(ValueError, r"^\[lstm\] embedding: expected None beside a table", ids, [projected], embedding=table)
    refuses(ValueError, r"^\[lstm\] lengths: expected values from 0 to T = 4", index, embedding=table,
            lengths=np.array([1, 2, 5]))  # fmt: skip
    # strides are honoured
    output, _ = F.lstm(index, *weights, embedding=np.repeat(table, 2, axis=0)[::2])
    np.testing.assert_array_equal(output, F.lstm(index, *weights, embedding=table)[0])
