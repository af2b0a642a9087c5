"""What is released: one version, a wheel with everything that it needs and nothing else.

The tests of a wheel's content take the one that FASTRNN_WHEEL names (.ci/wheel sets it).
"""

from __future__ import annotations

import os
import re
import tomllib
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path, PurePosixPath

import pytest

from fastrnn import _core

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
SOURCE = ROOT / "python" / "fastrnn"


@pytest.fixture(scope="module")
def wheel() -> dict[PurePosixPath, bytes]:
    """The content of every file of the wheel."""
    path = os.environ.get("FASTRNN_WHEEL")
    if not path:
        pytest.skip("FASTRNN_WHEEL names no wheel")
    with zipfile.ZipFile(path) as archive:
        return {PurePosixPath(name): archive.read(name) for name in archive.namelist()}


@pytest.fixture
def information(wheel: dict[PurePosixPath, bytes]) -> PurePosixPath:
    return PurePosixPath(f"fastrnn-{PROJECT['version']}.dist-info")


@pytest.fixture
def metadata(wheel: dict[PurePosixPath, bytes], information: PurePosixPath) -> Message:
    return message_from_bytes(wheel[information / "METADATA"])


def test_version_of_the_source_tree() -> None:
    """What fastrnn.__version__ answers where no package is installed. (test_build.py compares the others.)"""
    assert _core.version() == PROJECT["version"]


def test_release_notes_of_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[?(Unreleased|{re.escape(PROJECT['version'])})\b", text, re.M | re.I)


def test_cibuildwheel_runs_tests_that_exist() -> None:
    files = re.findall(r"tests/\S+", PYPROJECT["tool"]["cibuildwheel"]["test-command"])
    assert files and all((ROOT / file).is_file() for file in files)


def test_wheel_has_the_python_files_and_no_others(wheel: dict[PurePosixPath, bytes]) -> None:
    expected = {path.relative_to(SOURCE.parent).as_posix() for path in SOURCE.rglob("*.py*") if path.suffix != ".pyc"}
    expected |= {"fastrnn/py.typed"}
    assert {str(path) for path in wheel if path.suffix.startswith(".py") or path.name == "py.typed"} == expected


def test_wheel_has_one_module_and_nothing_of_the_workshop(wheel: dict[PurePosixPath, bytes]) -> None:
    modules = [path for path in wheel if path.match("*.so") or path.match("*.pyd")]
    assert [str(path.parent) for path in modules] == ["fastrnn"] and modules[0].name.startswith("_core.")
    # (auditwheel notes what it added in an sboms folder of the dist-info)
    assert {path.parts[0] for path in wheel} == {"fastrnn", f"fastrnn-{PROJECT['version']}.dist-info"}
    assert not {"tests", "bench", "__pycache__", ".hypothesis"} & {part for path in wheel for part in path.parts}


def test_wheel_metadata(wheel: dict[PurePosixPath, bytes], information: PurePosixPath, metadata: Message) -> None:
    assert metadata["Name"] == "fastrnn" and metadata["Version"] == PROJECT["version"]
    assert metadata["Requires-Python"] == PROJECT["requires-python"]
    assert metadata["License-Expression"] == "MIT" and metadata["Description-Content-Type"] == "text/markdown"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert metadata.get_payload(decode=True).decode().strip() == readme.strip()
    assert wheel[information / "licenses" / "LICENSE"] == (ROOT / "LICENSE").read_bytes()
    assert b"fastrnn = fastrnn.cli:main" in wheel[information / "entry_points.txt"]
