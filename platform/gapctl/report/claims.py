"""What was claimed of a curve, as a chart draws it: where a change is too small to count, where the effect begins."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Final, NamedTuple

import polars as pl

from gapctl.analysis.results import Analysis, Verdict
from gapctl.report.rows import Row, Series, frame
from gapctl.report.words import as_declared
from gapctl.spec.sweep import Level
from gapctl_charts.factor import Factor

DRAWN: Final = ("trend", "contrast", "equivalence")
"""Tests whose claim is about the treatment's curve."""
SIDES: Final[Mapping[str, tuple[str, ...]]] = {"decreasing": ("low",), "increasing": ("high",)}


class Claims(NamedTuple):
    """`small` and `begins` as `Response` has its `claims` and `claimed`; `words` say what they mean, or nothing."""

    small: pl.DataFrame
    begins: pl.DataFrame
    words: str


def claims_of(
    analysis: Analysis,
    series: Sequence[Series],
    factor: Factor,
    means: pl.DataFrame,
    between: Mapping[str, tuple[Level, Level]],
) -> Claims:
    """The first hypothesis of each series about this factor; `between` are the levels that contrasts compare, by id."""
    drawn = []
    for metric, name in series:
        verdict = _about(analysis, metric, factor)
        if verdict is not None and not means.is_empty():
            drawn.append((verdict, _rows(verdict, name, factor, means, between.get(verdict.id))))
    small = [row for _, rows in drawn for row in rows]
    begins = chain.from_iterable(_begins(verdict, rows) for verdict, rows in drawn)
    return Claims(frame(small), frame(begins), _words([verdict for verdict, rows in drawn if rows]))


def _about(analysis: Analysis, metric: str, factor: Factor) -> Verdict | None:
    asked = (verdict for verdict in analysis.verdicts if verdict.response == metric and verdict.factor == factor.path)
    return next((verdict for verdict in asked if verdict.test in DRAWN), None)


def _rows(
    verdict: Verdict, name: str, factor: Factor, means: pl.DataFrame, between: tuple[Level, Level] | None
) -> list[Row]:
    """A row per level from the first to the last that the hypothesis compares."""
    by_level = {row["level"]: row["value"] for row in means.filter(pl.col("series") == name).to_dicts()}
    first, last = [factor.text(level) for level in between] if between else (factor.levels[0], factor.levels[-1])
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


def _words(drawn: Sequence[Verdict]) -> str:
    if not drawn:
        return ""
    sides = {_beyond(verdict) for verdict in drawn}
    where = f"the claimed effect lies {sides.pop()}" if len(sides) == 1 else "where the claimed effect begins"
    return f"Grey: changes too small to count; dashed: {where}."


def _beyond(verdict: Verdict) -> str:
    if verdict.test == "equivalence":
        return "between these lines"
    return {"decreasing": "below this line", "increasing": "above this line"}.get(
        verdict.direction, "beyond these lines"
    )
