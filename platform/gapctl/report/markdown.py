"""The report as Markdown with PNG figures beside it, for a repository or a paper's appendix."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from gapctl.analysis.combined import Combined
from gapctl.analysis.judged import Judged
from gapctl.analysis.results import Analysis, Verdict
from gapctl.ledger import Ledger
from gapctl.report.comparison_words import (
    comparison_title,
    difference_lines,
    finding_cells,
    heading,
    headings,
    level_note,
    shared_lines,
)
from gapctl.report.effect_words import effect_name
from gapctl.report.figures import Picture, pictures
from gapctl.report.mark_words import mark_lines, redesign_lines
from gapctl.report.markdown_text import block, code, plain, table
from gapctl.report.run_facts import Fact, run_facts
from gapctl.report.run_record import read_record
from gapctl.report.trial_table import main_metrics
from gapctl.report.verdict_cards import SYMBOLS
from gapctl.report.words import (
    aligned,
    as_declared,
    capital,
    confidence,
    counted,
    in_brackets,
    number,
    p_value,
    settling,
)

MOST_ROWS: Final = 500
"""Trainings in a table; a page with more of them is read by nobody, and an export has them all."""
_MEANING: Final = (
    "Supported: the whole interval lies beyond the smallest effect in the declared direction, and p after Holm is "
    "below alpha. Refuted: the whole interval lies where the hypothesis says that the effect is not. Inconclusive: "
    "anything else."
)


class Pages(NamedTuple):
    """The text, and the PNG files that it shows, by the path that it gives them."""

    text: str
    figures: dict[str, bytes]


def render_markdown(judged: Judged, ledger: Ledger, folder: str, declared: str) -> Pages:
    """One sweep's report; `folder` is where its figures will lie beside it, `declared` says when hypotheses were."""
    shown = pictures(judged.analysis, read_record(judged.plan, ledger))
    blocks = [f"# {plain(judged.analysis.question)}", *_sweep(judged, ledger, folder, declared, shown, level=2)]
    return Pages(_joined(blocks), {f"{folder}/{picture.name}": picture.png for picture in shown})


def render_comparison(combined: Combined, ledger: Ledger, folder: str, declared: Sequence[str]) -> Pages:
    """Several sweeps: what they share and where they differ, then each by itself."""
    blocks = [
        f"# {plain(comparison_title(combined))}",
        "Each sweep is judged by its own hypotheses, with Holm's correction over its own file; nothing is pooled.",
        *_not_judged(combined),
        "## The same question in several sweeps",
        *(_comparison(combined) or ["No response and factor is judged by more than one sweep."]),
        "## What the sweeps share and where they differ",
        *(_bullets(shared_lines(combined)) or ["They share no training."]),
        *(_bullets(difference_lines(combined)) or ["They differ in no setting, and were made alike."]),
    ]
    figures: dict[str, bytes] = {}
    for judged, when in zip(combined.sweeps, declared, strict=True):
        below = f"{folder}/{judged.file_name}"
        shown = pictures(judged.analysis, read_record(judged.plan, ledger))
        figures |= {f"{below}/{picture.name}": picture.png for picture in shown}
        blocks += [f"## {plain(judged.name)}", plain(judged.analysis.question)]
        blocks += _sweep(judged, ledger, below, when, shown, level=3)
    return Pages(_joined(blocks), figures)


def _sweep(
    judged: Judged, ledger: Ledger, folder: str, declared: str, shown: Sequence[Picture], level: int
) -> list[str]:
    mark, analysis = "#" * level, judged.analysis
    return [
        f"gapctl, sweep {plain(judged.name)}. {plain(capital(declared))}.",
        *map(plain, redesign_lines(analysis)),
        *_bullets(judged.damaged),
        f"{mark} Verdicts",
        *_verdicts(analysis),
        f"{mark} Figures",
        *(_figure(picture, folder) for picture in shown),
        f"{mark} Trainings",
        *_trainings(analysis),
        f"{mark} What was run",
        "\n".join(f"* {plain(fact.term)}: {_said(fact)}" for fact in run_facts(judged, ledger)),
        *_as_declared(analysis, mark),
    ]


def _as_declared(analysis: Analysis, mark: str) -> list[str]:
    """The sweep file that was declared, where another one is judged."""
    declared = analysis.declared
    if declared is None:
        return []
    return [f"{mark} What was declared before the first training", code(declared.asked_with), block(declared.text)]


def _verdicts(analysis: Analysis) -> list[str]:
    if not analysis.verdicts:
        return ["The sweep file states no hypotheses; the figures are descriptive."]
    head = ["", "claim", "effect", "estimate", f"{confidence(analysis.alpha)} interval", "p (Holm)", "seeds"]
    rows = [_verdict_cells(verdict) for verdict in analysis.verdicts]
    family = counted(len(analysis.verdicts), "hypothesis", "hypotheses")
    tested = f"Alpha {analysis.alpha:g}, Holm over {family}; seeds are paired. {_MEANING}"
    return [table(head, rows, numbers_from=3), tested, "\n".join(map(_reason, analysis.verdicts))]


def _verdict_cells(verdict: Verdict) -> list[str]:
    estimate, low, high = aligned([verdict.estimate, *verdict.ci])
    word = f"{SYMBOLS[verdict.verdict]} **{verdict.verdict}**" + in_brackets(verdict.marks)
    effect = plain(effect_name(verdict))
    interval = f"{low} to {high}" if low != high else low
    return [word, plain(verdict.claim), effect, estimate, interval, p_value(verdict.p), str(verdict.seeds)]


def _reason(verdict: Verdict) -> str:
    needed = f" {settling(verdict.seeds_needed)}" if verdict.seeds_needed else ""
    declared = f"{verdict.direction}, smallest effect {as_declared(verdict.smallest_effect)}"
    marks = "".join(f" {plain(line)}" for line in mark_lines(verdict))
    return f"* {code(verdict.id)} ({plain(verdict.test)}, {plain(declared)}): {plain(verdict.reason)}{needed}{marks}"


def _figure(picture: Picture, folder: str) -> str:
    title, address = plain(picture.title), quote(f"{folder}/{picture.name}")
    return f"![{title}]({address})\n\n*{title}.* {plain(picture.caption)}"


def _trainings(analysis: Analysis) -> list[str]:
    metrics = main_metrics(analysis)
    head = ["training", "id", "seed", *map(code, metrics), "seconds"]
    rows = [_training(row, metrics) for row in analysis.trials.head(MOST_ROWS).iter_rows(named=True)]
    left = len(analysis.trials) - len(rows)
    more = [f"{left:,} more trainings are not listed here; `gapctl analyze --export` writes all."] if left else []
    return [table(head, rows, numbers_from=2), *more]


def _training(row: dict[str, Any], metrics: Sequence[str]) -> list[str]:
    numbers = [number(row[name]) for name in (*metrics, "seconds")]
    return [plain(row["label"]), code(row["trial"]), str(row["seed"]), *numbers]


def _comparison(combined: Combined) -> list[str]:
    blocks = []
    for comparison in combined.comparisons:
        if len(comparison.sweeps) > 1:
            rows = [[plain(cell) for cell in finding_cells(finding)] for finding in comparison.findings]
            shown = table(headings(comparison), rows, numbers_from=3)
            blocks += [f"**{plain(heading(comparison))}**", shown, plain(level_note(comparison))]
    return blocks


def _not_judged(combined: Combined) -> list[str]:
    return ["Not judged:", *_bullets(combined.not_judged)] if combined.not_judged else []


def _bullets(lines: Sequence[str]) -> list[str]:
    return ["\n".join(f"* {plain(line)}" for line in lines)] if lines else []


def _said(fact: Fact) -> str:
    return code(fact.said) if fact.code else plain(fact.said)


def _joined(blocks: Sequence[str]) -> str:
    return "\n\n".join(block for block in blocks if block) + "\n"
