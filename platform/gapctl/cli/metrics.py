"""`gapctl metrics`: list every metric with its unit and its meaning."""

from collections.abc import Sequence
from itertools import groupby
from typing import Annotated

import typer

from gapctl.cli.completion import complete_metrics
from gapctl.cli.console import SafeConsole, make_table
from gapctl.cli.options import JsonOption
from gapctl.cli.output import print_json_or_text, require_choice
from gapctl.config.base import format_choices
from gapctl.config.evaluation_sets import is_metric_of_set_kind, list_set_names, require_set
from gapctl.config.metrics import MetricName, find_metric, list_metric_names, load_metrics_by_name
from gapctl.errors import InputError


def metrics_command(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            help="Only those that have all of these in their name, meaning or unit.",
            show_default=False,
            metavar="[TEXT]...",
            autocompletion=complete_metrics,
        ),
    ] = None,
    group: Annotated[
        str | None, typer.Option("--group", help="Only this group: gap, bias, quality, ...", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Every metric with its unit and meaning, by group, or those that a text names.

    Metrics on an evaluation set have its name first: `gapctl metrics coco` lists those of COCO.
    """
    metrics = load_metrics_by_name() | _list_metrics_of_sets([*(words or ()), group or ""])
    if group is not None:
        require_choice("--group", group, dict.fromkeys(metric.group for metric in metrics.values()), "group")
    chosen = [
        metric
        for metric in metrics.values()
        if group in (None, metric.group) and all(_mentions(metric, word) for word in words or ())
    ]
    if not chosen:
        text = " ".join(words or ())
        where = "" if group is None else f" in group {group}"
        expected = format_choices(
            text, metrics, "expected a part of a name or meaning; `gapctl metrics` lists them all"
        )
        raise InputError(f"{text}: no metric{where} has that in its name, meaning or unit; {expected}")
    names = ("key", "meaning", "unit", "group")
    document = {"metrics": [{name: getattr(metric, name) for name in names} for metric in chosen]}
    print_json_or_text(document, lambda: _print_metric_catalog(chosen), as_json)


def _list_metrics_of_sets(words: Sequence[str]) -> dict[str, MetricName]:
    """Return the metrics of the evaluation sets that any of these words begins with."""
    names = list(dict.fromkeys(word.partition("/")[0] for word in words))
    found: dict[str, MetricName] = {}
    for name in (name for name in names if name in list_set_names()):
        kind = require_set(name).kind
        assert kind is not None  # as every definition that was checked has one
        keys = [key for key in list_metric_names() if is_metric_of_set_kind(key, kind)]
        found |= {f"{name}/{key}": metric for key in keys if (metric := find_metric(f"{name}/{key}")) is not None}
    return found


def _mentions(metric: MetricName, word: str) -> bool:
    return any(word.lower() in text.lower() for text in (metric.key, metric.meaning, metric.unit))


def _print_metric_catalog(metrics: Sequence[MetricName]) -> None:
    console = SafeConsole()
    table = make_table(show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, overflow="fold")
    table.add_column()
    table.add_column()
    for index, (_, members) in enumerate(groupby(metrics, key=lambda metric: metric.group)):
        if index:
            table.add_row()
        for metric in members:
            table.add_row(metric.key, metric.unit, metric.meaning)
    console.print(table)
