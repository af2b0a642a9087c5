"""Options, and the fixture that turns one interleaved measurement into one benchmark entry per library."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bench.cases import Layer, Problem
from bench.peers import LIBRARIES, able
from bench.pool import Pool, Process, Result, interleave, thread_counts


class Case(NamedTuple):
    """A problem and where the report shows it."""

    suite: str  # small, grid, scaling, DeepBench, oneDNN, ops, epoch
    problem: Problem
    name: str  # of the group: the libraries of one group are compared
    tolerance: float = 2e-5
    memory: bool = False  # measure the peak memory too


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fastrnn")
    group.addoption("--grid", action="store_true", help="the published shapes instead of the small set")
    group.addoption("--scaling", action="store_true", help="an LSTM over batch, steps and units")
    group.addoption("--full", action="store_true", help="all of it, and the shapes of DeepBench and oneDNN's benchdnn")
    group.addoption("--libraries", default="", help="only these, e.g. fastrnn,torch (default: all that are installed)")
    group.addoption("--budget", type=float, help="seconds of timing per case, all libraries together (1.5; small: 0.4)")


def cases_of(metafunc: pytest.Metafunc, cases: list[Case]) -> None:
    """One test per case and library, the libraries of a case next to each other."""
    chosen = _chosen(metafunc.config)
    pairs = [(case, library) for case in cases for library in able(case.problem) if library in chosen]
    ids = [f"{case.suite}-{case.name}-{library}".replace(" ", "-") for case, library in pairs]
    metafunc.parametrize(("case", "library"), pairs, ids=ids)


def _chosen(config: pytest.Config) -> tuple[str, ...]:
    names = tuple(filter(None, config.getoption("libraries").split(",")))
    unknown = set(names) - set(LIBRARIES)
    if unknown:
        raise pytest.UsageError(f"--libraries: expected some of {', '.join(LIBRARIES)}, got {', '.join(unknown)}")
    return names or tuple(LIBRARIES)


class Replay:
    """A clock that shows what the workers measured: pytest-benchmark's timer, and the function that it times."""

    def __init__(self) -> None:
        self.now, self.samples = 0.0, iter([0.0])

    def __call__(self) -> float:
        return self.now

    def play(self) -> None:
        self.now += next(self.samples, 0.0)


CLOCK = Replay()


@dataclass
class Session:
    """Workers, and the measurements of the case at hand."""

    pool: Pool
    budget: float
    libraries: tuple[str, ...]
    case: Case | None = None
    results: dict[str, Result] | None = None
    peak: tuple[float, float] = (0.0, 0.0)
    bandwidth: float = 0.0

    def measure(self, case: Case) -> dict[str, Result]:
        if case is not self.case or self.results is None:
            self.case, self.results = case, None
            names = [name for name in able(case.problem) if name in self.libraries]
            self.results = interleave(self.pool, case.problem, names, self.budget)
            self._measure_peak()
        return self.results

    def _measure_peak(self) -> None:
        """GFLOP/s on one thread and on all, next to every case: the machine is not equally fast all the time."""
        if self.budget:
            one, most = thread_counts()[0], thread_counts()[-1]
            worker = self.pool.get("fastrnn", most)
            self.peak = worker.ask("peak", one), worker.ask("peak", most)
            self.bandwidth = self.bandwidth or worker.ask("bandwidth", most)


@pytest.fixture(scope="session")
def session(request: pytest.FixtureRequest) -> Iterator[Session]:
    pool = Pool()
    option = request.config.getoption
    large = option("grid") or option("scaling") or option("full")
    budget = 0.0 if option("benchmark_disable") else option("budget") or (1.5 if large else 0.4)
    yield Session(pool, budget, _chosen(request.config))
    pool.close()


@pytest.fixture
def compare(session: Session, benchmark: Any, case: Case, library: str) -> Any:
    """Checks the library's answer and files its samples. For tests marked with `replayed`."""

    def check() -> None:
        problem = case.problem
        result = session.measure(case)[library]
        assert result.error <= case.tolerance, f"{library} differs from the reference by {result.error:.1e}"
        CLOCK.samples = iter(result.samples)
        benchmark.group = f"{case.suite}: {case.name}"
        worker = session.pool.get(library, thread_counts()[-1])
        benchmark.extra_info.update(
            suite=case.suite, case=case.name, library=library, kind=problem.kind, train=problem.train,
            shape=problem.shape, cell=getattr(problem, "cell", ""), gflop=problem.gflop, megabytes=problem.megabytes,
            versions=worker.ask("versions"), threads=result.threads, way=result.way, error=result.error,
            unusual_rounds=result.unusual,
            medians_by_threads={str(n): t for n, t in result.medians.items()},
            peak_gflops=dict(zip(("1", "all"), session.peak, strict=True)), bandwidth_gbs=session.bandwidth,
        )  # fmt: skip
        if case.memory and session.budget and isinstance(problem, Layer):
            benchmark.extra_info["memory_mb"] = peak_memory(library, result.threads, problem)
        if library == "fastrnn":
            benchmark.extra_info["isa"] = worker.ask("info")["isa"]
        benchmark.pedantic(CLOCK.play, rounds=max(1, len(result.samples)))

    return check


def peak_memory(library: str, threads: int, problem: Layer) -> float | None:
    """In a fresh process, so that nothing is left over from other cases."""
    process = Process(library, threads)
    try:
        return process.ask("memory", problem, Layer(problem.cell, (2, 3, 4, 5), problem.train))  # type: ignore[no-any-return]
    finally:
        process.close()


replayed = pytest.mark.benchmark(timer=CLOCK, disable_gc=False)


def cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    from fastrnn import runtime

    machine_info["fastrnn"] = {
        **runtime.info(),
        "cpu_model": cpu_model(),
        "threads_compared": thread_counts(),
        "date": date.today().isoformat(),
    }
