"""The notebook of the documents, run from top to bottom as it stands."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest

import gapctl

NOTEBOOK = Path(__file__).parents[2] / "docs/first-steps.ipynb"


def run_cell(source: str, names: dict[str, Any]) -> Any:
    """Run a cell, and return the value of its last expression as a notebook shows it."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, NOTEBOOK.name, "exec"), names)
    return None if last is None else eval(compile(ast.Expression(last.value), NOTEBOOK.name, "eval"), names)


def show(value: Any) -> str:
    """Return what a notebook would show of a value."""
    for method in ("_repr_mimebundle_", "_repr_html_"):
        if hasattr(value, method) and (shown := getattr(value, method)()):
            return str(shown)
    return repr(value)


def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    names: dict[str, Any] = {}
    shown = [show(run_cell("".join(cell["source"]), names)) for cell in cells if cell["cell_type"] == "code"]
    assert "matched distance against the spread" in shown[0]
    assert names["log"][-1]["loss"] < names["log"][0]["loss"]
    assert any("vega" in each for each in shown)
    assert len(gapctl.trials("notebook-runs")) == len(names["sweep"].plan())
    assert names["verdict"].verdict == "inconclusive"
