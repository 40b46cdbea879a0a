"""Measures as functions of how often each held-out unit is drawn, so that no resample touches embeddings again.

Index letters: B resamples, U units (images, and captions that images share), I items of one measure, K measures.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gapctl.metrics.gap import Array


class Statistic(Protocol):
    """Measures of the held-out images, each unit counted as often as its weight says."""

    def values(self, weight_BU: Array) -> Mapping[str, Array]:
        """Each measure under each row of weights, (B,), by its name."""

    def drawn(self) -> Mapping[str, int]:
        """How many units have a say in each measure."""


class Items(NamedTuple):
    """A value per item, (I,), and the unit that each item is drawn with; a query and whether it was answered, say.

    `share_I` is how much each item counts in the mean, where that is not equally much.
    """

    value_I: Array
    unit_I: NDArray[np.int64]
    share_I: Array | None = None


@dataclass(frozen=True)
class ItemMeans:
    """Measures that are means over items: per unit the sum of its items' values and how much they count, (U, K)."""

    keys: tuple[str, ...]
    total_UK: Array
    count_UK: Array

    @classmethod
    def of(cls, items: Mapping[str, Items], units: int) -> "ItemMeans":
        """From the items of each measure."""
        shares = [np.ones(len(one.value_I)) if one.share_I is None else one.share_I for one in items.values()]
        both = list(zip(items.values(), shares, strict=True))
        total = [np.bincount(one.unit_I, share_I * one.value_I, minlength=units) for one, share_I in both]
        count = [np.bincount(one.unit_I, share_I, minlength=units) for one, share_I in both]
        return cls(tuple(items), np.stack(total, axis=1), np.stack(count, axis=1))

    def values(self, weight_BU: Array) -> dict[str, Array]:
        """The weighted means."""
        mean_BK = (weight_BU @ self.total_UK) / (weight_BU @ self.count_UK)
        return dict(zip(self.keys, mean_BK.T, strict=True))

    def drawn(self) -> dict[str, int]:
        """How many units have items."""
        return dict(zip(self.keys, map(int, (self.count_UK > 0).sum(axis=0)), strict=True))
