"""fastrnn.keras.patch: Keras's own tests of its recurrent layers, and ours, with the hooks set, on each backend."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import fastrnn

HERE = Path(__file__).parent
OURS = HERE / "keras_patch_cases.py"
# Keras is not imported here: that would choose a backend for the whole process.
_found = find_spec("keras")
LAYERS = Path(next(iter(_found.submodule_search_locations or ["."]))) / "src/layers/rnn" if _found else Path()
THEIRS = [LAYERS / f"{name}_test.py" for name in ("lstm", "gru", "simple_rnn", "bidirectional", "rnn")]


def environment(backend: str) -> dict[str, str]:
    path = os.pathsep.join([str(HERE), str(Path(fastrnn.__file__).parents[1]), *filter(None, sys.path)])
    # one thread: on tensors as small as these PyTorch's threads cost ten times what they save
    quiet = {"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    return {**os.environ, **quiet, "KERAS_BACKEND": backend, "PYTHONPATH": path}


def run(backend: str, *files: Path, patched: bool) -> tuple[int, dict[str, int]]:
    """Tests that passed, and how often each cell ran on the kernels if Keras is `patched` from the start."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "keras_plugin", "-c", os.devnull]
    done = subprocess.run(
        [*command, "--rootdir", str(files[0].parent), *map(str, files)], capture_output=True, text=True,
        env={**environment(backend), "KERAS_PATCH": str(int(patched))}, cwd=HERE, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    calls = re.search(r"kernel calls: (\d+) (\{.*\})", done.stdout)
    assert passed and bool(calls) is patched
    return int(passed[1]), {k: int(v) for k, v in re.findall(r"'(\w+)': (\d+)", calls[2] if calls else "")}


@pytest.fixture(params=["numpy", "torch"])
def backend(request: pytest.FixtureRequest) -> str:
    if not find_spec("keras") or (request.param == "torch" and not find_spec("torch")):
        pytest.skip(f"needs Keras and its backend {request.param}")
    return str(request.param)


def test_keras_s_own_tests(backend: str) -> None:
    if not all(file.exists() for file in THEIRS):
        pytest.skip("this release of Keras comes without its tests")
    passed, calls = run(backend, *THEIRS, patched=True)
    assert passed >= 45
    assert all(calls[cell] >= 10 for cell in ("lstm", "gru", "rnn"))


def test_our_cases(backend: str) -> None:
    passed, _ = run(backend, OURS, patched=False)  # each case sets the hooks itself
    assert passed >= 150


def test_other_backends_are_refused() -> None:
    name = next((name for name in ("jax", "tensorflow") if find_spec(name)), None)
    if not find_spec("keras") or name is None:
        pytest.skip("needs Keras and its backend jax or tensorflow")
    code = "import fastrnn.keras as k\ntry: k.patch()\nexcept RuntimeError as error: print(error)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment(name), check=True
    )
    assert re.search(rf"\[fastrnn.keras.patch\] backend: expected numpy or torch, got {name}, ", done.stdout)


def test_without_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(ImportError, match=r"^\[fastrnn.keras\] needs Keras: pip install 'fastrnn\[keras\]'$"):
        fastrnn.keras.patch()
