"""The claims of the page of findings: which hypotheses test them, and what a verdict says of each.

1. `load_claims` and its siblings read `findings.claims.yaml`: the claims, and which hypotheses test, deny or accompany
   them.
2. `parse_notes` reads the answers that people wrote beside the page (`--notes`).
3. `judge_bearing` decides what a verdict says of a claim; `find_strike_reason` strikes rows that do not count.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

import yaml
from pydantic import BeforeValidator, ConfigDict, TypeAdapter, ValidationError, with_config

from gapctl.analysis.compare import SweepAnalysis
from gapctl.analysis.results import Verdict
from gapctl.config.yaml_file import parse_yaml_value
from gapctl.errors import InputError

CLAIMS_FILE: Final = Path(__file__).parent / "findings.claims.yaml"
PAPER: Final = "2404.07983"
_NUMBER_LIST: Final = r"s? (\d+(?:(?:, | and |, and )\d+)*)"


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class Claim:
    """A claim of a source: `number` is its name there, `sections` state it in the paper, and `sweeps` test it.

    Hypotheses in `also` test it although their source does not name it. Of the hypotheses that test it, those in
    `against` deny it, those in `contrary` predict the opposite of it, and those in `beside` say nothing about it.
    `responses` are the families of metrics that it is about, such as `gap`; empty for all. `untested` explains why no
    row here can decide it, and `content_held` marks a claim about correlations with the content of captions held.
    `title` is the claim in brief.
    """

    number: str
    title: str
    claim: str
    sweeps: tuple[str, ...]
    sections: tuple[int, ...] = ()
    responses: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    against: tuple[str, ...] = ()
    contrary: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    untested: str = ""
    content_held: bool = False

    def is_tested_by(self, hypothesis: str, source: str | None) -> bool:
        """Return whether the hypothesis itself tests the claim, and not only its sweep."""
        return hypothesis in self.also or _is_claim_named(source or "", self)

    def is_addressed_by(self, hypothesis: str, source: str | None, response: str) -> bool:
        """Return whether the hypothesis' verdict, whatever it is, bears on the claim."""
        if hypothesis in self.beside or (self.responses and response.partition("/")[0] not in self.responses):
            return False
        return hypothesis in (*self.against, *self.contrary) or self.is_tested_by(hypothesis, source)


Checks = Mapping[str, Mapping[str, tuple[str, ...] | Literal["all"]]]
"""By sweep and the id of a check: the ids of the hypotheses that depend on it."""


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class Redesign:
    """How often a sweep's question was asked `before` it was designed again, and the first answer."""

    before: int
    first_answer: str


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class _ClaimsFile:
    claims: tuple[Claim, ...]
    checks: Checks
    withdrawn: Mapping[str, Mapping[str, str]]
    redesigned: Mapping[str, Redesign]
    retired: tuple[str, ...]


def load_claims() -> tuple[Claim, ...]:
    """Return all claims, in the order of the page."""
    return _load_claims_file().claims


def load_checks() -> Checks:
    """Return the checks of all sweeps that have any."""
    return _load_claims_file().checks


def load_withdrawals() -> Mapping[str, Mapping[str, str]]:
    """Return, by sweep and hypothesis, why a review withdrew the row."""
    return _load_claims_file().withdrawn


def load_redesigns() -> Mapping[str, Redesign]:
    """Return the sweeps that ask a question again, by name."""
    return _load_claims_file().redesigned


def load_retired_hypotheses() -> tuple[str, ...]:
    """Return hypotheses that no shipped file has any more; ledgers of earlier versions do."""
    return _load_claims_file().retired


def match_claims(hypothesis: str, source: str | None, sweep: str) -> tuple[Claim, ...]:
    """Return the claims that a hypothesis tests.

    These are the claims that its source names or that list it, or else those that list its sweep.
    """
    tested = tuple(claim for claim in load_claims() if claim.is_tested_by(hypothesis, source))
    return tested or tuple(claim for claim in load_claims() if sweep in claim.sweeps)


@cache
def _load_claims_file() -> _ClaimsFile:
    return TypeAdapter(_ClaimsFile).validate_python(yaml.safe_load(CLAIMS_FILE.read_text(encoding="utf-8")))


def _is_claim_named(source: str, claim: Claim) -> bool:
    kind, _, number = claim.number.rpartition(" ")
    if kind == "claim" and PAPER not in source:
        return False
    sections = _find_numbers(source, "section") if PAPER in source else set()
    return int(number) in _find_numbers(source, kind) or bool(sections & set(claim.sections))


def _find_numbers(source: str, kind: str) -> set[int]:
    """Return the numbers that follow a word: 1 and 2 of `claims 1 and 2`."""
    found = re.findall(rf"\b{kind}{_NUMBER_LIST}", source)
    return {int(number) for listed in found for number in re.findall(r"\d+", listed)}


NOTE_TEXTS: Final = ("ledger", "answer", "would change our mind", "had wrong before")
"""Keys beside those of claims, each a text in Markdown; `ledger` heads the column of the ledger's counts."""


def _validate_text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"found {value!r}; expected a text in Markdown")
    return value.strip()


MarkdownText = Annotated[str, BeforeValidator(_validate_text)]


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class ClaimNotes:
    """Notes on a claim: `answer` in a few words; `number` names the row of the key number, as SWEEP/HYPOTHESIS.

    `measure` says what the number is of.

    `elsewhere` has answers from outside the ledger, by the column of the table. `note` stands below the claim.
    """

    answer: MarkdownText | None = None
    number: MarkdownText | None = None
    measure: MarkdownText | None = None
    elsewhere: Mapping[str, MarkdownText] = field(default_factory=dict)
    note: MarkdownText | None = None


@dataclass(frozen=True)
class PageNotes:
    """Markdown by `NOTE_TEXTS`, the notes on claims by number, such as `claim 1`, and the file's name in messages."""

    texts: Mapping[str, str] = field(default_factory=dict)
    claims: Mapping[str, ClaimNotes] = field(default_factory=dict)
    name: str = "--notes"


def parse_notes(text: str, name: str) -> PageNotes:
    """Parse the text of a file of notes; `name` is what messages call the file.

    A text in place of a mapping is the note of its claim. Raise InputError where a key or a value is none of these.
    """
    try:
        _, document = parse_yaml_value(text)
    except yaml.YAMLError as error:
        raise InputError(f"{name}: is not YAML that gapctl reads: {' '.join(str(error).split())}") from error
    numbers = [claim.number for claim in load_claims()]
    known = [*numbers, *NOTE_TEXTS]
    if not isinstance(document, dict):
        raise InputError(f"{name}: found no mapping; expected a text for some of {', '.join(known)}")
    for key in document:
        if key not in known:
            raise InputError(f"{name}: found {key!r}; expected one of {', '.join(known)}")
    return PageNotes(
        {key: _validate_value(MarkdownText, document[key], f"{name}: {key}") for key in NOTE_TEXTS if key in document},
        {number: _read_claim_notes(document[number], f"{name}: {number}") for number in numbers if number in document},
        name,
    )


def _read_claim_notes(value: Any, where: str) -> ClaimNotes:
    if not isinstance(value, dict):
        return ClaimNotes(note=_validate_value(MarkdownText, value, where))
    found: ClaimNotes = _validate_value(ClaimNotes, value, where)
    return found


def _validate_value(kind: Any, value: Any, where: str) -> Any:
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        # Of the parts that are text, pydantic's own names of kinds of values begin with function-.
        keys = [part for part in first["loc"] if isinstance(part, str) and not part.startswith("function-")]
        path = "".join(f": {key}" for key in keys)
        raise InputError(f"{where}{path}: {_explain_error(first)}") from error


def _explain_error(error: Any) -> str:
    if error["type"] == "unexpected_keyword_argument":
        return "is no key; expected some of answer, number, measure, elsewhere, note"
    return str(error["msg"]).removeprefix("Value error, ")


BearingWord = Literal["yes", "no", "open", "cannot say", "not learned", "withdrawn", "–"]
TESTING_WORDS: Final[tuple[BearingWord, ...]] = ("yes", "no", "open")
"""The words of a row that tests the claim."""


class Bearing(NamedTuple):
    """What a verdict says of a claim; `failed` are the checks that keep it from saying anything, with their ends."""

    word: BearingWord
    failed: tuple[tuple[str, str], ...] = ()


def judge_bearing(claim: Claim, verdict: Verdict, judged: SweepAnalysis, checks: Checks) -> Bearing:
    """Judge whether a verdict of a sweep speaks for the claim.

    A row that is struck through does not count, whatever its verdict (`find_strike_reason`). A row beside the claim, or
    a check itself, says nothing (a dash). A row cannot say anything where a check that it depends on is not supported
    or was not judged: then it is unknown whether what it compares differs at all.
    """
    of_sweep = checks.get(judged.analysis.sweep, {})
    if verdict.id in of_sweep or not claim.is_addressed_by(verdict.id, verdict.source, verdict.response):
        return Bearing("–")
    if word := find_strike_reason(verdict, judged):
        return Bearing(word)
    leant_on = [check for check, leaning in of_sweep.items() if leaning == "all" or verdict.id in leaning]
    failed = tuple(
        (check, end)
        for check in leant_on
        if (end := _find_check_outcome(check, judged.analysis.verdicts)) != "supported"
    )
    if failed:
        return Bearing("cannot say", failed)
    return Bearing(_derive_answer(verdict, claim))


def find_strike_reason(verdict: Verdict, judged: SweepAnalysis) -> BearingWord | None:
    """Return why a row is struck through; None for other rows.

    An arm that it compares learned nothing, or a review withdrew it.
    """
    if verdict.not_learned:
        return "not learned"
    return "withdrawn" if verdict.id in load_withdrawals().get(judged.analysis.sweep, {}) else None


def _derive_answer(verdict: Verdict, claim: Claim) -> BearingWord:
    """Derive the answer to a claim from a verdict that tests it.

    A denial that is refuted shows the claim where the effect is too small to count, and the contrary where the effect
    counts the other way; else both leave it open.
    """
    if verdict.verdict == "inconclusive":
        return "open"
    if verdict.id in (*claim.against, *claim.contrary):
        if verdict.verdict == "supported":
            return "no"
        denied = verdict.id in claim.against
        shown = verdict.refuted_as == "negligible" if denied else _counts_the_other_way(verdict)
        return "yes" if shown else "open"
    return "yes" if verdict.verdict == "supported" else "no"


def _counts_the_other_way(verdict: Verdict) -> bool:
    """Return whether all of a refuted verdict's interval is an effect that counts, in the direction not declared."""
    return verdict.refuted_as == "opposite" and min(map(abs, verdict.ci)) > verdict.smallest_effect


def _find_check_outcome(check: str, verdicts: Sequence[Verdict]) -> str:
    return next((verdict.verdict for verdict in verdicts if verdict.id == check), "not judged")
