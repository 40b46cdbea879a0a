"""What a reader must know first: how it ended, how much of it is done, and whether it was declared beforehand."""

from collections import Counter

from gapctl.analysis.results import Analysis
from gapctl.report.markup import Html, element, joined
from gapctl.report.verdict_cards import SYMBOLS


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


def notices(analysis: Analysis) -> Html:
    """Whether the hypotheses were declared in time, and whether trainings are missing."""
    missing = analysis.planned - len(analysis.trials)
    parts = [_declaration(analysis)] if analysis.verdicts else []
    if missing > 0:
        parts.append(
            _alert(
                "INCOMPLETE",
                f"{missing} of {analysis.planned} trainings have not finished; verdicts use those that have.",
            )
        )
    return joined(parts)


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
    return _alert("EXPLORATORY", "The hypotheses were changed after the first training began;", here, before)


def _alert(word: str, said: str, *more: Html) -> Html:
    parts = [element("strong", f"{word}:"), _plain(said), joined(more, "; ")]
    return element("p", joined(parts, " "), class_="notice alert")


def _plain(text: str) -> Html:
    return element("span", text)
