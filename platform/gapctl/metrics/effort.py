"""How much the sampled measures look at: everything up to these limits, a seeded sample of what is more."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Effort:
    """Limits of the measures whose cost grows faster than the number of rows."""

    comparisons: int
    """Cosines that entropies and recalls look at; where all queries would need more, a part of them is drawn."""

    queries: int
    """Rows that are compared with the whole gallery, where it is not too large: uniformity, neighbour overlap, mixed
    search; and rows that noise is added to."""

    pairs: int
    """Rows of each modality for the linear probe and for clustering."""

    galleries: int
    """Galleries of a fixed size for the calibrated entropies."""

    single: bool
    """Whether they and the entropies compute in float32; sums over rows are float64 anyway."""

    def against(self, gallery: int) -> int:
        """The most queries of entropies and recalls against a gallery of this size."""
        return max(LEAST_QUERIES, self.comparisons // gallery)

    def some_against(self, gallery: int) -> int:
        """The most rows of any other measure that compares them with a gallery of this size."""
        return min(self.queries, self.against(gallery))


MANY: Final = 1 << 31
"""Galleries of up to 46,340 are compared whole, some minutes of a laptop's time at 512 dimensions."""

LEAST_QUERIES: Final = 1024
"""Queries, however large the gallery is."""

TRIAL: Final = Effort(comparisons=MANY, queries=256, pairs=1024, galleries=1, single=True)
"""Fits a trial's evaluations."""

THOROUGH: Final = Effort(comparisons=MANY, queries=8192, pairs=8192, galleries=64, single=False)
"""For a model that is measured once."""
