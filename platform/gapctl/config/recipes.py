"""Recipes as replicates: the values that `replicates` of a sweep file draws from its ranges, the same in every arm.

`list_recipes` is the entry. A draw is a function of its path, its domain and the recipe's number alone: another path,
or more draws, leave the others as they are, on every machine.
"""

import hashlib
from typing import Final, NamedTuple

from gapctl.config.base import flatten_document, format_canonical_json
from gapctl.config.hypotheses import Level
from gapctl.config.sweep import Domain, SweepFile

BITS: Final = 53
"""The bits of a double's fraction: each draw is one of 2**53 equally likely numbers in [0, 1)."""


class Recipe(NamedTuple):
    """A recipe's number, which is also the seed of its trainings, and its values by dotted path."""

    number: int
    values: dict[str, Level]


def list_recipes(spec: SweepFile) -> list[Recipe]:
    """List the recipes of a sweep file; none where seeds or models are the replicates.

    A path whose value in base is a whole number gets whole numbers.
    """
    if spec.replicates is None:
        return []
    base, space = flatten_document(spec.base.model_dump()), spec.replicates.space
    whole = {path: type(base.get(path)) is int for path in space}
    return [
        Recipe(number, {path: draw_value(path, domain, number, whole=whole[path]) for path, domain in space.items()})
        for number in spec.replicate_numbers
    ]


def draw_value(path: str, domain: Domain, number: int, *, whole: bool = False) -> Level:
    """Draw a recipe's value: any choice equally often, or a number of a range, rounded to three digits.

    sha256 of path, domain and number is the generator, as plans are made without numpy.
    """
    key = format_canonical_json([path, domain.kind, list(domain.values), number])
    share = (int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) >> (64 - BITS)) / 2**BITS
    if domain.choice is not None:
        return domain.choice[int(share * len(domain.choice))]
    low, high = domain.ends
    value = domain.round(low * (high / low) ** share if domain.kind == "log" else low + share * (high - low))
    return round(value) if whole and isinstance(value, float) else value
