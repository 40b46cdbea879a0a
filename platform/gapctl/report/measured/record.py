"""What the page shows, as plain numbers: whoever measures fills it in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Point(NamedTuple):
    """A place in the plane."""

    x: float
    y: float


class Bin(NamedTuple):
    """A bin of cosines, and the shares of matched and of other pairs in it."""

    low: float
    high: float
    matched: float
    other: float


class Removal(NamedTuple):
    """Gap and recall at 1 (image to text) after so many of the dimensions that carry most of the gap were removed."""

    removed: int
    rmg: float
    l2m: float
    recall: float


class Line(NamedTuple):
    """A measure: its key, its value as text, and what it means."""

    key: str
    value: str
    meaning: str


@dataclass(frozen=True)
class Measured:
    """One set of embeddings.

    `shares` are those of the plane's two directions in the variance of both modalities together; `difference` has an
    entry per dimension, mean image minus mean text. The recall of `removals` is among `removal_pairs` pairs.
    """

    title: str
    notes: Sequence[str]
    lines: Sequence[Line]
    facts: Mapping[str, str]
    images: Sequence[Point]
    texts: Sequence[Point]
    shares: tuple[float, float]
    bins: Sequence[Bin]
    difference: Sequence[float]
    removals: Sequence[Removal]
    removal_pairs: int
