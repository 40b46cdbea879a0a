"""The paper's claims and the further checks, which of them a hypothesis tests, and what it leans on."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal

import yaml
from pydantic import ConfigDict, TypeAdapter, with_config

SHIPPED: Final = Path(__file__).parent / "claims.yaml"
PAPER: Final = "2404.07983"
_LISTED: Final = r"s? (\d+(?:(?:, | and |, and )\d+)*)"


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class Claim:
    """`number` is what a source calls it, `sections` those of the paper that state it, `sweeps` who tests it.

    Hypotheses in `also` test it though their source does not name it. Of those that test it, those in `against` deny
    it, and those in `beside` speak neither for nor against it. `responses` are the families of metrics that it is
    about, such as `gap`; of all where there are none. `untested` says why no row here can decide it,
    and `content_held` that it is about correlations with the content of captions held. `title` is the claim in brief.
    """

    number: str
    title: str
    claim: str
    sweeps: tuple[str, ...]
    sections: tuple[int, ...] = ()
    responses: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    against: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    untested: str = ""
    content_held: bool = False

    def tested_by(self, hypothesis: str, source: str | None) -> bool:
        """Whether the hypothesis tests it by itself, and not only by its sweep."""
        return hypothesis in self.also or _names(source or "", self)

    def spoken_to(self, hypothesis: str, source: str | None, response: str) -> bool:
        """Whether the hypothesis' verdict, whatever it is, bears on the claim."""
        if hypothesis in self.beside or (self.responses and response.partition("/")[0] not in self.responses):
            return False
        return hypothesis in self.against or self.tested_by(hypothesis, source)


Checks = Mapping[str, Mapping[str, tuple[str, ...] | Literal["all"]]]
"""By sweep and the id of a check: the ids of the hypotheses that lean on it."""


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class Redesigned:
    """How often a sweep's question was asked `before` it was designed again, and the first answer."""

    before: int
    first_answer: str


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class _File:
    claims: tuple[Claim, ...]
    checks: Checks
    withdrawn: Mapping[str, Mapping[str, str]]
    redesigned: Mapping[str, Redesigned]
    retired: tuple[str, ...]


def claims() -> tuple[Claim, ...]:
    """All of them, in the order of the page."""
    return _shipped().claims


def checks() -> Checks:
    """The checks of all sweeps that have any."""
    return _shipped().checks


def withdrawn() -> Mapping[str, Mapping[str, str]]:
    """By sweep and hypothesis: why a review withdrew the row."""
    return _shipped().withdrawn


def redesigned() -> Mapping[str, Redesigned]:
    """The sweeps that ask a question again, by name."""
    return _shipped().redesigned


def retired() -> tuple[str, ...]:
    """Hypotheses that no shipped file has any more; ledgers of earlier versions do."""
    return _shipped().retired


def claims_tested(hypothesis: str, source: str | None, sweep: str) -> tuple[Claim, ...]:
    """The claims that a hypothesis tests: by what its source names or they list, else those that list its sweep."""
    tested = tuple(claim for claim in claims() if claim.tested_by(hypothesis, source))
    return tested or tuple(claim for claim in claims() if sweep in claim.sweeps)


@cache
def _shipped() -> _File:
    return TypeAdapter(_File).validate_python(yaml.safe_load(SHIPPED.read_text(encoding="utf-8")))


def _names(source: str, claim: Claim) -> bool:
    kind, _, number = claim.number.rpartition(" ")
    if kind == "claim" and PAPER not in source:
        return False
    sections = _numbers(source, "section") if PAPER in source else set()
    return int(number) in _numbers(source, kind) or bool(sections & set(claim.sections))


def _numbers(source: str, kind: str) -> set[int]:
    """The numbers that follow a word: 1 and 2 of `claims 1 and 2`."""
    found = re.findall(rf"\b{kind}{_LISTED}", source)
    return {int(number) for listed in found for number in re.findall(r"\d+", listed)}
