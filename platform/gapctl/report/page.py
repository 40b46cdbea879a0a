"""One HTML page that answers a sweep's question; it needs no network and no other file."""

import shlex

from gapctl.analysis.results import Analysis
from gapctl.report.figure import Figure
from gapctl.report.figures import Responses, responses, strip_figures, training_figures
from gapctl.report.markup import Html, element, facts, fill, joined
from gapctl.report.page_parts import document, panels, section
from gapctl.report.palette import PAGE_LOOK
from gapctl.report.standing import kicker, notices, summary
from gapctl.report.trial_table import trial_table
from gapctl.report.verdict_cards import verdict_cards
from gapctl.report.words import factor_words, number


def render_report(analysis: Analysis) -> str:
    """A complete HTML document.

    The same analysis gives the same text: it holds no time and nothing random. Vega is in it once, scripts and
    styles are inline, and its security policy forbids loading anything. Texts from the sweep file are escaped.
    """
    strips = strip_figures(analysis, PAGE_LOOK)
    doses, paths = responses(analysis, PAGE_LOOK), training_figures(analysis, PAGE_LOOK)
    drawn = [*strips.values(), *(figure for dose in doses for figure in dose.figures), *paths]
    content = fill(
        "page",
        kicker=kicker(analysis),
        question=analysis.question,
        summary=summary(analysis),
        notices=notices(analysis),
        verdicts=verdict_cards(analysis, strips),
        meaning=fill("meaning", alpha=f"{analysis.alpha:g}") if analysis.verdicts else Html(""),
        figures=joined([_doses(doses), _paths(paths)]),
        trials=trial_table(analysis),
        record=_record(analysis),
    )
    return document(f"{analysis.sweep}: {analysis.question}", content, drawn)


def _doses(doses: list[Responses]) -> Html:
    lead = "; ".join(f"{dose.factor.words}: {', '.join(dose.factor.levels)}" for dose in doses)
    drawn = [dose for dose in doses if dose.figures]
    headed = len(drawn) > 1
    parts = [part for dose in drawn for part in _dose(dose, headed)]
    return section("responses", "What the treatment did", f"Treatment: {lead}.", parts)


def _dose(dose: Responses, headed: bool) -> list[Html]:
    heading = [element("h3", f"By {dose.factor.words}")] if headed else []
    return [*heading, panels(dose.figures)]


def _paths(figures: list[Figure]) -> Html:
    parts = [panels(figures)] if figures else []
    return section("paths", "While training", "What each training measured on its way.", parts)


def _record(analysis: Analysis) -> Html:
    return fill("record", facts=facts(_what_was_run(analysis)), command=_command(analysis))


def _what_was_run(analysis: Analysis) -> dict[str, str | Html]:
    trials = analysis.trials
    seconds = float(trials.get_column("seconds").sum()) if "seconds" in trials.columns else 0.0
    seeds = trials.get_column("seed").n_unique() if "seed" in trials.columns else 0
    return {
        "trainings": f"{len(trials)} done of {analysis.planned} planned",
        "scale": analysis.scale or "none",
        "seeds": str(seeds),
        "varied": ", ".join(f"{factor_words(path)} ({path})" for path in analysis.factors),
        "time in training": f"{number(seconds / 60)} minutes in all",
        "alpha": f"{analysis.alpha:g}, Holm over {len(analysis.verdicts)} hypotheses",
        "sweep file's sha256": element("span", analysis.spec_sha256, class_="hash"),
        "hypotheses' sha256": element("span", analysis.hypotheses_sha256, class_="hash"),
    }


def _command(analysis: Analysis) -> str:
    scale = ["--scale", analysis.scale] if analysis.scale else []
    return shlex.join(["gapctl", "sweep", f"sweeps/{analysis.sweep}.yaml", *scale])
