"""The HTML page of `gapctl intervene`: does closing the gap help? It needs no network and no other file.

`render_intervene_page` builds it. The sentences above it (`summarise_answer`, `describe_split`, `format_change`) are
those of the command line too.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from gapctl.report.html import Html, build_element, fill_template, join_html, render_facts
from gapctl.report.page_parts import render_document, render_panels, render_section
from gapctl.report.text import capitalise_first, explain_metric
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


def convert_to_points(key: str, value: float) -> float:
    """Convert a quality to points: accuracies are percentages already, shares become hundredths."""
    return value if key.endswith("_accuracy") else POINTS * value


def format_signed(value: float, decimals: int = 1) -> str:
    """Format a change with its sign; without one where it is zero at the digits shown."""
    text = f"{value:+.{decimals}f}"
    return text[1:] if float(text) == 0 else text


def format_change(key: str, change: "MeasureChange") -> str:
    """Format a change in points: `+4.6 points (2.6 to 6.7)`."""
    amount, low, high = (convert_to_points(key, value) for value in (change.change, change.low, change.high))
    return f"{format_signed(amount)} points ({format_signed(low)} to {format_signed(high)})"


def summarise_answer(answer: "ClosingAnswer", judgement: "InterventionReport") -> str:
    """Answer in one sentence whether closing the gap helps."""
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


QualityRow = dict[str, Any]

FAMILIES: Final = {
    "shift": "shift (lambda)",
    "centre": "centre",
    "standardise": "standardise",
    "orthogonal": "orthogonal",
    "remove": "remove (dimensions)",
}


def build_quality_rows(judgement: "InterventionReport", key: str) -> list[QualityRow]:
    """Return a row for each intervention that was possible.

    A row has the gap, the quality in points with the interval of the change (within its possible range), and the
    verdict.
    """
    before = judgement.before[key]
    return [
        _build_quality_row(judged, key, before, place)
        for place, judged in enumerate(judgement.judged)
        if judged.changes
    ]


def list_families(rows: Sequence[QualityRow]) -> list[str]:
    """List the kinds of intervention that rows have, in the order of the legend."""
    present = {row["series"] for row in rows}
    return [name for name in FAMILIES.values() if name in present]


def _build_quality_row(judged: "InterventionResult", key: str, before: float, place: int) -> QualityRow:
    change, gap = judged.changes[key], judged.changes["gap/l2m"].value
    return {
        "place": place,
        "name": judged.name,
        "series": FAMILIES[judged.family],
        "label": "" if judged.amount is None else f"{judged.amount:g}",
        "gap": gap,
        "value": convert_to_points(key, change.value),
        "low": max(0.0, convert_to_points(key, before + change.low)),
        "high": min(float(POINTS), convert_to_points(key, before + change.high)),
        "change": convert_to_points(key, change.change),
        "verdict": change.verdict,
    }


CHANGE_SYMBOLS: Final[dict["ChangeVerdict", str]] = {
    "helps": "▲",
    "harms": "▼",
    "no difference that counts": "=",
    "inconclusive": "?",
}
_TONES: Final[dict["ChangeVerdict", str]] = {"helps": "supported", "harms": "refuted"}
_GAP_DECIMALS: Final = 3


def render_closing_table(judgement: "InterventionReport") -> Html:
    """Render a row without intervention and one for each intervention."""
    keys = tuple(judgement.before)
    rows = [_render_baseline_row(judgement, keys), *(_render_intervention_row(each, keys) for each in judgement.judged)]
    head = [build_element("th", "intervention", scope="col", class_="text")]
    head += [build_element("th", label_measure(key), scope="col", title=name_measure(key)) for key in keys]
    glossary = {label_measure(key): f"{name_measure(key)}: {explain_metric(key)}" for key in keys}
    return fill_template(
        "closing_table", head=join_html(head, ""), rows=join_html(rows), glossary=render_facts(glossary)
    )


def _render_baseline_row(judgement: "InterventionReport", keys: tuple[str, ...]) -> Html:
    cells = [build_element("td", _format_value(key, judgement.before[key])) for key in keys]
    return build_element("tr", join_html([_render_row_heading("nothing"), *cells], ""))


def _render_intervention_row(judged: "InterventionResult", keys: tuple[str, ...]) -> Html:
    if judged.impossible:
        reason = build_element("td", f"not applied: {judged.impossible}", class_="text", colspan=str(len(keys)))
        return build_element("tr", join_html([_render_row_heading(judged.name), reason], ""))
    return build_element(
        "tr",
        join_html(
            [_render_row_heading(judged.name), *(_render_change_cell(key, judged.changes[key]) for key in keys)], ""
        ),
    )


def _render_row_heading(name: str) -> Html:
    return build_element("th", name, scope="row", class_="text")


def _render_change_cell(key: str, change: "MeasureChange") -> Html:
    tone = _TONES.get(change.verdict, "inconclusive")
    symbol = build_element("span", CHANGE_SYMBOLS[change.verdict], class_="tone", title=change.verdict)
    interval = build_element(
        "small", f"{_format_signed_value(key, change.low)} to {_format_signed_value(key, change.high)}"
    )
    shown = join_html([symbol, build_element("span", _format_signed_value(key, change.change)), interval], " ")
    return build_element("td", shown, class_=tone)


def _format_value(key: str, value: float) -> str:
    return f"{value:.{_GAP_DECIMALS}f}" if key.startswith("gap/") else f"{convert_to_points(key, value):.1f}"


def _format_signed_value(key: str, value: float) -> str:
    text = (
        format_signed(value, _GAP_DECIMALS) if key.startswith("gap/") else format_signed(convert_to_points(key, value))
    )
    return text.replace("-", "−")


MARKS_CAPTION: Final = (
    "Where each intervention takes the held-out images. Dashed: with nothing done; grey: changes that do not count. "
    "Bars: 95 % interval of the change, for all interventions at once."
)
"""The meaning of the marks in every chart."""


def plot_closing(
    judgement: "InterventionReport", keys: Sequence[str], measures: Sequence["QualityAnswer"], look: Look
) -> list[Figure]:
    """Plot a figure for each quality; its caption begins with what closing the gap does to it, where that is known."""
    found = {measure.key: f"Closing the gap: {measure.found}." for measure in measures}
    return [_plot_quality(judgement, key, found.get(key, ""), look) for key in keys]


def _plot_quality(judgement: "InterventionReport", key: str, found: str, look: Look) -> Figure:
    from gapctl.interventions.judge import get_smallest_effect

    name = key.partition("/")[2].replace("_", "-")
    rows = build_quality_rows(judgement, key)
    untouched = Untouched(
        convert_to_points(key, judgement.before[key]), convert_to_points(key, get_smallest_effect(key))
    )
    chart = intervention_chart(pl.DataFrame(rows), list_families(rows), name_measure("gap/l2m"), untouched, look)
    return figure(f"closing-{name}", capitalise_first(name_measure(key)), found, chart, look)


def render_intervene_page(
    judgement: "InterventionReport",
    answer: "ClosingAnswer",
    keys: tuple[str, ...],
    title: str,
    record: Mapping[str, str],
) -> str:
    """Return the complete HTML document with a chart for each quality in `keys`; equal arguments give equal text."""
    figures = plot_closing(judgement, keys, answer.measures, PAGE_LOOK)
    content = fill_template(
        "closing",
        question=QUESTION,
        title=title,
        answer=summarise_answer(answer, judgement),
        split=describe_split(judgement),
        measures=_render_measures(answer),
        figures=render_section("paths", "Quality against gap", MARKS_CAPTION, [render_panels(figures)]),
        table=render_closing_table(judgement),
        facts=render_facts(dict(record)),
    )
    return render_document(f"{QUESTION} {title}", content, figures)


def _render_measures(answer: "ClosingAnswer") -> Html:
    lines = [build_element("li", describe_measure_answer(measure)) for measure in answer.measures]
    lead = f"By those that leave at most half of the gap: {', '.join(answer.closing)}."
    return render_section(
        "qualities", "What closing it does", lead, [build_element("ul", join_html(lines))] if lines else []
    )
