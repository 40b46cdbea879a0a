"""The page of findings as Markdown: each claim with its tests, a figure for each question, and what they rest on."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import quote

from gapctl.analysis.judged import Judged
from gapctl.report.findings.claims import Claim, checks, claims, claims_tested
from gapctl.report.findings.figure import Illustration, illustration
from gapctl.report.findings.notes import Notes
from gapctl.report.findings.prose import INTRODUCTION, NEITHER, OTHER, REACH, READING, UNTESTED
from gapctl.report.findings.spoken import SPEAKING, spoken_for
from gapctl.report.findings.verdicts_table import Found, verdicts_table
from gapctl.report.markdown_text import code, plain, table
from gapctl.report.words import capital

HASH_DIGITS: Final = 12


class Page(NamedTuple):
    """The text, and the figures that it shows by the path that it gives them."""

    text: str
    figures: dict[str, bytes]


def render_findings(sweeps: Sequence[Judged], folder: str, notes: Notes | None = None) -> Page:
    """The page of sweeps that were each judged by themselves; `folder` is where its figures will lie beside it.

    `notes` are shown below the claims that they are of. Equal sweeps give equal bytes, in whatever order they come.
    """
    shown = sorted(_with_verdicts(sweeps), key=_by_name_and_size)
    drawn = {judged.name: illustration(judged, folder) for judged in shown}
    left = dict(drawn)
    blocks = ["# Findings", INTRODUCTION, "## How far this speaks for CLIP", REACH, "## The claims", READING]
    for claim in claims():
        heading = [f"### {capital(claim.number)}", f"*{plain(claim.claim)}*"]
        noted = [f"**Note.** {notes[claim.number]}"] if notes and claim.number in notes else []
        tested = _tested(shown, claim)
        blocks += [*heading, *noted, *_rows(claim, tested, _scales(shown)), *_figures(tested, left)]
    if others := _untold(shown):
        blocks += [f"### {OTHER}", *verdicts_table(others, _scales(shown)), *_figures(others, left)]
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
    return claims_tested(found.verdict.id, found.verdict.source, found.judged.analysis.sweep)


def _rows(claim: Claim, tested: Sequence[Found], scales: Mapping[str, set[str]]) -> list[str]:
    """The claim's table, after the words that it is untested where no row speaks for it or against it."""
    spoken = [spoken_for(claim, verdict, judged, checks()) for verdict, judged in tested]
    rows = verdicts_table(tested, scales, spoken) if tested else []
    if any(said.word in SPEAKING for said in spoken):
        return rows
    asking = ", ".join(code(f"sweeps/{name}.yaml") for name in claim.sweeps if name not in scales)
    said = [UNTESTED, *([f"It is asked by {asking}."] if asking else []), *([NEITHER] if tested else [])]
    return [" ".join(said), *rows]


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
