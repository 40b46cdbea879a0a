"""One HTML page on a set of embeddings; it needs no network and no other file."""

from itertools import groupby

from gapctl.report.markup import Html, element, facts, fill, joined
from gapctl.report.measured.figures import measured_figures
from gapctl.report.measured.record import Line, Measured
from gapctl.report.page_parts import document, panels, section
from gapctl_charts.look import PAGE_LOOK


def render_measured(measured: Measured) -> str:
    """A complete HTML document; equal records give equal text. Texts of the user's are escaped."""
    figures = measured_figures(measured, PAGE_LOOK)
    lead = "Rows are normalised; points and unmatched pairs are samples, the same each time."
    content = fill(
        "measured",
        title=measured.title,
        notes=joined(element("p", note, class_="notice") for note in measured.notes),
        figures=section("pictures", "Pictures", lead, [panels(figures)]),
        measures=joined(_group(name, list(lines)) for name, lines in groupby(measured.lines, _group_of)),
        facts=facts(dict(measured.facts)),
    )
    return document(measured.title, content, figures)


def _group_of(line: Line) -> str:
    return line.key.split("/", 1)[0]


def _group(name: str, lines: list[Line]) -> Html:
    rows = joined(_row(line) for line in lines)
    return fill("measured_group", name=name, rows=rows)


def _row(line: Line) -> Html:
    cells = [
        element("th", line.key.split("/", 1)[-1], scope="row", class_="text"),
        element("td", line.value),
        element("td", line.meaning, class_="text prose"),
    ]
    return element("tr", joined(cells, ""))
