"""A search on a terminal: its best points, and the best configuration to be typed and to be pasted."""

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gapctl.ledger.search_record import SearchRecord
    from gapctl.plan.trials import Plan

MOST_ROWS: Final = 10


def print_search(plan: "Plan", record: "SearchRecord") -> None:
    """Prints the points, best first, how much each value decides, and the best as `--set` options and as YAML."""
    from rich.table import Table
    from rich.text import Text

    from gapctl.cli.terminal import plain_console
    from gapctl.plan.make import short_names
    from gapctl.report.search.words import as_options, as_yaml, standing

    console = plain_console()
    console.print(Text(f"{plan.sweep.spec.question}\n{standing(record)}"))
    names = short_names(list(plan.sweep.spec.vary))
    table = Table(box=None, pad_edge=False)
    table.add_column("trial", no_wrap=True)
    for name in (*names.values(), "ended"):
        table.add_column(name.replace("_", " "), overflow="fold")
    for name in ("samples", "value"):
        table.add_column(name, justify="right", no_wrap=True)
    for drawn in record.ranked[:MOST_ROWS]:
        value = f"{drawn.value:.4g}" if math.isfinite(drawn.value) else "-"
        point = [str(drawn.point[path]) for path in names]
        table.add_row(drawn.trial, *map(Text, point), drawn.state, f"{drawn.samples_seen:,}", value)
    console.print(table)
    if len(record.drawn) > MOST_ROWS:
        console.print(f"and {len(record.drawn) - MOST_ROWS} more")
    if record.best is not None:
        typed = f"\nbest, to be typed:\n  {as_options(record.best)}\nand to be pasted:\n{as_yaml(record.best)}"
        console.print(typed)
