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
# fastrnn_kernels(isa symbol flags...), two objects each, fastrnn_reduced(symbol flags...) and fastrnn_amx(flags...)
SETS = re.findall(r"^  fastrnn_kernels\((\w+) (\w+) ?(.*)\)$", CMAKE, re.M)
NATIVE = re.findall(r"^  fastrnn_reduced\((\w+) (.*)\)$", CMAKE, re.M)
AMX = re.findall(r"^  fastrnn_amx\((.*)\)$", CMAKE, re.M)
X86 = (
    [
        (source, f"{source}_{symbol}", flags)
        for isa, symbol, flags in dict.fromkeys(SETS)
        for source in ("kernels", "reduced")
        if isa != "neon"
    ]
    + [("reduced", f"reduced_{symbol}", flags) for symbol, flags in NATIVE]
    + [("amx", "amx", flags) for flags in AMX]
)
# the C library's functions that a kernel may call
ALLOWED = {"erf", "erff", "log1p", "log1pf", "memcpy", "memset", "memmove", "_GLOBAL_OFFSET_TABLE_"}


def symbols(compiler: str, nm: str, kernels: tuple[str, str, str], folder: Path) -> list[tuple[str, str]]:
    """(kind, name) of every symbol that the object of a source and its flags shows to the linker."""
    source, symbol, flags = kernels
    common = re.search(r"target_compile_options\(fastrnn_\$\{symbol\} PRIVATE (-O3[^$]*)\$", CMAKE)
    assert common, "the common flags of the kernels are not where this test looks for them"
    target = folder / f"{symbol}.o"
    subprocess.run(
        [compiler, "-std=c++17", "-fPIC", "-Wno-psabi", "-Wno-ignored-attributes", *common[1].split(), *flags.split(),
         "-DFASTRNN_ISA_NAME=some", f"-DFASTRNN_TABLE={symbol}", f"-I{ROOT / 'cpp/include'}",
         "-c", str(ROOT / f"cpp/src/kernels/{source}.cpp"), "-o", str(target)],
        check=True,
    )  # fmt: skip
    listing = subprocess.run([nm, "-g", str(target)], check=True, capture_output=True, text=True).stdout
    return [(fields[-2], fields[-1]) for fields in map(str.split, listing.splitlines())]


def check(found: list[tuple[str, str]], symbol: str) -> None:
    defined = [name for kind, name in found if kind != "U"]
    assert defined == [f"_ZN7fastrnn{len(symbol)}{symbol}E"]
    assert {name for kind, name in found if kind == "U"} <= ALLOWED


@pytest.mark.parametrize("kernels", X86, ids=lambda kernels: kernels[1])
def test_one_global_symbol(kernels: tuple[str, str, str], tmp_path: Path) -> None:
    compiler, nm = shutil.which("g++"), shutil.which("nm")
    if not compiler or not nm or platform.machine().lower() not in ("x86_64", "amd64"):
        pytest.skip("needs g++ and nm on x86-64")
    check(symbols(compiler, nm, kernels, tmp_path), kernels[1])


def test_arm64_cross_compiles(tmp_path: Path) -> None:
    compiler, nm = shutil.which("aarch64-linux-gnu-g++"), shutil.which("aarch64-linux-gnu-nm")
    if not compiler or not nm:
        pytest.skip("needs Debian's g++-aarch64-linux-gnu")
    for source in ("kernels", "reduced"):
        symbol = f"{source}_baseline"
        check(symbols(compiler, nm, (source, symbol, ""), tmp_path), symbol)


def test_objects_are_those_the_runtime_offers() -> None:
    offered = set(runtime.available_isas())
    assert offered and offered <= {"amx", *(isa for isa, _, _ in SETS)}


def test_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert "project(fastrnn VERSION ${FASTRNN_VERSION} " in CMAKE  # read from pyproject.toml
    assert runtime.info()["version"] == fastrnn.__version__ == project
