"""A treatment's levels: their order, their text, and where they stand on an axis."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import polars as pl

from gapctl.analysis.results import Analysis
from gapctl.plan.make import short_names
from gapctl.report.words import factor_words

Kind = Literal["linear", "log", "steps", "categories"]
CROWDED = 0.05
"""Levels nearer to each other than this share of the axis cannot be told apart on it."""
CLEARLY_BETTER = 2.0
"""How much farther apart the nearest levels must stand on a log axis before it takes the place of a linear one."""


class Factor(NamedTuple):
    """A varied path, its short name and its words, its levels in order, and the axis that suits them.

    Numbers stand where they belong (`linear`, or `log` where that tells them apart better), in even `steps` where
    neither does; everything else is `categories` in the file's order.
    """

    path: str
    name: str
    words: str
    kind: Kind
    levels: tuple[str, ...]

    @property
    def ordered(self) -> bool:
        """Whether its levels are numbers, so that a line between them means something."""
        return self.kind != "categories"

    @property
    def measured(self) -> bool:
        """Whether its axis is a number line."""
        return self.kind in ("linear", "log")

    def text(self, level: Any) -> str:
        """A level as text: the same for 5, 5.0 and "5" of a numeric factor."""
        return f"{float(level):.10g}" if self.ordered else _plain(level)

    def place(self, level: Any) -> float | str:
        """A level as the x value of a chart."""
        return float(level) if self.measured else self.text(level)


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
    seen = {_plain(level) for level in column}
    levels = dict.fromkeys([level for level in map(_plain, listed) if level in seen] + sorted(seen))
    return Factor(path, name, factor_words(path, name), "categories", tuple(levels))


def _plain(level: Any) -> str:
    text = str(level)
    return text.lower() if text in ("True", "False") else text


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
