"""The report: ratios, means, what is written where."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench import report


def entry(library: str, seconds: float, **more: Any) -> dict[str, Any]:
    info = {"suite": "grid", "case": "lstm forward 1x2x3x4", "library": library, "kind": "layer", "cell": "lstm",
            "train": False, "shape": [1, 2, 3, 4], "gflop": 0.1, "megabytes": 2.0, "threads": 2,
            "versions": {library: "1.0"}, "peak_gflops": {"1": 250.0, "all": 500.0}}  # fmt: skip
    return {"stats": {"median": seconds}, "extra_info": {**info, **more}}


@pytest.fixture
def results(tmp_path: Path) -> str:
    slow = {"case": "gru forward 1x2x3x4 (2 of 9 steps)", "cell": "gru", "unusual_rounds": 3}
    entries = [
        entry("fastrnn", 1e-3), entry("numpy", 5e-4), entry("torch", 4e-3), entry("jax", 2e-3),
        entry("fastrnn", 1e-3, **slow), entry("torch", 5e-4, **slow),
    ]  # fmt: skip
    machine = {"isa": "avx2", "date": "2030-01-01", "cpu_model": "X", "compiler": "gcc", "threads_compared": [1, 2]}
    file = tmp_path / "results.json"
    file.write_text(json.dumps({"machine_info": {"fastrnn": machine, "cpu": {"count": 2}}, "benchmarks": entries}))
    return str(file)


def test_ratio_is_to_the_fastest_peer_and_numpy_is_none(results: str) -> None:
    record = report.read([results])
    lstm, gru = record.rows
    assert (lstm.peer, lstm.ratio, gru.ratio) == ("jax", 2.0, 0.5)
    assert lstm.gflops == pytest.approx(100.0)
    assert report.mean(row.ratio for row in record.rows) == pytest.approx(1.0)


def test_table(results: str) -> None:
    text = report.report(report.read([results]))
    assert "| LSTM 1,2,3,4 | 1.00 | 0.500 | 4.00 | **2.00** | 100 | 20 | 2.00 |" in text
    assert "GRU 1,2,3,4 (2 of 9 steps)" in text
    assert "500 on all. Rounds in an unusual state of the machine, of at most 7: gru forward 1x2x3x4" in text


def test_written_between_the_markers(results: str, tmp_path: Path) -> None:
    file = tmp_path / "doc.md"
    file.write_text(f"before\n{report.BEGIN}\nstale\n{report.END}\nafter\n", encoding="utf-8")
    report.write(file, report.report(report.read([results])), [tmp_path / "doc" / "ratio.png"])
    content = file.read_text(encoding="utf-8")
    assert content.startswith("before\n") and content.endswith("after\n") and "stale" not in content
    assert "![ratio](doc/ratio.png)" in content and "LSTM 1,2,3,4" in content
    file.write_text("no markers", encoding="utf-8")
    with pytest.raises(SystemExit, match="expected the markers"):
        report.write(file, "", [])
