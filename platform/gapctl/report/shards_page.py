"""The HTML page of a set of image-text pairs; it needs no network and no other file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import polars as pl

from gapctl.report.html import Html, build_element, fill_template, join_html, render_facts
from gapctl.report.page_parts import render_document, render_panels, render_section
from gapctl_charts.figure import Figure, figure
from gapctl_charts.look import PAGE_LOOK, Look
from gapctl_charts.value_counts import histogram, word_bars

MOST_BARS: Final = 60


class HistogramBar(NamedTuple):
    """The number of samples with a value from `low` up to but not including `high`."""

    low: float
    high: float
    samples: int


@dataclass(frozen=True)
class PairsPage:
    """The contents of the page: a line for each measure with its cells, and how often each value occurs."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    facts: Mapping[str, str]
    caption_words: Mapping[int, int]
    image_sides: Mapping[int, int]
    commonest: Sequence[tuple[str, int]]


def render_pairs_page(page: PairsPage) -> str:
    """Return the complete HTML document; equal records give equal text. Escape words from captions."""
    figures = [
        _plot_histogram("words", "How long captions are", "words of a caption", page.caption_words, PAGE_LOOK),
        _plot_histogram("sides", "How large images are", "shorter side, pixels", page.image_sides, PAGE_LOOK),
        _plot_common_words(page.commonest, PAGE_LOOK),
    ]
    content = fill_template(
        "pairs",
        title=page.title,
        figures=render_section(
            "pictures", "Distributions", "Of the samples that can be used.", [render_panels(figures)]
        ),
        head=join_html((build_element("th", name, scope="col") for name in page.headings), ""),
        rows=join_html(_render_row(row) for row in page.rows),
        facts=render_facts(dict(page.facts)),
    )
    return render_document(page.title, content, figures)


def group_into_bars(counts: Mapping[int, int]) -> list[HistogramBar]:
    """Group counts into at most `MOST_BARS` bars of one width over all values."""
    if not counts:
        return []
    low, high = min(counts), max(counts)
    width = -(-(high - low + 1) // MOST_BARS)
    found = dict.fromkeys(range((high - low) // width + 1), 0)
    for value, count in counts.items():
        found[(value - low) // width] += count
    return [HistogramBar(low + place * width, low + (place + 1) * width, count) for place, count in found.items()]


def _render_row(row: Sequence[str]) -> Html:
    cells = [build_element("th", row[0], scope="row", class_="text"), *(build_element("td", cell) for cell in row[1:])]
    return build_element("tr", join_html(cells, ""))


def _plot_histogram(name: str, title: str, axis: str, counts: Mapping[int, int], look: Look) -> Figure:
    rows = pl.DataFrame(
        group_into_bars(counts), schema={"low": pl.Float64, "high": pl.Float64, "samples": pl.Int64}, orient="row"
    )
    total = sum(counts.values())
    return figure(name, title, f"{total:,} samples.", histogram(rows, axis, look), look)


def _plot_common_words(words: Sequence[tuple[str, int]], look: Look) -> Figure:
    rows = pl.DataFrame(list(words), schema={"word": pl.String, "times": pl.Int64}, orient="row")
    caption = "Case is folded, and a word that stands twice in a caption counts twice."
    return figure("vocabulary", "The commonest words", caption, word_bars(rows, look), look)
