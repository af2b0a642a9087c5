"""Two recurrent calls at once: bitwise what they are in turn, whatever runs where; errors reach the caller."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fastrnn import functional as F
from fastrnn import layers, models
from fastrnn.functional.pairs import Call, backward_pair, forward_pair
from rnn_cases import (
    ARGUMENTS,
    CELLS,
    Case,
    assert_same,
    draw,
    draw_lengths,
    draw_mask,
    draw_recurrent_mask,
    run,
)
from thread_tools import core, script

ORDERS = {"automatic": 0, "in_turn": 1, "side_by_side": 2}
each_cell = pytest.mark.parametrize("cell", CELLS)
each_order = pytest.mark.parametrize("order", ORDERS)
each_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    threads = core.num_threads()
    core.set_num_threads(2)
    yield
    core.set_num_threads(threads)
    core.force_order(0)


def arguments(case: Case) -> tuple[Any, ...]:
    return tuple(case.arrays[name] for name in ARGUMENTS if name in case.arrays)


def call(case: Case, **options: Any) -> Call:
    return Call(CELLS[case.cell][0], arguments(case), {**case.options, **options})


def test_a_function_that_does_not_exist() -> None:
    case = draw("gru", np.random.default_rng(1))
    with pytest.raises(ValueError, match=r"\[gru_\] function: expected rnn, lstm or gru, got gru_"):
        forward_pair(call(case), call(case)._replace(function="gru_"))


def test_reset_after_is_for_grus() -> None:
    case = draw("lstm", np.random.default_rng(1))
    pair = forward_pair(call(case), call(case, reset_after=False))
    assert_same(named(case, pair[1]), named(case, pair[0]))


def named(case: Case, result: Any) -> dict[str, Any]:
    states = result[1] if case.cell == "lstm" else (result[1],)
    return {"output": result[0], **dict(zip(("h_n", "c_n"), states, strict=False))}


def run_pair(*cases: Case) -> list[dict[str, Any]]:
    """What `run` returns for each, of one forward and one backward pair."""
    results = forward_pair(*[call(case, return_workspace=True) for case in cases])
    upstream = [tuple(case.upstream.values()) for case in cases]
    backward = [
        Call(CELLS[case.cell][0], (result[2], *grads), {})
        for case, result, grads in zip(cases, results, upstream, strict=True)
    ]
    gradients = backward_pair(*backward)
    return [
        {**named(case, result), **grads._asdict()}
        for case, result, grads in zip(cases, results, gradients, strict=True)
    ]


def directions(cell: str, dtype: Any = np.float32, *, kind: str = "full", **sizes: Any) -> tuple[Case, Case]:
    rng = np.random.default_rng(5)
    one = draw(cell, rng, dtype=dtype, **sizes)
    B, T = one.arrays["x"].shape[:2]
    options: dict[str, Any] = {
        "full": {}, "lengths": {"lengths": draw_lengths(rng, B, T)}, "mask": {"mask": draw_mask(rng, B, T)},
        "recurrent_mask": {"recurrent_mask": draw_recurrent_mask(rng, B, one.arrays["h0"].shape[1], dtype)},
        "checkpoint": {"checkpoint": True},
    }[kind]  # fmt: skip
    other = draw(cell, rng, dtype=dtype, **sizes).with_arrays(x=one.arrays["x"])
    return one.with_options(**options), other.with_options(reverse=True, **options)


# ---- the same bits -------------------------------------------------------------------------------------------------


@each_order
@each_dtype
@pytest.mark.parametrize("threads", [1, 2, 4])
@each_cell
def test_same_as_separate_calls(cell: str, threads: int, dtype: str, order: str) -> None:
    """From calls that one thread does at once to such as have shards, and teams, of their own."""
    core.force_order(ORDERS[order])
    for sizes in ({"B": 1, "T": 3, "H": 5}, {"B": 1, "T": 60, "H": 20}, {"B": 2, "T": 30, "I": 30, "H": 100},
                  {"B": 33, "T": 9, "I": 20, "H": 40}):  # fmt: skip
        cases = directions(cell, dtype, **sizes)
        core.set_num_threads(1)
        expected = [run(F, case) for case in cases]
        core.set_num_threads(threads)
        for ours, wanted in zip(run_pair(*cases), expected, strict=True):
            assert_same(ours, wanted, sizes)


@each_order
@pytest.mark.parametrize("kind", ["lengths", "mask", "recurrent_mask", "checkpoint"])
@each_cell
def test_same_with_options(cell: str, kind: str, order: str) -> None:
    core.force_order(ORDERS[order])
    for B in (1, 5, 18):
        cases = directions(cell, kind=kind, B=B, T=40, I=7, H=24)
        for ours, case in zip(run_pair(*cases), cases, strict=True):
            assert_same(ours, run(F, case), B)


@each_order
def test_calls_of_different_kinds(order: str) -> None:
    """Cells, sizes, dtypes, orders of axes: nothing has to be alike."""
    core.force_order(ORDERS[order])
    rng = np.random.default_rng(1)
    cases = [
        draw(cell, rng, B=B, T=T, I=6, H=H, dtype=dtype, batch_first=batch_first)
        for cell, B, T, H, dtype, batch_first in (
            ("lstm", 1, 70, 30, np.float32, True), ("gru_before", 4, 20, 9, np.float32, False),
            ("rnn", 20, 5, 50, np.float64, True), ("gru", 1, 300, 3, np.float64, True),
        )
    ]  # fmt: skip
    for one in cases:
        for other in cases:
            for ours, case in zip(run_pair(one, other), (one, other), strict=True):
                assert_same(ours, run(F, case))


@each_order
@pytest.mark.parametrize("precision", [None, "bfloat16", "int8"])
def test_packed_weights_and_tables(precision: str | None, order: str) -> None:
    core.force_order(ORDERS[order])
    one, other = directions("lstm", B=1, T=50, I=8, H=24)
    packed = [F.pack_weights("lstm", *(c.arrays[n] for n in ARGUMENTS[1:5]), precision=precision) for c in (one, other)]
    ids = np.random.default_rng(0).integers(0, 50, size=(1, 50))
    table = packed[1].project(one.arrays["x"][0])
    calls = [Call("lstm", (one.arrays["x"], packed[0]), {}), Call("lstm", (ids, table), {"reverse": True})]
    for ours, c in zip(forward_pair(*calls), calls, strict=True):
        assert_same(named(one, ours), named(one, F.lstm(*c.arguments, **c.options)))


@each_order
@each_cell
def test_embedded_tokens(cell: str, order: str) -> None:
    """Both read the distinct tokens of one TokenIndex."""
    core.force_order(ORDERS[order])
    rng = np.random.default_rng(2)
    cases = directions(cell, B=2, T=60, I=8, H=24)
    embedding = rng.normal(size=(11, 8)).astype(np.float32)
    tokens = F.token_index(rng.integers(0, 11, size=(2, 60)), 11)
    cases = [replace(c, options={**c.options, "embedding": embedding}).with_arrays(x=tokens) for c in cases]
    for ours, case in zip(run_pair(*cases), cases, strict=True):
        assert_same(ours, run(F, case))


def test_denormal_numbers() -> None:
    """What a call does outside of its threaded regions keeps them, inside they are zero; so it is in a pair."""
    core.force_order(ORDERS["side_by_side"])
    tiny = np.float32(1e-38)  # two of them are normal again
    one, other = (
        c.with_arrays(**{n: np.full_like(c.arrays[n], tiny) for n in ("x", "bias_ih", "bias_hh", "h0")}).with_options(
            activation="relu"
        )
        for c in directions("rnn", B=2, T=5, H=20)
    )
    for _ in range(20):
        for ours, case in zip(run_pair(one, other), (one, other), strict=True):
            assert ours["output"].any()
            assert_same(ours, run(F, case))


# ---- errors --------------------------------------------------------------------------------------------------------


@each_order
@pytest.mark.parametrize("place", [0, 1])
def test_errors_of_either(place: int, order: str) -> None:
    """Those that the binding finds, and those that the core finds while the other call runs."""
    core.force_order(ORDERS[order])
    good = directions("lstm", B=2, T=300, H=16)
    for change, error, words in (
        ({"weight_ih": None}, TypeError, r"\[lstm\] weight_ih: expected a NumPy array, got None"),
        ({"weight_ih": np.zeros((64, 9), np.float32)}, ValueError, r"\[lstm\] weight_ih: expected .*, got"),
        ({"c0": np.zeros((2, 3), np.float32)}, ValueError, r"\[lstm\] c0: expected shape \(B, H\)"),
        ({"h0": np.zeros((2, 16))}, TypeError, r"\[lstm\] h0: expected dtype float32"),
    ):
        calls = [call(case.with_arrays(**(change if i == place else {}))) for i, case in enumerate(good)]
        with pytest.raises(error, match=words):
            forward_pair(*calls)
    results = forward_pair(*[call(case, return_workspace=True) for case in good])
    bad = np.zeros((2, 299, 16), np.float32)
    backward = [Call("lstm", (r[2], bad if i == place else None), {}) for i, r in enumerate(results)]
    with pytest.raises(ValueError, match=r"\[lstm_backward\] grad_output: expected shape"):
        backward_pair(*backward)
    for ours, case in zip(run_pair(*good), good, strict=True):  # and nothing is left of it
        assert_same(ours, run(F, case))


@each_order
def test_the_first_of_two_errors(order: str) -> None:
    core.force_order(ORDERS[order])
    one, other = directions("gru", B=2, T=300, H=16)
    bad = np.zeros((7, 7), np.float32)
    for _ in range(10):
        with pytest.raises(ValueError, match="h0"):
            forward_pair(call(one.with_arrays(h0=bad)), call(other.with_options(lengths=np.array([1, 301]))))
        with pytest.raises(ValueError, match="lengths"):
            forward_pair(call(other.with_options(lengths=np.array([1, 301]))), call(one.with_arrays(h0=bad)))


def test_another_cells_workspace() -> None:
    one, other = directions("gru", T=3)
    results = forward_pair(call(one, return_workspace=True), call(other, return_workspace=True))
    with pytest.raises(ValueError, match=r"\[lstm_backward\] workspace: expected one from lstm"):
        backward_pair(Call("gru", (results[0][2],), {}), Call("lstm", (results[1][2],), {}))


# ---- threads -------------------------------------------------------------------------------------------------------


def test_side_by_side_where_it_pays() -> None:
    """Each direction of few units alone is worth one thread; a pair that is worth two is helped by one worker."""
    script("""
from fastrnn.functional.pairs import Call, forward_pair
core.assume_processors(2)
core.set_num_threads(2)
def pair(T, H):
    one = case("lstm", B=1, T=T, I=8, H=H)
    c = Call("lstm", tuple(one.arrays.values()), {})
    before = tasks()
    forward_pair(c, c)
    return tasks() - before
if core.thread_source() == "pool" and os.path.exists("/proc/self/task"):
    assert pair(5, 8) == 0  # not worth it
    one = case("lstm", B=1, T=500, I=8, H=16)
    before = tasks()
    functional.lstm(*one.arrays.values())
    assert tasks() == before
    assert pair(500, 16) == 1
""")


@each_order
def test_as_on_other_machines(order: str) -> None:
    script(f"""
from test_pairs import *
core.assume_processors(8)
core.force_order(ORDERS[{order!r}])
for cell in CELLS:
    for B in (1, 5, 33):
        cases = directions(cell, B=B, T=12, I=64, H=96)
        core.set_num_threads(1)
        expected = [run(F, c) for c in cases]
        for threads in (2, 3, 8):
            core.set_num_threads(threads)
            for ours, wanted in zip(run_pair(*cases), expected):
                assert_same(ours, wanted, (cell, B, threads))
""")


@pytest.mark.parametrize("processors", [0, 4])
def test_many_python_threads_at_once(processors: int) -> None:
    script(f"""
import threading
from test_pairs import *
core.assume_processors({processors})
core.set_num_threads({processors or 2})
pairs = [directions(cell, B=B, T=40, I=16, H=32) for cell in CELLS for B in (1, 9)]
expected = [[run(F, c) for c in cases] for cases in pairs]
failed = []
def work(first):
    try:
        for i in range(3 * len(pairs)):
            i = (first + i) % len(pairs)
            core.force_order(i % 3)
            for ours, wanted in zip(run_pair(*pairs[i]), expected[i]):
                assert_same(ours, wanted)
    except BaseException as error:
        failed.append(error)
callers = [threading.Thread(target=work, args=(n,)) for n in range(8)]
for t in callers: t.start()
for t in callers: t.join()
assert not failed, failed[0]
""")


# ---- layers --------------------------------------------------------------------------------------------------------


LAYERS: dict[str, Any] = {
    "lstm": lambda: layers.Bidirectional(layers.LSTM(24, return_sequences=True)),
    "gru": lambda: layers.Bidirectional(layers.GRU(24), merge_mode="mul"),
    "rnn": lambda: layers.Bidirectional(layers.SimpleRNN(24, return_sequences=True), merge_mode=None),
    "states": lambda: layers.Bidirectional(layers.LSTM(24, return_state=True, return_sequences=True)),
    "two kinds": lambda: layers.Bidirectional(layers.LSTM(24), backward_layer=layers.GRU(40, go_backwards=True)),
    "backwards first": lambda: layers.Bidirectional(
        layers.GRU(24, go_backwards=True, return_sequences=True),
        backward_layer=layers.SimpleRNN(24, return_sequences=True),
    ),
    "dropout": lambda: layers.Bidirectional(layers.LSTM(24, dropout=0.3, recurrent_dropout=0.3, seed=3)),
    "float64": lambda: layers.Bidirectional(layers.LSTM(24, dtype="float64"), merge_mode="sum"),
}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str, masked: bool) -> None:
    """Outputs, states and gradients, on any number of threads and in any order."""
    rng = np.random.default_rng(4)
    results: list[list[bytes]] = []
    layer = LAYERS[name]()
    x = rng.normal(size=(2, 90, 6)).astype(layer.dtype)
    mask = draw_mask(rng, 2, 90) if masked else None
    layer(x)
    for threads, order in ((1, 1), (1, 2), (2, 0), (2, 1), (2, 2), (4, 2)):
        core.set_num_threads(threads)
        core.force_order(order)
        for part in (layer.forward_layer, layer.backward_layer):
            part._dropout_source = np.random.default_rng(3)
        y = layer(x, mask=mask, training=True)
        many = isinstance(y, list)
        grad_x = layer.backward(list(y) if many else y)
        found = [*(y if many else [y]), grad_x, *(w.grad for w in layer.weights)]
        y = layer(x, mask=mask)
        results.append([a.tobytes() for a in [*found, *(y if many else [y])]])
    assert all(r == results[0] for r in results)


def test_frozen_and_folded() -> None:
    model = models.Sequential(
        [layers.Embedding(30, 8, input_shape=(200,)), layers.Bidirectional(layers.LSTM(32)), layers.Dense(1)]
    )
    ids = np.random.default_rng(0).integers(0, 30, size=(1, 200))
    for frozen in (model, model.freeze()):
        results = []
        for order in ORDERS.values():
            core.force_order(order)
            results.append(np.asarray(frozen.predict(ids)).tobytes())
        assert len(set(results)) == 1
