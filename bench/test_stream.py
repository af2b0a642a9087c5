"""One step of one sequence from Python, the state carried. The same from C++ is in bench/streaming."""

from typing import Any

import pytest

from bench.cases import GATES, Stream
from bench.conftest import Case, cases_of, replayed

SHAPES = ((1, 16), (1, 32), (1, 64), (64, 64), (128, 128))  # inputs, units


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    more = metafunc.config.getoption("grid") or metafunc.config.getoption("full")
    pairs = [(cell, shape) for cell in GATES for shape in SHAPES] if more else [("lstm", (64, 64)), ("gru", (1, 16))]
    cases_of(metafunc, [Case("stream", Stream(c, s), f"{c} step {s[0]} to {s[1]}") for c, s in pairs])


@replayed
def test_stream(compare: Any) -> None:
    compare()
