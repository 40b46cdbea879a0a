"""All figures of an analysis, for a page or as PNG and SVG files."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, pairwise
from textwrap import wrap
from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl

from gapctl.analysis.results import Analysis, Verdict
from gapctl.plan.plan import short_names
from gapctl.report.html import png_of, svg_of
from gapctl.report.page_parts import RunRecord
from gapctl.report.text import (
    NOT_KNOWN,
    as_declared,
    capital,
    confidence,
    effect_name,
    factor_words,
    in_brackets,
    interval_words,
    listed,
    meaning,
    metric_name,
    unit,
    where_words,
    with_unit,
)
from gapctl_charts.data import Drawing
from gapctl_charts.dimension_profile import Shown, profile_chart
from gapctl_charts.dose_response import Response, response_chart
from gapctl_charts.factor import Factor, Kind, plain
from gapctl_charts.figure import BOLD_LENGTH, LINE_LENGTH, Figure, figure, trusted
from gapctl_charts.forest import Headed, forest_chart
from gapctl_charts.look import FILE_LOOK, Look
from gapctl_charts.tradeoff import tradeoff_chart
from gapctl_charts.training_path import is_dashed, path_chart
from gapctl_charts.verdict_strip import Strip, strip_chart

Row = dict[str, Any]


class Series(NamedTuple):
    """One metric of a chart, and what the legend calls it."""

    metric: str
    name: str


def seed_rows(analysis: Analysis, series: Sequence[Series], factor: Factor, other: Factor | None) -> pl.DataFrame:
    """A row per trial and metric; its series is the metric's name, or the level of the other factor."""
    return frame(
        {
            "place": factor.place(row[factor.path]),
            "level": factor.text(row[factor.path]),
            "value": row[metric],
            "series": name if other is None else other.text(row[other.path]),
            **identity(row),
        }
        for metric, name in series
        for row in measured(analysis.trials, metric)
    )


def mean_rows(analysis: Analysis, series: Sequence[Series], factor: Factor) -> pl.DataFrame:
    """A row per level and metric: the mean over seeds and other factors, and its interval where there is one."""
    curves = analysis.curves.filter(pl.col("factor") == factor.path).sort("position")
    return frame(
        {
            "place": factor.place(row["level"]),
            "level": factor.text(row["level"]),
            "value": row["mean"],
            "low": finite(row["low"]),
            "high": finite(row["high"]),
            "seeds": row["seeds"],
            "series": name,
        }
        for metric, name in series
        for row in curves.filter(pl.col("metric") == metric).iter_rows(named=True)
        if finite(row["mean"]) is not None
    )


def arm_rows(analysis: Analysis, metric: str, factor: Factor, other: Factor) -> pl.DataFrame:
    """A row per pair of levels: the plain mean over the trials that have both."""
    arms = (
        frame(measured(analysis.trials, metric))
        .group_by(factor.path, other.path, maintain_order=True)
        .agg(pl.col(metric).mean(), pl.len().alias("trainings"))
    )
    return frame(
        {
            "place": factor.place(row[factor.path]),
            "level": factor.text(row[factor.path]),
            "value": row[metric],
            "series": other.text(row[other.path]),
            "trainings": row["trainings"],
        }
        for row in arms.iter_rows(named=True)
    )


def path_rows(analysis: Analysis, metric: str, factor: Factor, other: Factor | None) -> pl.DataFrame:
    """A row per evaluation; `dashes` is the other factor's level."""
    return frame(
        {
            "samples": row["samples_seen"],
            "value": row[metric],
            "series": factor.text(row[factor.path]),
            "dashes": "" if other is None else other.text(row[other.path]),
            **identity(row),
        }
        for row in measured(analysis.history, metric)
    )


def has_metric(table: pl.DataFrame, metric: str) -> bool:
    """Whether any row has a number for it."""
    return bool(measured(table, metric))


def finite(value: float | None) -> float | None:
    """The number, or None for what is no number."""
    return value if value is not None and math.isfinite(value) else None


def measured(table: pl.DataFrame, *metrics: str) -> list[Row]:
    """The rows that have numbers for all of the metrics."""
    if not set(metrics) <= set(table.columns):
        return []
    numbers = [pl.col(metric).cast(pl.Float64) for metric in metrics]
    return table.with_columns(numbers).filter(pl.all_horizontal(pl.col(metrics).is_finite())).to_dicts()


def identity(row: Row) -> Row:
    """Which training a row is of."""
    return {"trial": row["trial"], "label": row["label"], "seed": row["seed"]}


def frame(rows: Iterable[Row]) -> pl.DataFrame:
    """Rows as a frame whose types every row decides."""
    return pl.DataFrame(list(rows), infer_schema_length=None)


DRAWN: Final = ("trend", "contrast", "equivalence")
"""Tests whose claim is about the treatment's curve."""
SIDES: Final[Mapping[str, tuple[str, ...]]] = {"decreasing": ("low",), "increasing": ("high",)}


class Claims(NamedTuple):
    """`small` and `begins` as `Response` has its `claims` and `claimed`; `words` say what they mean, or nothing."""

    small: pl.DataFrame
    begins: pl.DataFrame
    words: str


def claims_of(analysis: Analysis, series: Sequence[Series], factor: Factor, means: pl.DataFrame) -> Claims:
    """For each series the first hypothesis about this factor and all trainings; the words name those not drawn.

    The curve is of all trainings, so a hypothesis with `where` has no place on it.
    """
    names, drawn, left = dict(series), dict[str, tuple[Verdict, list[Row]]](), list[Verdict]()
    for verdict in _about(analysis, factor):
        name = names.get(verdict.response)
        if name is None:
            continue
        general = not verdict.where and name not in drawn
        rows = _rows(verdict, name, factor, means) if general else []
        if rows:
            drawn[name] = verdict, rows
        else:
            left.append(verdict)
    small = [row for _, rows in drawn.values() for row in rows]
    begins = chain.from_iterable(_begins(verdict, rows) for verdict, rows in drawn.values())
    return Claims(frame(small), frame(begins), _words([verdict for verdict, _ in drawn.values()], left))


def _about(analysis: Analysis, factor: Factor) -> list[Verdict]:
    return [verdict for verdict in analysis.verdicts if verdict.factor == factor.path and verdict.test in DRAWN]


def _rows(verdict: Verdict, name: str, factor: Factor, means: pl.DataFrame) -> list[Row]:
    """A row per level from the first to the last that the hypothesis compares; none where the first has no mean."""
    by_level = {row["level"]: row["value"] for row in means.iter_rows(named=True) if row["series"] == name}
    compared = verdict.between or (factor.levels[0], factor.levels[-1])
    first, last = map(factor.text, compared)
    if first not in by_level or last not in factor.levels:
        return []
    start, per_unit = by_level[first], verdict.test == "trend"
    return [
        {
            "place": factor.place(level),
            "level": level,
            "series": name,
            "low": start - share * verdict.smallest_effect,
            "high": start + share * verdict.smallest_effect,
            "hypothesis": verdict.id,
            "says": f"± {as_declared(share * verdict.smallest_effect)}",
        }
        for level, share in _shares(factor, first, last, per_unit=per_unit)
    ]


def _shares(factor: Factor, first: str, last: str, *, per_unit: bool) -> Iterator[tuple[str, float]]:
    """How much of the smallest effect each level is due: a trend's grows by unit, a difference is due at its end."""
    if not factor.ordered:
        yield last, 1.0
        return
    begin, end = float(first), float(last)
    for level in factor.levels:
        if min(begin, end) <= float(level) <= max(begin, end):
            way = float(level) - begin
            yield level, abs(way) if per_unit else way / (end - begin)


def _begins(verdict: Verdict, rows: Sequence[Row]) -> Iterator[Row]:
    for side in SIDES.get(verdict.direction, ("low", "high")):
        for row in rows:
            yield {key: row[key] for key in ("place", "level", "series")} | {
                "value": row[side],
                "edge": f"{row['series']} {side}",
            }


def _words(drawn: Sequence[Verdict], left: Sequence[Verdict]) -> str:
    names = listed([" ".join([verdict.id, *_held(verdict)]) for verdict in left])
    parts = [*([_claim_meaning(drawn)] if drawn else []), *([f"Claims not drawn: {names}."] if left else [])]
    return " ".join(parts)


def _claim_meaning(drawn: Sequence[Verdict]) -> str:
    sides = {_beyond(verdict) for verdict in drawn}
    where = f"the claimed effect lies {sides.pop()}" if len(sides) == 1 else "where the claimed effect begins"
    claimed = listed([verdict.id for verdict in drawn])
    return f"Grey: changes too small to count; dashed: {where} ({claimed})."


def _held(verdict: Verdict) -> list[str]:
    return [f"({where_words(verdict)})"] if verdict.where else []


def _beyond(verdict: Verdict) -> str:
    if verdict.test == "equivalence":
        return "between these lines"
    return {"decreasing": "below this line", "increasing": "above this line"}.get(
        verdict.direction, "beyond these lines"
    )


_ZERO_IS_NONE: Final = {"gap/rmg", "gap/l2m", "bias/moad_image", "bias/moad_text"}


class Panel(NamedTuple):
    """What one figure shows: `name` for its file, `heading` above it, `axis` beside it, and what guessing gives.

    `said` is what the caption begins with; without it, the meaning of the metric.
    """

    name: str
    heading: str
    axis: str
    series: tuple[Series, ...]
    said: str = ""
    chance: Mapping[str, float] = {}


def single(name: str, metric: str) -> Panel:
    """A panel of one metric."""
    return Panel(name, capital(metric_name(metric)), capital(with_unit(metric)), (Series(metric, metric_name(metric)),))


_BIAS_TOGETHER: Final = Panel(
    "moad",
    "Object bias (MOAD)",
    "Object bias (MOAD), cosine",
    (Series("bias/moad_image", "images"), Series("bias/moad_text", "texts")),
    "Object bias of image and text embeddings; 0 is none (cosine).",
)
_BIAS_APART: Final = (single("moad-images", "bias/moad_image"), single("moad-texts", "bias/moad_text"))
_GAP: Final = (single("rmg", "gap/rmg"), single("l2m", "gap/l2m"))
_ENTROPY: Final = (single("entropy", "entropy/i2t_nats"),)


def dose_figures(analysis: Analysis, factor: Factor, others: Sequence[Factor], look: Look) -> list[Figure]:
    """A figure per metric that was measured: usual ones, and those that hypotheses on this factor or none ask for."""
    return panel_figures(analysis, _panels(analysis, factor, others), factor, others, look)


def dose_figure(analysis: Analysis, factor: Factor, others: Sequence[Factor], look: Look, metric: str) -> Figure | None:
    """The one of these that bears a metric's name; None where there is none."""
    panels = [panel for panel in _panels(analysis, factor, others) if panel.name == metric.partition("/")[2]]
    return next(iter(panel_figures(analysis, panels, factor, others, look)), None)


def _panels(analysis: Analysis, factor: Factor, others: Sequence[Factor]) -> list[Panel]:
    usual = (*_GAP, *(_BIAS_APART if others else (_BIAS_TOGETHER,)), *_ENTROPY)
    shown = {series.metric for panel in usual for series in panel.series}
    asked = dict.fromkeys(item.response for item in analysis.verdicts if item.factor in (factor.path, ""))
    more = [single(metric.partition("/")[2], metric) for metric in asked if metric not in shown]
    return [*usual, *more]


def panel_figures(
    analysis: Analysis, panels: Sequence[Panel], factor: Factor, others: Sequence[Factor], look: Look
) -> list[Figure]:
    """The panels that have anything to show; colours are metrics, or the first other factor's levels."""
    other = others[0] if others else None
    found = []
    for panel in panels:
        present = tuple(series for series in panel.series if has_metric(analysis.trials, series.metric))
        if present:
            found.append(_dose_figure(analysis, panel._replace(series=present), factor, other, look))
    return found


def _dose_figure(analysis: Analysis, panel: Panel, factor: Factor, other: Factor | None, look: Look) -> Figure:
    means = mean_rows(analysis, panel.series, factor)
    claims = claims_of(analysis, panel.series, factor, means)
    response = Response(
        axis=panel.axis,
        names=tuple(series.name for series in panel.series),
        has_zero=all(series.metric in _ZERO_IS_NONE for series in panel.series),
        factor=factor,
        other=other,
        seeds=seed_rows(analysis, panel.series, factor, other),
        means=means,
        arms=pl.DataFrame() if other is None else arm_rows(analysis, panel.series[0].metric, factor, other),
        claims=claims.small,
        claimed=claims.begins,
        chance=_chance(panel, other),
    )
    # A page has the treatment in its headings and under the axis; a file stands alone.
    title = panel.heading if look.in_page else f"{panel.heading} by {factor.words}"
    caption = _caption(analysis, panel, response, claims.words)
    return figure(f"{panel.name}-by-{factor.name}", title, caption, response_chart(response, look), look)


def _chance(panel: Panel, other: Factor | None) -> pl.DataFrame:
    known = {series.name: panel.chance.get(series.metric) for series in panel.series}
    rows = [{"series": name, "value": value} for name, value in known.items() if value is not None]
    return frame(rows if other is None else [])


def _caption(analysis: Analysis, panel: Panel, response: Response, claimed: str) -> str:
    metric = panel.series[0].metric
    alone = len(panel.series) == 1
    what = f"{_meaning(metric)} {_ceiling(analysis, metric)}" if alone or not panel.said else panel.said
    return "\n".join(line.strip() for line in (what, claimed, _marks(response, confidence(analysis.alpha))) if line)


def _meaning(metric: str) -> str:
    said, counted = capital(meaning(metric)), unit(metric)
    return f"{said}." if counted in said.lower() else f"{said} ({counted})."


def _ceiling(analysis: Analysis, metric: str) -> str:
    """An entropy says little without that of not knowing at all, which depends on the gallery."""
    if metric != "entropy/i2t_nats" or not has_metric(analysis.trials, "entropy/gallery"):
        return ""
    sizes = analysis.trials.get_column("entropy/gallery").drop_nulls().unique()
    return f"Equal shares for all {sizes[0]:,.0f} texts would give {math.log(sizes[0]):.2f}." if len(sizes) == 1 else ""


def _marks(response: Response, level: str) -> str:
    other = response.other
    if response.lonely and other is None:
        return "One seed, so no interval."
    means = response.means
    known = not means.is_empty() and means["low"].is_not_null().any()
    line = "Heavy line" if response.factor.ordered else "Heavy tick"
    mean = "" if means.is_empty() else f"{line}: mean{f' with its {level} interval' if known else ''}; "
    return (
        f"{mean}open marks: single trainings, coloured by {other.words}."
        if other
        else f"{mean}open marks: single seeds."
    )


CROWDED = 0.05
"""Levels nearer to each other than this share of the axis cannot be told apart on it."""
CLEARLY_BETTER = 2.0
"""How much farther apart the nearest levels must stand on a log axis before it takes the place of a linear one."""


def factors_of(analysis: Analysis) -> tuple[Factor, ...]:
    """The varied paths that the trials have, in the file's order."""
    names = short_names(analysis.factors)
    return tuple(_factor(analysis, path, names[path]) for path in analysis.factors if path in analysis.trials.columns)


def _factor(analysis: Analysis, path: str, name: str) -> Factor:
    column = analysis.trials.get_column(path).drop_nulls()
    if column.dtype.is_numeric():
        numbers = sorted({float(level) for level in column})
        factor = Factor(path, name, factor_words(path, name), _kind(numbers), ())
        return factor._replace(levels=tuple(factor.text(level) for level in numbers))
    listed = analysis.curves.filter(pl.col("factor") == path).sort("position").get_column("level")
    seen = {plain(level) for level in column}
    levels = dict.fromkeys([level for level in map(plain, listed) if level in seen] + sorted(seen))
    return Factor(path, name, factor_words(path, name), "categories", tuple(levels))


def _kind(numbers: Sequence[float]) -> Kind:
    linear = _nearest(numbers)
    log = _nearest([math.log(number) for number in numbers]) if min(numbers, default=0) > 0 else 0.0
    if max(linear, log) < CROWDED:
        return "steps"
    return "log" if log > CLEARLY_BETTER * linear else "linear"


def _nearest(numbers: Sequence[float]) -> float:
    """The smallest distance between neighbours, as a share of the whole range."""
    gaps = [after - before for before, after in pairwise(numbers)]
    return min(gaps) / (numbers[-1] - numbers[0]) if gaps else 1.0


STRIP: Final = "strip-"
"""What the name of a strip begins with, before its hypothesis' id."""


def strip_figure(verdict: Verdict, alpha: float, look: Look) -> Figure | None:
    """One hypothesis as a strip; None where nothing could be estimated."""
    if finite(verdict.estimate) is None:
        return None
    chart = Drawing(strip_chart(_strip(verdict, look), look), {})
    return figure(f"{STRIP}{verdict.id}", effect_name(verdict), interval_words(verdict, alpha), chart, look)


def forest_figure(analysis: Analysis, look: Look) -> Figure | None:
    """All strips under one another; None where nothing could be estimated."""
    estimated = [verdict for verdict in analysis.verdicts if finite(verdict.estimate) is not None]
    if not estimated:
        return None
    level = confidence(analysis.alpha)
    caption = f"Estimate and {level} interval of each hypothesis in its own unit; grey: effects too small to count."
    chart = forest_chart([_headed(verdict, analysis.alpha, look) for verdict in estimated], look)
    return figure("verdicts", "Hypotheses and what was measured", caption, chart, look)


def _headed(verdict: Verdict, alpha: float, look: Look) -> Headed:
    heading = f"{verdict.verdict.upper()}{in_brackets(verdict.marks)}: {verdict.id}"
    lines = [line for text in (verdict.claim, interval_words(verdict, alpha)) for line in wrap(text, LINE_LENGTH)]
    return Headed(wrap(heading, BOLD_LENGTH), lines, _strip(verdict, look))


def _strip(verdict: Verdict, look: Look) -> Strip:
    return Strip(
        finding=verdict.verdict,
        effect=effect_name(verdict),
        axis=None if look.in_page else wrap(capital(effect_name(verdict)), LINE_LENGTH),
        estimate=verdict.estimate,
        low=finite(verdict.ci.low),
        high=finite(verdict.ci.high),
        smallest_effect=verdict.smallest_effect,
    )


_PANELS: Final = (
    ("path-rmg", "gap/rmg"),
    ("path-temperature", "temperature/tau"),
    ("path-entropy", "entropy/i2t_nats"),
    ("path-loss", "train/loss"),
)


def path_figures(analysis: Analysis, factors: Sequence[Factor], look: Look) -> list[Figure]:
    """A figure for each metric that has a path, coloured by the first factor, dashed by the second."""
    if not factors:
        return []
    factor, other = factors[0], factors[1] if len(factors) > 1 else None
    found = []
    for name, metric in _PANELS:
        paths = path_rows(analysis, metric, factor, other)
        if not paths.is_empty():
            axis, from_zero = capital(with_unit(metric)), metric.startswith("gap/")
            chart = path_chart(paths, axis, factor, other, look, from_zero=from_zero)
            title = f"{capital(metric_name(metric))} over training"
            found.append(figure(name, title, _training_caption(factor, other), chart, look))
    return found


def _training_caption(factor: Factor, other: Factor | None) -> str:
    dashes = f", dashes: {other.words}" if other is not None and is_dashed(other) else ""
    return f"One line per training; colour: {factor.words}{dashes}."


MOST_ROWS: Final = 6_000
"""Dimensions of trainings that a page draws; beyond, it draws the mean of each level, and says so."""
FIRST_RANKS: Final = 64
VALUES: Final = ("squared", "carried")


class Profiles(NamedTuple):
    """A row per dimension of a training, and what the caption must say of the lines."""

    rows: pl.DataFrame
    lines: str


def dimension_figures(analysis: Analysis, factor: Factor, dimensions: pl.DataFrame, look: Look) -> list[Figure]:
    """Both figures, or none where no trial kept its mean embeddings."""
    if dimensions.is_empty() or analysis.trials.is_empty():
        return []
    profiles = _profiles(analysis, factor, dimensions)
    squared = "The squared difference of the modality means in each dimension, largest first; their sum is L2M squared."
    carried = "The share of it that the largest dimensions carry together; dashed: if all carried the same."
    return [
        _figure(profiles, "squared", "Gap by dimension", "Squared mean difference", squared, factor, look),
        _figure(profiles, "carried", "Share the largest dimensions carry", "Share carried", carried, factor, look),
    ]


def _figure(
    profiles: Profiles, shown: Shown, title: str, axis: str, caption: str, factor: Factor, look: Look
) -> Figure:
    chart = profile_chart(profiles.rows, shown, axis, factor, look)
    words = f"{caption} Colour: {factor.words}. {profiles.lines}"
    return figure(f"dimensions-{shown}", title, words, chart, look)


def _profiles(analysis: Analysis, factor: Factor, dimensions: pl.DataFrame) -> Profiles:
    trials = analysis.trials.select("trial", "label", "seed", factor.path)
    ranked = _ranked(dimensions).join(trials, on="trial", maintain_order="right")
    lacking = analysis.trials.filter(~pl.col("trial").is_in(ranked["trial"].unique()))
    missing = f"Not kept by {listed(list(lacking['label']))}." if len(lacking) else ""
    levels = pl.Series("series", [factor.text(level) for level in ranked[factor.path]], pl.String)
    known = ranked.with_columns(levels).select("rank", "dimension", *VALUES, "trial", "label", "seed", "series")
    if len(known) <= MOST_ROWS:
        return Profiles(known, f"One line per training. {missing}".strip())
    return Profiles(_by_level(known), f"One line per level, the mean of its trainings. {missing}".strip())


def _ranked(dimensions: pl.DataFrame) -> pl.DataFrame:
    """Every dimension's squared difference, its rank within its training, and what is carried up to it."""
    squared = dimensions.with_columns(squared=(pl.col("image_mean") - pl.col("text_mean")) ** 2)
    return squared.sort("trial", "squared", descending=[False, True], maintain_order=True).with_columns(
        rank=pl.int_range(1, pl.len() + 1).over("trial"),
        carried=(pl.col("squared").cum_sum() / pl.col("squared").sum()).over("trial"),
    )


def _by_level(known: pl.DataFrame) -> pl.DataFrame:
    """The mean over the trainings of a level, at ranks that a line needs: the first, every few, the last."""
    step = max(1, int(known["rank"].max() or 1) // FIRST_RANKS)  # type: ignore[arg-type]
    rank = pl.col("rank")
    needed = known.filter((rank <= FIRST_RANKS) | (rank % step == 0) | (rank == rank.max()))
    means = needed.group_by("series", "rank", maintain_order=True).agg(*(pl.col(name).mean() for name in VALUES))
    unknown = {"dimension": pl.Int64, "trial": pl.String, "seed": pl.Int64}
    nothing = [pl.lit(None, dtype).alias(name) for name, dtype in unknown.items()]
    return means.with_columns(*nothing, label=pl.col("series")).select(known.columns)


ACCURACY: Final = "quality/accuracy_"
VALUES_PER_FACTOR: Final = {"digit": 10, "thickness": 3, "swelling": 2, "fracture": 2, "scale": 2, "colour": 7}
"""How many values MAD's factors have, and so what guessing gives."""
_PARTS: Final = {
    "object_same": "same object",
    "object_different": "different object",
    "attribute_same": "same attribute",
    "attribute_different": "different attribute",
}

_TOGETHER: Final = Panel(
    "accuracies",
    "Object and attribute accuracy",
    "Zero-shot accuracy, percent",
    (Series("quality/object_accuracy", "object"), Series("quality/attribute_accuracy", "attributes")),
    "The object is the main factor; attributes are the mean over the others.",
)


def factor_figures(analysis: Analysis, factor: Factor, others: Sequence[Factor], look: Look) -> list[Figure]:
    """Accuracies of all factors together, and similarities by modality; with a second treatment, whose levels then have
    the colours, a figure for each factor's accuracy."""
    panels: Sequence[Panel] = [_alone(name) for name in VALUES_PER_FACTOR]
    if not others:
        panels = [
            _accuracy([f"{ACCURACY}{name}" for name in VALUES_PER_FACTOR]),
            _TOGETHER,
            *(_bias_parts(side) for side in ("image", "text")),
        ]
    return panel_figures(analysis, panels, factor, others, look)


def _alone(name: str) -> Panel:
    panel = single(f"accuracy-{name}", f"{ACCURACY}{name}")
    return panel._replace(heading=f"Zero-shot accuracy of {name}", axis="Zero-shot accuracy, percent")


def _accuracy(metrics: Sequence[str]) -> Panel:
    series = tuple(Series(metric, metric.removeprefix(ACCURACY)) for metric in metrics)
    chance = {f"{ACCURACY}{name}": 100 / count for name, count in VALUES_PER_FACTOR.items()}
    said = "Share of images whose factor value is found among the prompts for all its values; dotted: guessing."
    return Panel("accuracy", "Zero-shot accuracy by factor", "Zero-shot accuracy, percent", series, said, chance)


def _bias_parts(side: str) -> Panel:
    series = tuple(Series(f"bias/{part}_{side}", words) for part, words in _PARTS.items())
    said = (
        f"Mean cosine of two {side}s that share their object, or an attribute, or do not. MOAD is the difference of "
        "the first two less that of the last two."
    )
    return Panel(f"similarity-{side}s", f"Similarity of {side}s by what they share", "Mean cosine", series, said)


GAP: Final = "gap/rmg"
CAPTIONS: Final = "data.captions."
HELD_OUT: Final = f"{CAPTIONS}held_out"
OF_FULL_ONES_TOO: Final = (HELD_OUT, f"{CAPTIONS}order")
QUALITIES: Final = (
    "quality/object_accuracy",
    "quality/attribute_accuracy",
    "quality/i2t_recall_1",
    "quality/t2i_recall_1",
)


def quality_figures(
    analysis: Analysis, factors: Sequence[Factor], look: Look, settings: Mapping[str, str]
) -> list[Figure]:
    """A figure for each quality, with Kendall's tau over all trainings and over those of one arm.

    `settings` are one trial's before treatments, by dotted path; they may be unknown.
    """
    drawn = [(quality, measured(analysis.trials, GAP, quality)) for quality in QUALITIES]
    own = _own_captions(factors, settings)
    return [
        _gap_and_quality_figure(quality, rows, factors, look, _OWN_CAPTIONS if own and "_recall_" in quality else "")
        for quality, rows in drawn
        if len(rows) > 1 and factors
    ]


def _own_captions(factors: Sequence[Factor], settings: Mapping[str, str]) -> bool:
    """Whether levels may be measured on galleries with other captions."""
    varied = {factor.path for factor in factors if factor.path.startswith(CAPTIONS)}
    if settings.get(HELD_OUT) == "full":
        return not varied.isdisjoint(OF_FULL_ONES_TOO)
    return bool(varied)


def _gap_and_quality_figure(
    quality: str, rows: Sequence[Row], factors: Sequence[Factor], look: Look, caution: str
) -> Figure:
    factor = factors[0]
    points = frame(
        {
            "gap": row[GAP],
            "quality": row[quality],
            "series": factor.text(row[factor.path]),
            **identity(row),
        }
        for row in rows
    )
    chart = tradeoff_chart(points, capital(with_unit(GAP)), capital(with_unit(quality)), factor, look)
    title = f"Gap and {metric_name(quality)}"
    name = quality.partition("/")[2].replace("_", "-")
    return figure(f"gap-and-{name}", title, _gap_and_quality_text(quality, rows, factors) + caution, chart, look)


_OWN_CAPTIONS: Final = (
    " Evaluation captions follow the treatment, and equal captions count as matches, so that recalls of different "
    "levels are of different tasks."
)


def _gap_and_quality_text(quality: str, rows: Sequence[Row], factors: Sequence[Factor]) -> str:
    arms = [tuple(str(row[factor.path]) for factor in factors) for row in rows]
    gap, found = np.array([row[GAP] for row in rows]), np.array([row[quality] for row in rows])
    same_arm = np.array([[one == other for other in arms] for one in arms])
    every, within = tau(gap, found, np.ones_like(same_arm)), tau(gap, found, same_arm)
    return (
        f"Kendall's τ over all {len(rows)} trainings: {_told(every)}; "
        f"between trainings of equal treatment: {_told(within)}."
    )


def _told(value: float | None) -> str:
    return NOT_KNOWN if value is None else f"{value:.2f}".replace("-", "−")


def tau(one: np.ndarray, other: np.ndarray, counted: np.ndarray) -> float | None:
    """Kendall's tau-b over the pairs that count (square, symmetric); None where either side has ties alone."""
    upper = np.triu(counted, k=1)
    signs = np.sign(one[:, None] - one)[upper], np.sign(other[:, None] - other)[upper]
    lengths = np.abs(signs[0]).sum() * np.abs(signs[1]).sum()
    return float((signs[0] * signs[1]).sum() / np.sqrt(lengths)) if lengths else None


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
    for drawn in figures:
        svg = svg_of(drawn)
        files[f"{_slug(drawn.name)}.png"] = png_of(svg)
        files[f"{_slug(drawn.name)}.svg"] = svg.encode()
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
