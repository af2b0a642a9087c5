"""The documentation site: sphinx-build -W --keep-going docs build/docs"""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import Any

from sphinx.util.inspect import TypeAliasForwardRef

import fastrnn

# Aliases such as Array show as their names inside unions too.
TypeAliasForwardRef.__repr__ = lambda self: self.name  # type: ignore[method-assign]

project = "fastrnn"
copyright = "the fastrnn authors, MIT license"
release = version = fastrnn.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

# Backticks in docstrings are code, and links where they name something documented.
default_role = "py:obj"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
# Methods that only override a documented one are described there, once.
autodoc_inherit_docstrings = False
autodoc_default_options = {"members": True}
autodoc_type_aliases = {
    name: name
    for name in ("Array", "ArrayLike", "DTypeLike", "Spec", "Shape", "Weights", "TokenIndex", "Vectors", "Half")
} | {"npt.ArrayLike": "ArrayLike"}
autodoc_preserve_defaults = True
napoleon_use_rtype = False
napoleon_use_param = False  # would give each of `weight_ih, weight_hh: (4*H, I) and (4*H, H)` the whole text

# Frameworks that a module adapts to are not needed to describe it.
autodoc_mock_imports = [
    name for name in ("joblib", "keras", "google", "onnx", "onnxruntime", "sklearn", "torch") if find_spec(name) is None
]
_INTEROP = ("torch", "keras", "onnx", "sklearn", "native")
exclude_patterns = [f"api/{name}.md" for name in _INTEROP if find_spec(f"fastrnn.{name}") is None]

html_theme = "furo"
html_title = f"fastrnn {version}"
html_copy_source = False


def _signature(
    app: Any, what: str, name: str, obj: Any, options: Any, signature: str | None, result: str | None
) -> tuple[str | None, str | None]:
    """pybind11's signatures without self and its module."""

    def plain(text: str | None) -> str | None:
        if text is None:
            return None
        return re.sub(r"\(self: [\w.]+(, )?", "(", text).replace("fastrnn._core.", "")

    return plain(signature), plain(result)


def _skip(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Fields of named tuples, of which there is nothing to say beyond their names, what metrics are made of, and what
    scikit-learn adds to every estimator."""
    made = type(obj).__name__ == "_tuplegetter" or name == "loss_class" or re.fullmatch(r"set_\w+_request", name)
    return True if made else None


def setup(app: Any) -> None:
    app.connect("autodoc-process-signature", _signature)
    app.connect("autodoc-skip-member", _skip)
