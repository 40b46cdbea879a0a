"""`gapctl measure --against`: do the same dimensions carry the gap of two models of one width?"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gapctl.cli.inputs import Asked, Inputs, load_inputs
from gapctl.errors import InputError

if TYPE_CHECKING:
    from gapctl.metrics.dimensions import DimensionOverlap

COUNTS: Final = (1, 3, 10)


class Against(NamedTuple):
    """The other model's title, and what both share of their leading dimensions, by how many are compared."""

    title: str
    overlaps: "dict[int, DimensionOverlap]"


def read_other(asked: Asked, against: str | None) -> Inputs | None:
    """Reads the second model as the first is read; raises InputError for whatever is wrong with it."""
    if against is None:
        return None
    if asked.embeddings is None and asked.trial is None:
        raise InputError(
            "--against belongs to --embeddings, with other saved embeddings, or to --trial, with another trial's id; "
            "found it without either. Of a --model's embeddings it takes the saved ones"
        )
    saved = asked.embeddings is not None
    try:
        return load_inputs(replace(asked, embeddings=against) if saved else replace(asked, trial=against))
    except InputError as error:
        raise InputError(str(error).replace(f"--trial {against}", f"--against {against}")) from error


def compare(against: str, inputs: Inputs, other: Inputs) -> Against:
    """What both models share; raises InputError where the widths differ."""
    from gapctl.metrics.dimensions import dimension_overlap
    from gapctl.metrics.set_sums import sums_of

    one_D, other_D = (sums_of(each.embeddings).gap.mean_difference_D for each in (inputs, other))
    if len(one_D) != len(other_D):
        raise InputError(
            f"--against {against}: {len(other_D)} wide; expected {len(one_D)} as the first, since dimensions are "
            "compared one by one"
        )
    counts = [count for count in COUNTS if count < len(one_D)]
    return Against(other.title, {count: dimension_overlap(one_D, other_D, count) for count in counts})


def against_document(found: Against) -> dict[str, Any]:
    """What `--json` tells of it."""
    return {"with": found.title, "leading_dimensions": {str(k): each._asdict() for k, each in found.overlaps.items()}}


def print_against(found: Against) -> None:
    """Prints it as a table."""
    from rich.table import Table

    from gapctl.cli.safe_console import SafeConsole
    from gapctl.cli.terminal import plain_console

    plain_console().print(f"\nDimensions that carry most of the gap, shared with {found.title}:")
    table = Table("largest", "shared", "by chance", "p", box=None, pad_edge=False, header_style="bold")
    for column in table.columns:
        column.justify = "right"
    for count, overlap in found.overlaps.items():
        table.add_row(str(count), f"{count * overlap.share:.0f}", f"{count * overlap.chance:.2f}", f"{overlap.p:.2g}")
    SafeConsole().print(table)
