"""The table that answers first: a row per claim, with its answer, its key number, and where it holds."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from gapctl.analysis.estimands import Estimands, both_estimands
from gapctl.errors import InputError
from gapctl.report.findings.claims import Claim
from gapctl.report.findings.notes import ClaimNotes, Notes
from gapctl.report.findings.prose import ESTIMANDS
from gapctl.report.findings.spoken import SPEAKING, Spoken
from gapctl.report.findings.verdicts_table import Found, effect_cells, times_asked
from gapctl.report.markdown_text import code, plain, table
from gapctl.report.words import aligned, capital, confidence, counted
from gapctl.spec.hypotheses import Correlation

CONTENT_HELD: Final = "content-held"
"""In place of a hypothesis' id: the correlation of accuracies with content held, which no hypothesis asks for."""
ACCURACIES: Final = frozenset({"quality/attribute_accuracy", "quality/object_accuracy"})
UNTESTED: Final = "untested"


class Tested(NamedTuple):
    """A claim, its rows, and what each row says of it."""

    claim: Claim
    rows: Sequence[Found]
    spoken: Sequence[Spoken]

    @property
    def counted(self) -> str:
        """`3 for, 1 against`, or that none decides; rows that are struck through besides."""
        words: Counter[str] = Counter(said.word for said in self.spoken)
        names = {"yes": "for", "no": "against", "open": "open"}
        told = [f"{words[word]} {name}" for word, name in names.items() if words[word]]
        gone = words["not learned"] + words["withdrawn"]
        return ", ".join([*(told or [UNTESTED]), *([f"{gone} struck through"] if gone else [])])

    @property
    def asked(self) -> str:
        """How often the questions of the rows that count were asked: `1` or `1 to 3`."""
        times = {
            times_asked(row.judged)
            for row, said in zip(self.rows, self.spoken, strict=True)
            if said.word in (*SPEAKING, "not learned", "withdrawn")
        }
        return "–" if not times else " to ".join(map(str, sorted({min(times), max(times)})))


def summary_table(tested: Sequence[Tested], all_rows: Sequence[Found], notes: Notes) -> str:
    """A row per claim; columns beyond the ledger are those that notes name, untested where they say nothing.

    Raises InputError where notes name a row that the ledger does not have.
    """
    noted = {one.claim.number: notes.claims.get(one.claim.number, ClaimNotes()) for one in tested}
    columns = list(dict.fromkeys(name for found in noted.values() for name in found.elsewhere))
    head = ["claim", "answer", "key number", notes.texts.get("ledger", "this ledger"), *map(plain, columns), "asked"]
    rows = []
    for one in tested:
        own = noted[one.claim.number]
        number = "–" if own.number is None else _key_number(own.number, f"{notes.name}: {one.claim.number}", all_rows)
        elsewhere = [own.elsewhere.get(name, UNTESTED) for name in columns]
        title = f"**{capital(one.claim.number)}**: {plain(one.claim.title)}"
        rows.append([title, own.answer or "–", number, one.counted, *elsewhere, one.asked])
    return table(head, rows, numbers_from=len(head))


def estimands_table(rows: Sequence[Found]) -> list[str]:
    """Both estimands of each sweep that correlates the two accuracies, and what they are; nothing where none does."""
    cells = []
    for name, (row, found) in _estimands(rows).items():
        form = "~~{}~~ (not learned)" if row.verdict.not_learned else "{}"
        taus = [form.format(_tau_words(*tau, row.judged.analysis.alpha)) for tau in found]
        cells.append([plain(name), *taus])
    if not cells:
        return []
    head = ["sweep, scale", "content held, quality varies", "quality held, content varies"]
    return [ESTIMANDS, table(head, cells, numbers_from=len(head))]


def _estimands(rows: Sequence[Found]) -> Mapping[str, tuple[Found, Estimands]]:
    found: dict[str, tuple[Found, Estimands]] = {}
    for row in rows:
        spec = row.judged.plan.sweep.spec
        hypothesis = next(one for one in spec.hypotheses if one.id == row.verdict.id)
        if not isinstance(hypothesis, Correlation) or {hypothesis.response, hypothesis.against} != ACCURACIES:
            continue
        estimands = both_estimands(hypothesis, row.judged.analysis.trials, spec)
        if estimands is not None and row.judged.name not in found:
            found[row.judged.name] = row, estimands
    return found


def _key_number(name: str, where: str, rows: Sequence[Found]) -> str:
    sweep, _, hypothesis = name.partition("/")
    of_sweep = [row for row in rows if row.judged.analysis.sweep == sweep]
    if hypothesis == CONTENT_HELD and (found := _estimands(of_sweep)):
        row, estimands = next(iter(found.values()))
        return f"τ {_tau_words(*estimands.content_held, row.judged.analysis.alpha)} ({code(sweep)}, content held)"
    named = [row for row in of_sweep if row.verdict.id == hypothesis]
    if not named:
        raise InputError(f"{where}: number: found {name!r}; expected SWEEP/HYPOTHESIS of a row on the page")
    verdict, judged = named[-1]
    estimate, interval = effect_cells(verdict, judged.analysis.alpha)
    return f"{estimate}, {interval} ({code(hypothesis)})"


def _tau_words(value: float, ci: tuple[float, float], seeds: int, alpha: float) -> str:
    estimate, low, high = aligned([value, *ci])
    return f"{estimate}, {low} to {high} ({confidence(alpha)}, {counted(seeds, 'seed')})"
