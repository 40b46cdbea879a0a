"""The report as Markdown with PNG figures beside it, for a repository or a paper's appendix."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from gapctl.analysis.compare import Combined, Judged
from gapctl.analysis.results import Analysis, Verdict
from gapctl.ledger import Ledger
from gapctl.report.compare_page import (
    comparison_title,
    difference_lines,
    finding_cells,
    heading,
    headings,
    level_note,
    shared_lines,
)
from gapctl.report.figures import Picture, pictures
from gapctl.report.page_parts import Fact, read_record, run_facts
from gapctl.report.sweep_page import SYMBOLS, main_metrics
from gapctl.report.text import (
    aligned,
    as_declared,
    capital,
    confidence,
    counted,
    effect_name,
    in_brackets,
    mark_lines,
    number,
    p_value,
    redesign_lines,
    settling,
)

_MARKUP: Final = re.compile(r"([\\`*_{}\[\]<>|#~&$])")
_LIST_MARK: Final = re.compile(r"^([-+]|\d+[.)])(?=\s|$)")
_RULE: Final = re.compile(r"^(?=[-=\s]+$)")


def plain(text: str) -> str:
    """A text on one line that reads as it was written."""
    line = _MARKUP.sub(r"\\\1", " ".join(text.split()))
    marked = _LIST_MARK.sub(lambda mark: mark[0][:-1] + "\\" + mark[0][-1], line)
    return _RULE.sub(r"\\", marked) if line else line


def code(text: str) -> str:
    """A text as code, whatever backticks are in it; bars are escaped, so that it may stand in a table."""
    line = " ".join(text.split())
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    padded = f" {line} " if line.startswith("`") or line.endswith("`") else line
    return f"{fence}{padded}{fence}".replace("|", r"\|")


def block(text: str) -> str:
    """A text of several lines as code: indented, which no text in it can end."""
    return "\n".join(f"    {line}" for line in text.expandtabs().splitlines())


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], numbers_from: int) -> str:
    """A table of cells that are Markdown already; columns from `numbers_from` on are set right."""
    marks = ["---" if index < numbers_from else "---:" for index in range(len(headings))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (headings, marks, *rows))


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
