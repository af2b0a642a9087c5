"""The installed library as a C or C++ project finds it: CMake package, pkg-config, headers, wheel paths, exports."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastrnn
import native_tools as native
from fastrnn import runtime

HEADERS = sorted(path.name for path in (native.ROOT / "cpp/include/fastrnn").iterdir())


def pkg_config(prefix: Path, *what: str) -> list[str]:
    native.require("pkg-config")
    (file,) = prefix.rglob("fastrnn.pc")
    environment = {**os.environ, "PKG_CONFIG_PATH": str(file.parent)}
    return native.run("pkg-config", *what, "fastrnn", env=environment).split()


def test_what_is_installed() -> None:
    prefix = native.installed()
    assert sorted(path.name for path in (prefix / "include/fastrnn").iterdir()) == HEADERS
    for name in ("fastrnnConfig.cmake", "fastrnnConfigVersion.cmake", "fastrnnTargets.cmake"):
        (file,) = prefix.rglob(name)
        assert str(native.ROOT) not in file.read_text(encoding="utf-8")  # the tree may be moved, the sources may go
    assert pkg_config(prefix, "--modversion") == [runtime.info()["version"]]


@pytest.mark.parametrize(("wanted", "found"), [("0.1", True), ("0.2", False), ("1.0", False)])
def test_version_of_the_package(tmp_path: Path, wanted: str, found: bool) -> None:
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.18)\nproject(p LANGUAGES C)\n"
        f"find_package(fastrnn {wanted} CONFIG REQUIRED)\n",
        encoding="utf-8",
    )
    command = ["cmake", "-S", tmp_path, "-B", tmp_path / "b", f"-DCMAKE_PREFIX_PATH={native.installed()}"]
    assert (subprocess.run(command, capture_output=True).returncode == 0) is found


@pytest.mark.parametrize("header", HEADERS)
def test_a_header_alone(tmp_path: Path, header: str) -> None:
    """It compiles with the installed headers and nothing else, without a warning."""
    include = native.installed() / "include"
    assert not re.search(r'#include "(?!fastrnn/)', (include / "fastrnn" / header).read_text(encoding="utf-8"))
    (tmp_path / "a.txt").write_text(f"#include <fastrnn/{header}>\nint main(void) {{ return 0; }}\n", encoding="utf-8")
    strict = ("-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only", f"-I{include}")
    native.run("c++", "-x", "c++", "-std=c++17", *strict, tmp_path / "a.txt")
    if header.endswith(".h"):
        for standard in ("c99", "c11"):
            native.run("cc", "-x", "c", f"-std={standard}", *strict, "-Wstrict-prototypes", tmp_path / "a.txt")
        native.run("c++", "-x", "c++", "-std=c++11", *strict, tmp_path / "a.txt")


def test_plain_c_with_pkg_config(tmp_path: Path) -> None:
    """The C compiler alone, without CMake, on a file outside the source tree."""
    source = shutil.copy(native.ROOT / "examples/c/streaming_filter.c", tmp_path)
    flags = pkg_config(native.installed(), "--cflags", "--libs")
    native.run("cc", "-std=c99", "-O2", source, "-o", tmp_path / "filter", *flags, "-lm")
    assert re.fullmatch(r"[\d.]+ microseconds per step, LSTM 1 -> 16, \w+\n", native.run(tmp_path / "filter", "--time"))


def test_shared_library(tmp_path: Path) -> None:
    """It shows what the headers declare and nothing of its inside; C and C++ programs link and run with it."""
    native.require("nm")
    if sys.platform != "linux":
        pytest.skip("reads the symbols of an ELF file")
    prefix = native.installed_shared()
    library = native.shared_library()
    listing = native.run("nm", "-DC", "--defined-only", library)
    shown = [line.split(maxsplit=2)[2] for line in listing.splitlines()]
    declared = re.findall(r"\b(fastrnn_\w+)\(", (prefix / "include/fastrnn/fastrnn.h").read_text(encoding="utf-8"))
    macros = {"fastrnn_recurrent_init"}
    assert set(declared) - macros <= set(shown) and len(set(declared)) >= 25
    for name in (
        "fastrnn::Model::load(",
        "fastrnn::Stream<float>::Stream(",
        "fastrnn::use_isa(",
        "void fastrnn::conv1d<",
        "void fastrnn::rnn_forward<float>(",
        "void fastrnn::rnn_forward_pair<float>(",
        "void fastrnn::rnn_backward_pair<double>(",
    ):
        assert any(name in line for line in shown), name
    for name in ("kernels_baseline", "reduced_baseline", "run_tasks", "acquire", "Json", "TensorFile", "TextEncoder"):
        assert not [line for line in shown if f"fastrnn::{name}" in line], name
    (targets,) = prefix.rglob("fastrnnTargets.cmake")
    assert not re.search(
        "Threads::|OpenMP::", targets.read_text(encoding="utf-8")
    )  # the package does not look for them
    for language in ("c", "cpp"):
        native.build_against(prefix, native.ROOT / "examples" / language)
    source = shutil.copy(native.ROOT / "examples/c/streaming_filter.c", tmp_path)
    native.run("cc", "-std=c99", source, "-o", tmp_path / "filter", *pkg_config(prefix, "--cflags", "--libs"), "-lm")
    environment = {**os.environ, "LD_LIBRARY_PATH": str(library.parent)}
    x = np.ones(3, np.float32)
    done = subprocess.run([tmp_path / "filter"], input=x.tobytes(), capture_output=True, env=environment, check=True)
    assert len(done.stdout) == 3 * 16 * 4


def test_paths_of_the_wheel() -> None:
    """In a wheel the two folders lie inside the package; a source tree has none, and says so."""
    package = Path(fastrnn.__file__).parent
    if (package / "include").is_dir():
        assert (Path(fastrnn.get_include()) / "fastrnn" / "fastrnn.h").is_file()
        assert (Path(fastrnn.get_cmake_dir()) / "fastrnnConfig.cmake").is_file()
        assert (Path(fastrnn.get_cmake_dir()) / "../../libfastrnn.a").is_file()
        return
    for function in (fastrnn.get_include, fastrnn.get_cmake_dir):
        with pytest.raises(
            FileNotFoundError, match=r"^\[get_\w+\] fastrnn: expected an installed package .*, got one without"
        ):
            function()
