"""The report as Markdown with PNG figures beside it, for a repository or a paper's appendix.

`render_sweep_markdown` writes one sweep and `render_comparison_markdown` several; `render_verdict_markdown` is the
short table for MLflow. Helpers that escape and lay out Markdown come first.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple
from urllib.parse import quote

from markupsafe import Markup

from gapctl.analysis.compare import SweepAnalysis, SweepComparison
from gapctl.analysis.results import AnalysisResults, Verdict
from gapctl.ledger import Ledger
from gapctl.report.compare_page import (
    describe_differences,
    describe_shared_trainings,
    explain_interval_levels,
    format_comparison_title,
    format_response_comparison,
    format_verdict_cells,
    list_verdict_column_names,
)
from gapctl.report.figures import PngFigure, render_pngs
from gapctl.report.html import load_text_templates
from gapctl.report.page_parts import collect_run_facts, read_run_record
from gapctl.report.sweep_page import get_symbol, list_main_metrics
from gapctl.report.text import (
    capitalise_first,
    describe_effect_with_unit,
    describe_prediction,
    explain_marks,
    explain_redesign,
    explain_seeds_needed,
    format_aligned_numbers,
    format_confidence_level,
    format_declared_number,
    format_marks,
    format_number,
    format_p_value,
    format_replicates_heading,
)
from gapctl.text import format_count_with_noun

_MARKUP: Final = re.compile(r"([\\`*_{}\[\]<>|#~&$])")
_LIST_MARK: Final = re.compile(r"^([-+]|\d+[.)])(?=\s|$)")
_RULE: Final = re.compile(r"^(?=[-=\s]+$)")


def escape_markdown(text: str) -> Markup:
    """Escape a text so that Markdown shows it as written, on one line."""
    line = _MARKUP.sub(r"\\\1", " ".join(text.split()))
    marked = _LIST_MARK.sub(lambda mark: mark[0][:-1] + "\\" + mark[0][-1], line)
    return Markup(_RULE.sub(r"\\", marked) if line else line)


def format_code(text: str) -> Markup:
    """Format a text as code, whatever backticks it contains; escape bars, so that it may stand in a table."""
    line = " ".join(text.split())
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    padded = f" {line} " if line.startswith("`") or line.endswith("`") else line
    return Markup(f"{fence}{padded}{fence}".replace("|", r"\|"))


def format_code_block(text: str) -> Markup:
    """Format a text of several lines as code: indented, so that nothing in the text can end it."""
    return Markup("\n".join(f"    {line}" for line in text.expandtabs().splitlines()))


def format_table(headings: Sequence[str], rows: Sequence[Sequence[str]], numbers_from: int) -> Markup:
    """Format a table of cells that are already Markdown; align columns from `numbers_from` on to the right."""
    marks = ["---" if index < numbers_from else "---:" for index in range(len(headings))]
    return Markup("\n".join("| " + " | ".join(cells) + " |" for cells in (headings, marks, *rows)))


MOST_ROWS: Final = 500
"""The most trainings in a table: nobody reads more on a page, and an export has them all."""


class MarkdownReport(NamedTuple):
    """The text, and the PNG files that it shows, by the path that it refers to them by."""

    text: str
    figures: dict[str, bytes]


def render_sweep_markdown(judged: SweepAnalysis, ledger: Ledger, folder: str, declared: str) -> MarkdownReport:
    """Render one sweep's report.

    `folder` is where its figures will lie beside it, `declared` says when the hypotheses were declared.
    """
    shown = render_pngs(judged.analysis, read_run_record(judged.plan, ledger))
    text = _fill_template("sweep.md", sweep=_describe_sweep(judged, ledger, folder, declared, shown), mark=Markup("##"))
    return MarkdownReport(text, {f"{folder}/{picture.name}": picture.png for picture in shown})


def render_comparison_markdown(
    combined: SweepComparison, ledger: Ledger, folder: str, declared: Sequence[str]
) -> MarkdownReport:
    """Render several sweeps: what they share and where they differ, then each by itself."""
    sweeps: list[dict[str, object]] = []
    figures: dict[str, bytes] = {}
    for judged, when in zip(combined.sweeps, declared, strict=True):
        below = f"{folder}/{judged.file_name}"
        shown = render_pngs(judged.analysis, read_run_record(judged.plan, ledger))
        figures |= {f"{below}/{picture.name}": picture.png for picture in shown}
        sweeps.append(_describe_sweep(judged, ledger, below, when, shown))
    text = _fill_template(
        "comparison.md",
        name=format_comparison_title(combined),
        not_judged=combined.not_judged,
        comparisons=[
            {
                "heading": format_response_comparison(comparison),
                "table": format_table(
                    list_verdict_column_names(comparison),
                    [list(map(escape_markdown, format_verdict_cells(finding))) for finding in comparison.findings],
                    numbers_from=3,
                ),
                "note": explain_interval_levels(comparison),
            }
            for comparison in combined.comparisons
            if len(comparison.sweeps) > 1
        ],
        shared=_format_bullets(describe_shared_trainings(combined)) or ["They share no training."],
        differences=_format_bullets(describe_differences(combined))
        or ["They differ in no setting, and were made alike."],
        sweeps=sweeps,
        mark=Markup("###"),
    )
    return MarkdownReport(text, figures)


def _format_bullets(lines: Sequence[str]) -> list[Markup]:
    return [Markup(f"* {escape_markdown(line)}") for line in lines]


def _fill_template(template: str, **values: object) -> str:
    """Fill a template; blocks that are empty leave one blank line between the others."""
    text = load_text_templates(escape_markdown).get_template(template).render(values, code=format_code)
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n") + "\n"


def _describe_sweep(
    judged: SweepAnalysis, ledger: Ledger, folder: str, declared: str, shown: Sequence[PngFigure]
) -> dict[str, object]:
    """Collect what `sweep.md` shows."""
    analysis, noun = judged.analysis, judged.analysis.replicate_noun
    metrics, rows = list_main_metrics(analysis), analysis.trials.head(MOST_ROWS).iter_rows(named=True)
    trainings = [
        [
            escape_markdown(row["label"]),
            format_code(row["trial"]),
            escape_markdown(str(row[noun])),
            *(format_number(row[name]) for name in (*metrics, "seconds")),
        ]
        for row in rows
    ]
    return {
        "name": judged.name,
        "analysis": analysis,
        "declared": capitalise_first(declared),
        "notes": explain_redesign(analysis),
        "damaged": judged.damaged,
        "verdicts": _format_verdicts(analysis),
        "tests": [_explain_test(verdict, analysis.alpha) for verdict in analysis.verdicts],
        "family": format_count_with_noun(len(analysis.verdicts), "hypothesis", "hypotheses"),
        "figures": [(picture.title, Markup(quote(f"{folder}/{picture.name}")), picture.caption) for picture in shown],
        "trainings": format_table(
            ["training", "id", noun, *map(format_code, metrics), "seconds"], trainings, numbers_from=2
        ),
        "not_listed": len(analysis.trials) - len(trainings),
        "facts": collect_run_facts(judged, ledger),
        "code": None if analysis.declared is None else format_code_block(analysis.declared.text),
    }


def _format_verdicts(analysis: AnalysisResults) -> Markup:
    head = [
        "",
        "claim",
        "effect",
        "estimate",
        f"{format_confidence_level(analysis.alpha)} interval",
        "p (Holm)",
        format_replicates_heading(analysis.verdicts),
    ]
    return format_table(head, [_format_verdict_cells(verdict) for verdict in analysis.verdicts], numbers_from=3)


def _format_verdict_cells(verdict: Verdict) -> list[str]:
    estimate, low, high = format_aligned_numbers([verdict.estimate, *verdict.ci])
    return [
        f"{get_symbol(verdict)} **{verdict.verdict}**{format_marks(verdict.marks)}".strip(),
        escape_markdown(verdict.claim),
        escape_markdown(describe_effect_with_unit(verdict)),
        estimate,
        f"{low} to {high}" if low != high else low,
        format_p_value(verdict.p),
        str(verdict.seeds),
    ]


def _explain_test(verdict: Verdict, alpha: float) -> dict[str, object]:
    """Collect the line below the table on one hypothesis."""
    return {
        "id": format_code(verdict.id),
        "test": verdict.test,
        "declared": f"{verdict.direction}, smallest effect {format_declared_number(verdict.smallest_effect)}",
        "reason": verdict.reason,
        "predicted": describe_prediction(verdict, alpha),
        "needed": Markup(explain_seeds_needed(verdict)),
        "marks": explain_marks(verdict),
    }


VERDICT_ORDER: Final = ("supported", "refuted", "inconclusive")


def format_verdict_counts(analysis: AnalysisResults) -> str:
    """Count verdicts, `3 supported, 1 inconclusive`, and how many of them have which mark."""
    counts = Counter(verdict.verdict for verdict in analysis.verdicts)
    told = ", ".join(f"{counts[word]} {word}" for word in VERDICT_ORDER if counts[word])
    return f"{told}{format_marks(format_mark_counts(analysis))}" if told else "no hypotheses"


def format_mark_counts(analysis: AnalysisResults) -> list[str]:
    """Count marks, `exploratory`, `2 not learned`: each mark that any verdict has, numbered unless all have it."""
    counts = Counter(mark for verdict in analysis.verdicts for mark in verdict.marks)
    every = len(analysis.verdicts)
    return [mark if count == every else f"{count} {mark}" for mark, count in counts.items()]


def render_verdict_markdown(analysis: AnalysisResults) -> str:
    """Render a table with a row for each hypothesis, and the number of trainings that it rests on."""
    head = (
        f"| hypothesis | effect | verdict | estimate | {format_confidence_level(analysis.alpha)} interval | p "
        f"(Holm) | {format_replicates_heading(analysis.verdicts)} |"
    )
    rows = [head, "|:--|:--|:--|--:|--:|--:|--:|", *(_format_verdict_row(verdict) for verdict in analysis.verdicts)]
    done = f"{len(analysis.trials)} of {analysis.planned} trainings done."
    marks = [
        f"* `{verdict.id}`: {_escape_cell(line)}"
        for verdict in analysis.verdicts
        for line in (*filter(None, [describe_prediction(verdict, analysis.alpha)]), *explain_marks(verdict))
    ]
    marks = [*(f"* {_escape_cell(line)}" for line in explain_redesign(analysis)), *marks]
    return "\n".join([*rows, "", *marks, *([""] if marks else []), done] if analysis.verdicts else [done])


def _format_verdict_row(verdict: Verdict) -> str:
    estimate, low, high = format_aligned_numbers([verdict.estimate, *verdict.ci])
    interval = f"{low} to {high}" if math.isfinite(verdict.ci.low) else low
    word = f"**{verdict.verdict}**" + format_marks(verdict.marks)
    claim, effect = _escape_cell(verdict.claim), _escape_cell(describe_effect_with_unit(verdict))
    p = format_p_value(verdict.p)
    return f"| {claim} (`{verdict.id}`) | {effect} | {word} | {estimate} | {interval} | {p} | {verdict.seeds} |"


def _escape_cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
