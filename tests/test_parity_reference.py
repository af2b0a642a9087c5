"""The C++ core against the NumPy reference: every cell, form, activation, option, precision and instruction set, sizes
around the vector widths, and bitwise equality for one and two threads. The other operations: test_parity_ops.py."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_settings import ISAS, SIZES, TOLERANCE, core, each_dtype, each_isa
from fastrnn import activations, functional, reference
from rnn_cases import CELLS, Case, assert_close, assert_same, draw, draw_lengths, draw_mask, draw_recurrent_mask, run

each_cell = pytest.mark.parametrize("cell", CELLS)


def draw_with_options(cell: str, rng: np.random.Generator, B: int, T: int, I: int, H: int, dtype: Any) -> Case:
    """A case with every option drawn too."""
    options: dict[str, Any] = {"reverse": bool(rng.integers(2)), "batch_first": bool(rng.integers(2))}
    kind = rng.integers(4)
    if kind == 1:
        options["lengths"] = draw_lengths(rng, B, T).astype([np.int32, np.int64][rng.integers(2)])
    elif kind == 2:
        options["mask"] = draw_mask(rng, B, T)
    if rng.integers(4) == 0:
        options["recurrent_mask"] = draw_recurrent_mask(rng, B, H, dtype)
    if rng.integers(4) == 0:
        options["return_sequences"] = False
    case = draw(
        cell, rng, B=B, T=T, I=I, H=H, dtype=dtype, bias=bool(rng.integers(4)), initial=bool(rng.integers(3)), **options
    )
    if "return_sequences" in options:
        case.upstream["grad_output"] = None
    elif rng.integers(4) == 0:
        case.upstream[["grad_output", "grad_h_n"][rng.integers(2)]] = None
    return case


def check(case: Case, expected: dict[str, Any], isa: str, dtype: Any, context: object = "") -> None:
    """One thread equals the reference; two threads equal one, bit for bit."""
    with core(isa, 1):
        one = run(functional, case)
    assert_close(one, expected, TOLERANCE[dtype], context)
    assert all(v is None or v.dtype == dtype for v in one.values())
    with core(isa, 2):
        assert_same(run(functional, case), one, f"two threads {context}")


# The oracle always computes in float64, from the float32 numbers where the core gets those.
# Cached because each case runs for every instruction set.


def size_rows() -> list[tuple[str, int, int, int, int]]:
    """(name, B, T, I, H): each size for each of the dimensions while the others vary."""
    rng = np.random.default_rng(2024)
    rows = []
    for dimension in range(4):
        for size in SIZES:
            extents = [int(rng.choice(SIZES[:12])), int(rng.integers(1, 12)), *map(int, rng.choice(SIZES[:12], 2))]
            extents[dimension] = size
            if dimension == 1:  # long in time is short elsewhere
                extents = [min(e, 17) if d != 1 else e for d, e in enumerate(extents)]
            rows.append(("BTIH"[dimension] + str(size), *extents))
    return rows  # type: ignore[return-value]


SIZE_ROWS = {row[0]: row[1:] for row in size_rows()}


@lru_cache(maxsize=4096)
def sized_case(cell: str, row: str, dtype: Any) -> tuple[Case, dict[str, Any]]:
    seed = [list(CELLS).index(cell), list(SIZE_ROWS).index(row), np.dtype(dtype).itemsize]
    case = draw_with_options(cell, np.random.default_rng(seed), *SIZE_ROWS[row], dtype)
    return case, run(reference, case.astype(np.float64))


@each_isa
@each_dtype
@pytest.mark.parametrize("row", SIZE_ROWS)
@each_cell
def test_sizes(cell: str, row: str, dtype: Any, isa: str) -> None:
    case, expected = sized_case(cell, row, dtype)
    check(case, expected, isa, dtype, (SIZE_ROWS[row], case.options))


# Units of a last panel that may share a vector between gates, or be inner products backward, alone and after whole
# panels; rows in groups of two or four, with some left over.
FEW_UNITS = (*range(1, 9), 10, 12, 18, 20, 24, 25, 34, 36, 40, 50)


@lru_cache(maxsize=4096)
def few_units_case(cell: str, H: int, dtype: Any) -> list[tuple[Case, dict[str, Any]]]:
    rng = np.random.default_rng([H, list(CELLS).index(cell)])
    cases = [
        draw_with_options(cell, rng, B, int(rng.integers(1, 7)), int(rng.integers(1, 20)), H, dtype)
        for B in (1, 2, 3, 4, 5, 11, 23)
    ]
    cases[-1].options["activation"] = "gelu"  # which keeps its input
    return [(case, run(reference, case.astype(np.float64))) for case in cases]


@each_isa
@each_dtype
@pytest.mark.parametrize("H", FEW_UNITS)
@each_cell
def test_few_units_in_the_last_panel(cell: str, H: int, dtype: Any, isa: str) -> None:
    for case, expected in few_units_case(cell, H, dtype):
        check(case, expected, isa, dtype, (case.arrays["x"].shape, case.options))


@lru_cache(maxsize=256)
def rows_case(cell: str, B: int) -> tuple[Case, dict[str, Any]]:
    case = draw(cell, np.random.default_rng([B, list(CELLS).index(cell)]), B=B, T=2, I=67, H=75, dtype=np.float32)
    return case, run(reference, case.astype(np.float64))


@each_isa
@pytest.mark.parametrize("B", range(1, 28))
@each_cell
def test_every_number_of_rows(cell: str, B: int, isa: str) -> None:
    """As tiles share them out."""
    case, expected = rows_case(cell, B)
    check(case, expected, isa, np.float32, B)


# Big enough for the plan to use more than one thread, each way of splitting: rows, hidden units, long, ragged.
LARGE = {
    "rows": (96, 12, 40, 72),
    "hidden": (1, 16, 64, 400),
    "few-rows": (5, 24, 33, 257),
    "long": (6, 150, 48, 96),
    "few-rows-whole": (6, 40, 48, 64),  # weight gradients of whole vectors, in place
    "odd": (67, 19, 97, 129),
    "one-row-long": (1, 130, 96, 200),
    "wide": (70, 4, 203, 420),  # gate gradients are gathered, in several blocks
    "parts": (75, 2, 70, 691),  # their products are made in parts
}


@lru_cache(maxsize=256)
def large_case(cell: str, row: str, kind: str, dtype: Any) -> tuple[Case, dict[str, Any]]:
    B, T, I, H = LARGE[row]
    rng = np.random.default_rng([list(LARGE).index(row), list(CELLS).index(cell)])
    options: dict[str, Any] = {}
    if kind == "lengths":
        options = {"lengths": draw_lengths(rng, B, T), "reverse": True}
    if kind == "mask":
        options = {"mask": draw_mask(rng, B, T), "batch_first": False}
    case = draw(cell, rng, B=B, T=T, I=I, H=H, dtype=dtype, **options)
    return case, run(reference, case.astype(np.float64))


@each_isa
@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("full", np.float32), ("lengths", np.float32), ("mask", np.float32), ("full", np.float64)],
    ids=["full-float32", "lengths-float32", "mask-float32", "full-float64"],
)
@pytest.mark.parametrize("row", LARGE)
@each_cell
def test_large(cell: str, row: str, kind: str, dtype: Any, isa: str) -> None:
    case, expected = large_case(cell, row, kind, dtype)
    check(case, expected, isa, dtype, (row, kind))


SPECS = [
    *activations.NAMES,
    ("hard_sigmoid", 0.2, 0.4), ("elu", 0.6), ("elu", 0.0), ("leaky_relu", 0.01), ("scaled_tanh", 1.3, 0.7),
    ("affine", 0.4, 0.1), ("thresholded_relu", 0.3),
]  # fmt: skip


@lru_cache(maxsize=4096)
def activation_case(cell: str, slot: str, spec: Any, dtype: Any) -> tuple[Case, dict[str, Any]]:
    T, scale = (2, 0.1) if spec == "exponential" else (4, 0.4)  # an exponential of exponentials overflows soon
    case = draw(cell, np.random.default_rng(8), B=5, T=T, I=6, H=19, dtype=dtype, scale=scale, **{slot: spec})
    return case, run(reference, case.astype(np.float64))


SLOTS = [
    (cell, slot)
    for cell in CELLS
    for slot in ("activation", "recurrent_activation", "output_activation")
    if slot == "activation" or cell == "lstm" or (slot == "recurrent_activation" and cell != "rnn")
]


@each_isa
@each_dtype
@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize(("cell", "slot"), SLOTS)
def test_activation_in_every_slot(cell: str, slot: str, spec: Any, dtype: Any, isa: str) -> None:
    case, expected = activation_case(cell, slot, spec, dtype)
    check(case, expected, isa, dtype, (slot, spec))


@each_isa
@each_dtype
@each_cell
def test_saturation(cell: str, dtype: Any, isa: str) -> None:
    """Gates far outside their range: the oracle's limits, no NaN from an exponential that overflows.

    Loose, because a gate that happens to lie near zero has lost its digits in the sum of large terms.
    """
    case = draw(cell, np.random.default_rng(1), B=4, T=5, I=3, H=18, dtype=dtype)
    x = case.arrays["x"] * dtype(1e4)
    x[0, 0, 0] = 3e30
    case = case.with_arrays(x=x)
    case.upstream["grad_output"] *= dtype(0.01)
    expected = run(reference, case.astype(np.float64))
    with core(isa):
        actual = run(functional, case)
    for name in ("output", "h_n"):
        assert_close({name: actual[name]}, {name: expected[name]}, 3000 * TOLERANCE[dtype])
    assert all(np.isfinite(v).all() for v in actual.values() if v is not None)


@each_isa
@each_dtype
@each_cell
def test_nan_stays_visible_and_in_its_row(cell: str, dtype: Any, isa: str) -> None:
    case = draw(cell, np.random.default_rng(1), B=5, T=4, I=3, H=18, dtype=dtype)
    x = case.arrays["x"].copy()
    x[2, 1, 0] = np.nan
    with core(isa):
        clean, poisoned = run(functional, case), run(functional, case.with_arrays(x=x))
    assert np.isnan(poisoned["output"][2, 1:]).all() and np.isnan(poisoned["h_n"][2]).all()
    others = [0, 1, 3, 4]
    np.testing.assert_array_equal(poisoned["output"][others], clean["output"][others])
    np.testing.assert_array_equal(poisoned["output"][2, 0], clean["output"][2, 0])
    np.testing.assert_array_equal(poisoned["grad_x"][others], clean["grad_x"][others])


@st.composite
def any_case(draw_from: Any) -> tuple[str, int, tuple[int, int, int, int], Any, str]:
    cell = draw_from(st.sampled_from(sorted(CELLS)))
    extents = tuple(draw_from(st.integers(low, high)) for low, high in ((1, 40), (1, 14), (1, 40), (1, 40)))
    dtype = draw_from(st.sampled_from([np.float32, np.float64]))
    return cell, draw_from(st.integers(0, 2**31)), extents, dtype, draw_from(st.sampled_from(ISAS))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(any_case())
def test_any_shape_and_option(parameters: tuple[Any, ...]) -> None:
    cell, seed, extents, dtype, isa = parameters
    case = draw_with_options(cell, np.random.default_rng(seed), *extents, dtype)
    check(case, run(reference, case.astype(np.float64)), isa, dtype, case.options)
