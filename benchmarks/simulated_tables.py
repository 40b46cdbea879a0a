"""The figures of the simulations as Markdown tables."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

Row = Mapping[str, Any]


def tables(found: Sequence[Row]) -> str:
    """All tables; the numbers of seeds are columns."""
    return "\n".join(f"{title}\n\n{body}" for title, body in _parts(found))


def _parts(found: Sequence[Row]) -> Iterator[tuple[str, str]]:
    rounds = found[0]["rounds"]
    level, coverage = (
        [row for row in found if row["kind"] == "level"],
        [row for row in found if row["covered"] is not None],
    )
    family, power = ([row for row in found if row["kind"] == kind] for kind in ("family", "power"))
    error = f"{rounds:,} rounds each: one standard error is {100 * (0.05 * 0.95 / rounds) ** 0.5:.1f} points near 5 %"
    yield (
        f"**False verdicts of `supported`**, in %, where the claim is false by a hair ({error}):",
        _table(level, "supported"),
    )
    yield "**p below 0.05** in the same rounds, in %:", _table(level, "p_below_alpha")
    yield "**95 % intervals that hold the true effect**, in %:", _table(coverage, "covered")
    yield "**Files in which any of five claims is supported, all of them false**, in %:", _table(family, "supported")
    yield (
        "The same if only p of the direction went through Holm, and not p of the whole claim:",
        _table(family, "by_p_alone"),
    )
    yield "**Power: true claims that are supported**, in %:", _table(power, "supported")


def _table(rows: Sequence[Row], share: str) -> str:
    seeds = sorted({row["seeds"] for row in rows})
    head = ["test", "simulated", *(f"{count} seeds" for count in seeds)]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * 2}{'---:|' * len(seeds)}"]
    for (test, world), cells in groupby(rows, key=lambda row: (row["test"], row["world"])):
        by_seeds = {row["seeds"]: f"{100 * row[share]:.1f}" for row in cells}
        lines.append(f"| {' | '.join([test, world, *(by_seeds[count] for count in seeds)])} |")
    return "\n".join(lines) + "\n"
