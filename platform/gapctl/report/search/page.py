"""One HTML page on what a search found; it needs no network and no other file."""

import math

from gapctl.ledger.search_record import Drawn, SearchRecord
from gapctl.plan.trials import Plan
from gapctl.report.commands import Commands
from gapctl.report.markup import Html, element, fill, joined
from gapctl.report.page_parts import document, panels, section
from gapctl.report.run_record import RunPages
from gapctl.report.search.figures import point_words, search_figures
from gapctl.report.search.words import CAUTION, as_options, as_yaml, standing
from gapctl.report.trial_table import trial_link
from gapctl.report.words import NOT_KNOWN, number
from gapctl.spec.search import Search
from gapctl_charts.figure import trusted
from gapctl_charts.look import PAGE_LOOK


def render_search(
    plan: Plan, search: Search, record: SearchRecord, commands: Commands, run_pages: RunPages | None = None
) -> str:
    """A complete HTML document: the best point, the charts, every point, and how to run it again.

    Equal arguments give equal text.
    """
    spec = plan.sweep.spec
    with trusted():
        figures = search_figures(search, record, PAGE_LOOK)
    scale = f" · scale {plan.sweep.scale}" if plan.sweep.scale else ""
    content = fill(
        "search",
        kicker=f"gapctl · search {spec.name}{scale}",
        question=spec.question,
        summary=standing(record),
        best=_best(record.best),
        caution=CAUTION,
        figures=section("figures", "The search", "Every point that was drawn.", [panels(figures)] if figures else []),
        points=_points(record, run_pages),
        again=commands.sweep,
        study=record.study,
    )
    return document(f"{spec.name}: {spec.question}", content, figures, run_pages)


def _best(best: Drawn | None) -> Html:
    if best is None:
        return element("p", "No point was trained to its end yet.")
    return joined([element("pre", as_options(best)), element("pre", as_yaml(best))])


def _points(record: SearchRecord, run_pages: RunPages | None) -> Html:
    texts = ("point", "trial", "ended")
    heads = [*texts, "drawn as", "samples", record.metric]
    headings = [
        element("th", element("button", name, type="button"), scope="col", class_="text" if name in texts else "number")
        for name in heads
    ]
    rows = [_row(drawn, run_pages) for drawn in record.ranked]
    head = element("thead", element("tr", joined(headings, "")))
    table = element("table", joined([head, element("tbody", joined(rows))]), class_="sortable")
    return element("div", table, class_="scroll", tabindex="0", role="region", aria_label="Table of points")


def _row(drawn: Drawn, run_pages: RunPages | None) -> Html:
    value = number(drawn.value) if math.isfinite(drawn.value) else NOT_KNOWN
    cells = [
        element("th", point_words(drawn.point), scope="row", class_="text"),
        element("td", trial_link(drawn.trial, run_pages), class_="text"),
        element("td", drawn.state, class_="text"),
        element("td", str(drawn.number), data_value=str(drawn.number)),
        element("td", f"{drawn.samples_seen:,}", data_value=str(drawn.samples_seen)),
        element("td", value, data_value=repr(drawn.value) if math.isfinite(drawn.value) else "NaN"),
    ]
    return element("tr", joined(cells, ""), id=f"trial-{drawn.trial}")
