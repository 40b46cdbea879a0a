"""One HTML page that answers a sweep's question; it needs no network and no other file."""

from collections.abc import Mapping, Sequence
from typing import Final

from gapctl.analysis.results import Analysis
from gapctl.report.figures import (
    NOTHING_MORE,
    Responses,
    gap_figures,
    kept_figures,
    responses,
    strip_figures,
    together_figures,
    training_figures,
)
from gapctl.report.markup import Html, asset, element, fill, joined
from gapctl.report.page_parts import document, panels, section
from gapctl.report.run_record import RunRecord
from gapctl.report.standing import kicker, notices, summary
from gapctl.report.trial_table import trial_table
from gapctl.report.verdict_cards import verdict_cards
from gapctl.report.what_was_run import what_was_run
from gapctl_charts.figure import Figure, trusted
from gapctl_charts.look import PAGE_LOOK

DESCRIPTIVE: Final = (
    "Descriptive: the treatment moves both, so that what goes together here need not cause one another. "
    "Trainings of equal treatment differ by their seed alone."
)

NOT_KEPT: Final = "None of these trainings kept its mean embeddings, so there is nothing to show here."
CONTENTS: Final = {
    "responses": "Treatment",
    "paths": "Training",
    "kept": "Factors",
    "dimensions": "Dimensions",
    "together": "Quality",
    "trainings": "Every training",
    "record": "What was run",
    "again": "Running it again",
}


def render_report(analysis: Analysis, record: RunRecord = NOTHING_MORE) -> str:
    """A complete HTML document.

    The same arguments give the same text: it holds no time and nothing random. Vega is in it once, scripts and
    styles are inline, and its security policy forbids loading anything. Texts from the sweep file are escaped.
    """
    with trusted():
        return _render(analysis, record)


def _render(analysis: Analysis, record: RunRecord) -> str:
    strips = strip_figures(analysis, PAGE_LOOK)
    doses, kept = responses(analysis, PAGE_LOOK), kept_figures(analysis, PAGE_LOOK)
    paths, dimensions = training_figures(analysis, PAGE_LOOK), gap_figures(analysis, PAGE_LOOK, record)
    together = together_figures(analysis, PAGE_LOOK, record)
    by_factor = [figure for group in (*doses, *kept) for figure in group.figures]
    shown = {
        "responses": _by_factor("responses", "What the treatment did", _treatment(doses), doses),
        "paths": _plain("paths", "While training", "What each training measured on its way.", paths),
        "kept": _by_factor("kept", "Factor by factor", "What embeddings keep of each factor of the images.", kept),
        "dimensions": _dimensions(dimensions, record),
        "together": _plain("together", "Gap and quality", DESCRIPTIVE, together),
    }
    content = fill(
        "page",
        kicker=kicker(analysis),
        question=analysis.question,
        summary=summary(analysis),
        notices=notices(analysis, record),
        verdicts=verdict_cards(analysis, strips),
        meaning=fill("meaning", alpha=f"{analysis.alpha:g}") if analysis.verdicts else Html(""),
        contents=_contents(shown),
        hint=Html(asset("hint.html")) if by_factor else Html(""),
        figures=joined(shown.values()),
        trials=trial_table(analysis, record.run_pages),
        record=what_was_run(analysis, record),
    )
    drawn = [*strips.values(), *by_factor, *paths, *dimensions, *together]
    return document(f"{analysis.sweep}: {analysis.question}", content, drawn, record.run_pages)


def _contents(shown: Mapping[str, Html]) -> Html:
    present = {name: words for name, words in CONTENTS.items() if name not in shown or shown[name].text}
    links = (element("a", words, href=f"#{name}") for name, words in present.items())
    return element("nav", joined(links), class_="contents", aria_label="Contents")


def _dimensions(figures: Sequence[Figure], record: RunRecord) -> Html:
    heading = "Which dimensions carry the gap"
    if figures or record.recipe is None:
        return _plain("dimensions", heading, "At the end of training.", figures)
    return section("dimensions", heading, NOT_KEPT, [Html("")])


def _treatment(doses: Sequence[Responses]) -> str:
    listed = "; ".join(f"{dose.factor.words}: {', '.join(dose.factor.levels)}" for dose in doses)
    return f"Treatment: {listed}."


def _by_factor(name: str, heading: str, lead: str, groups: Sequence[Responses]) -> Html:
    drawn = [group for group in groups if group.figures]
    headed = len(drawn) > 1
    return section(name, heading, lead, [part for group in drawn for part in _group(group, headed)])


def _group(group: Responses, headed: bool) -> list[Html]:
    heading = [element("h3", f"By {group.factor.words}")] if headed else []
    return [*heading, panels(group.figures)]


def _plain(name: str, heading: str, lead: str, figures: Sequence[Figure]) -> Html:
    return section(name, heading, lead, [panels(figures)] if figures else [])
