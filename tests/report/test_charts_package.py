"""The chart definitions stand alone: they need Altair and polars, and Vega-Lite's schema accepts what they draw."""

import ast
import sys
from pathlib import Path

import altair as alt
import pytest
from analysis_examples import ATTRIBUTES, Levels, analysis

from gapctl.report.figures import plot_all_figures, plot_hypothesis_strips
from gapctl_charts.look import PAGE_LOOK

CHARTS = Path(__file__).parents[2] / "dashboards" / "gapctl_charts"


def test_charts_import_nothing_but_altair_and_polars() -> None:
    found = set()
    for file in CHARTS.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(str(node.module).split(".")[0])

    assert found - sys.stdlib_module_names == {"altair", "polars", "gapctl_charts"}


@pytest.mark.parametrize("levels", [{ATTRIBUTES: [0, 5]}, {ATTRIBUTES: [0, 5], "data.captions.order": ["a", "b"]}])
def test_vega_lites_schema_accepts_every_kind_of_chart(levels: Levels) -> None:
    shown = analysis(levels, seeds=2, metrics=["gap/rmg", "quality/object_accuracy"])
    figures = [*plot_all_figures(shown, PAGE_LOOK), *plot_hypothesis_strips(shown, PAGE_LOOK).values()]

    assert len(figures) > 5
    for figure in figures:
        alt.Chart.from_dict(dict(figure.spec))
