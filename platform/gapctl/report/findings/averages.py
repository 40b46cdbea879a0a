"""An average over treatments that hides a change of sign, in words."""

from typing import Final

from gapctl.analysis.judged import Judged
from gapctl.analysis.results import Verdict
from gapctl.analysis.turning import Cell, turning
from gapctl.report.markdown_text import code, plain
from gapctl.report.words import aligned, as_declared, factor_words
from gapctl_charts.factor import plain as level_words

MARK: Final = "†"


def average_words(verdict: Verdict, judged: Judged) -> str:
    """The lowest and the highest effect that it is the average of, where they lie on both sides; else nothing.

    In Markdown.
    """
    spec = judged.plan.sweep.spec
    hypothesis = next(one for one in spec.hypotheses if one.id == verdict.id)
    found = turning(hypothesis, judged.analysis.trials, spec)
    if found is None:
        return ""
    over = " and ".join(factor_words(path) for path in found.lowest.levels)
    low, high = aligned([found.lowest.estimate, found.highest.estimate])
    effects = f"{low} where {_levels(found.lowest)}, {high} where {_levels(found.highest)}"
    beyond = f"both with their intervals beyond the smallest effect of {as_declared(verdict.smallest_effect)}"
    return f"{code(verdict.id)}, {plain(judged.name)}, is averaged over {plain(f'{over}: {effects}, {beyond}')}."


def _levels(cell: Cell) -> str:
    if len(cell.levels) == 1:
        return f"it is {level_words(*cell.levels.values())}"
    return " and ".join(f"{factor_words(path)} is {level_words(level)}" for path, level in cell.levels.items())
