"""`gapctl measure --report`: from what was measured to the page's record."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gapctl.cli.inputs import Inputs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gapctl.metrics.embedding_set import Embeddings
    from gapctl.metrics.picture import Picture
    from gapctl.report.measured.record import Line, Measured, Removal

MOST_PAIRS = 1024
"""Pairs among which recall is taken again for every dimension that goes."""
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
        removal_pairs=min(MOST_PAIRS, len(inputs.embeddings.image_ND)),
    )


def _removals(embeddings: "Embeddings", picture: "Picture") -> "list[Removal]":
    """Gap and recall as dimensions go, but for the last one, in which only signs are left; none for class prompts."""
    import numpy as np

    from gapctl.metrics.embedding_set import match_keys, unit_rows
    from gapctl.metrics.removal import gap_after_removal, recall_after_removal
    from gapctl.report.measured.record import Removal

    if embeddings.prompt_of_N is not None:
        return []
    order_D = np.argsort(-np.abs(picture.difference_D), kind="stable")
    image_ND, text_MD = unit_rows(embeddings.image_ND), unit_rows(embeddings.text_MD)
    steps = gap_after_removal(image_ND, text_MD, order_D, embeddings.text_to_image_M)
    image_P, text_P = _some_pairs(embeddings)
    image_key_N, text_key_M = match_keys(embeddings)
    recall_T = recall_after_removal(
        image_ND[image_P], text_MD[text_P], image_key_N[image_P], text_key_M[text_P], order_D
    )
    found = zip(steps[:-1], recall_T, strict=False)
    return [Removal(removed, sums.rmg(), sums.l2m(), float(recall)) for removed, (sums, recall) in enumerate(found)]


def _some_pairs(embeddings: "Embeddings") -> "tuple[NDArray[np.int64], NDArray[np.int64]]":
    """The rows of the images and of their texts, one each, among which recall is taken as dimensions go."""
    import numpy as np

    from gapctl.metrics.draws import Draw, some_rows

    image_P = some_rows(Draw.PAIRS, len(embeddings.image_ND), MOST_PAIRS)
    if embeddings.text_to_image_M is None:
        return image_P, image_P
    first_text_N = np.unique(embeddings.text_to_image_M, return_index=True)[1]
    return image_P, first_text_N[image_P]


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
