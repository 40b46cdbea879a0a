"""The page of findings as Markdown: each claim with its tests, a figure for each question, and what they rest on."""

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import quote

from gapctl.analysis.judged import Judged
from gapctl.analysis.results import Verdict
from gapctl.report.effect_words import effect_name
from gapctl.report.findings.change import what_would_change
from gapctl.report.findings.claims import Claim, claims, claims_tested
from gapctl.report.findings.figure import Illustration, illustration
from gapctl.report.findings.prose import INTRODUCTION, OTHER, REACH, READING, UNTESTED
from gapctl.report.markdown_text import code, plain, table
from gapctl.report.verdict_cards import SYMBOLS
from gapctl.report.words import aligned, capital, confidence, counted

HASH_DIGITS: Final = 12
_TESTS: Final = ("our test", "effect", "estimate", "interval", "verdict", "sweep, scale, seeds", "what would change it")
_AFTER_VERDICT: Final = _TESTS.index("verdict") + 1


class Page(NamedTuple):
    """The text, and the figures that it shows by the path that it gives them."""

    text: str
    figures: dict[str, bytes]


class Found(NamedTuple):
    """A verdict and the sweep that it is of."""

    verdict: Verdict
    judged: Judged


def render_findings(sweeps: Sequence[Judged], folder: str) -> Page:
    """The page of sweeps that were each judged by themselves; `folder` is where its figures will lie beside it.

    Equal sweeps give equal bytes, in whatever order they come.
    """
    shown = sorted(_with_verdicts(sweeps), key=_by_name_and_size)
    drawn = {judged.name: illustration(judged, folder) for judged in shown}
    left = dict(drawn)
    blocks = ["# Findings", INTRODUCTION, "## How far this speaks for CLIP", REACH, "## The claims", READING]
    for claim in claims():
        blocks += _claim(claim, _tested(shown, claim), _scales(shown), left)
    if others := _untold(shown):
        blocks += [f"### {OTHER}", _tests(others, _scales(shown)), *_figures(others, left)]
    blocks += ["## What it rests on", *_rests_on(shown)]
    figures = {found.path: found.content for found in drawn.values() if found is not None}
    return Page("\n\n".join(blocks) + "\n", figures)


def _with_verdicts(sweeps: Sequence[Judged]) -> list[Judged]:
    """Sweeps with hypotheses; a scale of one seed, which can give no verdict, only where there is no other."""
    judged = [one for one in sweeps if one.analysis.verdicts]
    able = {one.analysis.sweep for one in judged if one.plan.sweep.spec.seeds > 1}
    return [one for one in judged if one.plan.sweep.spec.seeds > 1 or one.analysis.sweep not in able]


def _by_name_and_size(judged: Judged) -> tuple[str, int, str]:
    return judged.analysis.sweep, sum(trial.config.train.samples for trial in judged.plan.trials), judged.name


def _scales(shown: Sequence[Judged]) -> dict[str, set[str]]:
    """The scales of each sweep that are judged."""
    found: dict[str, set[str]] = {}
    for judged in shown:
        found.setdefault(judged.analysis.sweep, set()).add(judged.analysis.scale or "")
    return found


def _tested(shown: Sequence[Judged], claim: Claim) -> list[Found]:
    return [found for found in _all(shown) if claim in _claims_of(found)]


def _untold(shown: Sequence[Judged]) -> list[Found]:
    return [found for found in _all(shown) if not _claims_of(found)]


def _all(shown: Sequence[Judged]) -> list[Found]:
    return [Found(verdict, judged) for judged in shown for verdict in judged.analysis.verdicts]


def _claims_of(found: Found) -> tuple[Claim, ...]:
    return claims_tested(found.verdict.source, found.judged.analysis.sweep)


def _claim(
    claim: Claim, tested: Sequence[Found], scales: Mapping[str, set[str]], left: dict[str, Illustration | None]
) -> list[str]:
    heading = f"### {capital(claim.number)}"
    said = f"*{plain(claim.claim)}*"
    if not tested:
        files = ", ".join(code(f"sweeps/{name}.yaml") for name in claim.sweeps)
        return [heading, said, f"{UNTESTED} It is asked by {files}."]
    return [heading, said, _tests(tested, scales, claim), *_figures(tested, left)]


def _tests(tested: Sequence[Found], scales: Mapping[str, set[str]], claim: Claim | None = None) -> str:
    """The rows of a table; under a claim, each says whether its verdict speaks for it."""
    rows = [_cells(verdict, judged, scales[judged.analysis.sweep]) for verdict, judged in tested]
    if claim is None:
        return table(list(_TESTS), rows, numbers_from=len(_TESTS))
    spoken = [claim.spoken_for(verdict.id, verdict.source, verdict.verdict) for verdict, _ in tested]
    head = [*_TESTS[:_AFTER_VERDICT], "for the claim", *_TESTS[_AFTER_VERDICT:]]
    longer = [[*row[:_AFTER_VERDICT], word, *row[_AFTER_VERDICT:]] for row, word in zip(rows, spoken, strict=True)]
    return table(head, longer, numbers_from=len(head))


def _cells(verdict: Verdict, judged: Judged, scales: set[str]) -> list[str]:
    analysis = judged.analysis
    estimate, low, high = aligned([verdict.estimate, *verdict.ci])
    known = math.isfinite(verdict.ci.low)
    interval = f"{low} to {high} ({confidence(analysis.alpha)})" if known else "too few seeds"
    word = f"{SYMBOLS[verdict.verdict]} **{verdict.verdict}**" + (" (exploratory)" if verdict.exploratory else "")
    where = f"{plain(judged.name)}, {counted(verdict.seeds, 'seed')}"
    change = what_would_change(verdict, judged, scales)
    test = f"{plain(verdict.claim)} ({code(verdict.id)})"
    return [test, plain(effect_name(verdict)), estimate, interval, word, where, change]


def _figures(tested: Sequence[Found], left: dict[str, Illustration | None]) -> list[str]:
    """The figures of these sweeps that no claim above has shown."""
    blocks = []
    for name in dict.fromkeys(judged.name for _, judged in tested):
        found = left.pop(name, None)
        if found is not None:
            title = plain(f"{name}: {found.title}")
            blocks.append(f"![{title}]({quote(found.path)})\n\n*{title}.* {plain(found.caption)}")
    return blocks


def _rests_on(shown: Sequence[Judged]) -> list[str]:
    if not shown:
        return ["No sweep with hypotheses has finished a training yet."]
    head = ["sweep, scale", "question", "trainings done", "pairs a training", "hypotheses' sha256"]
    return [table(head, [_basis(judged) for judged in shown], numbers_from=len(head))]


def _basis(judged: Judged) -> list[str]:
    analysis = judged.analysis
    samples = sorted({trial.config.train.samples for trial in judged.plan.trials})
    pairs = f"{samples[0]:,}" if len(samples) == 1 else f"{samples[0]:,} to {samples[-1]:,}"
    done = f"{len(analysis.trials)} of {analysis.planned}"
    digits = code(analysis.hypotheses_sha256[:HASH_DIGITS])
    return [plain(judged.name), plain(analysis.question), done, pairs, digits]
