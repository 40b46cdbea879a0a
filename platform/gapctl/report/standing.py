"""What a reader must know first: how it ended, how much of it is done, and what stands in the way of trusting it."""

from collections import Counter

import polars as pl

from gapctl.analysis.results import Analysis
from gapctl.report.mark_words import redesign_lines
from gapctl.report.markup import Html, element, joined
from gapctl.report.run_record import RunRecord
from gapctl.report.trial_table import main_metrics
from gapctl.report.verdict_cards import SYMBOLS
from gapctl.report.words import listed


def kicker(analysis: Analysis) -> str:
    """The sweep and its scale."""
    return f"gapctl · sweep {analysis.sweep}" + (f" · scale {analysis.scale}" if analysis.scale else "")


def summary(analysis: Analysis) -> Html:
    """How many hypotheses ended how, at which alpha, from how many trainings."""
    counts = Counter(verdict.verdict for verdict in analysis.verdicts)
    ended = [f"{SYMBOLS[word]} {counts[word]} {word}" for word in SYMBOLS if counts[word]]
    done = f"{len(analysis.trials)} of {analysis.planned} trainings done"
    tested = [f"alpha {analysis.alpha:g}, Holm over {len(analysis.verdicts)}"] if ended else []
    return joined(
        [element("b", ", ".join(ended) or "No hypotheses"), *(_plain(part) for part in (*tested, done))], " · "
    )


def notices(analysis: Analysis, record: RunRecord) -> Html:
    """Whether the hypotheses were declared in time, whether trainings or seeds are missing, and what is no number."""
    declared = [_declaration(analysis)] if analysis.verdicts or analysis.declared else []
    return joined(
        [
            *declared,
            *(_alert("REDESIGNED", line) for line in redesign_lines(analysis)),
            *_as_declared(analysis),
            *_incomplete(analysis, record),
            *_one_seed(analysis),
            *_not_a_number(analysis),
        ]
    )


def _declaration(analysis: Analysis) -> Html:
    declared, now = analysis.declared_sha256, analysis.hypotheses_sha256
    here = joined([_plain("hypotheses' sha256"), element("span", now, class_="hash")], " ")
    if declared == now and analysis.deviation:
        return _alert("EXPLORATORY", f"The hypotheses stand as declared, but {analysis.deviation};", here)
    if declared == now:
        said = [element("b", "Declared before the first training;"), here]
        return element("p", joined(said, " "), class_="notice")
    if declared is None:
        return _alert("EXPLORATORY", "These hypotheses were not written down before the first training began;", here)
    before = joined([_plain("declared was"), element("span", declared, class_="hash")], " ")
    since = ["its text is not in the ledger"] if analysis.declared is None else analysis.declared.changes
    also = [analysis.deviation] if analysis.deviation else []
    changes = (_plain(said) for said in (*since, *also))
    return _alert("EXPLORATORY", "The hypotheses were changed after the first training began;", here, before, *changes)


def _as_declared(analysis: Analysis) -> list[Html]:
    """The sweep file that was declared, folded, where another one is judged."""
    declared = analysis.declared
    if declared is None:
        return []
    how = (
        [] if declared.command is None else [element("p", joined([_plain("Judge it:"), _code(declared.command)], " "))]
    )
    heading = element(
        "summary", joined([_plain("What was declared before the first training:"), _code(declared.asked_with)], " ")
    )
    return [element("details", joined([heading, *how, element("pre", declared.text)]), class_="declared")]


def _code(text: str) -> Html:
    return element("code", text)


def _incomplete(analysis: Analysis, record: RunRecord) -> list[Html]:
    missing = analysis.planned - len(analysis.trials)
    if missing <= 0:
        return []
    named = [f"{waiting.label} ({waiting.why})" for waiting in record.waiting]
    which = f" {listed(named)}." if named else ""
    said = f"{missing} of {analysis.planned} trainings have not finished; verdicts use those that have.{which}"
    if record.commands is None:
        return [_alert("INCOMPLETE", said)]
    how = joined([_plain("This finishes them:"), element("code", record.commands.sweep)], " ")
    return [_alert("INCOMPLETE", said, how)]


def _one_seed(analysis: Analysis) -> list[Html]:
    if not analysis.verdicts or "seed" not in analysis.trials.columns or analysis.trials["seed"].n_unique() != 1:
        return []
    said = "Seeds are the replicates, and one gives neither an interval nor a verdict: what follows is estimates alone."
    return [_alert("ONE SEED", said)]


def _not_a_number(analysis: Analysis) -> list[Html]:
    """A metric that a training could not compute; the charts and tests do without that training."""
    asked = [verdict.response for verdict in analysis.verdicts if verdict.response in analysis.trials.columns]
    found = []
    for metric in dict.fromkeys([*asked, *main_metrics(analysis)]):
        broken = analysis.trials.filter(pl.col(metric).cast(pl.Float64).is_nan())
        if len(broken):
            found.append(f"{metric} in {listed(list(broken['label']))}")
    if not found:
        return []
    return [_alert("NOT A NUMBER", f"{'; '.join(found)}. Charts and verdicts leave these values out.")]


def _alert(word: str, said: str, *more: Html) -> Html:
    parts = [element("strong", f"{word}:"), _plain(said), joined(more, "; ")]
    return element("p", joined(parts, " "), class_="notice alert")


def _plain(text: str) -> Html:
    return element("span", text)
