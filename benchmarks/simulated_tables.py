"""The figures of the simulations as Markdown tables, and the places in pages where tables stand."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path


@dataclass(frozen=True)
class Found:
    """Shares of `rounds`: supported verdicts, p below alpha, intervals that hold the truth (None where it varies).

    Of a file with several hypotheses a share counts rounds in which it is so for any of them; `by_p_alone` is what
    `supported` would be there if only p of the direction went through Holm.
    """

    kind: str
    test: str
    world: str
    seeds: int
    rounds: int
    supported: float
    p_below_alpha: float
    by_p_alone: float | None
    covered: float | None

    @property
    def key(self) -> tuple[str, str, str, int]:
        """Which case this is, and at how many seeds."""
        return (self.kind, self.test, self.world, self.seeds)


def tables(found: Sequence[Found]) -> str:
    """All tables; the numbers of seeds are columns."""
    return "\n".join(f"{title}\n\n{body}" for title, body in _parts(found))


def _parts(found: Sequence[Found]) -> Iterator[tuple[str, str]]:
    rounds = max(row.rounds for row in found)
    level, edge, power, family = (
        [row for row in found if row.kind == kind] for kind in ("level", "edge", "power", "family")
    )
    coverage = [row for row in found if row.covered is not None]
    of_most, of_few = (f"{100 * (0.05 * 0.95 / count) ** 0.5:.1f}" for count in (rounds, 200))
    error = (
        f"{rounds:,} rounds unless a row says fewer: one standard error is {of_most} points near 5 %, and {of_few} "
        "with 200 rounds"
    )
    yield (
        f"**False verdicts of `supported`**, in %, where the claim is false by a hair ({error}):",
        _table(level, "supported", rounds),
    )
    yield "**p below 0.05** in the same rounds, in %:", _table(level, "p_below_alpha", rounds)
    yield (
        "**False verdicts of `supported`** where the true effect is exactly the smallest that counts, in %:",
        _table(edge, "supported", rounds),
    )
    yield "**95 % intervals that hold the true effect**, in %:", _table(coverage, "covered", rounds)
    yield (
        "**Files in which any of five claims is supported, all of them false**, in %:",
        _table(family, "supported", rounds),
    )
    yield (
        "The same if only p of the direction went through Holm, and not p of the whole claim:",
        _table(family, "by_p_alone", rounds),
    )
    yield "**Power: true claims that are supported**, in %:", _table(power, "supported", rounds)


def _table(rows: Sequence[Found], share: str, most: int) -> str:
    """A line per case; one with fewer rounds than most says so."""
    seeds = sorted({row.seeds for row in rows})
    head = ["test", "simulated", *(f"{count} seeds" for count in seeds)]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * 2}{'---:|' * len(seeds)}"]
    for (test, world), group in groupby(rows, key=lambda row: (row.test, row.world)):
        cells = list(group)
        fewer = min(row.rounds for row in cells)
        told = world if fewer == most else f"{world} ({fewer:,} rounds)"
        by_seeds = {row.seeds: f"{100 * getattr(row, share):.1f}" for row in cells}
        lines.append(f"| {' | '.join([test, told, *(by_seeds[count] for count in seeds)])} |")
    return "\n".join(lines) + "\n"


def write_between(page: Path, begin: str, end: str, text: str) -> None:
    """Write a text into a page between two marks, in the place of what stands there."""
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    page.write_text(f"{before}{begin}\n\n{text.strip()}\n\n{end}{rest.partition(end)[2]}", encoding="utf-8")
