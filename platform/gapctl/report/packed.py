"""Figures for a page, small: every table once, by columns, and what a column repeats but once."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from gapctl_charts.data import Rows
from gapctl_charts.figure import Figure


def packed(figures: Sequence[Figure]) -> dict[str, Any]:
    """`charts`: specifications by name, whose datasets are numbers of `tables`; the page's script unpacks them."""
    tables: dict[str, int] = {}
    charts = {figure.name: _numbered(figure.spec, tables) for figure in figures}
    return {"charts": charts, "tables": [json.loads(table) for table in tables]}


def _numbered(spec: Mapping[str, Any], tables: dict[str, int]) -> dict[str, Any]:
    numbers = {
        name: tables.setdefault(json.dumps(_by_column(rows)), len(tables)) for name, rows in spec["datasets"].items()
    }
    return {**spec, "datasets": numbers}


def _by_column(rows: Rows) -> dict[str, Any]:
    """`length`, and each column as a list, or as its value where all rows have the same."""
    columns = {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
    return {"length": len(rows), "columns": {name: _short(values) for name, values in columns.items()}}


def _short(values: Sequence[Any]) -> Any:
    first = values[0]
    return first if all(type(value) is type(first) and value == first for value in values) else list(values)
