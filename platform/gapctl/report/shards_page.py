"""The HTML page of a set of image-text pairs; it needs no network and no other file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import polars as pl

from gapctl.report.html import render_page
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
    words = pl.DataFrame(list(page.commonest), schema={"word": pl.String, "times": pl.Int64}, orient="row")
    caption = "Case is folded, and a word that stands twice in a caption counts twice."
    figures = [
        _plot_histogram("words", "How long captions are", "words of a caption", page.caption_words, PAGE_LOOK),
        _plot_histogram("sides", "How large images are", "shorter side, pixels", page.image_sides, PAGE_LOOK),
        figure("vocabulary", "The commonest words", caption, word_bars(words, PAGE_LOOK), PAGE_LOOK),
    ]
    return render_page("shards", page.title, figures, headings=page.headings, rows=page.rows, record=page.facts)


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


def _plot_histogram(name: str, title: str, axis: str, counts: Mapping[int, int], look: Look) -> Figure:
    rows = pl.DataFrame(
        group_into_bars(counts), schema={"low": pl.Float64, "high": pl.Float64, "samples": pl.Int64}, orient="row"
    )
    total = sum(counts.values())
    return figure(name, title, f"{total:,} samples.", histogram(rows, axis, look), look)
