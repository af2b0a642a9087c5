"""Layers large enough for kernels of whole matrices (AMX), where there are any: as exact as the others, the same bits
for a row alone and for any number of threads, infinities as everywhere else. Every instruction set takes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_settings import ISAS, core, each_isa
from fastrnn import functional as F
from fastrnn import reference
from rnn_cases import (
    CELLS,
    PER_ROW,
    Case,
    assert_close,
    assert_same,
    draw,
    draw_lengths,
    draw_mask,
    forward,
    run,
    take_rows,
)
from thread_tools import SPLITS, split
from thread_tools import core as settings_of_core

each_cell = pytest.mark.parametrize("cell", CELLS)
# (I, H): whole tiles, and one more or less than those; the last unit panel of 100 and 129 units is folded
SIZES = [(96, 128), (33, 129), (161, 100), (130, 47)]


@pytest.fixture(autouse=True)
def automatic() -> Iterator[None]:
    yield
    settings_of_core.force_split(0)


def make(cell: str, B: int, T: int, I: int, H: int, **options: Any) -> Case:
    return draw(cell, np.random.default_rng([B, T, I, H]), B=B, T=T, I=I, H=H, dtype=np.float32, **options)


def error(actual: dict[str, Any], exact: dict[str, Any]) -> float:
    """The largest error, in root mean square, relative to the array's."""
    return max(
        float(np.sqrt(np.mean((actual[n] - exact[n]) ** 2) / np.mean(exact[n] ** 2)))
        for n in exact
        if exact[n] is not None
    )


def output(implementation: Any, case: Case) -> Any:
    with np.errstate(all="ignore"):
        return forward(implementation, case)[0]["output"]


@pytest.mark.skipif("amx" not in ISAS, reason="no AMX")
@pytest.mark.parametrize(("I", "H"), SIZES)
@each_cell
def test_as_exact_as_multiply_adds(cell: str, I: int, H: int) -> None:
    """A product left out of the six would show: the smallest are 2^-16 of a term, 256 times a rounding."""
    case = make(cell, 5, 40, I, H)
    exact = run(F, case.astype(np.float64))
    errors = {}
    for isa in ("amx", "avx512"):
        with core(isa, 2):
            errors[isa] = error(run(F, case), exact)
    assert errors["amx"] < 1.1 * errors["avx512"] < 2e-6


@each_isa
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_any_size(isa: str, data: st.DataObject) -> None:
    size = st.integers
    cell = data.draw(st.sampled_from(list(CELLS)))
    B, T = data.draw(size(1, 20)), data.draw(size(15, 40))
    I, H = data.draw(size(32, 150)), data.draw(size(30, 150))
    rng = np.random.default_rng(B + 100 * T)
    options = data.draw(st.sampled_from(["full", "lengths", "mask", "reverse", "time first"]))
    more: dict[str, Any] = {
        "lengths": {"lengths": draw_lengths(rng, B, T)},
        "mask": {"mask": draw_mask(rng, B, T)},
        "reverse": {"reverse": True},
        "time first": {"batch_first": False},
    }.get(options, {})
    case = make(cell, B, T, I, H, **more)
    with core(isa, data.draw(size(1, 2))):
        assert_close(run(F, case), run(reference, case.astype(np.float64)), 1e-5)


@each_isa
@pytest.mark.parametrize("rows", [3, 40])  # one shard; several
@pytest.mark.parametrize(("I", "H"), SIZES)
@each_cell
def test_row_alone_equals_row_in_batch(cell: str, I: int, H: int, rows: int, isa: str) -> None:
    with core(isa, 2):
        case = make(cell, rows, 21, I, H, mask=draw_mask(np.random.default_rng(1), rows, 21))
        whole = run(F, case)
        for b in range(0, rows, 13):
            row = run(F, take_rows(case, slice(b, b + 1)))
            names = [n for n in PER_ROW if n in whole]
            assert_same({n: row[n] for n in names}, {n: whole[n][b : b + 1] for n in names}, f"row {b}")


@each_isa
@pytest.mark.parametrize("T", [1, 9, 40])
@pytest.mark.parametrize(("I", "H"), SIZES)
@each_cell
def test_row_at_its_own_length_and_from_tokens(cell: str, I: int, H: int, T: int, isa: str) -> None:
    """The outputs are those of the padded batch, of tokens and of a table of projected tokens, to the bit."""
    rng = np.random.default_rng(T)
    case = make(cell, 6, 40, I, H, lengths=np.array([T, 40, 3, 20, 40, 17]))
    ids, embedding = rng.integers(0, 50, (6, 40)), rng.normal(size=(50, I)).astype(np.float32)
    case = case.with_arrays(x=embedding[ids])
    with core(isa, 2):
        padded = output(F, case)
        alone = output(F, take_rows(case.with_options(lengths=None), slice(0, 1), slice(0, T)))
        tokens = output(F, case.with_arrays(x=F.token_index(ids, 50)).with_options(embedding=embedding))
        name, _, fixed = CELLS[cell]
        arrays = {n: case.arrays[n] for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
        table = F.pack_weights(name, **arrays, **fixed).project(embedding)
        states = {n: case.arrays[n] for n in ("h0", "c0") if n in case.arrays}
        projected = getattr(F, name)(ids, table, **states, **case.options)[0]
    assert alone.tobytes() == padded[:1, :T].tobytes()
    assert tokens.tobytes() == projected.tobytes() == padded.tobytes()


@each_isa
@pytest.mark.parametrize("way", SPLITS)
@pytest.mark.parametrize("B", [1, 5, 33])
@each_cell
def test_any_number_of_threads_and_split(cell: str, B: int, way: str, isa: str) -> None:
    case = make(cell, B, 70, 96, 128, lengths=draw_lengths(np.random.default_rng(B), B, 70))
    split(way)
    with core(isa, 1):
        one = run(F, case)
    for threads in (2, 4, 8):
        with core(isa, threads):
            assert_same(run(F, case), one, threads)


@each_isa
@each_cell
def test_checkpoints(cell: str, isa: str) -> None:
    case = make(cell, 6, 200, 64, 128)
    with core(isa, 2):
        assert_same(run(F, case.with_options(checkpoint=1)), run(F, case))


@each_isa
@pytest.mark.parametrize("special", [np.inf, -np.inf, np.nan])
@each_cell
def test_special_rows(cell: str, special: float, isa: str) -> None:
    """An infinite input saturates the gates of its row, NaN spreads in it, and no other row sees any of it."""
    case = make(cell, 5, 20, 96, 128)
    with core(isa, 2):
        ordinary = output(F, case)
        x = case.arrays["x"].copy()
        x[2, 7, 5] = special
        case = case.with_arrays(x=x)
        y, expected = output(F, case), output(reference, case.astype(np.float64))
    others = [0, 1, 3, 4]
    assert y[others].tobytes() == ordinary[others].tobytes()
    assert y[2, :7].tobytes() == ordinary[2, :7].tobytes()
    np.testing.assert_allclose(y[2], expected[2], rtol=0, atol=1e-5)


@each_isa
@each_cell
def test_special_weights(cell: str, isa: str) -> None:
    case = make(cell, 3, 20, 96, 128)
    weight = case.arrays["weight_ih"].copy()
    weight[5, 3], weight[20, 50] = np.inf, -np.inf
    case = case.with_arrays(weight_ih=weight)
    with core(isa, 2):
        y = output(F, case)
    expected = output(reference, case.astype(np.float64))
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5)


@each_isa
@pytest.mark.parametrize("scale", [1e-20, 1e20])
def test_scale(scale: float, isa: str) -> None:
    """Parts of small values stay above the denormals, those of large values below infinity."""
    case = make("rnn", 3, 20, 96, 256)
    arrays = {"x": case.arrays["x"] * np.float32(scale), "weight_ih": case.arrays["weight_ih"] / np.float32(scale)}
    case = case.with_arrays(**arrays)
    with core(isa, 2):
        mine = run(F, case)
    exact = run(reference, case.astype(np.float64))
    for name in ("output", "grad_x", "grad_weight_ih"):
        assert_close({name: mine[name]}, {name: exact[name]}, 1e-5)
