"""The verdicts as LaTeX tables in the booktabs style: one table for each sweep, with its own Holm correction."""

import math
import re
from collections.abc import Sequence
from typing import Final

from markupsafe import Markup

from gapctl.analysis.compare import SweepAnalysis
from gapctl.analysis.results import AnalysisResults, Verdict
from gapctl.report.html import load_text_templates
from gapctl.report.text import (
    capitalise_first,
    describe_effect_with_unit,
    describe_prediction,
    explain_marks,
    explain_redesign,
    format_aligned_numbers,
    format_confidence_level,
    format_marks,
    format_p_value,
)
from gapctl.text import format_count_with_noun

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
DELIMITERS: Final = ("<%", "%>", "<<", ">>", "<#", "#>")
"""LaTeX has its own uses of braces."""


def render_latex(sweeps: Sequence[SweepAnalysis], declared: Sequence[str]) -> str:
    r"""Render a file to `\input`; `declared` says for each sweep when its hypotheses were declared."""
    tables = [
        {
            "name": judged.name,
            "comment": Markup(" ".join(judged.name.split())),
            "label": Markup(re.sub("[^A-Za-z0-9]+", "-", judged.file_name)),
            "analysis": judged.analysis,
            "planned": len(judged.plan.trials),
            "seeds": format_count_with_noun(
                len(judged.plan.sweep.spec.replicate_numbers), judged.plan.sweep.spec.replicate_noun
            ),
            "family": format_count_with_noun(len(judged.analysis.verdicts), "hypothesis", "hypotheses"),
            "declared": capitalise_first(when),
            "notes": _list_notes(judged.analysis),
            "confidence": format_confidence_level(judged.analysis.alpha),
            "rows": [_format_cells(verdict) for verdict in judged.analysis.verdicts],
        }
        for judged, when in zip(sweeps, declared, strict=True)
    ]
    return load_text_templates(escape_latex, DELIMITERS).get_template("verdicts.tex").render(tables=tables)


def _list_notes(analysis: AnalysisResults) -> list[str]:
    """List what a reader of the table alone must know about its marks, and intervals for a new recipe."""
    named = (
        f"{one.claim.rstrip('.')}: {line}"
        for one in analysis.verdicts
        for line in (*filter(None, [describe_prediction(one, analysis.alpha)]), *explain_marks(one))
    )
    return [*explain_redesign(analysis), *named]


def _format_cells(verdict: Verdict) -> list[str]:
    estimate, low, high = format_aligned_numbers([verdict.estimate, *verdict.ci])
    known = math.isfinite(verdict.ci.low) and math.isfinite(verdict.ci.high)
    word = verdict.verdict + format_marks(verdict.marks)
    numbers = f"{estimate} ({low} to {high})" if known else f"{estimate} (too few {verdict.replicate_name})"
    return [
        verdict.claim,
        describe_effect_with_unit(verdict),
        numbers,
        format_p_value(verdict.p),
        str(verdict.seeds),
        word,
    ]


def escape_latex(text: str) -> Markup:
    """Escape every special character of a text, on one line.

    Letters beyond ASCII stay as they are: LaTeX has read UTF-8 since 2018.
    """
    return Markup(" ".join(text.split()).translate(_ESCAPES))
