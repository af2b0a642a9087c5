"""What the benchmarks need of the package: the machine's rate of multiply-adds."""

from typing import Any

import pytest

from core_settings import ISAS
from fastrnn import runtime


@pytest.mark.parametrize("isa", ISAS)
def test_measure_peak(isa: str) -> None:
    with runtime.use_isa(isa):
        # less than any machine of today, and more
        assert all(1e8 < runtime.measure_peak(threads) < 1e13 for threads in (1, 2))


@pytest.mark.parametrize(
    ("threads", "error"), [(0, ValueError), (5000, ValueError), ("2", TypeError), (True, TypeError)]
)
def test_measure_peak_refuses(threads: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"\[measure_peak\] threads: expected"):
        runtime.measure_peak(threads)
