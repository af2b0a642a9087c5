"""Where C and C++ programs find what an installed fastrnn brings for them: see docs/native.md.

A wheel holds the headers, the static library, a CMake package and a pkg-config file beside the Python files.
"""

from __future__ import annotations

import os

__all__ = ["get_cmake_dir", "get_include"]

_HERE = os.path.dirname(os.path.abspath(__file__))


def _installed(function: str, file: str, *parts: str) -> str:
    folder = os.path.join(_HERE, *parts)
    if not os.path.isfile(os.path.join(folder, file)):
        raise FileNotFoundError(
            f"[{function}] fastrnn: expected an installed package (pip install .) with {'/'.join((*parts, file))}, "
            f"got one without, in {_HERE}"
        )
    return folder


def get_include() -> str:
    """The folder to put after -I: it holds fastrnn/fastrnn.h and the C++ headers. FileNotFoundError where they were not
    installed, as in a source tree."""
    return os.path.dirname(_installed("get_include", "fastrnn.h", "include", "fastrnn"))


def get_cmake_dir() -> str:
    """The folder of fastrnnConfig.cmake, for `cmake -Dfastrnn_DIR=...`. FileNotFoundError as in `get_include`."""
    return _installed("get_cmake_dir", "fastrnnConfig.cmake", "lib", "cmake", "fastrnn")
