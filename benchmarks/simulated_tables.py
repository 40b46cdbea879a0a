"""The figures of the simulations as Markdown tables."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

Row = Mapping[str, Any]


def tables(found: Sequence[Row]) -> str:
    """All tables; the numbers of seeds are columns."""
    return "\n".join(f"{title}\n\n{body}" for title, body in _parts(found))


def _parts(found: Sequence[Row]) -> Iterator[tuple[str, str]]:
    rounds = max(row["rounds"] for row in found)
    level, edge, power, family = (
        [row for row in found if row["kind"] == kind] for kind in ("level", "edge", "power", "family")
    )
    coverage = [row for row in found if row["covered"] is not None]
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


def _table(rows: Sequence[Row], share: str, most: int) -> str:
    """A line per case; one with fewer rounds than most says so."""
    seeds = sorted({row["seeds"] for row in rows})
    head = ["test", "simulated", *(f"{count} seeds" for count in seeds)]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * 2}{'---:|' * len(seeds)}"]
    for (test, world), group in groupby(rows, key=lambda row: (row["test"], row["world"])):
        cells = list(group)
        fewer = min(row["rounds"] for row in cells)
        told = world if fewer == most else f"{world} ({fewer:,} rounds)"
        by_seeds = {row["seeds"]: f"{100 * row[share]:.1f}" for row in cells}
        lines.append(f"| {' | '.join([test, told, *(by_seeds[count] for count in seeds)])} |")
    return "\n".join(lines) + "\n"
