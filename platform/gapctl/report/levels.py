"""A treatment's levels: their order, their text, and where they stand on an axis."""

import math
from collections.abc import Sequence
from itertools import pairwise

import polars as pl

from gapctl.analysis.results import Analysis
from gapctl.plan.make import short_names
from gapctl.report.words import factor_words
from gapctl_charts.factor import Factor, Kind, plain

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
