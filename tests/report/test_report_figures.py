"""Figures show every seed, the mean and its interval, whatever was varied and whatever is missing."""

import struct
from dataclasses import replace
from functools import cache
from typing import Any

import polars as pl
import pytest
from analysis_examples import ATTRIBUTES, METRICS, REFUTED, SUPPORTED, Levels, analysis

from gapctl.analysis.results import AnalysisResults, Interval
from gapctl.report.figures import (
    plot_forest,
    plot_hypothesis_strips,
    plot_responses_by_factor,
    plot_training_curves,
    render_figure_files,
)
from gapctl_charts.figure import BOLD_LENGTH, LINE_LENGTH
from gapctl_charts.look import FILE_LOOK, PAGE_LOOK, SHADES

PNG = b"\x89PNG\r\n\x1a\n"
MODES = {"temperature.mode": ["learned", "fixed"]}
FEW_METRICS = ("gap/rmg", "bias/moad_image")
ORDERS = {"data.captions.order": ["shuffled", "canonical", "alphabetic"]}


def specs_of(shown: AnalysisResults) -> dict[str, dict[str, Any]]:
    drawn = [figure for response in plot_responses_by_factor(shown, FILE_LOOK) for figure in response.figures]
    return {figure.name: dict(figure.spec) for figure in (*drawn, *plot_training_curves(shown, FILE_LOOK))}


def spec_of(shown: AnalysisResults, name: str) -> dict[str, Any]:
    return specs_of(shown)[name]


@cache
def usual_specs() -> dict[str, dict[str, Any]]:
    """The figures of the usual analysis, which many tests look at."""
    return specs_of(analysis())


def names_of(shown: AnalysisResults) -> list[str]:
    return [figure.name for response in plot_responses_by_factor(shown, FILE_LOOK) for figure in response.figures]


def layers(spec: dict[str, Any], mark: str) -> list[dict[str, Any]]:
    return [layer for layer in spec["layer"] if layer["mark"]["type"] == mark]


def rows(spec: dict[str, Any], layer: dict[str, Any]) -> list[dict[str, Any]]:
    data = layer.get("data", spec.get("data"))
    return list(data["values"] if "values" in data else spec["datasets"][data["name"]])


def test_every_seed_is_a_point_at_its_own_value() -> None:
    shown = analysis()
    spec = spec_of(shown, "rmg-by-attributes")
    (points,) = layers(spec, "point")

    assert [row["value"] for row in rows(spec, points)] == shown.trials["gap/rmg"].to_list()
    assert [row["place"] for row in rows(spec, points)] == [float(k) for k in shown.trials[ATTRIBUTES]]
    assert {item["field"] for item in points["encoding"]["tooltip"]} == {"label", "seed", "level", "value", "trial"}


def test_mean_and_interval_are_those_of_the_analysis() -> None:
    shown = analysis()
    spec = spec_of(shown, "entropy-by-attributes")
    curve = shown.curves.filter(pl.col("metric") == "entropy/i2t_nats").sort("position")
    (line,), (band,) = layers(spec, "line"), layers(spec, "area")

    assert [row["value"] for row in rows(spec, line)] == curve["mean"].to_list()
    assert [(row["low"], row["high"]) for row in rows(spec, band)] == list(curve.select("low", "high").iter_rows())


def test_image_and_text_bias_share_a_chart_with_two_colours_and_two_shapes() -> None:
    spec = usual_specs()["moad-by-attributes"]
    (points,) = layers(spec, "point")

    assert {row["series"] for row in rows(spec, points)} == {"images", "texts"}
    for channel in ("color", "shape"):
        scale = points["encoding"][channel]["scale"]
        assert scale["domain"] == ["images", "texts"]
        assert len(set(scale["range"])) == 2


@pytest.mark.parametrize("name", ["rmg-by-attributes", "l2m-by-attributes", "moad-by-attributes"])
def test_there_is_a_zero_line_where_zero_means_no_effect(name: str) -> None:
    spec = usual_specs()[name]

    assert [0] in [[row["value"] for row in rows(spec, layer)] for layer in layers(spec, "rule")[:1]]


def test_entropy_has_no_zero_line() -> None:
    spec = usual_specs()["entropy-by-attributes"]

    assert all("y2" in layer["encoding"] for layer in layers(spec, "rule"))
    assert spec["layer"][0]["encoding"]["y"]["scale"]["zero"] is False


def test_entropy_is_set_against_the_gallery_where_its_size_is_known() -> None:
    sized = analysis(metrics=[*METRICS, "entropy/gallery"])
    sized = replace(sized, trials=sized.trials.with_columns(pl.lit(4096.0).alias("entropy/gallery")))

    assert "Equal shares for all 4,096 texts would give 8.32." in spec_of(sized, "entropy-by-attributes")["description"]
    assert "Equal shares" not in usual_specs()["entropy-by-attributes"]["description"]


def test_one_seed_is_points_without_intervals() -> None:
    spec = spec_of(analysis(seeds=1), "rmg-by-attributes")

    assert not [layer for layer in spec["layer"] if layer["encoding"].get("y2", {}).get("field") == "high"]
    assert len(rows(spec, layers(spec, "point")[0])) == 6
    assert "One seed, so no interval." in spec["description"]


def test_categories_keep_the_order_of_the_file_and_are_not_joined() -> None:
    spec = spec_of(analysis(ORDERS), "rmg-by-order")
    (points,) = layers(spec, "point")

    assert points["encoding"]["x"]["sort"] == ["shuffled", "canonical", "alphabetic"]
    assert not layers(spec, "line")
    assert not layers(spec, "area")
    assert layers(spec, "tick")


def test_truth_values_are_categories() -> None:
    spec = spec_of(analysis({"model.tied": [True, False]}), "rmg-by-tied")

    assert layers(spec, "point")[0]["encoding"]["x"]["sort"] == ["true", "false"]
    assert {row["place"] for row in rows(spec, layers(spec, "tick")[0])} == {"true", "false"}


@pytest.mark.parametrize(
    ("levels", "kind"),
    [
        ([0, 1, 2, 3, 4, 5], "linear"),
        ([5, 0], "linear"),
        ([1e-4, 1e-3, 1e-2], "log"),
        ([16, 64, 256, 1024], "log"),
        ([10, 20, 50], "linear"),
        ([0, 1, 1000], None),
        ([7], "linear"),
    ],
)
def test_numbers_get_the_axis_that_tells_them_apart(levels: list[float], kind: str | None) -> None:
    x = layers(spec_of(analysis({"train.lr": levels}), "rmg-by-lr"), "point")[0]["encoding"]["x"]

    assert x["scale"].get("type") == kind
    assert x["type"] == ("quantitative" if kind else "ordinal")
    if kind is None:
        assert x["sort"] == ["0", "1", "1000"]


def test_whole_and_broken_numbers_of_one_factor_meet_on_one_axis() -> None:
    shown = analysis({"train.lr": [1.0, 2.5]})
    whole = shown.curves.with_columns(pl.col("level").replace("1.0", "1"))
    spec = spec_of(replace(shown, curves=whole), "rmg-by-lr")

    assert {row["place"] for row in rows(spec, layers(spec, "line")[0])} == {1.0, 2.5}


def test_a_second_factor_colours_the_seeds_and_the_lines() -> None:
    shown = analysis({ATTRIBUTES: [0, 5], **MODES})
    spec = spec_of(shown, "rmg-by-attributes")
    (points,) = layers(spec, "point")
    thin = spec["datasets"]["mean of an arm"]
    expected = shown.trials.group_by(ATTRIBUTES, "temperature.mode").agg(pl.col("gap/rmg").mean())

    assert points["encoding"]["color"]["scale"]["domain"] == ["learned", "fixed"]
    assert len(rows(spec, points)) == 12
    assert {(row["level"], row["series"]): row["value"] for row in thin} == {
        (str(level), mode): pytest.approx(mean) for level, mode, mean in expected.iter_rows()
    }


def test_every_factor_gets_its_charts() -> None:
    names = names_of(analysis({ATTRIBUTES: [0, 5], **MODES}))

    assert {"rmg-by-attributes", "rmg-by-mode", "moad-images-by-mode", "moad-texts-by-mode"} < set(names)
    assert len(names) == len(set(names)) == 10


@pytest.mark.parametrize("missing", ["absent", "null", "nan"])
def test_a_metric_that_was_not_measured_has_no_chart(missing: str) -> None:
    shown = analysis()
    column = {"null": pl.lit(None, pl.Float64), "nan": pl.lit(float("nan"))}.get(missing)
    trials = shown.trials.drop("gap/l2m") if column is None else shown.trials.with_columns(column.alias("gap/l2m"))

    assert names_of(replace(shown, trials=trials)) == [
        "rmg-by-attributes",
        "moad-by-attributes",
        "entropy-by-attributes",
    ]


def test_bias_of_one_modality_alone_still_has_a_chart() -> None:
    metrics = [metric for metric in METRICS if metric != "bias/moad_image"]
    spec = spec_of(analysis(metrics=metrics), "moad-by-attributes")

    assert {row["series"] for row in rows(spec, layers(spec, "point")[0])} == {"texts"}
    assert "text embeddings" in spec["description"]


def test_training_paths_have_a_line_per_trial_coloured_by_level() -> None:
    shown = analysis()
    spec = spec_of(shown, "path-temperature")
    (line,) = layers(spec, "line")

    assert line["encoding"]["detail"]["field"] == "trial"
    assert {row["trial"] for row in rows(spec, line)} == set(shown.trials["trial"])
    assert line["encoding"]["color"]["scale"]["domain"] == ["0", "1", "2", "3", "4", "5"]
    assert len(set(line["encoding"]["color"]["scale"]["range"])) == 6


def test_a_second_factor_dashes_the_training_paths() -> None:
    spec = spec_of(analysis({ATTRIBUTES: [0, 5], **MODES}), "path-rmg")

    assert layers(spec, "line")[0]["encoding"]["strokeDash"]["scale"]["domain"] == ["learned", "fixed"]


def test_a_strip_shows_estimate_interval_and_the_band_that_does_not_count() -> None:
    spec = dict(plot_hypothesis_strips(analysis(verdicts=[SUPPORTED]), PAGE_LOOK)[SUPPORTED.id].spec)
    (row,) = rows(spec, layers(spec, "point")[0])

    assert row == {"estimate": -0.0531, "low": -0.0612, "high": -0.045, "band_low": -0.02, "band_high": 0.02}
    low, high = layers(spec, "point")[0]["encoding"]["x"]["scale"]["domain"]
    assert low < -0.0612
    assert high > 0.02


def test_a_strip_without_an_interval_is_a_point() -> None:
    alone = replace(REFUTED, ci=Interval(float("nan"), float("nan")), smallest_effect=0.0)
    spec = dict(plot_hypothesis_strips(analysis(verdicts=[alone]), PAGE_LOOK)[alone.id].spec)

    assert not [layer for layer in layers(spec, "rule") if "x2" in layer["encoding"]]
    assert rows(spec, layers(spec, "point")[0])[0]["low"] is None


@pytest.mark.parametrize(
    ("levels", "seeds"),
    [
        ({ATTRIBUTES: [0, 1, 2, 3, 4, 5]}, 3),
        ({ATTRIBUTES: [0, 5]}, 1),
        (ORDERS, 2),
        ({ATTRIBUTES: [0, 5], **MODES}, 2),
        ({"train.lr": [1e-4, 1e-3], **ORDERS, "loss.weight": [0.5, 1]}, 1),
    ],
    ids=["one factor", "one seed", "categories", "two factors", "three factors"],
)
def test_files_are_drawn_for_every_kind_of_sweep(levels: Levels, seeds: int) -> None:
    files = render_figure_files(analysis(levels, seeds=seeds, metrics=FEW_METRICS))
    pictures = {name: content for name, content in files.items() if name.endswith(".png")}
    drawings = {name: content for name, content in files.items() if name.endswith(".svg")}

    assert {name.removesuffix(".png") for name in pictures} == {name.removesuffix(".svg") for name in drawings}
    assert "verdicts.png" in pictures
    for content in pictures.values():
        assert content.startswith(PNG)
        assert struct.unpack(">I", content[16:20])[0] > 900
    for content in drawings.values():
        assert content.startswith(b"<svg")
        assert b"NaN" not in content
        assert b"var(--" not in content


def test_files_are_equal_for_equal_analyses() -> None:
    before = render_figure_files(analysis({ATTRIBUTES: [0, 5]}, metrics=FEW_METRICS))
    render_figure_files(analysis(ORDERS, seeds=1, metrics=FEW_METRICS[:1]))

    assert render_figure_files(analysis({ATTRIBUTES: [0, 5]}, metrics=FEW_METRICS)) == before


def test_an_empty_sweep_draws_only_its_verdicts() -> None:
    full = analysis()
    empty = replace(full, trials=full.trials.clear(), curves=full.curves.clear(), history=full.history.clear())

    assert set(render_figure_files(empty)) == {"verdicts.png", "verdicts.svg"}


@pytest.mark.parametrize("name", ["ink", "muted", "supported", "refuted", "inconclusive", "alert"])
def test_words_stand_out_from_their_ground_in_light_and_dark(name: str) -> None:
    for mode in ("light", "dark"):
        grounds = [getattr(SHADES[ground], mode) for ground in ("surface", "ground")]
        assert all(contrast(getattr(SHADES[name], mode), ground) >= 4.5 for ground in grounds)


def contrast(one: str, other: str) -> float:
    """WCAG 2.1's contrast ratio of two colours."""
    bright, dim = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_a_files_lines_leave_room_for_a_wider_font() -> None:
    verdict = replace(SUPPORTED, id="-".join(["long"] * 25), claim="A claim of many words. " * 20, exploratory=True)
    drawn = plot_forest(replace(analysis(), verdicts=(verdict,)), FILE_LOOK)
    assert drawn is not None
    (strip,) = drawn.spec["vconcat"]
    title = strip["title"]

    assert max(len(line) for line in [*title["subtitle"], *drawn.spec["title"]["subtitle"]]) <= LINE_LENGTH
    assert max(len(line) for line in title["text"]) <= BOLD_LENGTH
    assert len(title["text"]) > 1
