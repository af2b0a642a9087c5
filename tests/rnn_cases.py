"""Random cases of the recurrent functions, run alike on any implementation. Shared by several test files; no tests."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

# name -> (function, gates, fixed options)
CELLS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "rnn": ("rnn", 1, {}),
    "lstm": ("lstm", 4, {}),
    "gru": ("gru", 3, {"reset_after": True}),
    "gru_before": ("gru", 3, {"reset_after": False}),
}
ARGUMENTS = ("x", "weight_ih", "weight_hh", "bias_ih", "bias_hh", "h0", "c0")
PER_ROW = ("output", "h_n", "c_n", "grad_x", "grad_h0", "grad_c0")  # of the results


@dataclass
class Case:
    cell: str
    arrays: dict[str, Any]  # by argument name; None where left out
    options: dict[str, Any] = field(default_factory=dict)
    upstream: dict[str, Any] = field(default_factory=dict)  # grad_output, grad_h_n, grad_c_n

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.arrays["x"].dtype

    @property
    def batch_first(self) -> bool:
        return bool(self.options.get("batch_first", True))

    def astype(self, dtype: Any) -> Case:
        def cast(d: dict[str, Any]) -> dict[str, Any]:
            return {
                k: v.astype(dtype) if isinstance(v, np.ndarray) and v.dtype.kind == "f" else v for k, v in d.items()
            }

        return Case(self.cell, cast(self.arrays), cast(self.options), cast(self.upstream))

    def with_options(self, **options: Any) -> Case:
        return replace(self, options={**self.options, **options})

    def with_arrays(self, **arrays: Any) -> Case:
        return replace(self, arrays={**self.arrays, **arrays})

    def with_upstream(self, **upstream: Any) -> Case:
        return replace(self, upstream={**self.upstream, **upstream})


def draw(
    cell: str, rng: np.random.Generator, *, B: int = 3, T: int = 4, I: int = 2, H: int = 3, dtype: Any = np.float64,
    bias: bool = True, initial: bool = True, scale: float = 1.0, **options: Any,
) -> Case:  # fmt: skip
    """Random arrays of the right shapes. Weights shrink with their fan-in so that any activation stays in range."""
    _, G, fixed = CELLS[cell]
    options = {**fixed, **options}
    shape = (B, T) if options.get("batch_first", True) else (T, B)

    def normal(*size: int, s: float = 1.0) -> Any:
        return (s * rng.normal(size=size)).astype(dtype)

    arrays = {
        "x": normal(*shape, I),
        "weight_ih": normal(G * H, I, s=scale / np.sqrt(I + 1)),
        "weight_hh": normal(G * H, H, s=scale / np.sqrt(H + 1)),
        "bias_ih": normal(G * H, s=0.5) if bias else None,
        "bias_hh": normal(G * H, s=0.5) if bias else None,
        "h0": normal(B, H) if initial else None,
    }
    upstream = {"grad_output": normal(*shape, H), "grad_h_n": normal(B, H)}
    if cell == "lstm":
        arrays["c0"] = normal(B, H) if initial else None
        upstream["grad_c_n"] = normal(B, H)
    return Case(cell, arrays, options, upstream)


def take_rows(case: Case, rows: Any, steps: Any = slice(None)) -> Case:
    """Those rows of the batch, and those steps of the time, as a case of its own (batch-first)."""

    def cut(name: str, value: Any) -> Any:
        if value is None or name.startswith(("weight", "bias")):
            return value
        return value[rows, steps] if name in ("x", "grad_output", "mask") else value[rows]

    options = {k: cut(k, v) if k in ("mask", "lengths", "recurrent_mask") else v for k, v in case.options.items()}
    return Case(
        case.cell,
        {k: cut(k, v) for k, v in case.arrays.items()},
        options,
        {k: cut(k, v) for k, v in case.upstream.items()},
    )


def draw_lengths(rng: np.random.Generator, B: int, T: int) -> Any:
    """Unsorted lengths that reach both ends, 0 and T, where there is room."""
    lengths = rng.integers(0, T + 1, size=B)
    lengths[: min(B, 2)] = [T, 0][: min(B, 2)]
    return rng.permutation(lengths)


def draw_mask(rng: np.random.Generator, B: int, T: int) -> Any:
    """A mask with gaps; one row empty where there is more than one."""
    mask = rng.random((B, T)) < 0.6
    if B > 1:
        mask[rng.integers(B)] = False
    return mask


def draw_recurrent_mask(rng: np.random.Generator, B: int, H: int, dtype: Any) -> Any:
    return ((rng.random((B, H)) < 0.7) / 0.7).astype(dtype)


def forward(F: Any, case: Case, *, workspace: bool = False) -> tuple[dict[str, Any], Any]:
    """-> ({"output", "h_n"[, "c_n"]}, workspace | None)"""
    function = getattr(F, CELLS[case.cell][0])
    arguments = [case.arrays[name] for name in ARGUMENTS if name in case.arrays]
    result = function(*arguments, **case.options, return_workspace=workspace)
    assert len(result) == (3 if workspace else 2)
    output, state = result[:2]
    values = {"output": output}
    if case.cell == "lstm":
        values["h_n"], values["c_n"] = state
    else:
        values["h_n"] = state
    return values, result[2] if workspace else None


def backward(F: Any, case: Case, workspace: Any, **options: Any) -> dict[str, Any]:
    function = getattr(F, CELLS[case.cell][0] + "_backward")
    return dict(function(workspace, **case.upstream, **options)._asdict())


def run(F: Any, case: Case, **options: Any) -> dict[str, Any]:
    """Forward and backward: every result by name, None where there is none."""
    values, workspace = forward(F, case, workspace=True)
    return {**values, **backward(F, case, workspace, **options)}


def assert_close(actual: dict[str, Any], expected: dict[str, Any], tolerance: float, context: object = "") -> None:
    """Equal names, shapes and, relative to the largest expected magnitude of each array, values."""
    assert actual.keys() == expected.keys()
    for name, want in expected.items():
        got = actual[name]
        if want is None:
            assert got is None, f"{name} {context}: expected None"
            continue
        assert got is not None, f"{name} {context}: expected an array, got None"
        assert got.shape == want.shape, f"{name} {context}: {got.shape} != {want.shape}"
        if want.size == 0:
            continue
        scale = max(float(np.abs(want).max()), 1e-3)
        assert np.isfinite(want).all(), f"{name} {context}: the case itself overflows"
        error = float(np.abs(got.astype(np.float64) - want).max()) / scale
        assert error <= tolerance, f"{name} {context}: relative error {error:.3g} > {tolerance:.3g} (scale {scale:.3g})"


def assert_same(actual: dict[str, Any], expected: dict[str, Any], context: object = "") -> None:
    """Bitwise equal."""
    assert actual.keys() == expected.keys()
    for name, want in expected.items():
        got = actual[name]
        assert (got is None) == (want is None), f"{name} {context}"
        if want is not None:
            assert got.dtype == want.dtype and got.shape == want.shape, f"{name} {context}"
            different = np.count_nonzero(got != want)
            assert got.tobytes() == want.tobytes(), f"{name} {context}: {different} of {want.size} values differ"
