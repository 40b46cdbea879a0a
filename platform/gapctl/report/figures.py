"""All figures of an analysis, for a page or as PNG and SVG files."""

import json
import re
from typing import Final, NamedTuple

from gapctl.analysis.results import Analysis
from gapctl.report.dose import dose_figures
from gapctl.report.figure import Figure
from gapctl.report.forest import forest_figure, strip_figure
from gapctl.report.levels import Factor, factors_of
from gapctl.report.palette import FILE_LOOK, Look
from gapctl.report.paths import path_figures

PIXELS_PER_POINT: Final = 2.0


class Responses(NamedTuple):
    """The dose-response charts of one factor."""

    factor: Factor
    figures: list[Figure]


class Picture(NamedTuple):
    """A figure as PNG, with the name of its file and its words."""

    name: str
    title: str
    caption: str
    png: bytes


def responses(analysis: Analysis, look: Look) -> list[Responses]:
    """The dose-response charts of every factor; a metric that no trial has gets none."""
    factors = factors_of(analysis)
    return [
        Responses(factor, dose_figures(analysis, factor, [other for other in factors if other is not factor], look))
        for factor in factors
    ]


def training_figures(analysis: Analysis, look: Look) -> list[Figure]:
    """The training paths of the gap and the temperature."""
    return path_figures(analysis, factors_of(analysis), look)


def strip_figures(analysis: Analysis, look: Look) -> dict[str, Figure]:
    """A small chart per hypothesis that has an estimate, by its id."""
    drawn = {verdict.id: strip_figure(verdict, analysis.alpha, look) for verdict in analysis.verdicts}
    return {name: figure for name, figure in drawn.items() if figure is not None}


def figure_files(analysis: Analysis) -> dict[str, bytes]:
    """File name to content: each figure as PNG, twice its nominal size, and as SVG; drawn without a network.

    Equal analyses give equal bytes.
    """
    files = {}
    for figure in _figures(analysis):
        svg = _svg(figure)
        files[f"{_slug(figure.name)}.png"] = _png(svg)
        files[f"{_slug(figure.name)}.svg"] = svg.encode()
    return files


def pictures(analysis: Analysis) -> list[Picture]:
    """The same figures for a text that brings its own captions."""
    return [
        Picture(f"{_slug(figure.name)}.png", figure.title, figure.caption, _png(_svg(figure)))
        for figure in _figures(analysis)
    ]


def _figures(analysis: Analysis) -> list[Figure]:
    forest = forest_figure(analysis, FILE_LOOK)
    doses = [figure for response in responses(analysis, FILE_LOOK) for figure in response.figures]
    return [*([forest] if forest else []), *doses, *training_figures(analysis, FILE_LOOK)]


def vega_lite_version() -> str:
    """The Vega-Lite that the charts are written in, as vl_convert names it."""
    import altair as alt

    return ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


def _svg(figure: Figure) -> str:
    import vl_convert

    svg = vl_convert.vegalite_to_svg(json.dumps(figure.spec), vl_version=vega_lite_version(), allowed_base_urls=[])
    return str(svg)


def _png(svg: str) -> bytes:
    import vl_convert

    return bytes(vl_convert.svg_to_png(svg, scale=PIXELS_PER_POINT))


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
