"""What the README shows runs as it stands."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import vfe_fast as vf

README = Path(__file__).parents[1] / "README.md"


def test_python_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("sklearn")
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert "(exact)" in capsys.readouterr().out
    assert vf.load("model.npz").n_hidden == 12


def test_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cells of the notebook, one after the other."""
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    cells = json.loads((README.parent / "docs" / "vae.ipynb").read_text(encoding="utf-8"))["cells"]
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            assert not cell["outputs"]
            exec(compile("".join(cell["source"]), "vae.ipynb", "exec"), names)
    assert "cold" in names


DOCS = README.parent / "docs"
PAGES = sorted(page.stem for page in DOCS.glob("*.md") if "```python" in page.read_text(encoding="utf-8"))
PAGES.remove("exact")  # its example wants a cluster
NEEDED = {"mbar": ["pymbar"], "reparameterize": ["torch", "jax"], "vae": ["torch", "jax"]}


@pytest.mark.filterwarnings("default::vfe_fast.free_energy.WeightsWarning")  # that page shows one
@pytest.mark.parametrize("page", PAGES)
def test_examples_of_the_docs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in NEEDED.get(page, []):
        pytest.importorskip(module)
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(code, f"{page}.md", "exec"), names)
    assert names
