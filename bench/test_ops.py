"""The other operations of the IMDb models, at the size they have there: convolution, product, table, optimiser."""

from typing import Any

import pytest

from bench.cases import Adam, Conv1D, Dense, Embedding, Problem
from bench.conftest import Case, cases_of, replayed

# (B, T, C, F, K): the hybrid model's; (B, I, O); (B, T, V, E); parameters of the basic model
CONV1D = ((128, 500, 32, 32, 7),)
DENSE = ((128, 128, 64),)
EMBEDDING = ((128, 500, 10_000, 32),)
ADAM = (328_353,)
# and with --grid or --full
MORE_CONV1D = ((32, 400, 100, 128, 3), (128, 400, 100, 128, 5))
MORE_DENSE = ((128, 32, 1), (256, 1024, 1024))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    more = metafunc.config.getoption("grid") or metafunc.config.getoption("full")
    problems: list[Problem] = []
    for train in (False, True):
        problems += [Conv1D(shape, train) for shape in CONV1D + (MORE_CONV1D if more else ())]
        problems += [Dense(shape, train) for shape in DENSE + (MORE_DENSE if more else ())]
        problems += [Embedding(shape, train) for shape in EMBEDDING]
    problems += [Adam(size) for size in ADAM]
    cases_of(metafunc, [Case("ops", problem, _name(problem)) for problem in problems])


def _name(problem: Problem) -> str:
    what = "step" if problem.kind == "adam" else "forward+backward" if problem.train else "forward"
    return f"{problem.kind} {what} {'x'.join(map(str, problem.shape))}"


@replayed
def test_op(compare: Any) -> None:
    compare()
