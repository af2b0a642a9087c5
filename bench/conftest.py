"""Options of the benchmark: --full runs every case instead of the small set."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run every case of the kernel benchmark")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "shape" in metafunc.fixturenames:
        from bench.cases import FULL, SMALL

        shapes = FULL if metafunc.config.getoption("--full") else SMALL
        metafunc.parametrize("shape", shapes, ids=["x".join(map(str, shape)) for shape in shapes])
