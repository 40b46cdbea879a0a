"""Figures for a page, small: tables by columns, and every column once, as charts of the same trainings share most."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from gapctl_charts.data import Rows
from gapctl_charts.figure import Figure


def packed(figures: Sequence[Figure]) -> dict[str, Any]:
    """`charts`: specifications by name, whose datasets name their columns as numbers of `columns`.

    A column is a list, or `{"all": value}` where all rows have the same. The page's script unpacks them.
    """
    columns: dict[str, int] = {}
    charts = {figure.name: _with_numbers(figure.spec, columns) for figure in figures}
    return {"charts": charts, "columns": [json.loads(column) for column in columns]}


def _with_numbers(spec: Mapping[str, Any], columns: dict[str, int]) -> dict[str, Any]:
    return {**spec, "datasets": {name: _by_column(rows, columns) for name, rows in spec["datasets"].items()}}


def _by_column(rows: Rows, columns: dict[str, int]) -> dict[str, Any]:
    names = list(rows[0]) if rows else []
    written = [json.dumps(_short([row[name] for row in rows])) for name in names]
    numbers = [columns.setdefault(text, len(columns)) for text in written]
    return {"length": len(rows), "columns": dict(zip(names, numbers, strict=True))}


def _short(values: Sequence[Any]) -> Any:
    first = values[0]
    return {"all": first} if all(type(value) is type(first) and value == first for value in values) else values
