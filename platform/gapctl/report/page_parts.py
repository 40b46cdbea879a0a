"""What every page is made of: its colours, its sections with charts, and the library that draws them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gapctl.report.drawing import vega_code
from gapctl.report.markup import Html, asset, element, fill, javascript, joined, json_in_script
from gapctl.report.packed import packed
from gapctl.report.run_record import RunPages
from gapctl_charts.figure import Figure
from gapctl_charts.look import SHADES, css_variables


def document(title: str, content: Html, figures: Sequence[Figure], run_pages: RunPages | None = None) -> str:
    """A complete HTML page around its content, with the specifications of its charts and what draws them."""
    page = fill(
        "document",
        title=title,
        colours=colours(),
        style=Html(asset("page.css")),
        content=content,
        charts=json_in_script(packed(figures)),
        facts=json_in_script(_facts(run_pages)),
        vega=javascript(vega_code()),
        script=javascript("\n".join(asset(name) for name in ("charts.js", "runs.js", "page.js"))),
    )
    return page.text


def colours() -> Html:
    """The palette as CSS variables, for light and for dark screens."""
    light, dark = css_variables("light"), css_variables("dark")
    return Html(f":root {{ {light} }}\n@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}")


def section(name: str, heading: str, lead: str, parts: Sequence[Html]) -> Html:
    """A headed part of the page; nothing where it has no content."""
    return fill("section", id=name, heading=heading, lead=lead, content=joined(parts)) if parts else Html("")


def panels(figures: Iterable[Figure]) -> Html:
    """Places for charts side by side, each with its words."""
    drawn = (fill("figure", name=figure.name, title=figure.title, caption=figure.caption) for figure in figures)
    return element("div", joined(drawn), class_="panels")


def _facts(run_pages: RunPages | None) -> Mapping[str, Any]:
    """What the page's script needs beside the charts: colours for files, and where MLflow shows each trial."""
    return {
        "paper": {name: shade.light for name, shade in SHADES.items()},
        "mlflow": None if run_pages is None else run_pages.address,
        "pages": {} if run_pages is None else dict(run_pages.pages),
    }
