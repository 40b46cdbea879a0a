"""A comparison of sweeps in words, the same on a terminal, on a page and in Markdown."""

import math
from collections.abc import Sequence
from typing import Final

from gapctl.analysis.agreement import Difference, Shared
from gapctl.analysis.combined import Combined
from gapctl.analysis.comparison import Comparison, Finding
from gapctl.report.words import aligned, confidence, counted, in_brackets, metric_name, p_value

MOST_VALUES: Final = 12
_NAMES: Final = {
    "data_source": "place of the data",
    "data_fingerprint": "data (fingerprint)",
    "recipe_version": "recipe version",
}


def comparison_title(combined: Combined) -> str:
    """What the whole comparison is called."""
    if len(combined.sweeps) == 1:
        return f"{combined.sweeps[0].name}, the only sweep that could be judged"
    return f"{len(combined.sweeps)} sweeps compared"


def heading(comparison: Comparison) -> str:
    """What is compared."""
    name = metric_name(comparison.response)
    key = "" if name == comparison.response else f" ({comparison.response})"
    return f"{name}{key} by {comparison.factor}" if comparison.factor else f"{name}{key} itself"


def headings(comparison: Comparison) -> list[str]:
    """The column names of `finding_cells`."""
    levels = {confidence(finding.alpha) for finding in comparison.findings}
    interval = f"{levels.pop()} interval" if len(levels) == 1 else "interval"
    return ["sweep", "effect", "verdict", "estimate", interval, "p (Holm)", "seeds"]


def finding_cells(finding: Finding) -> list[str]:
    """One sweep's verdict as a row."""
    verdict = finding.verdict
    estimate, low, high = aligned([verdict.estimate, *verdict.ci])
    known = math.isfinite(verdict.ci.low) and math.isfinite(verdict.ci.high)
    word = verdict.verdict + in_brackets(verdict.marks)
    interval = f"{low} to {high}" if known else "too few seeds"
    return [finding.sweep, finding.effect, word, estimate, interval, p_value(verdict.p), str(verdict.seeds)]


def level_note(comparison: Comparison) -> str:
    """The intervals' levels where they are not all the same; nothing else."""
    levels = {finding.sweep: confidence(finding.alpha) for finding in comparison.findings}
    if len(set(levels.values())) == 1:
        return ""
    return "Intervals: " + ", ".join(f"{sweep} {level}" for sweep, level in levels.items())


def shared_lines(combined: Combined) -> list[str]:
    """A sentence per pair of sweeps with trainings in common."""
    return [_shared(shared) for shared in combined.shared]


def difference_lines(combined: Combined) -> list[str]:
    """A sentence per thing in which the sweeps, or one sweep's trainings, differ."""
    return [_difference(difference) for difference in combined.differences]


def _shared(shared: Shared) -> str:
    (one, other), (of_one, of_other), common = shared.sweeps, shared.of, len(shared.trials)
    return (
        f"{one} and {other} share {counted(common, 'training')} ({common} of {of_one} and of {of_other}); "
        "what both find in these is found once"
    )


def _difference(difference: Difference) -> str:
    plainer = difference.what.replace("hardware.", "hardware, ").replace("versions.", "version of ")
    name = _NAMES.get(difference.what, plainer)
    values = [f"{sweep}: {_listed(found)}" for sweep, found in difference.values.items()]
    return f"different {name}: {'; '.join(values)}"


def _listed(values: Sequence[str]) -> str:
    more = [f"and {len(values) - MOST_VALUES} more"] if len(values) > MOST_VALUES else []
    return ", ".join([*values[:MOST_VALUES], *more])
