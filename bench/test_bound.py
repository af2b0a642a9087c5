"""The bound of a case, by hand."""

from pathlib import Path

import pytest

from bench import bound, report

# 1 GFLOP/s a thread; reading a weight takes longer than its multiply-add
MACHINE = bound.Machine(
    threads=2, peak_one=1e9, peak=2e9, gates={("lstm", False): 8e-9, ("lstm", True): 20e-9},
    reading={65536.0: 1e9, 262144.0: 0.5e9}, call={("lstm", False): 1e-6, ("lstm", True): 3e-6},
    wait={("lstm", False): 1e-7, ("lstm", True): 2e-7}, packing={2.0**20: 1e-3}, meeting=1e-6,
)  # fmt: skip


def test_a_batch_is_products_and_gates() -> None:
    b = bound.bound(MACHINE, "lstm", (32, 10, 128, 128), False)
    assert b.products == pytest.approx(2 * 32 * 4 * 128 * (10 * 256 - 128) / 2e9)
    assert b.gates == pytest.approx(32 * 10 * 128 * 8e-9 / 2)
    assert (b.reading, b.waits) == (0.0, 1e-6)
    assert b.total == b.products + b.gates


@pytest.mark.parametrize(("train", "passes"), [(False, 1), (True, 2)])
def test_one_row_reads_the_weights_at_every_step_but_the_first(train: bool, passes: int) -> None:
    b = bound.bound(MACHINE, "lstm", (1, 10, 1, 128), train)
    share = 4 * 128 * 128 * 4 / 2  # 131072 bytes of a thread, read at 0.75 GB/s
    products = (3 if train else 1) * 2 * 4 * 128 * (10 * 129 - 128) / 2e9
    assert b.reading == pytest.approx(passes * 9 * share / 0.75e9 - products)
    assert b.products + b.reading == pytest.approx(passes * 9 * share / 0.75e9)
    packing = 2 * 4 * 4 * 128 * 129 / 2**20 * 1e-3 if train else 0.0
    each = MACHINE.wait["lstm", train] + passes * MACHINE.meeting
    assert b.waits == pytest.approx(MACHINE.call["lstm", train] + packing + 10 * each)


def test_one_thread_needs_no_meeting() -> None:
    """Where a step is shorter than a meeting."""
    b = bound.bound(MACHINE, "lstm", (1, 10, 1, 2), False)
    assert b.waits == pytest.approx(MACHINE.call["lstm", False] + 10 * MACHINE.wait["lstm", False] + b.total)


def test_weights_in_the_first_cache_are_read_with_the_product() -> None:
    assert bound.bound(MACHINE, "lstm", (1, 10, 1, 64), False).reading == 0.0


def test_twice_the_clock_takes_half_the_time() -> None:
    for train in (False, True):
        slow, fast = (bound.bound(m, "lstm", (1, 10, 64, 128), train) for m in (MACHINE, MACHINE.scaled(2.0)))
        assert 2 * fast.total == pytest.approx(slow.total) and 2 * fast.waits == pytest.approx(slow.waits)


def test_report(tmp_path: Path) -> None:
    shape = (32, 10, 128, 128)
    row = report.Row("grid", "lstm forward", "layer", "lstm", False, shape, 0.0839, 1.0)
    row.ms = {"fastrnn": 100.0, "numpy": 1.0, "torch": 200.0}
    record = report.Record([row], peaks={"1": [1.0], "all": [2.0]})
    text = bound.report(record, MACHINE.scaled(3.0))  # the clock of the results counts
    assert "| LSTM 32,10,128,128 | 100 | 40.0 | 100 | 0 | 0 | 2.50 | 2.00 | 5.00 | 5.00 | 5.02 |" in text
    assert "| forward | batches | 1 | 2.50 | 2.00 | 5.00 | 5.00 | 5.02 |" in text
    file = tmp_path / "doc.md"
    file.write_text("before\n{}\nstale\n{}\nafter\n".format(*bound.MARKERS), encoding="utf-8")
    report.write(file, text, [], bound.MARKERS)
    assert "LSTM 32,10" in file.read_text(encoding="utf-8") and "stale" not in file.read_text(encoding="utf-8")
