"""Every intervention and every measure in one table, each change with its interval and verdict."""

from typing import TYPE_CHECKING, Final

from gapctl.report.closing.words import heading, in_points, measure_words, signed
from gapctl.report.markup import Html, element, facts, fill, joined
from gapctl.report.words import meaning

if TYPE_CHECKING:
    from gapctl.interventions.judge import Judged, Judgement
    from gapctl.interventions.verdict import Change, Verdict

SYMBOLS: Final[dict["Verdict", str]] = {
    "helps": "▲",
    "harms": "▼",
    "no difference that counts": "=",
    "inconclusive": "?",
}
_TONES: Final[dict["Verdict", str]] = {"helps": "supported", "harms": "refuted"}
_GAP_DECIMALS: Final = 3


def closing_table(judgement: "Judgement") -> Html:
    """A row for doing nothing and one for each intervention."""
    keys = tuple(judgement.before)
    rows = [_before(judgement, keys), *(_row(each, keys) for each in judgement.judged)]
    head = [element("th", "intervention", scope="col", class_="text")]
    head += [element("th", heading(key), scope="col", title=measure_words(key)) for key in keys]
    glossary = {heading(key): f"{measure_words(key)}: {meaning(key)}" for key in keys}
    return fill("closing_table", head=joined(head, ""), rows=joined(rows), glossary=facts(glossary))


def _before(judgement: "Judgement", keys: tuple[str, ...]) -> Html:
    cells = [element("td", _value(key, judgement.before[key])) for key in keys]
    return element("tr", joined([_name("nothing"), *cells], ""))


def _row(judged: "Judged", keys: tuple[str, ...]) -> Html:
    if judged.impossible:
        reason = element("td", f"not applied: {judged.impossible}", class_="text", colspan=str(len(keys)))
        return element("tr", joined([_name(judged.name), reason], ""))
    return element("tr", joined([_name(judged.name), *(_cell(key, judged.changes[key]) for key in keys)], ""))


def _name(name: str) -> Html:
    return element("th", name, scope="row", class_="text")


def _cell(key: str, change: "Change") -> Html:
    tone = _TONES.get(change.verdict, "inconclusive")
    symbol = element("span", SYMBOLS[change.verdict], class_="tone", title=change.verdict)
    interval = element("small", f"{_signed(key, change.low)} to {_signed(key, change.high)}")
    shown = joined([symbol, element("span", _signed(key, change.change)), interval], " ")
    return element("td", shown, class_=tone)


def _value(key: str, value: float) -> str:
    return f"{value:.{_GAP_DECIMALS}f}" if key.startswith("gap/") else f"{in_points(key, value):.1f}"


def _signed(key: str, value: float) -> str:
    text = signed(value, _GAP_DECIMALS) if key.startswith("gap/") else signed(in_points(key, value))
    return text.replace("-", "−")
