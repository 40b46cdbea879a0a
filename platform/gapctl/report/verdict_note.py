"""The verdicts in Markdown, short enough for the description of a run in MLflow."""

import math
from collections import Counter
from typing import Final

from gapctl.analysis.results import Analysis, Verdict
from gapctl.report.effect_words import effect_name
from gapctl.report.words import aligned, confidence, p_value

ORDER: Final = ("supported", "refuted", "inconclusive")


def in_few_words(analysis: Analysis) -> str:
    """`3 supported, 1 inconclusive`, and whether any of them only explores."""
    counts = Counter(verdict.verdict for verdict in analysis.verdicts)
    told = ", ".join(f"{counts[word]} {word}" for word in ORDER if counts[word])
    exploratory = " (exploratory)" if any(verdict.exploratory for verdict in analysis.verdicts) else ""
    return f"{told}{exploratory}" if told else "no hypotheses"


def verdict_markdown(analysis: Analysis) -> str:
    """A table with a row for each hypothesis, and how much of the sweep it rests on."""
    head = f"| hypothesis | effect | verdict | estimate | {confidence(analysis.alpha)} interval | p (Holm) | seeds |"
    rows = [head, "|:--|:--|:--|--:|--:|--:|--:|", *(_row(verdict) for verdict in analysis.verdicts)]
    done = f"{len(analysis.trials)} of {analysis.planned} trainings done."
    return "\n".join([*rows, "", done] if analysis.verdicts else [done])


def _row(verdict: Verdict) -> str:
    estimate, low, high = aligned([verdict.estimate, *verdict.ci])
    interval = f"{low} to {high}" if math.isfinite(verdict.ci.low) else low
    word = f"**{verdict.verdict}**" + (" (exploratory)" if verdict.exploratory else "")
    claim, effect = _cell(verdict.claim), _cell(effect_name(verdict))
    p = p_value(verdict.p_claim_holm)
    return f"| {claim} (`{verdict.id}`) | {effect} | {word} | {estimate} | {interval} | {p} | {verdict.seeds} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
