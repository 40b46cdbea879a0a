"""One HTML page on whether closing the gap helps; it needs no network and no other file."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from gapctl.report.html import Html, element, facts, fill, joined
from gapctl.report.page_parts import document, panels, section
from gapctl.report.text import capital, meaning
from gapctl_charts.figure import Figure, figure
from gapctl_charts.look import PAGE_LOOK, Look
from gapctl_charts.quality_against_gap import Untouched, intervention_chart

if TYPE_CHECKING:
    from gapctl.interventions.judge import Change, ClosingAnswer, Found, Judged, Judgement, MeasureAnswer, Verdict


QUESTION: Final = "Does closing the gap help here?"
POINTS: Final = 100
"""Shares are told in points, hundredths, so that they read like percent."""

_NAMES: Final = {
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
_HEADINGS: Final = {
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
_EFFECTS: Final[Sequence[tuple["Found", str]]] = (
    ("helps", "it helps {}"),
    ("harms", "it harms {}"),
    ("some ways harm", "some ways of closing it harm {}"),
    ("depends on how", "it depends on how for {}"),
    ("no difference that counts", "it makes no difference that counts to {}"),
    ("inconclusive", "it is not decided for {}"),
)


def measure_words(key: str) -> str:
    """A measure in a few words."""
    return _NAMES.get(key, key)


def heading(key: str) -> str:
    """A measure above a narrow column."""
    return _HEADINGS.get(key, key.partition("/")[2])


def in_points(key: str, value: float) -> float:
    """A quality in points: percentages are, shares become hundredths."""
    return value if key.endswith("_accuracy") else POINTS * value


def signed(value: float, decimals: int = 1) -> str:
    """A change with its sign; none where it is nothing at the digits shown."""
    text = f"{value:+.{decimals}f}"
    return text[1:] if float(text) == 0 else text


def change_words(key: str, change: "Change") -> str:
    """`+4.6 points (2.6 to 6.7)`."""
    amount, low, high = (in_points(key, value) for value in (change.change, change.low, change.high))
    return f"{signed(amount)} points ({signed(low)} to {signed(high)})"


def sentence(answer: "ClosingAnswer", judgement: "Judgement") -> str:
    """The answer to whether closing the gap helps, in one sentence."""
    if answer.answer == "nothing to close":
        return f"There is no gap to close: the means are {judgement.before['gap/l2m']:.3f} apart, which does not count."
    if answer.answer == "not closed":
        return "Not answered: nothing that was tried leaves at most half of the distance between the means."
    said = [words.format(_listed(keys)) for found, words in _EFFECTS if (keys := _keys(answer, found))]
    by = f", with {joined_words(answer.helping)}" if answer.helping else ""
    return f"{answer.answer.capitalize()}{by}: {'; '.join(said)}."


def measure_line(measure: "MeasureAnswer") -> str:
    """What closing does to one quality, with the best that it came to."""
    name, change = measure.best
    found = f"{measure.found} ({', '.join(measure.harming)})" if measure.found == "some ways harm" else measure.found
    return f"{measure_words(measure.key)}: {found}; best with {name}, {change_words(measure.key, change)}"


def split_words(judgement: "Judgement") -> str:
    """How the images were split."""
    captions = f" with {judgement.held_out_captions:,} different captions" if judgement.held_out_captions else ""
    dealt = "; images of one caption stay together" if judgement.dealt == "captions" else ""
    return (
        f"fitted on {judgement.calibration_images:,} images, judged on {judgement.held_out_images:,} others"
        f"{captions} "
        f"(seed {judgement.seed}{dealt})"
    )


def _keys(answer: "ClosingAnswer", found: "Found") -> list[str]:
    return [measure.key for measure in answer.measures if measure.found == found]


def _listed(keys: Sequence[str]) -> str:
    return joined_words([measure_words(key) for key in keys])


def joined_words(names: Sequence[str]) -> str:
    """`a, b and c`."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


Row = dict[str, Any]

FAMILIES: Final = {
    "shift": "shift (lambda)",
    "centre": "centre",
    "standardise": "standardise",
    "orthogonal": "orthogonal",
    "remove": "remove (dimensions)",
}


def quality_rows(judgement: "Judgement", key: str) -> list[Row]:
    """A row per intervention: its gap, its quality in points with the interval of the change (as far as
    it is possible), and its verdict."""
    before = judgement.before[key]
    return [_row(judged, key, before, place) for place, judged in enumerate(judgement.judged) if judged.changes]


def families(rows: Sequence[Row]) -> list[str]:
    """The kinds of intervention that rows have, in the order of the legend."""
    present = {row["series"] for row in rows}
    return [name for name in FAMILIES.values() if name in present]


def _row(judged: "Judged", key: str, before: float, place: int) -> Row:
    change, gap = judged.changes[key], judged.changes["gap/l2m"].value
    return {
        "place": place,
        "name": judged.name,
        "series": FAMILIES[judged.family],
        "label": "" if judged.amount is None else f"{judged.amount:g}",
        "gap": gap,
        "value": in_points(key, change.value),
        "low": max(0.0, in_points(key, before + change.low)),
        "high": min(float(POINTS), in_points(key, before + change.high)),
        "change": in_points(key, change.change),
        "verdict": change.verdict,
    }


SYMBOLS: Final[dict["Verdict", str]] = {
    "helps": "▲",
    "harms": "▼",
    "no difference that counts": "=",
    "inconclusive": "?",
}
_TONES: Final[dict["Verdict", str]] = {"helps": "supported", "harms": "refuted"}
_GAP_DECIMALS: Final = 3


def closing_table(judgement: "Judgement") -> Html:
    """A row for doing nothing and one for each intervention."""
    keys = tuple(judgement.before)
    rows = [_before(judgement, keys), *(_table_row(each, keys) for each in judgement.judged)]
    head = [element("th", "intervention", scope="col", class_="text")]
    head += [element("th", heading(key), scope="col", title=measure_words(key)) for key in keys]
    glossary = {heading(key): f"{measure_words(key)}: {meaning(key)}" for key in keys}
    return fill("closing_table", head=joined(head, ""), rows=joined(rows), glossary=facts(glossary))


def _before(judgement: "Judgement", keys: tuple[str, ...]) -> Html:
    cells = [element("td", _value(key, judgement.before[key])) for key in keys]
    return element("tr", joined([_name("nothing"), *cells], ""))


def _table_row(judged: "Judged", keys: tuple[str, ...]) -> Html:
    if judged.impossible:
        reason = element("td", f"not applied: {judged.impossible}", class_="text", colspan=str(len(keys)))
        return element("tr", joined([_name(judged.name), reason], ""))
    return element("tr", joined([_name(judged.name), *(_cell(key, judged.changes[key]) for key in keys)], ""))


def _name(name: str) -> Html:
    return element("th", name, scope="row", class_="text")


def _cell(key: str, change: "Change") -> Html:
    tone = _TONES.get(change.verdict, "inconclusive")
    symbol = element("span", SYMBOLS[change.verdict], class_="tone", title=change.verdict)
    interval = element("small", f"{_signed(key, change.low)} to {_signed(key, change.high)}")
    shown = joined([symbol, element("span", _signed(key, change.change)), interval], " ")
    return element("td", shown, class_=tone)


def _value(key: str, value: float) -> str:
    return f"{value:.{_GAP_DECIMALS}f}" if key.startswith("gap/") else f"{in_points(key, value):.1f}"


def _signed(key: str, value: float) -> str:
    text = signed(value, _GAP_DECIMALS) if key.startswith("gap/") else signed(in_points(key, value))
    return text.replace("-", "−")


MARKS: Final = (
    "Where each intervention takes the held-out images. Dashed: with nothing done; grey: changes that do not count. "
    "Bars: 95 % interval of the change, for all interventions at once."
)
"""What the marks of every chart mean."""


def closing_figures(
    judgement: "Judgement", keys: Sequence[str], measures: Sequence["MeasureAnswer"], look: Look
) -> list[Figure]:
    """A figure for each of the qualities; its words begin with what closing the gap does to it, where that is known."""
    found = {measure.key: f"Closing the gap: {measure.found}." for measure in measures}
    return [_quality_figure(judgement, key, found.get(key, ""), look) for key in keys]


def _quality_figure(judgement: "Judgement", key: str, found: str, look: Look) -> Figure:
    from gapctl.interventions.judge import smallest_effect

    name = key.partition("/")[2].replace("_", "-")
    rows = quality_rows(judgement, key)
    untouched = Untouched(in_points(key, judgement.before[key]), in_points(key, smallest_effect(key)))
    chart = intervention_chart(pl.DataFrame(rows), families(rows), measure_words("gap/l2m"), untouched, look)
    return figure(f"closing-{name}", capital(measure_words(key)), found, chart, look)


def render_closing(
    judgement: "Judgement", answer: "ClosingAnswer", keys: tuple[str, ...], title: str, record: Mapping[str, str]
) -> str:
    """A complete HTML document with a chart for each quality in `keys`; equal arguments give equal text."""
    figures = closing_figures(judgement, keys, answer.measures, PAGE_LOOK)
    content = fill(
        "closing",
        question=QUESTION,
        title=title,
        answer=sentence(answer, judgement),
        split=split_words(judgement),
        measures=_measures(answer),
        figures=section("paths", "Quality against gap", MARKS, [panels(figures)]),
        table=closing_table(judgement),
        facts=facts(dict(record)),
    )
    return document(f"{QUESTION} {title}", content, figures)


def _measures(answer: "ClosingAnswer") -> Html:
    lines = [element("li", measure_line(measure)) for measure in answer.measures]
    lead = f"By those that leave at most half of the gap: {', '.join(answer.closing)}."
    return section("qualities", "What closing it does", lead, [element("ul", joined(lines))] if lines else [])
