"""What every page is made of: its colours, its sections with charts, and the library that draws them."""

from collections.abc import Iterable, Sequence
from functools import cache

from gapctl.report.figure import Figure
from gapctl.report.figures import vega_lite_version
from gapctl.report.markup import Html, asset, element, fill, javascript, joined, json_in_script
from gapctl.report.palette import css_variables


def document(title: str, content: Html, figures: Sequence[Figure]) -> str:
    """A complete HTML page around its content, with the specifications of its charts and what draws them."""
    page = fill(
        "document",
        title=title,
        colours=colours(),
        style=Html(asset("page.css")),
        content=content,
        charts=json_in_script({figure.name: figure.spec for figure in figures}),
        vega=javascript(vega()),
        script=javascript(asset("page.js")),
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


@cache
def vega() -> str:
    """The chart library's code, which a page needs once."""
    import vl_convert

    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=vega_lite_version()))
