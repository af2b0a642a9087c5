"""Threads: the same bits whatever their number and whoever else has threads; no hang, no more of them than processors,
none that is busy with nothing. What can hang or change the process runs in one of its own, with a time limit."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator

import pytest

from rnn_cases import CELLS
from thread_tools import PROCESSORS, SPLITS, case, core, digest, on_one_thread, script, split

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
pool = pytest.mark.skipif(core.thread_source() != "pool", reason="OpenMP's threads keep OpenMP's rules")
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    threads = core.num_threads()
    yield
    core.set_num_threads(threads)
    core.force_split(0)
    core.assume_meeting(80)


# ---- any number of threads -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("B", [1, 2, 3, 5, 16, 33])
@pytest.mark.parametrize("way", SPLITS)
@pytest.mark.parametrize("cell", CELLS)
def test_any_number_of_threads(cell: str, way: str, B: int) -> None:
    split(way)
    one = case(cell, B=B, T=10)
    expected = on_one_thread([one])[0]
    for threads in (2, 4, 8, 64):
        core.set_num_threads(threads)
        assert digest(one) == expected, threads


@pytest.mark.parametrize("H", [32, 64])  # with few units sums are cut into chains, made together as panels allow
@pytest.mark.parametrize("B", [1, 5])
@pytest.mark.parametrize("cell", CELLS)
def test_chains_on_any_number_of_threads(cell: str, B: int, H: int) -> None:
    split("units")
    one = case(cell, B=B, T=10, H=H)
    expected = on_one_thread([one])[0]
    for threads in (2, 4):
        core.set_num_threads(threads)
        assert digest(one) == expected, threads


@pytest.mark.parametrize("way", SPLITS)
def test_teams_as_large_as_on_other_machines(way: str) -> None:
    """With more threads than processors a team meets only as fast as the system runs them all, but it meets."""
    script(f"""
core.assume_processors(8)
split({way!r})
for cell in CELLS:
    for B in (1, 5, 33):
        one = case(cell, B=B, T=6)
        expected = on_one_thread([one])[0]
        for threads in (3, 8):
            core.set_num_threads(threads)
            assert digest(one) == expected, (cell, B, threads)
""")


@pytest.mark.parametrize("nanoseconds", [10, 300, 10000])
@pytest.mark.parametrize("cell", CELLS)
def test_however_far_apart_the_threads_are(cell: str, nanoseconds: float) -> None:
    cases = [case(cell, B=B, T=40) for B in (1, 4, 6, 16)]
    expected = on_one_thread(cases)
    core.assume_meeting(nanoseconds)
    core.set_num_threads(4)
    assert [digest(one) for one in cases] == expected


@linux
@pool
@pytest.mark.skipif(PROCESSORS < 2, reason="one processor")
@pytest.mark.parametrize(("nanoseconds", "helpers"), [(80, 1), (400, 0)])
def test_no_team_where_it_would_be_slower(nanoseconds: float, helpers: int) -> None:
    script(f"""
core.assume_meeting({nanoseconds})
core.set_num_threads(2)
before = tasks()
digest(case("rnn", B=1, T=100, I=64, H=64))
assert tasks() - before == {helpers}, tasks() - before
""")


@linux
@pool
@pytest.mark.skipif(PROCESSORS < 2, reason="one processor")
def test_a_distance_is_forgotten() -> None:
    """Threads that had one processor together meet in milliseconds. Calls that then go without the others do not
    measure again, and would do so for good."""
    script("""
import time
core.assume_meeting(0)
core.set_num_threads(2)
assert core.meeting_time() == 80
small = case("rnn", B=1, T=100, I=64, H=64)
processors = os.sched_getaffinity(0)
def everybody_on(some):
    for task in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(task), some)
for _ in range(200):
    run(functional, small)
everybody_on({min(processors)})
for _ in range(200):
    run(functional, small)
    core.meeting_time()
everybody_on(processors)
time.sleep(0.1)
assert core.meeting_time() == 80, core.meeting_time()
""")


@linux
@pool
@pytest.mark.skipif(PROCESSORS < 2, reason="one processor")
def test_only_much_work_wakes_the_helpers() -> None:
    """At once, or in quick succession."""
    script("""
import time
core.assume_meeting(0)
core.set_num_threads(2)
before = tasks()
small = case("rnn", B=1, T=100, I=64, H=64)
for _ in range(10):
    digest(small)
    time.sleep(0.01)
assert tasks() == before
for _ in range(100):
    run(functional, small)
assert tasks() == before + 1
""")
    script("""
core.assume_meeting(0)
core.set_num_threads(2)
before = tasks()
digest(case(B=16, T=50))
assert tasks() == before + 1
""")


@linux
@pool
def test_no_more_threads_than_processors() -> None:
    script("""
before = tasks()
core.set_num_threads(64)
for B in (1, 3, 128):
    digest(case(B=B))
assert tasks() - before <= PROCESSORS - 1, (before, tasks())
""")


@linux
@pytest.mark.skipif(PROCESSORS < 2, reason="one processor")
def test_processors_this_process_may_use() -> None:
    script(
        """
import os, subprocess, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
code = "from thread_tools import *; n = tasks(); digest(case()); assert (core.num_threads(), tasks()) == (1, n)"
subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
""",
        OMP_NUM_THREADS=None,
    )


@pytest.mark.parametrize(
    ("value", "threads"),
    [
        ("1", 1), ("2", min(2, PROCESSORS)), ("2,1", min(2, PROCESSORS)), (" 2 ", min(2, PROCESSORS)), ("1,64", 1),
        ("0", PROCESSORS), ("-3", PROCESSORS), ("many", PROCESSORS), ("", PROCESSORS), (None, PROCESSORS),
        ("100000", PROCESSORS), ("99999999999999999999999", PROCESSORS),
    ],
)  # fmt: skip
def test_omp_num_threads(value: str | None, threads: int) -> None:
    """A list is OpenMP's way of nesting; what is no positive number says nothing."""
    one = case()
    out = script("print(core.num_threads(), digest(case()))", OMP_NUM_THREADS=value)
    assert out.split() == [str(threads), on_one_thread([one])[0]]


@linux
@pool
def test_one_thread_starts_no_other() -> None:
    script("before = tasks(); digest(case()); assert tasks() == before", OMP_NUM_THREADS="1")


# ---- many callers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("processors", [0, 4])
def test_many_python_threads_at_once(processors: int) -> None:
    """Each with calls of its own; one of them at a time has the workers, the others go on alone."""
    script(f"""
import threading
core.assume_processors({processors})
core.set_num_threads({processors or 2})
cases = [case(cell, B=B, seed=B) for cell in CELLS for B in (1, 7, 32)]
expected = on_one_thread(cases)
before, wrong, start = tasks(), [], threading.Barrier(10)
def work(first):
    start.wait()
    for i in range(3 * len(cases)):
        i = (first + i) % len(cases)
        if digest(cases[i]) != expected[i]:
            wrong.append(i)
    start.wait()
    start.wait()
callers = [threading.Thread(target=work, args=(n,)) for n in range(9)]
for t in callers: t.start()
start.wait()
start.wait()
now = tasks()
start.wait()
for t in callers: t.join()
assert not wrong, wrong
if core.thread_source() == "pool":
    assert now - before <= 9 + ({processors} or PROCESSORS) - 1, (before, now)
""")


@needs_torch
def test_beside_torch() -> None:
    """Its OpenMP threads spin between two calls, and another thread has them while ours run."""
    script("""
import threading, torch
torch.set_num_threads(2)
core.set_num_threads(2)
cases = [case(cell) for cell in CELLS]
expected = on_one_thread(cases)
a = torch.randn(300, 300)
product = a @ a
for _ in range(20):
    assert torch.equal(a @ a, product)
    assert [digest(c) for c in cases] == expected
stop = threading.Event()
def busy():
    while not stop.is_set():
        assert torch.equal(a @ a, product)
other = threading.Thread(target=busy)
other.start()
for _ in range(10):
    assert [digest(c) for c in cases] == expected
stop.set()
other.join()
""")


@needs_torch
@forks
def test_in_the_workers_of_a_data_loader() -> None:
    script("""
import torch
core.set_num_threads(2)
cases = [case(cell) for cell in CELLS]
expected = on_one_thread(cases)
assert [digest(c) for c in cases] == expected  # the parent's pool runs before the fork
class Data(torch.utils.data.Dataset):
    def __len__(self): return 8
    def __getitem__(self, i): return digest(cases[i % 4])
for _ in range(2):
    options = dict(num_workers=2, multiprocessing_context="fork", timeout=30)
    loader = torch.utils.data.DataLoader(Data(), batch_size=2, **options)
    assert [code for batch in loader for code in batch] == 2 * expected
""")


# ---- fork ----------------------------------------------------------------------------------------------------------


@forks
def test_fork_after_use() -> None:
    """In the child, in its child, and in the parent again; a daemon is nothing else."""
    script("""
core.set_num_threads(2)
one = case()
expected = on_one_thread([one])[0]
assert digest(one) == expected
def grandchild():
    os.setsid()
    return digest(one) == expected and exit_code(in_child(lambda: digest(one) == expected)) == 0
children = [in_child(grandchild) for _ in range(3)]
assert digest(one) == expected
assert [exit_code(c) for c in children] == [0, 0, 0]
assert digest(one) == expected
""")


@linux
@pool
def test_a_child_has_workers_of_its_own() -> None:
    script("""
core.set_num_threads(2)
digest(case())
def check():
    before = tasks()
    digest(case())
    return (before, tasks()) == (1, min(2, PROCESSORS))
assert exit_code(in_child(check)) == 0
""")


@forks
def test_multiprocessing_pool() -> None:
    script("""
import multiprocessing
core.set_num_threads(2)
cases = [case(cell) for cell in CELLS]
expected = on_one_thread(cases)
assert [digest(c) for c in cases] == expected
with multiprocessing.get_context("fork").Pool(3) as pool:
    assert pool.map_async(digest, 3 * cases).get(30) == 3 * expected
""")


@forks
@pytest.mark.parametrize("T", [1, 24])
def test_fork_while_others_compute(T: int) -> None:
    """Short calls are mostly memory taken and given back, long ones mostly work in the pool."""
    script(
        f"""
import threading
core.set_num_threads(2)
small, one = case("rnn", B=1, T={T}, I=8, H=8) if {T} == 1 else case(T={T}), case()
expected = on_one_thread([one])[0]
stop = threading.Event()
def busy():
    while not stop.is_set():
        run(functional, small)
callers = [threading.Thread(target=busy) for _ in range(3)]
for t in callers: t.start()
codes = []
for _ in range({300 if T == 1 else 40}):
    codes.append(exit_code(in_child(lambda: digest(one) == expected, seconds=5)))
    if codes[-1]: break
stop.set()
for t in callers: t.join()
assert not any(codes), codes
""",
        timeout=90,
    )


# ---- between calls -------------------------------------------------------------------------------------------------


@pool
def test_idle_workers_sleep() -> None:
    script("""
import time
core.assume_processors(4)
core.set_num_threads(4)
for _ in range(3):
    digest(case(B=64))
windows = []
for _ in range(8):  # a virtual machine's stolen time counts as used, in some windows; threads that are awake in all
    start = time.process_time()
    time.sleep(0.1)
    windows.append(time.process_time() - start)
assert min(windows) < 0.005, windows
""")


@linux
@pool
def test_workers_that_are_not_needed_sleep() -> None:
    """After one large call, many that want one helper: not all of its workers stay awake for them."""
    script("""
import time
def used():
    return {t: int(open(f"/proc/self/task/{t}/schedstat").read().split()[0]) for t in os.listdir("/proc/self/task")}
core.assume_processors(8)
core.set_num_threads(8)
for _ in range(3):
    digest(case(B=128, T=24, H=128))
assert tasks() >= 8
core.set_num_threads(2)
small = case(B=2)
digest(small)
before, start = used(), time.perf_counter()
while time.perf_counter() - start < 0.4:
    functional.lstm(small.arrays["x"], small.arrays["weight_ih"], small.arrays["weight_hh"])
after = used()
shares = {t: (after[t] - before.get(t, 0)) / 0.4e9 for t in after}
leader = shares.pop(str(os.getpid()))
assert sum(shares.values()) < 1.4, (leader, shares)  # of one processor
""")


@pytest.mark.parametrize("pause", [0, 0.01, 0.02, 0.05])
def test_exit(pause: float) -> None:
    """While workers are awake, while they sleep, and while a daemon thread is inside a call."""
    script(f"import time; core.set_num_threads(2); digest(case()); time.sleep({pause})")
    script(f"""
import threading, time
core.set_num_threads(2)
threading.Thread(target=lambda: [digest(case()) for _ in range(10**6)], daemon=True).start()
time.sleep(0.1 + {pause})
""")


# ---- what the system refuses or sends ------------------------------------------------------------------------------


@linux
@pool
def test_a_system_that_gives_no_thread() -> None:
    script("""
import resource
core.assume_processors(4)
cases = [case(cell) for cell in CELLS]
expected = on_one_thread(cases)
before = tasks()
held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + (4 << 20), -1))  # less than the stack of a thread
core.set_num_threads(4)
assert [digest(c) for c in cases] == expected
assert tasks() == before
resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
assert [digest(c) for c in cases] == expected
assert tasks() == before + 3 or core.thread_source() != "pool"
""")


@linux
def test_no_memory_in_the_middle_of_a_call() -> None:
    """MemoryError, wherever the limit strikes: a helper's exception is the caller's, and nobody waits for it."""
    script(
        """
import resource
core.set_num_threads(2)
rng = np.random.default_rng(0)
B, T = 64, 20000
one = case("rnn", B=B, T=T, I=1, H=1, mask=rng.random((B, T)) < 0.9)
x, w, r = (one.arrays[n] for n in ("x", "weight_ih", "weight_hh"))
for way in SPLITS:
    split(way)
    expected = functional.rnn(x, w, r, mask=one.options["mask"])[0]
    outcomes = set()
    core.release_memory()
    held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    for extra in range(0, 80 << 20, 1 << 20):
        resource.setrlimit(resource.RLIMIT_AS, (held + extra, -1))
        try:
            outcomes.add((functional.rnn(x, w, r, mask=one.options["mask"])[0] == expected).all())
        except MemoryError:
            outcomes.add(MemoryError)
        resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
    assert outcomes == {True, MemoryError}, outcomes
""",
        MALLOC_MMAP_THRESHOLD_="65536",
    )


@linux
@pool
def test_signals_stay_with_the_program() -> None:
    """One that comes during a call is handled after it, on the main thread; workers take those of a crash."""
    script(
        """
import signal, threading, time
core.set_num_threads(2)
one = case(B=64, T=400, H=128)
expected = on_one_thread([one])[0]
seen = []
signal.signal(signal.SIGALRM, lambda *_: seen.append(threading.current_thread()))
digest(one)
start = time.perf_counter()
signal.setitimer(signal.ITIMER_REAL, 1e-3, 1e-3)
for _ in range(5):
    assert digest(one) == expected
signal.setitimer(signal.ITIMER_REAL, 0)
assert len(seen) > 1 and set(seen) == {threading.main_thread()}, seen
interrupted = False
signal.signal(signal.SIGALRM, signal.default_int_handler)
try:
    signal.setitimer(signal.ITIMER_REAL, 1e-3)
    run(functional, one)
    time.sleep(5)
except KeyboardInterrupt:
    interrupted = True
assert interrupted
assert digest(one) == expected
for t in os.listdir("/proc/self/task"):
    if int(t) != os.getpid():
        status = open(f"/proc/self/task/{t}/status").read()
        blocked = int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigBlk")), 16)
        has = lambda s: blocked >> (s - 1) & 1
        assert all(map(has, (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGUSR1, signal.SIGCHLD)))
        assert not any(map(has, (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE)))
assert tasks() == min(2, PROCESSORS)
""",
        OPENBLAS_NUM_THREADS="1",
    )
