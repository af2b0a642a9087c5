"""A few training batches of the IMDb models (see bench/epochs.py); `python -m bench.imdb_epochs` has whole epochs."""

from typing import Any

import pytest

from bench.cases import GATES
from bench.conftest import Case, cases_of, replayed
from bench.epochs import MODELS, Epoch


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    large = metafunc.config.getoption("full")
    pairs = [(m, c) for m in MODELS for c in GATES] if large else [("basic", "lstm"), ("hybrid", "gru")]
    cases_of(metafunc, [Case("epoch", Epoch(m, c), f"{m} {c} batch") for m, c in pairs])


@replayed
def test_epoch(compare: Any) -> None:
    compare()
