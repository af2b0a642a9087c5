"""One recurrent layer, forward and forward+backward. A case is named after its shape, B x T x I x H."""

from typing import Any

import pytest

from bench.cases import BASE, GATES, GRID, SCALING, SMALL, Layer
from bench.conftest import Case, cases_of, replayed
from bench.published import deepbench, onednn

MEMORY = ((64, 200, 128, 128), (128, 100, 256, 256))  # of these LSTMs of the grid the peak memory is measured too


def layer_case(suite: str, problem: Layer, note: str = "") -> Case:
    name = (
        f"{problem.cell} {'forward+backward' if problem.train else 'forward'} {'x'.join(map(str, problem.shape))}{note}"
    )
    memory = suite == "grid" and problem.cell == "lstm" and problem.shape in MEMORY
    return Case(suite, problem, name, memory=memory)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    option = metafunc.config.getoption
    cases = []
    if option("grid") or option("full"):
        cases += [layer_case("grid", Layer(c, shape, t)) for shape in GRID for c in GATES for t in (False, True)]
    if option("scaling") or option("full"):
        shapes = dict.fromkeys((BASE, *SCALING))
        cases += [layer_case("scaling", Layer("lstm", shape, t)) for shape in shapes for t in (False, True)]
    if option("full"):
        cases += [layer_case("DeepBench", problem, note) for problem, note in deepbench()]
        cases += [layer_case("oneDNN", problem, note) for problem, note in onednn()]
    if not cases:
        cases = [layer_case("small", Layer(c, shape, t)) for shape in SMALL for c in GATES for t in (False, True)]
    cases_of(metafunc, cases)


@replayed
def test_layer(compare: Any) -> None:
    compare()
