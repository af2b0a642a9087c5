"""The pages: their examples run, one after the other in one namespace a page, and every public module has a page."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

import fastrnn

ROOT = Path(__file__).parents[1]
# Pages on single frameworks (docs/torch.md ...) show fragments of a user's program; their own tests run such code.
GUIDES = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/guides/*.md"))
PAGES = ["README.md", "docs/quickstart.md", "docs/gates.md", *GUIDES]
FRAMEWORKS = {"keras", "onnx", "onnxruntime", "torch"}
EXTRAS = {"keras", "onnx", "sklearn", "torch"}
INSIDE = {"cli", "reports", "training"}  # not public: docs/versions.md

pytestmark = pytest.mark.skipif(not (ROOT / "docs/conf.py").exists(), reason="not a source tree")


def blocks(text: str) -> list[tuple[int, str]]:
    """The Python examples of a page: the line where each begins, and its code."""
    found = re.finditer(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, match.start(1)), match[1]) for match in found]


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of_a_page_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # examples save files
    if find_spec("torch") is not None:
        monkeypatch.setenv("KERAS_BACKEND", "torch")  # where nothing has imported Keras yet: TensorFlow takes its time
    fastrnn.utils.set_random_seed(0)
    namespace: dict[str, object] = {"__name__": "example"}
    examples = blocks((ROOT / page).read_text(encoding="utf-8"))
    assert examples, f"{page} has no examples"
    for line, code in examples:
        needed = set(re.findall(r"^import (\w+)", code, flags=re.MULTILINE)) & FRAMEWORKS
        if any(find_spec(name) is None for name in needed):
            continue
        # blank lines in front make the line numbers of a traceback those of the page
        exec(compile("\n" * line + code, str(ROOT / page), "exec"), namespace)


def test_every_public_module_is_in_the_api_reference() -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("docs/api/*.md"))
    described = set(re.findall(r"automodule:: fastrnn\.(\w+)", pages))
    public = {name for name in fastrnn.__all__ if find_spec(f"fastrnn.{name}")}
    assert public <= described
    assert not (public | described) & INSIDE
    for name in described | INSIDE:
        assert name in EXTRAS or getattr(fastrnn, name).__name__ == f"fastrnn.{name}"


def test_the_index_of_the_api_reference_says_what_each_page_is() -> None:
    index = (ROOT / "docs/api/index.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| \[fastrnn(?:\.\w+)?\]\((\w+\.md)\) \| .+ \|$", index, flags=re.MULTILINE)
    assert sorted(named) == sorted(path.name for path in ROOT.glob("docs/api/*.md") if path.name != "index.md")


def test_the_top_level_page_has_every_name() -> None:
    page = (ROOT / "docs/api/fastrnn.md").read_text(encoding="utf-8")
    names = {"__version__", "load_keras", *(name for name in fastrnn.__all__ if not find_spec(f"fastrnn.{name}"))}
    assert sorted(names) == sorted(re.findall(r"^\| `fastrnn\.(\w+)` \|", page, flags=re.MULTILINE))


def test_the_pages_link_to_pages_that_exist() -> None:
    for page in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]:
        text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"


@pytest.mark.parametrize("module", ["functional", "layers", "models"])
def test_pages_in_an_order_of_their_own_have_every_name(module: str) -> None:
    page = (ROOT / f"docs/api/{module}.md").read_text(encoding="utf-8")
    names = re.findall(r"^\.\. auto(?:function|class):: (\w+)$", page, flags=re.MULTILINE)
    assert sorted(names) == sorted(getattr(fastrnn, module).__all__)
