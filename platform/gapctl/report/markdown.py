"""The report as Markdown with PNG figures beside it, for a repository or a paper's appendix.

`render_markdown` writes one sweep and `render_comparison_markdown` several; `render_verdict_markdown` is the short
table for MLflow. Helpers that escape and lay out Markdown come first.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from gapctl.analysis.compare import SweepAnalysis, SweepComparison
from gapctl.analysis.results import Analysis, Verdict
from gapctl.ledger import Ledger
from gapctl.report.compare_page import (
    describe_comparison,
    describe_differences,
    describe_shared_trainings,
    format_verdict_cells,
    list_column_names,
    name_comparison,
    note_interval_levels,
)
from gapctl.report.figures import PngFigure, render_pngs
from gapctl.report.page_parts import Fact, collect_run_facts, read_record
from gapctl.report.sweep_page import VERDICT_SYMBOLS, list_main_metrics
from gapctl.report.text import (
    align_numbers,
    capitalise_first,
    describe_effect_with_unit,
    explain_marks,
    explain_redesign,
    explain_seeds_needed,
    format_confidence_level,
    format_count,
    format_declared_number,
    format_marks,
    format_number,
    format_p_value,
)

_MARKUP: Final = re.compile(r"([\\`*_{}\[\]<>|#~&$])")
_LIST_MARK: Final = re.compile(r"^([-+]|\d+[.)])(?=\s|$)")
_RULE: Final = re.compile(r"^(?=[-=\s]+$)")


def escape_markdown(text: str) -> str:
    """Escape a text so that Markdown shows it as written, on one line."""
    line = _MARKUP.sub(r"\\\1", " ".join(text.split()))
    marked = _LIST_MARK.sub(lambda mark: mark[0][:-1] + "\\" + mark[0][-1], line)
    return _RULE.sub(r"\\", marked) if line else line


def format_code(text: str) -> str:
    """Format a text as code, whatever backticks it contains; escape bars, so that it may stand in a table."""
    line = " ".join(text.split())
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    padded = f" {line} " if line.startswith("`") or line.endswith("`") else line
    return f"{fence}{padded}{fence}".replace("|", r"\|")


def format_code_block(text: str) -> str:
    """Format a text of several lines as code: indented, so that nothing in the text can end it."""
    return "\n".join(f"    {line}" for line in text.expandtabs().splitlines())


def format_table(headings: Sequence[str], rows: Sequence[Sequence[str]], numbers_from: int) -> str:
    """Format a table of cells that are already Markdown; align columns from `numbers_from` on to the right."""
    marks = ["---" if index < numbers_from else "---:" for index in range(len(headings))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (headings, marks, *rows))


MOST_ROWS: Final = 500
"""The most trainings in a table: nobody reads more on a page, and an export has them all."""
_VERDICT_MEANING: Final = (
    "Supported: the whole interval lies beyond the smallest effect in the declared direction, and p after Holm is "
    "below alpha. Refuted: the whole interval lies where the hypothesis says that the effect is not. Inconclusive: "
    "anything else."
)


class MarkdownReport(NamedTuple):
    """The text, and the PNG files that it shows, by the path that it refers to them by."""

    text: str
    figures: dict[str, bytes]


def render_markdown(judged: SweepAnalysis, ledger: Ledger, folder: str, declared: str) -> MarkdownReport:
    """Render one sweep's report.

    `folder` is where its figures will lie beside it, `declared` says when the hypotheses were declared.
    """
    shown = render_pngs(judged.analysis, read_record(judged.plan, ledger))
    blocks = [
        f"# {escape_markdown(judged.analysis.question)}",
        *_render_sweep(judged, ledger, folder, declared, shown, level=2),
    ]
    return MarkdownReport(_join_blocks(blocks), {f"{folder}/{picture.name}": picture.png for picture in shown})


def render_comparison_markdown(
    combined: SweepComparison, ledger: Ledger, folder: str, declared: Sequence[str]
) -> MarkdownReport:
    """Render several sweeps: what they share and where they differ, then each by itself."""
    blocks = [
        f"# {escape_markdown(name_comparison(combined))}",
        "Each sweep is judged by its own hypotheses, with Holm's correction over its own file; nothing is pooled.",
        *(["Not judged:", *_format_bullets(combined.not_judged)] if combined.not_judged else []),
        "## The same question in several sweeps",
        *(_render_comparisons(combined) or ["No response and factor is judged by more than one sweep."]),
        "## What the sweeps share and where they differ",
        *(_format_bullets(describe_shared_trainings(combined)) or ["They share no training."]),
        *(_format_bullets(describe_differences(combined)) or ["They differ in no setting, and were made alike."]),
    ]
    figures: dict[str, bytes] = {}
    for judged, when in zip(combined.sweeps, declared, strict=True):
        below = f"{folder}/{judged.file_name}"
        shown = render_pngs(judged.analysis, read_record(judged.plan, ledger))
        figures |= {f"{below}/{picture.name}": picture.png for picture in shown}
        blocks += [f"## {escape_markdown(judged.name)}", escape_markdown(judged.analysis.question)]
        blocks += _render_sweep(judged, ledger, below, when, shown, level=3)
    return MarkdownReport(_join_blocks(blocks), figures)


def _render_sweep(
    judged: SweepAnalysis, ledger: Ledger, folder: str, declared: str, shown: Sequence[PngFigure], level: int
) -> list[str]:
    mark, analysis = "#" * level, judged.analysis
    return [
        f"gapctl, sweep {escape_markdown(judged.name)}. {escape_markdown(capitalise_first(declared))}.",
        *map(escape_markdown, explain_redesign(analysis)),
        *_format_bullets(judged.damaged),
        f"{mark} Verdicts",
        *_render_verdicts(analysis),
        f"{mark} Figures",
        *(_embed_figure(picture, folder) for picture in shown),
        f"{mark} Trainings",
        *_render_trainings(analysis),
        f"{mark} What was run",
        "\n".join(
            f"* {escape_markdown(fact.term)}: {_format_fact(fact)}" for fact in collect_run_facts(judged, ledger)
        ),
        *_render_declaration(analysis, mark),
    ]


def _render_declaration(analysis: Analysis, mark: str) -> list[str]:
    """Render the declared sweep file, where another one is judged."""
    declared = analysis.declared
    if declared is None:
        return []
    return [
        f"{mark} What was declared before the first training",
        format_code(declared.asked_with),
        format_code_block(declared.text),
    ]


def _render_verdicts(analysis: Analysis) -> list[str]:
    if not analysis.verdicts:
        return ["The sweep file states no hypotheses; the figures are descriptive."]
    head = [
        "",
        "claim",
        "effect",
        "estimate",
        f"{format_confidence_level(analysis.alpha)} interval",
        "p (Holm)",
        "seeds",
    ]
    rows = [_render_verdict_cells(verdict) for verdict in analysis.verdicts]
    family = format_count(len(analysis.verdicts), "hypothesis", "hypotheses")
    tested = f"Alpha {analysis.alpha:g}, Holm over {family}; seeds are paired. {_VERDICT_MEANING}"
    return [format_table(head, rows, numbers_from=3), tested, "\n".join(map(_explain_verdict, analysis.verdicts))]


def _render_verdict_cells(verdict: Verdict) -> list[str]:
    estimate, low, high = align_numbers([verdict.estimate, *verdict.ci])
    word = f"{VERDICT_SYMBOLS[verdict.verdict]} **{verdict.verdict}**" + format_marks(verdict.marks)
    effect = escape_markdown(describe_effect_with_unit(verdict))
    interval = f"{low} to {high}" if low != high else low
    return [
        word,
        escape_markdown(verdict.claim),
        effect,
        estimate,
        interval,
        format_p_value(verdict.p),
        str(verdict.seeds),
    ]


def _explain_verdict(verdict: Verdict) -> str:
    needed = f" {explain_seeds_needed(verdict.seeds_needed)}" if verdict.seeds_needed else ""
    declared = f"{verdict.direction}, smallest effect {format_declared_number(verdict.smallest_effect)}"
    marks = "".join(f" {escape_markdown(line)}" for line in explain_marks(verdict))
    return (
        f"* {format_code(verdict.id)} ({escape_markdown(verdict.test)}, {escape_markdown(declared)}): "
        f"{escape_markdown(verdict.reason)}{needed}{marks}"
    )


def _embed_figure(picture: PngFigure, folder: str) -> str:
    title, address = escape_markdown(picture.title), quote(f"{folder}/{picture.name}")
    return f"![{title}]({address})\n\n*{title}.* {escape_markdown(picture.caption)}"


def _render_trainings(analysis: Analysis) -> list[str]:
    metrics = list_main_metrics(analysis)
    head = ["training", "id", "seed", *map(format_code, metrics), "seconds"]
    rows = [_format_training_cells(row, metrics) for row in analysis.trials.head(MOST_ROWS).iter_rows(named=True)]
    left = len(analysis.trials) - len(rows)
    more = [f"{left:,} more trainings are not listed here; `gapctl analyze --export` writes all."] if left else []
    return [format_table(head, rows, numbers_from=2), *more]


def _format_training_cells(row: dict[str, Any], metrics: Sequence[str]) -> list[str]:
    numbers = [format_number(row[name]) for name in (*metrics, "seconds")]
    return [escape_markdown(row["label"]), format_code(row["trial"]), str(row["seed"]), *numbers]


def _render_comparisons(combined: SweepComparison) -> list[str]:
    blocks = []
    for comparison in combined.comparisons:
        if len(comparison.sweeps) > 1:
            rows = [
                [escape_markdown(cell) for cell in format_verdict_cells(finding)] for finding in comparison.findings
            ]
            shown = format_table(list_column_names(comparison), rows, numbers_from=3)
            blocks += [
                f"**{escape_markdown(describe_comparison(comparison))}**",
                shown,
                escape_markdown(note_interval_levels(comparison)),
            ]
    return blocks


def _format_bullets(lines: Sequence[str]) -> list[str]:
    return ["\n".join(f"* {escape_markdown(line)}" for line in lines)] if lines else []


def _format_fact(fact: Fact) -> str:
    return format_code(fact.said) if fact.code else escape_markdown(fact.said)


def _join_blocks(blocks: Sequence[str]) -> str:
    return "\n\n".join(block for block in blocks if block) + "\n"


VERDICT_ORDER: Final = ("supported", "refuted", "inconclusive")


def summarise_verdicts(analysis: Analysis) -> str:
    """Count verdicts, `3 supported, 1 inconclusive`, and how many of them have which mark."""
    counts = Counter(verdict.verdict for verdict in analysis.verdicts)
    told = ", ".join(f"{counts[word]} {word}" for word in VERDICT_ORDER if counts[word])
    return f"{told}{format_marks(count_marks(analysis))}" if told else "no hypotheses"


def count_marks(analysis: Analysis) -> list[str]:
    """Count marks, `exploratory`, `2 not learned`: each mark that any verdict has, numbered unless all have it."""
    counts = Counter(mark for verdict in analysis.verdicts for mark in verdict.marks)
    every = len(analysis.verdicts)
    return [mark if count == every else f"{count} {mark}" for mark, count in counts.items()]


def render_verdict_markdown(analysis: Analysis) -> str:
    """Render a table with a row for each hypothesis, and the number of trainings that it rests on."""
    head = (
        f"| hypothesis | effect | verdict | estimate | {format_confidence_level(analysis.alpha)} interval | p "
        "(Holm) | seeds |"
    )
    rows = [head, "|:--|:--|:--|--:|--:|--:|--:|", *(_format_verdict_row(verdict) for verdict in analysis.verdicts)]
    done = f"{len(analysis.trials)} of {analysis.planned} trainings done."
    marks = [
        f"* `{verdict.id}`: {_escape_cell(line)}" for verdict in analysis.verdicts for line in explain_marks(verdict)
    ]
    marks = [*(f"* {_escape_cell(line)}" for line in explain_redesign(analysis)), *marks]
    return "\n".join([*rows, "", *marks, *([""] if marks else []), done] if analysis.verdicts else [done])


def _format_verdict_row(verdict: Verdict) -> str:
    estimate, low, high = align_numbers([verdict.estimate, *verdict.ci])
    interval = f"{low} to {high}" if math.isfinite(verdict.ci.low) else low
    word = f"**{verdict.verdict}**" + format_marks(verdict.marks)
    claim, effect = _escape_cell(verdict.claim), _escape_cell(describe_effect_with_unit(verdict))
    p = format_p_value(verdict.p)
    return f"| {claim} (`{verdict.id}`) | {effect} | {word} | {estimate} | {interval} | {p} | {verdict.seeds} |"


def _escape_cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
