"""What the charts of interventions draw, as plain rows."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from gapctl.report.closing.words import POINTS, in_points

if TYPE_CHECKING:
    from gapctl.interventions.judge import Judged, Judgement

Row = dict[str, Any]

FAMILIES: Final = {
    "shift": "shift (lambda)",
    "centre": "centre",
    "standardise": "standardise",
    "orthogonal": "orthogonal",
    "remove": "remove (dimensions)",
}


def quality_rows(judgement: "Judgement", key: str) -> list[Row]:
    """A row per intervention: its gap, its quality in points with the interval of the change (as far as
    it is possible), and its verdict."""
    before = judgement.before[key]
    return [_row(judged, key, before, place) for place, judged in enumerate(judgement.judged) if judged.changes]


def families(rows: Sequence[Row]) -> list[str]:
    """The kinds of intervention that rows have, in the order of the legend."""
    present = {row["series"] for row in rows}
    return [name for name in FAMILIES.values() if name in present]


def _row(judged: "Judged", key: str, before: float, place: int) -> Row:
    change, gap = judged.changes[key], judged.changes["gap/l2m"].value
    return {
        "place": place,
        "name": judged.name,
        "series": FAMILIES[judged.family],
        "label": "" if judged.amount is None else f"{judged.amount:g}",
        "gap": gap,
        "value": in_points(key, change.value),
        "low": max(0.0, in_points(key, before + change.low)),
        "high": min(float(POINTS), in_points(key, before + change.high)),
        "change": in_points(key, change.change),
        "verdict": change.verdict,
    }
