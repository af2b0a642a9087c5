"""What the build promises: one global symbol per instruction set's object, no weak ones, one version everywhere."""

import platform
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

import fastrnn
from fastrnn import runtime

ROOT = Path(__file__).parents[1]
CMAKE = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
# fastrnn_kernels(isa symbol flags...)
OBJECTS = re.findall(r"^  fastrnn_kernels\((\w+) (\w+) ?(.*)\)$", CMAKE, re.M)
X86 = [o for o in dict.fromkeys(OBJECTS) if o[0] != "neon"]
# the C library's functions that a kernel may call
ALLOWED = {"erf", "erff", "log1p", "log1pf", "memcpy", "memset", "memmove", "_GLOBAL_OFFSET_TABLE_"}


def symbols(compiler: str, nm: str, isa: tuple[str, str, str], folder: Path) -> list[tuple[str, str]]:
    """(kind, name) of every symbol that the object of one instruction set shows to the linker."""
    name, symbol, flags = isa
    common = re.search(r"target_compile_options\(fastrnn_kernels_\$\{symbol\} PRIVATE (-O3[^$]*)\$", CMAKE)
    assert common, "the common flags of the kernels are not where this test looks for them"
    target = folder / f"{name}.o"
    subprocess.run(
        [compiler, "-std=c++17", "-fPIC", "-Wno-psabi", "-Wno-ignored-attributes", *common[1].split(), *flags.split(),
         f"-DFASTRNN_ISA_NAME={name}", f"-DFASTRNN_TABLE=kernels_{symbol}", f"-I{ROOT / 'cpp/include'}",
         "-c", str(ROOT / "cpp/src/kernels/kernels.cpp"), "-o", str(target)],
        check=True,
    )  # fmt: skip
    listing = subprocess.run([nm, "-g", str(target)], check=True, capture_output=True, text=True).stdout
    return [(fields[-2], fields[-1]) for fields in map(str.split, listing.splitlines())]


def check(found: list[tuple[str, str]], symbol: str) -> None:
    defined = [name for kind, name in found if kind != "U"]
    assert defined == [f"_ZN7fastrnn{len('kernels_' + symbol)}kernels_{symbol}E"]
    assert {name for kind, name in found if kind == "U"} <= ALLOWED


@pytest.mark.parametrize("isa", X86, ids=lambda isa: isa[0])
def test_one_global_symbol(isa: tuple[str, str, str], tmp_path: Path) -> None:
    compiler, nm = shutil.which("g++"), shutil.which("nm")
    if not compiler or not nm or platform.machine().lower() not in ("x86_64", "amd64"):
        pytest.skip("needs g++ and nm on x86-64")
    check(symbols(compiler, nm, isa, tmp_path), isa[1])


def test_arm64_cross_compiles(tmp_path: Path) -> None:
    compiler, nm = shutil.which("aarch64-linux-gnu-g++"), shutil.which("aarch64-linux-gnu-nm")
    if not compiler or not nm:
        pytest.skip("needs Debian's g++-aarch64-linux-gnu")
    check(symbols(compiler, nm, ("neon", "baseline", ""), tmp_path), "baseline")


def test_objects_are_those_the_runtime_offers() -> None:
    offered = set(runtime.available_isas())
    assert offered and offered <= {isa for isa, _, _ in OBJECTS}


def test_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert re.search(r"project\(fastrnn VERSION ([\d.]+)", CMAKE)[1] == project  # type: ignore[index]
    assert runtime.info()["version"] == fastrnn.__version__ == project
