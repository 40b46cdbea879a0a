"""What would change a verdict: more seeds, or a longer scale of the same sweep."""

from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from gapctl.analysis.judged import Judged
from gapctl.analysis.results import Verdict
from gapctl.plan.make import make_plan
from gapctl.report.markdown_text import code
from gapctl.spec.load import load_text

_UNKNOWN_DATA: Final = "unknown"


class Size(NamedTuple):
    """How much a scale trains: pairs over all its trainings, and pairs in its longest training."""

    total: int
    each: int


def sizes_of(judged: Judged) -> dict[str, Size]:
    """Each scale of a judged sweep's file by its name; the options of `--set` are left out."""
    sweep = judged.plan.sweep
    return {scale: _size(sweep.text, sweep.path, scale) for scale in sweep.spec.scales}


def what_would_change(verdict: Verdict, judged: Judged, scales_judged: Collection[str]) -> str:
    """Seeds where they would settle it, else the next longer scale that the ledger does not hold, else other data.

    In Markdown.
    """
    again = ["hypotheses declared before the first training"] if verdict.exploratory else []
    return "; ".join([*again, _seeds(verdict) or _next_scale(judged, scales_judged)])


def _seeds(verdict: Verdict) -> str:
    if verdict.seeds < 2:
        return "at least 3 seeds"
    return f"about {verdict.seeds_needed} seeds" if verdict.seeds_needed else ""


def _next_scale(judged: Judged, scales_judged: Collection[str]) -> str:
    sizes, present = sizes_of(judged), judged.analysis.scale
    least = sizes[present].total if present in sizes else 0
    longer = {name: size for name, size in sizes.items() if size.total > least and name not in scales_judged}
    if not longer:
        return "other data or another model: the file states no longer scale"
    name = min(longer, key=lambda scale: longer[scale].total)
    return f"scale {code(name)}: {longer[name].each:,} pairs a training"


@cache
def _size(text: str, path: Path, scale: str) -> Size:
    plan = make_plan(load_text(text, path, scale), lambda data: _UNKNOWN_DATA)
    samples = [trial.config.train.samples for trial in plan.trainings]
    return Size(sum(samples), max(samples))
