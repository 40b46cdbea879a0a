"""The gap against quality, across all trainings: what goes together, which does not say what causes what."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from gapctl.analysis.results import Analysis
from gapctl.report.rows import Row, frame, identity, measured
from gapctl.report.words import NOT_KNOWN, capital, metric_name, with_unit
from gapctl_charts.factor import Factor
from gapctl_charts.figure import Figure, figure
from gapctl_charts.look import Look
from gapctl_charts.tradeoff import tradeoff_chart

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
        _figure(quality, rows, factors, look, _OWN_CAPTIONS if own and "_recall_" in quality else "")
        for quality, rows in drawn
        if len(rows) > 1 and factors
    ]


def _own_captions(factors: Sequence[Factor], settings: Mapping[str, str]) -> bool:
    """Whether levels may be measured on galleries with other captions."""
    varied = {factor.path for factor in factors if factor.path.startswith(CAPTIONS)}
    if settings.get(HELD_OUT) == "full":
        return not varied.isdisjoint(OF_FULL_ONES_TOO)
    return bool(varied)


def _figure(quality: str, rows: Sequence[Row], factors: Sequence[Factor], look: Look, caution: str) -> Figure:
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
    return figure(f"gap-and-{name}", title, _words(quality, rows, factors) + caution, chart, look)


_OWN_CAPTIONS: Final = (
    " Evaluation captions follow the treatment, and equal captions count as matches, so that recalls of different "
    "levels are of different tasks."
)


def _words(quality: str, rows: Sequence[Row], factors: Sequence[Factor]) -> str:
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
