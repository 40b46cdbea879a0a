"""The verdicts in Markdown, short enough for the description of a run in MLflow."""

import math
from collections import Counter
from typing import Final

from gapctl.analysis.results import Analysis, Verdict
from gapctl.report.effect_words import effect_name
from gapctl.report.mark_words import mark_lines, redesign_lines
from gapctl.report.words import aligned, confidence, in_brackets, p_value

ORDER: Final = ("supported", "refuted", "inconclusive")


def in_few_words(analysis: Analysis) -> str:
    """`3 supported, 1 inconclusive`, and how many of them have which mark."""
    counts = Counter(verdict.verdict for verdict in analysis.verdicts)
    told = ", ".join(f"{counts[word]} {word}" for word in ORDER if counts[word])
    return f"{told}{in_brackets(counted_marks(analysis))}" if told else "no hypotheses"


def counted_marks(analysis: Analysis) -> list[str]:
    """`exploratory`, `2 not learned`: each mark that any verdict has, with the number where not all have it."""
    counts = Counter(mark for verdict in analysis.verdicts for mark in verdict.marks)
    every = len(analysis.verdicts)
    return [mark if count == every else f"{count} {mark}" for mark, count in counts.items()]


def verdict_markdown(analysis: Analysis) -> str:
    """A table with a row for each hypothesis, and how much of the sweep it rests on."""
    head = f"| hypothesis | effect | verdict | estimate | {confidence(analysis.alpha)} interval | p (Holm) | seeds |"
    rows = [head, "|:--|:--|:--|--:|--:|--:|--:|", *(_row(verdict) for verdict in analysis.verdicts)]
    done = f"{len(analysis.trials)} of {analysis.planned} trainings done."
    marks = [f"* `{verdict.id}`: {_cell(line)}" for verdict in analysis.verdicts for line in mark_lines(verdict)]
    marks = [*(f"* {_cell(line)}" for line in redesign_lines(analysis)), *marks]
    return "\n".join([*rows, "", *marks, *([""] if marks else []), done] if analysis.verdicts else [done])


def _row(verdict: Verdict) -> str:
    estimate, low, high = aligned([verdict.estimate, *verdict.ci])
    interval = f"{low} to {high}" if math.isfinite(verdict.ci.low) else low
    word = f"**{verdict.verdict}**" + in_brackets(verdict.marks)
    claim, effect = _cell(verdict.claim), _cell(effect_name(verdict))
    p = p_value(verdict.p)
    return f"| {claim} (`{verdict.id}`) | {effect} | {word} | {estimate} | {interval} | {p} | {verdict.seeds} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
