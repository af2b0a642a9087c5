"""What the benchmarks measure of the machine: the rate of its multiply-adds, and how long its threads take to meet."""

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
def test_measures_refuse(threads: Any, error: type[Exception]) -> None:
    for name in ("measure_peak", "measure_meeting"):
        with pytest.raises(error, match=rf"\[{name}\] threads: expected"):
            getattr(runtime, name)(threads)


def test_measure_meeting() -> None:
    assert runtime.measure_meeting(1) == 0.0
    assert 0.0 <= runtime.measure_meeting(2) < 1e-2  # where two threads must share a processor, they meet rarely
