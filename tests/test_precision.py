"""Products in bfloat16 and int8: one step against the NumPy reference, many steps against one step at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from core_settings import ISAS, SIZES, core
from fastrnn import _core, reference, runtime
from fastrnn import functional as F
from fastrnn.reference.precision import quantise_state, quantise_weights, reduce, to_bfloat16
from rnn_cases import (
    CELLS,
    Case,
    assert_close,
    assert_same,
    draw,
    draw_lengths,
    draw_mask,
    draw_recurrent_mask,
    forward,
)

PRECISIONS = ("bfloat16", "int8")
# each instruction set, and the best one with fewer and fewer of the instructions meant for this
KERNELS = [(isa, 0) for isa in ISAS] + ([("avx512", 1), ("avx512", 2)] if "avx512" in ISAS else [])

each_kernel = pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: f"{k[0]}-{k[1]}")
each_precision = pytest.mark.parametrize("precision", PRECISIONS)
each_cell = pytest.mark.parametrize("cell", CELLS)


@contextmanager
def use(kernel: tuple[str, int], threads: int = 1) -> Iterator[None]:
    isa, skipped = kernel
    _core.skip_native(skipped)
    try:
        with core(isa, threads):
            yield
    finally:
        _core.skip_native(0)


def make(cell: str, seed: int, **options: Any) -> Case:
    return draw(cell, np.random.default_rng(seed), dtype=np.float32, **options)


def pack(case: Case, precision: str | None) -> F.PackedWeights:
    name, _, fixed = CELLS[case.cell]
    weights = [case.arrays[n] for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    return F.pack_weights(name, *weights, precision=precision, **fixed)


def run(case: Case, packed: F.PackedWeights | F.ProjectionTable) -> dict[str, Any]:
    return forward(F, case.with_arrays(weight_ih=packed, weight_hh=None, bias_ih=None, bias_hh=None))[0]


def reference_of(case: Case, precision: str) -> dict[str, Any]:
    a = case.arrays
    ih, hh = reduce(precision, a["weight_ih"], a["weight_hh"], a["x"].shape[0], a["h0"],
                    case.options.get("recurrent_mask"))  # fmt: skip
    return forward(reference, case.with_arrays(weight_ih=ih, weight_hh=hh))[0]


def open_reset(case: Case) -> Case:
    """With reset before, r h is rounded within the step: r = 1 keeps both sides from rounding apart."""
    if case.cell != "gru_before":
        return case
    H = case.arrays["weight_hh"].shape[1]
    bias = case.arrays["bias_hh"].copy()
    bias[:H] += 60
    return case.with_arrays(bias_hh=bias)


@each_kernel
@each_precision
@each_cell
def test_one_step_equals_the_reference(cell: str, precision: str, kernel: tuple[str, int]) -> None:
    """What is rounded is known exactly here, h0 and x, so only float sums differ."""
    rng = np.random.default_rng(1)
    with use(kernel):
        for n, size in enumerate(SIZES):
            case = make(cell, n, B=1 + n % 14, T=1, H=size, I=SIZES[-1 - n])
            if n % 2:
                B, H = case.arrays["h0"].shape
                case = case.with_options(recurrent_mask=draw_recurrent_mask(rng, B, H, np.float32))
            case = open_reset(case)
            assert_close(run(case, pack(case, precision)), reference_of(case, precision), 3e-6, f"H={size}")


@each_kernel
@each_precision
@pytest.mark.parametrize("batch", [1, 2, 3, 5, 7, 12, 13, 24])
def test_every_tile_equals_the_reference(batch: int, precision: str, kernel: tuple[str, int]) -> None:
    with use(kernel):
        for cell in CELLS:
            case = open_reset(make(cell, batch, B=batch, T=1, H=150, I=37))
            assert_close(run(case, pack(case, precision)), reference_of(case, precision), 3e-6, cell)


def one_at_a_time(case: Case, packed: F.PackedWeights) -> dict[str, Any]:
    """Each row alone, each valid step a call of its own that takes the state of the one before."""
    x, H = case.arrays["x"], case.arrays["weight_hh"].shape[1]
    if not case.batch_first:
        x = x.swapaxes(0, 1)
    B, T, _ = x.shape
    options = dict(case.options)
    lengths, mask = options.pop("lengths", None), options.pop("mask", None)
    reverse, recurrent_mask = options.pop("reverse", False), options.pop("recurrent_mask", None)
    options["batch_first"] = True
    if lengths is not None:
        mask = np.arange(T) < np.asarray(lengths)[:, None]
    output = np.zeros((B, T, H), np.float32)
    last = {name: np.array(case.arrays[name]) for name in ("h0", "c0") if name in case.arrays}
    for b in range(B):
        state = {name: value[b : b + 1] for name, value in last.items()}
        for t in reversed(range(T)) if reverse else range(T):
            if mask is not None and not mask[b, t]:
                continue
            if recurrent_mask is not None:
                options["recurrent_mask"] = recurrent_mask[b : b + 1]
            step = run(Case(case.cell, {**case.arrays, "x": x[b : b + 1, t : t + 1], **state}, options), packed)
            output[b, t] = step["output"][0, 0]
            state = {name: step[name[0] + "_n"] for name in state}
        for name, value in state.items():
            last[name][b] = value[0]
    if not case.batch_first:
        output = np.ascontiguousarray(output.swapaxes(0, 1))
    return {"output": output, **{name[0] + "_n": value for name, value in last.items()}}


@each_kernel
@each_precision
@each_cell
def test_many_steps_equal_one_at_a_time(cell: str, precision: str, kernel: tuple[str, int]) -> None:
    """Bitwise: rows alone or in a batch, chunks of steps, lengths, masks with gaps, direction, layout, states."""
    B, T = 5, 7
    rng = np.random.default_rng(2)
    variants: list[dict[str, Any]] = [
        {"lengths": draw_lengths(rng, B, T)},
        {"mask": draw_mask(rng, B, T), "reverse": True},
        {"reverse": True, "batch_first": False},
        {"lengths": draw_lengths(rng, B, T), "recurrent_mask": True},
    ]
    with use(kernel):
        for n, options in enumerate(variants):
            for H in (5, 33):
                case = make(cell, n, B=B, T=T, H=H, I=7, **options)
                case = case.with_arrays(h0=np.clip(case.arrays["h0"], -1, 1))  # so that int8's bound stays
                if "recurrent_mask" in options:
                    case = case.with_options(recurrent_mask=draw_recurrent_mask(rng, B, H, np.float32))
                packed = pack(case, precision)
                assert_same(run(case, packed), one_at_a_time(case, packed), f"{options} H={H}")


@each_kernel
@each_precision
@each_cell
@pytest.mark.parametrize("batch", [1, 9, 70])
def test_threads_do_not_matter(batch: int, cell: str, precision: str, kernel: tuple[str, int]) -> None:
    case = make(cell, 3, B=batch, T=9, H=259, I=65)
    with use(kernel, 1):
        packed = pack(case, precision)
        one = run(case, packed)
    with use(kernel, 2):
        assert_same(run(case, packed), one)
    row = Case(cell, {n: v[:1] if n in ("x", "h0", "c0") else v for n, v in case.arrays.items()}, case.options)
    with use(kernel, 2):
        assert_same(run(row, packed), {name: value[:1] for name, value in one.items()})


@each_kernel
@each_precision
@each_cell
def test_table_equals_rows_of_the_embedding(cell: str, precision: str, kernel: tuple[str, int]) -> None:
    rng = np.random.default_rng(4)
    case = make(cell, 4, B=3, T=6, H=19, I=9)
    embedding = rng.normal(size=(251, 9)).astype(np.float32)
    tokens = rng.integers(0, 251, (3, 6))
    for threads in (1, 2):
        with use(kernel, threads):
            packed = pack(case, precision)
            picked = run(case.with_arrays(x=tokens), packed.project(embedding))
            assert_same(picked, run(case.with_arrays(x=embedding[tokens]), packed))


@each_kernel
@each_cell
@pytest.mark.parametrize(("precision", "tolerance"), [("bfloat16", 0.02), ("int8", 0.03)])
def test_results_stay_near_those_of_float32(
    cell: str, precision: str, tolerance: float, kernel: tuple[str, int]
) -> None:
    case = make(cell, 5, B=4, T=30, H=64, I=32, initial=False)
    with use(kernel):
        full, reduced = run(case, pack(case, None)), run(case, pack(case, precision))
    error = np.abs(reduced["output"] - full["output"])
    assert 0 < error.mean() < error.max() < tolerance * 2  # it is something else, and not by much
    assert error.mean() < tolerance / 4


@each_kernel
def test_nan_passes_through_bfloat16(kernel: tuple[str, int]) -> None:
    case = make("rnn", 6, B=1, T=2, H=5, I=3)  # from a state, without which the first step does not read R
    for name, place in (("weight_ih", (2, 1)), ("weight_hh", (3, 0))):
        weight = case.arrays[name].copy()
        weight[place] = np.nan
        changed = case.with_arrays(**{name: weight})
        with use(kernel):
            output = run(changed, pack(changed, "bfloat16"))["output"][0]
        assert np.isnan(output[0]).tolist() == [unit == place[0] for unit in range(5)]
        assert np.isnan(output[1]).all()
    x = case.arrays["x"].copy()
    x[0, 1, 0] = np.nan
    with use(kernel):
        for precision in PRECISIONS:
            output = run(case.with_arrays(x=x), pack(case, precision))["output"][0]
            assert not np.isnan(output[0]).any() and np.isnan(output[1]).all()


@each_kernel
def test_what_stands_in_the_padding_is_not_read(kernel: tuple[str, int]) -> None:
    """The lanes past H overflow here: without a bias, c grows by one a step, and exp(c) with it."""
    H, T = 3, 120
    x, zero = np.zeros((1, T, 1), np.float32), np.zeros((4 * H, 1), np.float32)
    bias = np.full(4 * H, -1.0, np.float32)
    with use(kernel):
        packed = F.pack_weights("lstm", zero, np.zeros((4 * H, H), np.float32), bias, precision="bfloat16")
        output, _ = F.lstm(x, packed, activation="exponential", recurrent_activation="exponential")
    assert np.isfinite(output).all()


def test_rounding() -> None:
    x = np.float32([1, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -1 - 2**-8, 3.4e38, np.inf, np.nan, 0])
    want = np.float32([1, 1, 1 + 2**-6, 1 + 2**-7, -1, np.inf, np.inf, np.nan, 0])
    np.testing.assert_array_equal(to_bfloat16(x), want)
    q, scale = quantise_weights(np.float32([[0.5, -1, 0.25], [0, 0, 0]]))
    assert q.tolist() == [[64, -127, 32], [0, 0, 0]] and scale.tolist() == [np.float32(1) / np.float32(127), 0]
    q, size = quantise_state(np.float32([[1, -1, 2, 0.003, 0.004]]), np.float32([1]))
    assert q.tolist() == [[127, -127, 127, 0, 1]] and size[0] == np.float32(1) / np.float32(127)


def test_sizes_and_names() -> None:
    case = make("lstm", 7, H=64, I=64)
    full, half, quarter = (pack(case, p) for p in ("float32", "bfloat16", "int8"))
    assert [p.precision for p in (full, half, quarter)] == ["float32", "bfloat16", "int8"]
    assert pack(case.astype(np.float64), None).precision == "float64"
    assert pack(case, None).precision == "float32"
    assert half.nbytes < 0.55 * full.nbytes and quarter.nbytes < 0.45 * full.nbytes
    assert set(runtime.native_precisions()) <= set(PRECISIONS)
    assert runtime.info()["native_precisions"] == runtime.native_precisions()


def test_bad_arguments() -> None:
    case = make("lstm", 8)
    with pytest.raises(ValueError, match=r"\[pack_weights\] precision: expected one of 'float32', .*, got 'int4'"):
        pack(case, "int4")
    for precision in ("float32", *PRECISIONS):
        with pytest.raises(TypeError, match=rf"weight_ih: expected dtype float32 for {precision}, got float64"):
            pack(case.astype(np.float64), precision)
    weight = case.arrays["weight_hh"].copy()
    weight[1, 1] = np.inf
    with pytest.raises(ValueError, match=r"\[lstm\] weight_hh: expected finite values, to be packed as int8, got inf"):
        pack(case.with_arrays(weight_hh=weight), "int8")
    with pytest.raises(TypeError, match="expected weights packed from the dtype of x"):
        run(case.with_arrays(x=case.arrays["x"].astype(np.float64), h0=None, c0=None), pack(case, "int8"))


@pytest.mark.parametrize(
    ("cell", "options", "argument"),
    [
        ("rnn", {"activation": "relu"}, "activation"),
        ("lstm", {"activation": "relu"}, "output_activation"),
        ("lstm", {"output_activation": "linear"}, "output_activation"),
        ("lstm", {"recurrent_activation": "softplus"}, "recurrent_activation"),
        ("gru", {"activation": "gelu"}, "activation"),
        ("gru", {"recurrent_activation": "tanh"}, "recurrent_activation"),
        ("gru_before", {"activation": ("scaled_tanh", 2.0, 1.0)}, "activation"),
    ],
)
def test_int8_needs_bounded_states(cell: str, options: dict[str, Any], argument: str) -> None:
    case = make(cell, 9, **options)
    with pytest.raises(ValueError, match=rf"\] {argument}: expected .*sigmoid.* with int8 weights.*, got \w+"):
        run(case, pack(case, "int8"))
    assert np.isfinite(run(case, pack(case, "bfloat16"))["h_n"]).all()


@each_kernel
def test_int8_takes_other_bounded_activations(kernel: tuple[str, int]) -> None:
    with use(kernel):
        for cell, options in (
            ("rnn", {"activation": "softsign"}),
            ("lstm", {"activation": "relu", "output_activation": "sigmoid", "recurrent_activation": "hard_sigmoid"}),
            ("gru", {"activation": "hard_sigmoid", "recurrent_activation": "hard_sigmoid"}),
        ):
            case = make(cell, 10, T=1, H=17, **options)
            assert_close(run(case, pack(case, "int8")), reference_of(case, "int8"), 3e-6, cell)
