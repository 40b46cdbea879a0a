"""The page of findings as Markdown: the answer, a row per claim, and folded below each claim its tests and figures."""

from collections.abc import Sequence
from typing import Final, NamedTuple
from urllib.parse import quote

from gapctl.analysis.effect_test import significant
from gapctl.analysis.judged import Judged
from gapctl.report.findings.claims import Claim, checks, claims, claims_tested
from gapctl.report.findings.figure import Illustration, illustration
from gapctl.report.findings.notes import Notes
from gapctl.report.findings.prose import INTRODUCTION, NEITHER, OTHER, REACH, READING, ROWS, UNTESTED
from gapctl.report.findings.spoken import SPEAKING, spoken_for, struck
from gapctl.report.findings.summary import Tested, estimands_table, summary_table
from gapctl.report.findings.verdicts_table import (
    PAGE_ALPHA,
    Found,
    Shown,
    first_answer,
    p_over_page,
    times_asked,
    verdicts_table,
)
from gapctl.report.markdown_text import code, plain, table
from gapctl.report.words import capital, counted

HASH_DIGITS: Final = 12


class Page(NamedTuple):
    """The text, and the figures that it shows by the path that it gives them."""

    text: str
    figures: dict[str, bytes]


def render_findings(sweeps: Sequence[Judged], folder: str, notes: Notes | None = None) -> Page:
    """The page of sweeps that were each judged by themselves; `folder` is where its figures will lie beside it.

    What answers comes first, rows and figures are folded below their claims. Equal sweeps give equal bytes, in whatever
    order they come. Raises InputError where `notes` name a row that is not there.
    """
    notes = notes or Notes()
    shown = sorted(_with_verdicts(sweeps), key=_by_name_and_size)
    rows = [Found(verdict, judged) for judged in shown for verdict in judged.analysis.verdicts]
    with_all = Shown(_scales(shown), p_over_page(rows))
    drawn = {judged.name: illustration(judged, folder) for judged in shown}
    left = dict(drawn)
    tested = [_tested(rows, claim) for claim in claims()]
    blocks = ["# Findings", INTRODUCTION, *_noted("The answer", notes, "answer")]
    blocks += [
        "## Claim by claim",
        summary_table(tested, rows, notes),
        " ".join([READING, *_over_page(rows, with_all)]),
    ]
    blocks += _noted("What would change our mind", notes, "would change our mind")
    blocks += _noted("What we had wrong before", notes, "had wrong before")
    blocks += ["## How far this speaks for CLIP", REACH, "## The rows", ROWS]
    for one in tested:
        blocks += _claim(one, notes, with_all, left)
    if others := [row for row in rows if not _claims_of(row)]:
        folded = [*verdicts_table(others, with_all), *_figures(others, left)]
        blocks += [f"### {OTHER}", *_folded(counted(len(others), "row"), folded)]
    blocks += ["## What it rests on", *_folded(counted(len(shown), "sweep"), _rests_on(shown))]
    figures = {found.path: found.content for found in drawn.values() if found is not None}
    return Page("\n\n".join(blocks) + "\n", figures)


def _over_page(rows: Sequence[Found], shown: Shown) -> list[str]:
    """How many supported rows that are not struck through stay so when p is corrected over the whole page."""
    supported = [row for row in rows if row.verdict.verdict == "supported" and not struck(*row)]
    held = sum(significant(shown.p_page[row.key], PAGE_ALPHA) for row in supported if row.key in shown.p_page)
    if not supported:
        return []
    of = f"Of {counted(len(supported), 'supported row')} that count or stand beside a claim"
    return [f"{of}, {held} have p below {PAGE_ALPHA} over all {len(shown.p_page)} confirmatory rows of the page."]


def _noted(heading: str, notes: Notes, key: str) -> list[str]:
    return [f"## {heading}", notes.texts[key]] if key in notes.texts else []


def _claim(tested: Tested, notes: Notes, shown: Shown, left: dict[str, Illustration | None]) -> list[str]:
    """A claim in full, its note, its estimands, and its rows and figures folded."""
    claim, rows, spoken = tested
    note = notes.claims[claim.number].note if claim.number in notes.claims else None
    blocks = [f"### {capital(claim.number)}", f"*{plain(claim.claim)}*", *([f"**Note.** {note}"] if note else [])]
    if claim.content_held:
        blocks += estimands_table(rows)
    if not any(said.word in SPEAKING for said in spoken):
        blocks.append(_untested_words(tested, shown))
    if not rows:
        return blocks
    folded = [*verdicts_table(rows, shown, spoken), *_figures(rows, left)]
    return [*blocks, *_folded(f"{counted(len(rows), 'row')}: {tested.counted}", folded)]


def _folded(summary: str, blocks: Sequence[str]) -> list[str]:
    """Blocks that open on a click; Markdown within HTML needs its empty lines."""
    return [f"<details><summary>{summary}</summary>", *blocks, "</details>"]


def _untested_words(tested: Tested, shown: Shown) -> str:
    claim, rows, _ = tested
    asking = ", ".join(code(f"sweeps/{name}.yaml") for name in claim.sweeps if name not in shown.scales)
    said = [
        claim.untested or UNTESTED,
        *([f"It is asked by {asking}."] if asking else []),
        *([NEITHER] if rows else []),
    ]
    return " ".join(said)


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


def _tested(rows: Sequence[Found], claim: Claim) -> Tested:
    own = [row for row in rows if claim in _claims_of(row)]
    return Tested(claim, own, [spoken_for(claim, verdict, judged, checks()) for verdict, judged in own])


def _claims_of(found: Found) -> tuple[Claim, ...]:
    return claims_tested(found.verdict.id, found.verdict.source, found.judged.analysis.sweep)


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
    head = [
        "sweep, scale",
        "question",
        "asked",
        "first answer",
        "trainings done",
        "pairs a training",
        "hypotheses' sha256",
    ]
    return [table(head, [_basis(judged) for judged in shown], numbers_from=len(head))]


def _basis(judged: Judged) -> list[str]:
    analysis = judged.analysis
    samples = sorted({trial.config.train.samples for trial in judged.plan.trials})
    pairs = f"{samples[0]:,}" if len(samples) == 1 else f"{samples[0]:,} to {samples[-1]:,}"
    done = f"{len(analysis.trials)} of {analysis.planned}"
    digits = code(analysis.hypotheses_sha256[:HASH_DIGITS])
    asked = [str(times_asked(judged)), plain(first_answer(judged))]
    return [plain(judged.name), plain(analysis.question), *asked, done, pairs, digits]
