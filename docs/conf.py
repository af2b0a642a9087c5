"""The documentation site: sphinx-build -W --keep-going docs build/docs"""

from __future__ import annotations

from importlib.util import find_spec

import fastrnn

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
    name: name for name in ("Array", "ArrayLike", "Spec", "Shape", "Weights", "TokenIndex", "Vectors", "Half")
} | {"npt.ArrayLike": "ArrayLike"}
napoleon_numpy_docstring = False

# Frameworks that a module adapts to are not needed to describe it.
autodoc_mock_imports = [
    name for name in ("joblib", "keras", "onnx", "onnxruntime", "sklearn", "torch") if find_spec(name) is None
]
_INTEROP = ("torch", "keras", "onnx", "sklearn", "native")
exclude_patterns = [f"api/{name}.md" for name in _INTEROP if find_spec(f"fastrnn.{name}") is None]
# The section on other frameworks lists its pages by patterns.
suppress_warnings = ["toc.empty_glob"]

html_theme = "furo"
html_title = f"fastrnn {version}"
html_copy_source = False
