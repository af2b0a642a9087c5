"""fastrnn built, installed and used as a C or C++ project would; once for all tests. Shared; no tests.

FASTRNN_NATIVE_PREFIX: a folder with an installed fastrnn to take instead of building one.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*command: str | Path, **options: object) -> str:
    """The standard output of a command; its whole output in the failure if it fails."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, **options)  # type: ignore[call-overload]
    if done.returncode != 0:
        pytest.fail(f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}", pytrace=False)
    return str(done.stdout)


def require(*names: str) -> None:
    for name in names:
        if not shutil.which(name):
            pytest.skip(f"needs {name}")


def folder() -> Path:
    """An empty one, gone when the tests are through."""
    path = Path(tempfile.mkdtemp(prefix="fastrnn-native-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def build(source: Path, *options: str) -> Path:
    """The folder in which CMake built `source`."""
    target = folder()
    run("cmake", "-S", source, "-B", target, "-DCMAKE_BUILD_TYPE=Release", *options)
    run("cmake", "--build", target, "-j2")
    return target


@functools.cache
def installed() -> Path:
    """The folder that a build of the static library was installed into."""
    require("cmake", "c++", "cc")
    if given := os.environ.get("FASTRNN_NATIVE_PREFIX"):
        return Path(given)
    prefix = folder()
    run("cmake", "--install", build(ROOT, "-DFASTRNN_PYTHON=OFF", f"-DCMAKE_INSTALL_PREFIX={prefix}"))
    return prefix


@functools.cache
def installed_shared() -> Path:
    """The same of a shared library, without further instruction sets."""
    require("cmake", "c++")
    prefix = folder()
    options = (  # the kernels keep their own -O3; the rest compiles in half the time
        "-DFASTRNN_PYTHON=OFF", "-DBUILD_SHARED_LIBS=ON", "-DFASTRNN_ISAS=", "-DCMAKE_CXX_FLAGS_RELEASE=-O0",
        f"-DCMAKE_INSTALL_PREFIX={prefix}",
    )  # fmt: skip
    run("cmake", "--install", build(ROOT, *options))
    return prefix


def shared_library() -> Path:
    """The file of the shared library."""
    (file,) = (p for p in installed_shared().rglob("libfastrnn.*") if not p.is_symlink())
    return file


def build_against(prefix: Path, source: Path) -> Path:
    """A copy of a project, away from the source tree, built with the installed package."""
    copy = folder() / "project"
    shutil.copytree(source, copy)
    return build(copy, f"-DCMAKE_PREFIX_PATH={prefix}")


@functools.cache
def programs() -> Path:
    """The folder of the programs in tests/native."""
    return build_against(installed(), ROOT / "tests" / "native")


@functools.cache
def examples(language: str) -> Path:
    """The folder of the programs in examples/c or examples/cpp."""
    return build_against(installed(), ROOT / "examples" / language)
