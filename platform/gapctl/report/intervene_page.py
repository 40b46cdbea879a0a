"""The HTML page of `gapctl intervene`: does closing the gap help? It needs no network and no other file.

`render_intervene_page` builds it. The sentences above it (`summarise_answer`, `describe_ideal_words`, `describe_split`,
`format_change`) are those of the command line too.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import polars as pl

from gapctl.report.html import render_page
from gapctl.report.text import capitalise_first, explain_catalog_metric
from gapctl.text import join_and
from gapctl_charts.figure import Figure, figure
from gapctl_charts.look import PAGE_LOOK, Look
from gapctl_charts.quality_against_gap import Untouched, intervention_chart

if TYPE_CHECKING:
    from gapctl.interventions.judge import (
        ChangeVerdict,
        ClosingAnswer,
        InterventionReport,
        InterventionResult,
        MeasureChange,
        QualityAnswer,
        QualityVerdict,
    )


QUESTION: Final = "Does closing the gap help here?"
POINTS: Final = 100
"""Shares are shown in points, hundredths, so that they read like percent."""

_MEASURE_NAMES: Final = {
    "gap/l2m": "distance of the modality means (L2M)",
    "gap/rmg": "relative modality gap (RMG)",
    **{f"quality/i2t_recall_{depth}": f"image-to-text recall at {depth}" for depth in (1, 5, 10)},
    **{f"quality/t2i_recall_{depth}": f"text-to-image recall at {depth}" for depth in (1, 5, 10)},
    "quality/object_accuracy": "zero-shot accuracy of the object",
    "quality/attribute_accuracy": "zero-shot accuracy of the attributes",
    "quality/pair_accuracy": "zero-shot accuracy of object and attribute together",
    "bias/moad_text": "object bias of texts (MOAD)",
    "quality/mixed_ndcg_10": "mixed-gallery search (NDCG@10)",
    "quality/v_measure": "clustering (V-measure)",
    "quality/flip_rate": "robustness to noise (flip rate)",
    "gap/linear_separability": "linear separability of the modalities",
}
_MEASURE_HEADINGS: Final = {
    "gap/l2m": "L2M",
    "gap/rmg": "RMG",
    **{f"quality/{way}_recall_{depth}": f"{way} R@{depth}" for way in ("i2t", "t2i") for depth in (1, 5, 10)},
    "quality/object_accuracy": "object",
    "quality/attribute_accuracy": "attrib.",
    "quality/pair_accuracy": "pair",
    "bias/moad_text": "text bias",
    "quality/mixed_ndcg_10": "mixed",
    "quality/v_measure": "cluster",
    "quality/flip_rate": "flips",
    "gap/linear_separability": "separable",
}
_EFFECTS: Final[Sequence[tuple["QualityVerdict", str]]] = (
    ("helps", "it helps {}"),
    ("harms", "it harms {}"),
    ("some ways harm", "some ways of closing it harm {}"),
    ("depends on how", "it depends on how for {}"),
    ("no difference that counts", "it makes no difference that counts to {}"),
    ("inconclusive", "it is not decided for {}"),
)


def name_measure(key: str) -> str:
    """Return a measure's short name."""
    return _MEASURE_NAMES.get(key, key)


def label_measure(key: str) -> str:
    """Return a measure's label for a narrow column."""
    return _MEASURE_HEADINGS.get(key, key.partition("/")[2])


def convert_to_percentage_points(key: str, value: float) -> float:
    """Convert a quality to points: accuracies are percentages already, shares become hundredths."""
    return value if key.endswith("_accuracy") else POINTS * value


def format_signed(value: float, decimals: int = 1) -> str:
    """Format a change with its sign; without one where it is zero at the digits shown."""
    text = f"{value:+.{decimals}f}"
    return text[1:] if float(text) == 0 else text


def format_change(key: str, change: "MeasureChange") -> str:
    """Format a change in points: `+4.6 points (2.6 to 6.7)`."""
    amount, low, high = (convert_to_percentage_points(key, value) for value in (change.change, change.low, change.high))
    return f"{format_signed(amount)} points ({format_signed(low)} to {format_signed(high)})"


def summarise_answer(answer: "ClosingAnswer", judgement: "InterventionReport") -> str:
    """Answer in one sentence whether closing the gap helps, after one that the model is not above chance if so."""
    return f"{_warn_of_chance(judgement)}{_summarise_verdicts(answer, judgement)}"


def _warn_of_chance(judgement: "InterventionReport") -> str:
    if judgement.is_above_chance:
        return ""
    found = [
        f"{name_measure(key)} {convert_to_percentage_points(key, judgement.before[key]):.1f} %, by chance "
        f"{convert_to_percentage_points(key, chance):.1f} %"
        for key, chance in judgement.chances.items()
    ]
    return f"This model is not above chance ({'; '.join(found)}), so the answer counts for nothing. "


def describe_ideal_words(judgement: "InterventionReport") -> str:
    """Say in one sentence what ideal words change, with intervals; empty where they were not tried or not applied."""
    words = next((each for each in judgement.judged if each.family == "ideal_words" and each.changes), None)
    if words is None:
        return ""
    accuracies = ("quality/attribute_accuracy", "quality/object_accuracy", "quality/pair_accuracy")
    clauses = [
        f"the {name_measure(key)} by {format_change(key, words.changes[key])}, {words.changes[key].verdict}"
        for key in accuracies
        if key in words.changes
    ]
    bias, key = words.changes.get("bias/moad_text"), "bias/moad_text"
    if bias is not None:
        before = judgement.before[key]
        sides = [f"{value:+.3f}, towards {'objects' if value > 0 else 'attributes'}" for value in (before, bias.value)]
        way = "nearer to" if abs(bias.value) < abs(before) else "farther from"
        ends = f"from {sides[0]}, to {sides[1]}, which is {way} none"
        clauses.append(f"the {name_measure(key)} by {format_change(key, bias)}, {bias.verdict}, {ends}")
    return f"Ideal words change {'; '.join(clauses)}."


def _summarise_verdicts(answer: "ClosingAnswer", judgement: "InterventionReport") -> str:
    if answer.answer == "nothing to close":
        return f"There is no gap to close: the means are {judgement.before['gap/l2m']:.3f} apart, which does not count."
    if answer.answer == "not closed":
        return "Not answered: nothing that was tried leaves at most half of the distance between the means."
    clauses = [
        words.format(join_and(names))
        for found, words in _EFFECTS
        if (names := [name_measure(measure.key) for measure in answer.measures if measure.found == found])
    ]
    by = f", with {join_and(answer.helping)}" if answer.helping else ""
    return f"{answer.answer.capitalize()}{by}: {'; '.join(clauses)}."


def describe_measure_answer(measure: "QualityAnswer") -> str:
    """Describe what closing the gap does to one quality, with the best result."""
    name, change = measure.best.name, measure.best.changes[measure.key]
    found = f"{measure.found} ({', '.join(measure.harming)})" if measure.found == "some ways harm" else measure.found
    return f"{name_measure(measure.key)}: {found}; best with {name}, {format_change(measure.key, change)}"


def describe_split(judgement: "InterventionReport") -> str:
    """Describe how the images were split."""
    captions = f" with {judgement.held_out_captions:,} different captions" if judgement.held_out_captions else ""
    dealt = "; images of one caption stay together" if judgement.dealt == "captions" else ""
    return (
        f"fitted on {judgement.calibration_images:,} images, judged on {judgement.held_out_images:,} others"
        f"{captions} "
        f"(seed {judgement.seed}{dealt})"
    )


QualityRow = dict[str, object]

FAMILIES: Final = {
    "shift": "shift (lambda)",
    "centre": "centre",
    "standardise": "standardise",
    "orthogonal": "orthogonal",
    "remove": "remove (dimensions)",
    "ideal_words": "ideal words",
}


def build_quality_rows(judgement: "InterventionReport", key: str) -> list[QualityRow]:
    """Return a row for each intervention that was possible.

    A row has the gap, the quality in points with the interval of the change (within its possible range), and the
    verdict.
    """
    before, rows = judgement.before[key], []
    for place, judged in enumerate(judgement.judged):
        if judged.changes:
            change = judged.changes[key]
            row = {
                "place": place,
                "name": judged.name,
                "series": FAMILIES[judged.family],
                "label": "" if judged.amount is None else f"{judged.amount:g}",
                "gap": judged.changes["gap/l2m"].value,
                "value": convert_to_percentage_points(key, change.value),
                "low": max(0.0, convert_to_percentage_points(key, before + change.low)),
                "high": min(float(POINTS), convert_to_percentage_points(key, before + change.high)),
                "change": convert_to_percentage_points(key, change.change),
                "verdict": change.verdict,
            }
            rows.append(row)
    return rows


CHANGE_SYMBOLS: Final[dict["ChangeVerdict", str]] = {
    "helps": "▲",
    "harms": "▼",
    "no difference that counts": "=",
    "inconclusive": "?",
}
_TONES: Final[dict["ChangeVerdict", str]] = {"helps": "supported", "harms": "refuted"}
_GAP_DECIMALS: Final = 3


class ChangeCell(NamedTuple):
    """What an intervention does to one measure: the change with its interval, and how it is judged."""

    verdict: str
    tone: str
    symbol: str
    change: str
    low: str
    high: str


def _format_change_cells(judged: "InterventionResult", keys: Sequence[str]) -> list[ChangeCell]:
    return [
        ChangeCell(
            change.verdict,
            _TONES.get(change.verdict, "inconclusive"),
            CHANGE_SYMBOLS[change.verdict],
            *(_format_signed_value(key, value) for value in (change.change, change.low, change.high)),
        )
        for key, change in ((key, judged.changes[key]) for key in keys)
    ]


def _format_value(key: str, value: float) -> str:
    return f"{value:.{_GAP_DECIMALS}f}" if key.startswith("gap/") else f"{convert_to_percentage_points(key, value):.1f}"


def _format_signed_value(key: str, value: float) -> str:
    text = (
        format_signed(value, _GAP_DECIMALS)
        if key.startswith("gap/")
        else format_signed(convert_to_percentage_points(key, value))
    )
    return text.replace("-", "−")


MARKS_CAPTION: Final = (
    "Where each intervention takes the held-out images. Dashed: with nothing done; grey: changes that do not count. "
    "Bars: 95 % interval of the change, for all interventions at once."
)
"""The meaning of the marks in every chart."""


def _plot_quality(judgement: "InterventionReport", key: str, found: str, look: Look) -> Figure:
    from gapctl.interventions.judge import get_smallest_effect

    name = key.partition("/")[2].replace("_", "-")
    rows = build_quality_rows(judgement, key)
    families = [family for family in FAMILIES.values() if any(row["series"] == family for row in rows)]
    untouched = Untouched(
        convert_to_percentage_points(key, judgement.before[key]),
        convert_to_percentage_points(key, get_smallest_effect(key)),
    )
    chart = intervention_chart(pl.DataFrame(rows), families, name_measure("gap/l2m"), untouched, look)
    return figure(f"closing-{name}", capitalise_first(name_measure(key)), found, chart, look)


def render_intervene_page(
    judgement: "InterventionReport",
    answer: "ClosingAnswer",
    keys: tuple[str, ...],
    title: str,
    record: Mapping[str, str],
) -> str:
    """Return the complete HTML document with a chart for each quality in `keys`; equal arguments give equal text."""
    found = {measure.key: f"Closing the gap: {measure.found}." for measure in answer.measures}
    figures = [_plot_quality(judgement, key, found.get(key, ""), PAGE_LOOK) for key in keys]
    measures = tuple(judgement.before)
    return render_page(
        "intervene",
        f"{QUESTION} {title}",
        figures,
        name=title,
        question=QUESTION,
        answer=f"{summarise_answer(answer, judgement)} {describe_ideal_words(judgement)}".rstrip(),
        split=describe_split(judgement),
        qualities=[describe_measure_answer(measure) for measure in answer.measures],
        closing=", ".join(answer.closing),
        figures_lead=MARKS_CAPTION,
        columns=[
            {"label": label_measure(key), "name": name_measure(key), "before": _format_value(key, value)}
            for key, value in judgement.before.items()
        ],
        rows=[
            {
                "name": each.name,
                "impossible": each.impossible,
                "cells": [] if each.impossible else _format_change_cells(each, measures),
            }
            for each in judgement.judged
        ],
        glossary={label_measure(key): f"{name_measure(key)}: {explain_catalog_metric(key)}" for key in measures},
        record=record,
    )
