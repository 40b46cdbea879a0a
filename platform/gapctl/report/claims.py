"""What was claimed of a curve, as a chart draws it: where a change is too small to count, where the effect begins."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Final, NamedTuple

import polars as pl

from gapctl.analysis.results import Analysis, Verdict
from gapctl.report.effect_words import where_words
from gapctl.report.rows import Row, Series, frame
from gapctl.report.words import as_declared, listed
from gapctl_charts.factor import Factor

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
    parts = [*([_meaning(drawn)] if drawn else []), *([f"Claims not drawn: {names}."] if left else [])]
    return " ".join(parts)


def _meaning(drawn: Sequence[Verdict]) -> str:
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
