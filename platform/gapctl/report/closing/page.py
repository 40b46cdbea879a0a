"""One HTML page on whether closing the gap helps; it needs no network and no other file."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gapctl.report.closing.figures import MARKS, closing_figures
from gapctl.report.closing.table import closing_table
from gapctl.report.closing.words import QUESTION, measure_line, sentence, split_words
from gapctl.report.markup import Html, element, facts, fill, joined
from gapctl.report.page_parts import document, panels, section
from gapctl_charts.look import PAGE_LOOK

if TYPE_CHECKING:
    from gapctl.interventions.answer import ClosingAnswer
    from gapctl.interventions.judge import Judgement


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
