"""Make docs/findings.md: what the sweeps of this repository say about the claims of the paper.

    python docs/make_findings.py        # from the ledgers in docs/results; the same as `make findings`

`gapctl claims` makes the same page from any ledger, in a clone of this repository.

1. `findings_claims.py` has the claims, and what a verdict says of each; `findings_estimates.py` what no hypothesis
   declares.
2. `explain_what_would_change` names the seeds, the longer scale or the other data that could change a verdict.
3. `render_verdicts_table`, `render_summary_table` and `render_estimands_table` lay the rows out.
4. `render_claims_page` at the end puts the page together, rows and figures folded below their claims.
"""

import math
import tarfile
import tempfile
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote

from findings_claims import (
    TESTING_WORDS,
    Bearing,
    Claim,
    ClaimNotes,
    PageNotes,
    find_strike_reason,
    judge_bearing,
    load_checks,
    load_claims,
    load_redesigns,
    load_withdrawals,
    match_claims,
    parse_notes,
)
from findings_estimates import CellEffect, Estimands, find_sign_reversal, measure_both_estimands
from gapctl.analysis.compare import SweepAnalysis, correct_over_sweeps
from gapctl.analysis.estimates import is_significant
from gapctl.analysis.results import Verdict
from gapctl.config.hypotheses import Correlation
from gapctl.config.load import load_scales
from gapctl.errors import InputError
from gapctl.plan.plan import make_plan
from gapctl.report.figures import plot_forest, plot_gap_by_bits, plot_response_by_factor
from gapctl.report.html import render_svg
from gapctl.report.markdown import escape_markdown, format_code, format_table
from gapctl.report.sweep_page import VERDICT_SYMBOLS
from gapctl.report.text import (
    capitalise_first,
    describe_effect_with_unit,
    explain_marks,
    explain_redesign,
    format_aligned_numbers,
    format_confidence_level,
    format_declared_number,
    format_marks,
    format_p_value,
    name_factor,
)
from gapctl.text import format_count_with_noun
from gapctl_charts.factor import plain as level_words
from gapctl_charts.figure import trusted
from gapctl_charts.look import FILE_LOOK

__all__ = ["parse_notes", "render_claims_page"]

DOCS: Final = Path(__file__).parent
LEDGERS: Final = (
    "laptop",
    "ambiguity",
    "ambiguity_pairs",
    "transience",
    "batch_duplicates",
    "thermostat",
    "recipes",
    "one_law",
    "early_gap",
    "robustness",
    "gap_direction",
)
"""Folders of docs/results whose ledgers the page is made from."""

AVERAGE_MARK: Final = "†"


def explain_average(verdict: Verdict, judged: SweepAnalysis) -> str:
    """Return, in Markdown, the lowest and the highest effect that an average hides.

    Empty unless these lie beyond the smallest effect on both sides of zero.
    """
    spec = judged.plan.sweep.spec
    hypothesis = next(one for one in spec.hypotheses if one.id == verdict.id)
    found = find_sign_reversal(hypothesis, judged.analysis.trials, spec)
    if found is None:
        return ""
    over = " and ".join(name_factor(path) for path in found.lowest.levels)
    low, high = format_aligned_numbers([found.lowest.estimate, found.highest.estimate])
    effects = f"{low} where {_describe_cell_levels(found.lowest)}, {high} where {_describe_cell_levels(found.highest)}"
    beyond = (
        f"both with their intervals beyond the smallest effect of {format_declared_number(verdict.smallest_effect)}"
    )
    return (
        f"{format_code(verdict.id)}, {escape_markdown(judged.name)}, is averaged over "
        f"{escape_markdown(f'{over}: {effects}, {beyond}')}."
    )


def _describe_cell_levels(cell: CellEffect) -> str:
    if len(cell.levels) == 1:
        return f"it is {level_words(*cell.levels.values())}"
    return " and ".join(f"{name_factor(path)} is {level_words(level)}" for path, level in cell.levels.items())


class ScaleSize(NamedTuple):
    """The length of a scale: pairs over all its trainings, and pairs in its longest training."""

    total: int
    each: int


def measure_scales(judged: SweepAnalysis) -> dict[str, ScaleSize]:
    """Measure each scale of a judged sweep's file, by its name; leave out the options of `--set`."""
    return _measure_scales(judged.plan.sweep.text, judged.plan.sweep.path)


def explain_what_would_change(verdict: Verdict, judged: SweepAnalysis, scales_judged: Collection[str]) -> str:
    """Return, in Markdown, what could change a verdict.

    That is more seeds where they would settle it, else the next longer scale that the ledger lacks, else other data.
    """
    again = ["hypotheses declared before the first training"] if verdict.exploratory else []
    return "; ".join([*again, _describe_seeds_needed(verdict) or _describe_next_scale(judged, scales_judged)])


def _describe_seeds_needed(verdict: Verdict) -> str:
    if verdict.seeds < 2:
        return "at least 3 seeds"
    return f"about {verdict.seeds_needed} seeds" if verdict.seeds_needed else ""


def _describe_next_scale(judged: SweepAnalysis, scales_judged: Collection[str]) -> str:
    sizes, present = measure_scales(judged), judged.analysis.scale
    least = sizes[present].total if present in sizes else 0
    longer = {name: size for name, size in sizes.items() if size.total > least and name not in scales_judged}
    if not longer:
        return "other data or another model: the file states no longer scale"
    name = min(longer, key=lambda scale: longer[scale].total)
    return f"scale {format_code(name)}: {longer[name].each:,} pairs a training"


@cache
def _measure_scales(text: str, path: Path) -> dict[str, ScaleSize]:
    trainings = {
        scale: make_plan(sweep, lambda data: data.address).trainings
        for scale, sweep in load_scales(path, text)[1].items()
        if scale is not None
    }
    samples = {scale: [trial.config.train.samples for trial in each] for scale, each in trainings.items()}
    return {scale: ScaleSize(sum(each), max(each)) for scale, each in samples.items()}


_VERDICT_HEADINGS: Final = ("our test", "effect", "estimate", "interval", "verdict", "p, page", "sweep, scale, seeds")
_AFTER_VERDICT: Final = _VERDICT_HEADINGS.index("verdict") + 1
_CHANGE_HEADING: Final = "what would change it"
PAGE_ALPHA: Final = 0.05


class VerdictRow(NamedTuple):
    """A verdict and its sweep."""

    verdict: Verdict
    judged: SweepAnalysis

    @property
    def key(self) -> tuple[str, str]:
        """The pair that tells the row from all others of the page."""
        return self.judged.name, self.verdict.id


class PageContext(NamedTuple):
    """What all rows of a page share: the scales of each sweep in the ledger, and p after Holm by row."""

    scales: Mapping[str, Collection[str]]
    p_page: Mapping[tuple[str, str], float]


def correct_over_page(rows: Sequence[VerdictRow]) -> dict[tuple[str, str], float]:
    """Return p of the whole claim after Holm over all confirmatory rows; exploratory rows have none."""
    return correct_over_sweeps([(row.judged.name, row.verdict) for row in rows])


def format_effect_cells(verdict: Verdict, alpha: float) -> tuple[str, str]:
    """Format the estimate and its interval."""
    estimate, low, high = format_aligned_numbers([verdict.estimate, *verdict.ci])
    known = math.isfinite(verdict.ci.low)
    return estimate, f"{low} to {high} ({format_confidence_level(alpha)})" if known else "too few seeds"


def render_verdicts_table(
    tested: Sequence[VerdictRow], shown: PageContext, spoken: Sequence[Bearing] | None = None
) -> list[str]:
    """Render the table, then a sentence for each mark, each withdrawal, and each average that hides a change of sign.

    `spoken` adds a column: what each row says of a claim.
    """
    averages = [explain_average(verdict, judged) for verdict, judged in tested]
    rows = [
        _format_verdict_cells(found, shown, marked=bool(words)) for found, words in zip(tested, averages, strict=True)
    ]
    head = [*_VERDICT_HEADINGS, _CHANGE_HEADING]
    if spoken is not None:
        head.insert(_AFTER_VERDICT, "for the claim")
        for row, said in zip(rows, spoken, strict=True):
            row.insert(_AFTER_VERDICT, _describe_bearing(said))
    notes = [f"{AVERAGE_MARK} {words}" for words in averages if words]
    return [format_table(head, rows, numbers_from=len(head)), *_explain_row_marks(tested), *notes]


def _format_verdict_cells(found: VerdictRow, shown: PageContext, marked: bool) -> list[str]:
    verdict, judged = found
    estimate, interval = format_effect_cells(verdict, judged.analysis.alpha)
    word = f"{VERDICT_SYMBOLS[verdict.verdict]} **{verdict.verdict}**"
    crossed = ["~~{}~~", "~~{}~~", "~~{}~~"] if find_strike_reason(verdict, judged) else ["{}", "{}", "{}"]
    cells = (f"{estimate} {AVERAGE_MARK}" if marked else estimate, interval, word)
    estimate, interval, word = (form.format(cell) for form, cell in zip(crossed, cells, strict=True))
    test = f"{escape_markdown(verdict.claim)} ({format_code(verdict.id)})"
    p = format_p_value(shown.p_page[found.key]) if found.key in shown.p_page else "–"
    where = f"{escape_markdown(judged.name)}, {format_count_with_noun(verdict.seeds, 'seed')}"
    change = explain_what_would_change(verdict, judged, shown.scales[judged.analysis.sweep])
    verdict_cell = word + format_marks(list_marks(verdict, judged))
    return [
        test,
        escape_markdown(describe_effect_with_unit(verdict)),
        estimate,
        interval,
        verdict_cell,
        p,
        where,
        change,
    ]


def count_times_asked(judged: SweepAnalysis) -> int:
    """Count how often a sweep's question was asked, this time included, as far as the sweep or the page records."""
    if (known := load_redesigns().get(judged.analysis.sweep)) is not None:
        return known.before + 1
    return 1 if judged.analysis.first_question is None else 2


def describe_first_answer(judged: SweepAnalysis) -> str:
    """Describe the first answer to a redesigned question; a dash where it was asked once."""
    if (known := load_redesigns().get(judged.analysis.sweep)) is not None:
        return known.first_answer
    return " ".join(explain_redesign(judged.analysis)) or "–"


def list_marks(verdict: Verdict, judged: SweepAnalysis) -> list[str]:
    """List the verdict's own marks, and *redesigned* where its sweep or the page says that it asks again."""
    again = ["redesigned"] if judged.analysis.sweep in load_redesigns() else []
    return list(dict.fromkeys([*verdict.marks, *again]))


def _explain_row_marks(tested: Sequence[VerdictRow]) -> list[str]:
    """Explain marks and withdrawals, each sentence once with all the rows that it applies to."""
    ids: dict[str, list[str]] = {}
    for verdict, judged in tested:
        reason = load_withdrawals().get(judged.analysis.sweep, {}).get(verdict.id)
        for line in [*map(escape_markdown, explain_marks(verdict)), *([f"Withdrawn: {reason}."] if reason else [])]:
            ids.setdefault(line, []).append(verdict.id)
    return [f"{', '.join(map(format_code, names))}. {line}" for line, names in ids.items()]


def _describe_bearing(spoken: Bearing) -> str:
    why = " and ".join(f"{format_code(check)} is {end}" for check, end in spoken.failed)
    return f"{spoken.word}: {why}" if why else spoken.word


class Illustration(NamedTuple):
    """A figure as SVG, with the path that the page refers to, its title and its caption."""

    path: str
    title: str
    caption: str
    content: bytes


def render_illustration(judged: SweepAnalysis, folder: str) -> Illustration | None:
    """Render the figure of one sweep's question; None where nothing could be estimated."""
    with trusted():
        first = judged.analysis.verdicts[0]
        metric = first.response.partition("/")[2]
        # Where captions have names, the last of these is of the longest training.
        by_bits = [one for one in plot_gap_by_bits(judged.analysis, FILE_LOOK) if one.name.startswith(f"{metric}-by-")]
        figure = by_bits[-1] if by_bits else plot_response_by_factor(judged.analysis, metric, first.factor, FILE_LOOK)
        if figure is None:
            figure = plot_forest(judged.analysis, FILE_LOOK)
    if figure is None:
        return None
    path = f"{folder}/{judged.file_name}.svg"
    return Illustration(path, figure.title, figure.caption, render_svg(figure).encode())


INTRODUCTION: Final = (
    "What the sweeps of this repository found about the claims of arXiv 2404.07983 (Schrodi and others, *Two Effects, "
    "One Trigger*). `gapctl claims` makes this page from the ledger. Guides, claims' wording and notes are "
    "written by hand."
)
REACH: Final = (
    "Not far. On MAD, models of a few hundred thousand parameters see 28-pixel digits whose factors are independent "
    "and uniform, with captions from 26 words in which nothing is misspelt, implied or wrong. It shows what is enough "
    "to cause an effect in such models, not what causes the gap of a CLIP trained on 400 million pairs. Three things "
    "move results and are not the paper's: the recipe, as the paper's MAD recipe is not public; the length of "
    "training; and the size of the gallery. Intervals hold for other seeds of the same recipe and data. Where there is "
    "a longer run it decides; line 4 and what line 2 says of 400 steps lack one."
)
READING_GUIDE: Final = (
    "*Key number* is one effect in its own unit, with its interval over seeds or recipes. The next column counts the "
    "rows below that speak for the claim, against it, or leave it open; rows overlap, so counts are no evidence, and "
    "those struck through are void. *Designs* counts the designs that a question has had; the last one judges."
)
ROWS_GUIDE: Final = (
    "A verdict is about our test; *for the claim* says what it means for the claim. Some tests are of a claim's "
    "opposite: refuted, they speak for it only where the whole interval lies inside the band of effects too small to "
    "count. Others predict an effect in the other direction than the claim: refuted by one that counts in the claim's "
    "direction, they speak for it. A dash is a row beside the claim. *Cannot say* is a row whose check failed. *Not "
    "learned* and *withdrawn* rows are struck through. *Redesigned* questions had been asked before; the last table "
    "has their first answers. *p, page* is of the whole claim after Holm over all confirmatory rows of this page; the "
    "verdict goes by Holm over its file ([statistics](statistics.md)). † marks an average over treatments under some "
    "of which the effect turns."
)
UNTESTED: Final = "No sweep of this ledger tests it yet."
UNDECIDED_NOTE: Final = "The rows below do not decide it."
ESTIMANDS: Final = (
    "Two estimands of the same correlation (attribute accuracy with object accuracy, Kendall's τ). The claim is about "
    "models that differ in data, size and training, so claim 4 takes the first; check 3, which controls for quality, "
    "the second. Where no hypothesis below declares an estimand, it was computed after the fact, and is exploratory."
)
OTHER_HEADING: Final = "Other hypotheses"


CONTENT_HELD: Final = "content-held"
"""Stands for a hypothesis' id: the correlation of accuracies with content held, which no hypothesis tests."""
ACCURACIES: Final = frozenset({"quality/attribute_accuracy", "quality/object_accuracy"})
UNTESTED_CLAIM: Final = "untested"


class ClaimRows(NamedTuple):
    """A claim, its rows, and what each row says of it."""

    claim: Claim
    rows: Sequence[VerdictRow]
    spoken: Sequence[Bearing]

    @property
    def counted(self) -> str:
        """`3 for, 1 against`, or that no row decides; struck rows are counted separately."""
        words: Counter[str] = Counter(said.word for said in self.spoken)
        names = {"yes": "for", "no": "against", "open": "open"}
        told = [f"{words[word]} {name}" for word, name in names.items() if words[word]]
        gone = words["not learned"] + words["withdrawn"]
        return ", ".join([*(told or [UNTESTED_CLAIM]), *([f"{gone} struck through"] if gone else [])])

    @property
    def asked(self) -> str:
        """How often the questions of the rows that count were asked: `1` or `1 to 3`."""
        times = {
            count_times_asked(row.judged)
            for row, said in zip(self.rows, self.spoken, strict=True)
            if said.word in (*TESTING_WORDS, "not learned", "withdrawn")
        }
        return "–" if not times else " to ".join(map(str, sorted({min(times), max(times)})))


def render_summary_table(tested: Sequence[ClaimRows], all_rows: Sequence[VerdictRow], notes: PageNotes) -> str:
    """Render a row for each claim; notes may add columns, which are untested where they have no entry.

    Raise InputError where notes name a row that the ledger does not have.
    """
    noted = {one.claim.number: notes.claims.get(one.claim.number, ClaimNotes()) for one in tested}
    columns = list(dict.fromkeys(name for found in noted.values() for name in found.elsewhere))
    head = [
        "claim",
        "answer",
        "key number",
        notes.texts.get("ledger", "this ledger"),
        *map(escape_markdown, columns),
        "designs",
    ]
    rows = []
    for one in tested:
        own = noted[one.claim.number]
        number = "–"
        if own.number is not None:
            found = _format_key_number(own.number, f"{notes.name}: {one.claim.number}", all_rows)
            number = f"{own.measure}: {found}" if own.measure else found
        elsewhere = [own.elsewhere.get(name, UNTESTED_CLAIM) for name in columns]
        title = f"**{capitalise_first(one.claim.number)}**: {escape_markdown(one.claim.title)}"
        rows.append([title, own.answer or "–", number, one.counted, *elsewhere, one.asked])
    return format_table(head, rows, numbers_from=len(head))


def render_estimands_table(rows: Sequence[VerdictRow]) -> list[str]:
    """Render both estimands of each sweep that correlates the two accuracies; empty without any."""
    cells = []
    for name, (row, found) in _find_estimands(rows).items():
        form = "~~{}~~ (not learned)" if row.verdict.not_learned else "{}"
        taus = [form.format(_format_tau(*tau, row.judged.analysis.alpha)) for tau in found]
        cells.append([escape_markdown(name), *taus])
    if not cells:
        return []
    head = ["sweep, scale", "content held, quality varies", "quality held, content varies"]
    return [ESTIMANDS, format_table(head, cells, numbers_from=len(head))]


def _find_estimands(rows: Sequence[VerdictRow]) -> Mapping[str, tuple[VerdictRow, Estimands]]:
    found: dict[str, tuple[VerdictRow, Estimands]] = {}
    for row in rows:
        spec = row.judged.plan.sweep.spec
        hypothesis = next(one for one in spec.hypotheses if one.id == row.verdict.id)
        if not isinstance(hypothesis, Correlation) or {hypothesis.response, hypothesis.against} != ACCURACIES:
            continue
        estimands = measure_both_estimands(hypothesis, row.judged.analysis.trials, spec)
        if estimands is not None and row.judged.name not in found:
            found[row.judged.name] = row, estimands
    return found


def _format_key_number(name: str, where: str, rows: Sequence[VerdictRow]) -> str:
    sweep, _, hypothesis = name.partition("/")
    of_sweep = [row for row in rows if row.judged.analysis.sweep == sweep]
    if hypothesis == CONTENT_HELD and (found := _find_estimands(of_sweep)):
        row, estimands = next(iter(found.values()))
        return f"τ {_format_tau(*estimands.content_held, row.judged.analysis.alpha)}, content held"
    named = [row for row in of_sweep if row.verdict.id == hypothesis]
    if not named:
        raise InputError(f"{where}: number: found {name!r}; expected SWEEP/HYPOTHESIS of a row on the page")
    verdict, judged = named[-1]
    estimate, interval = format_effect_cells(verdict, judged.analysis.alpha)
    further = ""
    if math.isfinite(verdict.prediction.low):
        low, high = format_aligned_numbers(list(verdict.prediction))
        further = f"; a further recipe {low} to {high}"
    return f"{estimate}, {interval}{further}"


def _format_tau(value: float, ci: tuple[float, float], seeds: int, alpha: float) -> str:
    estimate, low, high = format_aligned_numbers([value, *ci])
    return f"{estimate}, {low} to {high} ({format_confidence_level(alpha)}, {format_count_with_noun(seeds, 'seed')})"


HASH_DIGITS: Final = 12


class ClaimsPage(NamedTuple):
    """The text, and its figures by the path that it refers to them by."""

    text: str
    figures: dict[str, bytes]


def render_claims_page(sweeps: Sequence[SweepAnalysis], folder: str, notes: PageNotes | None = None) -> ClaimsPage:
    """Render the page from sweeps that were each judged by themselves.

    `folder` is where its figures will lie beside it. The answer comes first; rows and figures are folded below their
    claims. Equal sweeps give equal bytes, in whatever order they come. Raise InputError where `notes` name a row that
    is not there.
    """
    notes = notes or PageNotes()
    shown = sorted(_select_sweeps(sweeps), key=_make_sort_key)
    rows = [VerdictRow(verdict, judged) for judged in shown for verdict in judged.analysis.verdicts]
    with_all = PageContext(_collect_scales(shown), correct_over_page(rows))
    drawn = {judged.name: render_illustration(judged, folder) for judged in shown}
    left = dict(drawn)
    tested = [_collect_claim_rows(rows, claim) for claim in load_claims()]
    blocks = ["# Findings", INTRODUCTION, *_render_note("The answer", notes, "answer")]
    blocks += [
        "## Claim by claim",
        render_summary_table(tested, rows, notes),
        " ".join([READING_GUIDE, *_summarise_page_correction(rows, with_all)]),
    ]
    blocks += _render_note("What would change our mind", notes, "would change our mind")
    blocks += _render_note("What we had wrong before", notes, "had wrong before")
    blocks += ["## How far this speaks for CLIP", REACH, "## The rows", *_fold_blocks("How to read them", [ROWS_GUIDE])]
    for one in tested:
        blocks += _render_claim(one, notes, with_all, left)
    if others := [row for row in rows if not _match_row_claims(row)]:
        folded = [*render_verdicts_table(others, with_all), *_embed_figures(others, left)]
        blocks += [f"### {OTHER_HEADING}", *_fold_blocks(format_count_with_noun(len(others), "row"), folded)]
    blocks += ["## What it rests on", *_fold_blocks(format_count_with_noun(len(shown), "sweep"), _render_basis(shown))]
    figures = {found.path: found.content for found in drawn.values() if found is not None}
    return ClaimsPage("\n\n".join(blocks) + "\n", figures)


def _summarise_page_correction(rows: Sequence[VerdictRow], shown: PageContext) -> list[str]:
    """Count the supported rows that remain significant when p is corrected over the whole page."""
    supported = [row for row in rows if row.verdict.verdict == "supported" and not find_strike_reason(*row)]
    held = sum(is_significant(shown.p_page[row.key], PAGE_ALPHA) for row in supported if row.key in shown.p_page)
    if not supported:
        return []
    of = f"Of {format_count_with_noun(len(supported), 'supported row')} that count or stand beside a claim"
    return [f"{of}, {held} have p below {PAGE_ALPHA} over all {len(shown.p_page)} confirmatory rows of the page."]


def _render_note(heading: str, notes: PageNotes, key: str) -> list[str]:
    return [f"## {heading}", notes.texts[key]] if key in notes.texts else []


def _render_claim(
    tested: ClaimRows, notes: PageNotes, shown: PageContext, left: dict[str, Illustration | None]
) -> list[str]:
    """Render a claim in full: its note, its estimands, and its rows and figures folded."""
    claim, rows, spoken = tested
    note = notes.claims[claim.number].note if claim.number in notes.claims else None
    blocks = [
        f"### {capitalise_first(claim.number)}",
        f"*{escape_markdown(claim.claim)}*",
        *([f"**Note.** {note}"] if note else []),
    ]
    if not any(said.word in TESTING_WORDS for said in spoken):
        blocks.append(_explain_untested(tested, shown))
    if not rows:
        return blocks
    estimands = render_estimands_table(rows) if claim.content_held else []
    folded = [*estimands, *render_verdicts_table(rows, shown, spoken), *_embed_figures(rows, left)]
    return [*blocks, *_fold_blocks(f"{format_count_with_noun(len(rows), 'row')}: {tested.counted}", folded)]


def _fold_blocks(summary: str, blocks: Sequence[str]) -> list[str]:
    """Fold blocks so that they open on a click; Markdown within HTML needs its empty lines."""
    return [f"<details><summary>{summary}</summary>", *blocks, "</details>"]


def _explain_untested(tested: ClaimRows, shown: PageContext) -> str:
    claim, rows, _ = tested
    asking = ", ".join(format_code(f"sweeps/{name}.yaml") for name in claim.sweeps if name not in shown.scales)
    said = [
        claim.untested or UNTESTED,
        *([f"It is asked by {asking}."] if asking else []),
        *([UNDECIDED_NOTE] if rows else []),
    ]
    return " ".join(said)


def _select_sweeps(sweeps: Sequence[SweepAnalysis]) -> list[SweepAnalysis]:
    """Select sweeps with hypotheses; skip a scale of one seed, which has no verdict, where there are others."""
    judged = [one for one in sweeps if one.analysis.verdicts]
    able = {one.analysis.sweep for one in judged if one.plan.sweep.spec.seeds > 1}
    return [one for one in judged if one.plan.sweep.spec.seeds > 1 or one.analysis.sweep not in able]


def _make_sort_key(judged: SweepAnalysis) -> tuple[str, int, str]:
    return judged.analysis.sweep, sum(trial.config.train.samples for trial in judged.plan.trials), judged.name


def _collect_scales(shown: Sequence[SweepAnalysis]) -> dict[str, set[str]]:
    """Collect the judged scales of each sweep."""
    found: dict[str, set[str]] = {}
    for judged in shown:
        found.setdefault(judged.analysis.sweep, set()).add(judged.analysis.scale or "")
    return found


def _collect_claim_rows(rows: Sequence[VerdictRow], claim: Claim) -> ClaimRows:
    own = [row for row in rows if claim in _match_row_claims(row)]
    return ClaimRows(claim, own, [judge_bearing(claim, verdict, judged, load_checks()) for verdict, judged in own])


def _match_row_claims(found: VerdictRow) -> tuple[Claim, ...]:
    return match_claims(found.verdict.id, found.verdict.source, found.judged.analysis.sweep)


def _embed_figures(tested: Sequence[VerdictRow], left: dict[str, Illustration | None]) -> list[str]:
    """Embed the figures of these sweeps that no claim above has shown."""
    blocks = []
    for name in dict.fromkeys(judged.name for _, judged in tested):
        found = left.pop(name, None)
        if found is not None:
            title = escape_markdown(f"{name}: {found.title}")
            blocks.append(f"![{title}]({quote(found.path)})\n\n*{title}.* {escape_markdown(found.caption)}")
    return blocks


def _render_basis(shown: Sequence[SweepAnalysis]) -> list[str]:
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
    return [format_table(head, [_format_basis_cells(judged) for judged in shown], numbers_from=len(head))]


def _format_basis_cells(judged: SweepAnalysis) -> list[str]:
    analysis = judged.analysis
    samples = sorted({trial.config.train.samples for trial in judged.plan.trials})
    pairs = f"{samples[0]:,}" if len(samples) == 1 else f"{samples[0]:,} to {samples[-1]:,}"
    done = f"{len(analysis.trials)} of {analysis.planned}"
    digits = format_code(analysis.hypotheses_sha256[:HASH_DIGITS])
    asked = [str(count_times_asked(judged)), escape_markdown(describe_first_answer(judged))]
    return [escape_markdown(judged.name), escape_markdown(analysis.question), *asked, done, pairs, digits]


def main() -> None:
    """Make docs/findings.md and its figures from the shipped ledgers."""
    from gapctl.cli.main import run

    with tempfile.TemporaryDirectory() as folder:
        extract_shipped_ledgers(Path(folder))
        notes, page = DOCS / "findings.notes.yaml", DOCS / "findings.md"
        run(["claims", "--runs", folder, "--notes", str(notes), "--out", str(page)])


def extract_shipped_ledgers(folder: Path) -> None:
    """Extract the ledgers that the page is made from into one, without the folder that each archive has at its top."""
    for name in LEDGERS:
        with tarfile.open(DOCS / "results" / name / "ledger.tar.xz") as archive:
            archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.0 to 3.11.3 has none
            members = [one for one in archive if one.name.startswith(f"{name}/")]
            for one in members:
                one.name = one.name.removeprefix(f"{name}/")
            archive.extractall(folder, members)


if __name__ == "__main__":
    main()
