"""The verdicts as LaTeX tables in the booktabs style: one table for each sweep, with its own Holm correction."""

import math
import re
from collections.abc import Sequence
from typing import Final

from gapctl.analysis.compare import SweepAnalysis
from gapctl.analysis.results import Verdict
from gapctl.report.text import (
    align_numbers,
    capitalise_first,
    describe_effect_with_unit,
    explain_marks,
    explain_redesign,
    format_confidence_level,
    format_count,
    format_marks,
    format_p_value,
)

_ESCAPES: Final = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "{": r"\{",
        "}": r"\}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "−": r"$-$",
        "–": r"--",
        "τ": r"$\tau$",
        "×": r"$\times$",
        "≤": r"$\leq$",
        "≥": r"$\geq$",
    }
)
_TEXT_COLUMN: Final = r">{\raggedright\arraybackslash}p{%.2f\linewidth}"


COLUMNS: Final = f"{_TEXT_COLUMN % 0.23}{_TEXT_COLUMN % 0.22}{_TEXT_COLUMN % 0.20}rr{_TEXT_COLUMN % 0.14}"
"""Widths for a paper's single column of ten-point text, where texts may wrap."""


def render_latex(sweeps: Sequence[SweepAnalysis], declared: Sequence[str]) -> str:
    """Render a file to `\\input`; `declared` says for each sweep when its hypotheses were declared."""
    tables = [_render_table(judged, when) for judged, when in zip(sweeps, declared, strict=True)]
    return "% \\usepackage{array,booktabs}\n" + "\n".join(tables)


def _render_table(judged: SweepAnalysis, declared: str) -> str:
    analysis = judged.analysis
    if not analysis.verdicts:
        return f"% {' '.join(judged.name.split())}: the sweep file states no hypotheses\n"
    head = [
        "claim",
        "effect",
        f"estimate ({escape_latex(format_confidence_level(analysis.alpha))} interval)",
        r"$p$ (Holm)",
    ]
    lines = [
        f"% hypotheses' sha256 {analysis.hypotheses_sha256}",
        f"% sweep file's sha256 {analysis.spec_sha256}",
        r"\begin{table}",
        r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{_write_caption(judged, declared)}}}",
        rf"\label{{tab:{re.sub('[^A-Za-z0-9]+', '-', judged.file_name)}}}",
        rf"\begin{{tabular}}{{{COLUMNS}}}",
        r"\toprule",
        _join_cells([*head, "$n$", "verdict"]),
        r"\midrule",
        *(_join_cells(_format_cells(verdict)) for verdict in analysis.verdicts),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _write_caption(judged: SweepAnalysis, declared: str) -> str:
    analysis, spec = judged.analysis, judged.plan.sweep.spec
    done, planned = len(analysis.trials), len(judged.plan.trials)
    family = format_count(len(analysis.verdicts), "hypothesis", "hypotheses")
    seeds = f"{format_count(spec.seeds, 'seed')}, paired ($n$: those with every training that a hypothesis needs)"
    return (
        f"{escape_latex(analysis.question)} "
        rf"Sweep {escape_latex(judged.name)}: {done} of {planned} trainings, {seeds}, "
        rf"$\alpha = {analysis.alpha:g}$, Holm's correction over {family}. "
        f"{escape_latex(capitalise_first(declared))}."
        f"{''.join(f' {escape_latex(line)}' for line in _list_notes(judged))}"
    )


def _list_notes(judged: SweepAnalysis) -> list[str]:
    """List what a reader of the table alone must know about its marks."""
    analysis = judged.analysis
    named = (f"{one.claim.rstrip('.')}: {line}" for one in analysis.verdicts for line in explain_marks(one))
    return [*explain_redesign(analysis), *named]


def _format_cells(verdict: Verdict) -> list[str]:
    estimate, low, high = align_numbers([verdict.estimate, *verdict.ci])
    known = math.isfinite(verdict.ci.low) and math.isfinite(verdict.ci.high)
    word = verdict.verdict + format_marks(verdict.marks)
    numbers = f"{estimate} ({low} to {high})" if known else f"{estimate} (too few seeds)"
    texts = [
        verdict.claim,
        describe_effect_with_unit(verdict),
        numbers,
        format_p_value(verdict.p),
        str(verdict.seeds),
        word,
    ]
    return [escape_latex(text) for text in texts]


def _join_cells(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def escape_latex(text: str) -> str:
    """Escape every special character of a text, on one line.

    Letters beyond ASCII stay as they are: LaTeX has read UTF-8 since 2018.
    """
    return " ".join(text.split()).translate(_ESCAPES)
