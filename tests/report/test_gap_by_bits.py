"""The gap against what captions leave unsaid: which sweeps have the figure, and where its points lie."""

from typing import Any

import altair as alt
import polars as pl
import pytest
from analysis_examples import ATTRIBUTES, analysis

from gapctl.analysis.results import AnalysisResults
from gapctl.report.figures import plot_all_figures, plot_gap_by_bits
from gapctl.report.sweep_page import render_report
from gapctl_charts.gap_by_bits import place_names
from gapctl_charts.look import FILE_LOOK, PAGE_LOOK

UNSAID, UNFORESEEABLE = "information/image_given_caption", "information/caption_given_image"
BITS = {"digit": (7.4, 0.0), "drawn": (4.4, 3.3), "all": (0.0, 0.0)}


def with_bits(lengths: tuple[int, ...] = (51_200,), bits: dict[str, tuple[float, float]] = BITS) -> AnalysisResults:
    """A sweep over three kinds of captions and so many lengths of training, three seeds each."""
    shown = analysis({"captions": list(bits), "train.samples": list(lengths)}, metrics=["gap/l2m", "gap/rmg"])
    trials = shown.trials.with_columns(
        pl.col("captions").replace_strict({name: found[0] for name, found in bits.items()}).alias(UNSAID),
        pl.col("captions").replace_strict({name: found[1] for name, found in bits.items()}).alias(UNFORESEEABLE),
        pl.col("train.samples").alias("samples_seen"),
    )
    return analysis(
        {"captions": list(bits), "train.samples": list(lengths)}, metrics=["gap/l2m", "gap/rmg"], trials=trials
    )


def points_of(shown: AnalysisResults, name: str) -> dict[str, dict[str, Any]]:
    (found,) = [figure for figure in plot_gap_by_bits(shown, FILE_LOOK) if figure.name == name]
    alt.Chart.from_dict(dict(found.spec))
    return {row["level"]: row for row in found.spec["datasets"]["captions"]}


def test_each_kind_of_captions_is_a_point_at_its_bits_and_its_mean_gap() -> None:
    shown = with_bits()
    points = points_of(shown, "l2m-by-bits")

    assert {level: (row["unsaid"], row["unforeseeable"]) for level, row in points.items()} == BITS
    for level, row in points.items():
        of_level = shown.trials.filter(pl.col("captions") == level)["gap/l2m"]
        assert row["gap"] == pytest.approx(of_level.mean())
        assert row["trainings"] == 3
    assert [level for level, row in points.items() if row["series"] == "cannot be foreseen"] == ["drawn"]


def test_no_name_lies_over_another_name_or_point() -> None:
    crowd = [("digit", 7.4, 0.6), ("digit-synonyms", 7.4, 0.61), ("all", 0.0, 0.12), ("all-synonyms", 0.0, 0.13)]
    captions = pl.DataFrame([*crowd, ("scale", 3.0, 0.3)], schema=["level", "unsaid", "gap"], orient="row")

    sides = dict(place_names(captions, FILE_LOOK).select("level", "side").iter_rows())

    assert sides == {"digit": "left", "digit-synonyms": "", "all": "right", "all-synonyms": "", "scale": "right"}


def test_each_length_of_training_has_a_figure_of_its_own() -> None:
    shown = with_bits(lengths=(12_800, 51_200))
    early = shown.trials.filter((pl.col("samples_seen") == 12_800) & (pl.col("captions") == "all"))["gap/rmg"].mean()

    names = [figure.name for figure in plot_gap_by_bits(shown, FILE_LOOK)]

    assert names == ["l2m-by-bits-12800", "rmg-by-bits-12800", "l2m-by-bits-51200", "rmg-by-bits-51200"]
    assert points_of(shown, "rmg-by-bits-12800")["all"]["gap"] == pytest.approx(early)
    assert set(names) <= {figure.name for figure in plot_all_figures(shown, FILE_LOOK)}


def test_a_page_shows_it_below_a_heading_of_its_own_and_others_have_none() -> None:
    assert ">Gap and information<" in render_report(with_bits())
    assert ">Gap and information<" not in render_report(analysis())


def test_sweeps_whose_captions_have_numbers_or_too_few_kinds_or_no_bits_have_none() -> None:
    numbers = analysis({ATTRIBUTES: [0, 1, 5]}, metrics=["gap/l2m"])
    counted = numbers.trials.with_columns(
        (7 - pl.col(ATTRIBUTES)).cast(pl.Float64).alias(UNSAID), pl.lit(0.0).alias(UNFORESEEABLE)
    )

    assert plot_gap_by_bits(numbers, PAGE_LOOK) == []
    assert plot_gap_by_bits(analysis({ATTRIBUTES: [0, 1, 5]}, metrics=["gap/l2m"], trials=counted), PAGE_LOOK) == []
    assert plot_gap_by_bits(with_bits(bits={"digit": (7.4, 0.0), "all": (0.0, 0.0)}), PAGE_LOOK) == []
