"""The verdicts as LaTeX tables in the booktabs style, one table for each sweep and its own Holm correction."""

import math
import re
from collections.abc import Sequence
from typing import Final

from gapctl.analysis.compare import Judged
from gapctl.analysis.results import Verdict
from gapctl.report.text import (
    aligned,
    capital,
    confidence,
    counted,
    effect_name,
    in_brackets,
    mark_lines,
    p_value,
    redesign_lines,
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


def typeset(text: str) -> str:
    """A text on one line, every special character escaped.

    Letters beyond ASCII stay as they are: LaTeX has read UTF-8 since 2018.
    """
    return " ".join(text.split()).translate(_ESCAPES)


_WORDS: Final = r">{\raggedright\arraybackslash}p{%.2f\linewidth}"
COLUMNS: Final = f"{_WORDS % 0.23}{_WORDS % 0.22}{_WORDS % 0.20}rr{_WORDS % 0.14}"
"""Wide enough for a paper's single column of ten-point text, where texts may wrap."""


def render_latex(sweeps: Sequence[Judged], declared: Sequence[str]) -> str:
    """A file to `\\input`; `declared` says of each sweep when its hypotheses were declared."""
    tables = [_table(judged, when) for judged, when in zip(sweeps, declared, strict=True)]
    return "% \\usepackage{array,booktabs}\n" + "\n".join(tables)


def _table(judged: Judged, declared: str) -> str:
    analysis = judged.analysis
    if not analysis.verdicts:
        return f"% {' '.join(judged.name.split())}: the sweep file states no hypotheses\n"
    head = ["claim", "effect", f"estimate ({typeset(confidence(analysis.alpha))} interval)", r"$p$ (Holm)"]
    lines = [
        f"% hypotheses' sha256 {analysis.hypotheses_sha256}",
        f"% sweep file's sha256 {analysis.spec_sha256}",
        r"\begin{table}",
        r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{_caption(judged, declared)}}}",
        rf"\label{{tab:{re.sub('[^A-Za-z0-9]+', '-', judged.file_name)}}}",
        rf"\begin{{tabular}}{{{COLUMNS}}}",
        r"\toprule",
        _row([*head, "$n$", "verdict"]),
        r"\midrule",
        *(_row(_cells(verdict)) for verdict in analysis.verdicts),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _caption(judged: Judged, declared: str) -> str:
    analysis, spec = judged.analysis, judged.plan.sweep.spec
    done, planned = len(analysis.trials), len(judged.plan.trials)
    family = counted(len(analysis.verdicts), "hypothesis", "hypotheses")
    seeds = f"{counted(spec.seeds, 'seed')}, paired ($n$: those with every training that a hypothesis needs)"
    return (
        f"{typeset(analysis.question)} "
        rf"Sweep {typeset(judged.name)}: {done} of {planned} trainings, {seeds}, "
        rf"$\alpha = {analysis.alpha:g}$, Holm's correction over {family}. "
        f"{typeset(capital(declared))}."
        f"{''.join(f' {typeset(line)}' for line in _notes(judged))}"
    )


def _notes(judged: Judged) -> list[str]:
    """What a reader of the table alone must know of its marks."""
    analysis = judged.analysis
    named = (f"{one.claim.rstrip('.')}: {line}" for one in analysis.verdicts for line in mark_lines(one))
    return [*redesign_lines(analysis), *named]


def _cells(verdict: Verdict) -> list[str]:
    estimate, low, high = aligned([verdict.estimate, *verdict.ci])
    known = math.isfinite(verdict.ci.low) and math.isfinite(verdict.ci.high)
    word = verdict.verdict + in_brackets(verdict.marks)
    numbers = f"{estimate} ({low} to {high})" if known else f"{estimate} (too few seeds)"
    texts = [verdict.claim, effect_name(verdict), numbers, p_value(verdict.p), str(verdict.seeds), word]
    return [typeset(text) for text in texts]


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"
