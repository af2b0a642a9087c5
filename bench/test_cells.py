"""One recurrent layer, forward and forward+backward: fastrnn, the NumPy reference, PyTorch where it is installed.

Groups compare the libraries on one case; the title says B x T x I x H. Each case asserts its answer.
"""

from importlib.util import find_spec

import numpy as np
import pytest

from bench.cases import GATES, Problem, runner

LIBRARIES = ("fastrnn", "numpy", "torch") if find_spec("torch") else ("fastrnn", "numpy")


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("cell", GATES)
@pytest.mark.parametrize("train", (False, True), ids=("forward", "forward+backward"))
def test_layer(benchmark, shape, train, cell, library):  # type: ignore[no-untyped-def]
    problem = Problem(cell, shape)
    expected = runner("numpy", problem, train)()
    call = runner(library, problem, train)
    benchmark.group = f"{cell} {'forward+backward' if train else 'forward'} {'x'.join(map(str, shape))}"
    benchmark.extra_info.update(gflop=problem.gflop * (3 if train else 1), shape=shape, cell=cell, library=library)
    answer = benchmark.pedantic(call, rounds=3 if library == "numpy" else 15, warmup_rounds=1)
    if answer is None:  # --benchmark-disable
        answer = call()
    for got, want in zip(answer, expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-5 * max(1.0, np.abs(want).max()))
