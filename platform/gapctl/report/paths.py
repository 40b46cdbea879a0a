"""Figures over training: the gap, the temperature and the entropy."""

from collections.abc import Sequence
from typing import Final

from gapctl.analysis.results import Analysis
from gapctl.report.rows import path_rows
from gapctl.report.words import capital, metric_name, with_unit
from gapctl_charts.factor import Factor
from gapctl_charts.figure import Figure, figure
from gapctl_charts.look import Look
from gapctl_charts.training_path import is_dashed, path_chart

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
            found.append(figure(name, title, _caption(factor, other), chart, look))
    return found


def _caption(factor: Factor, other: Factor | None) -> str:
    dashes = f", dashes: {other.words}" if other is not None and is_dashed(other) else ""
    return f"One line per training; colour: {factor.words}{dashes}."
