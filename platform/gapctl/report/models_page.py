"""The models of cohorts by themselves: a page whose tables sort, and LaTeX tables, for a paper or a leaderboard.

`build_cohort_tables` takes each sweep's leaderboard (`models.py`); `render_models_page` and `render_models_latex` write
the same columns.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from gapctl.analysis.compare import SweepAnalysis
from gapctl.config.metrics import PUBLISHED
from gapctl.report.cohort_models import Leaderboard, build_leaderboard, has_measured_models, map_models_to_pages
from gapctl.report.html import load_text_templates, render_page
from gapctl.report.latex import DELIMITERS, escape_latex
from gapctl.report.sweep_page import define_metric, list_main_metrics
from gapctl.report.text import NOT_KNOWN, capitalise_first, format_fact, format_number, name_metric
from gapctl.text import join_and


class CohortTable(NamedTuple):
    """The models of one sweep, the addresses of their weights' pages by name, and what the metrics' columns mean."""

    sweep: str
    file_name: str
    question: str
    leaderboard: Leaderboard
    pages: Mapping[str, str]
    glossary: Mapping[str, str]


def build_cohort_tables(sweeps: Sequence[SweepAnalysis]) -> list[CohortTable]:
    """Return a table for each sweep over models of which some are measured."""
    tables = []
    for judged in sweeps:
        if not has_measured_models(judged.analysis):
            continue
        cohort = judged.plan.sweep.spec.cohort
        source = cohort.source if cohort else ""
        board = build_leaderboard(judged.analysis, list_main_metrics(judged.analysis), source)
        glossary = {key: define_metric(key) for key in board.metrics}
        pages = map_models_to_pages(judged.plan)
        tables.append(CohortTable(judged.name, judged.file_name, judged.analysis.question, board, pages, glossary))
    return tables


def render_models_page(tables: Sequence[CohortTable]) -> str:
    """Return a complete HTML document with the tables alone, which sort where a heading is pressed."""
    title = f"Models of {join_and([table.sweep for table in tables])}"
    return render_page("models", title, [], tables=tables)


def render_models_latex(tables: Sequence[CohortTable]) -> str:
    r"""Render a file to `\input`: each table breaks over pages (longtable), on pages in landscape."""
    written = [
        {
            "sweep": table.sweep,
            "question": table.question,
            "lead": board.lead,
            "label": Markup(re.sub("[^A-Za-z0-9]+", "-", table.file_name)),
            "alignment": Markup("".join("r" if name in numbers else "l" for name in columns)),
            "headings": [_name_column(name) for name in columns],
            "rows": [
                [
                    row["model"],
                    *(_format_known(row[name], is_number=name in numbers) for name in board.facts),
                    *(format_number(row[name]) for name in board.metrics),
                ]
                for row in board.models
            ],
        }
        for table in tables
        for board in [table.leaderboard]
        for columns in [[*board.facts, *board.metrics]]
        for numbers in [{*board.number_facts, *board.metrics}]
    ]
    return load_text_templates(escape_latex, DELIMITERS).get_template("models.tex").render(tables=written)


def _name_column(name: str) -> str:
    if name.startswith(PUBLISHED):
        return f"{name.removeprefix(PUBLISHED).replace('_', ' ')} (published)"
    return capitalise_first(name_metric(name)) if "/" in name else name.replace("_", " ")


def _format_known(value: Any, *, is_number: bool) -> str:
    return format_fact(value) if is_number else NOT_KNOWN if value is None else str(value)
