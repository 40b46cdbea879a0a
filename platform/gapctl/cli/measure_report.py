"""`gapctl measure --report`: from what was measured to the page's record."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gapctl.cli.inputs import Inputs

if TYPE_CHECKING:
    from gapctl.metrics.embedding_set import Embeddings
    from gapctl.metrics.picture import Picture
    from gapctl.report.measured.record import Line, Measured, Removal

LONGEST_FACT = 300
"""Characters; a list of a thousand shards would bury what else there is to know, and `--json` has it."""


def render_report(inputs: Inputs, lines: "list[Line]") -> str:
    """The page as one HTML text."""
    from gapctl.report.measured.page import render_measured

    return render_measured(_record(inputs, lines))


def _record(inputs: Inputs, lines: "list[Line]") -> "Measured":
    from gapctl.metrics.picture import picture_of
    from gapctl.report.measured.record import Bin, Measured, Point

    picture = picture_of(inputs.embeddings)
    plane, found = picture.plane, picture.similarities
    return Measured(
        title=inputs.title,
        notes=inputs.notes,
        lines=lines,
        facts=dict(_facts("", inputs.facts)),
        images=[Point(*map(float, row)) for row in plane.image_P2],
        texts=[Point(*map(float, row)) for row in plane.text_P2],
        shares=plane.shares,
        bins=[
            Bin(*map(float, row))
            for row in zip(found.edges[:-1], found.edges[1:], found.matched_B, found.other_B, strict=True)
        ],
        difference=[float(value) for value in picture.difference_D],
        removals=_removals(inputs.embeddings, picture),
    )


def _removals(embeddings: "Embeddings", picture: "Picture") -> "list[Removal]":
    """The gap as dimensions go, but for the last one, in which only signs are left; none for class prompts."""
    import numpy as np

    from gapctl.metrics.embedding_set import unit_rows
    from gapctl.metrics.removal import gap_after_removal
    from gapctl.report.measured.record import Removal

    if embeddings.prompt_of_N is not None:
        return []
    order_D = np.argsort(-np.abs(picture.difference_D), kind="stable")
    steps = gap_after_removal(
        unit_rows(embeddings.image_ND), unit_rows(embeddings.text_MD), order_D, embeddings.text_to_image_M
    )
    return [Removal(removed, sums.rmg(), sums.l2m()) for removed, sums in enumerate(steps[:-1])]


def _facts(prefix: str, found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Every fact as text, by its path."""
    listed = []
    for key, value in found.items():
        if isinstance(value, Mapping) and value:
            listed += _facts(f"{prefix}{key} ", value)
        elif value not in (None, (), {}, []):
            text = str(value)
            shown = text if len(text) <= LONGEST_FACT else f"{text[:LONGEST_FACT]}..."
            listed.append((f"{prefix}{key}", shown))
    return listed
