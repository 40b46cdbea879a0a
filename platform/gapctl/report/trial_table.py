"""The trainings as a table that sorts by any column."""

import math
from collections.abc import Sequence
from typing import Any, Final

from gapctl.analysis.results import Analysis
from gapctl.report.markup import Html, element, facts, fill, joined
from gapctl.report.rows import has_metric
from gapctl.report.run_record import RunPages
from gapctl.report.words import NOT_KNOWN, meaning, metric_name, number, unit

_MAIN_METRICS: Final = (
    "gap/rmg",
    "gap/l2m",
    "bias/moad_image",
    "bias/moad_text",
    "entropy/i2t_nats",
    "temperature/tau",
    "quality/object_accuracy",
    "quality/attribute_accuracy",
    "captions/share_kept",
    "train/loss",
)


def trial_table(analysis: Analysis, run_pages: RunPages | None = None) -> Html:
    """A row per finished training, in the plan's order: label, seed, id, main metrics, seconds.

    An id links to the training's page in MLflow where that is known.
    """
    if analysis.trials.is_empty():
        return element("p", "No training has finished yet.", class_="lead")
    metrics = main_metrics(analysis)
    return fill(
        "trials",
        lead=_lead(run_pages),
        head=_head(metrics),
        rows=joined(_row(row, metrics, run_pages) for row in analysis.trials.iter_rows(named=True)),
        glossary=facts({key: _glossary(key) for key in metrics}),
    )


def main_metrics(analysis: Analysis) -> list[str]:
    """What the hypotheses ask for beyond the usual ones, then these, as far as trials have them."""
    asked = [verdict.response for verdict in analysis.verdicts if verdict.response not in _MAIN_METRICS]
    wanted = dict.fromkeys([*asked, *_MAIN_METRICS])
    return [key for key in wanted if has_metric(analysis.trials, key)]


def _head(metrics: Sequence[str]) -> Html:
    first = [_heading("training", "text"), _heading("seed"), _heading("id", "text")]
    return joined([*first, *map(_heading, metrics), _heading("seconds")], "")


def _heading(name: str, kind: str = "number") -> Html:
    """A metric's group goes above its name, so that columns stay narrow."""
    group, _, rest = name.rpartition("/")
    lines = [element("small", f"{group}/"), element("span", _breakable(rest))] if group else [element("span", name)]
    return element("th", element("button", joined(lines, ""), type="button"), scope="col", class_=kind)


def _breakable(name: str) -> Html:
    return joined((element("span", part) for part in name.split("_")), "_<wbr>")


def _row(row: dict[str, Any], metrics: Sequence[str], run_pages: RunPages | None) -> Html:
    cells = [
        element("th", str(row["label"]), scope="row", class_="text"),
        _number(row["seed"], str(row["seed"])),
        element("td", trial_link(str(row["trial"]), run_pages), class_="text"),
        *(_number(row[key], number(row[key])) for key in metrics),
        _number(row["seconds"], NOT_KNOWN if row["seconds"] is None else f"{row['seconds']:,.0f}"),
    ]
    return element("tr", joined(cells, ""), id=f"trial-{row['trial']}")


def _lead(run_pages: RunPages | None) -> Html:
    parts: list[Html] = [element("span", "Each training with its final metrics. Press a heading to sort.")]
    if run_pages is not None:
        address = element("span", run_pages.address, data_mlflow="")
        parts += [element("span", "Ids open the run in MLflow at"), address]
        if run_pages.started_by is not None:
            parts += [element("span", "while"), element("code", run_pages.started_by), element("span", "runs.")]
    return joined(parts, " ")


def trial_link(trial: str, run_pages: RunPages | None) -> Html:
    """A trial's id, which opens its page in MLflow where that is known."""
    shown = element("code", trial)
    if run_pages is None or trial not in run_pages.pages:
        return shown
    address = f"{run_pages.address}/{run_pages.pages[trial]}"
    return element("a", shown, href=address, target="_blank", rel="noopener", data_trial=trial)


def _number(value: float | None, text: str) -> Html:
    known = value is not None and math.isfinite(value)
    return element("td", text, data_value=repr(value) if known else "NaN")


def _glossary(key: str) -> str:
    counted = f" ({unit(key)})" if unit(key) else ""
    return f"{meaning(key) or metric_name(key)}{counted}"
