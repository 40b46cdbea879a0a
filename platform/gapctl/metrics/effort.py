"""How much the sampled measures look at: everything up to these limits, a seeded sample of what is more."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Effort:
    """Limits of the measures whose cost grows faster than the number of rows."""

    queries: int
    """Rows that are compared with the whole gallery: uniformity, neighbour overlap, mixed search, flips."""

    pairs: int
    """Rows of each modality for the linear probe and for clustering."""

    galleries: int
    """Galleries of a fixed size for the calibrated entropies."""

    single: bool
    """Whether they and the entropies compute in float32; sums over rows are float64 anyway."""


TRIAL: Final = Effort(queries=256, pairs=1024, galleries=1, single=True)
"""Fits a trial's evaluations."""

THOROUGH: Final = Effort(queries=8192, pairs=8192, galleries=64, single=False)
"""For a model that is measured once."""
