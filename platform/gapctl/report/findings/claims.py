"""The paper's claims and the further checks, and which of them a hypothesis tests by what its source names."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import yaml
from pydantic import ConfigDict, TypeAdapter, with_config

from gapctl.analysis.results import Finding

SHIPPED: Final = Path(__file__).parent / "claims.yaml"
PAPER: Final = "2404.07983"
_LISTED: Final = r"s? (\d+(?:(?:, | and |, and )\d+)*)"


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class Claim:
    """`number` is what a source calls it, `sections` those of the paper that state it, `sweeps` who tests it.

    Of the hypotheses that test it, those in `against` deny it, and those in `beside` speak neither for nor against it.
    """

    number: str
    claim: str
    sweeps: tuple[str, ...]
    sections: tuple[int, ...] = ()
    against: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()

    def spoken_for(self, hypothesis: str, source: str | None, verdict: Finding) -> str:
        """Whether a verdict speaks for this claim: `yes`, `no`, `open`, or a dash where it says nothing of it."""
        denies = hypothesis in self.against
        if hypothesis in self.beside or not (denies or _names(source or "", self)):
            return "–"
        return "open" if verdict == "inconclusive" else "yes" if (verdict == "supported") != denies else "no"


@cache
def claims() -> tuple[Claim, ...]:
    """All of them, in the order of the page."""
    return TypeAdapter(tuple[Claim, ...]).validate_python(yaml.safe_load(SHIPPED.read_text(encoding="utf-8")))


def claims_tested(source: str | None, sweep: str) -> tuple[Claim, ...]:
    """The claims that a hypothesis tests: those that its source names, else those that list its sweep."""
    named = tuple(claim for claim in claims() if _names(source or "", claim))
    return named or tuple(claim for claim in claims() if sweep in claim.sweeps)


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
