"""What must hold of the recurrent functions whatever the numbers are: rows, pieces, directions and layouts agree,
strides and padding are honoured, inputs are left alone. No oracle is needed here."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from core_settings import TOLERANCE, core, each_dtype, each_isa
from fastrnn import functional as F
from fastrnn import runtime
from rnn_cases import (
    ARGUMENTS,
    CELLS,
    PER_ROW,
    Case,
    assert_close,
    assert_same,
    backward,
    draw,
    draw_lengths,
    draw_mask,
    forward,
    run,
    take_rows,
)

B, T, I, H = 7, 11, 5, 21
SHARED = ("grad_weight_ih", "grad_weight_hh", "grad_bias_ih", "grad_bias_hh")

each_cell = pytest.mark.parametrize("cell", CELLS)


@pytest.fixture(autouse=True)
def _isa(isa: str) -> Any:
    with core(isa, 2):
        yield


pytestmark = each_isa


def make(cell: str, dtype: Any, seed: int = 1, **options: Any) -> Case:
    return draw(cell, np.random.default_rng(seed), B=B, T=T, I=I, H=H, dtype=dtype, **options)


@each_dtype
@pytest.mark.parametrize("reverse", [False, True])
@each_cell
def test_padded_equals_ragged(cell: str, reverse: bool, dtype: Any) -> None:
    """Each row at its own length, alone, gives what it gives in the padded batch; gradients of weights add up."""
    lengths = draw_lengths(np.random.default_rng(3), B, T)
    case = make(cell, dtype, reverse=reverse, lengths=lengths)
    whole = run(F, case)
    total = dict.fromkeys(SHARED, 0.0)
    for b, length in enumerate(lengths):
        alone = take_rows(case.with_options(lengths=None), slice(b, b + 1), slice(0, length))
        row = run(F, alone)
        for name in PER_ROW:
            if name not in whole:
                continue
            mine = whole[name][b : b + 1]
            if name in ("output", "grad_x"):
                assert not mine[:, length:].any(), f"{name}: zeros past the length"
                mine = mine[:, :length]
            assert_close({name: row[name]}, {name: mine}, TOLERANCE[dtype], f"row {b} length {length}")
        total = {name: total[name] + row[name] for name in SHARED}
    assert_close(total, {name: whole[name] for name in SHARED}, TOLERANCE[dtype])


@each_dtype
@pytest.mark.parametrize(
    ("I", "H"),
    [(I, H), (1, 50), (9, 32), (48, 64), (5, 128), (203, 205), (70, 300), (70, 691)],
    ids=["odd", "narrow", "few", "whole", "chains", "wide", "shared", "parts"],  # as products are made
)
@pytest.mark.parametrize("rows", [B, 50])  # one shard; several, or a step whose rows fill the tiles for x
@each_cell
def test_row_alone_equals_row_in_batch(cell: str, rows: int, I: int, H: int, dtype: Any) -> None:
    """To the bit, whatever else is in its register tile and however the batch is cut up."""
    rng = np.random.default_rng(3)
    case = draw(cell, rng, B=rows, T=T, I=I, H=H, dtype=dtype, mask=draw_mask(rng, rows, T))
    whole = run(F, case)
    for b in range(0, rows, rows // B):
        row = run(F, take_rows(case, slice(b, b + 1)))
        names = [n for n in PER_ROW if n in whole]
        assert_same({n: row[n] for n in names}, {n: whole[n][b : b + 1] for n in names}, f"row {b}")


@each_dtype
@pytest.mark.parametrize("steps", [20, 24, 36])  # valid ones: from 20 on, those after the fifth find their product made
@pytest.mark.parametrize(("I", "H"), [(7, 150), (140, 131), (260, 133), (150, 290)])  # fewer, as many, more inputs
@each_cell
def test_row_alone_of_many_steps(cell: str, I: int, H: int, steps: int, dtype: Any) -> None:
    """Its steps take along the input products of later ones (where registers are many); to the bit what a batch gives,
    on one thread and on two, also when the steps are computed again."""
    rng = np.random.default_rng(5)
    mask = rng.permuted(np.arange(steps + 6) < steps)[None].repeat(8, axis=0)  # with gaps
    case = draw(cell, rng, B=8, T=steps + 6, I=I, H=H, dtype=dtype, mask=mask, reverse=steps == 24)
    whole = run(F, case)
    row = take_rows(case, slice(3, 4))
    alone = run(F, row)
    names = [n for n in PER_ROW if n in whole]
    assert_same({n: alone[n] for n in names}, {n: whole[n][3:4] for n in names})
    assert_same(run(F, row.with_options(checkpoint=7)), alone)
    with runtime.num_threads(1):
        assert_same(run(F, row), alone)


@each_dtype
@each_cell
def test_masked_steps_equal_steps_left_out(cell: str, dtype: Any) -> None:
    keep = np.array([0, 1, 1, 0, 0, 1, 0, 1, 1, 1, 0], bool)
    case = make(cell, dtype, mask=np.broadcast_to(keep, (B, T)).copy())
    masked = run(F, case)
    short = run(F, take_rows(case.with_options(mask=None), slice(None), keep))
    for name in ("output", "grad_x"):
        assert not masked[name][:, ~keep].any()
        masked[name] = masked[name][:, keep]
    assert_close(masked, short, TOLERANCE[dtype])


@each_dtype
@each_cell
def test_mask_without_gaps_equals_lengths(cell: str, dtype: Any) -> None:
    lengths = draw_lengths(np.random.default_rng(3), B, T)
    for reverse in (False, True):
        case = make(cell, dtype, reverse=reverse)
        by_length = run(F, case.with_options(lengths=lengths))
        by_mask = run(F, case.with_options(mask=np.arange(T) < lengths[:, None]))
        assert_close(by_mask, by_length, TOLERANCE[dtype])
        full = run(F, case)
        assert_close(run(F, case.with_options(lengths=np.full(B, T))), full, TOLERANCE[dtype])
        assert_close(run(F, case.with_options(mask=np.ones((B, T), bool))), full, TOLERANCE[dtype])


@each_dtype
@pytest.mark.parametrize("cuts", [(0, 4, T), (0, 1, 2, 9, T)], ids=str)
@each_cell
def test_whole_equals_pieces(cell: str, cuts: tuple[int, ...], dtype: Any) -> None:
    """State carried forward between the pieces, its gradient carried back."""
    case = make(cell, dtype)
    whole = run(F, case)
    states = {k: case.arrays[k] for k in ("h0", "c0") if k in case.arrays}
    kept = []
    for start, stop in pairwise(cuts):
        piece = take_rows(case, slice(None), slice(start, stop)).with_arrays(**states)
        values, workspace = forward(F, piece, workspace=True)
        states = {k: values[k[0] + "_n"] for k in states}
        kept.append((piece, workspace, values))
    output = np.concatenate([values["output"] for _, _, values in kept], axis=1)
    grad_x = []
    total = dict.fromkeys(SHARED, 0.0)
    carried = {k: case.upstream[k] for k in case.upstream if k != "grad_output"}
    for piece, workspace, _ in reversed(kept):
        gradients = backward(F, piece.with_upstream(**carried), workspace)
        carried = {f"grad_{k[0]}_n": gradients["grad_" + k] for k in states}
        grad_x.insert(0, gradients["grad_x"])
        total = {name: total[name] + gradients[name] for name in SHARED}
    actual = {"output": output, "grad_x": np.concatenate(grad_x, axis=1), **total}
    actual |= {k[0] + "_n": states[k] for k in states}
    actual |= {"grad_" + k: carried[f"grad_{k[0]}_n"] for k in states}
    assert_close(actual, {name: whole[name] for name in actual}, TOLERANCE[dtype])


@each_dtype
@each_cell
def test_reverse_equals_flip(cell: str, dtype: Any) -> None:
    case = make(cell, dtype)
    flipped = case.with_arrays(x=case.arrays["x"][:, ::-1])  # a view with a negative stride
    flipped = flipped.with_upstream(grad_output=case.upstream["grad_output"][:, ::-1])
    expected = run(F, flipped)
    for name in ("output", "grad_x"):
        expected[name] = expected[name][:, ::-1]
    assert_close(run(F, case.with_options(reverse=True)), expected, TOLERANCE[dtype])


@each_dtype
@pytest.mark.parametrize("kind", ["full", "lengths", "mask"])
@each_cell
def test_time_major_equals_batch_first(cell: str, kind: str, dtype: Any) -> None:
    rng = np.random.default_rng(3)
    options = {"full": {}, "lengths": {"lengths": draw_lengths(rng, B, T)}, "mask": {"mask": draw_mask(rng, B, T)}}
    case = make(cell, dtype, **options[kind])
    for contiguous in (False, True):

        def turn(a: Any, contiguous: bool = contiguous) -> Any:
            return np.ascontiguousarray(a.swapaxes(0, 1)) if contiguous else a.swapaxes(0, 1)

        other = case.with_arrays(x=turn(case.arrays["x"])).with_options(batch_first=False)
        actual = run(F, other.with_upstream(grad_output=turn(case.upstream["grad_output"])))
        for name in ("output", "grad_x"):
            actual[name] = actual[name].swapaxes(0, 1)
        assert_close(actual, run(F, case), TOLERANCE[dtype])


def spread(array: Any, rng: np.random.Generator) -> Any:
    """The same numbers as a view with steps in every axis of a bigger array of noise."""
    big = rng.normal(size=[2 * n + 3 for n in array.shape]).astype(array.dtype)
    view = big[tuple(slice(2, 2 + 2 * n, 2) for n in array.shape)]
    view[...] = array
    return view


@each_dtype
@each_cell
def test_strided_arguments(cell: str, dtype: Any) -> None:
    rng = np.random.default_rng(3)
    case = make(cell, dtype, recurrent_mask=(rng.random((B, H)) < 0.8).astype(dtype), lengths=draw_lengths(rng, B, T))
    expected = run(F, case)

    def every(change: Any) -> Case:
        def over(d: dict[str, Any]) -> dict[str, Any]:
            return {k: change(v) if isinstance(v, np.ndarray) else v for k, v in d.items()}

        return Case(case.cell, over(case.arrays), over(case.options), over(case.upstream))

    assert_close(run(F, every(lambda a: spread(a, rng))), expected, TOLERANCE[dtype])
    assert_close(run(F, every(np.asfortranarray)), expected, TOLERANCE[dtype])
    assert_close(run(F, every(lambda a: np.flip(np.flip(a).copy()))), expected, TOLERANCE[dtype])
    # constant along an axis by a stride of zero, as np.broadcast_to makes
    constant = case.with_arrays(x=np.broadcast_to(case.arrays["x"][:1], (B, T, I)))
    assert_close(run(F, constant), run(F, constant.with_arrays(x=constant.arrays["x"].copy())), TOLERANCE[dtype])


@each_dtype
@pytest.mark.parametrize("kind", ["full", "lengths", "mask"])
@pytest.mark.parametrize("batch_first", [True, False])
@each_cell
def test_output_into_a_view(cell: str, batch_first: bool, kind: str, dtype: Any) -> None:
    """Both directions write their halves of one array, as Bidirectional does; what was there before does not matter."""
    rng = np.random.default_rng(3)
    options = {"full": {}, "lengths": {"lengths": draw_lengths(rng, B, T)}, "mask": {"mask": draw_mask(rng, B, T)}}
    case = make(cell, dtype, batch_first=batch_first, **options[kind])
    expected = [run(F, case.with_options(reverse=r)) for r in (False, True)]
    both = np.full((*case.arrays["x"].shape[:2], 2 * H + 1), np.nan, dtype)
    for reverse, place in ((False, slice(0, H)), (True, slice(H, 2 * H))):
        view = both[..., place]
        actual = run(F, case.with_options(reverse=reverse, out=view))
        assert np.shares_memory(actual["output"], both)
        assert_same(actual, expected[reverse])
        np.testing.assert_array_equal(view, expected[reverse]["output"])
    assert np.isnan(both[..., 2 * H]).all()


@each_dtype
@pytest.mark.parametrize("kind", ["lengths", "mask"])
@each_cell
def test_padding_is_never_read(cell: str, kind: str, dtype: Any) -> None:
    rng = np.random.default_rng(3)
    mask = draw_mask(rng, B, T)
    lengths = draw_lengths(rng, B, T)
    if kind == "lengths":
        mask = np.arange(T) < lengths[:, None]
    case = make(cell, dtype, **({"mask": mask} if kind == "mask" else {"lengths": lengths}))
    x, grad_output = case.arrays["x"].copy(), case.upstream["grad_output"].copy()
    x[~mask] = np.nan
    grad_output[~mask] = np.nan
    assert_same(run(F, case.with_arrays(x=x).with_upstream(grad_output=grad_output)), run(F, case))


@each_dtype
@each_cell
def test_inputs_are_left_alone(cell: str, dtype: Any) -> None:
    rng = np.random.default_rng(3)
    case = make(cell, dtype, mask=draw_mask(rng, B, T), recurrent_mask=np.ones((B, H), dtype))
    everything = {**case.arrays, **case.options, **case.upstream}
    before = {k: v.copy() for k, v in everything.items() if isinstance(v, np.ndarray)}
    for name in before:
        everything[name].flags.writeable = False
    results = run(F, case)
    for name, value in before.items():
        np.testing.assert_array_equal(everything[name], value, err_msg=name)
        for result in results.values():
            assert not np.shares_memory(result, everything[name]), name


@each_dtype
@each_cell
def test_left_out_parts(cell: str, dtype: Any) -> None:
    """None is the same as zeros; return_sequences, need_grad_x and a missing gradient change nothing else."""
    case = make(cell, dtype, bias=False, initial=False)
    expected = run(F, case)
    zeros = {"bias_ih": CELLS[cell][1] * H, "bias_hh": CELLS[cell][1] * H, "h0": (B, H), "c0": (B, H)}
    zeros = {k: np.zeros(v, dtype) for k, v in zeros.items() if k in case.arrays}
    explicit = run(F, case.with_arrays(**zeros))
    for name in zeros:
        assert expected.pop("grad_" + name) is None and explicit.pop("grad_" + name) is not None
    assert_close(explicit, expected, TOLERANCE[dtype])

    case = make(cell, dtype)
    last = case.with_upstream(grad_output=None)
    full = run(F, last)
    assert full.pop("output") is not None
    short = run(F, last.with_options(return_sequences=False))
    assert short.pop("output") is None
    assert_close(short, full, TOLERANCE[dtype])
    zero = {k: None if k != "grad_output" else v for k, v in case.upstream.items()}
    as_zeros = {k: np.zeros_like(v) if k != "grad_output" else v for k, v in case.upstream.items()}
    assert_close(run(F, case.with_upstream(**zero)), run(F, case.with_upstream(**as_zeros)), TOLERANCE[dtype])
    full, without = run(F, case), run(F, case, need_grad_x=False)
    assert without.pop("grad_x") is None and full.pop("grad_x") is not None
    assert_close(without, full, TOLERANCE[dtype])
    inference, nothing = forward(F, case)
    assert nothing is None
    assert_close(inference, {k: full[k] for k in inference}, TOLERANCE[dtype])


@each_dtype
@pytest.mark.parametrize("rows", [B, 40])  # one shard; several
@pytest.mark.parametrize("steps", [1, 2, T])
@pytest.mark.parametrize(("I", "H"), [(I, H), (16, 32)], ids=["odd", "whole"])
@each_cell
def test_no_initial_state_equals_zeros(cell: str, I: int, H: int, steps: int, rows: int, dtype: Any) -> None:
    """To the bit: the first step of a row then has no product with R, neither forward nor in its gradient."""
    rng = np.random.default_rng(3)
    masked = {"recurrent_mask": (rng.random((rows, H)) < 0.8).astype(dtype), "lengths": draw_lengths(rng, rows, steps)}
    for options in ({}, masked, {"mask": draw_mask(rng, rows, steps), "reverse": True}):
        case = draw(cell, rng, B=rows, T=steps, I=I, H=H, dtype=dtype, initial=False, **options)
        zeros = case.with_arrays(**{k: np.zeros((rows, H), dtype) for k in ("h0", "c0") if k in case.arrays})
        expected = run(F, zeros)
        given = {name: value for name, value in run(F, case).items() if value is not None}
        assert_same(given, {name: expected[name] for name in given})


@each_dtype
@pytest.mark.parametrize(("rows", "steps"), [(0, 4), (3, 0), (0, 0)])
@pytest.mark.parametrize(("I", "H"), [(I, H), (16, 32)], ids=["odd", "whole"])  # weight gradients in place where whole
@each_cell
def test_nothing_to_do_is_defined(cell: str, rows: int, steps: int, I: int, H: int, dtype: Any) -> None:
    case = draw(cell, np.random.default_rng(1), B=rows, T=steps, I=I, H=H, dtype=dtype)
    for options in ({}, {"lengths": np.zeros(rows, np.int64)}, {"mask": np.ones((rows, steps), bool)}):
        results = run(F, case.with_options(**options))
        assert results["output"].shape == (rows, steps, H) and results["grad_x"].shape == (rows, steps, I)
        for letter in "hc" if cell == "lstm" else "h":
            np.testing.assert_array_equal(results[letter + "_n"], case.arrays[letter + "0"])
            np.testing.assert_array_equal(results[f"grad_{letter}0"], case.upstream[f"grad_{letter}_n"])
        assert not any(results[name].any() for name in SHARED)
    without = forward(F, case.with_arrays(h0=None))[0]
    assert without["h_n"].shape == (rows, H) and not without["h_n"].any()


@each_dtype
@pytest.mark.parametrize(("I", "H"), [(I, H), (16, 32)], ids=["odd", "whole"])
@each_cell
def test_no_valid_step_in_any_row(cell: str, I: int, H: int, dtype: Any) -> None:
    case = draw(cell, np.random.default_rng(2), B=B, T=T, I=I, H=H, dtype=dtype)
    for options in ({"lengths": np.zeros(B, np.int32)}, {"mask": np.zeros((B, T), bool)}):
        results = run(F, case.with_options(**options))
        assert not results["output"].any() and not results["grad_x"].any()
        np.testing.assert_array_equal(results["h_n"], case.arrays["h0"])
        np.testing.assert_array_equal(results["grad_h0"], case.upstream["grad_h_n"])
        assert not any(results[name].any() for name in SHARED)


@each_cell
def test_workspaces_are_independent(cell: str) -> None:
    """Two forwards, then their backwards in the other order; the results do not move afterwards."""
    cases = [make(cell, np.float32, seed, lengths=draw_lengths(np.random.default_rng(seed), B, T)) for seed in (1, 2)]
    expected = [run(F, case) for case in cases]
    (first, one), (second, two) = (forward(F, case, workspace=True) for case in cases)
    late = backward(F, cases[1], two)
    early = backward(F, cases[0], one)
    assert_same({**first, **early}, expected[0])
    assert_same({**second, **late}, expected[1])


@each_cell
def test_weights_changed_between_forward_and_backward_do_not_crash(cell: str) -> None:
    """The results are then undefined; memory must stay sound: the workspace outlives what it was made from."""
    case = make(cell, np.float32)
    copies = case.with_arrays(**{k: case.arrays[k].copy() for k in ARGUMENTS if case.arrays.get(k) is not None})
    _, workspace = forward(F, copies, workspace=True)
    upstream = copies.upstream
    del copies
    gradients = backward(F, Case(cell, {}, {}, upstream), workspace)
    expected = run(F, case)
    assert_same(gradients, {k: expected[k] for k in gradients})


@each_cell
def test_calls_from_several_python_threads(cell: str) -> None:
    cases = [make(cell, np.float32, seed) for seed in range(6)]
    expected = [run(F, case) for case in cases]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            for actual, want in zip(pool.map(lambda case: run(F, case), cases), expected, strict=True):
                assert_same(actual, want)
