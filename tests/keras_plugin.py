"""A pytest plugin (`-p keras_plugin`): the tests of the run see a Keras whose recurrent layers are fastrnn's.

With KERAS_PATCH=0 Keras stays as it is. The last line of the run says how often the kernels were called.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

_patch: Any = None


def pytest_configure(config: Any) -> None:
    global _patch
    # Keras's own conftest, which its wheel lacks, knows this marker
    config.addinivalue_line("markers", "requires_trainable_backend: skipped on Keras's numpy backend")
    if os.environ.get("KERAS_PATCH", "1") != "0":
        import fastrnn.keras

        _patch = fastrnn.keras.patch()


def pytest_collection_modifyitems(items: list[Any]) -> None:
    import keras

    if keras.config.backend() == "numpy":
        skip = pytest.mark.skip(reason="Keras on numpy does not train")
        for item in items:
            if item.get_closest_marker("requires_trainable_backend"):
                item.add_marker(skip)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if _patch is not None:
        terminalreporter.write_line(f"fallbacks: {dict(_patch.fallbacks)}")
        terminalreporter.write_line(f"kernel calls: {_patch.calls.total()} {dict(_patch.calls)}")
