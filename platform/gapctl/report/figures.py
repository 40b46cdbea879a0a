"""All figures of an analysis, for a page or as PNG and SVG files."""

import re
from typing import Final, NamedTuple

from gapctl.analysis.results import Analysis
from gapctl.report.by_dimension import dimension_figures
from gapctl.report.dose import dose_figure, dose_figures
from gapctl.report.drawing import png_of, svg_of
from gapctl.report.factor_by_factor import factor_figures
from gapctl.report.gap_and_quality import quality_figures
from gapctl.report.levels import factors_of
from gapctl.report.paths import path_figures
from gapctl.report.run_record import RunRecord
from gapctl.report.strips import forest_figure, strip_figure
from gapctl_charts.factor import Factor
from gapctl_charts.figure import Figure, trusted
from gapctl_charts.look import FILE_LOOK, Look

NOTHING_MORE: Final = RunRecord()


class Responses(NamedTuple):
    """The dose-response figures of one factor."""

    factor: Factor
    figures: list[Figure]


class Picture(NamedTuple):
    """A figure as PNG, with the name of its file and its words."""

    name: str
    title: str
    caption: str
    png: bytes


def responses(analysis: Analysis, look: Look) -> list[Responses]:
    """The dose-response figures of every factor; a metric that no trial has gets none."""
    factors = factors_of(analysis)
    return [Responses(factor, dose_figures(analysis, factor, _others(factors, factor), look)) for factor in factors]


def response_figure(analysis: Analysis, factor: str, metric: str, look: Look) -> Figure | None:
    """The figure of one metric alone by the factor of this path; None where it has none, or shares one with others."""
    factors = factors_of(analysis)
    asked = [each for each in factors if each.path == factor]
    drawn = [dose_figure(analysis, each, _others(factors, each), look, metric) for each in asked]
    return next(iter(drawn), None)


def kept_figures(analysis: Analysis, look: Look) -> list[Responses]:
    """What embeddings keep of each factor of the images, by every factor of the sweep."""
    factors = factors_of(analysis)
    return [Responses(factor, factor_figures(analysis, factor, _others(factors, factor), look)) for factor in factors]


def training_figures(analysis: Analysis, look: Look) -> list[Figure]:
    """The training paths of gap, temperature, entropy and loss."""
    return path_figures(analysis, factors_of(analysis), look)


def gap_figures(analysis: Analysis, look: Look, record: RunRecord) -> list[Figure]:
    """The gap by dimension, coloured by the first factor."""
    factors = factors_of(analysis)
    return dimension_figures(analysis, factors[0], record.dimensions, look) if factors else []


def together_figures(analysis: Analysis, look: Look, record: RunRecord) -> list[Figure]:
    """The gap against qualities."""
    return quality_figures(analysis, factors_of(analysis), look, record.settings)


def strip_figures(analysis: Analysis, look: Look) -> dict[str, Figure]:
    """A small chart per hypothesis that has an estimate, by its id."""
    drawn = {verdict.id: strip_figure(verdict, analysis.alpha, look) for verdict in analysis.verdicts}
    return {name: figure for name, figure in drawn.items() if figure is not None}


def all_figures(analysis: Analysis, look: Look, record: RunRecord = NOTHING_MORE) -> list[Figure]:
    """Every figure that a file can hold, in the page's order; the verdicts are one."""
    forest = forest_figure(analysis, look)
    by_factor = [*responses(analysis, look), *kept_figures(analysis, look)]
    return [
        *([forest] if forest else []),
        *(figure for group in by_factor for figure in group.figures),
        *training_figures(analysis, look),
        *gap_figures(analysis, look, record),
        *together_figures(analysis, look, record),
    ]


def figure_files(analysis: Analysis, record: RunRecord = NOTHING_MORE) -> dict[str, bytes]:
    """File name to content: each figure as PNG, twice its nominal size, and as SVG; drawn without a network.

    Equal analyses give equal bytes.
    """
    files = {}
    with trusted():
        figures = all_figures(analysis, FILE_LOOK, record)
    for figure in figures:
        svg = svg_of(figure)
        files[f"{_slug(figure.name)}.png"] = png_of(svg)
        files[f"{_slug(figure.name)}.svg"] = svg.encode()
    return files


def pictures(analysis: Analysis, record: RunRecord = NOTHING_MORE) -> list[Picture]:
    """The same figures for a text that brings its own captions."""
    with trusted():
        figures = all_figures(analysis, FILE_LOOK, record)
    return [
        Picture(f"{_slug(figure.name)}.png", figure.title, figure.caption, png_of(svg_of(figure))) for figure in figures
    ]


def _others(factors: tuple[Factor, ...], factor: Factor) -> list[Factor]:
    return [other for other in factors if other is not factor]


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
